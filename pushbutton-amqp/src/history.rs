//! The history that all participants share: the stream `PREFIX.history`.
//!
//! It is a feed beside the command log, and no second protocol: nothing is decided by it and nothing waits for it. An
//! entry says all that is known of its subject, so that a lost or repeated one does no harm. Writers keep what waits for
//! the broker in memory, the newest entry of each subject, within [`MAX_PENDING`] bytes. Readers take the entries over
//! into a copy of their own, together with how far they have read.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{
    ControlMessage, Error, ErrorKind, HistoryEntry, HistoryLog, HistoryReplica, Queue, Result,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::AmqpQueue;
use crate::codec::{self, Unreadable};
use crate::session::{Consumer, Session};
use crate::supervise::{Shared, closed};
use crate::topology::text;

/// How many bytes of entries may wait for the broker.
const MAX_PENDING: usize = 4 << 20;
/// The largest entry: a job has at most [`codec::MAX_JOB`] bytes, and what is known of its run as many.
const MAX_ENTRY: usize = 2 * codec::MAX_JOB;
/// How long the end of a process waits until its last entries are written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How many entries are taken over at once, and how long the next one of them may take to arrive.
const BATCH: usize = 200;
const BATCH_TIMEOUT: Duration = Duration::from_millis(20);
/// How often the client is asked whether it is connected.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long the broker may take to send an entry that is there.
const PRESENT: Duration = Duration::from_secs(3);

/// An entry on the broker.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    /// Tells copies of the stream apart: a reader compares that of the last entry it has read.
    id: String,
    #[serde(flatten)]
    entry: HistoryEntry,
}

/// Only the id, of an entry of a kind that this version does not know.
#[derive(Debug, Deserialize)]
struct UnknownMessage {
    id: String,
}

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    pending: Mutex<Pending>,
    changed: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Pending {
    /// In the order of their first coming.
    order: VecDeque<String>,
    /// By the key of the entry: of several about the same, the newest is enough.
    bodies: HashMap<String, Vec<u8>>,
    bytes: usize,
}

impl Pending {
    /// Adds an entry; returns how many had to go for it.
    fn push(&mut self, key: String, body: Vec<u8>) -> u64 {
        self.bytes += body.len();
        match self.bodies.insert(key.clone(), body) {
            Some(former) => self.bytes -= former.len(),
            None => self.order.push_back(key),
        }
        let mut dropped = 0;
        while self.bytes > MAX_PENDING {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.bodies.remove(&oldest).map_or(0, |body| body.len());
            dropped += 1;
        }
        dropped
    }

    fn first(&self) -> Option<(String, Vec<u8>)> {
        let key = self.order.front()?;
        Some((key.clone(), self.bodies.get(key)?.clone()))
    }

    /// The entry was written, unless a newer one about the same has come meanwhile.
    fn written(&mut self, key: &str, body: &[u8]) {
        if self.bodies.get(key).is_some_and(|now| now == body) {
            self.bodies.remove(key);
            self.bytes -= body.len();
            // It was the first.
            match self.order.front() {
                Some(first) if first == key => drop(self.order.pop_front()),
                _ => self.order.retain(|other| other != key),
            }
        }
    }
}

