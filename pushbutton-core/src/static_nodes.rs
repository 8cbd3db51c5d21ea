//! A fixed list of machines as a provisioner: a lab without a cloud, or the local machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::Notify;

use crate::check::{Check, Finding};
use crate::error::{Error, ErrorKind, Result};
use crate::names::{NodeLabel, RunId};
use crate::node::{Node, NodeRequest, OwnedResource, ResourceKind};
use crate::traits::{Journal, Provisioner};

/// One machine of a fixed pool, as a configuration names it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StaticNodeConfig {
    /// The label that jobs ask for it by. Several machines may share one.
    pub label: NodeLabel,
    /// Its name, for people and inventories; no two machines share one.
    pub name: String,
    /// Where SSH answers: an address or a host name. May be left out for the local machine only.
    #[serde(default)]
    pub address: Option<String>,
    /// SSH's port. Default: 22.
    #[serde(default = "ssh_port")]
    pub port: u16,
    /// The login. Default: `root`.
    #[serde(default = "root")]
    pub user: String,
    /// The private key file to log in with. Default: what the executor's SSH finds by itself.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The machine's host keys in OpenSSH's form (`ssh-ed25519 AAAA...`). Default: none, pinned at first contact.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// The machine that pushbutton itself runs on, reached without SSH. Default: `false`.
    #[serde(default)]
    pub local: bool,
    /// Further variables for the inventory. Default: none.
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
}

fn ssh_port() -> u16 {
    22
}

fn root() -> String {
    "root".into()
}

impl StaticNodeConfig {
    fn node(&self) -> Node {
        let address = self.address.as_deref().unwrap_or("127.0.0.1");
        let mut node = Node::ssh(&self.name, self.label.clone(), address, &self.user)
            .with_port(self.port)
            .with_key_file(self.key_file.clone())
            .with_host_keys(self.host_keys.clone())
            .with_vars(self.vars.clone());
        node.local = self.local;
        node
    }

    fn finding(&self) -> Finding {
        let Self { name, label, port, user, .. } = self;
        match &self.address {
            _ if self.local => Finding::warn(
                format!("{name} ({label}) is this machine: patches run here, as this user"),
                "use it only for demonstrations, and for people whom you trust",
            ),
            Some(address) if self.host_keys.is_empty() => Finding::warn(
                format!(
                    "{name} ({label}) is {user}@{address}:{port}; its host key is pinned at first contact"
                ),
                "pin it now: put the output of `ssh-keyscan` into `host_keys` once you have compared it with the machine's own key",
            ),
            Some(address) => Finding::ok(format!("{name} ({label}) is {user}@{address}:{port}")),
            None => Finding::fail(format!("{name} ({label}) has no address"), "give it one"),
        }
    }
}

/// A fixed list of machines, each assigned to one run at a time.
///
/// It changes nothing on a machine, and does not test whether it answers: an executor that cannot reach it reports
/// that. Only this process knows which machines are assigned, so no two operators may list the same machine.
pub struct StaticNodes {
    pool: Mutex<Pool>,
    /// A machine was returned, or the list was replaced.
    changed: Notify,
}

struct Pool {
    machines: Vec<Arc<StaticNodeConfig>>,
    /// Labels of this list and of those before it: a job that was claimed before a list was replaced is no job with a
    /// wrong label.
    labels: BTreeSet<NodeLabel>,
    assigned: BTreeMap<RunId, (Arc<StaticNodeConfig>, Timestamp)>,
}

impl StaticNodes {
    /// A pool of these machines.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent: no machine at all, two of one name, or one that is neither local nor has an
    /// address.
    pub fn new(machines: Vec<StaticNodeConfig>) -> Result<Self> {
        let pool = Pool { machines: Vec::new(), labels: BTreeSet::new(), assigned: BTreeMap::new() };
        let nodes = Self { pool: Mutex::new(pool), changed: Notify::new() };
        nodes.replace(machines)?;
        Ok(nodes)
    }

