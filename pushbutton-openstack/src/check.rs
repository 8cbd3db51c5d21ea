//! Tries the configuration against the cloud: login, services, names, and quota headroom.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use openstack::session::ServiceType;
use pushbutton_core::check::{Check, Finding};
use pushbutton_core::{Error, ErrorKind};
use serde_json::Value;

use crate::catalog::Service;
use crate::config::{HostKeys, NodeLabelConfig};
use crate::lookup::Kind;
use crate::provisioner::OpenStackProvisioner;
use crate::request::Request;
use crate::user_data::{host_key_problem, length_problem};

/// How long a check may take: less than the minute that [`Check`] allows.
const CHECK_TIMEOUT: Duration = Duration::from_secs(50);

#[async_trait]
impl Check for OpenStackProvisioner {
    async fn check(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let checks = async {
            if self.check_login(&mut found).await {
                for (label, config) in &self.config.get().nodes {
                    self.check_label(&mut found, label.as_str(), config).await;
                }
                self.check_quota(&mut found).await;
            }
        };
        if tokio::time::timeout(CHECK_TIMEOUT, checks).await.is_err() {
            let what = format!(
                "cloud {}: the checks did not end within {CHECK_TIMEOUT:?}",
                self.shared.api.cloud().name
            );
            found.push(Finding::fail(what, "see whether the cloud's services answer"));
        }
        found
    }
}

impl OpenStackProvisioner {
    async fn check_login(&self, found: &mut Vec<Finding>) -> bool {
        let api = &self.shared.api;
        let subject = format!("cloud {}", api.cloud().name);
        found.extend(
            api.cloud()
                .warnings
                .iter()
                .map(|warning| Finding::warn(warning, "see this cloud's entry in clouds.yaml")),
        );
        match api.project().await {
            Ok(Some(project)) => {
                found.push(Finding::ok(format!("{subject}: logged in to project {project}")));
            }
            Ok(None) => {
                let what = format!("{subject}: logged in, but to no project");
                found.push(Finding::fail(what, "name the project: project_name, or project_id"));
                return false;
            }
            Err(error) => {
                let remedy = match error.kind() {
                    ErrorKind::Denied => {
                        "see the user, the password or the application credential in clouds.yaml"
                    }
                    ErrorKind::Unreachable | ErrorKind::TimedOut => {
                        "see auth_url in clouds.yaml, and whether this machine can reach it"
                    }
                    _ => "see this cloud's entry in clouds.yaml",
                };
                found.push(failure(&subject, &error, remedy));
                return false;
            }
        }
        let mut all_there = true;
        let block_storage = self.config.get().uses_volumes().then_some(Service::BlockStorage);
        for service in [Service::Compute, Service::Network, Service::Image].into_iter().chain(block_storage) {
            let remedy = "see region_name and interface in clouds.yaml";
            let what = service.catalog_type();
            let problem = match api.has(service).await {
                Ok(true) => continue,
                Ok(false) => Finding::fail(format!("{what}: the catalogue has no endpoint for it"), remedy),
                Err(error) => failure(what, &error, remedy),
            };
            found.push(problem);
            all_there = false;
        }
        all_there
    }

    async fn check_label(&self, found: &mut Vec<Finding>, label: &str, config: &NodeLabelConfig) {
        let mut names = vec![("image", Kind::Image, &config.image), ("flavor", Kind::Flavor, &config.flavor)];
        names.extend(config.key_name.iter().map(|name| ("key_name", Kind::KeyPair, name)));
        names.extend(config.availability_zone.iter().map(|name| ("availability_zone", Kind::Zone, name)));
        names.extend(config.networks.iter().map(|network| ("networks", Kind::Network, &network.name)));
        names.extend(config.server_group.iter().map(|name| ("server_group", Kind::ServerGroup, name)));
        names
            .extend(config.security_groups.iter().map(|name| ("security_groups", Kind::SecurityGroup, name)));
        names.extend(config.floating_ip.iter().map(|ip| ("floating_ip", Kind::Network, &ip.network)));
        for (field, kind, name) in names {
            let subject = format!("nodes.{label}.{field}");
            found.push(match self.lookup.id(&self.shared.api, kind, name).await {
                Ok(id) => Finding::ok(format!("{subject}: {name} is {id}")),
                Err(error) if error.kind() == ErrorKind::Config => {
                    failure(&subject, &error, "give a name that exists, or create it")
                }
                Err(error) => failure(&subject, &error, "see whether this service of the cloud works"),
            });
        }
        if config.key_name.is_none() && config.user_data.is_none() {
            let what = format!(
                "nodes.{label}: neither a key pair nor user data: only an image that has the key allows a login"
            );
            found.push(Finding::warn(what, "set `key_name`"));
        }
        found.extend(check_host_keys(label, config).await);
        if let Some(error) = length_problem(config).await {
            found.push(failure(&format!("nodes.{label}.user_data"), &error, "make them shorter"));
        }
        let user_data = config.user_data.as_ref().and_then(|data| data.file.as_ref());
        for (field, path) in [("key_file", config.key_file.as_ref()), ("user_data.file", user_data)] {
            if let Some(path) = path {
                found.push(check_file(&format!("nodes.{label}.{field}"), path).await);
            }
        }
    }

