//! From an event on Gerrit's stream to its job in the hands of an operator that waits for it.
//!
//! A real sshd sends lines that this process writes into a FIFO at a fixed rate. The source, the handler and the queue
//! are the ones of production; the operator is a caller of `claim`, with a connection of its own on RabbitMQ, and in the
//! same process on SQLite, as `pushbutton-bin run` has it. Nothing is asked of Gerrit: no dependencies, no look-ups.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pushbutton_core::{
    Event, EventMatch, EventSource, Handler, JobFilter, Position, Shutdown, Trigger, Triggers, async_trait,
};
use pushbutton_gerrit::{EventFilter, Gerrit, GerritConfig, GerritSource};
use pushbutton_testbed::{Sshd, SshdOptions};
use serde_json::json;

use crate::figures::{disk_sync, millis, quantile, setting};
use crate::plain_amqp::Kind;
use crate::site::{Backend, Site};
use crate::{change, plain_amqp};

/// The first events, which meet cold caches, are not counted.
const WARM_UP: usize = 20;
/// The change of the first event.
const FIRST: u64 = 1_000_000;

pub(crate) struct Size {
    pub(crate) events: usize,
    pub(crate) per_second: usize,
}

impl Size {
    pub(crate) fn by_hand() -> Self {
        Self { events: setting("BENCH_EVENTS", 1_000), per_second: setting("BENCH_PER_SECOND", 50) }
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1) as u32
    }
}

pub(crate) async fn run(size: &Size, broker: &str) -> anyhow::Result<String> {
    let mut text = format!(
        "{} events, {} a second, each calls for a job; from the line on the stream to the claim of an operator that waits\n",
        size.events, size.per_second
    );
    writeln!(text, "{:<9} {:>6.2} ms to make 4 KiB durable on this disk", "disk", millis(disk_sync()?))?;
    for backend in Backend::ALL {
        let Measured { read, claimed } = measure(&Site::new(backend, broker)?, size).await?;
        writeln!(text, "{:<26} {}", format!("{}, to the claim", backend.name()), quantiles(claimed))?;
        writeln!(text, "{:<26} {}", "  of it, to the handler", quantiles(read))?;
    }
    for kind in Kind::ALL {
        let took = plain_amqp::measure(broker, kind, size.events, size.pause()).await?;
        let name = format!("plain AMQP client, {}", kind.name());
        writeln!(text, "{name:<26} {}", quantiles(took))?;
    }
    Ok(text)
}

fn quantiles(mut took: Vec<Duration>) -> String {
    let mut at = |fraction| millis(quantile(&mut took, fraction));
    format!("{:>6.2} ms p50  {:>6.2} ms p99  {:>6.2} ms max", at(0.5), at(0.99), at(1.0))
}

/// How long each event took, in the order of the events.
pub(crate) struct Measured {
    /// Until the handler had it: sshd, the SSH connection, and reading the line.
    pub(crate) read: Vec<Duration>,
    /// Until an operator had claimed its job.
    pub(crate) claimed: Vec<Duration>,
}

/// A source that says when it has yielded what.
struct Timed<S> {
    source: S,
    yielded: Arc<Mutex<Vec<Instant>>>,
}

#[async_trait]
impl<S: EventSource> EventSource for Timed<S> {
    async fn next(&mut self) -> pushbutton_core::Result<Option<Event>> {
        let event = self.source.next().await;
        lock(&self.yielded).push(Instant::now());
        event
    }

    async fn commit(&mut self, position: &Position) -> pushbutton_core::Result<()> {
        self.source.commit(position).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) async fn measure(site: &Site, size: &Size) -> anyhow::Result<Measured> {
    let fifo = site.folder.path().join("stream");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status()?;
    anyhow::ensure!(made.success(), "mkfifo: {made}");
    let forced = format!(
        "case \"$SSH_ORIGINAL_COMMAND\" in *stream-events*) exec cat {};; *query*) echo '{{\"type\":\"stats\",\"rowCount\":0}}';; \
         *version*) echo gerrit version 3.10.2;; esac",
        fifo.display()
    );
    let options = SshdOptions { forced_command: Some(forced), ..SshdOptions::default() };
    let sshd = tokio::task::block_in_place(|| Sshd::start(&options));
    let config: GerritConfig = serde_json::from_value(json!({
        "host": sshd.host, "port": sshd.port, "user": sshd.user, "key": sshd.key,
        "host_key": {"known_hosts": sshd.known_hosts},
    }))?;
    let recheck = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let trigger = Trigger::new("recheck", recheck, ["unit".parse()?]);
    let triggers = Triggers::compile(vec![trigger], vec!["acme-ci".into()])?;

    let handler_side = site.participant().await?;
    let operator_side = match site.backend {
        // As in `run`: both halves share the store, so that a write wakes a waiting claim.
        Backend::Sqlite => handler_side.clone(),
        Backend::RabbitMq => site.participant().await?,
    };
    let filter = EventFilter::for_triggers(Arc::new(triggers.clone()));
    let source = GerritSource::new(Gerrit::new(config)?, Arc::clone(&handler_side.events), filter);
    let yielded = Arc::new(Mutex::new(Vec::new()));
    let source = Timed { source, yielded: Arc::clone(&yielded) };
    let handler = Handler::new(source, triggers, Arc::clone(&handler_side.queue))
        .with_event_store(Arc::clone(&handler_side.events));
    let shutdown = Shutdown::new();
    let handling = {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { handler.run(&shutdown).await })
    };

    let all = size.events + WARM_UP;
    let sent = Arc::new(Mutex::new(vec![None; all]));
    let writing = {
        let (sent, pause) = (Arc::clone(&sent), size.pause());
        tokio::spawn(async move {
            // Opening a FIFO waits for its reader.
            let opening = move || std::fs::File::options().write(true).open(fifo);
            let stream = tokio::task::spawn_blocking(opening).await??;
            write_paced(stream, &sent, pause).await
        })
    };
    // Held to the end, so that only the way to the claim is measured.
    let (mut claims, mut took) = (Vec::new(), vec![Duration::ZERO; all]);
    while claims.len() < all {
        let claim = operator_side.queue.claim(&JobFilter::any()).await?;
        let now = Instant::now();
        let n = usize::try_from(claim.job().change.number.0 - FIRST)?;
        let sent = lock(&sent)[n];
        took[n] = sent.map(|sent: Instant| now - sent).unwrap_or_default();
        claims.push(claim);
    }
    writing.await??;
    shutdown.force();
    handling.await??;
    drop(claims);
    operator_side.close().await;
    handler_side.close().await;
    let sent = lock(&sent);
    let yielded = lock(&yielded);
    // A source yields events in their order.
    let read =
        sent.iter().flatten().zip(yielded.iter()).map(|(sent, yielded)| *yielded - *sent).skip(WARM_UP);
    Ok(Measured { read: read.collect(), claimed: took.split_off(WARM_UP) })
}

async fn write_paced(
    mut stream: std::fs::File,
    sent: &Mutex<Vec<Option<Instant>>>,
    pause: Duration,
) -> anyhow::Result<()> {
    let all = lock(sent).len();
    let mut ticks = tokio::time::interval(pause);
    for n in 0..all {
        let line = change::comment_added(FIRST + n as u64, "recheck");
        ticks.tick().await;
        lock(sent)[n] = Some(Instant::now());
        stream.write_all(line.as_bytes())?;
    }
    // The stream stays open as long as `stream` lives: an end would make the source connect again. The reader is
    // killed with its sshd.
    std::mem::forget(stream);
    Ok(())
}
