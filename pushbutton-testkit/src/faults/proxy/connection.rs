//! One connection through a proxy.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::control::{Control, Counters, Direction, Disconnect};

/// How long a closed connection waits for both peers to close their side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Connection {
    control: watch::Receiver<Control>,
    counters: Arc<Counters>,
    /// How often connections had been disconnected when this one was accepted.
    disconnects: u64,
}

/// Why forwarding ended.
enum End {
    /// Both peers have closed their side.
    Closed,
    /// The proxy was commanded to disconnect.
    Commanded(Disconnect),
    /// A peer has failed, or bytes were dropped.
    Broken,
}

impl Connection {
    pub(super) fn new(control: watch::Receiver<Control>, counters: Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Relaxed);
        let disconnects = control.borrow().disconnect.0;
        Self { control, counters, disconnects }
    }

    /// Forwards bytes until a peer ends the connection or the proxy is commanded to.
    pub(super) async fn run(self, mut client: TcpStream, server: Arc<str>) {
        let connected = tokio::select! {
            biased;
            disconnect = self.disconnect() => Err(End::Commanded(disconnect)),
            stream = self.connect(&server) => stream.map_err(|_| End::Broken),
        };
        let mut server = match connected {
            Ok(stream) => stream,
            Err(End::Commanded(Disconnect::Close)) => return,
            Err(_) => return reset(&client),
        };
        // The proxy alone delays bytes, not the system (which would wait for fuller packets).
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        match self.forward(&mut client, &mut server).await {
            End::Closed => {}
            End::Commanded(Disconnect::Close) => {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, close_both(&mut client, &mut server)).await;
            }
            End::Commanded(Disconnect::Reset) | End::Broken => {
                reset(&client);
                reset(&server);
            }
        }
    }

    async fn connect(&self, server: &str) -> io::Result<TcpStream> {
        let mut commands = self.control.clone();
        commands.wait_for(|control| !control.frozen).await.map_err(io::Error::other)?;
        TcpStream::connect(server).await
    }

    async fn forward(&self, client: &mut TcpStream, server: &mut TcpStream) -> End {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                self.forward_one(Direction::ToServer, from_client, to_server),
                self.forward_one(Direction::ToClient, from_server, to_client)
            )
        };
        tokio::select! {
            biased;
            disconnect = self.disconnect() => End::Commanded(disconnect),
            result = both => if result.is_ok() { End::Closed } else { End::Broken },
        }
    }

    async fn forward_one(
        &self,
        direction: Direction,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> io::Result<()> {
        let mut commands = self.control.clone();
        let mut buffer = vec![0; 16 * 1024];
        let mut has_gap = false;
        loop {
            let now = *commands.wait_for(|control| !control.frozen).await.map_err(io::Error::other)?;
            if has_gap && !now.drops(direction) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            // At most the bytes of a tenth of a second, so that a throttled connection is slow and even.
            let limit = now.bytes_per_second.map_or(buffer.len(), |rate| rate as usize / 10);
            let limit = limit.clamp(1, buffer.len());
            let length = tokio::select! {
                biased;
                changed = commands.changed() => {
                    changed.map_err(io::Error::other)?;
                    continue;
                }
                length = from.read(&mut buffer[..limit]) => length?,
            };
            // Bytes that were read just when the connection was frozen are held back too.
            let now = *commands.wait_for(|control| !control.frozen).await.map_err(io::Error::other)?;
            if now.drops(direction) {
                has_gap = true;
                self.counters.dropped(length);
                if length == 0 {
                    // The end of the stream is dropped as well: the other peer waits.
                    commands.wait_for(|control| !control.drops(direction)).await.map_err(io::Error::other)?;
                }
                continue;
            }
            if length == 0 {
                return to.shutdown().await;
            }
            // Counted before they are sent: a peer that has received a byte finds it counted.
            self.counters.forwarded(direction, length);
            to.write_all(&buffer[..length]).await?;
            if let Some(rate) = now.bytes_per_second {
                tokio::time::sleep(Duration::from_secs_f64(length as f64 / f64::from(rate))).await;
            }
        }
    }

    /// Waits for a command to disconnect.
    async fn disconnect(&self) -> Disconnect {
        let mut control = self.control.clone();
        control
            .wait_for(|control| control.disconnect.0 != self.disconnects)
            .await
            // The proxy was dropped: its connections are reset.
            .map_or(Disconnect::Reset, |control| control.disconnect.1)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Relaxed);
    }
}

/// Makes the stream end with RST when it is dropped.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn close_both(client: &mut TcpStream, server: &mut TcpStream) {
    let _ = tokio::join!(close(client), close(server));
}

/// Sends FIN, then reads until the peer has sent its FIN: unread bytes would make the system send RST instead.
async fn close(stream: &mut TcpStream) -> io::Result<u64> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(u64::MAX), &mut tokio::io::sink()).await
}
