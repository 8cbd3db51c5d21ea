//! The connection that reads `gerrit stream-events`, as a state machine that always reconnects.
//!
//! It reads all the time: a channel that is not read stops the whole SSH connection, keepalive included, and makes
//! the server drop events. Lines wait in a bounded queue. When that is full, the server waits too, for some seconds;
//! then the reader disconnects, and connects again when there is room (the pipeline may be waiting for a broker).
//! What it misses is backfilled, as after every gap.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Result, text};
use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::client::Gerrit;
use crate::client::connection::{Connection, Excerpt};
use crate::error::from_command;
use crate::event_filter::EventFilter;
use crate::lines::{LineSplitter, MAX_LINE};
use crate::raw_event::{ParsedLine, RawEvent, parse_line};

/// How many bytes of lines may wait in the queue. A batch counts at least as [`MIN_BATCH_BYTES`], which bounds their
/// number.
const QUEUE_BYTES: usize = 16 << 20;
const MIN_BATCH_BYTES: usize = 4 << 10;

/// How long the server may have to wait for room in the queue. Shorter than any keepalive.
const FULL_QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream that lasted this long was granted: a refusal comes with the next round trip.
pub(crate) const GRANTED_AFTER: Duration = Duration::from_secs(5);

/// What the stream passes on.
#[derive(Debug)]
pub(crate) enum StreamItem {
    /// The stream is open. Events from before this are not in it.
    Connected,
    /// Lines of the stream.
    Batch(Batch, OwnedSemaphorePermit),
    /// The server refuses the login or the stream: a person must act.
    Refused(Error),
}

/// The lines in one read from the channel.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The events that pass the filter.
    pub(crate) events: Vec<RawEvent>,
    /// How many bytes their lines had.
    bytes: usize,
    /// The newest time of any line.
    pub(crate) newest: Option<i64>,
    /// Whether the server dropped events before one of them.
    pub(crate) dropped: bool,
    /// Whether one of them may be several comments, joined.
    pub(crate) joined: bool,
}

enum State {
    /// Waits for room in the queue.
    Disconnected,
    Connecting,
    Streaming(Box<OpenStream>),
    /// Waits before the next attempt.
    BackingOff(Duration),
}

struct OpenStream {
    connection: Connection,
    channel: Channel<Msg>,
    since: Instant,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct EventStream {
    pub(crate) items: mpsc::UnboundedReceiver<StreamItem>,
    /// Makes the reader disconnect and connect again.
    pub(crate) reconnect: Arc<Notify>,
}

struct Reader {
    gerrit: Arc<Gerrit>,
    filter: EventFilter,
    items: mpsc::UnboundedSender<StreamItem>,
    room: Arc<Semaphore>,
    reconnect: Arc<Notify>,
    backoff: Backoff,
    was_granted: bool,
}

impl EventStream {
    /// Starts the reader in a task of its own, which ends when the stream is dropped.
    pub(crate) fn start(gerrit: Arc<Gerrit>, filter: EventFilter) -> Self {
        let (sender, items) = mpsc::unbounded_channel();
        let reconnect = Arc::new(Notify::new());
        let delays = &gerrit.config().backoff;
        let reader = Reader {
            backoff: Backoff::new(delays.first.0, delays.cap.0),
            gerrit,
            filter,
            items: sender,
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            reconnect: Arc::clone(&reconnect),
            was_granted: false,
        };
        tokio::spawn(reader.run());
        Self { items, reconnect }
    }
}

impl Reader {
    async fn run(mut self) {
        let (mut state, items) = (State::Disconnected, self.items.clone());
        loop {
            state = tokio::select! {
                next = self.step(state) => next,
                () = items.closed() => return,
            };
        }
    }

    async fn step(&mut self, state: State) -> State {
        match state {
            State::Disconnected => self.wait_for_room().await,
            State::Connecting => match self.connect().await {
                Ok(stream) => {
                    tracing::info!(server = %self.gerrit.config().host, "the event stream runs");
                    let _ = self.items.send(StreamItem::Connected);
                    State::Streaming(Box::new(stream))
                }
                Err(error) => self.back_off(error).await,
            },
            State::Streaming(stream) => {
                let since = stream.since;
                let error = self.read(*stream).await;
                // A stream that is refused is opened first, and then closed at once.
                self.was_granted |= since.elapsed() >= GRANTED_AFTER;
                if since.elapsed() >= self.gerrit.config().backoff.healthy.0 {
                    self.backoff.reset();
                }
                self.back_off(error).await
            }
            State::BackingOff(delay) => {
                tokio::time::sleep(delay).await;
                State::Disconnected
            }
        }
    }

