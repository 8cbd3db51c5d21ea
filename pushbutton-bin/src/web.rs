//! Serves the dashboard, if the configuration asks for one.

use std::sync::Arc;

use pushbutton_core::pipeline::Muted;
use pushbutton_core::{Error, ErrorKind, Result, RunHistory, Shutdown};
use pushbutton_web::{WebState, router};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::assemble::QueueBackend;
use crate::config::Config;

/// Serves it in the background until the shutdown. `muted` is known where a handler runs.
pub(crate) async fn serve(
    config: &Config,
    backend: &QueueBackend,
    history: impl RunHistory + 'static,
    muted: Option<watch::Receiver<Option<Muted>>>,
    shutdown: &Shutdown,
) -> Result<()> {
    let Some(web) = &config.web else { return Ok(()) };
    let listener = TcpListener::bind(web.listen).await.map_err(|error| {
        let message = format!("cannot listen on {}: {error}; fix `web.listen`", web.listen);
        Error::permanent(ErrorKind::Local, message).during("web::listen")
    })?;
    let mut state = WebState::new(Arc::clone(&backend.queue), history)
        .with_dead_letters(Arc::clone(&backend.dead_letters))
        .with_logs(config.logs.dir.clone())
        .with_title(config.owner.as_str());
    if let Some(muted) = muted {
        state = state.with_muted(muted);
    }
    tracing::info!("the dashboard is at http://{}/", web.listen);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let end = async move { shutdown.begun().await };
        if let Err(error) = axum::serve(listener, router(state)).with_graceful_shutdown(end).await {
            tracing::error!("the dashboard has ended: {error}");
        }
    });
    Ok(())
}
