//! Metrics, as OpenMetrics text (openmetrics.io, version 1.0.0), which Prometheus reads.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use pushbutton_core::{
    BreakerState, ConfigHealth, Health, ParticipantRecord, QueueAges, QueueDepth, StreamHealth, StreamState,
};

use crate::WebState;
use crate::disks::DiskReading;
use crate::recorded_metrics::Metrics;
use crate::state::answer;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The answers of the parts; none from a part that did not answer, or that this process does not have.
#[derive(Default)]
struct Sample {
    depth: Option<QueueDepth>,
    ages: Option<QueueAges>,
    /// Known only where a handler runs.
    muted: Option<bool>,
    verdicts: Option<Vec<(String, u64)>>,
    last_success: Option<Option<Timestamp>>,
    broker: Option<bool>,
    stream: Option<StreamHealth>,
    operator: Option<Health>,
    config: Option<ConfigHealth>,
    history_dropped: Option<u64>,
    disks: Vec<DiskReading>,
    participants: Option<Vec<ParticipantRecord>>,
    recorded: Option<Metrics>,
}

pub(crate) async fn metrics(State(state): State<WebState>) -> Response {
    let (depth, ages, verdicts, last_success, participants, disks) = tokio::join!(
        state.depth(),
        state.ages(),
        answer("history", state.history().verdicts()),
        answer("history", state.history().last_success()),
        answer("history", state.history().participants()),
        state.disks(),
    );
    let sample = Sample {
        depth,
        ages,
        muted: state.is_muted(),
        verdicts,
        last_success,
        broker: state.is_broker_connected(),
        stream: state.stream(),
        operator: state.operator(),
        config: state.config(),
        history_dropped: state.history_dropped(),
        disks,
        participants,
        recorded: state.metrics(),
    };
    ([(CONTENT_TYPE, OPEN_METRICS)], render(sample, Timestamp::now())).into_response()
}

/// Gauges are read at the time of the request, so each request has a registry of its own.
fn render(sample: Sample, now: Timestamp) -> String {
    let mut registry = Registry::with_prefix("pushbutton");
    let parts = vec![
        ("history".to_owned(), u64::from(sample.verdicts.is_some())),
        ("queue".to_owned(), u64::from(sample.depth.is_some())),
    ];
    gauges(&mut registry, "part_up", "Whether a part answered just now", "part", parts);
    if let Some(depth) = sample.depth {
        let jobs = [("dead", depth.dead), ("leased", depth.leased), ("waiting", depth.waiting)];
        let jobs = jobs.map(|(state, count)| (state.to_owned(), count)).into();
        gauges(&mut registry, "queue_jobs", "Jobs on the queue, by where they are", "place", jobs);
        let reports = [("due", depth.reports), ("undelivered", depth.undelivered)];
        let reports = reports.map(|(state, count)| (state.to_owned(), count)).into();
        let help = "Reports for reviews, by where they are";
        gauges(&mut registry, "queue_reports", help, "place", reports);
    }
    if let Some(ages) = sample.ages {
        let age =
            |since: Option<Timestamp>| since.map_or(0, |since| now.duration_since(since).as_secs().max(0));
        let help = "Age of the oldest job that waits; 0 when none does";
        gauge(&mut registry, "oldest_waiting_job_seconds", help, age(ages.waiting));
        let help = "Age of the oldest report that is due; 0 when none is";
        gauge(&mut registry, "oldest_due_report_seconds", help, age(ages.report));
    }
    if let Some(muted) = sample.muted {
        gauge(&mut registry, "muted", "Whether comments on reviews are muted", muted.into());
    }
    if let Some(broker) = sample.broker {
        gauge(&mut registry, "broker_connected", "Whether RabbitMQ is connected", broker.into());
    }
    if let Some(stream) = &sample.stream {
        let (connected, standby) =
            (stream.state == StreamState::Connected, stream.state == StreamState::Standby);
        gauge(&mut registry, "stream_connected", "Whether the event stream is connected", connected.into());
        let help = "Whether another handler takes events, and this one stands by";
        gauge(&mut registry, "stream_standby", help, standby.into());
        let help = "When the event stream last connected or disconnected";
        gauge(&mut registry, "stream_since_timestamp_seconds", help, stream.since.as_second());
    }
    if let Some(operator) = &sample.operator {
        let used = operator.running.min(operator.slots);
        let slots =
            vec![("free".to_owned(), (operator.slots - used) as u64), ("used".to_owned(), used as u64)];
        gauges(&mut registry, "slots", "Slots of the operator, by use", "state", slots);
        let open = operator.breaker != BreakerState::Closed;
        let help = "Whether the operator claims no jobs, or only one to try, because no node came up";
        gauge(&mut registry, "breaker_open", help, open.into());
    }
    if let Some(config) = &sample.config {
        let help =
            "Whether this process runs with what its configuration says now; 0: a newer one was refused";
        gauge(&mut registry, "config_last_reload_successful", help, config.refused.is_none().into());
        let help = "When the configuration was read that this process runs with";
        let name = "config_last_reload_success_timestamp_seconds";
        gauge(&mut registry, name, help, config.applied.as_second());
    }
    if let Some(dropped) = sample.history_dropped {
        let counter: Counter = Counter::default();
        counter.inc_by(dropped);
        registry.register("history_dropped", "Entries that the history could not take", counter);
    }
    if !sample.disks.is_empty() {
        let answers = sample.disks.iter().map(|disk| (disk.name.clone(), u64::from(!disk.hangs))).collect();
        let help = "Whether a disk answers; 0: not for 3 minutes, and nothing is known of it";
        gauges(&mut registry, "disk_answers", help, "disk", answers);
        let free = sample.disks.into_iter().filter_map(|disk| Some((disk.name, disk.free?))).collect();
        let help = "Free bytes of the disks that are written to, by what is on them";
        gauges(&mut registry, "disk_free_bytes", help, "disk", free);
    }
    if let Some(verdicts) = sample.verdicts {
        // Not a counter: old runs are deleted.
        let help = "Finished runs that the history knows, by verdict";
        gauges(&mut registry, "runs", help, "verdict", verdicts);
    }
    if let Some(Some(at)) = sample.last_success {
        let help = "When a run last ended as a success";
        gauge(&mut registry, "last_success_timestamp_seconds", help, at.as_second());
    }
    if let Some(participants) = sample.participants {
        let present = participants.iter().filter(|participant| !participant.ended);
        let seen = present.map(|it| (it.name.clone(), u64::try_from(it.at.as_second()).unwrap_or(0)));
        let help = "When a handler, operator or dashboard last said how it is";
        gauges(&mut registry, "participant_seen_timestamp_seconds", help, "participant", seen.collect());
    }
    if let Some(recorded) = sample.recorded {
        recorded.register(&mut registry);
    }
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => text,
        // Writing to a string does not fail.
        Err(error) => format!("# {error}\n"),
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// Registers one gauge for each value of a label.
fn gauges(registry: &mut Registry, name: &str, help: &str, label: &'static str, values: Vec<(String, u64)>) {
    let family = Family::<Vec<(&'static str, String)>, Gauge>::default();
    for (value, count) in values {
        family.get_or_create(&vec![(label, value)]).set(count.cast_signed());
    }
    registry.register(name, help, family);
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
