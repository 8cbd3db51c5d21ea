//! Counts the creates that are under way, so that a release waits for what it could not find yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pushbutton_core::RunId;
use tokio::sync::Notify;

/// Creates under way, by run.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    runs: Mutex<HashMap<RunId, usize>>,
    ended: Notify,
}

/// One create under way; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Create {
    all: Arc<InFlight>,
    run: RunId,
}

impl InFlight {
    fn runs(&self) -> MutexGuard<'_, HashMap<RunId, usize>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A create begins.
    pub(crate) fn begin(self: &Arc<Self>, run: &RunId) -> Create {
        *self.runs().entry(run.clone()).or_default() += 1;
        Create { all: Arc::clone(self), run: run.clone() }
    }

    /// Waits until no create of this run is under way.
    pub(crate) async fn none_of(&self, run: &RunId) {
        loop {
            // Asked for before the look, so that an end in between still wakes us.
            let ended = self.ended.notified();
            if !self.runs().contains_key(run) {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Create {
    fn drop(&mut self) {
        let mut runs = self.all.runs();
        if let Some(count) = runs.get_mut(&self.run) {
            *count -= 1;
            if *count == 0 {
                runs.remove(&self.run);
            }
        }
        drop(runs);
        self.all.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_release_waits_for_the_last_create_of_its_own_run() {
        let all = Arc::new(InFlight::default());
        let (mine, other) = (RunId::generate(), RunId::generate());
        let (first, second, _other) = (all.begin(&mine), all.begin(&mine), all.begin(&other));
        let waiting = tokio::spawn({
            let (all, mine) = (Arc::clone(&all), mine.clone());
            async move { all.none_of(&mine).await }
        });
        drop(first);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}
