//! The connection that reads `gerrit stream-events`, as a state machine that never ends.
//!
//! It reads all the time: an unread channel stops the whole SSH connection, keepalive included, and makes the server drop events. In a
//! burst its bounded queue fills, and for some seconds it lets the server wait. When nobody takes what it reads for longer (a broker is
//! down), it hangs up, and comes back when there is room. What it missed meanwhile is recovered by query, as after every gap.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Result};
use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::client::Gerrit;
use crate::connect::Session;
use crate::convert::Happening;
use crate::error::from_command;
use crate::interest::Interest;
use crate::lines::{Line, LineSplitter, MAX_LINE};
use crate::parse::{Parsed, parse_line};

/// How many batches may wait to be taken, and how many bytes of lines they may come from.
const QUEUE: usize = 4096;
const QUEUE_BYTES: usize = 16 << 20;

/// How long the server is let wait in a burst. Shorter than any time after which somebody would be taken for dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream that has lasted so long was granted: a refusal comes with the next round trip.
const NOT_REFUSED_AFTER: Duration = Duration::from_secs(5);

/// What the stream has to say.
#[derive(Debug)]
pub(crate) enum Item {
    /// The stream runs (again): whatever happened before is not in it.
    Connected,
    /// What happened, and the newest time that any line had.
    Happened { happenings: Vec<Happening>, newest: Option<i64>, _room: OwnedSemaphorePermit },
    /// The server dropped events.
    Dropped,
    /// The server will not have us; somebody must act.
    Refused(Error),
}

/// Where the stream stands.
enum State {
    /// Not connected; goes on as soon as there is room for what will come.
    Down,
    /// There is room: connects and asks for the stream.
    Connecting,
    /// Reads.
    Streaming(Box<Live>),
    /// Waits for this long before the next attempt.
    Waiting(Duration),
}

struct Live {
    session: Session,
    channel: Channel<Msg>,
    since: Instant,
}

/// Reads the stream and sends what it says, until the receiver is gone.
pub(crate) struct Reader {
    gerrit: Arc<Gerrit>,
    interest: Interest,
    items: mpsc::Sender<Item>,
    room: Arc<Semaphore>,
    reconnect: Arc<Notify>,
    backoff: Backoff,
    has_run: bool,
}

/// The receiving end.
pub(crate) struct Reading {
    pub(crate) items: mpsc::Receiver<Item>,
    /// Makes the reader hang up and connect anew.
    pub(crate) reconnect: Arc<Notify>,
}

/// Starts a reader in a task of its own. It ends when the receiving end is dropped.
pub(crate) fn start(gerrit: Arc<Gerrit>, interest: Interest) -> Reading {
    let (sender, items) = mpsc::channel(QUEUE);
    let reconnect = Arc::new(Notify::new());
    let delays = &gerrit.config().backoff;
    let backoff = Backoff::new(delays.first.0, delays.cap.0);
    let reader = Reader {
        interest,
        items: sender,
        room: Arc::new(Semaphore::new(QUEUE_BYTES)),
        reconnect: Arc::clone(&reconnect),
        backoff,
        has_run: false,
        gerrit,
    };
    tokio::spawn(reader.run());
    Reading { items, reconnect }
}

impl Reader {
    async fn run(mut self) {
        let (mut state, items) = (State::Down, self.items.clone());
        loop {
            state = tokio::select! {
                next = self.step(state) => next,
                () = items.closed() => return,
            };
        }
    }

    async fn step(&mut self, state: State) -> State {
        match state {
            State::Down => self.wait_for_room().await,
            State::Connecting => match self.connect().await {
                Ok(live) => {
                    tracing::info!(server = %self.gerrit.config().host, "the event stream runs");
                    let _ = self.items.send(Item::Connected).await;
                    State::Streaming(Box::new(live))
                }
                Err(error) => self.give_up_for_now(error).await,
            },
            State::Streaming(live) => {
                let since = live.since;
                let error = self.read(*live).await;
                // A stream that is not granted is opened all the same, and closed at once.
                self.has_run |= since.elapsed() >= NOT_REFUSED_AFTER;
                if since.elapsed() >= self.gerrit.config().backoff.healthy.0 {
                    self.backoff.reset();
                }
                self.give_up_for_now(error).await
            }
            State::Waiting(delay) => {
                tokio::time::sleep(delay).await;
                State::Down
            }
        }
    }

