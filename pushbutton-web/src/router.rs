use std::sync::Arc;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::get;

use crate::large_answers::{LargeAnswers, bound};
use crate::{WebState, api, logs, metrics, page};

/// Headers of every response that does not set a stricter value itself: no scripts, no frames, nothing from other
/// hosts.
const DEFAULTS: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-cache"),
];

/// The routes, ready to be served, merged or nested. If it is nested, [`WebState::with_base_path`] must be set.
pub fn router(state: WebState) -> Router {
    let lists = Router::new()
        .route("/", get(page::index))
        .route("/api/queue", get(api::queue))
        .route("/api/runs", get(api::runs))
        .route("/api/actions", get(api::actions))
        .route("/api/deliveries", get(api::deliveries))
        .route("/api/participants", get(api::participants))
        .route_layer(from_fn_with_state(Arc::clone(state.lists()), bound));
    // Whoever asks for lists does not keep the monitoring from its metrics.
    let metrics = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route_layer(from_fn_with_state(Arc::new(LargeAnswers::new(2, 8)), bound));
    Router::new()
        .merge(lists)
        .merge(metrics)
        .route("/style.css", get(page::style))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/api/runs/{run}", get(api::run))
        .route("/logs", get(logs::root))
        .route("/logs/", get(logs::root))
        .route("/logs/{*path}", get(logs::entry))
        .layer(map_response(with_defaults))
        .with_state(state)
}

async fn with_defaults(mut response: Response) -> Response {
    for (name, value) in DEFAULTS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
