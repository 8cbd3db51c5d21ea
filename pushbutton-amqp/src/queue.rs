//! The queue as core sees it.

use std::sync::Arc;

use async_trait::async_trait;
use pushbutton_core::traits::DeadLetter;
use pushbutton_core::{
    Claim, ControlMessage, ControlMessages, Error, ErrorKind, Job, Queue, QueueDepth, Result, RunId,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::claim::{Granted, shortened};
use crate::codec::{self, MAX_JOB};
use crate::commit::catch_up;
use crate::config::AmqpConfig;
use crate::letters;
use crate::link::{Link, Shared, closed, unread};
use crate::notices::AmqpNotices;
use crate::publish::Outgoing;
use crate::tasks::Tasks;

/// The job queue on RabbitMQ. Clones are handles to the same connection; it closes when the last one and the last claim are gone.
#[derive(Debug, Clone)]
pub struct AmqpQueue {
    pub(crate) tasks: Arc<Tasks>,
}

impl AmqpQueue {
    /// Connects. A broker that is not there yet is no error: it is waited for in the background, and said in the log.
    ///
    /// # Errors
    /// Permanent ones only: a configuration that cannot work, or a broker that refuses the login, the virtual host, the
    /// certificate or the queues.
    pub async fn connect(config: AmqpConfig) -> Result<Self> {
        config.validate()?;
        let queue = Self { tasks: Arc::new(Tasks::start(Shared::new(config))) };
        let mut link = queue.tasks.shared().link();
        loop {
            match &*link.borrow_and_update() {
                Link::Starting => {}
                Link::Down { kind, why, permanent: true } => {
                    let address = queue.tasks.shared().config.address();
                    return Err(Error::permanent(*kind, why.clone())
                        .during("amqp::connect")
                        .with("broker", address));
                }
                Link::Ready(_) | Link::Down { .. } => break,
            }
            link.changed().await.map_err(|_| closed())?;
        }
        Ok(queue)
    }

    /// Whether the broker can be used now.
    pub fn is_connected(&self) -> bool {
        self.tasks.shared().session_now().is_some()
    }

    /// Gives back what was claimed for calls that were dropped, and closes the connection. Claims that are held run out.
    pub async fn close(&self) {
        self.tasks.close().await;
    }
}

#[async_trait]
impl Queue for AmqpQueue {
    async fn publish(&self, job: &Job) -> Result<()> {
        let publishing = async {
            let body = codec::encode(job)?;
            if body.len() > MAX_JOB {
                let text = format!(
                    "the job has {} bytes, more than the {MAX_JOB} that the queue carries",
                    body.len()
                );
                return Err(Error::permanent(ErrorKind::Invalid, text));
            }
            let (reply, confirmed) = oneshot::channel();
            let outgoing = Outgoing { id: job.id.clone(), body, reply };
            self.tasks.outbox.send(outgoing).await.map_err(|_| closed())?;
            confirmed.await.map_err(|_| closed())?
        };
        publishing.await.map_err(|error| error.during("queue::publish").with("job", &job.id))
    }

    async fn claim(&self) -> Result<Box<dyn Claim>> {
        let (ticket, granted) = oneshot::channel::<Result<Granted>>();
        self.tasks.tickets.send(ticket).map_err(|_| closed().during("queue::claim"))?;
        let granted = granted.await.map_err(|_| closed().during("queue::claim"))??;
        Ok(Box::new(granted.arrived(Arc::clone(&self.tasks))))
    }

    async fn broadcast(&self, notice: &ControlMessage) -> Result<()> {
        let announcing = async {
            let body = codec::encode(notice)?;
            let session = self.tasks.shared().session(Some(self.tasks.shared().soon())).await?;
            session.broadcast(&body).await.inspect_err(|error| session.fail(error))
        };
        announcing.await.map_err(|error| error.during("queue::broadcast"))
    }

    async fn control_messages(&self) -> Result<Box<dyn ControlMessages>> {
        Ok(Box::new(AmqpNotices::new(Arc::clone(&self.tasks))))
    }

    /// Counts the messages of the jobs queue and the open jobs of the record. A job that was published twice counts
    /// twice until its second copy is thrown away.
    async fn depth(&self) -> Result<QueueDepth> {
        let counting = async {
            let shared = self.tasks.shared();
            let unclaimed = shared.session(Some(shared.soon())).await?.waiting_jobs().await?;
            let replica = shared.replica();
            let state = replica.state().ok_or_else(unread)?;
            let (waiting, leased) = state.counts(Instant::now());
            Ok(QueueDepth { waiting: unclaimed + waiting, leased, dead: state.dead().len() as u64 })
        };
        counting.await.map_err(|error: Error| error.during("queue::depth"))
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let listed = letters::list(self.tasks.shared(), limit).await;
        listed.map_err(|error| error.during("queue::dead_letters"))
    }

    async fn requeue_dead_letter(&self, letter: &str) -> Result<bool> {
        let requeued = letters::requeue(self.tasks.shared(), letter).await;
        requeued.map_err(|error| error.during("queue::requeue_dead_letter").with("letter", shortened(letter)))
    }

    async fn drop_dead_letter(&self, letter: &str) -> Result<bool> {
        let dropped = letters::forget(self.tasks.shared(), letter).await;
        dropped.map_err(|error| error.during("queue::drop_dead_letter").with("letter", shortened(letter)))
    }

    /// A claim is granted when its entry is read back, so all that were granted before this call stand before an entry that it
    /// writes now.
    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        let listing = async {
            let shared = self.tasks.shared();
            catch_up(shared, shared.soon()).await?;
            Ok(shared.replica().state().ok_or_else(unread)?.leased_runs(Instant::now()))
        };
        listing.await.map_err(|error: Error| error.during("queue::leased_runs"))
    }
}
