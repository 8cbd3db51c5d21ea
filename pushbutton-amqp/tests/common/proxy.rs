//! A TCP proxy before the broker, whose connections can be cut.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};

/// Ends with its owner.
pub(crate) struct Proxy {
    /// The broker's address, through the proxy.
    pub(crate) url: String,
    open: Arc<Mutex<Vec<AbortHandle>>>,
    cuts: AtomicU32,
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
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.clone();
                let passing = tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
                opened.lock().unwrap().push(passing.abort_handle());
            }
        });
        Self { url, open, cuts: AtomicU32::new(0), accepting }
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

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}
