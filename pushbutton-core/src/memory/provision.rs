use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};
use crate::names::RunId;
use crate::node::{Node, NodeRequest, OwnedResource, ResourceKind};
use crate::traits::{Journal, Provisioner};

/// A cloud in memory: machines that are only names. `capacity` of them fit.
#[derive(Debug)]
pub struct MemoryProvisioner {
    capacity: usize,
    nodes: Mutex<BTreeMap<RunId, (Node, Timestamp)>>,
}

impl Default for MemoryProvisioner {
    fn default() -> Self {
        Self::with_capacity(usize::MAX)
    }
}

impl MemoryProvisioner {
    /// A cloud with room for so many machines.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { capacity, nodes: Mutex::default() }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<RunId, (Node, Timestamp)>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Provisioner for MemoryProvisioner {
    async fn provision(&self, request: &NodeRequest, _: &Arc<dyn Journal>) -> Result<Node> {
        let mut nodes = self.nodes();
        if nodes.len() >= self.capacity {
            let error = Error::temporary(ErrorKind::Exhausted, "no room for another machine");
            return Err(error.during("provisioner::provision").with("capacity", self.capacity));
        }
        let id = format!("memory-{}", request.run);
        let node = Node::ssh(id, request.label.clone(), "127.0.0.1", "nobody").with_name(&request.name);
        nodes.insert(request.run.clone(), (node.clone(), Timestamp::now()));
        Ok(node)
    }

    async fn release(&self, run: &RunId, _: &Arc<dyn Journal>) -> Result<()> {
        self.nodes().remove(run);
        Ok(())
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let owned = |(run, (node, created)): (&RunId, &(Node, Timestamp))| {
            OwnedResource::new(ResourceKind::Server, &node.id, &node.name)
                .with_run(run.clone())
                .with_created(*created)
        };
        Ok(self.nodes().iter().map(owned).collect())
    }
}