    /// Replaces the list. Runs keep the machines that they have, as they were listed; a machine of the same name is not
    /// assigned to another run before.
    ///
    /// # Errors
    /// As [`new`](Self::new); the list stays as it is.
    pub fn replace(&self, machines: Vec<StaticNodeConfig>) -> Result<()> {
        let refuse = |message: String| Err(Error::permanent(ErrorKind::Config, message).during("machines"));
        if machines.is_empty() {
            return refuse("the list of machines is empty: name at least one".into());
        }
        let mut names = BTreeSet::new();
        for machine in &machines {
            if !names.insert(&machine.name) {
                return refuse(format!("two machines are named {:?}: give each its own name", machine.name));
            }
            if machine.address.is_none() && !machine.local {
                return refuse(format!(
                    "machine {:?} has no address: give one, or say `local: true`",
                    machine.name
                ));
            }
        }
        let mut pool = self.pool();
        pool.labels.extend(machines.iter().map(|machine| machine.label.clone()));
        pool.machines = machines.into_iter().map(Arc::new).collect();
        drop(pool);
        self.changed.notify_waiters();
        Ok(())
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Assigns a free machine of this label to the run, or the one that the run holds already.
    fn assign(&self, run: &RunId, label: &NodeLabel) -> Option<Node> {
        let mut pool = self.pool();
        if let Some((machine, _)) = pool.assigned.get(run) {
            return Some(machine.node());
        }
        let busy: BTreeSet<&str> = pool.assigned.values().map(|(machine, _)| machine.name.as_str()).collect();
        let is_free = |machine: &&Arc<StaticNodeConfig>| {
            machine.label == *label && !busy.contains(machine.name.as_str())
        };
        let free = Arc::clone(pool.machines.iter().find(is_free)?);
        let node = free.node();
        pool.assigned.insert(run.clone(), (free, Timestamp::now()));
        Some(node)
    }

    fn knows(&self, label: &NodeLabel) -> Result<()> {
        let pool = self.pool();
        if pool.labels.contains(label) {
            return Ok(());
        }
        let labels = pool.labels.iter().map(NodeLabel::as_str).collect::<Vec<_>>().join(", ");
        Err(Error::permanent(
            ErrorKind::Config,
            format!("no machine has the label {label:?}: there are {labels}", label = label.as_str()),
        ))
    }

    async fn wait_for_one(&self, request: &NodeRequest) -> Node {
        loop {
            // Subscribe before looking, so that a machine that is returned in between is not missed.
            let changed = self.changed.notified();
            if let Some(node) = self.assign(&request.run, &request.label) {
                return node;
            }
            changed.await;
        }
    }
}

impl fmt::Debug for StaticNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = self.pool();
        f.debug_struct("StaticNodes")
            .field("machines", &pool.machines.len())
            .field("assigned", &pool.assigned.len())
            .finish()
    }
}

#[async_trait]
impl Check for StaticNodes {
    /// Connects to no machine: a machine that is off is found by the first run.
    async fn check(&self) -> Vec<Finding> {
        self.pool().machines.iter().map(|machine| machine.finding()).collect()
    }
}

#[async_trait]
impl Provisioner for StaticNodes {
    async fn provision(&self, request: &NodeRequest, _: &Arc<dyn Journal>) -> Result<Node> {
        const DURING: &str = "provisioner::provision";
        self.knows(&request.label).map_err(|error| error.during(DURING))?;
        tokio::time::timeout(request.deadline, self.wait_for_one(request)).await.map_err(|_| {
            Error::temporary(ErrorKind::Exhausted, "no machine of this label came free in time")
                .during(DURING)
                .with("label", &request.label)
                .with("waited", format_args!("{:?}", request.deadline))
        })
    }

