//! What the commands that keep running share: signals, the store, the queue, Gerrit, and how they start and end.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use pushbutton_core::{
    ConfigHealth, Current, GuardedReporter, Handler, HandlerStats, Health, HistoryLog, HistoryReporter,
    Operator, OperatorStats, ReportGuard, Result, Shutdown, StreamMonitor,
};
use pushbutton_gerrit::Gerrit;
use pushbutton_results::{Retention, RunPages};
use pushbutton_store::Store;
use pushbutton_web::{Disks, Metrics, WebState};
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use crate::assemble::{NodeSource, QueueBackend};
use crate::cli::{Comments, Global, Start, Work};
use crate::config::{Changes, Config};
use crate::exit::Exit;
use crate::mail::MailAlerter;
use crate::participant::Participant;
use crate::progress::Progress;
use crate::reload::{Apply, Prepare, Reload};
use crate::{assemble, connect, signals, web};

/// A command that keeps running.
pub(crate) struct Runtime<'c> {
    config: &'c Config,
    global: &'c Global,
    pub(crate) shutdown: Shutdown,
    store: Store,
    backend: QueueBackend,
    history: Arc<dyn HistoryLog>,
    metrics: Metrics,
    started: Timestamp,
    participant: OnceLock<Arc<Participant>>,
    /// What a reload replaces.
    parts: Mutex<Vec<Prepare>>,
    config_health: watch::Sender<ConfigHealth>,
    /// Until the process serves.
    hangup: Mutex<Option<Signal>>,
}

/// What only a process with a handler has: the account on Gerrit, and the guard of its reports.
pub(crate) struct Upstream {
    gerrit: Arc<Gerrit>,
    report_guard: Arc<ReportGuard>,
    stream: StreamMonitor,
}

impl Upstream {
    /// Connects nowhere.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let (gerrit, report_guard) = (assemble::gerrit(config)?, assemble::report_guard(config)?);
        Ok(Self { gerrit, report_guard, stream: StreamMonitor::default() })
    }

    /// The client.
    pub(crate) fn gerrit(&self) -> Arc<Gerrit> {
        Arc::clone(&self.gerrit)
    }
}

impl<'c> Runtime<'c> {
    /// Listens to signals, opens the store and waits for the servers; none when a signal came first. From then on the
    /// store has the history of all participants.
    pub(crate) async fn start(
        config: &'c Config,
        global: &'c Global,
        upstream: Option<&Upstream>,
        start: Start,
    ) -> anyhow::Result<Option<Self>> {
        let (shutdown, hangup) = (signals::shutdown()?, signals::hangup()?);
        let store = assemble::store(config).await?;
        let backend = QueueBackend::new(config, &store).await?;
        let wait = start.wait.into();
        let connected = async {
            connect::wait_for_queue(config, &backend.queue, wait).await?;
            match upstream {
                Some(upstream) => connect::wait_for_gerrit(&upstream.gerrit, wait).await,
                None => Ok(()),
            }
        };
        tokio::select! {
            connected = connected => connected?,
            () = shutdown.begun() => return Ok(None),
        }
        if let Some(amqp) = &backend.amqp {
            let (shared, copy) = (amqp.history(), store.history());
            tokio::spawn(async move { shared.follow(&copy).await });
        }
        let history = backend.history_log(&store);
        let started = Timestamp::now();
        Ok(Some(Self {
            config,
            global,
            shutdown,
            store,
            backend,
            history,
            metrics: Metrics::default(),
            started,
            participant: OnceLock::new(),
            parts: Mutex::default(),
            config_health: watch::Sender::new(ConfigHealth::new(started)),
            hangup: Mutex::new(Some(hangup)),
        }))
    }

    /// Replaces a part with what this makes of a configuration, when it is reloaded.
    fn on_reload(&self, part: impl Fn(&Config, &Changes) -> Result<Apply> + Send + Sync + 'static) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(part));
    }

