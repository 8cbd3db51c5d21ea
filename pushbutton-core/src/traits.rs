//! The traits that backends implement: the five parts of a pipeline in the order in which the data flows, then the
//! small ones.
//!
//! | trait | its part | small traits beside it |
//! |---|---|---|
//! | [`EventSource`] | what happened upstream | [`EventStore`]: which events were handled; [`TriggerLookup`]: what events do not say; [`DependencyLookup`]: what a change depends on |
//! | [`Queue`], [`Claim`], [`Delivery`] | carries jobs from handlers to operators, and reports back | [`DeadLetters`], [`UndeliveredReports`]: what a person must look at |
//! | [`Provisioner`] | makes nodes | [`Journal`]: what is about to be made |
//! | [`Executor`] | runs stages on nodes | [`ChangeStatusLookup`]: is the patch set still current? |
//! | [`Reporter`] | reports on the review, to the history, to chat | [`Alerter`]: calls the lab's own people |
//!
//! The documentation of a method is its contract. The suites of `pushbutton-testkit` check each bullet, on the
//! in-memory parts of this crate, on the embedded SQLite parts and on the real backends alike. All traits are
//! object-safe, and `Box<T>` and `Arc<T>` implement whatever `T` implements.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::Stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::buildset::BuildsetReport;
use crate::check::{Check, Finding};
use crate::control::ControlMessage;
use crate::error::Result;
use crate::event::{Account, Approval, Change, Event, EventId, Patchset, Position};
use crate::history::{FailureCount, FailureQuery, RunHistory, RunRecord};
use crate::job::{Job, JobFilter};
use crate::line_sink::LineSink;
use crate::names::{BuildsetId, ChangeId, ChangeNumber, InstallationId, PatchsetNumber, Revision, RunId};
use crate::node::{Node, NodeRequest, OwnedResource, ResourceKind};
use crate::operators::WaitingJobs;
use crate::report::{RunResult, Update};
use crate::run::{Stage, StageContext, StageOutcome};
use crate::setters::setters;
use crate::shared_history::{DeliveryRecord, HistoryEntry, HistoryLog, ParticipantRecord};

// ---- 1. events in --------------------------------------------------------------------------------------------------

/// Yields what happens upstream.
///
/// ```
/// use pushbutton_core::{Event, EventSource, Position, Result, async_trait};
///
/// /// Yields the events of a recording, then ends.
/// struct Recording(std::vec::IntoIter<Event>);
///
/// #[async_trait]
/// impl EventSource for Recording {
///     async fn next(&mut self) -> Result<Option<Event>> {
///         Ok(self.0.next())
///     }
///
///     async fn commit(&mut self, _: &Position) -> Result<()> {
///         Ok(()) // a recording begins at its start each time
///     }
/// }
/// ```
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait EventSource: Send {
    /// Waits for the next event.
    ///
    /// # Contract
    /// - `None` means that a finite source has ended. A live source waits, without a limit.
    /// - At least once: an event may come again, with the same [`EventId`].
    /// - Reconnects by itself, and never ends on a temporary error. After any gap it fetches what it missed.
    /// - Yields nothing older than the committed position, and on a first start nothing older than the start.
    /// - A line that cannot be parsed is logged and skipped. It never ends the source.
    /// - Cancel-safe: a dropped call loses no event.
    ///
    /// # Errors
    /// Permanent ones only, such as a refused login: a person must act.
    async fn next(&mut self) -> Result<Option<Event>>;

    /// Records that everything up to this position is durable.
    ///
    /// The source is the only owner of the position: the handler keeps no copy.
    ///
    /// # Contract
    /// - After a restart the source continues from the last committed position.
    /// - A position older than the committed one changes nothing.
    async fn commit(&mut self, position: &Position) -> Result<()>;
}

/// Remembers which events were handled, and for a source its position, across restarts.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Whether this event was recorded.
    async fn has_seen(&self, event: &EventId) -> Result<bool>;

    /// Records an event as handled: all jobs that it called for are durable.
    ///
    /// # Contract
    /// - `Ok(true)` when it is new, `Ok(false)` when it was recorded before.
    /// - `Ok` means durable.
    async fn record(&self, event: &EventId) -> Result<bool>;

    /// The committed position; none before the first commit.
    async fn position(&self) -> Result<Option<Position>>;

    /// Commits a position. Called by the source that owns it.
    ///
    /// # Contract
    /// - Never goes back: an older position than the committed one changes nothing.
    async fn commit(&self, position: &Position) -> Result<()>;
}

