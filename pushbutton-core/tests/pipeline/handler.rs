//! Events become jobs exactly once, in order, and nothing is committed before it is durable.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use pushbutton_core::clock::FixedClock;
use pushbutton_core::memory::{
    MemoryEventStore, MemoryExecutor, MemoryProvisioner, MemoryQueue, MemoryReporter, MemorySource,
};
use pushbutton_core::{
    ChangeNumber, ErrorKind, Event, EventId, EventMatch, EventSource, EventStore, Handler, HandlerStats,
    LogLocation, Operator, PatchsetNumber, Pipeline, Position, Queue, Result, Shutdown, Trigger, Triggers,
    Verdict, async_trait, samples,
};

use crate::lab::tempest;

fn triggers() -> Triggers {
    let on = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let recheck =
        Trigger::new("recheck", on, ["tempest".parse().unwrap()]).with_projects(["openstack/*".into()]);
    Triggers::compile(vec![recheck], vec!["acme-ci".into()]).unwrap()
}

/// The `n`th event, a second after the one before.
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

/// A source whose last committed position can be read while the handler has it.
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
async fn rechecks_become_jobs_in_order_and_noise_does_not() {
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

#[tokio::test(start_paused = true)]
async fn the_same_event_again_is_no_second_job_also_after_a_restart() {
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
async fn both_halves_end_by_themselves_when_all_jobs_of_a_finite_source_are_done() {
    let reporter = Arc::new(MemoryReporter::default());
    let queue = MemoryQueue::default();
    let source = MemorySource::of((1..=3).map(|n| event(n, "bob", "recheck")).collect());
    let handler = Handler::new(source, triggers(), queue.clone());
    let operator = operator(queue, "tempest").with_slots(2).with_reporter(reporter.clone());
    let pipeline = Pipeline::new(handler, operator).unwrap();
    let (handled, worked) = pipeline.run(&Shutdown::new()).await.unwrap();
    assert_eq!((handled.jobs, worked.finished, worked.unfinished), (3, 3, 0));
    assert!(reporter.reports().iter().all(|report| report.verdict == Verdict::Success));
}

fn operator(queue: MemoryQueue, job: &str) -> Operator {
    let (cloud, executor) = (MemoryProvisioner::default(), MemoryExecutor::default());
    Operator::new(queue, cloud, executor, [(job.parse().unwrap(), tempest())], LogLocation::new("logs"))
}

#[tokio::test]
async fn a_pipeline_refuses_triggers_that_call_for_undefined_jobs() {
    let queue = MemoryQueue::default();
    let handler = Handler::new(MemorySource::of(vec![]), triggers(), queue.clone());
    let error = Pipeline::new(handler, operator(queue, "unit")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("not defined: tempest"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_job_carries_the_label_of_its_node_where_the_handler_knows_it() {
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
async fn a_recheck_that_runs_nothing_is_recorded_so_that_the_next_counts_as_the_second() {
    let (queue, store): (Arc<MemoryQueue>, Arc<MemoryEventStore>) = Default::default();
    let (mut refused, chatter) = (event(1, "bob", "recheck"), event(2, "bob", "nice"));
    refused.change.status = pushbutton_core::ChangeStatus::Abandoned;
    handle(vec![refused.clone(), chatter.clone()], &queue, &store).await;
    assert_eq!(queue.depth().await.unwrap().waiting, 0);
    assert!(store.has_seen(&refused.id).await.unwrap());
    assert!(!store.has_seen(&chatter.id).await.unwrap(), "what can never run need not be remembered");
}
