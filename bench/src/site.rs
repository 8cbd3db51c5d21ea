//! An installation of its own for each measurement: a SQLite file, or a prefix on RabbitMQ.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pushbutton_amqp::{AmqpConfig, AmqpQueue};
use pushbutton_core::{
    Account, Cause, Change, ChangeNumber, EventId, EventStore, Job, Patchset, PatchsetNumber, Queue, RunId,
    RunResult, Timestamp, Verdict,
};
use pushbutton_store::{Store, StoreConfig};
use tempfile::TempDir;

/// A queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    RabbitMq,
}

impl Backend {
    pub(crate) const ALL: [Self; 2] = [Self::Sqlite, Self::RabbitMq];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::RabbitMq => "rabbitmq",
        }
    }
}

impl FromStr for Backend {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|backend| backend.name() == name);
        found.ok_or_else(|| anyhow::anyhow!("no backend {name:?}: sqlite or rabbitmq"))
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// An installation.
pub(crate) struct Site {
    pub(crate) backend: Backend,
    pub(crate) folder: TempDir,
    url: String,
    prefix: String,
}

/// A process of the installation, as far as the queue knows: with a connection of its own.
#[derive(Clone)]
pub(crate) struct Participant {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) events: Arc<dyn EventStore>,
    amqp: Option<AmqpQueue>,
}

impl Site {
    pub(crate) fn new(backend: Backend, url: &str) -> anyhow::Result<Self> {
        let prefix = format!("bench-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("state"))?;
        Ok(Self { backend, folder, url: url.to_owned(), prefix })
    }

    /// The section of a configuration that names the queue; empty where it is in the state folder.
    pub(crate) fn section(&self) -> String {
        match self.backend {
            Backend::Sqlite => String::new(),
            Backend::RabbitMq => format!("rabbitmq: {{url: \"{}\", prefix: {}}}\n", self.url, self.prefix),
        }
    }

    pub(crate) async fn participant(&self) -> anyhow::Result<Participant> {
        Ok(match self.backend {
            Backend::Sqlite => {
                let store =
                    Store::open_with(StoreConfig::new(self.folder.path().join("state/pushbutton.db")))
                        .await?;
                Participant { queue: Arc::new(store.queue()), events: Arc::new(store.events()), amqp: None }
            }
            Backend::RabbitMq => {
                let mut config = AmqpConfig::new(&self.url);
                config.prefix.clone_from(&self.prefix);
                let queue = AmqpQueue::connect(config).await?;
                let events = Arc::new(queue.event_store());
                Participant { queue: Arc::new(queue.clone()), events, amqp: Some(queue) }
            }
        })
    }
}

impl Participant {
    pub(crate) async fn close(self) {
        if let Some(amqp) = self.amqp {
            amqp.close().await;
        }
    }
}

/// The job of a recheck of change `n`: the only one of its buildset.
pub(crate) fn job(n: u64) -> anyhow::Result<Job> {
    let change = Change::new("openstack/cinder".parse()?, "master".parse()?, ChangeNumber(n))
        .with_subject("Acme driver: retry a failed attach once more");
    let git_ref = format!("refs/changes/{:02}/{n}/1", n % 100).parse()?;
    let patchset = Patchset::new(PatchsetNumber(1), format!("{n:040x}").parse()?, git_ref);
    let by = Account::of("bob");
    let id = EventId::comment(change.number, patchset.number, &by, "recheck", 1);
    let cause = Cause::new(id, "comment-added", "recheck").with_by("bob".to_owned());
    Ok(Job::for_patchset("unit".parse()?, change, patchset, cause, Timestamp::now()))
}

/// A job that passed.
pub(crate) fn success(job: &Job) -> RunResult {
    let took = Duration::from_secs(600);
    RunResult::new(RunId::generate(), job.clone(), Verdict::Success, Timestamp::now(), took)
}
