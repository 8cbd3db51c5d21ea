//! The status page, for people. Without scripts.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use jiff::Timestamp;
use maud::{Markup, html};
use pushbutton_core::{QueueDepth, RunRecord, RunState, Verdict};

use crate::WebState;
use crate::api::DEFAULT_LIMIT;
use crate::html::{between, link, page, time};
use crate::state::answer;

pub(crate) async fn style() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("style.css"))
}

pub(crate) async fn index(State(state): State<WebState>) -> Html<String> {
    let (depth, runs, last_success) = tokio::join!(
        state.depth(),
        answer("history", state.history().recent(DEFAULT_LIMIT)),
        answer("history", state.history().last_success()),
    );
    let body = html! {
        ul.summary {
            @match depth {
                Some(QueueDepth { waiting, leased, dead, reports, undelivered, .. }) => {
                    li { b { (waiting) } " waiting" }
                    li { b { (leased) } " running" }
                    li { b { (dead) } " dead letters" }
                    li { b { (reports) } " reports due" }
                    li { b { (undelivered) } " undelivered reports" }
                }
                None => li { "The queue does not answer" },
            }
            @if state.is_muted() == Some(true) { li { b { "Comments on reviews are muted" } } }
            li { "Last success: " (last_success_text(last_success)) }
            @if state.logs().is_some() { li { a href={ (state.base_path()) "/logs/" } { "Logs" } } }
        }
        @match runs.as_deref() {
            None => p { "The run history does not answer." },
            Some([]) => p { "No run yet." },
            Some(runs) => (table(runs)),
        }
    };
    page(&state, true, &body)
}

fn last_success_text(last_success: Option<Option<Timestamp>>) -> Markup {
    html! {
        @match last_success {
            Some(Some(at)) => { b { (between(at, Timestamp::now())) " ago" } " (" (time(at)) " UTC)" }
            Some(None) => "never",
            None => "unknown",
        }
    }
}

fn table(runs: &[RunRecord]) -> Markup {
    html! {
        table {
            thead {
                tr {
                    @for name in ["Change", "Job", "Result", "Tests", "Started (UTC)", "Took", "Logs"] { th { (name) } }
                }
            }
            tbody { @for run in runs { (row(run)) } }
        }
    }
}

fn row(run: &RunRecord) -> Markup {
    let change = &run.job.change;
    html! {
        tr class=(class(run)) {
            td {
                (link(change.url.as_deref(), &run.job.target())) " " small { (change.project) }
                div.detail { (change.subject) }
            }
            td.job { (run.job.name) @if run.attempt > 1 { div.detail { "attempt " (run.attempt) } } }
            td.result { b { (result(run)) } @if let Some(reason) = &run.reason { div.detail { (reason) } } }
            td {
                @if let Some(tests) = run.tests {
                    // No-break spaces keep each number with its word.
                    (tests.passed) "\u{a0}passed, " (tests.failed) "\u{a0}failed, " (tests.skipped) "\u{a0}skipped"
                }
            }
            td.short { (time(run.started)) }
            td.short { (between(run.started, run.ended.unwrap_or_else(Timestamp::now))) }
            td.short { @if let Some(url) = &run.log_url { (link(Some(url), "logs")) } }
        }
    }
}

/// The verdict; without one, what the run is doing, or that it was retried.
fn result(run: &RunRecord) -> String {
    if let Some(verdict) = &run.verdict {
        return verdict.to_string();
    }
    let stage = run.stages.iter().rfind(|stage| stage.outcome.is_none()).filter(|_| run.ended.is_none());
    let stage = stage.map(|stage| format!(": {}", stage.stage)).unwrap_or_default();
    let state = match run.state {
        RunState::Claimed => "claimed",
        RunState::Provisioning => "provisioning",
        RunState::Running => "running",
        RunState::Retrying => "retrying",
        _ => "completed",
    };
    format!("{state}{stage}")
}

/// The row's colour. Red is for a failure of the patch, amber for one of the lab.
fn class(run: &RunRecord) -> &'static str {
    match &run.verdict {
        Some(Verdict::Success) => "success",
        Some(Verdict::Failure { .. }) => "failure",
        None if run.ended.is_none() => "running",
        _ => "lab",
    }
}
