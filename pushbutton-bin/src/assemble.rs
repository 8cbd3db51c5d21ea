//! Makes the parts that the configuration names. The only module that chooses between backends.

/// The findings of `check`.
pub(crate) mod checks;
/// Standby of handlers: one is active, the others wait.
mod standby;

use std::collections::BTreeSet;
use std::sync::Arc;

use pushbutton_amqp::AmqpQueue;
use pushbutton_ansible::AnsibleExecutor;
use pushbutton_core::{
    DeadLetters, Decider, Error, ErrorKind, JobFilter, Operator, Provisioner, Queue, ReportGuard, Reporter,
    Result, RunHistory, StaticNodes, Sweeper, Triggers, UndeliveredReports,
};
use pushbutton_gerrit::{DryRunReporter, Gerrit, GerritReporter};
use pushbutton_openstack::OpenStackProvisioner;
use pushbutton_store::Store;

use crate::cli::{Comments, Work};
use crate::config::{Config, Nodes};
use crate::connect;
use crate::mail::MailAlerter;

pub(crate) use self::standby::source;

/// The file in the state folder.
pub(crate) const STORE_FILE: &str = "pushbutton.db";

/// The file in the state folder that gets the comments of `--dry-run`.
const COMMENTS_FILE: &str = "comments.txt";

/// Opens the embedded store. Creates its folder.
pub(crate) async fn store(config: &Config) -> Result<Store> {
    create_state_folder(config)?;
    Store::open_with(config.store.of_file(config.state.join(STORE_FILE))).await
}

fn create_state_folder(config: &Config) -> Result<()> {
    std::fs::create_dir_all(&config.state).map_err(|error| {
        let message = format!("cannot create the state folder: {error}; fix `state`");
        Error::permanent(ErrorKind::Config, message).with("folder", config.state.display())
    })
}

/// The queue: on RabbitMQ if the configuration names one, else in the store.
pub(crate) struct QueueBackend {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) dead_letters: Arc<dyn DeadLetters>,
    pub(crate) undelivered: Arc<dyn UndeliveredReports>,
    pub(crate) amqp: Option<Arc<AmqpQueue>>,
}

impl QueueBackend {
    /// Starts to connect; see [`connect::wait_for_queue`].
    pub(crate) async fn new(config: &Config, store: &Store) -> Result<Self> {
        let Some(rabbitmq) = &config.rabbitmq else {
            let queue = Arc::new(store.queue());
            let (dead_letters, undelivered) = (queue.clone(), queue.clone());
            return Ok(Self { queue, dead_letters, undelivered, amqp: None });
        };
        let queue = Arc::new(AmqpQueue::connect(rabbitmq.clone()).await?);
        let (dead_letters, undelivered) = (queue.clone(), queue.clone());
        Ok(Self { queue: queue.clone(), dead_letters, undelivered, amqp: Some(queue) })
    }

    /// For a command that a person waits for: with the store, and connected.
    pub(crate) async fn open(config: &Config) -> Result<(Store, Self)> {
        let store = store(config).await?;
        let backend = Self::new(config, &store).await?;
        connect::wait_for_queue(config, &backend.queue, connect::COMMAND_TIMEOUT).await?;
        Ok((store, backend))
    }

    /// Closes the connection: jobs that were claimed and not used return to the queue at once, not when the lease ends.
    pub(crate) async fn close(&self) {
        if let Some(amqp) = &self.amqp {
            amqp.close().await;
        }
    }
}

/// The Gerrit client; it connects at the first request.
pub(crate) fn gerrit(config: &Config) -> Result<Arc<Gerrit>> {
    Gerrit::new(config.gerrit()?.clone())
}

/// The compiled triggers. Nothing that our own account does triggers a job.
pub(crate) fn triggers(config: &Config) -> Result<Triggers> {
    let gerrit = config.gerrit()?;
    let name = gerrit.comment.name.as_deref().unwrap_or(&gerrit.user);
    Triggers::compile_named(config.triggers.clone(), gerrit.own_names(), Some(name))
}

/// What decides on events for `replay` and `explain`; a handler makes the same for itself. Nothing is looked up.
pub(crate) fn decider(config: &Config) -> Result<Decider> {
    let decider = Decider::new(triggers(config)?).with_supersede(config.supersede);
    Ok(match config.handler.max_builds_per_change_per_day {
        Some(limit) => decider.with_build_limit(limit),
        None => decider,
    })
}