/// Looks up changes upstream, to find what a change depends on
/// ([`resolve_dependencies`](crate::pipeline::resolve_dependencies)).
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait DependencyLookup: Send + Sync {
    /// Finds changes, of any status.
    ///
    /// # Contract
    /// - Answers from upstream's present state, not from memory.
    /// - What upstream does not show to this account is left out: the list is then empty, and that is no error.
    /// - A [`Commit`](ChangeSelector::Commit) finds the changes of which it is a patch set, also an old one.
    /// - An [`Id`](ChangeSelector::Id) finds the changes of every project and branch that have it; of more than a hundred
    ///   only some.
    /// - Every change has all its patch sets.
    /// - Temporary, within a minute, when upstream cannot be asked.
    async fn find(&self, which: &ChangeSelector) -> Result<Vec<LinkedChange>>;
}

/// Which changes [`DependencyLookup::find`] looks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeSelector {
    /// The change with this number.
    Number(ChangeNumber),
    /// All changes with this Change-Id.
    Id(ChangeId),
    /// The changes with this commit as a patch set.
    Commit(Revision),
}

/// A change with what links it to others.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LinkedChange {
    /// The change.
    pub change: Change,
    /// Its Change-Id, where upstream gives it.
    pub id: Option<ChangeId>,
    /// Its patch sets, oldest first; never empty.
    pub commits: Vec<PatchsetCommit>,
    /// The commit message of the newest. Hostile text.
    pub message: String,
}

/// A patch set with its place in git.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PatchsetCommit {
    /// The patch set.
    pub patchset: Patchset,
    /// The parents of its commit; several for a merge.
    pub parents: Vec<Revision>,
}

impl LinkedChange {
    /// A change with these patch sets, without a Change-Id and a message.
    pub fn new(change: Change, commits: Vec<PatchsetCommit>) -> Self {
        Self { change, id: None, commits, message: String::new() }
    }
}

setters!(LinkedChange { id / with_id: Option<ChangeId>, message / with_message: String });

impl PatchsetCommit {
    /// A patch set whose commit has these parents.
    pub fn new(patchset: Patchset, parents: Vec<Revision>) -> Self {
        Self { patchset, parents }
    }
}

/// Looks up what triggers ask for and events do not say.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> pushbutton_core::Result<()> {
/// use pushbutton_core::memory::MemoryLookup;
/// use pushbutton_core::{ChangeNumber, PatchsetDetails, PatchsetNumber, TriggerLookup};
///
/// let lookup = MemoryLookup::default();
/// lookup.add_patchset(ChangeNumber(1), PatchsetNumber(2), PatchsetDetails::new(["doc/index.rst".to_owned()]));
/// let details = lookup.patchset(ChangeNumber(1), PatchsetNumber(2)).await?;
/// assert_eq!(details.files, ["doc/index.rst"]);
/// # Ok(())
/// # }
/// ```
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait TriggerLookup: Send + Sync {
    /// The files that a patch set changes, and the votes that stand on it.
    ///
    /// # Contract
    /// - Answers for exactly this patch set, also if there is a newer one.
    /// - Names the old and the new path of a file that was moved.
    /// - Names at most [`PatchsetDetails::MAX_FILES`] paths, and says so if there are more.
    /// - The votes are those that stand now, from upstream's present state.
    /// - [`ErrorKind::NotFound`](crate::ErrorKind::NotFound), permanent, if upstream does not show such a patch set.
    /// - Temporary when upstream cannot be asked: the caller asks again, and neither runs nor skips anything until then.
    /// - Returns within two minutes. A call that takes longer is dropped, and made again.
    async fn patchset(&self, change: ChangeNumber, patchset: PatchsetNumber) -> Result<PatchsetDetails>;

    /// The members of a group, those of included groups too.
    ///
    /// # Contract
    /// - Never empty. [`ErrorKind::NotFound`](crate::ErrorKind::NotFound), permanent, if there is no such group, or it shows
    ///   no member: upstream may hide members from the account, and nobody can tell that from an empty group.
    /// - Temporary when upstream cannot be asked.
    /// - Returns within two minutes. A call that takes longer is dropped, and made again.
    async fn group_members(&self, group: &str) -> Result<Vec<Account>>;
}

/// What upstream says about a patch set, beside what its events say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PatchsetDetails {
    /// The paths of the files that it changes.
    pub files: Vec<String>,
    /// Whether there are more files than are named.
    #[serde(default)]
    pub more_files: bool,
    /// The votes that stand on it.
    #[serde(default)]
    pub votes: Vec<CurrentVote>,
}

impl PatchsetDetails {
    /// The most paths that are named.
    pub const MAX_FILES: usize = 10_000;

    /// All files of a patch set without votes.
    pub fn new(files: impl IntoIterator<Item = String>) -> Self {
        Self { files: files.into_iter().collect(), more_files: false, votes: Vec::new() }
    }
}

setters!(PatchsetDetails { more_files / with_more_files: bool, votes / with_votes: Vec<CurrentVote> });

/// A vote that stands on a patch set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CurrentVote {
    /// Whose it is.
    pub by: Account,
    /// The vote.
    pub vote: Approval,
}

impl CurrentVote {
    /// The vote of this account.
    pub fn new(by: Account, vote: Approval) -> Self {
        Self { by, vote }
    }
}

