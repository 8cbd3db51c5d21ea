//! Where connections come in, or are refused.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::control::{Control, Counters};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A port that is ours, whether somebody listens on it or not.
pub(super) struct ProxyListener {
    address: SocketAddr,
    /// Bound, and never listens: a system refuses what comes, and gives the port to nobody else.
    _reserved: TcpSocket,
}

impl ProxyListener {
    pub(super) fn new() -> io::Result<(Self, SocketAddr)> {
        let reserved = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr()?;
        Ok((Self { address, _reserved: reserved }, address))
    }

    /// Takes connections while the door is open. Those that were taken end with this future.
    pub(super) async fn attend(
        self,
        server: String,
        control: watch::Receiver<Control>,
        counters: Arc<Counters>,
        opened: watch::Sender<bool>,
    ) -> io::Result<()> {
        let server = Arc::<str>::from(server);
        let mut connections = JoinSet::new();
        let mut told = control.clone();
        loop {
            let listener = self.listen()?;
            opened.send_replace(true);
            loop {
                tokio::select! {
                    biased;
                    closed = told.wait_for(|control| control.closed) => {
                        if closed.is_err() {
                            return Ok(());
                        }
                        break;
                    }
                    Some(_) = connections.join_next(), if !connections.is_empty() => {}
                    accepted = listener.accept() => {
                        // A client that has gone again, or no descriptor left: the next one may do better.
                        let Ok((client, _)) = accepted else { continue };
                        counters.accepted.fetch_add(1, Relaxed);
                        let connection = Connection::new(control.clone(), Arc::clone(&counters));
                        connections.spawn(connection.carry(client, Arc::clone(&server)));
                    }
                }
            }
            drop(listener);
            opened.send_replace(false);
            loop {
                tokio::select! {
                    biased;
                    open = told.wait_for(|control| !control.closed) => {
                        if open.is_err() {
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
        socket(self.address)?.listen(BACKLOG)
    }
}

/// A socket that shares its port with others of this process's owner.
fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}
