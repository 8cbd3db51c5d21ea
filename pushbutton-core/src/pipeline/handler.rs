//! The handler: events in, jobs out, and the reports of complete buildsets back. No position is committed before
//! everything that earlier events called for is durable.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::decider::{Decider, Observed, Refusal};
use super::delivery::ReportDelivery;
use super::dependencies::resolve_dependencies;
use super::merge_conflict::MergeConflictAlert;
use super::notify::notify;
use super::panics::restart_after_panic;
use super::report_guard::ReportGuard;
use super::rules::Rules;
use super::shutdown::Shutdown;
use super::supersede::{SupersedePolicy, control_message_of};
use crate::buildset::{Buildset, BuildsetReport, MissingJob};
use crate::clock::{Clock, SystemClock};
use crate::control::ControlMessage;
use crate::current::Current;
use crate::dependency::Dependency;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind, Position};
use crate::job::Job;
use crate::memory::MemoryEventStore;
use crate::names::{BuildsetId, InstallationId, JobName, NodeLabel};
use crate::report::{Update, UpdateKind};
use crate::retry::{Backoff, RetryPolicy};
use crate::shared_history::HistoryLog;
use crate::traits::{Alerter, DependencyLookup, EventSource, EventStore, Queue, Reporter, TriggerLookup};
use crate::trigger::{PlannedJob, Triggers};

/// Events whose jobs may be published at once. Measured on RabbitMQ 3.10: a window of 32 to 128 publishes ten times
/// as fast as one.
const WINDOW: usize = 64;

/// The shortest time between two commits of the position: a commit costs a write, and events after it are recorded
/// one by one anyway.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Notices that may wait to be delivered. More are dropped: they are not worth more memory.
const NOTICES: usize = 100;

/// How many different problems of triggers are sent to the lab's people, and how long sending one may take.
const MAX_ALERTED: usize = 100;
const ALERT_LIMIT: Duration = Duration::from_secs(60);

/// Gives the source's events to the triggers, publishes the jobs that they call for, and delivers the reports of
/// complete buildsets to the reporters.
pub struct Handler {
    source: Box<dyn EventSource>,
    rules: Current<Rules>,
    queue: Arc<dyn Queue>,
    event_store: Arc<dyn EventStore>,
    reporters: Vec<Arc<dyn Reporter>>,
    clock: Arc<dyn Clock>,
    report_guard: Option<Arc<ReportGuard>>,
    alerter: Option<Arc<dyn Alerter>>,
    dependencies: Option<Arc<dyn DependencyLookup>>,
    lookup: Option<Arc<dyn TriggerLookup>>,
    history: Option<Arc<dyn HistoryLog>>,
}

/// What a handler did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerStats {
    /// Events that came.
    pub events: u64,
    /// Events that were handled before.
    pub duplicates: u64,
    /// Jobs published.
    pub jobs: u64,
}

impl Handler {
    /// A handler that remembers events in memory, and broadcasts to operators which patch sets are superseded.
    pub fn new(source: impl EventSource + 'static, triggers: Triggers, queue: impl Queue + 'static) -> Self {
        Self {
            source: Box::new(source),
            rules: Current::new(Rules::new(triggers)),
            queue: Arc::new(queue),
            event_store: Arc::new(MemoryEventStore::default()),
            reporters: Vec::new(),
            clock: Arc::new(SystemClock),
            report_guard: None,
            alerter: None,
            dependencies: None,
            lookup: None,
            history: None,
        }
    }

