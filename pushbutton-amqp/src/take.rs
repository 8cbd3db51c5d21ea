//! Getting jobs for those who wait: from the record what was given back or lost, else from the jobs queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lapin::message::Delivery;
use pushbutton_core::{Error, Job, Result, RunId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::claim::{Granted, Returned, lease_ms, shortened};
use crate::codec;
use crate::commit::commit;
use crate::link::{Link, Shared, closed};
use crate::record::{Next, Op, Outcome};
use crate::session::{Reading, Session, acknowledge};
use crate::topology::OPEN_BYTES;

/// Somebody who waits for a job.
pub(crate) type Ticket = oneshot::Sender<Result<Granted>>;

/// How long giving back what nobody took may take at the end.
const LAST_RETURNS: Duration = Duration::from_secs(5);

/// The one task that claims jobs.
#[derive(Debug)]
pub(crate) struct Taker {
    shared: Arc<Shared>,
    tickets: mpsc::UnboundedReceiver<Ticket>,
    waiting: VecDeque<Ticket>,
    returned: mpsc::UnboundedReceiver<Returned>,
    returns: mpsc::UnboundedSender<Returned>,
    returning: JoinSet<()>,
    /// Open while somebody waits, and until the next delivery after that.
    jobs: Option<(Arc<Session>, Reading)>,
}

/// What happened while nothing could be taken.
enum Happened {
    Ticket(Ticket),
    Returned(Returned),
    Delivered(Result<Delivery>),
    /// Look again.
    Changed,
    Stop,
}

impl Taker {
    pub(crate) fn new(shared: Arc<Shared>, tickets: mpsc::UnboundedReceiver<Ticket>) -> Self {
        let (returns, returned) = mpsc::unbounded_channel();
        Self {
            shared,
            tickets,
            waiting: VecDeque::new(),
            returned,
            returns,
            returning: JoinSet::new(),
            jobs: None,
        }
    }

    /// Serves tickets until told to stop.
    pub(crate) async fn run(mut self, stop: tokio_util::sync::CancellationToken) {
        let mut changes = self.shared.changes();
        let mut link = self.shared.link();
        loop {
            self.waiting.retain(|ticket| !ticket.is_closed());
            changes.mark_unchanged();
            link.mark_unchanged();
            self.answer_if_refused();
            if self.jobs.as_ref().is_some_and(|(session, _)| session.is_gone()) {
                self.jobs = None;
            }
            let wake = if self.waiting.is_empty() { Next::Never } else { self.look().await };
            let timer = async {
                match wake {
                    Next::At(at) => sleep_until(at).await,
                    Next::Take { .. } => {}
                    Next::Never => std::future::pending().await,
                }
            };
            let delivery = async {
                match &mut self.jobs {
                    Some((_, reading)) => reading.next().await,
                    None => std::future::pending().await,
                }
            };
            let happened = tokio::select! {
                biased;
                () = stop.cancelled() => Happened::Stop,
                Some(returned) = self.returned.recv() => Happened::Returned(returned),
                delivery = delivery => Happened::Delivered(delivery),
                Some(ticket) = self.tickets.recv() => Happened::Ticket(ticket),
                _ = changes.changed() => Happened::Changed,
                _ = link.changed() => Happened::Changed,
                () = timer => Happened::Changed,
                Some(_) = self.returning.join_next() => Happened::Changed,
            };
            match happened {
                Happened::Ticket(ticket) => self.waiting.push_back(ticket),
                Happened::Returned(returned) => self.give_back(returned),
                Happened::Delivered(delivery) => self.receive(delivery).await,
                Happened::Changed => {}
                Happened::Stop => break,
            }
        }
        self.finish().await;
    }

    /// Those who wait hear of a refusal that no waiting will mend.
    fn answer_if_refused(&mut self) {
        let link = self.shared.link();
        let Link::Down { kind, why, permanent: true } = &*link.borrow() else { return };
        for ticket in self.waiting.drain(..) {
            let _ = ticket.send(Err(Error::permanent(*kind, why.clone()).during("queue::claim")));
        }
    }

    /// Takes what the record has to give; opens the jobs queue when that is nothing.
    async fn look(&mut self) -> Next {
        let Some(session) = self.shared.session_now() else { return Next::Never };
        let (next, full) = match self.shared.replica().state() {
            Some(state) => (state.next(Instant::now()), state.open_bytes() >= OPEN_BYTES),
            None => return Next::Never,
        };
        if let Next::Take { job, seen, lost } = &next {
            self.take(job, *seen, *lost).await;
            return next;
        }
        if self.jobs.is_none() && !full {
            match session.take_jobs().await {
                Ok(reading) => self.jobs = Some((session, reading)),
                Err(error) => session.fail(&error),
            }
        }
        next
    }

    /// Claims an open job that was given back, or whose holder died.
    async fn take(&mut self, job: &Job, seen: u64, lost: u32) {
        let id = job.id.clone();
        if lost >= self.shared.config.lost_leases {
            let why = format!("its lease ran out {lost} times: operators may be dying of it");
            tracing::warn!(job = %id, "to the dead letters: {why}");
            let bury = Op::Bury { job: id, seen, why, at: Timestamp::now() };
            let _ = self.write(bury).await;
            return;
        }
        let (run, start) = (RunId::generate(), Instant::now());
        let take = Op::Take { job: id, seen, claim: run.clone(), lease_ms: lease_ms(&self.shared) };
        self.grant(job.clone(), run, start, take).await;
    }

    /// A delivery from the jobs queue.
    async fn receive(&mut self, delivery: Result<Delivery>) {
        let Some((session, reading)) = self.jobs.take() else { return };
        let received = match delivery {
            Ok(delivery) => self.adopt(&reading, delivery).await,
            Err(error) => Err(error),
        };
        match received {
            // More are wanted, and the channel has one for itself.
            Ok(true) => self.jobs = Some((session, reading)),
            Ok(false) => {
                if let Err(error) = reading.close().await {
                    session.fail(&error);
                }
            }
            Err(error) => session.fail(&error),
        }
    }

    /// Takes a job over into the record, and only then from the queue: it stands in one of the two at any time.
    async fn adopt(&mut self, reading: &Reading, delivery: Delivery) -> Result<bool> {
        self.waiting.retain(|ticket| !ticket.is_closed());
        if self.waiting.is_empty() {
            // Closing the channel gives it back to the queue, for others.
            reading.cancel().await?;
            return Ok(false);
        }
        match codec::decode::<Job>(&delivery) {
            Ok(job) => {
                // Known: published twice, or acknowledged in vain.
                if !self.shared.replica().state().is_some_and(|state| state.knows(&job.id)) {
                    let (run, start, lease_ms) = (RunId::generate(), Instant::now(), lease_ms(&self.shared));
                    let adopt = Op::Adopt { job: job.clone(), claim: run.clone(), lease_ms };
                    self.grant(job, run, start, adopt).await;
                }
            }
            Err(why) => {
                let why = shortened(&format!("{why}: {}", String::from_utf8_lossy(&delivery.data)));
                tracing::warn!("a message on the jobs queue goes to the dead letters: {why}");
                self.write(Op::Malformed { why, at: Timestamp::now() }).await?;
            }
        }
        let more = !self.waiting.is_empty();
        if !more {
            // Before the acknowledgement, which lets the broker send the next.
            reading.cancel().await?;
        }
        acknowledge(&delivery).await?;
        Ok(more)
    }

    async fn write(&self, op: Op) -> Result<Outcome> {
        commit(&self.shared, op, Instant::now() + self.shared.config.holder_lease()).await
    }

    /// Writes a claim; if it holds, whoever waits longest gets it.
    async fn grant(&mut self, job: Job, run: RunId, start: Instant, op: Op) {
        let lease = self.shared.config.holder_lease();
        let mut granted = Granted { job, run, end: start + lease, returns: Some(self.returns.clone()) };
        match commit(&self.shared, op, granted.end).await {
            Ok(Outcome::Done) => {}
            // Somebody else was faster. Nothing of it is ours.
            Ok(_) => {
                granted.returns = None;
                return;
            }
            // It may stand in the record, now or later: dropping it gives it back if so.
            Err(_) => return,
        }
        // The holder counts the lease from when it gets the claim. If that is late, half of what others wait longer is used up.
        if start.elapsed() > (self.shared.config.lease.0 - lease) / 2 {
            let renewed = Instant::now();
            let renew = Op::Renew { job: granted.job.id.clone(), claim: granted.run.clone() };
            match commit(&self.shared, renew, granted.end).await {
                Ok(Outcome::Done) => granted.end = renewed + lease,
                _ => return,
            }
        }
        while let Some(ticket) = self.waiting.pop_front() {
            match ticket.send(Ok(granted)) {
                Ok(()) => return,
                Err(Ok(unwanted)) => granted = unwanted,
                Err(Err(_)) => return,
            }
        }
    }

    /// Gives a claim back that nobody took.
    fn give_back(&mut self, returned: Returned) {
        let shared = Arc::clone(&self.shared);
        self.returning.spawn(async move {
            let until = Instant::now() + shared.config.holder_lease();
            let op = Op::HandBack { job: returned.job, claim: returned.run };
            if let Err(error) = commit(&shared, op, until).await {
                tracing::debug!("a claim that nobody took comes back when its lease is over: {error}");
            }
        });
    }

    /// Nobody waits any more: what is on the way goes back.
    async fn finish(mut self) {
        self.tickets.close();
        while let Ok(ticket) = self.tickets.try_recv() {
            self.waiting.push_back(ticket);
        }
        for ticket in self.waiting.drain(..) {
            let _ = ticket.send(Err(closed()));
        }
        while let Ok(returned) = self.returned.try_recv() {
            self.give_back(returned);
        }
        let all = async { while self.returning.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_RETURNS, all).await.is_err() {
            tracing::debug!("some claims that nobody took come back when their leases are over");
        }
    }
}
