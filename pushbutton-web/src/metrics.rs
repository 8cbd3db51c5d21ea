//! Metrics, as OpenMetrics text (openmetrics.io, version 1.0.0), which Prometheus reads.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use pushbutton_core::QueueDepth;

use crate::WebState;
use crate::state::answer;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The answers of the parts; none from a part that did not answer.
struct Sample {
    depth: Option<QueueDepth>,
    /// Known only where a handler runs.
    muted: Option<bool>,
    verdicts: Option<Vec<(String, u64)>>,
    last_success: Option<Option<Timestamp>>,
}

pub(crate) async fn metrics(State(state): State<WebState>) -> Response {
    let (depth, verdicts, last_success) = tokio::join!(
        state.depth(),
        answer("history", state.history().verdicts()),
        answer("history", state.history().last_success()),
    );
    (
        [(CONTENT_TYPE, OPEN_METRICS)],
        render(Sample { depth, muted: state.is_muted(), verdicts, last_success }),
    )
        .into_response()
}

/// All values are read at the time of the request, so each request has a registry of its own.
fn render(sample: Sample) -> String {
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
    if let Some(muted) = sample.muted {
        let gauge = Gauge::<i64>::default();
        gauge.set(muted.into());
        registry.register("muted", "Whether comments on reviews are muted", gauge);
    }
    if let Some(verdicts) = sample.verdicts {
        // Not a counter: old runs are deleted.
        gauges(
            &mut registry,
            "runs",
            "Finished runs that the history knows, by verdict",
            "verdict",
            verdicts,
        );
    }
    if let Some(Some(at)) = sample.last_success {
        let gauge = Gauge::<i64>::default();
        gauge.set(at.as_second());
        let help = "When a run last ended as a success";
        registry.register("last_success_timestamp_seconds", help, gauge);
    }
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => text,
        // Writing to a string does not fail.
        Err(error) => format!("# {error}\n"),
    }
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
mod tests {
    use super::*;

    #[test]
    fn the_whole_text() {
        let sample = Sample {
            depth: Some(QueueDepth::new(3, 2, 1).with_reports(5_u64).with_undelivered(4_u64)),
            muted: Some(true),
            verdicts: Some(vec![("FAILURE".into(), 4), ("odd\"\\\n".into(), 5)]),
            last_success: Some(Some(Timestamp::constant(1_795_435_200, 0))),
        };
        let text = render(sample);
        // Within a family the order is not defined.
        let mut lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.last(), Some(&"# EOF"));
        let mut expected = vec![
            "# HELP pushbutton_part_up Whether a part answered just now.",
            "# TYPE pushbutton_part_up gauge",
            r#"pushbutton_part_up{part="history"} 1"#,
            r#"pushbutton_part_up{part="queue"} 1"#,
            "# HELP pushbutton_queue_jobs Jobs on the queue, by where they are.",
            "# TYPE pushbutton_queue_jobs gauge",
            r#"pushbutton_queue_jobs{place="dead"} 1"#,
            r#"pushbutton_queue_jobs{place="leased"} 2"#,
            r#"pushbutton_queue_jobs{place="waiting"} 3"#,
            "# HELP pushbutton_queue_reports Reports for reviews, by where they are.",
            "# TYPE pushbutton_queue_reports gauge",
            r#"pushbutton_queue_reports{place="due"} 5"#,
            r#"pushbutton_queue_reports{place="undelivered"} 4"#,
            "# HELP pushbutton_muted Whether comments on reviews are muted.",
            "# TYPE pushbutton_muted gauge",
            "pushbutton_muted 1",
            "# HELP pushbutton_runs Finished runs that the history knows, by verdict.",
            "# TYPE pushbutton_runs gauge",
            r#"pushbutton_runs{verdict="FAILURE"} 4"#,
            r#"pushbutton_runs{verdict="odd\"\\\n"} 5"#,
            "# HELP pushbutton_last_success_timestamp_seconds When a run last ended as a success.",
            "# TYPE pushbutton_last_success_timestamp_seconds gauge",
            "pushbutton_last_success_timestamp_seconds 1795435200",
            "# EOF",
        ];
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_part_that_does_not_answer_is_down_and_has_no_other_metrics() {
        let text = render(Sample { depth: None, muted: None, verdicts: None, last_success: None });
        assert!(text.contains("pushbutton_part_up{part=\"queue\"} 0\n"), "{text}");
        assert!(
            !text.contains("pushbutton_queue")
                && !text.contains("pushbutton_muted")
                && !text.contains("pushbutton_runs"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