    /// Decides by these rules instead of those that it was made with.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        self.rules.replace(rules);
        self
    }

    /// What it decides by, which may be replaced while it runs: events that are taken from the source from then on are
    /// decided by the new rules.
    pub fn rules(&self) -> Current<Rules> {
        self.rules.clone()
    }

    /// Looks up here what triggers ask for and events do not say: files, votes and groups. Needed if a trigger does
    /// ([`Triggers::lookups`]).
    #[must_use]
    pub fn with_lookup(mut self, lookup: impl TriggerLookup + 'static) -> Self {
        self.lookup = Some(Arc::new(lookup));
        self
    }

    /// Remembers handled events here. Default: in memory.
    #[must_use]
    pub fn with_event_store(mut self, event_store: impl EventStore + 'static) -> Self {
        self.event_store = Arc::new(event_store);
        self
    }

    /// Delivers the report of every buildset here, and sends every queued job.
    #[must_use]
    pub fn with_reporter(mut self, reporter: impl Reporter + 'static) -> Self {
        self.reporters.push(Arc::new(reporter));
        self
    }

    /// The label of the node that each job needs, so that only operators with such nodes claim it. Default: none is
    /// known.
    #[must_use]
    pub fn with_labels(self, labels: impl IntoIterator<Item = (JobName, NodeLabel)>) -> Self {
        self.rules.update(|rules| rules.labels = labels.into_iter().collect());
        self
    }

    /// Reads the time from this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Whether a newer patch set, an abandon or a merge cancels jobs of older patch sets. Default: all of them do.
    #[must_use]
    pub fn with_supersede(self, policy: SupersedePolicy) -> Self {
        self.rules.update(|rules| rules.supersede = policy);
        self
    }

    /// Counts the delivered reports for this [`ReportGuard`], and passes control messages to it. Reporters that must
    /// obey it are wrapped in a [`GuardedReporter`](crate::GuardedReporter). Default: reports are never muted.
    #[must_use]
    pub fn with_report_guard(mut self, guard: Arc<ReportGuard>) -> Self {
        self.report_guard = Some(guard);
        self
    }

    /// Looks up what each change depends on, so that its jobs carry it ([`Job::dependencies`]). Without an answer no job
    /// is made: the question is asked again until there is one. A change that cannot be tested, because it depends on an
    /// abandoned one or on itself, gets one report without results that says so. Default: jobs have no dependencies.
    #[must_use]
    pub fn with_dependencies(mut self, lookup: impl DependencyLookup + 'static) -> Self {
        self.dependencies = Some(Arc::new(lookup));
        self
    }

    /// Alerts a person when a report is refused for good, when a change does not merge, and when a trigger cannot be
    /// judged. Default: nobody.
    #[must_use]
    pub fn with_alerter(mut self, alerter: impl Alerter + 'static) -> Self {
        self.alerter = Some(Arc::new(alerter));
        self
    }

    /// Starts at most so many builds of one change within 24 hours; a build is all jobs that one event calls for. When
    /// there are more, the reporters get one report without results that says so. Default: any number.
    ///
    /// They are counted in this process, since its start: an event store cannot tell what an event called for.
    #[must_use]
    pub fn with_build_limit(self, builds: NonZeroU32) -> Self {
        self.rules.update(|rules| rules.build_limit = Some(builds));
        self
    }

    /// Appends to this history what became of each report. Default: nowhere.
    #[must_use]
    pub fn with_history(mut self, history: impl HistoryLog + 'static) -> Self {
        self.history = Some(Arc::new(history));
        self
    }

    pub(super) fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.queue)
    }

    /// Runs until the source ends or a shutdown begins. Delivers reports meanwhile.
    ///
    /// A graceful shutdown takes no new event and waits until the jobs of those taken are durable. A forced one
    /// leaves them: their positions are not committed, and they come again at the next start. Reports that are being
    /// delivered get half a minute; the next start delivers the others.
    ///
    /// # Errors
    /// Permanent errors of the source, the queue or the event store: a person must act.
    /// [`ErrorKind::Config`] if a trigger needs a look-up and there is none.
    ///
    /// # Cancel safety
    /// Dropping it is like a forced shutdown, without a last commit.
    pub async fn run(self, shutdown: &Shutdown) -> Result<HandlerStats> {
        self.run_until(shutdown, async {}).await
    }

    /// Runs like [`run`](Self::run). When a finite source has ended, reports are delivered until `drained`.
    pub(super) async fn run_until(
        self,
        shutdown: &Shutdown,
        drained: impl Future<Output = ()>,
    ) -> Result<HandlerStats> {
        let (queue, report_guard) = (self.queue(), self.report_guard.clone());
        let mut reporters = self.reporters.clone();
        reporters.push(Arc::new(MergeConflictAlert { alerter: self.alerter.clone() }));
        let delivery = ReportDelivery {
            queue: Arc::clone(&queue),
            reporters,
            report_guard: report_guard.clone(),
            alerter: self.alerter.clone(),
            clock: Arc::clone(&self.clock),
            history: self.history.clone(),
        };
        let (notices, to_deliver) = mpsc::channel(NOTICES);
        let end_of_delivery = Shutdown::new();
        let ingest = async {
            // On the heap: a handler would be a large future.
            let stats = Box::pin(self.ingest(notices, shutdown)).await;
            if stats.is_ok() && !shutdown.has_begun() {
                tokio::select! { () = drained => {}, () = shutdown.begun() => {} }
            }
            end_of_delivery.begin();
            stats
        };
        let forward_force = async {
            shutdown.forced().await;
            end_of_delivery.force();
            std::future::pending::<std::convert::Infallible>().await
        };
        let guard = async {
            if let Some(guard) = &report_guard {
                restart_after_panic("report guard", || guard.run(queue.as_ref())).await;
            }
            std::future::pending::<std::convert::Infallible>().await
        };
        let work = async {
            let (stats, ()) = tokio::try_join!(ingest, delivery.run(to_deliver, &end_of_delivery))?;
            if let Some(guard) = &report_guard {
                tokio::select! { () = guard.settled() => {}, () = shutdown.forced() => {} }
            }
            Ok(stats)
        };
        tokio::select! {
            stats = work => stats,
            never = forward_force => match never {},
            never = guard => match never {},
        }
    }

    async fn ingest(
        self,
        notices: mpsc::Sender<BuildsetReport>,
        shutdown: &Shutdown,
    ) -> Result<HandlerStats> {
        let Self {
            mut source,
            rules,
            queue,
            event_store,
            reporters,
            clock,
            dependencies,
            lookup,
            alerter,
            ..
        } = self;
        if let Some(needed) = rules.get().triggers.lookups().filter(|_| lookup.is_none()) {
            let message =
                format!("{needed}: files, votes or groups must be looked up, and the handler has no look-up");
            return Err(Error::permanent(ErrorKind::Config, message).during("handler::run"));
        }
        let mut decider = Decider::following(rules);
        if let Some(lookup) = lookup {
            decider = decider.with_lookup(lookup);
        }
        // It goes into the identity of buildsets. A source must not move on before it is known.
        let installation = tokio::select! {
            id = RetryPolicy::UNTIL_SUCCESS.run("queue::installation", || queue.installation()) => id?,
            () = shutdown.begun() => return Ok(HandlerStats::default()),
        };
        let ingest = Arc::new(IngestContext {
            decider,
            queue,
            event_store,
            reporters,
            clock,
            installation,
            dependencies,
            alerter,
            alerted: Mutex::default(),
            notices,
        });
        let mut in_flight = InFlight::default();
        let mut source_backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut read_after = Instant::now();
        loop {
            let commit_at = in_flight.commit_at();
            let next_event = async {
                tokio::time::sleep_until(read_after).await;
                source.next().await
            };
            let next = tokio::select! {
                biased;
                () = shutdown.begun() => Next::End,
                Some(processed) = in_flight.events.next(), if !in_flight.events.is_empty() => Next::Processed(processed),
                () = tokio::time::sleep_until(commit_at), if in_flight.to_commit.is_some() => Next::Commit,
                event = next_event, if in_flight.events.len() < WINDOW => match event {
                    Ok(Some(event)) => Next::Event(event),
                    Ok(None) => Next::End,
                    Err(error) if error.is_temporary() => Next::Retry(error),
                    Err(error) => return Err(error),
                },
            };
            match next {
                Next::Event(event) => {
                    source_backoff.reset();
                    in_flight.accept(&ingest, event);
                }
                // By its contract a source retries these itself. One that does not must not end the intake.
                Next::Retry(error) => {
                    let delay = source_backoff.next_delay();
                    tracing::warn!(?delay, "the event source failed, it is read again: {error}");
                    read_after = Instant::now() + delay;
                }
                Next::Processed(processed) => in_flight.settle(processed?),
                Next::Commit => in_flight.commit(source.as_mut()).await,
                Next::End => break,
            }
        }
        let rest = async {
            while let Some(processed) = in_flight.events.next().await {
                in_flight.settle(processed?);
            }
            Ok(())
        };
        let rest = tokio::select! { rest = rest => Some(rest), () = shutdown.forced() => None };
        match rest {
            Some(result) => result?,
            None => tracing::warn!(
                unfinished = in_flight.events.len(),
                "forced shutdown: these events will come again"
            ),
        }
        in_flight.commit(source.as_mut()).await;
        Ok(in_flight.stats)
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("rules", &self.rules.get()).finish_non_exhaustive()
    }
}