    /// Waits until half the queue is free.
    async fn wait_for_room(&self) -> State {
        let _room = self.room.acquire_many((QUEUE_BYTES / 2) as u32).await;
        State::Connecting
    }

    async fn connect(&self) -> Result<OpenStream> {
        let connection = Connection::open(self.gerrit.config()).await?;
        let mut command = "gerrit stream-events".to_owned();
        for kind in self.filter.types() {
            let _ = write!(command, " -s {kind}");
        }
        let channel = connection.exec(&command).await?;
        Ok(OpenStream { connection, channel, since: Instant::now() })
    }

    /// Logs the error and chooses the delay. A refusal is passed on only before the first success: a server that
    /// granted the stream before will do so again.
    async fn back_off(&mut self, error: Error) -> State {
        let delay = self.backoff.next_delay();
        if !self.was_granted && !error.is_temporary() {
            let _ = self.items.send(StreamItem::Refused(error));
        } else {
            tracing::warn!(tries = self.backoff.tries(), ?delay, "the event stream is down: {error}");
        }
        State::BackingOff(delay)
    }

    /// Reads until the stream ends, and returns why it ended.
    async fn read(&mut self, stream: OpenStream) -> Error {
        let OpenStream { connection, mut channel, .. } = stream;
        let (mut lines, mut stderr, mut status) = (LineSplitter::new(MAX_LINE), Excerpt::default(), None);
        loop {
            let message = tokio::select! {
                message = channel.wait() => message,
                () = self.reconnect.notified() => {
                    return Error::temporary(ErrorKind::Protocol, "the stream missed an event that a query found");
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    let batch = self.parse(&mut lines, &data);
                    if tokio::time::timeout(FULL_QUEUE_TIMEOUT, self.enqueue(batch)).await.is_err() {
                        return Error::temporary(
                            ErrorKind::Exhausted,
                            "events come faster than they are processed; disconnecting until there is room",
                        );
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => stderr.push(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => status = Some(exit_status),
                Some(ChannelMsg::Failure) => {
                    return Error::permanent(
                        ErrorKind::Denied,
                        "the server refuses to run gerrit stream-events",
                    );
                }
                Some(_) => {}
                None => break,
            }
        }
        lines.finish(|_| tracing::warn!("the stream ended within a line"));
        match status {
            None => {
                drop(channel);
                connection.why_closed().await
            }
            Some(0) => Error::temporary(ErrorKind::Unreachable, "the server ended the stream"),
            Some(status) => from_command(status, &stderr.text()),
        }
    }

    fn parse(&self, lines: &mut LineSplitter, data: &[u8]) -> Batch {
        let (now, mut batch) = (Timestamp::now(), Batch::default());
        lines.feed(data, |line| {
            let line = match line {
                Ok(line) => line,
                Err(reason) => return tracing::warn!("skipping a line of the event stream: {reason}"),
            };
            match parse_line(line, &self.filter, now) {
                Ok(ParsedLine::Joined(at)) => {
                    batch.newest = batch.newest.max(at);
                    batch.joined = true;
                }
                Ok(ParsedLine::Events(events, at)) => {
                    batch.newest = batch.newest.max(at);
                    if !events.is_empty() {
                        batch.bytes += line.len();
                        batch.events.extend(events);
                    }
                }
                Ok(ParsedLine::Dropped) => batch.dropped = true,
                Err(error) => {
                    tracing::warn!(line = %text::short_line(line, 200), "skipping a line of the event stream: {error}");
                }
            }
        });
        batch
    }

    /// Waits for room in the queue. Sending fails only when the receiver is dropped; then `run` ends.
    async fn enqueue(&self, batch: Batch) {
        if batch.events.is_empty() && batch.newest.is_none() && !batch.dropped {
            return;
        }
        let bytes = batch.bytes.clamp(MIN_BATCH_BYTES, QUEUE_BYTES / 2);
        if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(bytes as u32).await {
            let _ = self.items.send(StreamItem::Batch(batch, room));
        }
    }
}
