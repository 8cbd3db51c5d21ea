//! The queue as core's traits see it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::{
    BuildsetId, Claim, ControlMessage, ControlMessages, DeadLetter, DeadLetters, Delivery, Error, ErrorKind,
    InstallationId, Job, JobFilter, Queue, QueueDepth, Result, RunId, UndeliveredReport, UndeliveredReports,
    WaitingJobs,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::claim::shortened;
use crate::claimer::{ClaimRequest, Claimer};
use crate::codec::{self, MAX_JOB};
use crate::commit::{catch_up, catch_up_reading, commit};
use crate::config::AmqpConfig;
use crate::ingest::ingest;
use crate::log::{Letter, Op, Outcome};
use crate::publish::{Outgoing, outgoing, publisher};
use crate::supervise::{ConnectionState, Shared, closed, not_ready, supervise};
use crate::{control_messages, delivery};

/// How long an orderly end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The job queue on RabbitMQ. Clones are handles to the same connection; it closes when the last handle and the last
/// claim are dropped.
#[derive(Debug, Clone)]
pub struct AmqpQueue {
    pub(crate) tasks: Arc<Tasks>,
}

/// The tasks behind one queue. When the last handle is dropped, they end.
#[derive(Debug)]
pub(crate) struct Tasks {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedSender<ClaimRequest>,
    outgoing: mpsc::Sender<Outgoing>,
    stop: CancellationToken,
    /// Closed when all have ended.
    ended: watch::Receiver<()>,
}

impl Tasks {
    fn start(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let stop = CancellationToken::new();
        let (requests, claim_requests) = mpsc::unbounded_channel();
        let (outgoing, jobs) = outgoing();
        let (running, ended) = watch::channel(());
        let connected = [
            tokio::spawn(supervise(Arc::clone(&shared))),
            tokio::spawn(publisher(Arc::clone(&shared), jobs)),
            tokio::spawn(ingest(Arc::clone(&shared))),
        ];
        let claimer = Claimer::new(Arc::clone(&shared), claim_requests).run(stop.clone());
        let last = Arc::clone(&shared);
        tokio::spawn(async move {
            // These write last entries, for which they need the connection; then the others end.
            claimer.await;
            last.join_background().await;
            last.stop.cancel();
            for task in connected {
                if let Err(error) = task.await
                    && error.is_panic()
                {
                    tracing::error!("a task of the queue failed: {error}");
                }
            }
            drop(running);
        });
        Self { shared, requests, outgoing, stop, ended }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Cancelled when the queue is closed.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.child_token()
    }

