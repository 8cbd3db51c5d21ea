//! The HTTP API: JSON for programs. It only reads.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
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

/// 200 when queue and history answer, 503 otherwise.
pub(crate) async fn healthz(State(state): State<WebState>) -> Response {
    let (depth, last_success) =
        tokio::join!(state.depth(), answer("history", state.history().last_success()));
    let (queue, history) = (depth.is_some(), last_success.is_some());
    let status = if queue && history { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = |healthy: bool| if healthy { "ok" } else { "failed" };
    (status, Json(json!({ "queue": text(queue), "history": text(history) }))).into_response()
}

/// How many jobs are where, and the oldest dead letters.
pub(crate) async fn queue(State(state): State<WebState>, Query(limit): Query<Limit>) -> Response {
    let (depth, dead_letters) = tokio::join!(state.depth(), state.dead_letters(limit.get()));
    match (depth, dead_letters) {
        (Some(depth), Some(dead_letters)) => Json(json!({
            "waiting": depth.waiting,
            "leased": depth.leased,
            "dead": depth.dead,
            "reports": depth.reports,
            "undelivered": depth.undelivered,
            "dead_letters": dead_letters,
        }))
        .into_response(),
        _ => unavailable("queue"),
    }
}

/// The latest runs.
pub(crate) async fn runs(State(state): State<WebState>, Query(limit): Query<Limit>) -> Response {
    match answer("history", state.history().recent(limit.get())).await {
        Some(runs) => Json(json!({ "runs": runs })).into_response(),
        None => unavailable("history"),
    }
}

fn unavailable(part: &str) -> Response {
    let error = format!("the {part} does not answer; see the log of pushbutton");
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error }))).into_response()
}
