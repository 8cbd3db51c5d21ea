//! A cloud that completes a request also when its client is gone, and sometimes fails half-way.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::{
    Error, ErrorKind, Journal, Node, NodeRequest, OwnedResource, Provisioner, ResourceKind, Result, RunId,
};

use crate::rng::Rng;

pub(crate) struct Cloud {
    rng: Mutex<Rng>,
    resources: Arc<Mutex<BTreeSet<(RunId, ResourceKind)>>>,
}

impl Cloud {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { rng: Mutex::new(rng), resources: Arc::default() }
    }

    /// Whether the server of this run exists.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.resources.lock().unwrap().contains(&(run.clone(), ResourceKind::Server))
    }

    /// Makes a resource. A cloud completes a request also when its client is killed meanwhile.
    async fn make(&self, run: &RunId, kind: ResourceKind, takes: Duration) {
        let (resources, resource) = (Arc::clone(&self.resources), (run.clone(), kind));
        let made = tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            resources.lock().unwrap().insert(resource);
        });
        made.await.unwrap();
    }
}

#[async_trait]
impl Provisioner for Cloud {
    async fn provision(&self, request: &NodeRequest, _: &Arc<dyn Journal>) -> Result<Node> {
        let (accepts, boots, half_made) = {
            let mut rng = self.rng.lock().unwrap();
            let second = Duration::from_secs(1);
            (rng.between(Duration::ZERO, 5 * second), rng.between(10 * second, 120 * second), rng.percent(5))
        };
        self.make(&request.run, ResourceKind::Server, accepts).await;
        tokio::time::sleep(boots).await;
        if half_made {
            return Err(Error::temporary(ErrorKind::Exhausted, "no address is available"));
        }
        self.make(&request.run, ResourceKind::FloatingIp, accepts).await;
        let id = format!("server-{}", request.run);
        Ok(Node::ssh(id, request.label.clone(), "127.0.0.1", "nobody").with_name(&request.name))
    }

    async fn release(&self, run: &RunId, _: &Arc<dyn Journal>) -> Result<()> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.resources.lock().unwrap().retain(|(owner, _)| owner != run);
        Ok(())
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let resources = self.resources.lock().unwrap();
        let owned = resources.iter().map(|(run, kind)| {
            OwnedResource::new(*kind, format!("{}-{run}", kind.as_str()), kind.as_str())
                .with_run(run.clone())
                .with_created(Timestamp::now())
        });
        Ok(owned.collect())
    }
}
