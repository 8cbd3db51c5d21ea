//! The only file that names all backends: it makes parts from the configuration, and says which part is which.

/// What each part finds when it checks itself.
pub(crate) mod checks;
/// Handlers that stand by for each other.
mod standby;

use std::sync::Arc;
use std::time::Duration;

use pushbutton_amqp::AmqpQueue;
use pushbutton_ansible::AnsibleExecutor;
use pushbutton_core::memory::StaticNodes;
use pushbutton_core::pipeline::{BreakerPolicy, ReportGuard, SupersedePolicy, Sweeper};
use pushbutton_core::retry::{Backoff, RetryPolicy};
use pushbutton_core::{
    Error, ErrorKind, Executor, Journal, LogLocation, Provisioner, Queue, Result, Triggers,
};
use pushbutton_gerrit::Gerrit;
use pushbutton_openstack::OpenStackProvisioner;
use pushbutton_store::{Store, StoreConfig, StoreQueue};

use crate::config::{BreakerConfig, Config, Nodes, SupersedeConfig, SweepConfig};
use crate::mail::MailAlarm;

pub(crate) use self::standby::{Source, intake};

/// The file in the state folder.
pub(crate) const STORE_FILE: &str = "pushbutton.db";

/// How long commands that somebody waits for try to reach a server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The embedded store. Its folder is made when missing.
pub(crate) async fn store(config: &Config) -> Result<Store> {
    make_state(config)?;
    Store::open(config.state.join(STORE_FILE)).await
}

fn make_state(config: &Config) -> Result<()> {
    std::fs::create_dir_all(&config.state).map_err(|error| {
        let message = format!("cannot make the state folder: {error}; mend `state`");
        Error::permanent(ErrorKind::Config, message).with("folder", config.state.display())
    })
}

/// What carries the jobs: RabbitMQ where the configuration names one, else the store.
pub(crate) async fn queue(config: &Config, store: &Store) -> Result<Carrier> {
    Ok(match &config.rabbitmq {
        Some(rabbitmq) => Carrier::Broker(Arc::new(AmqpQueue::connect(rabbitmq.clone()).await?)),
        None => Carrier::File(Arc::new(embedded_queue(store))),
    })
}

/// One of the two queues.
pub(crate) enum Carrier {
    Broker(Arc<AmqpQueue>),
    File(Arc<StoreQueue>),
}

impl Carrier {
    /// As the pipeline takes it.
    pub(crate) fn shared(&self) -> Arc<dyn Queue> {
        match self {
            Self::Broker(queue) => Arc::clone(queue) as Arc<dyn Queue>,
            Self::File(queue) => Arc::clone(queue) as Arc<dyn Queue>,
        }
    }

    /// Ends it in an orderly way: what was claimed for nobody goes back at once, and not when its lease ends.
    pub(crate) async fn close(&self) {
        if let Self::Broker(queue) = self {
            queue.close().await;
        }
    }
}

/// The store's own queue.
pub(crate) fn embedded_queue(store: &Store) -> StoreQueue {
    store.queue(StoreConfig::new("").lease.into())
}

/// Waits until the queue answers.
///
/// # Errors
/// [`ErrorKind::Unreachable`] when it does not within `patience`; permanent errors at once.
pub(crate) async fn reach_queue(config: &Config, queue: &dyn Queue, patience: Duration) -> Result<()> {
    let Some(rabbitmq) = &config.rabbitmq else { return queue.depth().await.map(drop) };
    let unreachable = |error: Option<Error>| {
        let message = format!(
            "cannot reach RabbitMQ at {}; start it, or mend `rabbitmq.url` (`pushbutton-bin check` tells more)",
            rabbitmq.address()
        );
        let unreachable = Error::permanent(ErrorKind::Unreachable, message);
        error.into_iter().fold(unreachable, Error::because)
    };
    within(patience, || queue.depth()).await.map(drop).map_err(|error| match error {
        Some(error) if !error.is_temporary() => error,
        error => unreachable(error),
    })
}