    /// Serves the dashboard, if the configuration asks for one, tells the other participants how this process is, and
    /// reloads the configuration when it changes. All parts must have been made before.
    pub(crate) async fn serve(
        &self,
        role: &'static str,
        upstream: Option<&Upstream>,
        operator: Option<watch::Receiver<Health>>,
    ) -> Result<()> {
        let config = self.config;
        let disks = [
            ("state", Some(config.state.clone())),
            ("logs", config.logs.as_ref().map(|logs| logs.dir.clone())),
        ];
        let disks =
            Disks::new(disks.into_iter().filter_map(|(name, folder)| Some((name.to_owned(), folder?))));
        let stream = upstream.map(|upstream| upstream.stream.watch());
        let muted = upstream.map(|upstream| upstream.report_guard.watch());
        let mut state = WebState::new(Arc::clone(&self.backend.queue), self.store.history())
            .with_dead_letters(Arc::clone(&self.backend.dead_letters))
            .with_title(config.owner.as_str())
            .with_history_log(Arc::clone(&self.history))
            .with_metrics(self.metrics.clone())
            .with_disks(disks.clone())
            .with_config(self.config_health.subscribe());
        if let Some(logs) = &config.logs {
            state = state.with_logs(logs.dir.clone());
        }
        if let Some(amqp) = self.backend.amqp.clone() {
            state = state.with_broker(move || amqp.is_connected());
        }
        if let Some(muted) = muted.clone() {
            state = state.with_muted(muted);
        }
        if let Some(stream) = stream.clone() {
            state = state.with_stream(stream);
        }
        if let Some(operator) = operator.clone() {
            state = state.with_operator(operator);
        }
        let must_serve = role == "dashboard";
        web::serve(config, state, must_serve, &self.shutdown).await?;
        let (log, metrics, started) = (Arc::clone(&self.history), self.metrics.clone(), self.started);
        let config = self.config_health.subscribe();
        let participant = Participant { role, started, log, metrics, disks, stream, muted, operator, config };
        let participant = Arc::clone(self.participant.get_or_init(|| Arc::new(participant)));
        tokio::spawn(participant.run(self.shutdown.clone()));
        let hangup = self.hangup.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(hangup) = hangup {
            let parts = std::mem::take(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner));
            let reload = Reload::new(self.config, parts, self.config_health.clone(), hangup);
            tokio::spawn(reload.run(self.shutdown.clone()));
        }
        Ok(())
    }

    /// The ingest half. It reports to the terminal and the review.
    pub(crate) fn handler(&self, upstream: &Upstream, comments: Comments) -> Result<Handler> {
        let config = self.config;
        let rules = assemble::rules(config)?;
        let triggers = Current::new(rules.triggers.clone());
        let comment = Current::new(config.gerrit()?.comment.clone());
        let (source, event_store) = {
            let monitor = upstream.stream.clone();
            assemble::source(&self.backend, &self.store, &upstream.gerrit, &triggers, monitor)
        };
        let source = self.metrics.counting_events(source);
        let review =
            assemble::review(config, comments, &upstream.gerrit, self.store.history(), comment.clone())?;
        let handler = Handler::new(source, rules.triggers.clone(), Arc::clone(&self.backend.queue))
            .with_rules(rules)
            .with_event_store(event_store)
            .with_dependencies(Arc::clone(&upstream.gerrit))
            .with_lookup(upstream.gerrit())
            .with_reporter(Progress::new(self.global))
            .with_reporter(self.metrics.clone())
            .with_history(self.metrics.counting_deliveries(Arc::clone(&self.history)))
            .with_reporter(GuardedReporter::new(review, Arc::clone(&upstream.report_guard)))
            .with_report_guard(Arc::clone(&upstream.report_guard));
        let (rules, guard) = (handler.rules(), Arc::clone(&upstream.report_guard));
        self.on_reload(move |config, changes| {
            let new_rules = assemble::rules(config)?;
            let new_comment = config.gerrit()?.comment.clone();
            let mute_after = config.handler.mute_after;
            let makes_triggers = ["triggers", "gerrit.own_accounts", "gerrit.comment.name"];
            let is_other_stream = makes_triggers.into_iter().any(|key| changes.touch(key));
            let (rules, guard, comment, triggers) =
                (rules.clone(), Arc::clone(&guard), comment.clone(), triggers.clone());
            Ok(Box::new(move || {
                let new_triggers = new_rules.triggers.clone();
                rules.replace(new_rules);
                // Then the stream: its events are decided by the new rules.
                if is_other_stream {
                    triggers.replace(new_triggers);
                }
                guard.set_limit(mute_after);
                comment.replace(new_comment);
            }))
        });
        Ok(match &config.alarm {
            Some(alarm) => handler.with_alerter(MailAlerter::new(&alarm.mail)?),
            None => handler,
        })
    }

    /// The work half. It reports to the terminal, the pages of runs, the history on this host and that of all
    /// participants; and deletes old results.
    pub(crate) async fn operator(&self, work: Work) -> Result<Operator> {
        let (config, queue) = (self.config, &self.backend.queue);
        let nodes = NodeSource::new(config, queue).await?;
        let provisioner = nodes.provisioner();
        let sweeper = assemble::sweeper(config, Arc::clone(&provisioner), Arc::clone(queue), &self.store);
        let operator = assemble::operator(config, work, Arc::clone(queue), provisioner, &self.store)?;
        let logs = config.logs()?;
        let (pages, keep) = (RunPages::new(logs.clone()), Current::new(logs.keep));
        // It ends with the process: a folder that is half deleted has a hidden name, and goes next time.
        tokio::spawn(Retention::following(&logs.dir, keep.clone(), pages.clone()).run());
        let settings = operator.settings();
        self.on_reload(move |config, _| {
            // Nodes first: no job is claimed before its label is there.
            let replace_nodes = nodes.replacement(config)?;
            let new_settings = assemble::operator_settings(config, work)?;
            let new_keep = config.logs()?.keep;
            let (settings, keep) = (settings.clone(), keep.clone());
            Ok(Box::new(move || {
                replace_nodes();
                settings.replace(new_settings);
                keep.replace(new_keep);
            }))
        });
        let operator = operator
            .with_reporter(pages)
            .with_sweeper(sweeper)
            .with_reporter(Progress::new(self.global))
            .with_reporter(self.metrics.clone())
            .with_reporter(self.store.history());
        // Without RabbitMQ all participants are on this host.
        Ok(match &self.backend.amqp {
            Some(_) => operator.with_reporter(HistoryReporter::new(Arc::clone(&self.history))),
            None => operator,
        })
    }

    /// Without RabbitMQ the two halves can only be processes on the same host.
    pub(crate) fn log_where_jobs_wait(&self) {
        if self.config.rabbitmq.is_none() {
            let folder = self.config.state.display();
            tracing::info!(
                "no RabbitMQ is configured: handler and operators must share {folder}, on this host"
            );
        }
    }

    /// Ends with the code for how the shutdown went.
    pub(crate) async fn end(self) -> Exit {
        if let Some(participant) = self.participant.get() {
            participant.say(true).await;
        }
        self.backend.close().await;
        if self.shutdown.is_forced() { Exit::Interrupted } else { Exit::Ok }
    }
}

pub(crate) fn log_handler(stats: HandlerStats) {
    tracing::info!(events = stats.events, jobs = stats.jobs, "the handler has ended");
}

pub(crate) fn log_operator(stats: OperatorStats) {
    tracing::info!(finished = stats.finished, unfinished = stats.unfinished, "the operator has ended");
}
