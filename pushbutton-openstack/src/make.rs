//! Makes one thing in the cloud so that it cannot leak: intent first, and no guess about a lost answer.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Journal, ResourceKind, Result, RunId};
use serde_json::Value;
use tokio::time::Instant;

use crate::api::Api;
use crate::ask::{Ask, Failed, Service};
use crate::inflight::InFlight;
use crate::marks::Marks;
use crate::wire::Made;

/// Creates of one thing in all, each after a look whether the one before was done after all.
const TRIES: u32 = 3;

/// What everything that makes or unmakes needs. Shared, as a create goes on when its caller is gone.
pub(crate) struct Shared {
    pub(crate) api: Api,
    pub(crate) marks: Marks,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) settle_time: Duration,
}

/// Something to make.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) kind: ResourceKind,
    pub(crate) run: RunId,
    pub(crate) name: String,
    /// The body of the request that makes it.
    pub(crate) body: Value,
}

impl Wanted {
    async fn post(&self, api: &Api) -> std::result::Result<String, Failed> {
        let (service, path, key) = match self.kind {
            ResourceKind::Volume => (Service::BlockStorage, "volumes", "volume"),
            ResourceKind::FloatingIp => (Service::Network, "floatingips", "floatingip"),
            _ => (Service::Compute, "servers", "server"),
        };
        let made: Made = api.fetch(&Ask::post(service, [path], self.body.clone()), key).await?;
        Ok(made.id)
    }

    /// Looks whether it is there, by its marks.
    async fn find(&self, api: &Api, marks: &Marks) -> Result<Option<String>> {
        let run = Some(&self.run);
        let ids: Vec<String> = match self.kind {
            ResourceKind::Volume => {
                api.our_volumes(marks, run).await?.into_iter().map(|(one, _)| one.id).collect()
            }
            ResourceKind::FloatingIp => {
                api.our_floating_ips(marks, run).await?.into_iter().map(|(one, _)| one.id).collect()
            }
            _ => api.our_servers(marks, run).await?.into_iter().map(|(one, _)| one.id).collect(),
        };
        Ok(ids.into_iter().next())
    }
}

impl Shared {
    /// Makes it and returns its id.
    ///
    /// # Cancel safety
    /// A create that has begun goes on to its end when the caller is dropped, so that its id reaches the journal;
    /// [`InFlight`] tells a release to wait for it.
    pub(crate) async fn make(self: &Arc<Self>, wanted: Wanted) -> Result<String> {
        let create = self.in_flight.begin(&wanted.run);
        let shared = Arc::clone(self);
        let task = tokio::spawn(async move {
            let made = shared.make_now(&wanted).await;
            drop(create);
            made
        });
        task.await.unwrap_or_else(|error| {
            Err(Error::temporary(ErrorKind::Unexpected, "a create was broken off").because(error))
        })
    }

    async fn make_now(&self, wanted: &Wanted) -> Result<String> {
        let entry = self.journal.intend(&wanted.run, wanted.kind, &wanted.name).await?;
        let mut tries = 1;
        let id = loop {
            let failed = match wanted.post(&self.api).await {
                Ok(id) => break id,
                Err(failed) => failed,
            };
            if !failed.maybe_done {
                self.journal.gone(entry).await?;
                return Err(failed.error);
            }
            tracing::warn!(run = %wanted.run, name = %wanted.name, "no clear answer to a create, looking for it: {}", failed.error);
            if let Some(id) = self.settle(wanted).await? {
                break id;
            }
            // The entry stays open: should it appear after all, the release finds it.
            if tries == TRIES || !failed.error.is_temporary() {
                return Err(failed.error);
            }
            tries += 1;
        };
        self.journal.made(entry, &id).await?;
        Ok(id)
    }

    /// Looks until it is there, or would be there by now.
    async fn settle(&self, wanted: &Wanted) -> Result<Option<String>> {
        let end = Instant::now() + self.settle_time;
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(4));
        loop {
            if let Some(id) = wanted.find(&self.api, &self.marks).await? {
                return Ok(Some(id));
            }
            let delay = backoff.next_delay();
            if Instant::now() + delay > end {
                return Ok(None);
            }
            tokio::time::sleep(delay).await;
        }
    }
}
