//! V6: while the cloud has no room, jobs wait and nothing is counted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use pushbutton_core::memory::{FakeStage, MemoryExecutor, MemoryProvisioner};
use pushbutton_core::samples;
use pushbutton_core::{
    Alerter, BreakerState, ControlMessage, ControlMessages, Error, ErrorKind, Health, Job, JobFilter,
    Journal, LogLocation, Node, NodeRequest, Operator, OperatorState, OwnedResource, Provisioner, Result,
    RunId, StageStatus, Verdict, async_trait,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::lab::{Lab, MINUTE, full};

const HOUR: Duration = Duration::from_secs(3600);

fn jobs(changes: std::ops::Range<u64>) -> Vec<Job> {
    changes.map(|change| samples::job_on(change, "tempest")).collect()
}

async fn closed(health: &mut watch::Receiver<Health>) {
    health.wait_for(|health| !health.no_room.is_empty()).await.unwrap();
}

/// Records alerts with the time since it was made.
struct Alerts(Instant, Mutex<Vec<(Duration, String)>>);

impl Alerts {
    fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now(), Mutex::default()))
    }

    fn all(&self) -> Vec<(Duration, String)> {
        self.1.lock().unwrap().clone()
    }
}

#[async_trait]
impl Alerter for Alerts {
    async fn alert(&self, subject: &str, text: &str) -> Result<()> {
        self.1.lock().unwrap().push((self.0.elapsed(), format!("{subject}\n{text}")));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn v6_a_full_cloud_costs_no_attempt_and_is_tried_by_one_job_at_intervals() {
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(full);
    let (operator, alerts) = (lab.operator().with_slots(4), Alerts::new());
    let operator = operator.with_alerter(Arc::clone(&alerts));
    let mut health = operator.health();
    let steps = async {
        closed(&mut health).await;
        let state = health.borrow().clone();
        assert_eq!((state.no_room.len(), state.no_room[0].label.as_str()), (1, "devstack"));
        assert!(state.no_room[0].last.contains("No valid host was found"), "{state:?}");
        tokio::time::sleep(MINUTE / 2 - Duration::from_secs(1)).await;
        // Those that were claimed before the first answer came.
        assert!(lab.cloud.request_count() <= 4, "{}", lab.cloud.request_count());
        // Without a gate, four slots would ask thousands of times.
        tokio::time::sleep(5 * HOUR).await;
        let asked = lab.cloud.request_count();
        assert!(
            (20..=60).contains(&asked),
            "pauses of a minute to a quarter of an hour, not {asked} requests"
        );
        let depth = lab.queue.depth().await.unwrap();
        assert_eq!((depth.waiting + depth.leased, depth.dead), (20, 0));
        assert_eq!(health.borrow().breaker, BreakerState::Closed, "the cloud is not broken");
        lab.cloud.refuse(None);
    };
    tokio::join!(lab.run_on(operator, jobs(0..20)), steps);
    let reports = lab.reporter.results();
    assert_eq!(reports.len(), 20);
    let right = |report: &pushbutton_core::RunResult| {
        (report.verdict == Verdict::Success, report.attempts) == (true, 1)
    };
    assert!(reports.iter().all(right), "no attempt was counted: {reports:#?}");
    let alerts = alerts.all();
    let [(after, text)] = &alerts[..] else { panic!("one alert: {alerts:?}") };
    assert!(*after >= HOUR && *after < HOUR + MINUTE, "{after:?}");
    assert!(text.contains("no room for devstack") && text.contains("No valid host was found"), "{text}");
    assert!(health.borrow().no_room.is_empty());
}

async fn next_announcement(messages: &mut ControlMessages) -> OperatorState {
    loop {
        if let ControlMessage::Operator(state) = messages.next().await.unwrap().unwrap() {
            return state;
        }
    }
}

/// Issue 10: people see which jobs wait for room, and which nobody can run.
#[tokio::test(start_paused = true)]
async fn an_operator_announces_its_jobs_and_the_labels_without_room() {
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(full);
    let job = samples::job("tempest");
    let filter = JobFilter::names([job.name.clone()]);
    let operator = lab.operator().with_filter(filter.clone()).with_name("operator host-3");
    let mut messages = lab.queue.control_messages().await.unwrap();
    let steps = async {
        let first = next_announcement(&mut messages).await;
        assert_eq!(
            (first.name.as_str(), &first.filter, first.no_room.len()),
            ("operator host-3", &filter, 0)
        );
        let began = Instant::now();
        lab.queue.publish(&job).await.unwrap();
        let closed = next_announcement(&mut messages).await;
        assert_eq!(closed.no_room[0].label.as_str(), "devstack");
        assert!(closed.no_room[0].last.contains("No valid host was found"), "{closed:?}");
        assert!(began.elapsed() <= 2 * MINUTE, "soon, and not more often than once a minute");
        let repeated = next_announcement(&mut messages).await;
        assert_eq!((repeated.id, repeated.no_room.len()), (first.id.clone(), 1));
        let after = began.elapsed();
        assert!(after > 10 * MINUTE && after <= 17 * MINUTE, "{after:?}");
        lab.cloud.refuse(None);
        let mut state = next_announcement(&mut messages).await;
        while !state.no_room.is_empty() {
            state = next_announcement(&mut messages).await;
        }
        lab.wait_until_idle().await;
        lab.shutdown.begin();
        while !state.ended {
            state = next_announcement(&mut messages).await;
        }
        assert_eq!(state.id, first.id);
    };
    tokio::join!(async { operator.run(&lab.shutdown).await.unwrap() }, steps);
}

#[tokio::test(start_paused = true)]
async fn v6_after_a_day_without_room_attempts_count() {
    let lab = Lab::where_stage("-", StageStatus::Passed).refuse_nodes(full);
    let began = Instant::now();
    lab.run(&samples::job("tempest")).await;
    let report = lab.report();
    assert_eq!((&report.verdict, report.attempts, report.verdict.vote()), (&Verdict::NodeFailure, 3, None));
    assert!(report.reason.unwrap().contains("No valid host was found"));
    let took = began.elapsed();
    assert!(took >= 24 * HOUR && took < 26 * HOUR, "{took:?}");
}

/// A cloud with room for a number of nodes.
struct Small {
    inner: MemoryProvisioner,
    room: usize,
    requests: Mutex<usize>,
}

#[async_trait]
impl Provisioner for Small {
    async fn provision(&self, request: &NodeRequest, journal: &Arc<dyn Journal>) -> Result<Node> {
        *self.requests.lock().unwrap() += 1;
        if request.label.as_str() == "devstack" && self.list_owned().await?.len() >= self.room {
            return Err(Error::temporary(ErrorKind::Exhausted, "Quota exceeded for instances"));
        }
        let node = self.inner.provision(request, journal).await;
        // The quota is used from the request on, and the node is up later.
        tokio::time::sleep(MINUTE).await;
        node
    }

    async fn release(&self, run: &RunId, journal: &Arc<dyn Journal>) -> Result<()> {
        self.inner.release(run, journal).await
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        self.inner.list_owned().await
    }
}

fn small(room: usize) -> Arc<Small> {
    Arc::new(Small { inner: MemoryProvisioner::default(), room, requests: Mutex::default() })
}

/// More slots than the quota has room: reviews got NODE_FAILURE after three minutes, while the lab's other runs went on.
#[tokio::test(start_paused = true)]
async fn v6_slots_beyond_the_quota_wait_for_a_run_to_end_and_no_longer() {
    let two_hours = |stage: &str| if stage == "install" { 119 * MINUTE } else { Duration::ZERO };
    let lab = Lab::new(move |stage, _| FakeStage::ends(StageStatus::Passed).after(two_hours(stage)))
        .with_spec(|spec| spec.stages[0] = spec.stages[0].clone().with_timeout(130 * MINUTE))
        .with_spec(|spec| spec.timeout = 180 * MINUTE);
    let cloud = small(2);
    let operator = lab.operator_with(Arc::clone(&cloud)).with_slots(4);
    let began = Instant::now();
    lab.run_on(operator, jobs(0..6)).await;
    let reports = lab.reporter.results();
    assert_eq!(reports.len(), 6);
    assert!(
        reports.iter().all(|report| report.verdict == Verdict::Success && report.attempts == 1),
        "{reports:#?}"
    );
    let took = began.elapsed();
    assert!(took < 6 * HOUR + 2 * MINUTE, "the room that a run leaves is used at once: {took:?}");
    let requests = *cloud.requests.lock().unwrap();
    assert!(requests < 60, "{requests} requests");
}

#[tokio::test(start_paused = true)]
async fn v6_jobs_of_other_labels_are_claimed_meanwhile() {
    let lab = Lab::where_stage("-", StageStatus::Passed);
    let cloud = small(0);
    let other = pushbutton_core::JobSpec::new("tiny".parse().unwrap()).stage(crate::lab::stage("unit"));
    let specs = [("tempest".parse().unwrap(), crate::lab::tempest()), ("unit".parse().unwrap(), other)];
    let executor = MemoryExecutor::new(|_, _| FakeStage::ends(StageStatus::Passed));
    let operator = Operator::new(lab.queue.clone(), cloud, executor, specs, LogLocation::new("logs"))
        .with_reporter(lab.reporter.clone());
    let mut health = operator.health();
    for job in jobs(0..3).into_iter().chain((0..3).map(|n| samples::job_on(n, "unit"))) {
        lab.queue.publish(&job).await.unwrap();
    }
    let steps = async {
        closed(&mut health).await;
        while lab.reporter.results().len() < 3 {
            tokio::time::sleep(MINUTE).await;
        }
        lab.shutdown.begin();
    };
    let (result, ()) = tokio::join!(operator.run(&lab.shutdown), steps);
    result.unwrap();
    let reports = lab.reporter.results();
    assert!(
        reports.iter().all(|report| report.job.name.as_str() == "unit" && report.verdict == Verdict::Success)
    );
    assert_eq!(lab.queue.depth().await.unwrap().waiting, 3);
}
