//! Leader election among handlers: at most one of them is the leader at any time.
//!
//! The leader holds a lease in the log, like the lease on a job. It counts four fifths of the lease from before it
//! wrote the entry, all others count the whole lease from when they read it. So the leader stops before another one
//! starts, and no clock is compared with another host's.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pushbutton_core::Result;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::commit::commit;
use crate::log::candidate::{self, Candidacy};
use crate::log::{EntryId, HeldLease, Op, Outcome};
use crate::queue::{AmqpQueue, Tasks};
use crate::supervise::{Shared, closed};

/// The leader renews its lease so often in its part of the lease.
const RENEWALS: u32 = 5;
/// How long stepping down may take. After that, others wait for the end of the lease.
const STEP_DOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A candidate. Of all candidates of one prefix, at most one is the leader at any time.
#[derive(Debug)]
pub struct LeaderElection {
    tasks: Arc<Tasks>,
    candidate: Candidate,
    /// Ends the leadership that was acquired last.
    leadership: Option<CancellationToken>,
}

/// A candidate's name, of one leadership.
#[derive(Debug)]
struct Candidate {
    id: EntryId,
    shared: Arc<Shared>,
    /// Whether an entry was written for which nobody steps down yet.
    wrote: bool,
}

impl AmqpQueue {
    /// A candidate for the leadership, on the connection of this queue.
    pub fn leader_election(&self) -> LeaderElection {
        let candidate = Candidate::new(Arc::clone(self.tasks.shared()));
        LeaderElection { tasks: Arc::clone(&self.tasks), candidate, leadership: None }
    }
}

impl Candidate {
    fn new(shared: Arc<Shared>) -> Self {
        Self { id: EntryId::new(), shared, wrote: false }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if self.wrote {
            self.shared.spawn_background(step_down(Arc::clone(&self.shared), self.id));
        }
    }
}

async fn step_down(shared: Arc<Shared>, candidate: EntryId) {
    let until = Instant::now() + STEP_DOWN_TIMEOUT;
    if let Err(error) = commit(&shared, Op::StepDown { candidate }, until).await {
        tracing::debug!("another handler can lead when the lease ends: {error}");
    }
}

impl LeaderElection {
    /// Waits until this handler is the leader. A leadership that was acquired before ends with this call.
    ///
    /// # Cancel safety
    /// A lease that a dropped call acquired is taken up by the next call; dropping the candidate ends it.
    ///
    /// # Errors
    /// Permanent ones only: the broker refuses us, or the queue was closed.
    pub async fn lead(&mut self) -> Result<Leadership> {
        if let Some(leadership) = self.leadership.take() {
            leadership.cancel();
        }
        let stop = self.tasks.stopping();
        let acquired =
            stop.run_until_cancelled(acquire(&mut self.candidate)).await.unwrap_or_else(|| Err(closed()));
        let lease = acquired.map_err(|error| error.during("leader_election::lead"))?;
        let candidate =
            std::mem::replace(&mut self.candidate, Candidate::new(Arc::clone(self.tasks.shared())));
        self.leadership = Some(stop.clone());
        let (renewals, renewed) = watch::channel(lease.end());
        self.tasks.shared().spawn_background(renew(candidate, lease, renewals, stop.clone()));
        Ok(Leadership {
            renewed,
            end: lease.end(),
            stop: stop.clone(),
            _step_down: stop.drop_guard(),
            _tasks: Arc::clone(&self.tasks),
        })
    }
}

/// Waits until there is no leader, or its lease has ended, and acquires the lease.
async fn acquire(candidate: &mut Candidate) -> Result<HeldLease> {
    let shared = Arc::clone(&candidate.shared);
    let (mut changes, term) = (shared.changes(), shared.config.leader_lease_term());
    loop {
        shared.session(None).await?;
        changes.mark_unchanged();
        let next = candidate::next(candidate.id, shared.replica().state(), term, Instant::now());
        let entry = match next {
            Candidacy::WaitUntil(end) => {
                let _ = timeout_at(end, changes.changed()).await;
                continue;
            }
            Candidacy::Write(entry) => entry,
        };
        let lease = term.written_at(Instant::now());
        candidate.wrote = true;
        match commit(&shared, entry, lease.end()).await {
            Ok(Outcome::Accepted) if !lease.has_ended(Instant::now()) => return Ok(lease),
            // Another candidate was faster, or this took too long.
            Ok(_) => {}
            Err(error) if error.is_temporary() => {}
            Err(error) => return Err(error),
        }
    }
}

/// Renews the lease until it is lost or the leadership ends; then steps down.
async fn renew(
    candidate: Candidate,
    mut lease: HeldLease,
    renewals: watch::Sender<Instant>,
    stop: CancellationToken,
) {
    let term = candidate.shared.config.leader_lease_term();
    let renewing = async {
        loop {
            sleep_until(lease.end() - term.held() + term.held() / RENEWALS).await;
            let written = Instant::now();
            let renewal = candidate::renewal(candidate.id, term);
            match commit(&candidate.shared, renewal, lease.end()).await {
                Ok(Outcome::Accepted) => {
                    lease.renewed(written);
                    renewals.send_replace(lease.end());
                }
                // Lost: another one leads, or the lease has ended without a renewal.
                _ => return,
            };
        }
    };
    stop.run_until_cancelled(renewing).await;
    // Dropping the candidate steps down.
}

/// The leadership, while its lease lasts. Dropping it steps down: another candidate leads at once.
#[derive(Debug)]
pub struct Leadership {
    renewed: watch::Receiver<Instant>,
    end: Instant,
    stop: CancellationToken,
    _step_down: DropGuard,
    _tasks: Arc<Tasks>,
}

impl Leadership {
    /// Waits until the leadership is lost. Cancel-safe; once lost, it stays lost.
    ///
    /// Each poll looks at the clock first: a process that was frozen learns of the loss before anything else that it
    /// polls after this.
    pub async fn lost(&mut self) {
        loop {
            self.end = *self.renewed.borrow_and_update();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = reached(self.end) => return,
                changed = self.renewed.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The end of the lease when [`lost`](Self::lost) was last polled; each renewal moves it on.
    pub fn lease_end(&self) -> Instant {
        self.end
    }
}

/// Waits until then. The timer may fire late, so each poll looks at the clock.
async fn reached(end: Instant) {
    let mut timer = std::pin::pin!(sleep_until(end));
    poll_fn(|context| if Instant::now() >= end { Poll::Ready(()) } else { timer.as_mut().poll(context) })
        .await;
}