impl Unwritten {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an entry, and never waits.
    pub(crate) fn push(&self, entry: HistoryEntry) -> Result<()> {
        let key = entry.key();
        let body =
            codec::encode(&Message { id: Uuid::now_v7().simple().to_string(), entry: entry.bounded() })?;
        if body.len() > MAX_ENTRY {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            let text = format!("the entry has {} bytes, and the history accepts {MAX_ENTRY}", body.len());
            return Err(Error::permanent(ErrorKind::Invalid, text).during("history::append"));
        }
        let dropped = self.pending().push(key, body);
        if dropped > 0 && self.dropped.fetch_add(dropped, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "RabbitMQ takes no entries of the history: the oldest that wait for it are dropped"
            );
        }
        self.changed.notify_one();
        Ok(())
    }

    pub(crate) fn push_control(&self, message: &ControlMessage) {
        if !message.is_action() {
            return;
        }
        if let Err(error) = self.push(HistoryEntry::Control { message: message.clone() }) {
            tracing::warn!("a control message is missing in the history: {error}");
        }
    }

    /// Writes entries, until `stop`; then those that are left, for a short time. The stream is declared with the first
    /// entry.
    pub(crate) async fn write(&self, shared: &Shared, stop: CancellationToken) {
        tokio::select! {
            never = self.write_all(shared) => match never {},
            () = stop.cancelled() => {}
        }
        let flush = async {
            let mut writer = Writer::default();
            while let Some((key, body)) = { self.pending().first() } {
                match writer.write(shared, &body).await {
                    Ok(()) => self.pending().written(&key, &body),
                    // It is there with other retention, and is not declared again.
                    Err(error) if error.kind() == ErrorKind::Config => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let why = match timeout(FLUSH_TIMEOUT, flush).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let entries = self.pending().order.len();
        tracing::warn!(entries, "the last entries of the history were not written: {why}");
    }

    async fn write_all(&self, shared: &Shared) -> Infallible {
        let (mut writer, mut backoff) = (Writer::default(), Backoff::new(FIRST_PAUSE, MAX_PAUSE));
        loop {
            let changed = self.changed.notified();
            let next = { self.pending().first() };
            let Some((key, body)) = next else {
                changed.await;
                continue;
            };
            match writer.write(shared, &body).await {
                Ok(()) => {
                    backoff.reset();
                    self.pending().written(&key, &body);
                }
                Err(error) => {
                    let pause = backoff.next_delay();
                    // While the broker is away the supervisor says so.
                    if error.is_temporary() || error.kind() == ErrorKind::Config {
                        tracing::debug!(?pause, "the history waits: {error}");
                    } else {
                        tracing::warn!(?pause, "cannot write the history, will try again: {error}");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// The channel of a writer, on the connection of the moment.
#[derive(Default)]
struct Writer(Option<(Arc<Session>, Channel)>);

impl Writer {
    async fn write(&mut self, shared: &Shared, body: &[u8]) -> Result<()> {
        let channel = match &self.0 {
            Some((session, channel)) if !session.is_closed() && channel.status().connected() => channel,
            _ => {
                let session = shared.history_session().await?;
                let opened = shared.open_history(&session).await;
                if let Err(error) = &opened {
                    shared.history_failed(&session, error);
                }
                &self.0.insert((session, opened?)).1
            }
        };
        let channel = channel.clone();
        let Some((session, _)) = &self.0 else { return Err(closed()) };
        let appended = session.append_history(&channel, body).await;
        if let Err(error) = &appended {
            shared.history_failed(session, error);
            self.0 = None;
        }
        appended
    }
}

/// The shared history on RabbitMQ: appends, and keeps a [`HistoryReplica`] up to date.
#[derive(Debug, Clone)]
pub struct AmqpHistory(AmqpQueue);

impl AmqpQueue {
    /// The history that the participants of this queue share. Control messages that this queue
    /// [broadcasts](Queue::broadcast) are appended to it by themselves.
    pub fn history(&self) -> AmqpHistory {
        AmqpHistory(self.clone())
    }
}

#[async_trait]
impl HistoryLog for AmqpHistory {
    async fn append(&self, entry: HistoryEntry) -> Result<()> {
        self.0.tasks.unwritten().push(entry)
    }

    fn dropped(&self) -> u64 {
        self.0.tasks.unwritten().dropped.load(Ordering::Relaxed)
    }
}

impl AmqpHistory {
    /// Takes over into this copy all that is there now: for a command that a person waits for.
    ///
    /// # Errors
    /// Of the copy; temporary when the broker does not answer in time.
    pub async fn catch_up(&self, copy: &dyn HistoryReplica) -> Result<()> {
        let shared = self.0.tasks.shared();
        let until = shared.deadline();
        let mut backoff = Backoff::new(FIRST_PAUSE, FIRST_PAUSE);
        loop {
            let tried = async {
                shared.session(Some(until)).await?;
                self.read_to_the_end(copy).await
            };
            match tried.await {
                // A stream that was declared a moment ago "does not have a running replica" yet.
                Err(error) if error.is_temporary() && Instant::now() < until => {
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                result => return result.map_err(|error| error.during("history::catch_up")),
            }
        }
    }

    async fn read_to_the_end(&self, copy: &dyn HistoryReplica) -> Result<()> {
        let mut reader = self.reader(copy).await?;
        let Some(end) = history_end(&reader.session).await? else { return Ok(()) };
        while reader.position.as_ref().is_none_or(|position| position.offset < end) {
            reader.take_over(copy).await?;
        }
        Ok(())
    }

    /// Takes over into this copy what is there, and then all that comes, until the queue is closed. Reconnects by
    /// itself; an error of the copy is logged, and the entries are read again.
    pub async fn follow(&self, copy: &dyn HistoryReplica) {
        let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        let stop = self.0.tasks.stopping();
        loop {
            let error = tokio::select! {
                error = self.follow_connection(copy, &mut backoff) => error,
                () = stop.cancelled() => return,
            };
            let pause = backoff.next_delay();
            tracing::debug!(?pause, "the shared history is not read, will try again: {error}");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Follows until something fails; returns what.
    async fn follow_connection(&self, copy: &dyn HistoryReplica, backoff: &mut Backoff) -> Error {
        let mut reader = match self.reader(copy).await {
            Ok(reader) => reader,
            Err(error) => return error,
        };
        loop {
            match reader.take_over(copy).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    self.0.tasks.shared().history_failed(&reader.session, &error);
                    return error;
                }
            }
        }
    }

    /// A reader that goes on where this copy has stopped, or at the first entry if the stream is another one.
    async fn reader(&self, copy: &dyn HistoryReplica) -> Result<Reader> {
        let shared = self.0.tasks.shared();
        // The same prefix on another broker is another history.
        let feed = format!("{} of {}", shared.config.prefix, self.0.installation().await?);
        let known = copy.feed_position(&feed).await?.as_deref().and_then(Position::parse);
        let mut tries = 0;
        loop {
            let session = shared.history_session().await?;
            match open(shared, &session, known.clone()).await {
                Ok((consumer, position)) => return Ok(Reader { session, consumer, feed, position }),
                Err(error) => {
                    shared.history_failed(&session, &error);
                    tries += 1;
                    // It is there with other retention, and is not declared again.
                    if error.kind() != ErrorKind::Config || tries > 1 {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// Where a reader is: the last entry that it has read, and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    offset: u64,
    id: String,
}

impl Position {
    fn parse(text: &str) -> Option<Self> {
        let (offset, id) = text.split_once(' ')?;
        Some(Self { offset: offset.parse().ok()?, id: id.to_owned() })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.offset, self.id)
    }
}

/// Opens a consumer behind this position, or at the first entry.
async fn open(
    shared: &Shared,
    session: &Session,
    known: Option<Position>,
) -> Result<(Consumer, Option<Position>)> {
    shared.open_history(session).await?;
    if let Some(position) = known
        && let Some(consumer) = resume(session, &position).await?
    {
        return Ok((consumer, Some(position)));
    }
    Ok((session.read_history(text("first")).await?, None))
}

/// Reads the last entry again; none if it is not there any more: the stream is new, or has dropped its beginning.
async fn resume(session: &Session, position: &Position) -> Result<Option<Consumer>> {
    let from = AMQPValue::LongLongInt(i64::try_from(position.offset).unwrap_or(i64::MAX));
    let mut consumer = session.read_history(from).await?;
    let Ok(first) = timeout(PRESENT, consumer.next()).await else { return Ok(None) };
    let first = first?;
    session.acknowledge(&first, false).await?;
    let same = codec::offset(&first) == Some(position.offset) && id_of(&first).as_ref() == Some(&position.id);
    Ok(same.then_some(consumer))
}

/// The offset of the last entry; none when there is none.
async fn history_end(session: &Session) -> Result<Option<u64>> {
    let mut consumer = session.read_history(text("last")).await?;
    let Ok(first) = timeout(PRESENT, consumer.next()).await else { return Ok(None) };
    let mut end = codec::offset(&first?);
    while let Ok(next) = timeout(BATCH_TIMEOUT, consumer.next()).await {
        end = end.max(codec::offset(&next?));
    }
    session.end(consumer).await?;
    Ok(end)
}

struct Reader {
    session: Arc<Session>,
    consumer: Consumer,
    feed: String,
    position: Option<Position>,
}

impl Reader {
    /// Waits for the next entries, and takes them over.
    async fn take_over(&mut self, copy: &dyn HistoryReplica) -> Result<()> {
        let lost = || Error::temporary(ErrorKind::Unreachable, "the connection failed");
        let first = loop {
            tokio::select! {
                first = self.consumer.next() => break first?,
                () = self.session.closed() => return Err(lost()),
                // The client does not always report the loss to its consumers.
                () = tokio::time::sleep(POLL_INTERVAL) => if !self.session.is_connected() { return Err(lost()) },
            }
        };
        let mut batch = vec![first];
        let until = Instant::now() + BATCH_TIMEOUT;
        while batch.len() < BATCH {
            match tokio::time::timeout_at(until, self.consumer.next()).await {
                Ok(next) => batch.push(next?),
                Err(_) => break,
            }
        }
        let mut position = self.position.clone();
        let mut entries = Vec::new();
        for delivery in &batch {
            let Some(offset) = codec::offset(delivery) else {
                return Err(Error::permanent(ErrorKind::Protocol, "PREFIX.history is not a stream"));
            };
            match codec::decode::<Message>(delivery) {
                Ok(message) => {
                    position = Some(Position { offset, id: message.id });
                    entries.push(message.entry);
                }
                // The history of a newer version is still of use: what it calls a run, a delivery or a message.
                Err(unreadable) => {
                    if matches!(unreadable, Unreadable::Malformed(_)) {
                        tracing::debug!("skipping an entry of the history: {unreadable}");
                    }
                    let id = id_of(delivery).unwrap_or_default();
                    position = Some(Position { offset, id });
                }
            }
        }
        if let Some(position) = &position {
            copy.apply(&self.feed, entries, &position.to_string()).await?;
        }
        self.position = position;
        // After that: what was not taken over is not acknowledged.
        match batch.last() {
            Some(last) => self.session.acknowledge(last, true).await,
            None => Ok(()),
        }
    }
}

fn id_of(delivery: &Delivery) -> Option<String> {
    let message: UnknownMessage = serde_json::from_slice(&delivery.data).ok()?;
    Some(message.id)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
