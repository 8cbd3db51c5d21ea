//! What this process counts while it works: the steps of runs, the events that come, the deliveries of reports.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use pushbutton_core::{
    DeliveryState, Event, EventSource, HistoryEntry, HistoryLog, Position, Reporter, Result, RunId, Update,
    UpdateKind, async_trait,
};

/// Upper limits of the histograms, in seconds: a node takes minutes, a run hours.
const NODE_SECONDS: [f64; 9] = [5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0];
const RUN_SECONDS: [f64; 9] = [60.0, 300.0, 600.0, 1800.0, 3600.0, 5400.0, 7200.0, 10800.0, 21600.0];

/// Runs whose nodes are being made, at most. An operator has fewer slots.
const MAX_WAITING: usize = 1_000;

/// One label and its value.
type Label = [(&'static str, &'static str); 1];
/// The same where the values come from a configuration or a verdict.
type TextLabel = Vec<(&'static str, String)>;

/// Counters and histograms of this process, from its start: as a [`Reporter`] of an operator and a handler they count
/// runs and jobs. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Recorded>);

#[derive(Debug)]
struct Recorded {
    events: Counter,
    last_event: Gauge,
    jobs_queued: Counter,
    runs_started: Counter,
    runs_ended: Family<TextLabel, Counter>,
    leases_lost: Counter,
    nodes: Family<Label, Counter>,
    last_node: Gauge,
    last_node_failure: Gauge,
    deliveries: Family<Label, Counter>,
    node_seconds: Histogram,
    run_seconds: Histogram,
    stage_seconds: Histogram,
    /// Since when a node is being made for a run.
    waiting: Mutex<HashMap<RunId, Timestamp>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let recorded = Recorded {
            events: Counter::default(),
            last_event: Gauge::default(),
            jobs_queued: Counter::default(),
            runs_started: Counter::default(),
            runs_ended: Family::default(),
            leases_lost: Counter::default(),
            nodes: Family::default(),
            last_node: Gauge::default(),
            last_node_failure: Gauge::default(),
            deliveries: Family::default(),
            node_seconds: Histogram::new(NODE_SECONDS),
            run_seconds: Histogram::new(RUN_SECONDS),
            stage_seconds: Histogram::new(RUN_SECONDS),
            waiting: Mutex::default(),
        };
        Self(Arc::new(recorded))
    }
}