/// Where nodes come from. What it makes in a cloud belongs to the participants of this queue, which must be connected.
pub(crate) async fn provisioner(config: &Config, queue: &dyn Queue) -> Result<Arc<dyn Provisioner>> {
    Ok(match config.nodes()? {
        Nodes::Cloud(cloud) => {
            let installation = queue.installation().await?;
            tracing::info!(owner = %config.owner, %installation, "resources in the cloud carry these tags");
            let (cloud, owner) = (cloud.as_ref().clone(), config.owner.clone());
            Arc::new(OpenStackProvisioner::new(cloud, owner, installation)?)
        }
        Nodes::Machines(machines) => Arc::new(StaticNodes::new(machines.clone())?),
    })
}

/// Runs playbooks.
fn ansible(config: &Config) -> Result<AnsibleExecutor> {
    create_state_folder(config)?;
    let stages = config.jobs.values().flat_map(|job| &job.stages);
    let playbooks: BTreeSet<&str> = stages.map(|stage| stage.playbook.as_str()).collect();
    Ok(AnsibleExecutor::new(config.ansible()?.clone(), &config.state)?.with_checked_playbooks(playbooks))
}

/// The jobs that an operator with this configuration can run: those that it defines, on nodes that it has. The others
/// wait for another operator.
fn job_filter(config: &Config) -> Result<JobFilter> {
    let names = JobFilter::names(config.jobs.keys().cloned());
    Ok(match config.nodes()? {
        Nodes::Cloud(cloud) => names.with_labels(cloud.nodes.keys().cloned()),
        Nodes::Machines(machines) => names.with_labels(machines.iter().map(|node| node.label.clone())),
    })
}

/// The work half with what the configuration says of every operator. Reporters and the rest are added by its caller.
pub(crate) fn operator(
    config: &Config,
    work: Work,
    queue: Arc<dyn Queue>,
    provisioner: Arc<dyn Provisioner>,
    store: &Store,
) -> Result<Operator> {
    let settings = &config.operator;
    let executor = Arc::new(ansible(config)?);
    let orphans = Arc::clone(&executor);
    // Processes of a crashed operator are stopped in the background.
    tokio::spawn(async move { orphans.stop_orphans().await });
    let operator = Operator::new(queue, provisioner, executor, config.jobs.clone(), config.logs()?.clone())
        .with_filter(job_filter(config)?)
        .with_name(format!("operator {}", hostname()))
        .with_journal(store.journal())
        .with_slots(work.slots.map_or(settings.slots, usize::from))
        .with_breaker(settings.breaker)
        .with_no_room(settings.no_room)
        .with_retry_delays(settings.retry_delay.into(), settings.retry_delay_cap.into())
        .with_shutdown_deadline(settings.shutdown_deadline.into());
    Ok(match &config.alarm {
        Some(alarm) => operator.with_alerter(MailAlerter::new(&alarm.mail)?),
        None => operator,
    })
}

/// Posts comments on the review, or writes them to a file.
///
/// # Errors
/// An alarm that cannot be used.
pub(crate) fn review(
    config: &Config,
    comments: Comments,
    gerrit: &Arc<Gerrit>,
    history: impl RunHistory + 'static,
) -> Result<Arc<dyn Reporter>> {
    if !comments.dry_run {
        let reporter = GerritReporter::new(Arc::clone(gerrit)).with_history(history);
        return Ok(match &config.alarm {
            Some(alarm) => Arc::new(reporter.with_alerter(MailAlerter::new(&alarm.mail)?)),
            None => Arc::new(reporter),
        });
    }
    let file = config.state.join(COMMENTS_FILE);
    tracing::info!("dry run: comments are written to {}", file.display());
    Ok(Arc::new(DryRunReporter::new(gerrit.config().clone(), file).with_history(history)))
}

/// Deletes what crashes have left on the cloud.
pub(crate) fn sweeper(
    config: &Config,
    provisioner: Arc<dyn Provisioner>,
    queue: Arc<dyn Queue>,
    store: &Store,
) -> Sweeper {
    Sweeper::new(provisioner, queue)
        .with_journal(store.journal())
        .with_interval(config.sweep.every.into())
        .with_safety_age(config.sweep.safety_age.into())
}

/// The name of this host, for people.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// Mutes comments on reviews after too many failures, and alerts the lab's people then.
pub(crate) fn report_guard(config: &Config) -> Result<Arc<ReportGuard>> {
    let guard = ReportGuard::new(format!("handler {}", hostname())).with_limit(config.handler.mute_after);
    Ok(Arc::new(match &config.alarm {
        Some(alarm) => guard.with_alerter(MailAlerter::new(&alarm.mail)?),
        None => guard,
    }))
}
