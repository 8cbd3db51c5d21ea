use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::handler::{Handler, HandlerStats};
use super::operator::{Health, Operator, OperatorStats};
use super::shutdown::Shutdown;
use crate::error::{Error, ErrorKind, Result};
use crate::traits::Queue;

/// Both halves in one process, over one queue.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> pushbutton_core::Result<()> {
/// use std::sync::Arc;
///
/// use pushbutton_core::memory::{MemoryExecutor, MemoryProvisioner, MemoryQueue, MemoryReporter, MemorySource};
/// use pushbutton_core::{
///     EventMatch, Handler, JobSpec, LogLocation, Operator, Pipeline, Shutdown, Stage, Trigger, Triggers, samples,
/// };
///
/// let recheck = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
/// let triggers = Triggers::compile(vec![Trigger::new("recheck", recheck, ["tempest".parse()?])], vec![])?;
/// let tempest = JobSpec::new("devstack".parse()?).stage(Stage::new("run".parse()?, "run_tempest.yml"));
///
/// let (queue, reporter) = (MemoryQueue::default(), Arc::new(MemoryReporter::default()));
/// let handler = Handler::new(MemorySource::of(vec![samples::comment("bob", "recheck")]), triggers, queue.clone())
///     .with_reporter(reporter.clone());
/// let operator = Operator::new(
///     queue,
///     MemoryProvisioner::default(),
///     MemoryExecutor::default(),
///     [("tempest".parse()?, tempest)],
///     LogLocation::new("logs"),
/// );
///
/// Pipeline::new(handler, operator)?.run(&Shutdown::new()).await?;
/// assert_eq!(reporter.delivered()[0].summary(), "tempest SUCCESS");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pipeline {
    handler: Handler,
    operator: Operator,
}

impl Pipeline {
    /// Joins the halves. They must share one queue: give both a clone of it, or of an `Arc` around it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming every job that a trigger calls for and the operator does not define.
    pub fn new(handler: Handler, operator: Operator) -> Result<Self> {
        let rules = handler.rules().get();
        let mut unknown: Vec<&str> = rules
            .triggers
            .job_names()
            .filter(|name| !operator.defines(name))
            .map(|name| name.as_str())
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(Self { handler, operator });
        }
        let message = format!("triggers call for jobs that are not defined: {}", unknown.join(", "));
        Err(Error::permanent(ErrorKind::Config, message).during("pipeline::new"))
    }

    /// See [`Operator::health`].
    pub fn health(&self) -> watch::Receiver<Health> {
        self.operator.health()
    }

    /// Runs until a shutdown is requested; with a finite source, until it has ended and all its jobs are done.
    ///
    /// # Errors
    /// The first permanent error of either half, once the other has ended.
    ///
    /// # Cancel safety
    /// Dropping it leaves nodes behind, until the leases have run out and an orphan sweep has found them. Use the
    /// shutdown.
    pub async fn run(self, shutdown: &Shutdown) -> Result<(HandlerStats, OperatorStats)> {
        let Self { handler, operator } = self;
        let (queue, run_ended) = (handler.queue(), operator.run_ended());
        // The operator must go on after a finite source has ended, so its shutdown is another one.
        let operator_shutdown = Shutdown::new();
        // Both on the heap: together they would be a large future.
        let ingest = async {
            let result = Box::pin(handler.run_until(shutdown, drained(queue.as_ref(), &run_ended))).await;
            operator_shutdown.begin();
            result
        };
        let work = async {
            let result = Box::pin(operator.run(&operator_shutdown)).await;
            // Without its operator the handler must end too.
            if result.is_err() {
                shutdown.begin();
            }
            result
        };
        let forward_shutdown = async {
            shutdown.begun().await;
            operator_shutdown.begin();
            shutdown.forced().await;
            operator_shutdown.force();
            std::future::pending::<std::convert::Infallible>().await
        };
        let (ingested, worked) = tokio::select! {
            both = async { tokio::join!(ingest, work) } => both,
            never = forward_shutdown => match never {},
        };
        if let (Err(_), Err(error)) = (&ingested, &worked) {
            tracing::error!("the operator failed too: {error}");
        }
        Ok((ingested?, worked?))
    }
}

/// Waits until nothing waits, nothing runs, and no report is due. Looks after each run that ends here, and each second
/// for what others do.
async fn drained(queue: &dyn Queue, run_ended: &Arc<Notify>) {
    loop {
        match queue.depth().await {
            Ok(depth) if !depth.is_busy() => return,
            Ok(_) => {}
            Err(error) => tracing::warn!("cannot read the queue's depth: {error}"),
        }
        tokio::select! {
            () = run_ended.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}