enum Next {
    Event(Event),
    Retry(Error),
    Processed(Result<Processed>),
    Commit,
    End,
}

/// What is needed to process an event, shared by all that are in flight.
struct IngestContext {
    decider: Decider,
    queue: Arc<dyn Queue>,
    event_store: Arc<dyn EventStore>,
    reporters: Vec<Arc<dyn Reporter>>,
    clock: Arc<dyn Clock>,
    installation: InstallationId,
    dependencies: Option<Arc<dyn DependencyLookup>>,
    alerter: Option<Arc<dyn Alerter>>,
    /// The problems that were sent to the lab's people already.
    alerted: Mutex<BTreeSet<String>>,
    notices: mpsc::Sender<BuildsetReport>,
}

/// An event that was processed: everything that it called for is durable.
struct Processed {
    position: Position,
    jobs: u64,
    duplicate: bool,
}

impl IngestContext {
    /// Broadcasts what an event supersedes, looks up what the triggers need, publishes its jobs, records it. While the
    /// broker or upstream is away this retries without a limit: a source must not move on before its events are durable.
    async fn process(
        &self,
        event: Event,
        observed: Observed,
        message: Option<ControlMessage>,
        now: Timestamp,
    ) -> Result<Processed> {
        let mut processed = Processed { position: event.position.clone(), jobs: 0, duplicate: false };
        let retry = RetryPolicy::UNTIL_SUCCESS;
        if retry.run("event_store::has_seen", || self.event_store.has_seen(&event.id)).await? {
            processed.duplicate = true;
            return Ok(processed);
        }
        if let Some(message) = &message {
            retry.run("queue::broadcast", || self.queue.broadcast(message)).await?;
        }
        let rules = Arc::clone(observed.rules());
        let evaluation = self.decider.complete(&event, observed).await;
        for what in &evaluation.unanswered {
            self.alert(&event, what).await;
        }
        let jobs = evaluation.jobs();
        let buildset = Buildset::of(&event.id, jobs.iter().map(|job| job.name.clone()))
            .in_installation(self.installation.as_str());
        let jobs = if self.may_start(&event, &buildset, now) { jobs } else { Vec::new() };
        let dependencies =
            if jobs.is_empty() { None } else { self.dependencies_of(&event, &buildset).await? };
        let jobs = if dependencies.is_some() { jobs } else { Vec::new() };
        let dependencies = dependencies.unwrap_or_default();
        for PlannedJob { name, trigger } in jobs {
            let label = rules.labels.get(&name).cloned();
            let job = Job::new(name, &event, trigger, now)
                .with_label(label)
                .with_dependencies(dependencies.clone())
                .with_buildset(buildset.clone());
            retry.run("queue::publish", || self.queue.publish(&job)).await?;
            tracing::info!(job = %job.name, id = %job.id, patchset = %job.target(), trigger = job.cause.trigger, "queued");
            processed.jobs += 1;
            notify(&self.reporters, &Update::new(job, UpdateKind::Queued, self.clock.now())).await;
        }
        retry.run("event_store::record", || self.event_store.record(&event.id)).await?;
        Ok(processed)
    }

