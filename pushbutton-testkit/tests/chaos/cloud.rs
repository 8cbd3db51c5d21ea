//! A cloud that goes on with what it was asked when nobody waits for the answer any more, and that stops half-way now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::{
    Error, ErrorKind, Node, NodeRequest, OwnedResource, Provisioner, ResourceKind, Result, RunId,
};

use crate::dice::Dice;

pub(crate) struct Cloud {
    dice: Mutex<Dice>,
    things: Arc<Mutex<BTreeSet<(RunId, ResourceKind)>>>,
}

impl Cloud {
    pub(crate) fn new(dice: Dice) -> Self {
        Self { dice: Mutex::new(dice), things: Arc::default() }
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
    async fn provision(&self, request: &NodeRequest) -> Result<Node> {
        let (accepts, boots, half_made) = {
            let mut dice = self.dice.lock().unwrap();
            let second = Duration::from_secs(1);
            (
                dice.between(Duration::ZERO, 5 * second),
                dice.between(10 * second, 120 * second),
                dice.percent(5),
            )
        };
        self.make(&request.run, ResourceKind::Server, accepts).await;
        tokio::time::sleep(boots).await;
        if half_made {
            return Err(Error::temporary(ErrorKind::Exhausted, "no address is left"));
        }
        self.make(&request.run, ResourceKind::FloatingIp, accepts).await;
        Ok(Node {
            id: format!("server-{}", request.run),
            name: request.name.clone(),
            label: request.label.clone(),
            address: "127.0.0.1".into(),
            port: 22,
            user: "nobody".into(),
            key_file: None,
            host_keys: Vec::new(),
            local: false,
            vars: BTreeMap::new(),
        })
    }

    async fn release(&self, run: &RunId) -> Result<()> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.things.lock().unwrap().retain(|(owner, _)| owner != run);
        Ok(())
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let things = self.things.lock().unwrap();
        let owned = things.iter().map(|(run, kind)| OwnedResource {
            kind: *kind,
            id: format!("{}-{run}", kind.as_str()),
            name: kind.as_str().to_owned(),
            run: Some(run.clone()),
            created: Some(Timestamp::now()),
        });
        Ok(owned.collect())
    }
}
