//! A provisioner on the testbed's cloud, under an owner of its own, and what of that owner is on the cloud.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::memory::MemoryJournal;
use pushbutton_core::samples;
use pushbutton_core::{Journal, NodeLabel, NodeRequest, OwnerName, RunId};
use pushbutton_openstack::{OpenStackConfig, OpenStackProvisioner};
use pushbutton_testbed::OpenStack;

/// A provisioner with its journal.
pub(crate) struct Lab {
    pub(crate) provisioner: OpenStackProvisioner,
    pub(crate) journal: Arc<MemoryJournal>,
    pub(crate) owner: String,
}

/// An owner that nobody else on this cloud is.
pub(crate) fn owner(test: &str) -> String {
    let run = RunId::generate();
    format!("{test}-{}", &run.as_str()[28..])
}

pub(crate) fn config(clouds_file: &Path, cloud: &str, rest: &str) -> OpenStackConfig {
    let yaml = format!("{{clouds_file: {}, cloud: {cloud}, {rest}}}", clouds_file.display());
    match serde_yaml::from_str(&yaml) {
        Ok(config) => config,
        Err(error) => panic!("{error}: {yaml}"),
    }
}

impl Lab {
    /// On the testbed's project. `rest` is the rest of the configuration, with `nodes`.
    pub(crate) fn new(cloud: &OpenStack, test: &str, rest: &str) -> Self {
        Self::of(config(&cloud.clouds_yaml, &cloud.cloud, rest), &owner(test), Arc::default())
    }

    pub(crate) fn of(config: OpenStackConfig, owner: &str, journal: Arc<MemoryJournal>) -> Self {
        let kept: Arc<dyn Journal> = journal.clone();
        let name = OwnerName::new(owner).unwrap();
        let provisioner = OpenStackProvisioner::new(config, name, kept).unwrap();
        Self { provisioner, journal, owner: owner.to_owned() }
    }

    /// All that carries this owner, asked of the cloud's own lists.
    pub(crate) fn on(&self, cloud: &OpenStack) -> Vec<String> {
        let of_owner = |metadata: &std::collections::HashMap<String, String>| {
            metadata.get("pushbutton_owner") == Some(&self.owner)
        };
        let servers: Vec<_> =
            cloud.list_servers().into_iter().filter(|one| of_owner(&one.metadata)).collect();
        let mark = format!("pushbutton owner={} ", self.owner);
        let ips = cloud.list_floating_ips().into_iter().filter(|ip| ip.description.starts_with(&mark));
        let volumes = cloud.list_volumes().into_iter().filter(|one| of_owner(&one.metadata));
        let ports: Vec<_> = cloud.list_ports();
        let ports = ports.iter().filter(|port| servers.iter().any(|server| server.id == port.server));
        let mut all: Vec<String> = servers.iter().map(|one| format!("server {}", one.id)).collect();
        all.extend(ips.map(|ip| format!("floating IP {}", ip.id)));
        all.extend(volumes.map(|volume| format!("volume {}", volume.id)));
        all.extend(ports.map(|port| format!("port {}", port.id)));
        all
    }

    /// Nothing of this owner is on the cloud, and the journal is closed.
    pub(crate) async fn has_left_nothing(&self, cloud: &OpenStack) {
        assert_eq!(self.on(cloud), [""; 0], "left on the cloud");
        assert_eq!(self.journal.open().await.unwrap(), [], "left open in the journal");
    }
}

pub(crate) fn request(label: &str, seconds: u64) -> NodeRequest {
    NodeRequest {
        run: RunId::generate(),
        job: samples::job("tempest").id,
        label: NodeLabel::new(label).unwrap(),
        name: "pushbutton-tempest-12345-2".into(),
        deadline: Duration::from_secs(seconds),
    }
}
