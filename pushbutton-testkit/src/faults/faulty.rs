use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use pushbutton_core::{
    Account, Alerter, BuildsetId, BuildsetReport, CancellationToken, ChangeNumber, ChangeSelector,
    ChangeStatusLookup, Claim, ControlMessage, ControlMessages, DeadLetter, DeadLetters, Delivery,
    DependencyLookup, EventId, EventStore, Executor, InstallationId, Job, JobFilter, Journal, JournalEntry,
    LineSink, LinkedChange, Node, NodeRequest, OwnedResource, PatchsetDetails, PatchsetNumber,
    PatchsetStatus, Position, Provisioner, Queue, QueueDepth, Reporter, ResourceKind, Result, RunId,
    RunResult, Stage, StageContext, StageOutcome, TriggerLookup, UndeliveredReport, UndeliveredReports,
    Update, WaitingJobs,
};

use super::{FaultPlan, Method};

/// Wraps a part and injects the faults of a [`FaultPlan`] into its calls. It implements the traits of the part that it
/// wraps.
#[derive(Debug)]
pub struct Faulty<T: ?Sized> {
    inner: Arc<T>,
    plan: FaultPlan,
}

impl<T: ?Sized> Faulty<T> {
    /// Wraps a part. Several parts may share a plan.
    pub fn new(inner: Arc<T>, plan: &FaultPlan) -> Self {
        Self { inner, plan: plan.clone() }
    }

    /// The wrapped part, without faults.
    pub fn inner(&self) -> &Arc<T> {
        &self.inner
    }

    /// The plan.
    pub fn plan(&self) -> &FaultPlan {
        &self.plan
    }
}

/// Any queue; its claims and streams of control messages are faulty too.
pub type FaultyQueue = Faulty<dyn Queue>;
/// Any provisioner. A lost response of `provision` leaves a node that the caller does not know of.
pub type FaultyProvisioner = Faulty<dyn Provisioner>;
/// Any executor. A stage that hangs ignores its cancellation.
pub type FaultyExecutor = Faulty<dyn Executor>;
/// Any reporter.
pub type FaultyReporter = Faulty<dyn Reporter>;
/// Any event store.
pub type FaultyEventStore = Faulty<dyn EventStore>;
/// Any journal.
pub type FaultyJournal = Faulty<dyn Journal>;
/// Any lookup of change status.
pub type FaultyChangeStatus = Faulty<dyn ChangeStatusLookup>;
/// Any lookup of dependencies.
pub type FaultyDependencies = Faulty<dyn DependencyLookup>;
/// Any look-up for triggers.
pub type FaultyTriggerLookup = Faulty<dyn TriggerLookup>;
/// Any alerter.
pub type FaultyAlerter = Faulty<dyn Alerter>;

/// Implements a trait for `Faulty`: each method makes its call through the plan, as the [`Method`] given behind it.
macro_rules! faulty {
    ($trait:ident {
        $($method:ident($($argument:ident: $type:ty),*) -> $output:ty, $name:ident;)*
    } $(, $plain:ident() -> $plain_output:ty)?) => {
        #[async_trait]
        impl<T: $trait + ?Sized> $trait for Faulty<T> {
            $(async fn $method(&self $(, $argument: $type)*) -> Result<$output> {
                self.plan.call(Method::$name, self.inner.$method($($argument),*)).await
            })*
            $(fn $plain(&self) -> $plain_output {
                self.inner.$plain()
            })?
        }
    };
}

faulty!(DeadLetters {
    list(limit: usize) -> Vec<DeadLetter>, ListDeadLetters;
    requeue(letter: &str) -> bool, RequeueDeadLetter;
    remove(letter: &str) -> bool, RemoveDeadLetter;
});
faulty!(UndeliveredReports {
    list_undelivered(limit: usize) -> Vec<UndeliveredReport>, ListUndelivered;
    retry_undelivered(id: &BuildsetId) -> bool, RetryUndelivered;
    drop_undelivered(id: &BuildsetId) -> bool, DropUndelivered;
});
faulty!(Provisioner {
    provision(request: &NodeRequest, journal: &Arc<dyn Journal>) -> Node, Provision;
    release(run: &RunId, journal: &Arc<dyn Journal>) -> (), Release;
    list_owned() -> Vec<OwnedResource>, ListOwned;
});
faulty!(Executor {
    execute(
        stage: &Stage,
        nodes: &[Node],
        context: &StageContext,
        lines: &LineSink,
        cancel: &CancellationToken
    ) -> StageOutcome, Execute;
});
faulty!(Reporter {
    report(update: &Update) -> (), Report;
    deliver(report: &BuildsetReport) -> (), Deliver;
}, name() -> &str);
faulty!(EventStore {
    has_seen(event: &EventId) -> bool, HasSeen;
    record(event: &EventId) -> bool, Record;
    position() -> Option<Position>, Position;
    commit(position: &Position) -> (), CommitEventStore;
});
faulty!(Journal {
    intend(run: &RunId, kind: ResourceKind, name: &str) -> u64, Intend;
    made(entry: u64, id: &str) -> (), Made;
    gone(entry: u64) -> (), Gone;
    open() -> Vec<JournalEntry>, OpenEntries;
});
faulty!(ChangeStatusLookup {
    status(job: &Job) -> PatchsetStatus, ChangeStatus;
});
faulty!(DependencyLookup {
    find(which: &ChangeSelector) -> Vec<LinkedChange>, FindDependency;
});
faulty!(TriggerLookup {
    patchset(change: ChangeNumber, patchset: PatchsetNumber) -> PatchsetDetails, LookUpPatchset;
    group_members(group: &str) -> Vec<Account>, GroupMembers;
});
faulty!(Alerter {
    alert(subject: &str, text: &str) -> (), Alert;
});

