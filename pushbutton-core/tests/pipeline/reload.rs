//! Rules and settings are replaced while a handler and an operator run.

use std::collections::BTreeMap;
use std::sync::Arc;

use pushbutton_core::memory::{FakeStage, MemoryQueue, MemorySource};
use pushbutton_core::{
    BreakerPolicy, ChangeNumber, ControlMessage, Event, EventId, EventMatch, Handler, JobFilter, JobName,
    NodeLabel, OperatorSettings, Queue as _, Rules, Shutdown, StageStatus, Trigger, Triggers, Verdict,
    samples,
};
use tokio::time::timeout;

use crate::lab::{Lab, MINUTE, broken, stage, tempest};

fn rules(word: &str, job: &str) -> Rules {
    let on = EventMatch::Comment { pattern: format!("^{word}"), from: vec![] };
    let job: JobName = job.parse().unwrap();
    let trigger = Trigger::new(word, on, [job.clone()]);
    let label: NodeLabel = "devstack".parse().unwrap();
    Rules::new(Triggers::compile(vec![trigger], vec![]).unwrap()).with_labels(BTreeMap::from([(job, label)]))
}

fn comment(n: u64, text: &str) -> Event {
    let mut event = samples::comment("bob", text);
    event.change.number = ChangeNumber(n);
    event.id =
        EventId::comment(event.change.number, event.patchset.number, event.kind.actor().unwrap(), text, 1);
    event
}

