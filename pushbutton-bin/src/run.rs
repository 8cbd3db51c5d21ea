//! `run`, `handler` and `operator`: the pipeline, or one half of it, until it is shut down.

use pushbutton_core::Pipeline;

use crate::cli::{Global, Start, Work};
use crate::config::Config;
use crate::exit::Exit;
use crate::runtime::{Runtime, log_handler, log_operator};

/// Both halves.
pub(crate) async fn both(config: &Config, global: &Global, work: Work, start: Start) -> anyhow::Result<Exit> {
    let Some(runtime) = Runtime::start(config, global, start).await? else { return Ok(Exit::Ok) };
    let pipeline = Pipeline::new(runtime.handler()?, runtime.operator(work).await?)?;
    let (handler, operator) = pipeline.run(&runtime.shutdown).await?;
    log_handler(handler);
    log_operator(operator);
    Ok(runtime.end().await)
}

/// The ingest half.
pub(crate) async fn handler(config: &Config, global: &Global, start: Start) -> anyhow::Result<Exit> {
    let Some(runtime) = Runtime::start(config, global, start).await? else { return Ok(Exit::Ok) };
    runtime.log_where_jobs_wait();
    log_handler(runtime.handler()?.run(&runtime.shutdown).await?);
    Ok(runtime.end().await)
}

/// The work half.
pub(crate) async fn operator(
    config: &Config,
    global: &Global,
    work: Work,
    start: Start,
) -> anyhow::Result<Exit> {
    let Some(runtime) = Runtime::start(config, global, start).await? else { return Ok(Exit::Ok) };
    runtime.log_where_jobs_wait();
    let operator = runtime.operator(work).await?;
    tracing::info!("waiting for jobs, {} at once", operator.health().borrow().slots);
    log_operator(operator.run(&runtime.shutdown).await?);
    Ok(runtime.end().await)
}