#[async_trait]
impl<T: Queue + ?Sized> Queue for Faulty<T> {
    async fn publish(&self, job: &Job) -> Result<()> {
        self.plan.call(Method::Publish, self.inner.publish(job)).await
    }

    async fn claim(&self, filter: &JobFilter) -> Result<Box<dyn Claim>> {
        let inner = self.plan.call(Method::Claim, self.inner.claim(filter)).await?;
        Ok(Box::new(FaultyClaim { inner, plan: self.plan.clone() }))
    }

    async fn broadcast(&self, message: &ControlMessage) -> Result<()> {
        self.plan.call(Method::Broadcast, self.inner.broadcast(message)).await
    }

    async fn control_messages(&self) -> Result<ControlMessages> {
        let inner = self.plan.call(Method::ControlMessages, self.inner.control_messages()).await?;
        let next = |(mut inner, plan): (ControlMessages, FaultPlan)| async move {
            let next = async { inner.next().await.transpose() };
            let item = plan.call(Method::NextControlMessage, next).await.transpose()?;
            Some((item, (inner, plan)))
        };
        Ok(Box::pin(futures_util::stream::unfold((inner, self.plan.clone()), next)))
    }

    async fn claim_report(&self) -> Result<Box<dyn Delivery>> {
        let inner = self.plan.call(Method::ClaimReport, self.inner.claim_report()).await?;
        Ok(Box::new(FaultyDelivery { inner, plan: self.plan.clone() }))
    }

    async fn depth(&self) -> Result<QueueDepth> {
        self.plan.call(Method::Depth, self.inner.depth()).await
    }

    async fn waiting(&self) -> Result<Vec<WaitingJobs>> {
        self.plan.call(Method::Waiting, self.inner.waiting()).await
    }

    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        self.plan.call(Method::LeasedRuns, self.inner.leased_runs()).await
    }

    async fn installation(&self) -> Result<InstallationId> {
        self.plan.call(Method::Installation, self.inner.installation()).await
    }
}

struct FaultyClaim {
    inner: Box<dyn Claim>,
    plan: FaultPlan,
}

#[async_trait]
impl Claim for FaultyClaim {
    fn job(&self) -> &Job {
        self.inner.job()
    }

    fn run(&self) -> &RunId {
        self.inner.run()
    }

    fn lease(&self) -> Duration {
        self.inner.lease()
    }

    fn expires_in(&self) -> Duration {
        self.inner.expires_in()
    }

    async fn renew(&self) -> Result<()> {
        self.plan.call(Method::Renew, self.inner.renew()).await
    }

    async fn complete(&self, result: &RunResult) -> Result<()> {
        self.plan.call(Method::Complete, self.inner.complete(result)).await
    }

    async fn retry(self: Box<Self>, after: Duration, why: &str) -> Result<()> {
        self.plan.call(Method::Retry, self.inner.retry(after, why)).await
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        self.plan.call(Method::HandBack, self.inner.hand_back()).await
    }

    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        self.plan.call(Method::Reject, self.inner.reject(why)).await
    }
}

struct FaultyDelivery {
    inner: Box<dyn Delivery>,
    plan: FaultPlan,
}

#[async_trait]
impl Delivery for FaultyDelivery {
    fn report(&self) -> &BuildsetReport {
        self.inner.report()
    }

    fn failed_attempts(&self) -> u32 {
        self.inner.failed_attempts()
    }

    fn delivered(&self) -> &BTreeSet<String> {
        self.inner.delivered()
    }

    fn lease(&self) -> Duration {
        self.inner.lease()
    }

    async fn done(self: Box<Self>) -> Result<()> {
        self.plan.call(Method::Done, self.inner.done()).await
    }

    async fn retry(self: Box<Self>, after: Duration, delivered: &BTreeSet<String>) -> Result<()> {
        self.plan.call(Method::RetryDelivery, self.inner.retry(after, delivered)).await
    }

    async fn give_up(self: Box<Self>, why: &str, delivered: &BTreeSet<String>) -> Result<()> {
        self.plan.call(Method::GiveUp, self.inner.give_up(why, delivered)).await
    }
}
