//! Claims jobs for those who wait for one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::{Error, Job, JobFilter, Result, RunId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::claim::{GrantedClaim, UnusedClaim};
use crate::commit::commit;
use crate::log::{Claimable, Next, Op, Outcome};
use crate::supervise::{ConnectionState, Shared, closed};

/// How long handing back unused claims may take at the end.
const HAND_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Among how many jobs a claimer chooses at most. More than operators claim at the same time.
const MAX_SPREAD: usize = 256;

/// How long after a lost claim others are expected to claim at the same time. Then the claimer takes the first job again.
const CONTENTION_MEMORY: Duration = Duration::from_secs(5);

/// How far the claims of many idle participants are spread over the jobs that wait. If all of them took the first one, a
/// hundred would write a hundred claims for each job.
///
/// The first claim is for the first job. Each claim that was lost doubles the number of jobs among which the next one is
/// chosen at random, each that was granted halves it.
#[derive(Debug)]
struct Spread {
    among: usize,
    lost_at: Option<Instant>,
}

impl Spread {
    fn new() -> Self {
        Self { among: 1, lost_at: None }
    }

    /// How many jobs the next claim leaves to others.
    fn skip(&self, now: Instant) -> usize {
        let is_recent = self.lost_at.is_some_and(|lost| now < lost + CONTENTION_MEMORY);
        if is_recent { fastrand::usize(..self.among) } else { 0 }
    }

    fn granted(&mut self) {
        self.among = (self.among / 2).max(1);
    }

    fn lost(&mut self, now: Instant) {
        let is_first = self.lost_at.is_none_or(|lost| now >= lost + CONTENTION_MEMORY);
        self.among = if is_first { 2 } else { (self.among * 2).min(MAX_SPREAD) };
        self.lost_at = Some(now);
    }
}

/// A caller that waits for a job.
#[derive(Debug)]
pub(crate) struct ClaimRequest {
    pub(crate) filter: JobFilter,
    pub(crate) reply: oneshot::Sender<Result<GrantedClaim>>,
}

/// The one task that claims jobs.
#[derive(Debug)]
pub(crate) struct Claimer {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedReceiver<ClaimRequest>,
    waiting: VecDeque<ClaimRequest>,
    unused: mpsc::UnboundedReceiver<UnusedClaim>,
    unused_sender: mpsc::UnboundedSender<UnusedClaim>,
    hand_backs: JoinSet<()>,
    spread: Spread,
}

impl Claimer {
    pub(crate) fn new(shared: Arc<Shared>, requests: mpsc::UnboundedReceiver<ClaimRequest>) -> Self {
        let (unused_sender, unused) = mpsc::unbounded_channel();
        let (waiting, hand_backs) = (VecDeque::new(), JoinSet::new());
        let spread = Spread::new();
        Self { shared, requests, waiting, unused, unused_sender, hand_backs, spread }
    }

    /// Serves requests until the queue is closed.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.shared.changes();
        let mut connection = self.shared.connection();
        loop {
            changes.mark_unchanged();
            connection.mark_unchanged();
            self.waiting.retain(|request| !request.reply.is_closed());
            self.answer_if_refused();
            let timer = match self.next() {
                Next::Claim(claimable) => {
                    self.claim(*claimable, &stop).await;
                    Some(Instant::now())
                }
                Next::At(at) => Some(at),
                Next::Never => None,
            };
            let timer = async {
                match timer {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(unused) = self.unused.recv() => self.hand_back(unused),
                Some(request) = self.requests.recv() => self.waiting.push_back(request),
                _ = changes.changed() => {}
                _ = connection.changed() => {}
                () = timer => {}
                Some(_) = self.hand_backs.join_next() => {}
            }
        }
        self.finish().await;
    }

    /// Those who wait get the error of a permanent refusal.
    fn answer_if_refused(&mut self) {
        let connection = self.shared.connection();
        let ConnectionState::Down { kind, why, permanent: true } = &*connection.borrow() else { return };
        for request in self.waiting.drain(..) {
            let _ = request.reply.send(Err(Error::permanent(*kind, why.clone()).during("queue::claim")));
        }
    }

    /// A job that one of those who wait can run.
    fn next(&self) -> Next {
        if self.waiting.is_empty() || self.shared.session_now().is_none() {
            return Next::Never;
        }
        let replica = self.shared.replica();
        let Some(state) = replica.state().filter(|state| !state.outbox.is_full()) else { return Next::Never };
        let (now, wanted) =
            (Instant::now(), |job: &Job| self.waiting.iter().any(|request| request.filter.matches(job)));
        state.jobs.next(now, self.spread.skip(now), wanted)
    }

