//! Whose turn it is among handlers: any number may stand by, one is active.
//!
//! # How
//! All consume the queue `PREFIX.turn`, and RabbitMQ delivers to one of them (`x-single-active-consumer`). Who gets a message there is
//! first in line; the others wait, and ask nobody. When the first one's channel, connection or host is gone, RabbitMQ
//! serves the next in line by itself, within milliseconds of noticing.
//!
//! A message is needed for that, and none may be held for long: RabbitMQ ends a channel that acknowledges nothing for half an hour. So the
//! active one sends a token of its own four times within a heartbeat, and acknowledges it when the next is there. Its return is a proof
//! that at the moment *of sending* nobody else was first in line. It counts for one heartbeat, on the sender's own clock. A broker that hangs,
//! half of a split cluster, and a cable that was pulled all fail that proof alike, and so does a process that was frozen.
//!
//! When RabbitMQ serves the next one, its predecessor may not have noticed yet. What it last proved was sent before that moment. So who finds
//! the token of another waits as long as that token counts, and only then is active: no two are certain of their turn at
//! the same time, whatever was cut. Who ends in an orderly way says so on the queue, and is not waited for. Nobody waits for itself.
//!
//! # Why not otherwise
//! An exclusive consumer or an exclusive queue keeps others out just as well, but they would have to ask again and again, and nothing would
//! tell its holder of a network that is gone. A message held without acknowledgement ends with `consumer_timeout`. A lease in the
//! [record](crate::record) would be as safe, and take as long to pass on after a mere restart as after a lost host.
//!
//! # What is left
//! If somebody deletes the queue, the active one hears of it at the same time as the next. And a certainty is about the past: what a process
//! sends in the last moments of its turn may arrive after it. Both do no harm, for a job is known by its event, and
//! [the ledger](crate::AmqpLedger) never goes back: what two handlers do for one event is done once.

mod candidate;
mod token;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use pushbutton_core::{Error, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::candidate::{Candidate, PatchsetStatus};
use crate::link::closed;
use crate::queue::AmqpQueue;
use crate::record::Mark;
use crate::tasks::Tasks;

/// One of any number of handlers that stand by for each other.
///
/// ```no_run
/// # async fn example(queue: pushbutton_amqp::AmqpQueue) -> pushbutton_core::Result<()> {
/// let mut candidate = queue.turn();
/// loop {
///     let mut turn = candidate.take().await?;
///     tokio::select! {
///         biased;
///         () = turn.lost() => {} // stop at once, and stand by again
///         // () = work() => break,
///     }
/// }
/// # }
/// ```
///
/// The active one is certain of its turn for one heartbeat after RabbitMQ's last word (10 s by default), and learns of a broken connection
/// as soon as the network says so. The next one is active one heartbeat after RabbitMQ has noticed that the other is gone: at once when it ended or was
/// killed, after two or three heartbeats when it fell silent. After an orderly end it is active at once.
#[derive(Debug)]
pub struct AmqpTurn {
    tasks: Arc<Tasks>,
    me: Mark,
    /// The place in line, while there is one.
    line: Option<Line>,
    /// Ends the turn that was taken last.
    taken: Option<CancellationToken>,
}

/// A place in line; given up when dropped.
#[derive(Debug)]
struct Line {
    standing: watch::Receiver<PatchsetStatus>,
    stop: CancellationToken,
    _leave: DropGuard,
}

impl AmqpQueue {
    /// A candidate for being the active one among the handlers of this prefix. Nothing happens before the first
    /// [`take`](AmqpTurn::take).
    pub fn turn(&self) -> AmqpTurn {
        AmqpTurn { tasks: Arc::clone(&self.tasks), me: Mark::new(), line: None, taken: None }
    }
}

impl AmqpTurn {
    /// Waits until it is this handler's turn, for ever if need be. A turn that was taken before ends with this call.
    ///
    /// # Cancel safety
    /// A dropped call keeps its place in line; the next one goes on waiting there. Dropping the candidate leaves the line.
    ///
    /// # Errors
    /// Permanent ones only: the broker refuses us, or the queue was closed.
    pub async fn take(&mut self) -> Result<ActiveTurn> {
        if let Some(taken) = self.taken.take() {
            taken.cancel();
        }
        loop {
            let line = match &mut self.line {
                Some(line) => line,
                none => none.insert(Line::join(&self.tasks, self.me)?),
            };
            let standing = line.standing.borrow_and_update().clone();
            match standing {
                PatchsetStatus::Waiting => {
                    if line.standing.changed().await.is_err() {
                        self.line = None;
                    }
                }
                PatchsetStatus::Active(until) if Instant::now() < until => {
                    if let Some(line) = self.line.take() {
                        self.taken = Some(line.stop.clone());
                        return Ok(ActiveTurn { line, until, _tasks: Arc::clone(&self.tasks) });
                    }
                }
                // Passed before anybody took it.
                PatchsetStatus::Active(_) | PatchsetStatus::Over => self.line = None,
                PatchsetStatus::Refused(kind, why) => {
                    self.line = None;
                    let address = self.tasks.shared().config.address();
                    return Err(Error::permanent(kind, why).during("turn::take").with("broker", address));
                }
            }
        }
    }
}

impl Line {
    fn join(tasks: &Tasks, me: Mark) -> Result<Self> {
        let stop = tasks.stopping();
        if stop.is_cancelled() {
            return Err(closed().during("turn::take"));
        }
        let (said, standing) = watch::channel(PatchsetStatus::Waiting);
        let shared = Arc::clone(tasks.shared());
        tasks.shared().enlist(Candidate::new(shared, me, said, stop.clone()).run());
        Ok(Self { standing, stop: stop.clone(), _leave: stop.drop_guard() })
    }
}

/// The turn, for as long as RabbitMQ confirms it. Dropped, it goes to the next in line at once.
#[derive(Debug)]
pub struct ActiveTurn {
    line: Line,
    until: Instant,
    _tasks: Arc<Tasks>,
}

impl ActiveTurn {
    /// Waits until it is no longer certain that it is our turn. Cancel-safe; once lost, it stays lost.
    ///
    /// Each poll looks at the clock first: a process that was frozen hears of it before anything else that it asks here.
    pub async fn lost(&mut self) {
        loop {
            self.until = match *self.line.standing.borrow_and_update() {
                PatchsetStatus::Active(until) => until,
                _ => return,
            };
            tokio::select! {
                biased;
                () = self.line.stop.cancelled() => return,
                changed = self.line.standing.changed() => if changed.is_err() { return },
                () = passed(self.until) => return,
            }
        }
    }

    /// Until when it was certain when last looked at by [`lost`](Self::lost). While all is well, this moves on.
    pub fn certain_until(&self) -> Instant {
        self.until
    }
}

/// Waits until then; also a timer that was not told yet that it is time does not keep it.
async fn passed(until: Instant) {
    let mut timer = std::pin::pin!(sleep_until(until));
    poll_fn(|context| if Instant::now() >= until { Poll::Ready(()) } else { timer.as_mut().poll(context) })
        .await;
}