/// Waits until Gerrit lets us in.
///
/// # Errors
/// As [`reach_queue`].
pub(crate) async fn reach_gerrit(gerrit: &Gerrit, patience: Duration) -> Result<()> {
    let config = gerrit.config();
    let version = within(patience, || gerrit.version()).await.map_err(|error| match error {
        Some(error) if !error.is_temporary() => error,
        error => {
            let message = format!(
                "cannot reach Gerrit at {}:{}; mend `gerrit.host` and `gerrit.port`, or wait for the server with --wait",
                config.host, config.port
            );
            error.into_iter().fold(Error::permanent(ErrorKind::Unreachable, message), Error::because)
        }
    })?;
    tracing::info!("{}@{}:{} runs Gerrit {version}", config.user, config.host, config.port);
    Ok(())
}

/// Tries until it works, fails for good, or the patience is at its end; then the last temporary error, if there was one.
async fn within<T, F, Fut>(patience: Duration, mut call: F) -> std::result::Result<T, Option<Error>>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let mut last = None;
    let tries = async {
        let mut backoff = Backoff::new(RetryPolicy::SHORT.first, RetryPolicy::SHORT.cap);
        loop {
            match call().await {
                Err(error) if error.is_temporary() => last = Some(error),
                result => return result,
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    };
    match tokio::time::timeout(patience, tries).await {
        Ok(result) => result.map_err(Some),
        Err(_) => Err(last),
    }
}

/// The Gerrit of the configuration; connects when first asked.
pub(crate) fn gerrit(config: &Config) -> Result<Arc<Gerrit>> {
    Gerrit::new(config.gerrit.clone())
}

/// The rules, compiled; what our own account says never triggers.
pub(crate) fn triggers(config: &Config) -> Result<Triggers> {
    Triggers::compile(config.triggers.clone(), config.gerrit.own_names())
}

/// Where nodes come from.
pub(crate) fn provisioner(config: &Config, store: &Store) -> Result<Arc<dyn Provisioner>> {
    Ok(match &config.nodes {
        Nodes::Cloud(cloud) => Arc::new(OpenStackProvisioner::new(
            cloud.as_ref().clone(),
            config.owner.clone(),
            Arc::new(store.journal()),
        )?),
        Nodes::Machines(machines) => Arc::new(StaticNodes::new(machines.clone())?),
    })
}

/// What clears away what crashes have left.
pub(crate) fn sweeper(
    config: &Config,
    provisioner: Arc<dyn Provisioner>,
    queue: Arc<dyn Queue>,
    store: &Store,
) -> Sweeper {
    tune(Sweeper::new(provisioner, queue), &config.sweep, Arc::new(store.journal()))
}

/// A sweeper as the configuration wishes it.
pub(crate) fn tune(sweeper: Sweeper, config: &SweepConfig, journal: Arc<dyn Journal>) -> Sweeper {
    sweeper.with_journal(journal).with_interval(config.every.into()).with_safety_age(config.safety_age.into())
}

/// When this lab falls silent, and whom it calls then.
pub(crate) fn mute(config: &Config) -> Result<Arc<ReportGuard>> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mute = ReportGuard::new(format!("operator {}", host.trim())).with_limit(config.operator.mute_after);
    Ok(Arc::new(match &config.alarm {
        Some(alarm) => mute.with_alerter(Arc::new(MailAlarm::new(&alarm.mail)?)),
        None => mute,
    }))
}

/// What makes jobs pointless.
pub(crate) fn supersede(config: &Config) -> SupersedePolicy {
    let SupersedeConfig { newer_patchset, closed } = config.supersede;
    SupersedePolicy { newer_patchset, closed }
}

/// When to stop taking jobs that would get no machine.
pub(crate) fn breaker(config: &Config) -> BreakerPolicy {
    let BreakerConfig { failures, pause, pause_cap } = config.operator.breaker.clone();
    BreakerPolicy { failures, pause: pause.into(), pause_cap: pause_cap.into() }
}

/// What runs playbooks. What a killed operator left running is ended beside the work that begins.
pub(crate) fn executor(config: &Config) -> Result<Arc<dyn Executor>> {
    make_state(config)?;
    let executor = Arc::new(AnsibleExecutor::new(config.ansible.clone(), &config.state)?);
    let sweeping = executor.clone();
    tokio::spawn(async move { sweeping.end_strays().await });
    Ok(executor)
}

/// Where logs lie.
pub(crate) fn logs(config: &Config) -> LogLocation {
    LogLocation { dir: config.logs.dir.clone(), url: config.logs.url.clone() }
}
