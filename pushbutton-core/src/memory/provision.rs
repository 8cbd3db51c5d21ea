use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};
use crate::ident::RunId;
use crate::node::{Node, NodeRequest, OwnedResource, ResourceKind};
use crate::seam::Provisioner;

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
    async fn provision(&self, request: &NodeRequest) -> Result<Node> {
        let mut nodes = self.nodes();
        if nodes.len() >= self.capacity {
            let error = Error::temporary(ErrorKind::Exhausted, "no room for another machine");
            return Err(error.during("provisioner::provision").with("capacity", self.capacity));
        }
        let node = Node {
            id: format!("memory-{}", request.run),
            name: request.name.clone(),
            label: request.label.clone(),
            address: "127.0.0.1".into(),
            port: 22,
            user: "nobody".into(),
            key_file: None,
            host_keys: Vec::new(),
            local: false,
            vars: BTreeMap::new(),
        };
        nodes.insert(request.run.clone(), (node.clone(), Timestamp::now()));
        Ok(node)
    }

    async fn release(&self, run: &RunId) -> Result<()> {
        self.nodes().remove(run);
        Ok(())
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let owned = |(run, (node, created)): (&RunId, &(Node, Timestamp))| OwnedResource {
            kind: ResourceKind::Server,
            id: node.id.clone(),
            name: node.name.clone(),
            run: Some(run.clone()),
            created: Some(*created),
        };
        Ok(self.nodes().iter().map(owned).collect())
    }
}
