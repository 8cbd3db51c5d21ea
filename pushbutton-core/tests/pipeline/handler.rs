//! Events become jobs exactly once and in order, and a position is committed only when its jobs are durable.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use pushbutton_core::clock::FixedClock;
use pushbutton_core::memory::{
    MemoryEventStore, MemoryExecutor, MemoryProvisioner, MemoryQueue, MemoryReporter, MemorySource,
};
use pushbutton_core::{
    Account, ChangeNumber, ErrorKind, Event, EventId, EventKind, EventMatch, EventSource, EventStore,
    Handler, HandlerStats, LogLocation, Operator, PatchsetNumber, Pipeline, Position, Queue, Result,
    Shutdown, Trigger, Triggers, Verdict, async_trait, samples,
};

use crate::lab::tempest;

fn triggers() -> Triggers {
    let on = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let recheck =
        Trigger::new("recheck", on, ["tempest".parse().unwrap()]).with_projects(["openstack/*".into()]);
    Triggers::compile(vec![recheck], vec!["acme-ci".into()]).unwrap()
}

/// The event with the number `n`, one second after the previous one.
fn event(n: u64, author: &str, text: &str) -> Event {
    let mut event = samples::comment(author, text);
    event.change.number = ChangeNumber(n);
    event.id =
        EventId::comment(event.change.number, event.patchset.number, event.kind.actor().unwrap(), text, 1);
    event.position = Position::at(samples::AT + jiff::SignedDuration::from_secs(n as i64));
    event
}

async fn handle(events: Vec<Event>, queue: &Arc<MemoryQueue>, store: &Arc<MemoryEventStore>) -> HandlerStats {
    handle_from(MemorySource::of(events), queue, store).await
}

async fn handle_from(
    source: impl EventSource + 'static,
    queue: &Arc<MemoryQueue>,
    store: &Arc<MemoryEventStore>,
) -> HandlerStats {
    Handler::new(source, triggers(), queue.clone())
        .with_event_store(store.clone())
        .with_clock(FixedClock::at(samples::AT))
        .run(&Shutdown::new())
        .await
        .unwrap()
}

/// A source whose committed position can be read while the handler owns it.
struct Committing {
    inner: MemorySource,
    committed: Arc<Mutex<Option<Position>>>,
}

#[async_trait]
impl EventSource for Committing {
    async fn next(&mut self) -> Result<Option<Event>> {
        self.inner.next().await
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        *self.committed.lock().unwrap() = Some(position.clone());
        self.inner.commit(position).await
    }
}

#[tokio::test(start_paused = true)]
async fn rechecks_become_jobs_in_order_and_other_comments_do_not() {
    let (queue, store) = Default::default();
    let events = (1..=200).map(|n| event(n, "bob", if n % 2 == 0 { "recheck" } else { "nice" })).collect();
    let committed = Arc::default();
    let source = Committing { inner: MemorySource::of(events), committed: Arc::clone(&committed) };
    let stats = handle_from(source, &queue, &store).await;
    assert_eq!((stats.events, stats.jobs, stats.duplicates), (200, 100, 0));
    for n in 1..=100 {
        assert_eq!(
            queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap().job().change.number,
            ChangeNumber(2 * n)
        );
    }
    let position: Option<Position> = committed.lock().unwrap().clone();
    assert_eq!(position.unwrap().at, samples::AT + jiff::SignedDuration::from_secs(200));
    assert_eq!(store.position().await.unwrap(), None, "the source alone owns the position");
}

/// A clock that shows a later time whenever it is read.
struct Ticking(FixedClock, std::sync::atomic::AtomicI64);

impl pushbutton_core::clock::Clock for Ticking {
    fn now(&self) -> pushbutton_core::Timestamp {
        let ticks = self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.0.now() + jiff::SignedDuration::from_secs(ticks)
    }
}

