//! A TCP proxy before the broker, whose connections can be cut, or go silent.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

/// What becomes of what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Connections stay, and nothing comes through: as a pulled cable.
    Silent,
    /// New connections are closed at once.
    Closed,
}

/// Ends with its owner.
pub(crate) struct Proxy {
    /// The broker's address, through the proxy.
    pub(crate) url: String,
    open: Arc<Mutex<Vec<AbortHandle>>>,
    cuts: AtomicU32,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(url: &str) -> Self {
        let rest = url.split_once('@').expect("the address has a login").1;
        let target = rest.split_once('/').expect("the address has a vhost").0.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let here = listener.local_addr().expect("it listens").to_string();
        let url = url.replace(&target, &here);
        let open = Arc::<Mutex<Vec<AbortHandle>>>::default();
        let opened = Arc::clone(&open);
        let mode = watch::Sender::new(Mode::Pass);
        let modes = mode.subscribe();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *modes.borrow() == Mode::Closed {
                    continue;
                }
                let (target, modes) = (target.clone(), modes.clone());
                let passing = tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        let ((from, to), (back, forth)) = (client.into_split(), server.into_split());
                        tokio::select! {
                            () = pass(from, forth, modes.clone()) => {}
                            () = pass(back, to, modes) => {}
                        }
                    }
                });
                opened.lock().unwrap().push(passing.abort_handle());
            }
        });
        Self { url, open, cuts: AtomicU32::new(0), mode, accepting }
    }

    /// From now on nothing comes through, without an error.
    pub(crate) fn fall_silent(&self) {
        self.mode.send_replace(Mode::Silent);
    }

    /// Cuts all connections and takes no new ones.
    pub(crate) fn close(&self) {
        self.mode.send_replace(Mode::Closed);
        self.cut();
    }

    /// Ends silence, and closedness.
    pub(crate) fn open(&self) {
        self.mode.send_replace(Mode::Pass);
    }

    /// Cuts all connections. What was on its way may have arrived or not.
    pub(crate) fn cut(&self) {
        for passing in self.open.lock().unwrap().drain(..) {
            self.cuts.fetch_add(u32::from(!passing.is_finished()), Ordering::SeqCst);
            passing.abort();
        }
    }

    /// How many were cut so far.
    pub(crate) fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// Passes on what comes, one way, until either side closes.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut modes: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let passes = modes.wait_for(|mode| *mode != Mode::Silent).await.is_ok();
        if !passes || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}
