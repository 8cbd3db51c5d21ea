//! What a person configures: which cloud, and what each label of a node means there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pushbutton_core::{Error, ErrorKind, HumanDuration, NodeLabel, Result};
use serde::Deserialize;

/// The cloud, and the kinds of nodes that jobs may ask for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenStackConfig {
    /// The `clouds.yaml` to read, with the `secure.yaml` beside it. Default: the file that `OS_CLIENT_CONFIG_FILE` names, else the
    /// first of `./clouds.yaml`, `~/.config/openstack/clouds.yaml`, `/etc/openstack/clouds.yaml`.
    #[serde(default)]
    pub clouds_file: Option<PathBuf>,
    /// The cloud's name in that file. Default: `OS_CLOUD`; else the `OS_*` variables where `OS_AUTH_URL` is set; else the file's only cloud.
    #[serde(default)]
    pub cloud: Option<String>,
    /// How long a connection may take to come up. Default: `10s`.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// How long one request may take. Default: `60s`.
    #[serde(default = "request_timeout")]
    pub request_timeout: HumanDuration,
    /// How long a release waits until the cloud has taken all away. Default: `3m`.
    #[serde(default = "release_timeout")]
    pub release_timeout: HumanDuration,
    /// How long after a create without an answer the thing may still appear. Default: `15s`.
    #[serde(default = "settle_time")]
    pub settle_time: HumanDuration,
    /// Nodes that boot at the same time; more wait, as bursts break clouds. Default: 4.
    #[serde(default = "parallel_boots")]
    pub parallel_boots: usize,
    /// Where the console logs of nodes that failed are kept, as `<run>.log`. Default: kept nowhere; the last lines go to the log.
    #[serde(default)]
    pub console_dir: Option<PathBuf>,
    /// What each label means on this cloud.
    pub nodes: BTreeMap<NodeLabel, NodeClass>,
}

/// One kind of node. Images, flavors and networks are named by name or by id.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeClass {
    /// The image to boot.
    pub image: String,
    /// The size of the machine.
    pub flavor: String,
    /// The key pair in Nova whose public key the image lets in. Default: none; then the image or the user data must do it.
    #[serde(default)]
    pub key_name: Option<String>,
    /// The private key file to log in with. Default: what the executor's SSH finds by itself.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The login. Default: `root`.
    #[serde(default = "root")]
    pub user: String,
    /// The networks to plug it into, in order; SSH goes to the first. Default: none; Nova takes the project's only one.
    #[serde(default)]
    pub networks: Vec<String>,
    /// The security groups. Default: none; the project's `default`.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// The zone by its name. Default: wherever there is room.
    #[serde(default)]
    pub availability_zone: Option<String>,
    /// What cloud-init is to do at boot. Default: nothing.
    #[serde(default)]
    pub user_data: Option<UserData>,
    /// Boot from a volume of its own rather than from the hypervisor's disk. Default: no.
    #[serde(default)]
    pub boot_from_volume: Option<BootVolume>,
    /// Further metadata of the server; keys that start with `pushbutton_` are ours. Default: none.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// A floating IP of its own, made and deleted with the node. Default: none; SSH goes to the fixed address.
    #[serde(default)]
    pub floating_ip: Option<FloatingIpClass>,
    /// SSH's port. Default: 22.
    #[serde(default = "ssh_port")]
    pub ssh_port: u16,
    /// How the node's host keys are learnt. Default: `auto`.
    #[serde(default)]
    pub host_keys: HostKeys,
    /// Further variables for the inventory, as `ansible_python_interpreter`. Default: none.
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
}

/// User data: exactly one of `text` and `file`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserData {
    /// The user data themselves.
    #[serde(default)]
    pub text: Option<String>,
    /// The file that holds them, read at each boot.
    #[serde(default)]
    pub file: Option<PathBuf>,
}

