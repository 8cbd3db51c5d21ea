use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::Notify;

use crate::error::{Error, ErrorKind, Result};
use crate::ident::{NodeLabel, RunId};
use crate::node::{Node, NodeRequest, OwnedResource, ResourceKind};
use crate::seam::Provisioner;

/// One machine of a fixed pool, as a configuration names it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
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

impl MachineConfig {
    fn node(&self) -> Node {
        Node {
            id: self.name.clone(),
            name: self.name.clone(),
            label: self.label.clone(),
            address: self.address.clone().unwrap_or_else(|| "127.0.0.1".into()),
            port: self.port,
            user: self.user.clone(),
            key_file: self.key_file.clone(),
            host_keys: self.host_keys.clone(),
            local: self.local,
            vars: self.vars.clone(),
        }
    }
}

/// A fixed list of machines, each lent to one run at a time: a lab without a cloud, or the local machine.
///
/// It makes and clears away nothing on a machine, and does not try whether it answers: an executor that cannot reach it says so.
/// Who holds what is known to this process only, so no two operators may list the same machine.
pub struct MachinePool {
    machines: Vec<MachineConfig>,
    lent: Mutex<BTreeMap<RunId, (usize, Timestamp)>>,
    returned: Notify,
}

impl MachinePool {
    /// A pool of these machines.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent: no machine at all, two of one name, or one that is neither local nor has an address.
    pub fn new(machines: Vec<MachineConfig>) -> Result<Self> {
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
        Ok(Self { machines, lent: Mutex::default(), returned: Notify::new() })
    }

    fn lent(&self) -> MutexGuard<'_, BTreeMap<RunId, (usize, Timestamp)>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends a free machine of this label to the run, or the one that the run holds already.
    fn lend(&self, run: &RunId, label: &NodeLabel) -> Option<Node> {
        let mut lent = self.lent();
        if let Some((at, _)) = lent.get(run) {
            return Some(self.machines[*at].node());
        }
        let busy: BTreeSet<usize> = lent.values().map(|(at, _)| *at).collect();
        let free =
            (0..self.machines.len()).find(|at| self.machines[*at].label == *label && !busy.contains(at))?;
        lent.insert(run.clone(), (free, Timestamp::now()));
        Some(self.machines[free].node())
    }

    fn knows(&self, label: &NodeLabel) -> Result<()> {
        if self.machines.iter().any(|machine| machine.label == *label) {
            return Ok(());
        }
        let labels: BTreeSet<&str> = self.machines.iter().map(|machine| machine.label.as_str()).collect();
        let labels = labels.into_iter().collect::<Vec<_>>().join(", ");
        Err(Error::permanent(
            ErrorKind::Config,
            format!("no machine has the label {label:?}: there are {labels}", label = label.as_str()),
        ))
    }

    async fn wait_for_one(&self, request: &NodeRequest) -> Node {
        loop {
            // Asked for before the look, so that a machine given back in between still wakes us.
            let returned = self.returned.notified();
            if let Some(node) = self.lend(&request.run, &request.label) {
                return node;
            }
            returned.await;
        }
    }
}

impl fmt::Debug for MachinePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachinePool")
            .field("machines", &self.machines.len())
            .field("lent", &self.lent().len())
            .finish()
    }
}

#[async_trait]
impl Provisioner for MachinePool {
    async fn provision(&self, request: &NodeRequest) -> Result<Node> {
        const DURING: &str = "provisioner::provision";
        self.knows(&request.label).map_err(|error| error.during(DURING))?;
        tokio::time::timeout(request.deadline, self.wait_for_one(request)).await.map_err(|_| {
            Error::temporary(ErrorKind::Exhausted, "no machine of this label came free in time")
                .during(DURING)
                .with("label", &request.label)
                .with("waited", format_args!("{:?}", request.deadline))
        })
    }

    async fn release(&self, run: &RunId) -> Result<()> {
        if self.lent().remove(run).is_some() {
            self.returned.notify_waiters();
        }
        Ok(())
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let owned = |(run, (at, since)): (&RunId, &(usize, Timestamp))| OwnedResource {
            kind: ResourceKind::Server,
            id: self.machines[*at].name.clone(),
            name: self.machines[*at].name.clone(),
            run: Some(run.clone()),
            created: Some(*since),
        };
        Ok(self.lent().iter().map(owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::ident::JobId;
    use crate::memory::sample;

    fn machine(name: &str) -> MachineConfig {
        let text = format!(r#"{{"label": "lab", "name": "{name}", "address": "lab.example.com"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn request(deadline: u64) -> NodeRequest {
        NodeRequest {
            run: RunId::generate(),
            job: JobId::clone(&sample::job("x").id),
            label: NodeLabel::new("lab").unwrap(),
            name: "pushbutton-x-12345-2".into(),
            deadline: Duration::from_secs(deadline),
        }
    }

    #[test]
    fn a_list_that_cannot_work_is_refused_with_its_remedy() {
        let refused = |machines| MachinePool::new(machines).unwrap_err().to_string();
        assert!(refused(vec![]).contains("name at least one"));
        assert!(refused(vec![machine("a"), machine("a")]).contains("two machines are named \"a\""));
        let nowhere = MachineConfig { address: None, ..machine("a") };
        assert!(refused(vec![nowhere.clone()]).contains("local: true"));
        assert!(MachinePool::new(vec![MachineConfig { local: true, ..nowhere }]).is_ok());
        assert!(serde_json::from_str::<MachineConfig>(r#"{"label":"a","name":"b","adress":"c"}"#).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_run_gets_the_machine_that_comes_free() {
        let pool = Arc::new(MachinePool::new(vec![machine("one")]).unwrap());
        let (first, second) = (request(1), request(60));
        pool.provision(&first).await.unwrap();
        let waiting = tokio::spawn({
            let (pool, second) = (Arc::clone(&pool), second.clone());
            async move { pool.provision(&second).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!waiting.is_finished());
        pool.release(&first.run).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().name, "one");
    }

    #[tokio::test(start_paused = true)]
    async fn each_machine_serves_one_run_and_a_full_pool_is_a_temporary_matter() {
        let pool = MachinePool::new(vec![machine("one"), machine("two")]).unwrap();
        let first = pool.provision(&request(1)).await.unwrap();
        assert_ne!(first.name, pool.provision(&request(1)).await.unwrap().name);
        let error = pool.provision(&request(1)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Exhausted, true));
    }
}
