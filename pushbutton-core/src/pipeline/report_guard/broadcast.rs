//! Broadcasts to other handlers that reports are muted, for as long as they are, and alerts a person.

use std::convert::Infallible;
use std::time::Duration;

use super::{Muted, ReportGuard};
use crate::pipeline::control_listener;
use crate::retry::{Backoff, RetryPolicy};
use crate::traits::Queue;

/// Control messages are kept for a day at least: with two broadcasts a day, every handler that starts gets one.
const BROADCAST_INTERVAL: Duration = Duration::from_secs(12 * 3600);

/// A handler that receives the message cannot know how old it is, and repeats it soon: otherwise it could expire
/// after restarts.
const FIRST_REPEAT: Duration = Duration::from_secs(600);

/// How long a handler that shuts down waits until the message is sent.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

impl ReportGuard {
    /// Reads control messages, broadcasts and alerts, until it is dropped. Run by the handler that counts.
    pub(crate) async fn run(&self, queue: &dyn Queue) {
        let read = control_listener::listen(queue, |message| self.observe(message));
        tokio::join!(read, self.inform_handlers(queue), self.alert_a_person());
    }

    /// Waits, for a short time, until the others know that this handler has muted reports: before it shuts down.
    pub(crate) async fn settled(&self) {
        let mut pending = self.pending.subscribe();
        let settled = pending.wait_for(|it| !(it.alert || it.broadcast && self.muted().is_some()));
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, settled).await.is_err() {
            tracing::error!("shutting down before other handlers know that reports are muted");
        }
    }

    async fn inform_handlers(&self, queue: &dyn Queue) {
        let mut changes = self.watch();
        loop {
            let muted = match changes.wait_for(Option::is_some).await {
                Ok(muted) => muted.clone(),
                Err(_) => return,
            };
            let Some(muted) = muted else { continue };
            tokio::select! {
                never = self.repeat_broadcast(&muted, queue) => match never {},
                _ = changes.changed() => {}
            }
        }
    }

    /// Broadcasts the muting: at once if it began here, and then twice a day. Several handlers do so; a repetition
    /// changes nothing.
    async fn repeat_broadcast(&self, muted: &Muted, queue: &dyn Queue) -> Infallible {
        let message = muted.message();
        if muted.by != self.by {
            tokio::time::sleep(Backoff::new(FIRST_REPEAT, FIRST_REPEAT).next_delay()).await;
        }
        let mut interval = Backoff::new(BROADCAST_INTERVAL, BROADCAST_INTERVAL);
        loop {
            let broadcast = || queue.broadcast(&message);
            if let Err(error) = RetryPolicy::UNTIL_SUCCESS.run("queue::broadcast", broadcast).await {
                tracing::error!("could not inform other handlers that reports are muted: {error}");
            }
            self.pending.send_modify(|pending| pending.broadcast = false);
            tokio::time::sleep(interval.next_delay()).await;
        }
    }

    /// Alerts a person each time that this handler mutes reports.
    async fn alert_a_person(&self) {
        loop {
            self.muted_here.notified().await;
            if let (Some(alerter), Some(muted)) = (&self.alerter, self.muted()) {
                let (subject, text) = alert_text(&muted);
                let alert = || alerter.alert(&subject, &text);
                if let Err(error) = RetryPolicy::UNTIL_SUCCESS.run("alerter::alert", alert).await {
                    tracing::error!("could not alert a person: {error}");
                }
            }
            self.pending.send_modify(|pending| pending.alert = false);
        }
    }
}

/// Subject and text of the alert.
fn alert_text(muted: &Muted) -> (String, String) {
    let Muted { by, why, since } = muted;
    let subject = "pushbutton has muted its reports: too many runs fail".to_owned();
    let text = format!(
        "{by} at {since}: {why}.\n\n\
         Runs go on, and their reports are kept, but reviews get no comments any more.\n\
         Please find out what is wrong, fix it, and then run `pushbutton-bin unmute`. After that, `pushbutton-bin reports\n\
         list` shows what was withheld: `reports retry` or `reports drop` it.\n"
    );
    (subject, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_person_reads_what_happened_and_what_to_do() {
        let muted = Muted { by: "handler host-3".into(), why: "ten in a row".into(), since: samples::AT };
        let (_, text) = alert_text(&muted);
        assert!(text.starts_with("handler host-3 at 2026-11-23T12:00:00Z: ten in a row."), "{text}");
        assert!(text.contains("unmute"), "{text}");
    }
}