    /// Tells the lab's people, once, that a trigger could not be judged, and that nothing was run.
    async fn alert(&self, event: &Event, what: &str) {
        let target = event.target();
        tracing::error!(patchset = %target, kind = event.kind.name(), "a trigger cannot be judged, it runs nothing: {what}");
        let Some(alerter) = &self.alerter else { return };
        {
            let mut alerted = self.alerted.lock().unwrap_or_else(PoisonError::into_inner);
            if alerted.len() >= MAX_ALERTED || !alerted.insert(what.to_owned()) {
                return;
            }
        }
        let text = format!(
            "An event on {target} ({}) was not run by a trigger that cannot be judged:\n{what}\n\n`pushbutton-bin check` shows what to fix, `pushbutton-bin explain {target}` what each trigger saw. A comment runs it again.",
            event.kind.name()
        );
        let call = alerter.alert("a trigger cannot be judged", &text);
        match tokio::time::timeout(ALERT_LIMIT, call).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("nobody could be alerted: {error}"),
            Err(_) => tracing::warn!("nobody could be alerted within {ALERT_LIMIT:?}"),
        }
    }

    /// Whether the build limit admits these jobs. If not, people are told once.
    fn may_start(&self, event: &Event, buildset: &Buildset, now: Timestamp) -> bool {
        if buildset.jobs.is_empty() {
            return true;
        }
        let change = event.change.number;
        let Some(Refusal { why, is_first }) = self.decider.refuse_build(change, now) else { return true };
        tracing::warn!(%change, by = event.kind.actor().map(ToString::to_string), "not run: {why}");
        if is_first {
            self.tell(event, buildset, &why);
        }
        false
    }

    /// Tells people on the review that no job of this buildset is started, and why.
    fn tell(&self, event: &Event, buildset: &Buildset, why: &str) {
        let missing = buildset.jobs.iter().map(|name| MissingJob::new(name.clone(), why)).collect();
        let (change, patchset) = (event.change.clone(), event.patchset.clone());
        // Not the identity of the buildset: if its jobs run after all, after a restart, their report must not count as posted.
        let id = BuildsetId::of([buildset.id.as_str(), "not started"]);
        let notice = BuildsetReport::without_results(id, change, patchset, missing);
        if self.notices.try_send(notice).is_err() {
            tracing::warn!(
                "too many notices wait already: this one is dropped, and no comment says why nothing was run"
            );
        }
    }

    /// What the change depends on; none if it cannot be tested, which people are told. While upstream is away this
    /// retries without a limit: without its answer a job would test something else.
    async fn dependencies_of(&self, event: &Event, buildset: &Buildset) -> Result<Option<Vec<Dependency>>> {
        let Some(lookup) = &self.dependencies else { return Ok(Some(Vec::new())) };
        let ask = || resolve_dependencies(lookup.as_ref(), &event.change, &event.patchset);
        let found = RetryPolicy::UNTIL_SUCCESS.run("dependencies::find", ask).await;
        let unmet = match found {
            Ok(found) => {
                for note in &found.notes {
                    tracing::info!(change = %event.change.number, "a dependency is ignored: {note}");
                }
                match found.unmet {
                    None => return Ok(Some(found.list)),
                    Some(why) => why,
                }
            }
            // A person must act, and the event comes again.
            Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Config) => return Err(error),
            // This one change cannot be asked about, and what its author wrote must not stop the intake.
            Err(error) => format!("what it depends on cannot be found out ({})", error.message()),
        };
        tracing::warn!(change = %event.change.number, "not run: {unmet}");
        self.tell(event, buildset, &unmet);
        Ok(None)
    }
}

