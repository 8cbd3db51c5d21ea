//! Waiting for servers at the start of a command.

use std::time::Duration;

use pushbutton_core::retry::{Backoff, RetryPolicy};
use pushbutton_core::{Error, ErrorKind, Queue, Result};
use pushbutton_gerrit::Gerrit;

use crate::config::Config;

/// How long a command that a person waits for tries to reach a server.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits until the queue answers.
///
/// # Errors
/// [`ErrorKind::Unreachable`] when it does not answer in time; permanent errors at once.
pub(crate) async fn wait_for_queue(config: &Config, queue: &dyn Queue, timeout: Duration) -> Result<()> {
    let Some(rabbitmq) = &config.rabbitmq else { return queue.depth().await.map(drop) };
    let advice = || {
        let address = rabbitmq.address();
        format!(
            "cannot reach RabbitMQ at {address}; start it, or fix `rabbitmq.url` (`pushbutton-bin check` shows details)"
        )
    };
    retry_until(timeout, || queue.depth(), advice).await.map(drop)
}

/// Waits until Gerrit accepts the login.
///
/// # Errors
/// As [`wait_for_queue`].
pub(crate) async fn wait_for_gerrit(gerrit: &Gerrit, timeout: Duration) -> Result<()> {
    let config = gerrit.config();
    let advice = || {
        let (host, port) = (&config.host, config.port);
        format!(
            "cannot reach Gerrit at {host}:{port}; fix `gerrit.host` and `gerrit.port`, or wait for the server with --wait"
        )
    };
    let version = retry_until(timeout, || gerrit.version(), advice).await?;
    tracing::info!("{}@{}:{} runs Gerrit {version}", config.user, config.host, config.port);
    Ok(())
}

/// Tries until the call succeeds, fails permanently, or the time is over. Then the error is the advice, because of the
/// last one.
async fn retry_until<T, F, Fut>(timeout: Duration, mut call: F, advice: impl FnOnce() -> String) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let mut last = None;
    let tries = async {
        let mut backoff = Backoff::new(RetryPolicy::SHORT.first, RetryPolicy::SHORT.cap);
        loop {
            match call().await {
                Err(error) if error.is_temporary() => last = Some(error),
                result => return result,
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    };
    match tokio::time::timeout(timeout, tries).await {
        Ok(result) => result,
        Err(_) => {
            let unreachable = Error::permanent(ErrorKind::Unreachable, advice());
            Err(last.into_iter().fold(unreachable, Error::because))
        }
    }
}
