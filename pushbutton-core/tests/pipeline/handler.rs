//! Events become jobs exactly once, in order, and nothing is committed before it is durable.

use std::sync::Arc;

use pushbutton_core::clock::FixedClock;
use pushbutton_core::memory::{
    MemoryExecutor, MemoryEventStore, MemoryProvisioner, MemoryQueue, MemoryReporter, MemorySource, sample,
};
use pushbutton_core::trigger::On;
use pushbutton_core::{
    ChangeNumber, Event, EventId, Handler, EventStore, LogLocation, PatchsetNumber, Pipeline, Position, Queue,
    Shutdown, Trigger, Triggers, Verdict,
};

use crate::lab::tempest;

fn triggers() -> Triggers {
    let recheck = Trigger {
        name: "recheck".into(),
        on: EventMatch::Comment { pattern: "^recheck".into(), from: vec![] },
        projects: vec!["openstack/*".into()],
        branches: vec![],
        skip_kinds: vec![],
        wip: false,
        jobs: vec!["tempest".parse().unwrap()],
    };
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

async fn handle(
    events: Vec<Event>,
    queue: &Arc<MemoryQueue>,
    ledger: &Arc<MemoryEventStore>,
) -> pushbutton_core::pipeline::HandlerStats {
    Handler::new(Box::new(MemorySource::of(events)), triggers(), queue.clone())
        .with_event_store(ledger.clone())
        .with_clock(Arc::new(FixedClock::at(samples::AT)))
        .run(&Shutdown::new())
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn rechecks_become_jobs_in_order_and_noise_does_not() {
    let (queue, ledger) = Default::default();
    let events = (1..=200).map(|n| event(n, "bob", if n % 2 == 0 { "recheck" } else { "nice" })).collect();
    let intake = handle(events, &queue, &ledger).await;
    assert_eq!((intake.events, intake.jobs, intake.repeated), (200, 100, 0));
    for n in 1..=100 {
        assert_eq!(queue.claim().await.unwrap().job().change.number, ChangeNumber(2 * n));
    }
    assert_eq!(
        ledger.position().await.unwrap().unwrap().at,
        samples::AT + jiff::SignedDuration::from_secs(200)
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_event_again_is_no_second_job_also_after_a_restart() {
    let (queue, ledger) = Default::default();
    let recheck = event(1, "bob", "recheck");
    handle(vec![recheck.clone(), recheck.clone()], &queue, &ledger).await;
    let again = handle(vec![recheck], &queue, &ledger).await;
    assert_eq!((again.repeated, again.jobs), (1, 0));
    assert_eq!(queue.depth().await.unwrap().waiting, 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_patch_set_is_announced_for_projects_that_we_test() {
    let (queue, ledger): (Arc<MemoryQueue>, _) = Default::default();
    let mut other = samples::patchset_created();
    other.change.project = "acme/private".parse().unwrap();
    handle(vec![other, samples::patchset_created()], &queue, &ledger).await;
    let mut notices = queue.control_messages().await.unwrap();
    let expected = pushbutton_core::ControlMessage::Superseded {
        change: samples::change().number,
        by: PatchsetNumber(2),
        at: samples::AT,
    };
    assert_eq!(notices.next().await.unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn both_halves_end_by_themselves_when_a_finite_source_is_worked_off() {
    let reporter = Arc::new(MemoryReporter::default());
    let pipeline = Pipeline::builder()
        .source(MemorySource::of((1..=3).map(|n| event(n, "bob", "recheck")).collect()))
        .triggers(triggers())
        .provisioner(Arc::new(MemoryProvisioner::default()))
        .executor(Arc::new(MemoryExecutor::default()))
        .reporter(reporter.clone())
        .job(tempest())
        .logs(LogLocation { dir: "logs".into(), url: None })
        .slots(2)
        .build()
        .unwrap();
    let (intake, tally) = pipeline.run(&Shutdown::new()).await.unwrap();
    assert_eq!((intake.jobs, tally.finished, tally.unfinished), (3, 3, 0));
    assert!(reporter.reports().iter().all(|report| report.verdict == Verdict::Success));
}

#[tokio::test]
async fn a_builder_names_everything_that_is_missing() {
    let error = Pipeline::builder().triggers(triggers()).build().err().unwrap();
    for part in ["no source", "no provisioner", "no executor", "no logs", "a trigger names job tempest"] {
        assert!(error.message().contains(part), "{part} in {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_recheck_that_runs_nothing_is_remembered_too_so_that_the_next_is_the_second() {
    let (queue, ledger): (Arc<MemoryQueue>, Arc<MemoryEventStore>) = Default::default();
    let (mut refused, chatter) = (event(1, "bob", "recheck"), event(2, "bob", "nice"));
    refused.change.status = pushbutton_core::ChangeStatus::Abandoned;
    handle(vec![refused.clone(), chatter.clone()], &queue, &ledger).await;
    assert_eq!(queue.depth().await.unwrap().waiting, 0);
    assert!(ledger.has_seen(&refused.id).await.unwrap());
    assert!(!ledger.has_seen(&chatter.id).await.unwrap(), "what can never run need not be remembered");
}
