//! Metrics, as OpenMetrics text (openmetrics.io, version 1.0.0), which Prometheus reads.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use pushbutton_core::QueueDepth;

use crate::WebState;
use crate::state::answer;

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What was asked; none where a part did not answer.
struct Sample {
    depth: Option<QueueDepth>,
    verdicts: Option<Vec<(String, u64)>>,
    last_success: Option<Option<Timestamp>>,
}

pub(crate) async fn metrics(State(state): State<WebState>) -> Response {
    let sample = Sample {
        depth: state.depth().await,
        verdicts: answer("history", state.history().verdicts()).await,
        last_success: answer("history", state.history().last_success()).await,
    };
    ([(CONTENT_TYPE, TEXT)], render(&sample)).into_response()
}

fn render(sample: &Sample) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, values: Vec<(String, String)>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# TYPE {name} gauge\n# HELP {name} {help}");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let up = |part: &str, well: bool| (format!("{{part=\"{part}\"}}"), u8::from(well).to_string());
    gauge(
        "pushbutton_part_up",
        "Whether a part answered just now.",
        vec![up("history", sample.verdicts.is_some()), up("queue", sample.depth.is_some())],
    );
    if let Some(depth) = &sample.depth {
        let jobs = [("dead", depth.dead), ("leased", depth.leased), ("waiting", depth.waiting)];
        let values = jobs.map(|(place, count)| (format!("{{place=\"{place}\"}}"), count.to_string()));
        gauge("pushbutton_queue_jobs", "Jobs on the queue, by where they are.", values.to_vec());
    }
    if let Some(verdicts) = &sample.verdicts {
        // A gauge and no counter: old runs are forgotten.
        let values = verdicts
            .iter()
            .map(|(verdict, n)| (format!("{{verdict=\"{}\"}}", label(verdict)), n.to_string()));
        gauge("pushbutton_runs", "Finished runs that the history knows, by verdict.", values.collect());
    }
    if let Some(Some(at)) = sample.last_success {
        let name = "pushbutton_last_success_timestamp_seconds";
        gauge(name, "When a run last ended as a success.", vec![(String::new(), at.as_second().to_string())]);
    }
    text.push_str("# EOF\n");
    text
}

/// A label's value, escaped as OpenMetrics asks.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text() {
        let sample = Sample {
            depth: Some(QueueDepth { waiting: 3, leased: 2, dead: 1 }),
            verdicts: Some(vec![("FAILURE".into(), 4), ("odd\"\\\n".into(), 5)]),
            last_success: Some(Some(Timestamp::constant(1_795_435_200, 0))),
        };
        let expected = r##"# TYPE pushbutton_part_up gauge
# HELP pushbutton_part_up Whether a part answered just now.
pushbutton_part_up{part="history"} 1
pushbutton_part_up{part="queue"} 1
# TYPE pushbutton_queue_jobs gauge
# HELP pushbutton_queue_jobs Jobs on the queue, by where they are.
pushbutton_queue_jobs{place="dead"} 1
pushbutton_queue_jobs{place="leased"} 2
pushbutton_queue_jobs{place="waiting"} 3
# TYPE pushbutton_runs gauge
# HELP pushbutton_runs Finished runs that the history knows, by verdict.
pushbutton_runs{verdict="FAILURE"} 4
pushbutton_runs{verdict="odd\"\\\n"} 5
# TYPE pushbutton_last_success_timestamp_seconds gauge
# HELP pushbutton_last_success_timestamp_seconds When a run last ended as a success.
pushbutton_last_success_timestamp_seconds 1795435200
# EOF
"##;
        assert_eq!(render(&sample), expected);
    }

    #[test]
    fn a_part_that_does_not_answer_is_down_and_says_nothing_else() {
        let text = render(&Sample { depth: None, verdicts: None, last_success: None });
        assert!(text.contains("pushbutton_part_up{part=\"queue\"} 0\n"), "{text}");
        assert!(!text.contains("pushbutton_queue_jobs") && !text.contains("pushbutton_runs"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
