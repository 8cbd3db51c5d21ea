//! The HTTP API: JSON for programs. It only reads.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pushbutton_core::{
    ControlMessage, DeadLetter, DeliveryRecord, ParticipantRecord, QueueDepth, RunId, RunRecord,
    StreamHealth, StreamState,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::WebState;
use crate::state::answer;

/// Runs or dead letters in one answer, unless the request has a `limit`.
pub(crate) const DEFAULT_LIMIT: usize = 50;

/// Runs or dead letters in one answer, at most.
const MAX_LIMIT: usize = 500;

#[derive(Deserialize)]
pub(crate) struct Limit {
    limit: Option<usize>,
}

impl Limit {
    fn get(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)
    }
}

// Answers that list many things are written from these at once: a `serde_json::Value` of them would take several times
// their memory.

#[derive(Serialize)]
struct QueueAnswer {
    waiting: u64,
    leased: u64,
    dead: u64,
    reports: u64,
    undelivered: u64,
    dead_letters: Vec<DeadLetter>,
}

#[derive(Serialize)]
struct Runs {
    runs: Vec<RunRecord>,
}

#[derive(Serialize)]
struct Actions {
    actions: Vec<ControlMessage>,
}

#[derive(Serialize)]
struct Deliveries {
    deliveries: Vec<DeliveryRecord>,
}

#[derive(Serialize)]
struct Participants {
    participants: Vec<ParticipantRecord>,
}

/// 200 as long as this process answers: a restart would mend nothing that `/readyz` complains of.
pub(crate) async fn healthz() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// 200 when this process can do its work now; else 503 with the reasons. A configuration that was refused is no reason:
/// the process works by the old one.
pub(crate) async fn readyz(State(state): State<WebState>) -> Response {
    let (depth, last_success) =
        tokio::join!(state.depth(), answer("history", state.history().last_success()));
    let (broker, stream) = (state.is_broker_connected(), state.stream());
    let mut reasons = Vec::new();
    if broker == Some(false) {
        reasons.push("RabbitMQ is not connected".to_owned());
    }
    if depth.is_none() {
        reasons.push("the queue does not answer".to_owned());
    }
    if last_success.is_none() {
        reasons.push("the run history does not answer".to_owned());
    }
    // Why is in the log: pages are public, and errors name hosts.
    if let Some(StreamHealth { state: StreamState::Connecting | StreamState::Disconnected, since, .. }) =
        &stream
    {
        reasons.push(format!("the event stream of the review server is not connected, since {since:.0}"));
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = |healthy: bool| if healthy { "ok" } else { "failed" };
    let body = json!({
        "ready": reasons.is_empty(),
        "reasons": reasons,
        "queue": text(depth.is_some()),
        "history": text(last_success.is_some()),
        "broker": broker.map(text),
        "stream": stream.map(|stream| stream.state),
        "config": state.config().map(|config| if config.refused.is_none() { "ok" } else { "refused" }),
    });
    (status, Json(body)).into_response()
}

/// How many jobs are where, and the oldest dead letters.
pub(crate) async fn queue(State(state): State<WebState>, Query(limit): Query<Limit>) -> Response {
    let (depth, dead_letters) = tokio::join!(state.depth(), state.dead_letters(limit.get()));
    match (depth, dead_letters) {
        (Some(depth), Some(dead_letters)) => {
            let QueueDepth { waiting, leased, dead, reports, undelivered, .. } = depth;
            Json(QueueAnswer { waiting, leased, dead, reports, undelivered, dead_letters }).into_response()
        }
        _ => unavailable("queue"),
    }
}

/// The latest runs.
pub(crate) async fn runs(State(state): State<WebState>, Query(limit): Query<Limit>) -> Response {
    match answer("history", state.history().recent(limit.get())).await {
        Some(runs) => Json(Runs { runs }).into_response(),
        None => unavailable("history"),
    }
}

/// One run.
pub(crate) async fn run(State(state): State<WebState>, Path(run): Path<String>) -> Response {
    let Ok(run) = RunId::new(run) else { return not_found() };
    match answer("history", state.history().find_run(&run)).await {
        Some(Some(run)) => Json(json!({ "run": run })).into_response(),
        Some(None) => not_found(),
        None => unavailable("history"),
    }
}

/// The latest control messages: what was superseded, cancelled and muted.
pub(crate) async fn actions(State(state): State<WebState>, Query(limit): Query<Limit>) -> Response {
    match answer("history", state.history().actions(limit.get())).await {
        Some(actions) => {
            let actions = actions.into_iter().map(public_action).collect();
            Json(Actions { actions }).into_response()
        }
        None => unavailable("history"),
    }
}

/// The reports that were last delivered or tried. Why one was refused is for the lab's people only.
pub(crate) async fn deliveries(State(state): State<WebState>, Query(limit): Query<Limit>) -> Response {
    match answer("history", state.history().deliveries(limit.get())).await {
        Some(deliveries) => {
            let deliveries = deliveries.into_iter().map(|it| it.with_why(None)).collect();
            Json(Deliveries { deliveries }).into_response()
        }
        None => unavailable("history"),
    }
}

/// The handlers, operators and dashboards, as they last said they are.
pub(crate) async fn participants(State(state): State<WebState>) -> Response {
    match answer("history", state.history().participants()).await {
        Some(participants) => {
            let participants = participants.into_iter().map(public_participant).collect();
            Json(Participants { participants }).into_response()
        }
        None => unavailable("history"),
    }
}

/// Without what is for the lab's people only: pages are public, and errors name hosts and folders.
pub(crate) fn public_participant(mut participant: ParticipantRecord) -> ParticipantRecord {
    if let Some(stream) = &mut participant.stream {
        stream.why = None;
    }
    participant.breaker = participant.breaker.map(|_| "no node came up".to_owned());
    if let Some(config) = &mut participant.config {
        config.refused = config.refused.take().map(|_| "its log says why".to_owned());
    }
    participant.muted = participant.muted.map(|_| "a person must look".to_owned());
    participant
}

/// The same.
pub(crate) fn public_action(message: ControlMessage) -> ControlMessage {
    match message {
        ControlMessage::Muted { by, at, .. } => ControlMessage::Muted { by, why: String::new(), at },
        message => message,
    }
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({ "error": "no run has this id" }))).into_response()
}

fn unavailable(part: &str) -> Response {
    let error = format!("the {part} does not answer; see the log of pushbutton");
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error }))).into_response()
}
