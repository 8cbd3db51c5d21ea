//! A TCP proxy that breaks connections on command: what cables, firewalls and servers under load do.
//!
//! ```
//! use pushbutton_testkit::faults::Proxy;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! // Any server; here one that answers whatever it hears.
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let address = server.local_addr()?.to_string();
//! tokio::spawn(async move {
//!     while let Ok((mut stream, _)) = server.accept().await {
//!         let (mut from, mut to) = stream.split();
//!         let _ = tokio::io::copy(&mut from, &mut to).await;
//!     }
//! });
//!
//! let proxy = Proxy::before(&address).await?;
//! let mut client = TcpStream::connect(proxy.address()).await?;
//! client.write_all(b"ping").await?;
//! let mut answer = [0; 4];
//! client.read_exact(&mut answer).await?;
//! assert_eq!((&answer, proxy.counts().open), (b"ping", 1));
//!
//! // Half-open: the client's system still believes in the connection, and nothing answers.
//! proxy.freeze();
//! client.write_all(b"anybody there?").await?;
//! assert_eq!((proxy.counts().to_server, proxy.counts().open), (4, 1));
//!
//! // Broken for good, and nobody may come back for now.
//! proxy.refuse().await?;
//! proxy.reset();
//! assert!(client.read_exact(&mut answer).await.is_err());
//! assert!(TcpStream::connect(proxy.address()).await.is_err());
//! # Ok(())
//! # }
//! ```

mod connection;
mod control;
mod listener;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::control::{Control, Counters, Cut};
use self::listener::ProxyListener;

/// A TCP proxy on a free port of the loopback, in front of one server. All that it does ends when it is dropped.
///
/// What a method says holds for every connection, those that come later included, until another method says otherwise.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: watch::Sender<Control>,
    counters: Arc<Counters>,
    /// Whether the door is open or closed, once it has done as it was told.
    is_open: watch::Receiver<bool>,
    door: JoinHandle<io::Result<()>>,
}

/// What has passed a [`Proxy`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that came, since the start.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Bytes handed to the server.
    pub to_server: u64,
    /// Bytes handed to clients.
    pub to_clients: u64,
    /// Bytes thrown away.
    pub lost: u64,
}

impl Proxy {
    /// Starts one in front of `host:port`. The server need not be there yet: a connection that finds none is reset.
    ///
    /// # Errors
    /// When no port of the loopback can be had.
    pub async fn before(server: &str) -> io::Result<Self> {
        let (door, address) = ProxyListener::new()?;
        let (control, controlled) = watch::channel(Control::default());
        let counters = Arc::<Counters>::default();
        let (opened, mut is_open) = watch::channel(false);
        let door = tokio::spawn(door.attend(server.to_owned(), controlled, Arc::clone(&counters), opened));
        let proxy = Self { address, control, counters, is_open: is_open.clone(), door };
        is_open.wait_for(|open| *open).await.map_err(|_| gone())?;
        Ok(proxy)
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets bytes pass again, as fast as they come. A connection that bytes were lost from is reset: TCP shows no holes.
    pub fn pass(&self) {
        self.set(|control| {
            *control = Control { closed: control.closed, cut: control.cut, ..Control::default() }
        });
    }

    /// Holds all bytes back, in both directions, and all ends of connections: nobody can tell this from a peer that is slow.
    /// New connections are accepted, as a server's system does, and hear nothing.
    pub fn freeze(&self) {
        self.set(|control| control.frozen = true);
    }

    /// Throws away what the server answers; what clients ask still reaches it.
    pub fn lose_answers(&self) {
        self.set(|control| control.lose_answers = true);
    }

    /// Throws away what clients ask; what the server says by itself still reaches them.
    pub fn lose_questions(&self) {
        self.set(|control| control.lose_questions = true);
    }

    /// Lets so many bytes pass in a second, in each direction of each connection.
    pub fn throttle(&self, bytes_per_second: u32) {
        self.set(|control| control.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// Resets all connections that are open now (RST), on both sides: as a router that has forgotten them, or a server that was killed.
    pub fn reset(&self) {
        self.set(|control| control.cut = (control.cut.0 + 1, Cut::Reset));
    }

    /// Ends all connections that are open now (FIN), on both sides: as a server that shuts down.
    pub fn end(&self) {
        self.set(|control| control.cut = (control.cut.0 + 1, Cut::End));
    }

    /// Refuses new connections from the moment that this returns; those that are open stay. The port stays ours.
    ///
    /// # Errors
    /// When the proxy has failed.
    pub async fn refuse(&self) -> io::Result<()> {
        self.open_door(false).await
    }

    /// Takes new connections again.
    ///
    /// # Errors
    /// When the proxy has failed.
    pub async fn admit(&self) -> io::Result<()> {
        self.open_door(true).await
    }

    /// What has passed so far.
    pub fn counts(&self) -> Counts {
        self.counters.now()
    }

    fn set(&self, change: impl FnOnce(&mut Control)) {
        self.control.send_modify(change);
    }

    async fn open_door(&self, open: bool) -> io::Result<()> {
        self.set(|control| control.closed = !open);
        self.is_open.clone().wait_for(|now| *now == open).await.map(|_| ()).map_err(|_| gone())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.door.abort();
    }
}

fn gone() -> io::Error {
    io::Error::other("the proxy could not listen")
}