// ---- 2. jobs -------------------------------------------------------------------------------------------------------

/// Carries jobs from handlers to operators, and their results back, durably.
///
/// The results of a buildset make one report: the outbox. It is claimed and delivered by a handler, so that no slot of
/// an operator waits for a review that is away.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> pushbutton_core::Result<()> {
/// use pushbutton_core::memory::MemoryQueue;
/// use pushbutton_core::{JobFilter, Queue, samples};
///
/// let queue = MemoryQueue::default();
/// queue.publish(&samples::job("tempest")).await?;
/// let claim = queue.claim(&JobFilter::any()).await?;
/// assert_eq!(claim.job().name.as_str(), "tempest");
/// claim.complete(&samples::success(claim.job())).await?;
/// let delivery = queue.claim_report().await?;
/// assert_eq!(delivery.report().results.len(), 1);
/// delivery.done().await?;
/// # Ok(())
/// # }
/// ```
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Queue: Send + Sync {
    /// Puts a job on the queue.
    ///
    /// # Contract
    /// - `Ok` means durable: the job survives the end of this process and of the broker.
    /// - Jobs are claimed in the order in which they were published, apart from retries and lost leases. Callers on several
    ///   machines that claim at the same time may get jobs near the front in any order.
    /// - Idempotent: a job that is queued, leased, completed or rejected already (by [`Job::id`]) is not run a second
    ///   time.
    /// - A waiting job [absorbs](Job::absorbs) it: then it is not run, and counts as ended
    ///   ([`JobEnd::Absorbed`](crate::JobEnd::Absorbed)) in its own buildset.
    /// - A dead letter with the same id that is older than a day is replaced by the job: its event is a new one, whose
    ///   identity repeats.
    /// - After an error the job may or may not be on the queue. Publishing it again is safe.
    async fn publish(&self, job: &Job) -> Result<()>;

    /// Waits for a job that the filter matches, and takes a lease on it.
    ///
    /// # Contract
    /// - Waits without polling where the backend can tell, and without a limit.
    /// - A job that the filter does not match stays in its place, and never blocks the jobs behind it.
    /// - Of many callers, on many machines, exactly one gets the job.
    /// - The lease lasts [`Claim::lease`] from its grant. Unless it is renewed, another claim gets the job after it ends.
    /// - Lost leases are counted: after so many of them since the last failed attempt (five, or as configured) the job
    ///   becomes a dead letter whose reason is [`DeadLetter::lost_leases_reason`].
    /// - Survives reconnects of the backend. An outage or a silence of four fifths of the lease disturbs no claim.
    /// - A step of the time of day ends no lease.
    /// - Cancel-safe: a dropped call takes no job, or gives it back.
    async fn claim(&self, filter: &JobFilter) -> Result<Box<dyn Claim>>;

    /// Sends every operator a message that concerns queued and running jobs.
    ///
    /// # Contract
    /// - `Ok` means durable: operators that start later receive it too, for at least a day.
    async fn broadcast(&self, message: &ControlMessage) -> Result<()>;

    /// Subscribes to control messages: those of the last day, then all that follow.
    ///
    /// # Contract
    /// - Each subscriber gets every message, in the order of the broadcasts.
    /// - The stream reconnects by itself. An error in it is permanent, and its last item.
    async fn control_messages(&self) -> Result<ControlMessages>;

    /// Waits for a report that is due, and takes a lease on it.
    ///
    /// # Contract
    /// - A report is due once every job of its [buildset](Job::buildset) has ended, if there is something to report
    ///   ([`OpenBuildset::into_report`](crate::OpenBuildset::into_report)). It is then kept until it is delivered or
    ///   dropped.
    /// - Of many callers, on many machines, exactly one gets the report. Unless it is settled within
    ///   [`Delivery::lease`], another one gets it.
    /// - Waits without polling where the backend can tell, and without a limit.
    /// - Survives reconnects of the backend.
    /// - Cancel-safe: a dropped call takes no report, or gives it back.
    async fn claim_report(&self) -> Result<Box<dyn Delivery>>;

    /// Counts what is on the queue.
    async fn depth(&self) -> Result<QueueDepth>;

    /// Counts the jobs that wait to be claimed, those that wait for a retry too, by name and label. For people. Default:
    /// none are known.
    ///
    /// # Contract
    /// - Ordered by name and label; each kind once.
    /// - A job that is claimed, has ended or is a dead letter is not counted.
    /// - May be late by a moment, and may leave out jobs that no participant has read yet.
    async fn waiting(&self) -> Result<Vec<WaitingJobs>> {
        Ok(Vec::new())
    }

    /// Says since when the oldest job and the oldest report wait: for metrics and alerts.
    ///
    /// # Contract
    /// - By the clocks of those who created them.
    /// - Default: it is not known, as if nothing waited.
    async fn ages(&self) -> Result<QueueAges> {
        Ok(QueueAges::default())
    }

    /// Lists the runs whose leases have not ended: what the orphan sweep must not touch.
    ///
    /// # Contract
    /// - Complete: it holds every run whose claim was granted, on any machine, before this call began and has not
    ///   ended since.
    async fn leased_runs(&self) -> Result<Vec<RunId>>;

    /// Identifies the participants of this queue together. It goes into the ownership tags of cloud resources, so that
    /// the sweep of one queue never touches what participants of another one have made.
    ///
    /// # Contract
    /// - The same for every participant, on any machine, and after every restart.
    /// - Made by the first who asks. Participants that ask at once get the same one.
    /// - Another queue has another id.
    async fn installation(&self) -> Result<InstallationId>;
}

