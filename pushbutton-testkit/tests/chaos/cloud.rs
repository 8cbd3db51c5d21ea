//! A cloud that goes on with what it was asked when nobody waits for the answer any more, and that stops half-way now and then.

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
    things: Arc<Mutex<BTreeSet<(RunId, ResourceKind)>>>,
}

impl Cloud {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { rng: Mutex::new(rng), things: Arc::default() }
    }

    /// Whether the run's machine is there.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.things.lock().unwrap().contains(&(run.clone(), ResourceKind::Server))
    }

    /// Makes a thing. What was asked of a cloud happens, also when its client is killed meanwhile.
    async fn make(&self, run: &RunId, kind: ResourceKind, takes: Duration) {
        let (things, thing) = (Arc::clone(&self.things), (run.clone(), kind));
        let made = tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            things.lock().unwrap().insert(thing);
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
            return Err(Error::temporary(ErrorKind::Exhausted, "no address is left"));
        }
        self.make(&request.run, ResourceKind::FloatingIp, accepts).await;
        let id = format!("server-{}", request.run);
        Ok(Node::ssh(id, request.label.clone(), "127.0.0.1", "nobody").with_name(&request.name))
    }

    async fn release(&self, run: &RunId, _: &Arc<dyn Journal>) -> Result<()> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.things.lock().unwrap().retain(|(owner, _)| owner != run);
        Ok(())
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let things = self.things.lock().unwrap();
        let owned = things.iter().map(|(run, kind)| {
            OwnedResource::new(*kind, format!("{}-{run}", kind.as_str()), kind.as_str())
                .with_run(run.clone())
                .with_created(Timestamp::now())
        });
        Ok(owned.collect())
    }
}