/// A boot volume, made from the image and deleted with the run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootVolume {
    /// Its size, in GiB.
    pub size_gb: u32,
    /// Its volume type. Default: the cloud's.
    #[serde(default, rename = "type")]
    pub volume_type: Option<String>,
}

/// Where a floating IP comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloatingIpClass {
    /// The external network.
    pub network: String,
}

/// How a node's SSH host keys are learnt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostKeys {
    /// From the console where cloud-init prints them there, else at first contact.
    #[default]
    Auto,
    /// From the console; a node that does not print them there in time is a failed node.
    Console,
    /// At first contact, pinned for the run by the executor.
    FirstContact,
}

fn connect_timeout() -> HumanDuration {
    HumanDuration::secs(10)
}

fn request_timeout() -> HumanDuration {
    HumanDuration::secs(60)
}

fn release_timeout() -> HumanDuration {
    HumanDuration::secs(180)
}

fn settle_time() -> HumanDuration {
    HumanDuration::secs(15)
}

fn parallel_boots() -> usize {
    4
}

fn root() -> String {
    "root".into()
}

fn ssh_port() -> u16 {
    22
}

impl OpenStackConfig {
    /// Finds what no type can refuse.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::permanent(ErrorKind::Config, message).during("cloud"));
        if self.nodes.is_empty() {
            return refuse("`nodes` is empty: explain at least one label".into());
        }
        if self.parallel_boots == 0 {
            return refuse("`parallel_boots` is 0, so nothing would ever boot: say 1 or more".into());
        }
        for (label, class) in &self.nodes {
            if let Some(UserData { text, file }) = &class.user_data {
                if text.is_some() == file.is_some() {
                    return refuse(format!("nodes.{label}.user_data: give either `text` or `file`"));
                }
            }
            if let Some(key) = class.metadata.keys().find(|key| key.starts_with("pushbutton_")) {
                return refuse(format!(
                    "nodes.{label}.metadata: {key:?} starts with pushbutton_, which marks what we own"
                ));
            }
            if class.boot_from_volume.as_ref().is_some_and(|volume| volume.size_gb == 0) {
                return refuse(format!("nodes.{label}.boot_from_volume: size_gb is 0: say 1 or more"));
            }
        }
        Ok(())
    }

    pub(crate) fn class(&self, label: &NodeLabel) -> Result<&NodeClass> {
        self.nodes.get(label).ok_or_else(|| {
            let known = self.nodes.keys().map(NodeLabel::as_str).collect::<Vec<_>>().join(", ");
            Error::permanent(
                ErrorKind::Config,
                format!(
                    "the cloud's `nodes` do not explain the label {:?}: there are {known}",
                    label.as_str()
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<OpenStackConfig, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    #[test]
    fn the_least_that_works() {
        let config = parse("nodes: {lab: {image: noble, flavor: m1.large}}").unwrap();
        config.validate().unwrap();
        let class = config.class(&NodeLabel::new("lab").unwrap()).unwrap();
        assert_eq!((class.user.as_str(), class.ssh_port, class.host_keys), ("root", 22, HostKeys::Auto));
        let error = config.class(&NodeLabel::new("labs").unwrap()).unwrap_err();
        assert!(error.to_string().contains("there are lab"), "{error}");
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_place() {
        for (text, says) in [
            ("nodes: {}", "explain at least one label"),
            ("{parallel_boots: 0, nodes: {a: {image: i, flavor: f}}}", "parallel_boots"),
            ("nodes: {a: {image: i, flavor: f, user_data: {}}}", "nodes.a.user_data"),
            ("nodes: {a: {image: i, flavor: f, metadata: {pushbutton_run: x}}}", "nodes.a.metadata"),
            ("nodes: {a: {image: i, flavor: f, boot_from_volume: {size_gb: 0}}}", "size_gb"),
        ] {
            let error = parse(text).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(parse("nodes: {a: {image: i, flavour: f}}").unwrap_err().to_string().contains("flavour"));
    }
}