/// A stream of [`Queue::control_messages`].
pub type ControlMessages = Pin<Box<dyn Stream<Item = Result<ControlMessage>> + Send>>;

/// A lease on one job. If it is dropped without an ending, the lease runs out and the job comes back.
///
/// # Contract
/// - The queue's record is the fence, not a clock: a holder that is late can still renew and end the claim, as long as
///   no other claim has got the job.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Claim: Send + Sync {
    /// The claimed job.
    fn job(&self) -> &Job;

    /// The run that the claim begins: a new id for each claim, known to the queue, so that leases protect nodes from
    /// the sweep.
    fn run(&self) -> &RunId;

    /// How long the lease lasts from the grant or the last renewal.
    fn lease(&self) -> Duration;

    /// How long the lease lasts from now; zero when it has ended.
    ///
    /// # Contract
    /// - Counted from the grant or from the start of the last renewal, however late their answers came.
    fn expires_in(&self) -> Duration;

    /// Renews the lease.
    ///
    /// # Contract
    /// - After `Ok` the lease lasts [`Claim::lease`] from the start of the call.
    /// - [`ErrorKind::LeaseLost`](crate::ErrorKind::LeaseLost), permanent, once another operator may hold the job:
    ///   stop the run at once.
    /// - A temporary error leaves the lease as it is: try again before it ends.
    /// - Cancel-safe.
    async fn renew(&self) -> Result<()>;

    /// Ends the job with its result: it will not be run again.
    ///
    /// # Contract
    /// - `Ok` means that the result is durable, and entered in the job's buildset.
    /// - The last result of a buildset makes its report due ([`Queue::claim_report`]), in the same step.
    /// - A temporary error leaves the lease as it is: call it again before it ends. If the first call has arrived, the
    ///   second one is `Ok` and changes nothing.
    /// - Idempotent with [`Queue::publish`]: the same job published later is not run again.
    /// - `LeaseLost` when another operator may hold the job.
    async fn complete(&self, result: &RunResult) -> Result<()>;

    /// Returns the job to be tried again, not before `after` has passed.
    ///
    /// # Contract
    /// - Counts as a failed attempt: the next claim's [`Job::failed_attempts`] is one more.
    /// - The delay survives restarts.
    async fn retry(self: Box<Self>, after: Duration, why: &str) -> Result<()>;

    /// Returns the job at once, as if it had not been claimed: at shutdown.
    ///
    /// # Contract
    /// - Does not count as an attempt.
    async fn hand_back(self: Box<Self>) -> Result<()>;

    /// Makes the job a dead letter.
    ///
    /// # Contract
    /// - It is kept with the reason, and listed by [`DeadLetters::list`].
    /// - In its buildset the job has ended, without a result.
    async fn reject(self: Box<Self>, why: &str) -> Result<()>;
}

/// A lease on one report. If it is dropped without an ending, the lease runs out and the report is due again.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Delivery: Send + Sync {
    /// The report.
    fn report(&self) -> &BuildsetReport;

    /// Earlier tries that ended with [`retry`](Self::retry).
    fn failed_attempts(&self) -> u32;

    /// The names of the reporters that have it already.
    fn delivered(&self) -> &BTreeSet<String>;

    /// How long the lease lasts: the time for one try.
    fn lease(&self) -> Duration;

    /// Ends the report: every reporter has it.
    ///
    /// # Contract
    /// - `Ok` means durable: it is not delivered again.
    async fn done(self: Box<Self>) -> Result<()>;

    /// Returns the report to be tried again, not before `after` has passed.
    ///
    /// # Contract
    /// - The next delivery's [`failed_attempts`](Self::failed_attempts) is one more, and its
    ///   [`delivered`](Self::delivered) is what was given here.
    /// - The delay survives restarts.
    async fn retry(self: Box<Self>, after: Duration, delivered: &BTreeSet<String>) -> Result<()>;

    /// Keeps the report as undelivered: it was refused for good.
    ///
    /// # Contract
    /// - It is kept with the reason, and listed by [`UndeliveredReports::list_undelivered`].
    async fn give_up(self: Box<Self>, why: &str, delivered: &BTreeSet<String>) -> Result<()>;
}

