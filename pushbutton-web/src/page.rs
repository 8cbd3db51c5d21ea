//! The status page, for people. Rendered here, without scripts.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use jiff::Timestamp;
use pushbutton_core::{QueueDepth, Verdict};

use crate::api::DEFAULT_LIMIT;
use crate::html::{Escaped, between, link, moment, page};
use crate::state::answer;
use crate::{RunView, WebState};

const STYLE: &str = include_str!("style.css");

pub(crate) async fn style() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

pub(crate) async fn index(State(state): State<WebState>) -> impl IntoResponse {
    let depth = state.depth().await;
    let runs = answer("history", state.history().recent(DEFAULT_LIMIT)).await;
    let last = answer("history", state.history().last_success()).await;
    let mut body = String::new();
    let queue = match &depth {
        Some(QueueDepth { waiting, leased, dead }) => {
            format!("{waiting} waiting, {leased} running, {dead} rejected")
        }
        None => "does not answer".into(),
    };
    let last = match last {
        Some(Some(at)) => format!("{} ({} ago)", moment(at), between(at, Timestamp::now())),
        Some(None) => "never".into(),
        None => "unknown".into(),
    };
    // Writing to a String cannot fail.
    let _ = write!(body, "<p>Queue: {queue}. Last success: {last}.");
    if state.logs().is_some() {
        let _ = write!(body, " <a href=\"{}/logs/\">Logs</a>.", Escaped(state.base()));
    }
    body.push_str("</p>\n");
    match &runs {
        None => body.push_str("<p>The run history does not answer.</p>\n"),
        Some(runs) if runs.is_empty() => body.push_str("<p>No run yet.</p>\n"),
        Some(runs) => table(&mut body, runs),
    }
    Html(page(state.base(), state.title(), true, &body))
}

fn table(body: &mut String, runs: &[RunView]) {
    body.push_str(
        "<table><thead><tr><th>Change<th>Job<th>Result<th>Tests<th>Started<th>Took<th>Logs</tr></thead><tbody>\n",
    );
    for run in runs {
        let change = &run.job.change;
        let tests = run.tests.map_or(String::new(), |tests| {
            format!("{} passed, {} failed, {} skipped", tests.passed, tests.failed, tests.skipped)
        });
        let _ = writeln!(
            body,
            "<tr class=\"{class}\"><td>{target}<br><small>{project} {subject}</small>\
             <td>{job}<br><small>attempt {attempt}</small><td>{result}<br><small>{reason}</small>\
             <td>{tests}<td>{started}<td>{took}<td>{logs}</tr>",
            class = class(run),
            target = link(change.url.as_deref(), &run.job.target()),
            project = Escaped(change.project.as_str()),
            subject = Escaped(&change.subject),
            job = Escaped(run.job.name.as_str()),
            attempt = run.attempt,
            result = Escaped(&result(run)),
            reason = Escaped(run.reason.as_deref().unwrap_or_default()),
            started = moment(run.started),
            took = between(run.started, run.ended.unwrap_or_else(Timestamp::now)),
            logs = run.log_url.as_deref().map(|url| link(Some(url), "logs")).unwrap_or_default(),
        );
    }
    body.push_str("</tbody></table>\n");
}

/// The verdict; without one, what the run does, or that it was given up.
fn result(run: &RunView) -> String {
    if let Some(verdict) = &run.verdict {
        return verdict.to_string();
    }
    let word = format!("{:?}", run.state).to_lowercase();
    match run.stages.iter().rev().find(|stage| stage.outcome.is_none()) {
        Some(stage) if run.ended.is_none() => format!("{word}: {}", stage.stage),
        _ => word,
    }
}

/// The row's colour. Red is for what blames the patch; the lab's own troubles are not.
fn class(run: &RunView) -> &'static str {
    match &run.verdict {
        Some(Verdict::Success) => "good",
        Some(Verdict::Failure { .. }) => "bad",
        Some(_) => "lab",
        None if run.ended.is_none() => "running",
        None => "lab",
    }
}
