//! A third operator, inside of the test: the library with an executor that panics at every third stage. A part that
//! panics must cost its own attempt and nothing else.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use pushbutton_amqp::{AmqpConfig, AmqpQueue};
use pushbutton_core::memory::{FakeStage, MemoryExecutor};
use pushbutton_core::{JobSpec, LogLocation, Operator, OperatorStats, Queue, Shutdown, Stage, StageStatus};
use pushbutton_openstack::{OpenStackConfig, OpenStackProvisioner};

use crate::configuration::{Configuration, EVENTS, LEASE, node};
use crate::servers::OWNER;

pub(crate) struct EmbeddedOperator {
    shutdown: Shutdown,
    thread: JoinHandle<OperatorStats>,
}

impl EmbeddedOperator {
    /// Starts it with the queue and the cloud of this configuration.
    pub(crate) fn start(configuration: &Configuration<'_>) -> Self {
        let broker = format!(
            "url: {}\nprefix: {OWNER}\nlease: {LEASE}s\ntimeout: 7s\nheartbeat: 4s\nmax_lost_leases: 1000\n",
            configuration.broker_url
        );
        let broker: AmqpConfig = serde_yaml::from_str(&broker).unwrap();
        let mut cloud: serde_yaml::Value = serde_yaml::from_str(&configuration.cloud_section()).unwrap();
        cloud.apply_merge().unwrap();
        let cloud: OpenStackConfig = serde_yaml::from_value(cloud).unwrap();
        let logs = LogLocation::new(configuration.logs).with_url("http://127.0.0.1:8000".to_owned());
        let shutdown = Shutdown::new();
        let requested = shutdown.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(run(broker, cloud, logs, &requested))
        });
        Self { shutdown, thread }
    }

    /// Shuts it down. Returns what it did, and how many stages panicked.
    pub(crate) fn end(self) -> (OperatorStats, u32) {
        self.shutdown.begin();
        (self.thread.join().unwrap(), STAGES.load(Relaxed) / 3)
    }
}

static STAGES: AtomicU32 = AtomicU32::new(0);

async fn run(
    broker: AmqpConfig,
    cloud: OpenStackConfig,
    logs: LogLocation,
    shutdown: &Shutdown,
) -> OperatorStats {
    let queue = AmqpQueue::connect(broker).await.unwrap();
    let installation = queue.installation().await.unwrap();
    let provisioner = OpenStackProvisioner::new(cloud, OWNER.parse().unwrap(), installation).unwrap();
    let executor = MemoryExecutor::new(|_, _| {
        assert!(!(STAGES.fetch_add(1, Relaxed) + 1).is_multiple_of(3), "this stage panics on purpose");
        FakeStage::ends(StageStatus::Passed).after(Duration::from_secs(1))
    });
    let job = |job: &&str| {
        let spec = JobSpec::new(node(job).parse().unwrap())
            .with_attempts(1000u32)
            .with_boot_timeout(Duration::from_secs(90))
            .stage(Stage::new("test".parse().unwrap(), "none.yml"));
        (job.parse().unwrap(), spec)
    };
    let jobs: Vec<_> = EVENTS.iter().flat_map(|(_, jobs)| jobs.iter().map(job)).collect();
    Operator::new(queue, provisioner, executor, jobs, logs)
        .with_retry_delays(Duration::from_secs(1), Duration::from_secs(5))
        .with_shutdown_deadline(Duration::from_secs(5))
        .run(shutdown)
        .await
        .unwrap()
}