/// Lists and ends reports that were refused for good. For people; the pipeline itself does not need it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait UndeliveredReports: Send + Sync {
    /// Lists undelivered reports, oldest first, at most `limit`.
    ///
    /// # Contract
    /// - Listing changes nothing.
    async fn list_undelivered(&self, limit: usize) -> Result<Vec<UndeliveredReport>>;

    /// Makes a report due again, with all its attempts. Returns whether there was such a report.
    ///
    /// # Contract
    /// - `Ok(true)` means durable. Reporters that have it already do not get it again.
    async fn retry_undelivered(&self, id: &BuildsetId) -> Result<bool>;

    /// Deletes an undelivered report. Returns whether there was one.
    ///
    /// # Contract
    /// - `Ok(true)` means durable.
    async fn drop_undelivered(&self, id: &BuildsetId) -> Result<bool>;
}

/// A report that was refused for good, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UndeliveredReport {
    /// The report.
    pub report: BuildsetReport,
    /// Why it was refused.
    pub why: String,
    /// When, where the backend knows.
    pub at: Option<Timestamp>,
    /// The names of the reporters that have it.
    pub delivered: BTreeSet<String>,
}

impl UndeliveredReport {
    /// A report that no reporter has.
    pub fn new(report: BuildsetReport, why: impl Into<String>) -> Self {
        Self { report, why: why.into(), at: None, delivered: BTreeSet::new() }
    }
}

setters!(UndeliveredReport { at / with_at: Option<Timestamp>, delivered / with_delivered: BTreeSet<String> });

/// Counts of jobs and reports, by where they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueDepth {
    /// Waiting to be claimed, including those that wait for a retry.
    pub waiting: u64,
    /// Claimed.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// Reports that are due, including those that wait for a retry or are being delivered.
    #[serde(default)]
    pub reports: u64,
    /// Reports that were refused for good.
    #[serde(default)]
    pub undelivered: u64,
}

impl QueueDepth {
    /// These counts of jobs; no reports.
    pub fn new(waiting: u64, leased: u64, dead: u64) -> Self {
        Self { waiting, leased, dead, reports: 0, undelivered: 0 }
    }

    /// Whether a job waits or runs, or a report is due.
    pub fn is_busy(&self) -> bool {
        self.waiting + self.leased + self.reports > 0
    }
}

setters!(QueueDepth { reports / with_reports: u64, undelivered / with_undelivered: u64 });

/// Since when the oldest job and the oldest report wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueAges {
    /// When the oldest job was created that waits to be claimed; none when no job waits.
    pub waiting: Option<Timestamp>,
    /// When the last run ended of the oldest report that is due; none when no report is.
    pub report: Option<Timestamp>,
}

impl QueueAges {
    /// These times.
    pub fn new(waiting: Option<Timestamp>, report: Option<Timestamp>) -> Self {
        Self { waiting, report }
    }
}

/// Lists and ends dead letters: jobs that were rejected, or could not be read. For people; the pipeline itself does
/// not need it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Lists dead letters, oldest first, at most `limit`.
    ///
    /// # Contract
    /// - Listing changes nothing.
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>>;

    /// Puts a dead letter's job back on the queue with all its attempts available again. Returns whether there was
    /// such a letter.
    ///
    /// # Contract
    /// - `Ok(true)` means durable: the letter is gone, and the job waits to be claimed.
    /// - `Ok(false)` when no letter has this [`DeadLetter::id`]: another caller may have taken it.
    /// - A letter whose job could not be read stays, with a permanent
    ///   [`ErrorKind::Invalid`](crate::ErrorKind::Invalid).
    async fn requeue(&self, letter: &str) -> Result<bool>;

    /// Deletes a dead letter. Returns whether there was one.
    ///
    /// # Contract
    /// - `Ok(true)` means durable. The job is not run, also when it is published again.
    async fn remove(&self, letter: &str) -> Result<bool>;
}

/// A job that nobody will run, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its name for [`DeadLetters::requeue`] and [`DeadLetters::remove`]: the job's id where the job could be read.
    pub id: String,
    /// The job; none when it could not be read.
    pub job: Option<Job>,
    /// Why it was rejected.
    pub why: String,
    /// When, where the backend knows.
    pub at: Option<Timestamp>,
}

impl DeadLetter {
    /// A dead letter without a readable job.
    pub fn new(id: impl Into<String>, why: impl Into<String>) -> Self {
        Self { id: id.into(), job: None, why: why.into(), at: None }
    }

    /// The dead letter of a job, named by the job's id.
    pub fn of_job(job: Job, why: impl Into<String>) -> Self {
        Self { job: Some(job.clone()), ..Self::new(job.id.as_str(), why) }
    }

    /// Why a job is a dead letter whose lease ran out so many times.
    pub fn lost_leases_reason(count: u32) -> String {
        format!("its lease ran out {count} times: operators may be dying of it")
    }
}