    async fn close(&self) {
        self.stop.cancel();
        let mut ended = self.ended.clone();
        let all = async { while ended.changed().await.is_ok() {} };
        if tokio::time::timeout(CLOSE_TIMEOUT, all).await.is_err() {
            tracing::warn!("the connection to RabbitMQ did not close in time");
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl AmqpQueue {
    /// Connects. A broker that is not there yet is not an error: it is waited for in the background, with a warning
    /// in the log.
    ///
    /// # Errors
    /// Permanent ones only: an invalid configuration, or a broker that refuses the login, the virtual host, the
    /// certificate or the declaration of the queue.
    pub async fn connect(config: AmqpConfig) -> Result<Self> {
        config.validate()?;
        let queue = Self { tasks: Arc::new(Tasks::start(Shared::new(config))) };
        let mut connection = queue.tasks.shared.connection();
        loop {
            match &*connection.borrow_and_update() {
                ConnectionState::Connecting => {}
                ConnectionState::Down { kind, why, permanent: true } => {
                    return Err(Error::permanent(*kind, why.clone())
                        .during("amqp::connect")
                        .with("broker", queue.tasks.shared.config.address()));
                }
                ConnectionState::Ready(_) | ConnectionState::Down { .. } => break,
            }
            connection.changed().await.map_err(|_| closed())?;
        }
        Ok(queue)
    }

    /// Whether the broker can be used now.
    pub fn is_connected(&self) -> bool {
        self.tasks.shared.session_now().is_some()
    }

    /// Hands unused claims back, steps down as the leader, and closes the connection. The leases of held claims run
    /// out.
    pub async fn close(&self) {
        self.tasks.close().await;
    }

    async fn find(&self, id: &str, until: Instant) -> Result<Option<Letter>> {
        let shared = &self.tasks.shared;
        catch_up(shared, until).await?;
        let replica = shared.replica();
        Ok(replica.state().ok_or_else(not_ready)?.dead.find(id).cloned())
    }
}

#[async_trait]
impl Queue for AmqpQueue {
    async fn publish(&self, job: &Job) -> Result<()> {
        let publishing = async {
            let body = codec::encode(job)?;
            if body.len() > MAX_JOB {
                let text = format!("the job has {} bytes, and the queue accepts {MAX_JOB}", body.len());
                return Err(Error::permanent(ErrorKind::Invalid, text));
            }
            let (reply, confirmed) = oneshot::channel();
            let until = self.tasks.shared.deadline();
            let outgoing = Outgoing { job: job.clone(), body, until, reply };
            self.tasks.outgoing.send(outgoing).await.map_err(|_| closed())?;
            confirmed.await.map_err(|_| closed())?
        };
        publishing.await.map_err(|error| error.during("queue::publish").with("job", &job.id))
    }

    async fn claim(&self, filter: &JobFilter) -> Result<Box<dyn Claim>> {
        let claiming = async {
            loop {
                let (reply, granted) = oneshot::channel();
                let request = ClaimRequest { filter: filter.clone(), reply };
                self.tasks.requests.send(request).map_err(|_| closed())?;
                let granted = granted.await.map_err(|_| closed())??;
                if !granted.lease.has_ended(Instant::now()) {
                    return Ok(granted);
                }
                // This process was frozen since the claim was sent: another one may hold the job. Dropped, it is
                // handed back.
            }
        };
        let granted = claiming.await.map_err(|error: Error| error.during("queue::claim"))?;
        Ok(Box::new(granted.arrived(Arc::clone(&self.tasks))))
    }

    async fn broadcast(&self, message: &ControlMessage) -> Result<()> {
        let broadcasting = async {
            let text = serde_json::to_string(message).map_err(|error| {
                Error::permanent(ErrorKind::Unexpected, "cannot be written as JSON").because(error)
            })?;
            let shared = &self.tasks.shared;
            commit(shared, Op::Broadcast { message: text }, shared.deadline()).await.map(drop)
        };
        broadcasting.await.map_err(|error: Error| error.during("queue::broadcast"))
    }

    async fn control_messages(&self) -> Result<ControlMessages> {
        Ok(control_messages::listen(Arc::clone(&self.tasks)))
    }

    async fn claim_report(&self) -> Result<Box<dyn Delivery>> {
        let claimed = delivery::claim(&self.tasks).await;
        Ok(Box::new(claimed.map_err(|error| error.during("queue::claim_report"))?))
    }

    /// Counts the jobs of the inbox and of the log. A job on its way from the one to the other is not counted, and
    /// one that was published twice is counted twice until its second copy is dropped.
    async fn depth(&self) -> Result<QueueDepth> {
        let counting = async {
            let shared = &self.tasks.shared;
            let inbox = shared.session(Some(shared.deadline())).await?.inbox_depth().await?;
            let replica = shared.replica();
            let state = replica.state().ok_or_else(not_ready)?;
            let (waiting, leased) = state.jobs.counts(Instant::now());
            Ok(QueueDepth::new(inbox + waiting, leased, state.dead.len() as u64)
                .with_reports(state.outbox.due_len() as u64)
                .with_undelivered(state.outbox.undelivered().len() as u64))
        };
        counting.await.map_err(|error: Error| error.during("queue::depth"))
    }

    async fn waiting(&self) -> Result<Vec<WaitingJobs>> {
        let shared = &self.tasks.shared;
        let counting = async {
            shared.session(Some(shared.deadline())).await?;
            let replica = shared.replica();
            Ok(replica.state().ok_or_else(not_ready)?.jobs.waiting(Instant::now()))
        };
        counting.await.map_err(|error: Error| error.during("queue::waiting"))
    }

    /// A claim is granted when its entry is read back, so all that were granted before this call are in the log
    /// before the barrier that this writes. A sweep deletes machines by this list, so it must be complete.
    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        let listing = async {
            let shared = &self.tasks.shared;
            catch_up(shared, shared.deadline()).await?;
            Ok(shared.replica().state().ok_or_else(not_ready)?.jobs.leased_runs(Instant::now()))
        };
        listing.await.map_err(|error: Error| error.during("queue::leased_runs"))
    }

    /// Answers from the state in memory if there is an id: it never changes. Else this writes one, and of several
    /// participants the first in the log decides.
    async fn installation(&self) -> Result<InstallationId> {
        let asking = async {
            let (shared, until) = (&self.tasks.shared, self.tasks.shared.deadline());
            shared.wait_for_state(until).await?;
            let known = || Ok(shared.replica().state().ok_or_else(not_ready)?.installation.clone());
            if let Some(known) = known()? {
                return Ok(known);
            }
            commit(shared, Op::Installation { installation: InstallationId::generate() }, until).await?;
            known()?.ok_or_else(not_ready)
        };
        asking.await.map_err(|error: Error| error.during("queue::installation"))
    }
}

#[async_trait]
impl DeadLetters for AmqpQueue {
    /// Answers from the state in memory, after reading what the log has by now. Nothing is written.
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let listing = async {
            let shared = &self.tasks.shared;
            catch_up_reading(shared, shared.deadline()).await?;
            let replica = shared.replica();
            let letters = replica.state().ok_or_else(not_ready)?.dead.iter().take(limit);
            let letter = |letter: &Letter| {
                DeadLetter::new(letter.id(), letter.why.clone())
                    .with_job(letter.job.clone())
                    .with_at(letter.at)
            };
            Ok(letters.map(letter).collect())
        };
        listing.await.map_err(|error: Error| error.during("dead_letters::list"))
    }

    async fn requeue(&self, id: &str) -> Result<bool> {
        let requeuing = async {
            let until = self.tasks.shared.deadline();
            let Some(letter) = self.find(id, until).await? else { return Ok(false) };
            if letter.job.is_none() {
                let text = "the message could not be read, so there is no job to requeue; the letter can only be dropped";
                return Err(Error::permanent(ErrorKind::Invalid, text));
            }
            let op = Op::Requeue { letter: letter.id(), at: letter.at };
            Ok(commit(&self.tasks.shared, op, until).await? == Outcome::Accepted)
        };
        requeuing
            .await
            .map_err(|error: Error| error.during("dead_letters::requeue").with("letter", shortened(id)))
    }

    async fn remove(&self, id: &str) -> Result<bool> {
        let removing = async {
            let until = self.tasks.shared.deadline();
            let Some(letter) = self.find(id, until).await? else { return Ok(false) };
            let op = Op::RemoveLetter { letter: letter.id(), at: letter.at };
            Ok(commit(&self.tasks.shared, op, until).await? == Outcome::Accepted)
        };
        removing
            .await
            .map_err(|error: Error| error.during("dead_letters::remove").with("letter", shortened(id)))
    }
}

impl AmqpQueue {
    /// Writes the entry about an undelivered report; whether it was accepted.
    async fn end_undelivered(
        &self,
        id: &BuildsetId,
        op: impl FnOnce(BuildsetId, Option<Timestamp>) -> Op,
    ) -> Result<bool> {
        let (shared, until) = (&self.tasks.shared, self.tasks.shared.deadline());
        catch_up(shared, until).await?;
        let found = {
            let replica = shared.replica();
            replica.state().ok_or_else(not_ready)?.outbox.find_undelivered(id).map(|found| found.at)
        };
        let Some(at) = found else { return Ok(false) };
        Ok(commit(shared, op(id.clone(), at), until).await? == Outcome::Accepted)
    }
}

#[async_trait]
impl UndeliveredReports for AmqpQueue {
    /// Answers from the state in memory, after reading what the log has by now. Nothing is written.
    async fn list_undelivered(&self, limit: usize) -> Result<Vec<UndeliveredReport>> {
        let listing = async {
            let shared = &self.tasks.shared;
            catch_up_reading(shared, shared.deadline()).await?;
            let replica = shared.replica();
            let state = replica.state().ok_or_else(not_ready)?;
            Ok(state.outbox.undelivered().iter().take(limit).cloned().collect())
        };
        listing.await.map_err(|error: Error| error.during("undelivered_reports::list"))
    }

    async fn retry_undelivered(&self, id: &BuildsetId) -> Result<bool> {
        let retrying = self.end_undelivered(id, |buildset, at| Op::RetryUndelivered { buildset, at });
        retrying.await.map_err(|error| error.during("undelivered_reports::retry").with("buildset", id))
    }

    async fn drop_undelivered(&self, id: &BuildsetId) -> Result<bool> {
        let dropping = self.end_undelivered(id, |buildset, at| Op::DropUndelivered { buildset, at });
        dropping.await.map_err(|error| error.during("undelivered_reports::drop").with("buildset", id))
    }
}
