//! Reads the control messages of a queue, for as long as it is not dropped.

use std::time::Duration;

use futures_util::StreamExt as _;

use crate::control::ControlMessage;
use crate::error::{Error, ErrorKind, Result};
use crate::retry::Backoff;
use crate::traits::Queue;

/// Applies every control message: those of the last day, then all that follow. After an error it starts again, so a
/// message may be applied twice.
pub(super) async fn listen(queue: &dyn Queue, apply: impl Fn(&ControlMessage)) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        if let Err(error) = read(queue, &apply, &mut backoff).await {
            tracing::warn!(
                "cannot read control messages, so cancellations and mutes are not seen yet: {error}"
            );
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn read(queue: &dyn Queue, apply: impl Fn(&ControlMessage), backoff: &mut Backoff) -> Result<()> {
    let mut messages = queue.control_messages().await?;
    while let Some(message) = messages.next().await {
        apply(&message?);
        backoff.reset();
    }
    Err(Error::permanent(ErrorKind::Unexpected, "the stream of control messages ended"))
}