    /// Ends with `stop`: an entry may wait for the broker as long as a lease.
    async fn claim(&mut self, claimable: Claimable, stop: &CancellationToken) {
        let (run, term) = (RunId::generate(), self.shared.config.lease_term());
        let entry = claimable.entry(&run, term, self.shared.config.max_lost_leases, Timestamp::now());
        let job = claimable.job;
        if let Op::DeadLetter { why, .. } = &entry {
            tracing::warn!(job = %job.id, "the job becomes a dead letter: {why}");
            stop.run_until_cancelled(commit(&self.shared, entry, Instant::now() + term.held())).await;
            return;
        }
        let start = Instant::now();
        let lease = term.written_at(start);
        let mut granted = GrantedClaim { job, run, lease, unused: Some(self.unused_sender.clone()) };
        match stop.run_until_cancelled(commit(&self.shared, entry, lease.end())).await {
            Some(Ok(Outcome::Accepted)) => self.spread.granted(),
            // Another participant was faster.
            Some(Ok(_)) => {
                self.spread.lost(Instant::now());
                granted.unused = None;
                return;
            }
            // It may be in the log, now or later: dropping the claim hands the job back in that case.
            Some(Err(_)) | None => return,
        }
        while let Some(index) = self.waiting.iter().position(|request| request.filter.matches(&granted.job)) {
            let Some(request) = self.waiting.remove(index) else { return };
            match request.reply.send(Ok(granted)) {
                Ok(()) | Err(Err(_)) => return,
                // The caller has stopped waiting: the next one gets the claim.
                Err(Ok(unused)) => granted = unused,
            }
        }
    }

    fn hand_back(&mut self, unused: UnusedClaim) {
        let shared = Arc::clone(&self.shared);
        self.hand_backs.spawn(async move {
            let until = Instant::now() + shared.config.lease_term().held();
            let op = Op::HandBack { job: unused.job, run: unused.run };
            if let Err(error) = commit(&shared, op, until).await {
                tracing::debug!("an unused claim returns when its lease ends: {error}");
            }
        });
    }

    /// Hands unused claims back.
    async fn finish(mut self) {
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            self.waiting.push_back(request);
        }
        for request in self.waiting.drain(..) {
            let _ = request.reply.send(Err(closed()));
        }
        while let Ok(unused) = self.unused.try_recv() {
            self.hand_back(unused);
        }
        let all = async { while self.hand_backs.join_next().await.is_some() {} };
        if tokio::time::timeout(HAND_BACK_TIMEOUT, all).await.is_err() {
            tracing::debug!("some unused claims return when their leases end");
        }
    }
}

#[cfg(test)]
mod tests {
    use pushbutton_core::samples::job_on;

    use super::*;
    use crate::config::AmqpConfig;
    use crate::log::EntryId;

    #[tokio::test(start_paused = true)]
    async fn claims_are_spread_while_they_are_lost_and_in_order_otherwise() {
        let mut spread = Spread::new();
        let skipped = |spread: &Spread| (0..1000).map(|_| spread.skip(Instant::now())).max();
        assert_eq!(skipped(&spread), Some(0));
        for _ in 0..20 {
            spread.lost(Instant::now());
        }
        assert!((MAX_SPREAD / 2..MAX_SPREAD).contains(&skipped(&spread).unwrap()));
        for _ in 0..8 {
            spread.granted();
        }
        assert_eq!(skipped(&spread), Some(0));

        spread.lost(Instant::now());
        spread.lost(Instant::now());
        assert_eq!(skipped(&spread), Some(3));
        tokio::time::advance(CONTENTION_MEMORY).await;
        assert_eq!(skipped(&spread), Some(0), "the others are busy since");
        spread.lost(Instant::now());
        assert_eq!(skipped(&spread), Some(1));
    }

    /// The broker may not answer, and then a stop would wait for the end of the lease.
    #[tokio::test(start_paused = true)]
    async fn a_claim_that_is_being_written_does_not_delay_the_end() {
        let shared = Arc::new(Shared::new(AmqpConfig::new("amqp://guest:guest@127.0.0.1:1")));
        let mut claimer = Claimer::new(shared, mpsc::unbounded_channel().1);
        let stop = CancellationToken::new();
        for lost_leases in [0, 100] {
            let (job, version) = (job_on(1, "tempest"), (0, EntryId::new()));
            let (start, stop) = (Instant::now(), stop.child_token());
            let ends = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                stop.cancel();
            };
            tokio::join!(claimer.claim(Claimable { job, version, lost_leases }, &stop), ends);
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
            // The entry may be in the log: what it claims is handed back.
            assert_eq!(claimer.unused.try_recv().is_ok(), lost_leases == 0);
        }
    }
}
