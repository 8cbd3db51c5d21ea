//! A node: a machine that a run has to itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{JobId, NodeLabel, RunId};
use crate::setters::setters;

/// What a run asks of a provisioner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeRequest {
    /// The run that it is for. Whatever is made carries this, and is found again by it.
    pub run: RunId,
    /// The job that the run is an attempt of.
    pub job: JobId,
    /// What kind of node: the provisioner's configuration explains the label.
    pub label: NodeLabel,
    /// What people will call it, as `pushbutton-tempest-12345-2`; the provisioner may shorten it or add to it.
    pub name: String,
    /// How long it may take until the node can be used.
    pub deadline: Duration,
}

impl NodeRequest {
    /// A request for a node of this label.
    pub fn new(
        run: RunId,
        job: JobId,
        label: NodeLabel,
        name: impl Into<String>,
        deadline: Duration,
    ) -> Self {
        Self { run, job, label, name: name.into(), deadline }
    }
}

setters!(NodeRequest { label / with_label: NodeLabel, deadline / with_deadline: Duration });

/// A machine that is ready: it accepts SSH connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Node {
    /// What the provisioner calls it.
    pub id: String,
    /// Its name, for people and inventories.
    pub name: String,
    /// The label of the request.
    pub label: NodeLabel,
    /// Where SSH answers: an address or a host name.
    pub address: String,
    /// SSH's port.
    pub port: u16,
    /// The login.
    pub user: String,
    /// The private key file to log in with; none leaves it to the executor's defaults.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The node's host keys in OpenSSH's form (`ssh-ed25519 AAAA...`), learnt over a channel that the network cannot
    /// forge, or at first contact. Pinned for the run.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// Reached without SSH: the local machine, for demonstrations.
    #[serde(default)]
    pub local: bool,
    /// Further variables for the inventory, as `ansible_python_interpreter`.
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
}

impl Node {
    /// A machine reached by SSH on port 22, named by its id.
    pub fn ssh(
        id: impl Into<String>,
        label: NodeLabel,
        address: impl Into<String>,
        user: impl Into<String>,
    ) -> Self {
        let id = id.into();
        Self {
            name: id.clone(),
            id,
            label,
            address: address.into(),
            port: 22,
            user: user.into(),
            key_file: None,
            host_keys: Vec::new(),
            local: false,
            vars: BTreeMap::new(),
        }
    }

    /// The machine that pushbutton itself runs on, reached without SSH.
    pub fn local(id: impl Into<String>, label: NodeLabel) -> Self {
        Self { local: true, ..Self::ssh(id, label, "127.0.0.1", "") }
    }
}

setters!(Node {
    name / with_name: String,
    port / with_port: u16,
    key_file / with_key_file: Option<PathBuf>,
    host_keys / with_host_keys: Vec<String>,
    vars / with_vars: BTreeMap<String, serde_json::Value>,
});

/// Something in a cloud that carries our ownership tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OwnedResource {
    /// What it is.
    pub kind: ResourceKind,
    /// What the cloud calls it.
    pub id: String,
    /// Its name, or what else people know it by (a floating IP's address).
    pub name: String,
    /// The run that it was made for, where the tag says.
    pub run: Option<RunId>,
    /// When it was made, where the cloud says.
    pub created: Option<Timestamp>,
}

impl OwnedResource {
    /// A resource whose run and age are not known.
    pub fn new(kind: ResourceKind, id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, id: id.into(), name: name.into(), run: None, created: None }
    }
}

setters!(OwnedResource { run / with_run: Option<RunId>, created / with_created: Option<Timestamp> });

/// Kinds of things that provisioners make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ResourceKind {
    /// A machine.
    Server,
    /// A public address.
    FloatingIp,
    /// A network port.
    Port,
    /// A disk.
    Volume,
    /// A key pair.
    Keypair,
}

impl ResourceKind {
    /// The kind as people and records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::FloatingIp => "floating-ip",
            Self::Port => "port",
            Self::Volume => "volume",
            Self::Keypair => "keypair",
        }
    }
}