    async fn release(&self, run: &RunId, _: &Arc<dyn Journal>) -> Result<()> {
        if self.pool().assigned.remove(run).is_some() {
            self.changed.notify_waiters();
        }
        Ok(())
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let owned = |(run, (machine, since)): (&RunId, &(Arc<StaticNodeConfig>, Timestamp))| {
            let name = &machine.name;
            OwnedResource::new(ResourceKind::Server, name, name).with_run(run.clone()).with_created(*since)
        };
        Ok(self.pool().assigned.iter().map(owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::memory::MemoryJournal;
    use crate::samples;

    fn machine(name: &str) -> StaticNodeConfig {
        let text = format!(r#"{{"label": "lab", "name": "{name}", "address": "lab.example.com"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn request(deadline: u64) -> NodeRequest {
        let (label, name) = (NodeLabel::new("lab").unwrap(), "pushbutton-x-12345-2");
        NodeRequest::new(RunId::generate(), samples::job("x").id, label, name, Duration::from_secs(deadline))
    }

    fn journal() -> Arc<dyn Journal> {
        Arc::new(MemoryJournal::default())
    }

    #[test]
    fn a_list_that_cannot_work_is_refused_with_its_remedy() {
        let refused = |machines| StaticNodes::new(machines).unwrap_err().to_string();
        assert!(refused(vec![]).contains("name at least one"));
        assert!(refused(vec![machine("a"), machine("a")]).contains("two machines are named \"a\""));
        let nowhere = StaticNodeConfig { address: None, ..machine("a") };
        assert!(refused(vec![nowhere.clone()]).contains("local: true"));
        assert!(StaticNodes::new(vec![StaticNodeConfig { local: true, ..nowhere }]).is_ok());
        assert!(
            serde_json::from_str::<StaticNodeConfig>(r#"{"label":"a","name":"b","adress":"c"}"#).is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_run_gets_the_machine_that_comes_free() {
        let pool = Arc::new(StaticNodes::new(vec![machine("one")]).unwrap());
        let (first, second) = (request(1), request(60));
        pool.provision(&first, &journal()).await.unwrap();
        let waiting = tokio::spawn({
            let (pool, second) = (Arc::clone(&pool), second.clone());
            async move { pool.provision(&second, &journal()).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!waiting.is_finished());
        pool.release(&first.run, &journal()).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().name, "one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_replaced_keeps_the_machines_of_runs_and_serves_those_that_wait() {
        let pool = Arc::new(StaticNodes::new(vec![machine("one")]).unwrap());
        let (first, second, third) = (request(1), request(60), request(1));
        pool.provision(&first, &journal()).await.unwrap();
        let waiting = tokio::spawn({
            let (pool, second) = (Arc::clone(&pool), second.clone());
            async move { pool.provision(&second, &journal()).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        let moved = StaticNodeConfig { address: Some("elsewhere.example.com".into()), ..machine("one") };
        pool.replace(vec![moved, machine("two")]).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().name, "two");
        let kept = pool.provision(&first, &journal()).await.unwrap();
        assert_eq!(kept.address, "lab.example.com", "as it was when the run began");
        assert!(pool.replace(vec![]).is_err());
        pool.release(&first.run, &journal()).await.unwrap();
        let next = pool.provision(&third, &journal()).await.unwrap();
        assert_eq!((next.name.as_str(), next.address.as_str()), ("one", "elsewhere.example.com"));

        // A label that is gone is no wrong label for a job that was claimed before.
        pool.replace(vec![StaticNodeConfig { label: NodeLabel::new("other").unwrap(), ..machine("three") }])
            .unwrap();
        let error = pool.provision(&request(1), &journal()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Exhausted, true));
    }

    #[tokio::test(start_paused = true)]
    async fn each_machine_serves_one_run_and_a_full_pool_is_a_temporary_matter() {
        let pool = StaticNodes::new(vec![machine("one"), machine("two")]).unwrap();
        let first = pool.provision(&request(1), &journal()).await.unwrap();
        assert_ne!(first.name, pool.provision(&request(1), &journal()).await.unwrap().name);
        let error = pool.provision(&request(1), &journal()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Exhausted, true));
    }
}
