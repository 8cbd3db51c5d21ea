//! Runs of core's operator outlast what shorter than four fifths of the lease disturbs the broker.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_amqp::AmqpQueue;
use pushbutton_core::memory::{FakeStage, MemoryExecutor, MemoryProvisioner, MemoryReporter};
use pushbutton_core::samples::{AT, job_on};
use pushbutton_core::{
    ControlMessage, HumanDuration, JobFilter, JobSpec, LogLocation, Operator, Queue, QueueDepth, Shutdown,
    Stage, StageStatus, UpdateKind, Verdict,
};
use pushbutton_testbed::{Broker, Version};
use tokio::sync::oneshot;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::common::{self, proxy::Proxy};
use crate::long_run::connections;

const LEASE: Duration = Duration::from_secs(40);
const OUTAGE: Duration = Duration::from_secs(32);
/// Four timeouts, and as many heartbeats.
const ALARM: Duration = Duration::from_secs(20);

/// An operator of one job, which has one stage.
struct Lab {
    reporter: Arc<MemoryReporter>,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<()>,
}

impl Lab {
    fn start(queue: Arc<AmqpQueue>, run_time: Duration) -> Self {
        let (reporter, shutdown) = (Arc::<MemoryReporter>::default(), Shutdown::new());
        let executor = MemoryExecutor::new(move |_, _| FakeStage::ends(StageStatus::Passed).after(run_time));
        let stage = Stage::new("tempest".parse().unwrap(), "tempest.yml");
        let spec = JobSpec::new("devstack".parse().unwrap()).stage(stage);
        let jobs = [("tempest".parse().unwrap(), spec)];
        let operator =
            Operator::new(queue, MemoryProvisioner::default(), executor, jobs, LogLocation::new("logs"))
                .with_reporter(Arc::clone(&reporter));
        let end = shutdown.clone();
        let running = tokio::spawn(async move {
            let _ = operator.run(&end).await.unwrap();
        });
        Self { reporter, shutdown, running }
    }

    /// Waits until the stage runs.
    async fn started(&self) {
        let started = async {
            let is_start = |kind: &UpdateKind| matches!(kind, UpdateKind::StageStarted { .. });
            while !self.reporter.updates().iter().any(|update| is_start(&update.kind)) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        common::soon(started).await;
    }

    /// The run has ended, was the only one, and has passed.
    async fn assert_undisturbed(self, other: &AmqpQueue) {
        common::depth_until(other, |depth| depth == QueueDepth::default().with_reports(1u64)).await;
        self.shutdown.begin();
        common::soon(self.running).await.unwrap();
        let updates = self.reporter.updates();
        let runs = updates.iter().filter(|update| matches!(update.kind, UpdateKind::Started)).count();
        let verdicts: Vec<_> = self.reporter.results().into_iter().map(|report| report.verdict).collect();
        assert_eq!((runs, verdicts), (1, vec![Verdict::Success]), "{updates:#?}");
    }
}

/// Disturbs a running job for four fifths of the lease, with another operator waiting for a job.
async fn four_fifths_of_the_lease(
    operator: Arc<AmqpQueue>,
    other: Arc<AmqpQueue>,
    disturb: impl AsyncFnOnce(),
) {
    common::publish(&other, &job_on(1, "tempest")).await;
    let lab = Lab::start(operator, OUTAGE + LEASE / 4);
    lab.started().await;
    let (stop, stopped) = oneshot::channel();
    let rival = tokio::spawn({
        let other = Arc::clone(&other);
        async move {
            let filter = JobFilter::names(["tempest".parse().unwrap()]);
            tokio::select! {
                claim = other.claim(&filter) => panic!("the rival got {:?}", claim.unwrap().job()),
                _ = stopped => {}
            }
        }
    });
    disturb().await;
    lab.assert_undisturbed(&other).await;
    stop.send(()).expect("the rival got nothing");
    rival.await.unwrap();
}

/// The operator is cut off alone: the other one has the broker all the time, and would claim the job.
async fn cut_off(version: Version) {
    let broker = common::private(version);
    let proxy = Proxy::before(&broker.url).await;
    let operator = common::connect(&common::config(&proxy.url, "cut", LEASE)).await;
    let other = common::connect(&common::config(&broker.url, "cut", LEASE)).await;
    four_fifths_of_the_lease(operator, other, async || {
        proxy.close();
        sleep(OUTAGE).await;
        proxy.open();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_cut_off_from_rabbitmq_3_10_for_four_fifths_of_the_lease_keeps_its_run() {
    cut_off(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_cut_off_from_rabbitmq_4_for_four_fifths_of_the_lease_keeps_its_run() {
    cut_off(Version::V4).await;
}

/// The broker is stopped (SIGSTOP), and its connections stay open.
async fn frozen(version: Version) {
    let broker = common::private(version);
    let config = common::config(&broker.url, "frozen", LEASE);
    let (operator, other) = (common::connect(&config).await, common::connect(&config).await);
    four_fifths_of_the_lease(operator, other, async || {
        block_in_place(|| broker.freeze());
        sleep(OUTAGE).await;
        block_in_place(|| broker.thaw());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_3_10_that_is_frozen_for_four_fifths_of_the_lease_disturbs_no_run() {
    frozen(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_4_that_is_frozen_for_four_fifths_of_the_lease_disturbs_no_run() {
    frozen(Version::V4).await;
}

/// A broker whose memory is full blocks its connections. None is given up and replaced, although the alarm lasts for
/// many timeouts; no run is disturbed; a participant that connects meanwhile waits on its one connection.
async fn blocked(version: Version) {
    let broker = common::private(version);
    let mut config = common::config(&broker.url, "blocked", LEASE * 3);
    (config.timeout, config.heartbeat) = (HumanDuration::secs(5), HumanDuration::secs(5));
    let (operator, other) = (common::connect(&config).await, common::connect(&config).await);
    four_fifths_of_the_lease(operator, Arc::clone(&other), async || {
        memory(&broker, &["absolute", "1MB"]);
        // The broker blocks a connection when it next writes.
        let message = ControlMessage::Unmuted { by: "alice".into(), at: AT };
        while let Ok(()) = other.broadcast(&message).await {}
        let late = common::soon(common::connect(&config)).await;
        assert!(!late.is_connected(), "it cannot know how far the log goes");
        let before = connections(&broker);
        let mut seen = before.clone();
        let alarm = async {
            loop {
                seen.extend(connections(&broker));
                sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = tokio::time::timeout(ALARM, alarm).await;
        assert_eq!(seen, before, "no connection was replaced during the alarm");
        assert!(other.is_connected());
        memory(&broker, &["0.8"]);
        let connected = async {
            while !late.is_connected() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        common::soon(connected).await;
    })
    .await;
}

fn memory(broker: &Broker, limit: &[&str]) {
    block_in_place(|| broker.ctl(&[&["rabbitmqctl", "set_vm_memory_high_watermark"], limit].concat()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_alarm_of_rabbitmq_3_10_replaces_no_connection_and_disturbs_no_run() {
    blocked(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_alarm_of_rabbitmq_4_replaces_no_connection_and_disturbs_no_run() {
    blocked(Version::V4).await;
}