setters!(DeadLetter { job / with_job: Option<Job>, at / with_at: Option<Timestamp> });

// ---- 3. nodes ------------------------------------------------------------------------------------------------------

/// Makes nodes and deletes them.
///
/// ```
/// use std::sync::Arc;
///
/// use pushbutton_core::{Journal, Node, NodeRequest, OwnedResource, Provisioner, Result, RunId, async_trait};
///
/// /// One machine that is always there, for tests with a single slot.
/// struct OneMachine;
///
/// #[async_trait]
/// impl Provisioner for OneMachine {
///     async fn provision(&self, request: &NodeRequest, _: &Arc<dyn Journal>) -> Result<Node> {
///         Ok(Node::ssh("rack-7", request.label.clone(), "192.0.2.7", "stack"))
///     }
///
///     async fn release(&self, _: &RunId, _: &Arc<dyn Journal>) -> Result<()> {
///         Ok(()) // nothing was made
///     }
///
///     async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
///         Ok(Vec::new())
///     }
/// }
/// ```
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Provisioner: Send + Sync {
    /// Makes a node and waits until it accepts SSH connections.
    ///
    /// A provisioner that makes something which outlives the process records it in `journal` first, so that a crash
    /// between the request and the answer leaks nothing.
    ///
    /// # Contract
    /// - Whatever it makes carries the owner, the installation and the run, from the first request on.
    /// - Fails fast once the node cannot come up, with the cloud's own words
    ///   ([`Error::for_people`](crate::Error::for_people)), and at the latest at the request's deadline. It may begin after a
    ///   wait for the boots of other nodes, of at most three times that length.
    /// - May fail or be dropped half-way: [`release`](Self::release) then deletes what was made.
    /// - Permanent errors are those that another attempt cannot fix (no such flavor). A full cloud is temporary.
    /// - An error that no job could avoid here, such as a refused login, says so
    ///   ([`Error::affecting_all_jobs`](crate::Error::affecting_all_jobs)): the job then returns to the queue.
    async fn provision(&self, request: &NodeRequest, journal: &Arc<dyn Journal>) -> Result<Node>;

    /// Deletes all that was made for a run.
    ///
    /// # Contract
    /// - Idempotent: when nothing is left to delete it is `Ok`.
    /// - Works for a half-made and for a vanished node, and after a restart of this process.
    /// - `Ok` means gone, or certain to go: the cloud has accepted every deletion.
    /// - It is dropped after [`RELEASE_TIMEOUT`](crate::pipeline::RELEASE_TIMEOUT), and called again by the next sweep.
    /// - Never touches what carries another owner, another installation or another run.
    async fn release(&self, run: &RunId, journal: &Arc<dyn Journal>) -> Result<()>;

    /// Lists all that carries our owner and our installation.
    async fn list_owned(&self) -> Result<Vec<OwnedResource>>;
}

/// Remembers what a provisioner is about to make, so that a crash between a cloud's act and its answer leaks nothing.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Journal: Send + Sync {
    /// Records that something is about to be made; returns the number of the entry.
    ///
    /// # Contract
    /// - `Ok` means durable: call it before the cloud.
    async fn intend(&self, run: &RunId, kind: ResourceKind, name: &str) -> Result<u64>;

    /// Records the cloud's id for it.
    async fn made(&self, entry: u64, id: &str) -> Result<()>;

    /// Records that it is gone, or was never made.
    ///
    /// # Contract
    /// - Idempotent.
    async fn gone(&self, entry: u64) -> Result<()>;

    /// Lists what is not gone, oldest first.
    async fn open(&self) -> Result<Vec<JournalEntry>>;
}

/// Something that was made, or was about to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JournalEntry {
    /// The number of the entry.
    pub entry: u64,
    /// The run it is for.
    pub run: RunId,
    /// What it is.
    pub kind: ResourceKind,
    /// The name it was to be given.
    pub name: String,
    /// The cloud's id for it; none when the answer never came.
    pub id: Option<String>,
    /// When the intent was recorded.
    pub at: Timestamp,
}

impl JournalEntry {
    /// An intent without an answer.
    pub fn new(entry: u64, run: RunId, kind: ResourceKind, name: impl Into<String>, at: Timestamp) -> Self {
        Self { entry, run, kind, name: name.into(), id: None, at }
    }
}

setters!(JournalEntry { id / with_id: Option<String> });

// ---- 4. stages -----------------------------------------------------------------------------------------------------