#[tokio::test(start_paused = true)]
async fn events_are_decided_by_the_rules_of_the_time_at_which_they_come() {
    let (events, source) = MemorySource::channel(8);
    let (queue, shutdown) = (Arc::new(MemoryQueue::default()), Shutdown::new());
    let old = rules("recheck", "tempest");
    let handler = Handler::new(source, old.triggers.clone(), queue.clone()).with_rules(old);
    let current = handler.rules();
    let ended = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { handler.run(&shutdown).await }
    });
    let claim =
        async |filter: JobFilter| timeout(MINUTE, queue.claim(&filter)).await.unwrap().unwrap().job().clone();
    for (n, text) in [(1, "recheck"), (2, "run-acme")] {
        events.send(comment(n, text)).await.unwrap();
    }
    assert_eq!(claim(JobFilter::any()).await.change.number.0, 1);
    while events.capacity() < 8 {
        tokio::task::yield_now().await;
    }

    current.replace(rules("run-acme", "unit"));
    for (n, text) in [(3, "recheck"), (4, "run-acme")] {
        events.send(comment(n, text)).await.unwrap();
    }
    let job = claim(JobFilter::names(["unit".parse().unwrap()])).await;
    assert_eq!((job.change.number.0, job.name.as_str()), (4, "unit"));
    assert_eq!(job.label.as_ref().map(NodeLabel::as_str), Some("devstack"));
    shutdown.begin();
    let stats = ended.await.unwrap().unwrap();
    assert_eq!((stats.events, stats.jobs), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_with_its_job_and_the_next_claim_goes_by_the_new_settings() {
    let lab = Lab::new(|stage, _| {
        FakeStage::ends(StageStatus::Passed).after(if stage == "tempest" { 10 * MINUTE } else { MINUTE })
    });
    lab.queue.publish(&samples::job_on(1, "tempest")).await.unwrap();
    let operator = lab.operator();
    let settings = operator.settings();
    assert_eq!(settings.get().slots, 1);
    let running = tokio::spawn({
        let shutdown = lab.shutdown.clone();
        async move { operator.run(&shutdown).await }
    });
    // In the middle of its longest stage, its name goes, its time is cut, and another job comes.
    tokio::time::sleep(5 * MINUTE).await;
    let unit = tempest().with_stages(vec![stage("unit")]).with_timeout(MINUTE);
    let name: JobName = "unit".parse().unwrap();
    settings.replace(
        OperatorSettings::new([(name.clone(), unit)])
            .with_filter(JobFilter::names([name]))
            .with_slots(2_usize),
    );
    // One waits that nobody defines any more; one is claimed beside the run that goes on.
    lab.queue.publish(&samples::job_on(2, "tempest")).await.unwrap();
    lab.queue.publish(&samples::job_on(3, "unit")).await.unwrap();
    tokio::time::sleep(2 * MINUTE).await;
    let done = |lab: &Lab| -> Vec<(u64, Verdict, usize)> {
        let results = lab.reporter.results().into_iter();
        results.map(|result| (result.job.change.number.0, result.verdict, result.stages.len())).collect()
    };
    assert_eq!(done(&lab), [(3, Verdict::Success, 1)], "claimed while the other ran");
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!(done(&lab)[1..], [(1, Verdict::Success, 3)], "with all stages and times of its begin");
    let depth = lab.queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.dead), (1, 0), "it waits for an operator that defines it");
    lab.shutdown.begin();
    running.await.unwrap().unwrap();
    lab.assert_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_claimed_while_its_definition_goes_is_no_dead_letter() {
    let lab = Lab::where_stage("none", StageStatus::Passed);
    let operator = lab.operator();
    let settings = operator.settings();
    let running = tokio::spawn({
        let shutdown = lab.shutdown.clone();
        async move { operator.run(&shutdown).await }
    });
    let names: [JobName; 2] = ["tempest".parse().unwrap(), "unit".parse().unwrap()];
    for n in 0..200 {
        let name = &names[usize::try_from(n % 2).unwrap()];
        let claimed = JobFilter::names([name.clone()]);
        settings.replace(OperatorSettings::new([(name.clone(), tempest())]).with_filter(claimed));
        lab.queue.publish(&samples::job_on(n, name.as_str())).await.unwrap();
        tokio::task::yield_now().await;
    }
    // Both names again: whatever still waits is run.
    settings.replace(OperatorSettings::new(names.map(|name| (name, tempest()))));
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!(lab.reporter.results().len(), 200);
    assert_eq!(lab.queue.depth().await.unwrap().dead, 0);
    lab.shutdown.begin();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_open_stays_open_under_another_policy() {
    let lab = Lab::where_stage("none", StageStatus::Passed).refuse_nodes(broken);
    for change in 0..5 {
        lab.queue.publish(&samples::job_on(change, "tempest")).await.unwrap();
    }
    let operator =
        lab.operator().with_breaker(BreakerPolicy::default().with_failures(2_u32).with_pause(30 * MINUTE));
    let (settings, health) = (operator.settings(), operator.health());
    let running = tokio::spawn({
        let shutdown = lab.shutdown.clone();
        async move { operator.run(&shutdown).await }
    });
    tokio::time::sleep(MINUTE).await;
    let open = health.borrow().breaker.clone();
    assert!(matches!(open, pushbutton_core::BreakerState::Open { failures: 2, .. }), "{open:?}");
    settings.update(|settings| settings.breaker = BreakerPolicy::default().with_failures(100_u32));
    tokio::time::sleep(5 * MINUTE).await;
    assert_eq!(health.borrow().breaker, open);
    assert_eq!(lab.cloud.request_count(), 2, "the pause goes on");
    lab.shutdown.begin();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_operator_announces_what_it_claims_now() {
    let lab = Lab::where_stage("none", StageStatus::Passed);
    let operator = lab.operator().with_name("operator one");
    let settings = operator.settings();
    let mut messages = lab.queue.control_messages().await.unwrap();
    let running = tokio::spawn({
        let shutdown = lab.shutdown.clone();
        async move { operator.run(&shutdown).await }
    });
    let mut announced = async || {
        let message = timeout(MINUTE, futures_util::StreamExt::next(&mut messages)).await.unwrap().unwrap();
        let ControlMessage::Operator(state) = message.unwrap() else { panic!("no announcement") };
        state.filter
    };
    assert_eq!(announced().await, JobFilter::any());
    let unit = JobFilter::names(["unit".parse().unwrap()]);
    settings.update(|settings| settings.filter = unit.clone());
    assert_eq!(announced().await, unit);
    lab.shutdown.begin();
    running.await.unwrap().unwrap();
}
