//! Broadcasts to the other operators that reports are muted, for as long as they are, and alerts a person.

use std::convert::Infallible;
use std::time::Duration;

use super::{Muted, ReportGuard};
use crate::retry::{Backoff, RetryPolicy};
use crate::traits::Queue;

/// Control messages are kept for a day at least: with two broadcasts a day, every operator that starts gets one.
const BROADCAST_INTERVAL: Duration = Duration::from_secs(12 * 3600);

/// An operator that receives the message cannot know how old it is, and repeats it soon: otherwise it could expire
/// after restarts.
const FIRST_REPEAT: Duration = Duration::from_secs(600);

/// How long an operator that shuts down waits until the message is sent.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

impl ReportGuard {
    /// Broadcasts and alerts, until it is dropped. Run by the operator that counts.
    pub(crate) async fn broadcast(&self, queue: &dyn Queue) {
        tokio::join!(self.inform_operators(queue), self.alert_a_person());
    }

    /// Waits, for a short time, until the others know that this operator has muted reports: before it shuts down.
    pub(crate) async fn settled(&self) {
        let mut pending = self.pending.subscribe();
        let settled = pending.wait_for(|it| !(it.alert || it.broadcast && self.muted().is_some()));
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, settled).await.is_err() {
            tracing::error!("shutting down before the other operators know that reports are muted");
        }
    }

    async fn inform_operators(&self, queue: &dyn Queue) {
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

    /// Broadcasts the muting: at once if it began here, and then twice a day. Several operators do so; a repetition
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
                tracing::error!("could not inform the other operators that reports are muted: {error}");
            }
            self.pending.send_modify(|pending| pending.broadcast = false);
            tokio::time::sleep(interval.next_delay()).await;
        }
    }

    /// Alerts a person each time that this operator mutes reports.
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
         Runs go on, and the history keeps their verdicts, but no operator comments on reviews any more.\n\
         Please find out what is wrong, fix it, and then run `pushbutton-bin unmute`.\n"
    );
    (subject, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_person_reads_what_happened_and_what_to_do() {
        let muted = Muted { by: "operator host-3".into(), why: "ten in a row".into(), since: samples::AT };
        let (_, text) = alert_text(&muted);
        assert!(text.starts_with("operator host-3 at 2026-11-23T12:00:00Z: ten in a row."), "{text}");
        assert!(text.contains("unmute"), "{text}");
    }
}