/// Runs stages on nodes.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use pushbutton_core::{
///     CancellationToken, Executor, LineSink, Node, Result, Stage, StageContext, StageOutcome, StageStatus, async_trait,
/// };
///
/// /// Does nothing, until it is cancelled or the time limit passes.
/// struct Idle;
///
/// #[async_trait]
/// impl Executor for Idle {
///     async fn execute(
///         &self,
///         stage: &Stage,
///         _: &[Node],
///         _: &StageContext,
///         lines: &LineSink,
///         cancel: &CancellationToken,
///     ) -> Result<StageOutcome> {
///         let began = Instant::now();
///         lines.line(format!("stage {} waits", stage.name));
///         let status = tokio::select! {
///             () = cancel.cancelled() => StageStatus::Cancelled,
///             () = tokio::time::sleep(stage.timeout) => StageStatus::TimedOut,
///         };
///         Ok(StageOutcome::new(status, began.elapsed()))
///     }
/// }
/// ```
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Executor: Send + Sync {
    /// Runs one stage to its end.
    ///
    /// # Contract
    /// - Output goes to `lines` while it is written, in order, and to the console log in [`StageContext::log_dir`]. A
    ///   slow or closed reader never blocks the stage.
    /// - Ends within the stage's time limit (`TimedOut`), or soon after `cancel` (`Cancelled`): TERM to every process
    ///   of the stage, output still read, KILL after a grace time. No process of the stage outlives the call, also
    ///   when the call is dropped.
    /// - An unreachable node is `Unreachable`, whatever else failed.
    /// - A stage that failed with output that a pattern of [`Stage::retry_when`] matches has a
    ///   [`StageOutcome::lab_fault`], and so may one whose test results are incomplete; no other stage has one.
    /// - A stage that failed because the change does not merge has a [`StageOutcome::merge_conflict`]. Only what runs on
    ///   this machine can say so: nothing that a node sends counts.
    /// - What the stage does wrong is an outcome. An error means that the stage could not be run at all.
    async fn execute(
        &self,
        stage: &Stage,
        nodes: &[Node],
        context: &StageContext,
        lines: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome>;
}

/// Looks up how changes stand upstream.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ChangeStatusLookup: Send + Sync {
    /// Whether a job's patch set is still worth a machine.
    ///
    /// # Contract
    /// - Answers from upstream's present state, not from memory.
    /// - A change that upstream no longer shows is [`PatchsetStatus::Closed`].
    /// - Temporary when upstream cannot be asked: the caller decides whether to go on without an answer.
    async fn status(&self, job: &Job) -> Result<PatchsetStatus>;
}

/// How a job's patch set stands upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatchsetStatus {
    /// It is the newest of an open change.
    Current,
    /// A newer one exists.
    Superseded {
        /// The newest.
        by: PatchsetNumber,
    },
    /// The change was merged, abandoned or deleted.
    Closed,
}

// ---- 5. reports ----------------------------------------------------------------------------------------------------

/// Reports to people and systems: the steps of runs as they go, and each buildset once it is complete.
///
/// An operator sends steps, for a history or a dashboard. A handler delivers the reports of buildsets, for people on
/// the review. A reporter implements what it needs.
///
/// ```
/// use pushbutton_core::{BuildsetReport, Reporter, Result, async_trait};
///
/// /// Prints one line for each buildset.
/// struct Printer;
///
/// #[async_trait]
/// impl Reporter for Printer {
///     async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
///         println!("{}: {}", report.target(), report.summary());
///         Ok(())
///     }
///
///     fn name(&self) -> &str {
///         "printer"
///     }
/// }
/// ```
#[async_trait]
pub trait Reporter: Send + Sync {
    /// Records one step of a run. Default: no step is needed.
    ///
    /// # Contract
    /// - Updates of one run come in order. Those of several runs may mix.
    /// - An update that it does not need is `Ok`, and costs next to nothing.
    /// - Returns within 30 seconds. A call that takes longer is dropped.
    /// - Temporary errors are retried for `Finished`, for a minute. All other errors are logged and dropped.
    async fn report(&self, update: &Update) -> Result<()> {
        let _ = update;
        Ok(())
    }

    /// Reports a complete buildset. Default: there is nobody to report it to.
    ///
    /// # Contract
    /// - Idempotent by [`BuildsetReport::id`]: given the same report twice, also after a restart, it reports once.
    /// - Returns within two minutes. A call that takes longer is dropped, and made again.
    /// - Temporary errors are retried, for days. After any other error the report is kept as undelivered.
    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        let _ = report;
        Ok(())
    }

    /// A short name for logs, as `gerrit` or `slack:#storage-ci`.
    fn name(&self) -> &str;
}

/// Calls a person of the lab, who is not upstream.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Alerter: Send + Sync {
    /// Asks for a person's attention.
    ///
    /// # Contract
    /// - `Ok` means that another system has accepted the message, such as a mail server.
    /// - Never sent to the review, nor to anyone upstream.
    async fn alert(&self, subject: &str, text: &str) -> Result<()>;
}

// ---- boxes and shared pointers implement what they point to --------------------------------------------------------

#[async_trait]
impl<T: EventSource + ?Sized> EventSource for Box<T> {
    async fn next(&mut self) -> Result<Option<Event>> {
        (**self).next().await
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        (**self).commit(position).await
    }
}

