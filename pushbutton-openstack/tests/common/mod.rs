//! A provisioner under an owner of its own, and what the cloud has of that owner.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::memory::MemoryJournal;
use pushbutton_core::{
    InstallationId, Journal, Node, NodeLabel, NodeRequest, OwnerName, Provisioner, Result, RunId, samples,
};
use pushbutton_openstack::{OpenStackConfig, OpenStackProvisioner};
use pushbutton_testbed::OpenStack;

/// A provisioner with its journal.
pub(crate) struct Lab {
    pub(crate) provisioner: OpenStackProvisioner,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) owner: String,
    pub(crate) installation: InstallationId,
}

/// An owner name that is not used elsewhere on this cloud.
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
        Self::of(config(&cloud.clouds_yaml, &cloud.cloud, rest), &owner(test))
    }

    /// An installation of its own.
    pub(crate) fn of(config: OpenStackConfig, owner: &str) -> Self {
        Self::in_installation(config, owner, InstallationId::generate())
    }

    pub(crate) fn in_installation(
        config: OpenStackConfig,
        owner: &str,
        installation: InstallationId,
    ) -> Self {
        let name = OwnerName::new(owner).unwrap();
        let provisioner = OpenStackProvisioner::new(config, name, installation.clone()).unwrap();
        let journal = Arc::new(MemoryJournal::default());
        Self { provisioner, journal, owner: owner.to_owned(), installation }
    }

    pub(crate) async fn provision(&self, request: &NodeRequest) -> Result<Node> {
        self.provisioner.provision(request, &self.journal).await
    }

    pub(crate) async fn release(&self, run: &RunId) {
        self.provisioner.release(run, &self.journal).await.unwrap();
    }

    /// What carries this installation's tags, from the cloud's own lists.
    pub(crate) fn on(&self, cloud: &OpenStack) -> Vec<String> {
        let of_owner = |metadata: &std::collections::HashMap<String, String>| {
            metadata.get("pushbutton_owner") == Some(&self.owner)
                && metadata.get("pushbutton_installation").map(String::as_str)
                    == Some(self.installation.as_str())
        };
        let servers: Vec<_> =
            cloud.list_servers().into_iter().filter(|one| of_owner(&one.metadata)).collect();
        let tags = format!("pushbutton owner={} installation={} ", self.owner, self.installation);
        let ips = cloud.list_floating_ips().into_iter().filter(|ip| ip.description.starts_with(&tags));
        let volumes = cloud.list_volumes().into_iter().filter(|one| of_owner(&one.metadata));
        let ports: Vec<_> = cloud.list_ports();
        let ports = ports.iter().filter(|port| servers.iter().any(|server| server.id == port.server));
        let mut all: Vec<String> = servers.iter().map(|one| format!("server {}", one.id)).collect();
        all.extend(ips.map(|ip| format!("floating IP {}", ip.id)));
        all.extend(volumes.map(|volume| format!("volume {}", volume.id)));
        all.extend(ports.map(|port| format!("port {}", port.id)));
        all
    }

    /// Nothing of this installation is on the cloud, and the journal has no open entry.
    pub(crate) async fn has_left_nothing(&self, cloud: &OpenStack) {
        assert_eq!(self.on(cloud), [""; 0], "left on the cloud");
        assert_eq!(self.journal.open().await.unwrap(), [], "left open in the journal");
    }
}

pub(crate) fn request(label: &str, seconds: u64) -> NodeRequest {
    let (run, job) = (RunId::generate(), samples::job("tempest").id);
    let label = NodeLabel::new(label).unwrap();
    NodeRequest::new(run, job, label, "pushbutton-tempest-12345-2", Duration::from_secs(seconds))
}
