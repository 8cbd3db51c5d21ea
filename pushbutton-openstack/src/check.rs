//! Tries out the configuration against the cloud, and says what to mend.

use std::path::Path;

use pushbutton_core::check::{Finding, Level};
use pushbutton_core::{Error, ErrorKind};
use serde_json::Value;

use crate::ask::{Ask, Service};
use crate::config::NodeClass;
use crate::lookup::What;
use crate::provisioner::OpenStackProvisioner;

/// The findings so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        subject: impl Into<String>,
        level: Level,
        detail: impl Into<String>,
        remedy: Option<&str>,
    ) {
        let what = format!("{}: {}", subject.into(), detail.into());
        self.0.push(Finding { level, what, remedy: remedy.map(str::to_owned) });
    }

    fn fine(&mut self, subject: impl Into<String>, detail: impl Into<String>) {
        self.add(subject, Level::Ok, detail, None);
    }

    fn error(&mut self, subject: impl Into<String>, error: &Error, remedy: &str) {
        self.add(subject, Level::Fail, error.to_string(), Some(remedy));
    }
}

impl OpenStackProvisioner {
    /// Tries the login, the services, every name in the configuration, and the room that is left. Makes nothing.
    pub async fn check(&self) -> Vec<Finding> {
        let mut found = Findings::default();
        if self.check_login(&mut found).await {
            for (label, class) in &self.config.nodes {
                self.check_class(&mut found, label.as_str(), class).await;
            }
            self.check_room(&mut found).await;
        }
        found.0
    }

    async fn check_login(&self, found: &mut Findings) -> bool {
        let api = &self.shared.api;
        let subject = format!("cloud {}", api.name());
        let remedy = |error: &Error| match error.kind() {
            ErrorKind::Denied => "see the user, the password or the application credential in clouds.yaml",
            ErrorKind::Unreachable | ErrorKind::TimedOut => {
                "see auth_url in clouds.yaml, and whether this machine may reach it"
            }
            _ => "see this cloud's entry in clouds.yaml",
        };
        match api.project().await {
            Ok(Some(project)) => found.fine(subject, format!("logged in to project {project}")),
            Ok(None) => {
                let remedy = Some("name the project: project_name, or project_id");
                found.add(subject, Level::Fail, "logged in, but to no project", remedy);
                return false;
            }
            Err(error) => {
                found.error(subject, &error, remedy(&error));
                return false;
            }
        }
        let mut all = true;
        let volumes = self.config.nodes.values().any(|class| class.boot_from_volume.is_some());
        let services = [Service::Compute, Service::Network, Service::Image];
        for service in services.into_iter().chain(volumes.then_some(Service::BlockStorage)) {
            let name = service_name(service);
            match api.has(service).await {
                Ok(true) => {}
                Ok(false) => {
                    all = false;
                    let remedy = Some("see region_name and interface in clouds.yaml");
                    found.add(name, Level::Fail, "the catalogue has no endpoint for it", remedy);
                }
                Err(error) => {
                    all = false;
                    found.error(name, &error, "see region_name and interface in clouds.yaml");
                }
            }
        }
        all
    }

    async fn check_class(&self, found: &mut Findings, label: &str, class: &NodeClass) {
        let mut names = vec![("image", What::Image, &class.image), ("flavor", What::Flavor, &class.flavor)];
        names.extend(class.key_name.iter().map(|name| ("key_name", What::KeyPair, name)));
        names.extend(class.availability_zone.iter().map(|name| ("availability_zone", What::Zone, name)));
        names.extend(class.networks.iter().map(|name| ("networks", What::Network, name)));
        names.extend(class.security_groups.iter().map(|name| ("security_groups", What::SecurityGroup, name)));
        names.extend(class.floating_ip.iter().map(|ip| ("floating_ip", What::Network, &ip.network)));
        for (field, what, name) in names {
            let subject = format!("nodes.{label}.{field}");
            match self.lookup.id(&self.shared.api, what, name).await {
                Ok(id) => found.fine(subject, format!("{name} is {id}")),
                Err(error) if error.kind() == ErrorKind::Config => {
                    found.error(subject, &error, "name one that is there, or make it");
                }
                Err(error) => found.error(subject, &error, "see whether this service of the cloud is well"),
            }
        }
        if class.key_name.is_none() && class.user_data.is_none() {
            let detail = "neither a key pair nor user data: only an image that knows the key lets anybody in";
            found.add(format!("nodes.{label}"), Level::Warn, detail, Some("give `key_name`"));
        }
        let user_data = class.user_data.as_ref().and_then(|data| data.file.as_ref());
        for (field, path) in [("key_file", class.key_file.as_ref()), ("user_data.file", user_data)] {
            if let Some(path) = path {
                check_file(found, format!("nodes.{label}.{field}"), path).await;
            }
        }
    }

    /// What a quota leaves. A full one is no fault: runs that end make room.
    async fn check_room(&self, found: &mut Findings) {
        let api = &self.shared.api;
        match api.fetch::<Value>(&Ask::get(Service::Compute, ["limits"]), "limits").await {
            Ok(limits) => {
                let of = |key: &str| limits["absolute"][key].as_i64();
                for (what, most, used) in [
                    ("servers", of("maxTotalInstances"), of("totalInstancesUsed")),
                    ("cores", of("maxTotalCores"), of("totalCoresUsed")),
                    ("MiB of RAM", of("maxTotalRAMSize"), of("totalRAMUsed")),
                ] {
                    room(found, what, most, used);
                }
            }
            Err(failed) => found.add("quota", Level::Warn, failed.error.to_string(), None),
        }
        if self.config.nodes.values().all(|class| class.floating_ip.is_none()) {
            return;
        }
        // Not every Neutron shows it to its users: then a node will tell.
        let Ok(Some(project)) = api.project().await else { return };
        let ask = Ask::get(Service::Network, ["quotas", &project, "details"]);
        if let Ok(quota) = api.fetch::<Value>(&ask, "quota").await {
            let ips = &quota["floatingip"];
            room(found, "floating IPs", ips["limit"].as_i64(), ips["used"].as_i64());
        }
    }
}

fn service_name(service: Service) -> &'static str {
    use osauth::services::ServiceType;
    service.catalog_type()
}

fn room(found: &mut Findings, what: &str, most: Option<i64>, used: Option<i64>) {
    let (Some(most), Some(used)) = (most, used) else { return };
    let subject = format!("quota of {what}");
    if most < 0 {
        found.fine(subject, "no limit");
    } else if used >= most {
        let remedy = Some("delete what is not needed, or ask the cloud for more");
        found.add(subject, Level::Warn, format!("{used} of {most} in use: none is left"), remedy);
    } else {
        found.fine(subject, format!("{used} of {most} in use"));
    }
}

async fn check_file(found: &mut Findings, subject: String, path: &Path) {
    let place = path.display();
    match tokio::fs::File::open(path).await {
        Ok(_) => found.fine(subject, format!("{place} can be read")),
        Err(error) => {
            let remedy = Some("see the path, and whose file it is");
            found.add(subject, Level::Fail, format!("cannot read {place}: {error}"), remedy);
        }
    }
}