impl Metrics {
    /// A source that counts the events of this one.
    pub fn counting_events<S: EventSource + 'static>(&self, source: S) -> impl EventSource + use<S> {
        CountedSource { source, metrics: self.clone() }
    }

    /// A history that counts the deliveries that are appended to this one.
    pub fn counting_deliveries<H: HistoryLog + 'static>(&self, history: H) -> impl HistoryLog + use<H> {
        CountedHistory { history, metrics: self.clone() }
    }

    /// When the last event came; none before the first.
    pub fn last_event(&self) -> Option<Timestamp> {
        Some(self.0.last_event.get()).filter(|at| *at > 0).and_then(|at| Timestamp::from_second(at).ok())
    }

    /// Adds all of them to a registry of one request. Clones share the values.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Recorded {
            events,
            last_event,
            jobs_queued,
            runs_started,
            runs_ended,
            leases_lost,
            nodes,
            last_node,
            last_node_failure,
            deliveries,
            node_seconds,
            run_seconds,
            stage_seconds,
            waiting: _,
        } = &*self.0;
        registry.register("events", "Events that came from the review server", events.clone());
        let mut time = |name: &str, help: &str, gauge: &Gauge| {
            if gauge.get() > 0 {
                registry.register(name, help, gauge.clone());
            }
        };
        time("last_event_timestamp_seconds", "When the last event came", last_event);
        time("last_node_timestamp_seconds", "When a node was last ready", last_node);
        time(
            "last_node_failure_timestamp_seconds",
            "When a node was last asked for in vain",
            last_node_failure,
        );
        registry.register("jobs_queued", "Jobs that were put on the queue", jobs_queued.clone());
        registry.register("runs_started", "Runs that began", runs_started.clone());
        let help = "Runs that ended, by verdict; RETRYING and RETURNED have none";
        registry.register("runs_ended", help, runs_ended.clone());
        let help = "Runs that were stopped because their lease was lost";
        registry.register("leases_lost", help, leases_lost.clone());
        registry.register("nodes", "Nodes that were asked for, by result", nodes.clone());
        registry.register("deliveries", "Tries to deliver a report, by result", deliveries.clone());
        registry.register(
            "node_seconds",
            "Time from asking for a node until it was ready",
            node_seconds.clone(),
        );
        registry.register("run_seconds", "Time of runs that ended with a verdict", run_seconds.clone());
        registry.register("stage_seconds", "Time of stages", stage_seconds.clone());
    }

    pub(crate) fn event(&self) {
        self.0.events.inc();
        self.0.last_event.set(Timestamp::now().as_second());
    }

    fn ended(&self, result: &str) {
        self.0.runs_ended.get_or_create(&vec![("verdict", result.to_owned())]).inc();
    }

    /// The wait of this run for its node is over; how long it took, if it waited.
    fn stop_waiting(&self, update: &Update) -> Option<SignedDuration> {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let since = waiting.remove(update.run.as_ref()?)?;
        Some(update.at.duration_since(since))
    }

    fn node(&self, result: &'static str, last: &Gauge, at: Timestamp) {
        self.0.nodes.get_or_create(&[("result", result)]).inc();
        last.set(at.as_second());
    }

    fn end_without_node(&self, update: &Update) {
        if self.stop_waiting(update).is_some() {
            self.node("failed", &self.0.last_node_failure, update.at);
        }
    }

    fn step(&self, update: &Update) {
        match &update.kind {
            UpdateKind::Queued => {
                self.0.jobs_queued.inc();
            }
            UpdateKind::Started => {
                self.0.runs_started.inc();
            }
            UpdateKind::Provisioning => {
                let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(run) = update.run.clone().filter(|_| waiting.len() < MAX_WAITING) {
                    waiting.insert(run, update.at);
                }
            }
            UpdateKind::NodeReady { .. } => {
                if let Some(took) = self.stop_waiting(update) {
                    self.0.node_seconds.observe(took.as_secs_f64());
                }
                self.node("ready", &self.0.last_node, update.at);
            }
            UpdateKind::StageEnded { outcome, .. } => {
                self.0.stage_seconds.observe(outcome.took.as_secs_f64());
            }
            UpdateKind::Retrying { .. } => {
                self.end_without_node(update);
                self.ended("RETRYING");
            }
            UpdateKind::HandedBack { .. } => {
                if update.kind.is_lost_lease() {
                    self.0.leases_lost.inc();
                    // Nothing is known of the node.
                    self.stop_waiting(update);
                }
                self.end_without_node(update);
                self.ended("RETURNED");
            }
            UpdateKind::Finished { result } => {
                self.end_without_node(update);
                self.0.run_seconds.observe(result.took.as_secs_f64());
                self.ended(result.verdict.result());
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Reporter for Metrics {
    async fn report(&self, update: &Update) -> Result<()> {
        self.step(update);
        Ok(())
    }

    fn name(&self) -> &str {
        "metrics"
    }
}

struct CountedSource<S> {
    source: S,
    metrics: Metrics,
}

#[async_trait]
impl<S: EventSource> EventSource for CountedSource<S> {
    async fn next(&mut self) -> Result<Option<Event>> {
        let next = self.source.next().await;
        if matches!(next, Ok(Some(_))) {
            self.metrics.event();
        }
        next
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        self.source.commit(position).await
    }
}

struct CountedHistory<H> {
    history: H,
    metrics: Metrics,
}

#[async_trait]
impl<H: HistoryLog> HistoryLog for CountedHistory<H> {
    async fn append(&self, entry: HistoryEntry) -> Result<()> {
        if let HistoryEntry::Delivery { delivery } = &entry {
            let result = match delivery.state {
                DeliveryState::Delivered => "delivered",
                DeliveryState::Undelivered => "undelivered",
                _ => "retrying",
            };
            self.metrics.0.deliveries.get_or_create(&[("result", result)]).inc();
        }
        self.history.append(entry).await
    }

    fn dropped(&self) -> u64 {
        self.history.dropped()
    }
}
