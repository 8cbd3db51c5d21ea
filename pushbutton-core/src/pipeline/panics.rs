//! Panics of parts: a part that panics must cost its own run or call, and nothing else.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::retry::Backoff;

/// Awaits a call of a part. A panic in it is returned as its message.
///
/// The state that the call shares is not used after a panic, or is behind locks that recover: hence the assertion.
pub(super) async fn catch_panic<T>(call: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(call).catch_unwind().await.map_err(|panic| message_of(panic.as_ref()))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    }
}

/// Runs a background task again after each panic, with a growing delay.
pub(super) async fn restart_after_panic<F: Future<Output = ()>>(name: &str, task: impl Fn() -> F) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    while let Err(panic) = catch_panic(task()).await {
        tracing::error!(task = name, "a background task panicked, it starts again: {panic}");
        tokio::time::sleep(backoff.next_delay()).await;
    }
}
