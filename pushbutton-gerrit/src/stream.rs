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

/// How many batches may wait in the queue, and how many bytes of lines they may come from.
const QUEUE: usize = 4096;
const QUEUE_BYTES: usize = 16 << 20;

/// How long the server may have to wait for room in the queue. Shorter than any keepalive.
const FULL_QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream that lasted this long was granted: a refusal comes with the next round trip.
const GRANTED_AFTER: Duration = Duration::from_secs(5);

/// What the stream passes on.
#[derive(Debug)]
pub(crate) enum StreamItem {
    /// The stream is open. Events from before this are not in it.
    Connected,
    /// Events, and the newest time of any line, also of those that did not pass the filter.
    Events { events: Vec<RawEvent>, newest: Option<i64>, _room: OwnedSemaphorePermit },
    /// The server dropped events.
    Dropped,
    /// The server refuses the login or the stream: a person must act.
    Refused(Error),
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
    pub(crate) items: mpsc::Receiver<StreamItem>,
    /// Makes the reader disconnect and connect again.
    pub(crate) reconnect: Arc<Notify>,
}

struct Reader {
    gerrit: Arc<Gerrit>,
    filter: EventFilter,
    items: mpsc::Sender<StreamItem>,
    room: Arc<Semaphore>,
    reconnect: Arc<Notify>,
    backoff: Backoff,
    was_granted: bool,
}

impl EventStream {
    /// Starts the reader in a task of its own, which ends when the stream is dropped.
    pub(crate) fn start(gerrit: Arc<Gerrit>, filter: EventFilter) -> Self {
        let (sender, items) = mpsc::channel(QUEUE);
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
                    let _ = self.items.send(StreamItem::Connected).await;
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
        // Both fail only when the receiver is dropped; then `run` ends.
        let _places = self.items.reserve_many(QUEUE / 2).await;
        let _bytes = self.room.acquire_many((QUEUE_BYTES / 2) as u32).await;
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
            let _ = self.items.send(StreamItem::Refused(error)).await;
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

    /// Waits for room in the queue. Sending and acquiring fail only when the receiver is dropped; then `run` ends.
    async fn enqueue(&self, batch: Batch) {
        if batch.dropped {
            let _ = self.items.send(StreamItem::Dropped).await;
        }
        if batch.events.is_empty() && batch.newest.is_none() {
            return;
        }
        let room = Arc::clone(&self.room).acquire_many_owned(batch.bytes.min(QUEUE_BYTES / 2) as u32);
        if let Ok(room) = room.await {
            let item = StreamItem::Events { events: batch.events, newest: batch.newest, _room: room };
            let _ = self.items.send(item).await;
        }
    }
}

/// What one read from the channel brought.
#[derive(Default)]
struct Batch {
    events: Vec<RawEvent>,
    /// How many bytes the lines of these events had.
    bytes: usize,
    newest: Option<i64>,
    dropped: bool,
}
