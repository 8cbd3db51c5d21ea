//! The status page, for people. Without scripts.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use jiff::Timestamp;
use maud::{Markup, html};
use pushbutton_core::{
    ControlMessage, DeliveryRecord, DeliveryState, ParticipantRecord, QueueDepth, RunRecord, RunState,
    StreamHealth, StreamState, Verdict,
};

use crate::WebState;
use crate::api::{DEFAULT_LIMIT, public_action, public_participant};
use crate::html::{between, link, page, time};
use crate::state::answer;

/// Reports and actions on the page.
const FEW: usize = 10;

pub(crate) async fn style() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("style.css"))
}

pub(crate) async fn index(State(state): State<WebState>) -> Html<String> {
    let (depth, runs, last_success, participants, actions, deliveries) = tokio::join!(
        state.depth(),
        answer("history", state.history().recent(DEFAULT_LIMIT)),
        answer("history", state.history().last_success()),
        answer("history", state.history().participants()),
        answer("history", state.history().actions(FEW)),
        answer("history", state.history().deliveries(FEW)),
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
        (participants_table(participants.unwrap_or_default()))
        (deliveries_table(&deliveries.unwrap_or_default()))
        (actions_table(actions.unwrap_or_default()))
    };
    page(&state, true, &body)
}

/// Those that have not ended.
fn participants_table(participants: Vec<ParticipantRecord>) -> Markup {
    let present: Vec<_> =
        participants.into_iter().filter(|it| !it.ended).take(50).map(public_participant).collect();
    html! {
        @if !present.is_empty() {
            h2 { "Handlers and operators" }
            table {
                thead { tr { @for name in ["Name", "Last seen", "Event stream", "Slots used", "Notes"] { th { (name) } } } }
                tbody {
                    @for it in &present {
                        tr {
                            td { (it.name) }
                            td.short { (between(it.at, Timestamp::now())) " ago" }
                            td { @if let Some(stream) = &it.stream { (stream_text(stream)) } }
                            td { @if let (Some(running), Some(slots)) = (it.running, it.slots) { (running) " of " (slots) } }
                            td {
                                @if let Some(why) = &it.breaker { div { "claims no jobs: " (why) } }
                                @if let Some(why) = &it.muted { div { "comments are muted: " (why) } }
                                @if it.history_dropped > 0 { div { (it.history_dropped) " entries of the history were dropped" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn stream_text(stream: &StreamHealth) -> String {
    let state = match stream.state {
        StreamState::Standby => "standby",
        StreamState::Connecting => "connecting",
        StreamState::Connected => "connected",
        _ => "not connected",
    };
    format!("{state} since {} UTC", time(stream.since))
}

fn deliveries_table(deliveries: &[DeliveryRecord]) -> Markup {
    html! {
        @if !deliveries.is_empty() {
            h2 { "Reports" }
            table {
                thead { tr { @for name in ["Change", "Results", "State", "When (UTC)"] { th { (name) } } } }
                tbody {
                    @for it in deliveries {
                        tr {
                            td { (it.change) "," (it.patchset) }
                            td { (it.summary) }
                            td { (delivery_text(it)) }
                            td.short { (time(it.at)) }
                        }
                    }
                }
            }
        }
    }
}

fn delivery_text(delivery: &DeliveryRecord) -> String {
    let state = match delivery.state {
        DeliveryState::Delivered => "delivered",
        DeliveryState::Retrying => "will be tried again",
        _ => "undelivered",
    };
    match delivery.attempts {
        0 | 1 => state.to_owned(),
        tries => format!("{state}, after {tries} tries"),
    }
}

fn actions_table(actions: Vec<ControlMessage>) -> Markup {
    let actions: Vec<_> = actions.into_iter().map(public_action).collect();
    html! {
        @if !actions.is_empty() {
            h2 { "Actions" }
            table {
                thead { tr { @for name in ["What", "When (UTC)"] { th { (name) } } } }
                tbody { @for it in &actions { tr { td { (it) } td.short { (time(it.at())) } } } }
            }
        }
    }
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