    /// Checks the quota headroom. A full quota is only a warning: other runs end and make room.
    async fn check_quota(&self, found: &mut Vec<Finding>) {
        let api = &self.shared.api;
        match api.fetch::<Value>(&Request::get(Service::Compute, ["limits"]), "limits").await {
            Ok(limits) => {
                let absolute = &limits["absolute"];
                for (what, limit, used) in [
                    ("servers", "maxTotalInstances", "totalInstancesUsed"),
                    ("cores", "maxTotalCores", "totalCoresUsed"),
                    ("MiB of RAM", "maxTotalRAMSize", "totalRAMUsed"),
                ] {
                    found.extend(quota_headroom(what, &absolute[limit], &absolute[used]));
                }
            }
            Err(failed) => {
                let what = format!("quota: {}", failed.error);
                found.push(Finding::warn(what, "see whether the compute service works"));
            }
        }
        let config = self.config.get();
        if config.uses_volumes() {
            let request = Request::get(Service::BlockStorage, ["limits"]);
            if let Ok(limits) = api.fetch::<Value>(&request, "limits").await {
                let absolute = &limits["absolute"];
                for (what, limit, used) in [
                    ("volumes", "maxTotalVolumes", "totalVolumesUsed"),
                    ("GiB of volumes", "maxTotalVolumeGigabytes", "totalGigabytesUsed"),
                ] {
                    found.extend(quota_headroom(what, &absolute[limit], &absolute[used]));
                }
            }
        }
        // Not every Neutron shows its quota to users; then it is not checked.
        let Ok(Some(project)) = api.project().await else { return };
        let request = Request::get(Service::Network, ["quotas", &project, "details"]);
        if let Ok(quota) = api.fetch::<Value>(&request, "quota").await {
            for (what, key) in [("ports", "port"), ("floating IPs", "floatingip")] {
                let is_used = key == "port" || config.nodes.values().any(|label| label.floating_ip.is_some());
                let of_kind = &quota[key];
                found.extend(quota_headroom(what, &of_kind["limit"], &of_kind["used"]).filter(|_| is_used));
            }
        }
    }
}

fn failure(subject: &str, error: &Error, remedy: &str) -> Finding {
    Finding::fail(format!("{subject}: {error}"), remedy)
}

fn quota_headroom(what: &str, limit: &Value, used: &Value) -> Option<Finding> {
    let (limit, used) = (limit.as_i64()?, used.as_i64()?);
    Some(if limit < 0 {
        Finding::ok(format!("quota of {what}: no limit"))
    } else if used >= limit {
        let remedy = "delete what is not needed, or ask the cloud for more";
        Finding::warn(format!("quota of {what}: {used} of {limit} in use: none is left"), remedy)
    } else {
        Finding::ok(format!("quota of {what}: {used} of {limit} in use"))
    })
}

/// Whether a host key can be handed over, and what follows where it cannot.
async fn check_host_keys(label: &str, config: &NodeLabelConfig) -> Option<Finding> {
    let subject = format!("nodes.{label}.host_keys");
    let problem = host_key_problem(config).await;
    Some(match (config.host_keys, problem) {
        (HostKeys::Generated, None) => {
            Finding::ok(format!("{subject}: each node gets a host key of its own, and only that is accepted"))
        }
        (HostKeys::Generated, Some(why)) => {
            let remedy = "change the user data, or set host_keys to console or first-contact";
            Finding::fail(format!("{subject}: {why}"), remedy)
        }
        (HostKeys::Auto, None) => Finding::ok(format!(
            "{subject}: a host key is handed over in the user data; an image without cloud-init shows its own, which \
             is then read on the console or at first contact. If the image has cloud-init, `generated` accepts no other"
        )),
        (HostKeys::Auto, Some(why)) => {
            let remedy =
                "change the user data, or set host_keys to console if the image prints its keys there";
            let what =
                format!("{subject}: the network could forge a node's host key at first contact: {why}");
            Finding::warn(what, remedy)
        }
        (HostKeys::FirstContact, _) => {
            let what = format!("{subject}: the network could forge a node's host key at first contact");
            Finding::warn(what, "set `generated` if the image has cloud-init")
        }
        (HostKeys::Console, _) => return None,
    })
}

async fn check_file(subject: &str, path: &Path) -> Finding {
    let place = path.display();
    match tokio::fs::File::open(path).await {
        Ok(_) => Finding::ok(format!("{subject}: {place} can be read")),
        Err(error) => {
            let what = format!("{subject}: cannot read {place}: {error}");
            Finding::fail(what, "see the path and the permissions of the file")
        }
    }
}
