//! One connection through a proxy.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::control::{Control, Counters, Cut, Way};

/// After it was ended, a connection waits so long for both peers to end their side too.
const LINGER: Duration = Duration::from_secs(10);

pub(super) struct Connection {
    control: watch::Receiver<Control>,
    counters: Arc<Counters>,
    /// How often connections had been cut when this one came.
    cuts: u64,
}

/// Why carrying ended.
enum End {
    /// Both peers have ended their side.
    Both,
    /// The proxy was told to.
    Told(Cut),
    /// A peer has gone, or bytes were lost.
    Broken,
}

impl Connection {
    pub(super) fn new(control: watch::Receiver<Control>, counters: Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Relaxed);
        let cuts = control.borrow().cut.0;
        Self { control, counters, cuts }
    }

    /// Carries bytes between the two until either ends or the proxy is told to cut.
    pub(super) async fn carry(self, mut client: TcpStream, server: Arc<str>) {
        let connected = tokio::select! {
            biased;
            cut = self.told_to_cut() => Err(End::Told(cut)),
            stream = self.connect(&server) => stream.map_err(|_| End::Broken),
        };
        let mut server = match connected {
            Ok(stream) => stream,
            Err(End::Told(Cut::End)) => return,
            Err(_) => return reset(&client),
        };
        // What is held back is held back here, and not by waiting for fuller packets.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        match self.pump(&mut client, &mut server).await {
            End::Both => {}
            End::Told(Cut::End) => {
                let _ = tokio::time::timeout(LINGER, end(&mut client, &mut server)).await;
            }
            End::Told(Cut::Reset) | End::Broken => {
                reset(&client);
                reset(&server);
            }
        }
    }

    async fn connect(&self, server: &str) -> io::Result<TcpStream> {
        let mut told = self.control.clone();
        told.wait_for(|control| !control.frozen).await.map_err(io::Error::other)?;
        TcpStream::connect(server).await
    }

    async fn pump(&self, client: &mut TcpStream, server: &mut TcpStream) -> End {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                self.one_way(Way::ToServer, from_client, to_server),
                self.one_way(Way::ToClient, from_server, to_client)
            )
        };
        tokio::select! {
            biased;
            cut = self.told_to_cut() => End::Told(cut),
            result = both => if result.is_ok() { End::Both } else { End::Broken },
        }
    }

    async fn one_way(&self, way: Way, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut told = self.control.clone();
        let mut buffer = vec![0; 16 * 1024];
        let mut has_hole = false;
        loop {
            let now = *told.wait_for(|control| !control.frozen).await.map_err(io::Error::other)?;
            if has_hole && !now.loses(way) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            // In a tenth of a second at most, so that a slow line is slow and not jerky.
            let most = now.bytes_per_second.map_or(buffer.len(), |rate| rate as usize / 10);
            let most = most.clamp(1, buffer.len());
            let length = tokio::select! {
                biased;
                changed = told.changed() => {
                    changed.map_err(io::Error::other)?;
                    continue;
                }
                length = from.read(&mut buffer[..most]) => length?,
            };
            // What came just when the line was frozen is held back too.
            let now = *told.wait_for(|control| !control.frozen).await.map_err(io::Error::other)?;
            if now.loses(way) {
                has_hole = true;
                self.counters.lost(length);
                if length == 0 {
                    // The end of the stream is lost as well: the other side waits.
                    told.wait_for(|control| !control.loses(way)).await.map_err(io::Error::other)?;
                }
                continue;
            }
            if length == 0 {
                return to.shutdown().await;
            }
            // Counted first: who has received a byte finds it counted.
            self.counters.passed(way, length);
            to.write_all(&buffer[..length]).await?;
            if let Some(rate) = now.bytes_per_second {
                tokio::time::sleep(Duration::from_secs_f64(length as f64 / f64::from(rate))).await;
            }
        }
    }

    async fn told_to_cut(&self) -> Cut {
        let mut control = self.control.clone();
        // The proxy has gone: so do its connections.
        control
            .wait_for(|control| control.cut.0 != self.cuts)
            .await
            .map_or(Cut::Reset, |control| control.cut.1)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Relaxed);
    }
}

/// Makes the coming close an RST.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Says goodbye to both, and listens until they have done so too: unread bytes would turn the goodbye into an RST.
async fn end(client: &mut TcpStream, server: &mut TcpStream) {
    let _ = tokio::join!(goodbye(client), goodbye(server));
}

async fn goodbye(stream: &mut TcpStream) -> io::Result<u64> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(u64::MAX), &mut tokio::io::sink()).await
}
