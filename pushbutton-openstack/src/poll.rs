//! Waits for what the cloud does in its own time.

use std::time::Duration;

use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Result};

/// Looks again and again, soon at first, then less often, until there is an answer. Put a time limit around it.
pub(crate) async fn poll<T, F, Fut>(mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(5));
    loop {
        match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            // The cloud's API may be away for longer than a call's patience; the boot goes on without it.
            Err(error) if unheard(&error) => tracing::warn!("cannot look, will look again: {error}"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Whether an error says nothing about what was looked at.
pub(crate) fn unheard(error: &Error) -> bool {
    let of_server = error.context("status").is_some_and(|status| status.starts_with('5') || status == "429");
    error.is_temporary()
        && (of_server || matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::TimedOut))
}
