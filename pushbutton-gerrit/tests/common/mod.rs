//! What the tests against real servers share.
#![allow(dead_code, reason = "each test binary uses its own part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test support: what cannot be set up ends the test"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pushbutton_core::memory::MemoryEventStore;
use pushbutton_core::{Event, EventKind, EventSource, HumanDuration};
use pushbutton_gerrit::{EventFilter, GerritConfig, GerritSource};
use pushbutton_testbed::{Gerrit, Sshd, SshdOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// acme-ci's configuration for this server, with times for tests.
pub(crate) fn config(server: &Gerrit) -> GerritConfig {
    let mut config = GerritConfig::new(&server.ssh_host, "acme-ci", server.key("acme-ci"));
    config.port = server.ssh_port;
    config.host_key.known_hosts = Some(server.known_hosts.clone());
    quick(&mut config);
    config
}

/// The same for an OpenSSH server in place of a Gerrit.
pub(crate) fn sshd_config(server: &Sshd) -> GerritConfig {
    let mut config = GerritConfig::new(&server.host, &server.user, &server.key);
    config.port = server.port;
    config.host_key.known_hosts = Some(server.known_hosts.clone());
    quick(&mut config);
    config
}

fn quick(config: &mut GerritConfig) {
    config.keepalive.interval = HumanDuration::secs(1);
    config.keepalive.count = 2;
    config.backoff.first = HumanDuration(Duration::from_millis(100));
    config.backoff.cap = HumanDuration::secs(1);
    config.backfill.every = HumanDuration::secs(2);
    config.backfill.overlap = HumanDuration::secs(1);
}

/// A name that no other test of any run has used.
pub(crate) fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    format!("{prefix}-{now}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Only what happens in this project.
pub(crate) fn filter(project: &str) -> EventFilter {
    let project = project.to_owned();
    EventFilter::projects(move |other, _| other == project)
}

/// The next event for which this is true; fails after 30 s.
pub(crate) async fn next_where(
    source: &mut dyn EventSource,
    mut wanted: impl FnMut(&Event) -> bool,
) -> Event {
    let found = async {
        loop {
            let event = source.next().await.expect("the source goes on").expect("the source does not end");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("the event comes within 30 s")
}

pub(crate) fn text(event: &Event) -> &str {
    match &event.kind {
        EventKind::CommentAdded { texts, .. } => texts.first().map_or("", String::as_str),
        _ => "",
    }
}

/// Events that come within this time.
pub(crate) async fn all_within(source: &mut dyn EventSource, limit: Duration) -> Vec<Event> {
    let mut events = Vec::new();
    let _ = tokio::time::timeout(limit, async {
        while let Ok(Some(event)) = source.next().await {
            events.push(event);
        }
    })
    .await;
    events
}

const RECORDED: &str = include_str!("../payloads/stream-3.10.jsonl");

/// A comment as Gerrit wrote it, with another text.
pub(crate) fn comment(text: &str) -> String {
    let line = RECORDED.lines().find(|line| line.contains("\"Patch Set 1:\\n\\nrecheck\"")).unwrap();
    line.replace("\\n\\nrecheck\"", &format!("\\n\\n{text}\""))
}

/// An sshd that runs this as `gerrit stream-events`, and has no change.
pub(crate) fn gerrit_like(stream: &str) -> Sshd {
    let stats = r#"{"type":"stats","rowCount":0,"moreChanges":false}"#;
    let script = format!(
        "case \"$SSH_ORIGINAL_COMMAND\" in *stream-events*) {stream} ;; *query*) echo '{stats}' ;; *) echo 'fatal: not here' >&2; exit 1 ;; esac"
    );
    Sshd::start(&SshdOptions { forced_command: Some(script), ..SshdOptions::default() })
}

pub(crate) fn source_on(server: &Sshd) -> GerritSource {
    let gerrit = pushbutton_gerrit::Gerrit::new(sshd_config(server)).unwrap();
    GerritSource::new(gerrit, MemoryEventStore::default(), EventFilter::everything())
}

/// Forwards connections to a port of this machine, and can cut or freeze them.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: Arc<std::sync::Mutex<CancellationToken>>,
    frozen: Arc<AtomicBool>,
    refusing: Arc<AtomicBool>,
    pub(crate) connections: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(std::sync::Mutex::new(CancellationToken::new()));
        let (frozen, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (token, ice, count) = (Arc::clone(&cut), Arc::clone(&frozen), Arc::clone(&connections));
        let refusing = Arc::new(AtomicBool::new(false));
        let refuse = Arc::clone(&refusing);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if refuse.load(Ordering::SeqCst) {
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let token = token.lock().unwrap().clone();
                let ice = Arc::clone(&ice);
                tokio::spawn(async move {
                    tokio::select! { () = forward(client, target, ice) => {}, () = token.cancelled() => {} }
                });
            }
        });
        Self { port, cut, frozen, refusing, connections }
    }

    /// Whether new connections are closed at once.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Closes all connections; new ones are forwarded, unless they are refused.
    pub(crate) fn cut(&self) {
        let mut token = self.cut.lock().unwrap();
        token.cancel();
        *token = CancellationToken::new();
    }

    /// From now on bytes are dropped and connections stay open: as when a firewall drops a connection.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
    }

    /// A configuration that connects through it, with the host keys of the server.
    pub(crate) fn config(&self, server: &Gerrit, folder: &std::path::Path) -> GerritConfig {
        let known = std::fs::read_to_string(&server.known_hosts).unwrap();
        let file: PathBuf = folder.join(unique("known_hosts"));
        std::fs::write(&file, known.replace(&format!("]:{}", server.ssh_port), &format!("]:{}", self.port)))
            .unwrap();
        let mut config = config(server);
        config.port = self.port;
        config.host_key.known_hosts = Some(file);
        config
    }
}

async fn forward(client: TcpStream, target: u16, frozen: Arc<AtomicBool>) {
    let server = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], target))).await.unwrap();
    let (client, server) = (client.into_split(), server.into_split());
    tokio::join!(pump(client.0, server.1, &frozen), pump(server.0, client.1, &frozen));
}

async fn pump(
    from: tokio::net::tcp::OwnedReadHalf,
    to: tokio::net::tcp::OwnedWriteHalf,
    frozen: &AtomicBool,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut from, mut to, mut bytes) = (from, to, vec![0; 32 << 10]);
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        // Bytes that come while frozen are dropped, so the connection cannot recover, as in reality.
        if !frozen.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
