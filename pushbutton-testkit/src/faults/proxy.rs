//! A TCP proxy that breaks connections on command: what cables, firewalls and overloaded servers do.
//!
//! ```
//! use pushbutton_testkit::faults::Proxy;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! // Any server; this one echoes what it reads.
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let address = server.local_addr()?.to_string();
//! tokio::spawn(async move {
//!     while let Ok((mut stream, _)) = server.accept().await {
//!         let (mut from, mut to) = stream.split();
//!         let _ = tokio::io::copy(&mut from, &mut to).await;
//!     }
//! });
//!
//! let proxy = Proxy::start(&address).await?;
//! let mut client = TcpStream::connect(proxy.address()).await?;
//! client.write_all(b"ping").await?;
//! let mut response = [0; 4];
//! client.read_exact(&mut response).await?;
//! assert_eq!((&response, proxy.counts().open), (b"ping", 1));
//!
//! // Half-open: for the client's system the connection is open, and nothing arrives.
//! proxy.freeze();
//! client.write_all(b"ping").await?;
//! assert_eq!((proxy.counts().to_server, proxy.counts().open), (4, 1));
//!
//! // The connection is reset, and new ones are refused.
//! proxy.refuse().await?;
//! proxy.reset();
//! assert!(client.read_exact(&mut response).await.is_err());
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

use self::control::{Control, Counters, Disconnect};
use self::listener::ProxyListener;

/// A TCP proxy on a free port of the loopback interface, in front of one server. Dropping it ends the listener and all
/// connections.
///
/// A command applies to every connection, also to later ones, until another command changes it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: watch::Sender<Control>,
    counters: Arc<Counters>,
    /// Whether the listener accepts connections now.
    accepting: watch::Receiver<bool>,
    listener: JoinHandle<io::Result<()>>,
}

/// What a [`Proxy`] has forwarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Bytes forwarded to the server.
    pub to_server: u64,
    /// Bytes forwarded to clients.
    pub to_clients: u64,
    /// Bytes dropped.
    pub dropped: u64,
}

impl Proxy {
    /// Starts a proxy in front of `host:port`. The server may start later: until then the proxy resets each connection.
    ///
    /// # Errors
    /// When there is no free port on the loopback interface.
    pub async fn start(server: &str) -> io::Result<Self> {
        let (listener, address) = ProxyListener::new()?;
        let (control, controlled) = watch::channel(Control::default());
        let counters = Arc::<Counters>::default();
        let (accepts, mut accepting) = watch::channel(false);
        let task = listener.run(server.to_owned(), controlled, Arc::clone(&counters), accepts);
        let listener = tokio::spawn(task);
        let proxy = Self { address, control, counters, accepting: accepting.clone(), listener };
        accepting.wait_for(|accepting| *accepting).await.map_err(|_| listener_failed())?;
        Ok(proxy)
    }

    /// The address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards all bytes again, at full speed. Connections whose bytes were dropped are reset: TCP allows no gaps.
    pub fn pass(&self) {
        self.set(|control| {
            *control =
                Control { refusing: control.refusing, disconnect: control.disconnect, ..Control::default() }
        });
    }

    /// Holds back all bytes and ends of streams, in both directions: no peer can tell this from a slow peer.
    /// New connections are accepted, as a server's system does, and get nothing.
    pub fn freeze(&self) {
        self.set(|control| control.frozen = true);
    }

    /// Drops what the server sends; what clients send still reaches it.
    pub fn drop_responses(&self) {
        self.set(|control| control.drop_responses = true);
    }

    /// Drops what clients send; what the server sends still reaches them.
    pub fn drop_requests(&self) {
        self.set(|control| control.drop_requests = true);
    }

    /// Limits the bytes per second, for each direction of each connection.
    pub fn throttle(&self, bytes_per_second: u32) {
        self.set(|control| control.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// Resets all connections that are open now (RST), on both sides: as a firewall that has forgotten them, or a
    /// server that was killed.
    pub fn reset(&self) {
        self.set(|control| control.disconnect = (control.disconnect.0 + 1, Disconnect::Reset));
    }

    /// Closes all connections that are open now (FIN), on both sides: as a server that shuts down.
    pub fn close(&self) {
        self.set(|control| control.disconnect = (control.disconnect.0 + 1, Disconnect::Close));
    }

    /// Refuses new connections once this returns; open ones stay. The port stays reserved.
    ///
    /// # Errors
    /// When the listener has failed.
    pub async fn refuse(&self) -> io::Result<()> {
        self.set_accepting(false).await
    }

    /// Accepts new connections again.
    ///
    /// # Errors
    /// When the listener has failed.
    pub async fn accept(&self) -> io::Result<()> {
        self.set_accepting(true).await
    }

    /// What was forwarded so far.
    pub fn counts(&self) -> Counts {
        self.counters.now()
    }

    fn set(&self, change: impl FnOnce(&mut Control)) {
        self.control.send_modify(change);
    }

    async fn set_accepting(&self, accept: bool) -> io::Result<()> {
        self.set(|control| control.refusing = !accept);
        let mut accepting = self.accepting.clone();
        accepting.wait_for(|now| *now == accept).await.map(|_| ()).map_err(|_| listener_failed())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

fn listener_failed() -> io::Error {
    io::Error::other("the proxy could not listen")
}
