//! `dashboard`: the web pages, API and metrics alone. It needs no key of anything but the broker.

use pushbutton_core::{Error, ErrorKind};

use crate::cli::{Global, Start};
use crate::config::Config;
use crate::exit::Exit;
use crate::runtime::Runtime;

/// Serves until it is shut down.
pub(crate) async fn run(config: &Config, global: &Global, start: Start) -> anyhow::Result<Exit> {
    if config.web.is_none() {
        let message = "the section `web` is missing: it says where to listen";
        return Err(Error::permanent(ErrorKind::Config, message).into());
    }
    let Some(runtime) = Runtime::start(config, global, None, start).await? else { return Ok(Exit::Ok) };
    runtime.log_where_jobs_wait();
    runtime.serve("dashboard", None, None).await?;
    runtime.shutdown.begun().await;
    Ok(runtime.end().await)
}
