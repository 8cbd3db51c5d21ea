//! Accepts or refuses connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::control::{Control, Counters};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A reserved port, with or without a listener on it.
pub(super) struct ProxyListener {
    address: SocketAddr,
    /// Bound, but does not listen: while there is no listener, the system refuses connections and gives the port to no
    /// other process.
    _reserved: TcpSocket,
}

impl ProxyListener {
    pub(super) fn new() -> io::Result<(Self, SocketAddr)> {
        let reserved = bound_socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr()?;
        Ok((Self { address, _reserved: reserved }, address))
    }

    /// Accepts connections unless they are to be refused. Accepted connections end with this future.
    pub(super) async fn run(
        self,
        server: String,
        control: watch::Receiver<Control>,
        counters: Arc<Counters>,
        accepting: watch::Sender<bool>,
    ) -> io::Result<()> {
        let server = Arc::<str>::from(server);
        let mut connections = JoinSet::new();
        let mut commands = control.clone();
        loop {
            let listener = self.listen()?;
            accepting.send_replace(true);
            loop {
                tokio::select! {
                    biased;
                    refusing = commands.wait_for(|control| control.refusing) => {
                        if refusing.is_err() {
                            return Ok(());
                        }
                        break;
                    }
                    Some(_) = connections.join_next(), if !connections.is_empty() => {}
                    accepted = listener.accept() => {
                        // The client has disconnected again, or the process has no free descriptor: later connections
                        // may succeed.
                        let Ok((client, _)) = accepted else { continue };
                        counters.accepted.fetch_add(1, Relaxed);
                        let connection = Connection::new(control.clone(), Arc::clone(&counters));
                        connections.spawn(connection.run(client, Arc::clone(&server)));
                    }
                }
            }
            drop(listener);
            accepting.send_replace(false);
            loop {
                tokio::select! {
                    biased;
                    accept = commands.wait_for(|control| !control.refusing) => {
                        if accept.is_err() {
                            return Ok(());
                        }
                        break;
                    }
                    Some(_) = connections.join_next(), if !connections.is_empty() => {}
                }
            }
        }
    }

    fn listen(&self) -> io::Result<TcpListener> {
        bound_socket(self.address)?.listen(BACKLOG)
    }
}

/// A socket that may share its port with other sockets of the same user.
fn bound_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}
