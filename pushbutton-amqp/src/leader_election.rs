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
use crate::log::{EntryId, Op, Outcome, Version};
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

    fn lead(&self, expected_version: Option<Version>) -> Op {
        let lease = self.shared.config.leader_lease.0;
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        Op::Lead { candidate: self.id, expected_version, lease_ms }
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
        let end = acquired.map_err(|error| error.during("leader_election::lead"))?;
        let candidate =
            std::mem::replace(&mut self.candidate, Candidate::new(Arc::clone(self.tasks.shared())));
        self.leadership = Some(stop.clone());
        let (lease, renewed) = watch::channel(end);
        self.tasks.shared().spawn_background(renew(candidate, lease, stop.clone()));
        Ok(Leadership {
            renewed,
            end,
            stop: stop.clone(),
            _step_down: stop.drop_guard(),
            _tasks: Arc::clone(&self.tasks),
        })
    }
}

/// Waits until there is no leader, or its lease has ended, and acquires the lease. Returns its end for the leader.
async fn acquire(candidate: &mut Candidate) -> Result<Instant> {
    let shared = Arc::clone(&candidate.shared);
    let mut changes = shared.changes();
    loop {
        shared.session(None).await?;
        changes.mark_unchanged();
        let leader = shared.replica().state().and_then(|state| state.leader().cloned());
        if let Some((leader, end)) = &leader
            && leader.candidate != candidate.id
            && Instant::now() < *end
        {
            let _ = timeout_at(*end, changes.changed()).await;
            continue;
        }
        let end = Instant::now() + shared.config.holder_leader_lease();
        candidate.wrote = true;
        let entry = candidate.lead(leader.map(|(leader, _)| leader.version));
        match commit(&shared, entry, end).await {
            Ok(Outcome::Accepted) if Instant::now() < end => return Ok(end),
            // Another candidate was faster, or this took too long.
            Ok(_) => {}
            Err(error) if error.is_temporary() => {}
            Err(error) => return Err(error),
        }
    }
}

/// Renews the lease until it is lost or the leadership ends; then steps down.
async fn renew(candidate: Candidate, lease: watch::Sender<Instant>, stop: CancellationToken) {
    let part = candidate.shared.config.holder_leader_lease();
    let renewing = async {
        loop {
            let end = *lease.borrow();
            sleep_until(end - part + part / RENEWALS).await;
            let renewed = Instant::now() + part;
            match commit(&candidate.shared, candidate.lead(None), end).await {
                Ok(Outcome::Accepted) => lease.send_replace(renewed),
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