/// Events that are being processed, in order, and how far the source may be committed.
#[derive(Default)]
struct InFlight {
    events: FuturesOrdered<BoxFuture<'static, Result<Processed>>>,
    /// The position of the last event taken, whether it called for something or not.
    last_taken: Option<Position>,
    to_commit: Option<Position>,
    committed_at: Option<Instant>,
    stats: HandlerStats,
}

impl InFlight {
    /// Judges an event, and starts to process it. An event that calls for nothing costs no more than the judgement.
    fn accept(&mut self, ingest: &Arc<IngestContext>, event: Event) {
        self.stats.events += 1;
        let observed = ingest.decider.observe(&event);
        let rules = observed.rules();
        // One time for the jobs and the message: a job of this very event must not count as older than the message.
        let now = ingest.clock.now();
        let message = control_message_of(&event, &rules.triggers, rules.supersede, now);
        let evaluation = observed.evaluation();
        let is_nothing = evaluation.is_decided() && evaluation.jobs().is_empty();
        if is_nothing && message.is_none() && !must_be_recorded(&rules.triggers, &event.kind) {
            let reasons = evaluation.reasons();
            tracing::debug!(patchset = %event.target(), kind = event.kind.name(), ?reasons, "nothing to run");
            return self.skip(event.position);
        }
        let ingest = Arc::clone(ingest);
        self.last_taken = Some(event.position.clone());
        self.events.push_back(Box::pin(async move { ingest.process(event, observed, message, now).await }));
    }

    /// Notes the position of an event that calls for nothing. It may be committed once all events before it are
    /// durable.
    fn skip(&mut self, position: Position) {
        if self.events.is_empty() {
            self.to_commit = Some(position);
        } else {
            self.last_taken = Some(position);
        }
    }

    fn settle(&mut self, processed: Processed) {
        self.stats.jobs += processed.jobs;
        self.stats.duplicates += u64::from(processed.duplicate);
        self.to_commit =
            if self.events.is_empty() { self.last_taken.take() } else { Some(processed.position) };
    }

    fn commit_at(&self) -> Instant {
        self.committed_at.map_or_else(Instant::now, |at| at + COMMIT_INTERVAL)
    }

    /// Commits the position up to which everything is durable. A failure loses nothing: events come again, and are
    /// known as duplicates.
    async fn commit(&mut self, source: &mut dyn EventSource) {
        let Some(position) = self.to_commit.take() else { return };
        self.committed_at = Some(Instant::now());
        if let Err(error) = source.commit(&position).await {
            tracing::warn!("could not commit the position: {error}");
        }
    }
}

/// A comment that matches a trigger's pattern is recorded even when it runs nothing: the next comment with the same
/// text is then known as the second.
fn must_be_recorded(triggers: &Triggers, kind: &EventKind) -> bool {
    matches!(kind, EventKind::CommentAdded { texts, .. } if texts.iter().any(|text| triggers.matches_comment(text)))
}
