//! Telling everybody of a silence, for as long as it lasts.

use std::convert::Infallible;
use std::time::Duration;

use super::{Mute, Silence};
use crate::retry::{Backoff, RetryPolicy};
use crate::seam::Queue;

/// Notices are kept for a day at least: what is told twice a day is heard by every operator that starts.
const TELL_AGAIN: Duration = Duration::from_secs(12 * 3600);

/// Who hears of a silence cannot know how old that notice is, and soon tells it again: else restarts could let it be forgotten.
const TELL_SOON: Duration = Duration::from_secs(600);

/// An operator that ends waits so long to get the word out.
const LAST_WORD: Duration = Duration::from_secs(10);

impl Mute {
    /// Tells the other operators, and a person, for ever. Run by the operator that counts.
    pub(crate) async fn keep(&self, queue: &dyn Queue) {
        tokio::join!(self.tell_operators(queue), self.call_a_person());
    }

    /// Waits until the others know of a silence that began here, but not for long: before this operator ends.
    pub(crate) async fn settled(&self) {
        let mut owes = self.owes.subscribe();
        let settled = owes.wait_for(|owes| !(owes.call || owes.word && self.silence().is_some()));
        if tokio::time::timeout(LAST_WORD, settled).await.is_err() {
            tracing::error!(
                "ending without having told that nobody may speak: the next row of failures will"
            );
        }
    }

    async fn tell_operators(&self, queue: &dyn Queue) {
        let mut standing = self.watch();
        loop {
            let silence = match standing.wait_for(Option::is_some).await {
                Ok(silence) => silence.clone(),
                Err(_) => return,
            };
            let Some(silence) = silence else { continue };
            tokio::select! {
                never = self.tell_for_ever(&silence, queue) => match never {},
                _ = standing.changed() => {}
            }
        }
    }

    /// Announces a silence, ours at once, and then twice a day. Several operators do so: hearing it again changes nothing.
    async fn tell_for_ever(&self, silence: &Silence, queue: &dyn Queue) -> Infallible {
        let notice = silence.notice();
        if silence.by != self.by {
            tokio::time::sleep(Backoff::new(TELL_SOON, TELL_SOON).next_delay()).await;
        }
        let mut again = Backoff::new(TELL_AGAIN, TELL_AGAIN);
        loop {
            if let Err(error) = RetryPolicy::FOR_EVER.run("queue::announce", || queue.announce(&notice)).await
            {
                tracing::error!("could not tell the other operators to be silent: {error}");
            }
            self.owes.send_modify(|owes| owes.word = false);
            tokio::time::sleep(again.next_delay()).await;
        }
    }

    /// Raises the alarm for each silence that began here.
    async fn call_a_person(&self) {
        loop {
            self.found.notified().await;
            if let (Some(alarm), Some(silence)) = (&self.alarm, self.silence()) {
                let (subject, text) = words(&silence);
                let raise = || alarm.raise(&subject, &text);
                if let Err(error) = RetryPolicy::FOR_EVER.run("alarm::raise", raise).await {
                    tracing::error!("could not call a person: {error}");
                }
            }
            self.owes.send_modify(|owes| owes.call = false);
        }
    }
}

/// What the person reads.
fn words(silence: &Silence) -> (String, String) {
    let Silence { by, why, since } = silence;
    let subject = "pushbutton has fallen silent: runs go wrong, one after the other".to_owned();
    let text = format!(
        "{by} found at {since}: {why}.\n\n\
         Runs go on, and the history keeps their verdicts, but reviews hear nothing more on any operator.\n\
         Please see what is wrong, mend it, and then unmute.\n"
    );
    (subject, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sample;

    #[test]
    fn the_person_reads_what_happened_and_what_to_do() {
        let silence = Silence { by: "operator host-3".into(), why: "ten in a row".into(), since: sample::AT };
        let (_, text) = words(&silence);
        assert!(text.starts_with("operator host-3 found at 2026-11-23T12:00:00Z: ten in a row."), "{text}");
        assert!(text.contains("unmute"), "{text}");
    }
}
