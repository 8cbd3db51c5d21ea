//! The HTTP API: JSON for programs.

use std::cmp::min;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pushbutton_core::QueueDepth;
use pushbutton_core::traits::DeadLetter;
use serde::{Deserialize, Serialize};

use crate::state::answer;
use crate::{RunView, WebState};

/// Runs and dead letters in one answer, unless asked for fewer or more.
pub(crate) const DEFAULT_LIMIT: usize = 50;

/// Runs and dead letters in one answer, at most.
const MAX_LIMIT: usize = 500;

#[derive(Deserialize)]
pub(crate) struct Page {
    limit: Option<usize>,
}

impl Page {
    fn limit(&self) -> usize {
        min(self.limit.unwrap_or(DEFAULT_LIMIT), MAX_LIMIT)
    }
}

#[derive(Serialize)]
struct Health {
    queue: &'static str,
    history: &'static str,
}

/// 200 when queue and history answer, 503 otherwise.
pub(crate) async fn healthz(State(state): State<WebState>) -> Response {
    let queue = state.depth().await.is_some();
    let history = answer("history", state.history().last_success()).await.is_some();
    let status = if queue && history { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = |well: bool| if well { "ok" } else { "failed" };
    (status, Json(Health { queue: word(queue), history: word(history) })).into_response()
}

#[derive(Serialize)]
struct QueueState {
    #[serde(flatten)]
    depth: QueueDepth,
    dead_letters: Vec<DeadLetter>,
}

/// How many jobs are where, and the oldest dead letters.
pub(crate) async fn queue(State(state): State<WebState>, Query(page): Query<Page>) -> Response {
    match (state.depth().await, state.dead_letters(page.limit()).await) {
        (Some(depth), Some(dead_letters)) => Json(QueueState { depth, dead_letters }).into_response(),
        _ => no_answer("queue"),
    }
}

#[derive(Serialize)]
struct Runs {
    runs: Vec<RunView>,
}

/// The latest runs.
pub(crate) async fn runs(State(state): State<WebState>, Query(page): Query<Page>) -> Response {
    match answer("history", state.history().recent(page.limit())).await {
        Some(runs) => Json(Runs { runs }).into_response(),
        None => no_answer("history"),
    }
}

#[derive(Serialize)]
struct Failed {
    error: String,
}

fn no_answer(part: &str) -> Response {
    let error = format!("the {part} does not answer; pushbutton's own log says why");
    (StatusCode::SERVICE_UNAVAILABLE, Json(Failed { error })).into_response()
}
