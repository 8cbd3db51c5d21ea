//! Makes the parts that the configuration names. The only module that chooses between backends.

/// The findings of `check`.
pub(crate) mod checks;
/// Where events come from: the stream of Gerrit, and standby of handlers.
mod standby;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pushbutton_amqp::AmqpQueue;
use pushbutton_ansible::AnsibleExecutor;
use pushbutton_core::{
    Current, DeadLetters, Decider, Error, ErrorKind, HistoryLog, JobFilter, Operator, OperatorSettings,
    Provisioner, Queue, ReportGuard, Reporter, Result, Rules, RunHistory, StaticNodes, Sweeper, Triggers,
    UndeliveredReports,
};
use pushbutton_gerrit::{CommentConfig, DryRunReporter, Gerrit, GerritReporter};
use pushbutton_openstack::OpenStackProvisioner;
use pushbutton_store::Store;

use crate::cli::{Comments, Work};
use crate::config::{Config, Nodes};
use crate::connect;
use crate::mail::MailAlerter;
use crate::reload::Apply;

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

    /// The history that all participants share.
    pub(crate) fn history_log(&self, store: &Store) -> Arc<dyn HistoryLog> {
        match &self.amqp {
            Some(amqp) => Arc::new(amqp.history()),
            None => Arc::new(store.history()),
        }
    }

    /// Takes over into the store what the shared history has by now. When the broker does not answer in time, what was
    /// taken over before is shown.
    pub(crate) async fn catch_up(&self, store: &Store) {
        if let Some(amqp) = &self.amqp
            && let Err(error) = amqp.history().catch_up(&store.history()).await
        {
            tracing::warn!("the runs of other hosts may be missing: {error}");
        }
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

/// What a handler decides by.
pub(crate) fn rules(config: &Config) -> Result<Rules> {
    Ok(Rules::new(triggers(config)?)
        .with_supersede(config.supersede)
        .with_build_limit(config.handler.max_builds_per_change_per_day)
        .with_labels(
            config
                .jobs
                .iter()
                .map(|(name, job)| (name.clone(), job.node.clone()))
                .collect::<BTreeMap<_, _>>(),
        ))
}

/// What decides on events for `replay` and `explain`, as a handler does. Nothing is looked up.
pub(crate) fn decider(config: &Config) -> Result<Decider> {
    Ok(Decider::following(Current::new(rules(config)?)))
}

/// Where nodes come from.
pub(crate) enum NodeSource {
    Cloud(Arc<OpenStackProvisioner>),
    Machines(Arc<StaticNodes>),
}

impl NodeSource {
    /// What it makes in a cloud belongs to the participants of this queue, which must be connected.
    pub(crate) async fn new(config: &Config, queue: &dyn Queue) -> Result<Self> {
        Ok(match config.nodes()? {
            Nodes::Cloud(cloud) => {
                let installation = queue.installation().await?;
                tracing::info!(owner = %config.owner, %installation, "resources in the cloud carry these tags");
                let (cloud, owner) = (cloud.as_ref().clone(), config.owner.clone());
                Self::Cloud(Arc::new(OpenStackProvisioner::new(cloud, owner, installation)?))
            }
            Nodes::Machines(machines) => Self::Machines(Arc::new(StaticNodes::new(machines.clone())?)),
        })
    }

    pub(crate) fn provisioner(&self) -> Arc<dyn Provisioner> {
        match self {
            Self::Cloud(cloud) => Arc::clone(cloud) as _,
            Self::Machines(machines) => Arc::clone(machines) as _,
        }
    }

    /// Replaces the labels and machines by those of another configuration, later.
    pub(crate) fn replacement(&self, config: &Config) -> Result<Apply> {
        Ok(match (self, config.nodes()?) {
            (Self::Cloud(cloud), Nodes::Cloud(new)) => {
                let (cloud, nodes) = (Arc::clone(cloud), new.nodes.clone());
                Box::new(move || log_unexpected(cloud.set_nodes(nodes)))
            }
            (Self::Machines(machines), Nodes::Machines(new)) => {
                let (machines, new) = (Arc::clone(machines), new.clone());
                Box::new(move || log_unexpected(machines.replace(new)))
            }
            (Self::Cloud(_), Nodes::Machines(_)) | (Self::Machines(_), Nodes::Cloud(_)) => {
                let message = "nodes come from another section now; restart the process";
                return Err(Error::permanent(ErrorKind::Config, message));
            }
        })
    }
}

/// The configuration was checked when it was read.
fn log_unexpected(result: Result<()>) {
    if let Err(error) = result {
        tracing::error!("the labels of nodes stay as they were: {error}");
    }
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

/// What an operator runs, and how.
pub(crate) fn operator_settings(config: &Config, work: Work) -> Result<OperatorSettings> {
    let settings = &config.operator;
    Ok(OperatorSettings::new(config.jobs.clone())
        .with_filter(job_filter(config)?)
        .with_slots(work.slots.map_or(settings.slots, usize::from))
        .with_breaker(settings.breaker)
        .with_no_room(settings.no_room)
        .with_retry_delay(settings.retry_delay)
        .with_retry_delay_cap(settings.retry_delay_cap)
        .with_shutdown_deadline(settings.shutdown_deadline)
        .with_supersede(config.supersede))
}

/// The work half with what the configuration says of every operator. Reporters and the rest are added by its caller.
pub(crate) fn operator(
    config: &Config,
    work: Work,
    queue: Arc<dyn Queue>,
    provisioner: Arc<dyn Provisioner>,
    store: &Store,
) -> Result<Operator> {
    let executor = Arc::new(ansible(config)?);
    let orphans = Arc::clone(&executor);
    // Processes of a crashed operator are stopped in the background.
    tokio::spawn(async move { orphans.stop_orphans().await });
    let operator = Operator::new(queue, provisioner, executor, [], config.logs()?.clone())
        .with_settings(operator_settings(config, work)?)
        .with_name(format!("operator {}", hostname()))
        .with_journal(store.journal());
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
    comment: Current<CommentConfig>,
) -> Result<Arc<dyn Reporter>> {
    if !comments.dry_run {
        let reporter = GerritReporter::new(Arc::clone(gerrit)).with_comment(comment).with_history(history);
        return Ok(match &config.alarm {
            Some(alarm) => Arc::new(reporter.with_alerter(MailAlerter::new(&alarm.mail)?)),
            None => Arc::new(reporter),
        });
    }
    let file = config.state.join(COMMENTS_FILE);
    tracing::info!("dry run: comments are written to {}", file.display());
    let reporter = DryRunReporter::new(gerrit.config().clone(), file).with_comment(comment);
    Ok(Arc::new(reporter.with_history(history)))
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
