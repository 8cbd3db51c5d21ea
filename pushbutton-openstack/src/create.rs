//! Creates a resource so that it cannot leak: the journal is written first, and a lost reply is reconciled with what
//! the cloud has.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Journal, Result, RunId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::Api;
use crate::create_spec::CreateSpec;
use crate::ownership_tags::OwnershipTags;

/// How often one resource is created at most; between two tries the cloud is searched for it.
const MAX_TRIES: u32 = 3;

/// What creating and releasing need. It is shared, because a create continues when its caller is gone.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) api: Api,
    pub(crate) tags: OwnershipTags,
    pub(crate) creates: CreatesInProgress,
    pub(crate) create_visibility_timeout: Duration,
}

impl Shared {
    /// Creates the resource and returns its id.
    ///
    /// # Cancel safety
    /// A create that has begun continues to its end when the caller is dropped, so that its id reaches the journal.
    /// [`CreatesInProgress`] lets a release wait for it.
    pub(crate) async fn create(
        self: &Arc<Self>,
        spec: CreateSpec,
        journal: &Arc<dyn Journal>,
    ) -> Result<String> {
        let in_progress = self.creates.begin(&spec.run);
        let (shared, journal) = (Arc::clone(self), Arc::clone(journal));
        let task = tokio::spawn(async move {
            let created = shared.create_now(&spec, &*journal).await;
            drop(in_progress);
            created
        });
        task.await.unwrap_or_else(|error| {
            Err(Error::temporary(ErrorKind::Unexpected, "a create was aborted").because(error))
        })
    }

    async fn create_now(&self, spec: &CreateSpec, journal: &dyn Journal) -> Result<String> {
        let entry = journal.intend(&spec.run, spec.collection.kind, &spec.name).await?;
        let mut tries = 1;
        let id = loop {
            let failed = match self.api.create(spec.collection, &spec.body).await {
                Ok(id) => break id,
                Err(failed) => failed,
            };
            if !failed.ambiguous {
                journal.gone(entry).await?;
                return Err(failed.error);
            }
            tracing::warn!(run = %spec.run, name = %spec.name, "no clear reply to a create, searching for it: {}", failed.error);
            if let Some(id) = self.reconcile(spec).await? {
                break id;
            }
            // The journal's entry stays open, so that the release finds the resource if it appears later.
            if tries == MAX_TRIES || !failed.error.is_temporary() {
                return Err(failed.error);
            }
            tries += 1;
        };
        journal.made(entry, &id).await?;
        Ok(id)
    }

    /// Searches for the resource until it is visible, or would be by now.
    async fn reconcile(&self, spec: &CreateSpec) -> Result<Option<String>> {
        let end = Instant::now() + self.create_visibility_timeout;
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(4));
        loop {
            let found = self.api.owned(spec.collection, &self.tags, Some(&spec.run)).await?;
            // A run may have several volumes and ports. A floating IP has no name, and there is one.
            let is_it = |name: &Option<String>| name.as_ref().is_none_or(|name| *name == spec.name);
            if let Some((resource, _)) = found.into_iter().find(|(one, _)| is_it(&one.name)) {
                return Ok(Some(resource.id));
            }
            let delay = backoff.next_delay();
            if Instant::now() + delay > end {
                return Ok(None);
            }
            tokio::time::sleep(delay).await;
        }
    }
}

/// The runs that creates are in progress for, one entry per create. A release waits for them: what is being created
/// cannot be found yet.
#[derive(Debug, Default)]
pub(crate) struct CreatesInProgress(watch::Sender<Vec<RunId>>);

/// One create in progress, until dropped.
#[derive(Debug)]
struct InProgress {
    all: watch::Sender<Vec<RunId>>,
    run: RunId,
}

impl CreatesInProgress {
    fn begin(&self, run: &RunId) -> InProgress {
        self.0.send_modify(|runs| runs.push(run.clone()));
        InProgress { all: self.0.clone(), run: run.clone() }
    }

    /// Waits until no create of this run is in progress.
    pub(crate) async fn none_of(&self, run: &RunId) {
        // An error would mean that the sender is gone, but `self` holds it.
        let _ = self.0.subscribe().wait_for(|runs| !runs.contains(run)).await;
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.all.send_modify(|runs| {
            if let Some(at) = runs.iter().position(|run| *run == self.run) {
                runs.swap_remove(at);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_release_waits_for_the_last_create_of_its_own_run() {
        let all = Arc::new(CreatesInProgress::default());
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