/// core.md S3-1: in a catch-up both are accepted before the first one's job is made.
#[tokio::test(start_paused = true)]
async fn s3_1_a_change_that_is_closed_right_after_its_recheck_closes_the_job_of_that_recheck() {
    let (queue, store): (Arc<MemoryQueue>, Arc<MemoryEventStore>) = Default::default();
    let recheck = event(1, "bob", "recheck");
    let mut abandoned = event(1, "bob", "abandoned");
    abandoned.kind = EventKind::ChangeAbandoned;
    abandoned.id = EventId::comment(ChangeNumber(1), PatchsetNumber(2), &Account::of("bob"), "abandoned", 1);
    Handler::new(MemorySource::of(vec![recheck, abandoned]), triggers(), queue.clone())
        .with_event_store(store)
        .with_clock(Ticking(FixedClock::at(samples::AT), Default::default()))
        .run(&Shutdown::new())
        .await
        .unwrap();
    let closed = queue.control_messages().await.unwrap().next().await.unwrap().unwrap();
    let claim = queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap();
    assert!(matches!(closed, pushbutton_core::ControlMessage::Closed { .. }), "{closed:?}");
    assert!(closed.affects(claim.job()), "{closed:?} {:?}", claim.job());
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_event_makes_no_second_job_also_after_a_restart() {
    let (queue, store) = Default::default();
    let recheck = event(1, "bob", "recheck");
    handle(vec![recheck.clone(), recheck.clone()], &queue, &store).await;
    let again = handle(vec![recheck], &queue, &store).await;
    assert_eq!((again.duplicates, again.jobs), (1, 0));
    assert_eq!(queue.depth().await.unwrap().waiting, 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_patch_set_is_broadcast_for_tested_projects() {
    let (queue, store): (Arc<MemoryQueue>, _) = Default::default();
    let mut other = samples::patchset_created();
    other.change.project = "acme/private".parse().unwrap();
    handle(vec![other, samples::patchset_created()], &queue, &store).await;
    let mut messages = queue.control_messages().await.unwrap();
    let expected = pushbutton_core::ControlMessage::Superseded {
        change: samples::change().number,
        by: PatchsetNumber(2),
        at: samples::AT,
    };
    assert_eq!(messages.next().await.unwrap().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_with_a_finite_source_ends_when_all_its_jobs_are_done() {
    let reporter = Arc::new(MemoryReporter::default());
    let queue = MemoryQueue::default();
    let source = MemorySource::of((1..=3).map(|n| event(n, "bob", "recheck")).collect());
    let handler = Handler::new(source, triggers(), queue.clone());
    let operator = operator(queue, "tempest").with_slots(2).with_reporter(reporter.clone());
    let pipeline = Pipeline::new(handler, operator).unwrap();
    let (handled, worked) = pipeline.run(&Shutdown::new()).await.unwrap();
    assert_eq!((handled.jobs, worked.finished, worked.unfinished), (3, 3, 0));
    assert!(reporter.results().iter().all(|report| report.verdict == Verdict::Success));
}

fn operator(queue: MemoryQueue, job: &str) -> Operator {
    let (cloud, executor) = (MemoryProvisioner::default(), MemoryExecutor::default());
    Operator::new(queue, cloud, executor, [(job.parse().unwrap(), tempest())], LogLocation::new("logs"))
}

#[tokio::test]
async fn a_pipeline_rejects_triggers_with_undefined_jobs() {
    let queue = MemoryQueue::default();
    let handler = Handler::new(MemorySource::of(vec![]), triggers(), queue.clone());
    let error = Pipeline::new(handler, operator(queue, "unit")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("not defined: tempest"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_job_carries_its_node_label_when_the_handler_knows_it() {
    let queue = MemoryQueue::default();
    let operator = operator(queue.clone(), "tempest");
    Handler::new(MemorySource::of(vec![event(1, "bob", "recheck")]), triggers(), queue.clone())
        .with_labels(operator.labels())
        .run(&Shutdown::new())
        .await
        .unwrap();
    let claim = queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap();
    assert_eq!(claim.job().label.as_ref().map(|label| label.as_str()), Some("devstack"));
}

#[tokio::test(start_paused = true)]
async fn a_recheck_that_starts_no_job_is_recorded_so_that_the_next_one_is_counted_as_the_second() {
    let (queue, store): (Arc<MemoryQueue>, Arc<MemoryEventStore>) = Default::default();
    let (mut refused, other) = (event(1, "bob", "recheck"), event(2, "bob", "nice"));
    refused.change.status = pushbutton_core::ChangeStatus::Abandoned;
    handle(vec![refused.clone(), other.clone()], &queue, &store).await;
    assert_eq!(queue.depth().await.unwrap().waiting, 0);
    assert!(store.has_seen(&refused.id).await.unwrap());
    assert!(
        !store.has_seen(&other.id).await.unwrap(),
        "an event that can never start a job need not be recorded"
    );
}

/// core.md S2-3: anybody can comment `recheck`.
#[tokio::test(start_paused = true)]
async fn builds_of_a_change_are_limited_and_one_notice_says_so() {
    let (queue, store) = (Arc::new(MemoryQueue::default()), Arc::new(MemoryEventStore::default()));
    let reporter = Arc::new(MemoryReporter::default());
    let recheck = |n: u64, patchset: u32| {
        let mut event = event(n, "bob", "recheck");
        event.patchset.number = PatchsetNumber(patchset);
        let author = event.kind.actor().unwrap();
        event.id = EventId::comment(event.change.number, event.patchset.number, author, "recheck", 1);
        event
    };
    let events: Vec<Event> = (1..=5).map(|patchset| recheck(1, patchset)).chain([recheck(2, 1)]).collect();
    let stats = Handler::new(MemorySource::of(events.clone()), triggers(), queue.clone())
        .with_event_store(store.clone())
        .with_clock(FixedClock::at(samples::AT))
        .with_reporter(reporter.clone())
        .with_build_limit(2.try_into().unwrap())
        .run(&Shutdown::new())
        .await
        .unwrap();
    assert_eq!((stats.events, stats.jobs), (6, 3), "two of the first change, one of the second");
    let notices = reporter.delivered();
    assert_eq!(notices.len(), 1, "{notices:#?}");
    assert_eq!((notices[0].target().as_str(), notices[0].vote()), ("1,3", None));
    assert_eq!(notices[0].summary(), "tempest without a result");
    assert!(
        notices[0].missing[0].why.contains("at most 2 builds of one change within 24 hours"),
        "{notices:#?}"
    );
    // What was refused is handled: it does not come again when there is room.
    for event in &events {
        assert!(store.has_seen(&event.id).await.unwrap());
    }
}

/// core.md S1-2, variant: production and staging of one account must not take each other's comments for their own.
#[tokio::test]
async fn the_buildsets_of_two_installations_that_see_the_same_event_differ() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (queue, store) = (Arc::new(MemoryQueue::default()), Arc::new(MemoryEventStore::default()));
        handle(vec![event(1, "bob", "recheck")], &queue, &store).await;
        let claim = queue.claim(&pushbutton_core::JobFilter::any()).await.unwrap();
        ids.push(claim.job().buildset.id.clone());
    }
    assert_ne!(ids[0], ids[1]);
}
