//! `run`, `handler` and `operator`: the pipeline, or one half of it, until it is shut down.

use pushbutton_core::Pipeline;

use crate::cli::{Comments, Global, Start, Work};
use crate::config::Config;
use crate::exit::Exit;
use crate::runtime::{Runtime, Upstream, log_handler, log_operator};

/// Both halves.
pub(crate) async fn both(
    config: &Config,
    global: &Global,
    work: Work,
    comments: Comments,
    start: Start,
) -> anyhow::Result<Exit> {
    let upstream = Upstream::new(config)?;
    let Some(runtime) = Runtime::start(config, global, Some(&upstream), start).await? else {
        return Ok(Exit::Ok);
    };
    let operator = runtime.operator(work).await?.with_change_status(upstream.gerrit());
    let health = operator.health();
    let pipeline = Pipeline::new(runtime.handler(&upstream, comments)?, operator)?;
    runtime.serve("run", Some(&upstream), Some(health)).await?;
    let (handler, operator) = pipeline.run(&runtime.shutdown).await?;
    log_handler(handler);
    log_operator(operator);
    Ok(runtime.end().await)
}

/// The ingest half.
pub(crate) async fn handler(
    config: &Config,
    global: &Global,
    comments: Comments,
    start: Start,
) -> anyhow::Result<Exit> {
    let upstream = Upstream::new(config)?;
    let Some(runtime) = Runtime::start(config, global, Some(&upstream), start).await? else {
        return Ok(Exit::Ok);
    };
    runtime.log_where_jobs_wait();
    let handler = runtime.handler(&upstream, comments)?;
    runtime.serve("handler", Some(&upstream), None).await?;
    log_handler(handler.run(&runtime.shutdown).await?);
    Ok(runtime.end().await)
}

/// The work half. It uses no Gerrit: which changes are superseded or closed it learns from control messages.
pub(crate) async fn operator(
    config: &Config,
    global: &Global,
    work: Work,
    start: Start,
) -> anyhow::Result<Exit> {
    let Some(runtime) = Runtime::start(config, global, None, start).await? else { return Ok(Exit::Ok) };
    runtime.log_where_jobs_wait();
    let operator = runtime.operator(work).await?;
    runtime.serve("operator", None, Some(operator.health())).await?;
    tracing::info!("waiting for jobs, {} at once", operator.health().borrow().slots);
    log_operator(operator.run(&runtime.shutdown).await?);
    Ok(runtime.end().await)
}