    /// A stream that nobody takes from is not worth a connection.
    async fn wait_for_room(&self) -> State {
        let half = (QUEUE_BYTES / 2) as u32;
        // Both fail only when the receiver is gone; then `run` ends by itself.
        let _places = self.items.reserve_many(QUEUE / 2).await;
        let _bytes = self.room.acquire_many(half).await;
        State::Connecting
    }

    async fn connect(&self) -> Result<Live> {
        let session = Session::open(self.gerrit.config()).await?;
        let mut command = "gerrit stream-events".to_owned();
        for kind in self.interest.types() {
            command.push_str(" -s ");
            command.push_str(kind);
        }
        let channel = session.exec(&command).await?;
        Ok(Live { session, channel, since: Instant::now() })
    }

    /// Logs why, and says how long to wait. Only before the first success is a refusal told: a server that has let us in before will again.
    async fn give_up_for_now(&mut self, error: Error) -> State {
        let delay = self.backoff.next_delay();
        if !self.has_run && !error.is_temporary() {
            let _ = self.items.send(Item::Refused(error)).await;
        } else {
            tracing::warn!(tries = self.backoff.tries(), ?delay, "the event stream is down: {error}");
        }
        State::Waiting(delay)
    }

    /// Reads until something ends it, and says what.
    async fn read(&mut self, live: Live) -> Error {
        let Live { session, mut channel, .. } = live;
        let (mut lines, mut stderr, mut status) = (LineSplitter::new(MAX_LINE), Vec::new(), None);
        loop {
            let message = tokio::select! {
                message = channel.wait() => message,
                () = self.reconnect.notified() => {
                    return Error::temporary(ErrorKind::Protocol, "the stream had not told of what a query found");
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    let items = self.take(&mut lines, &data);
                    if tokio::time::timeout(PATIENCE, self.hand_on(items)).await.is_err() {
                        return Error::temporary(
                            ErrorKind::Exhausted,
                            "events come faster than they are taken; hanging up until there is room",
                        );
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    stderr.extend_from_slice(&data[..data.len().min(4096 - stderr.len().min(4096))]);
                }
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
        if let Some(rest) = lines.finish() {
            tracing::warn!(bytes = rest.len(), "the stream ended within a line");
        }
        match status {
            None => {
                drop(channel);
                session.why_closed().await
            }
            Some(0) => Error::temporary(ErrorKind::Unreachable, "the server ended the stream"),
            Some(status) => from_command(status, &String::from_utf8_lossy(&stderr)),
        }
    }

    /// Takes bytes in and says what they tell: perhaps that the server dropped events, and what happened from how many bytes.
    fn take(&self, lines: &mut LineSplitter, data: &[u8]) -> (bool, Option<(Happened, usize)>) {
        let now = Timestamp::now();
        let (mut happenings, mut newest, mut bytes, mut dropped) = (Vec::new(), None, 0usize, false);
        lines.feed(data, |line| match line {
            Line::Whole(line) => match parse_line(line, &self.interest, now) {
                Ok(Parsed::Happenings(found, at)) => {
                    newest = newest.max(at);
                    if !found.is_empty() {
                        bytes += line.len();
                        happenings.extend(found);
                    }
                }
                Ok(Parsed::Dropped) => dropped = true,
                Err(error) => {
                    tracing::warn!(line = %excerpt(line), "a line of the stream is passed by: {error}")
                }
            },
            Line::TooLong(size) => tracing::warn!(
                bytes = size,
                "a line of the stream is longer than {MAX_LINE} bytes and is passed by"
            ),
        });
        let told = !happenings.is_empty() || newest.is_some();
        (dropped, told.then_some(((happenings, newest), bytes)))
    }

    /// Waits for room, and hands on.
    async fn hand_on(&self, (dropped, happened): (bool, Option<(Happened, usize)>)) {
        // Sending and acquiring fail only when the receiver is gone; then `run` ends by itself.
        if dropped {
            let _ = self.items.send(Item::Dropped).await;
        }
        let Some(((happenings, newest), bytes)) = happened else { return };
        let room = Arc::clone(&self.room).acquire_many_owned(bytes.min(QUEUE_BYTES / 2) as u32);
        if let Ok(room) = room.await {
            let _ = self.items.send(Item::Happened { happenings, newest, _room: room }).await;
        }
    }
}

/// What happened, and the newest time that any line had.
type Happened = (Vec<Happening>, Option<i64>);

/// The beginning of a line, for the log: hostile, so without control characters.
pub(crate) fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(200)])
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