/// Implements a trait of `&self` methods for `Box<T>` and `Arc<T>`.
macro_rules! forward {
    ($trait:ident { $($body:tt)* }) => {
        forward!(@one Box, $trait { $($body)* });
        forward!(@one Arc, $trait { $($body)* });
    };
    (@one $pointer:ident, $trait:ident {
        $(async fn $method:ident(&self $(, $argument:ident: $type:ty)* $(,)?) -> $output:ty;)*
        $(fn $plain:ident(&self) -> $plain_output:ty;)*
    }) => {
        #[async_trait]
        impl<T: $trait + ?Sized> $trait for $pointer<T> {
            $(async fn $method(&self $(, $argument: $type)*) -> $output {
                (**self).$method($($argument),*).await
            })*
            $(fn $plain(&self) -> $plain_output {
                (**self).$plain()
            })*
        }
    };
}

forward!(EventStore {
    async fn has_seen(&self, event: &EventId) -> Result<bool>;
    async fn record(&self, event: &EventId) -> Result<bool>;
    async fn position(&self) -> Result<Option<Position>>;
    async fn commit(&self, position: &Position) -> Result<()>;
});
forward!(Queue {
    async fn publish(&self, job: &Job) -> Result<()>;
    async fn claim(&self, filter: &JobFilter) -> Result<Box<dyn Claim>>;
    async fn broadcast(&self, message: &ControlMessage) -> Result<()>;
    async fn control_messages(&self) -> Result<ControlMessages>;
    async fn claim_report(&self) -> Result<Box<dyn Delivery>>;
    async fn depth(&self) -> Result<QueueDepth>;
    async fn waiting(&self) -> Result<Vec<WaitingJobs>>;
    async fn ages(&self) -> Result<QueueAges>;
    async fn leased_runs(&self) -> Result<Vec<RunId>>;
    async fn installation(&self) -> Result<InstallationId>;
});
forward!(DeadLetters {
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>>;
    async fn requeue(&self, letter: &str) -> Result<bool>;
    async fn remove(&self, letter: &str) -> Result<bool>;
});
forward!(UndeliveredReports {
    async fn list_undelivered(&self, limit: usize) -> Result<Vec<UndeliveredReport>>;
    async fn retry_undelivered(&self, id: &BuildsetId) -> Result<bool>;
    async fn drop_undelivered(&self, id: &BuildsetId) -> Result<bool>;
});
forward!(Provisioner {
    async fn provision(&self, request: &NodeRequest, journal: &Arc<dyn Journal>) -> Result<Node>;
    async fn release(&self, run: &RunId, journal: &Arc<dyn Journal>) -> Result<()>;
    async fn list_owned(&self) -> Result<Vec<OwnedResource>>;
});
forward!(Journal {
    async fn intend(&self, run: &RunId, kind: ResourceKind, name: &str) -> Result<u64>;
    async fn made(&self, entry: u64, id: &str) -> Result<()>;
    async fn gone(&self, entry: u64) -> Result<()>;
    async fn open(&self) -> Result<Vec<JournalEntry>>;
});
forward!(Executor {
    async fn execute(
        &self,
        stage: &Stage,
        nodes: &[Node],
        context: &StageContext,
        lines: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome>;
});
forward!(DependencyLookup {
    async fn find(&self, which: &ChangeSelector) -> Result<Vec<LinkedChange>>;
});
forward!(ChangeStatusLookup {
    async fn status(&self, job: &Job) -> Result<PatchsetStatus>;
});
forward!(TriggerLookup {
    async fn patchset(&self, change: ChangeNumber, patchset: PatchsetNumber) -> Result<PatchsetDetails>;
    async fn group_members(&self, group: &str) -> Result<Vec<Account>>;
});
forward!(Reporter {
    async fn report(&self, update: &Update) -> Result<()>;
    async fn deliver(&self, report: &BuildsetReport) -> Result<()>;
    fn name(&self) -> &str;
});
forward!(Alerter {
    async fn alert(&self, subject: &str, text: &str) -> Result<()>;
});
forward!(HistoryLog {
    async fn append(&self, entry: HistoryEntry) -> Result<()>;
    fn dropped(&self) -> u64;
});
forward!(RunHistory {
    async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>>;
    async fn verdicts(&self) -> Result<Vec<(String, u64)>>;
    async fn last_success(&self) -> Result<Option<Timestamp>>;
    async fn failure_counts(&self, query: &FailureQuery) -> Result<Vec<FailureCount>>;
    async fn find_run(&self, run: &RunId) -> Result<Option<RunRecord>>;
    async fn actions(&self, limit: usize) -> Result<Vec<ControlMessage>>;
    async fn deliveries(&self, limit: usize) -> Result<Vec<DeliveryRecord>>;
    async fn participants(&self) -> Result<Vec<ParticipantRecord>>;
});
forward!(Check {
    async fn check(&self) -> Vec<Finding>;
});
