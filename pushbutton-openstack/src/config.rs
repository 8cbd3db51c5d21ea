//! The configuration: which cloud, and what each node label means there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pushbutton_core::{Error, ErrorKind, HumanDuration, NodeLabel, Result};
use serde::Deserialize;

use crate::cloud_config::refuse;

/// The cloud, and the node labels that jobs may ask for.
///
/// ```
/// use pushbutton_core::NodeLabel;
/// use pushbutton_openstack::{NodeLabelConfig, OpenStackConfig};
///
/// let noble = NodeLabelConfig::new("ubuntu-noble", "m1.large").with_user("ubuntu").with_key_name("ci".to_owned());
/// let config = OpenStackConfig::new([(NodeLabel::new("noble")?, noble)]).with_cloud("lab".to_owned());
/// assert_eq!(config.parallel_boots, 4);
/// # Ok::<_, pushbutton_core::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OpenStackConfig {
    /// The `clouds.yaml` to read, with the `secure.yaml` beside it. Default: the file that `OS_CLIENT_CONFIG_FILE`
    /// names, else the first of `./clouds.yaml`, `~/.config/openstack/clouds.yaml`, `/etc/openstack/clouds.yaml`.
    pub clouds_file: Option<PathBuf>,
    /// The cloud's name in that file. Default: `OS_CLOUD`; else the `OS_*` variables where `OS_AUTH_URL` is set; else
    /// the file's only cloud.
    pub cloud: Option<String>,
    /// The region. Default: `region_name` in that file, or the first of its `regions`.
    pub region: Option<String>,
    /// How long a connection may take to come up. Default: `10s`.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// How long one request may take. Default: `60s`.
    #[serde(default = "request_timeout")]
    pub request_timeout: HumanDuration,
    /// How long a release waits until the cloud has deleted everything. Default: `3m`.
    #[serde(default = "release_timeout")]
    pub release_timeout: HumanDuration,
    /// How long after a create without a reply the resource may still become visible. Default: `15s`.
    #[serde(default = "create_visibility_timeout")]
    pub create_visibility_timeout: HumanDuration,
    /// How many nodes boot at the same time; others wait. Default: 4.
    #[serde(default = "parallel_boots")]
    pub parallel_boots: usize,
    /// Where the consoles of failed nodes are kept, as `<run>.log`. Default: not kept; the last lines go to the log.
    pub console_dir: Option<PathBuf>,
    /// What each label means on this cloud.
    pub nodes: BTreeMap<NodeLabel, NodeLabelConfig>,
}

/// The definition of a node label. Images, flavors and networks are given by name or by id.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NodeLabelConfig {
    /// The image to boot.
    pub image: String,
    /// The size of the machine.
    pub flavor: String,
    /// The key pair in Nova whose public key may log in. Default: none; then the image or the user data must allow a
    /// key.
    pub key_name: Option<String>,
    /// The private key file to log in with. Default: the executor's.
    pub key_file: Option<PathBuf>,
    /// The user to log in as. Default: `root`.
    #[serde(default = "root")]
    pub user: String,
    /// The networks to connect it to, in order; SSH uses the first. Default: none; Nova uses the project's only
    /// network.
    #[serde(default)]
    pub networks: Vec<String>,
    /// The security groups. Default: none; Nova uses the project's `default`.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// The availability zone. Default: any.
    pub availability_zone: Option<String>,
    /// User data for cloud-init. Default: none.
    pub user_data: Option<UserData>,
    /// Boot from a volume of its own instead of the hypervisor's disk. Default: no.
    pub boot_from_volume: Option<BootVolume>,
    /// More metadata for the server; keys that start with `pushbutton_` are reserved. Default: none.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// A floating IP of its own, created and deleted with the node. Default: none; SSH uses the fixed address.
    pub floating_ip: Option<FloatingIpConfig>,
    /// SSH's port. Default: 22.
    #[serde(default = "ssh_port")]
    pub ssh_port: u16,
    /// Where the node's host keys are read. Default: `auto`.
    #[serde(default)]
    pub host_keys: HostKeys,
    /// More variables for the inventory, such as `ansible_python_interpreter`. Default: none.
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
}

/// User data: exactly one of `text` and `file`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct UserData {
    /// The text.
    pub text: Option<String>,
    /// The file with the text, read at each boot.
    pub file: Option<PathBuf>,
}

/// A boot volume, created from the image and deleted with the run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BootVolume {
    /// Its size, in GiB.
    pub size_gb: u32,
    /// Its volume type. Default: the cloud's.
    #[serde(rename = "type")]
    pub volume_type: Option<String>,
}

/// A floating IP.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FloatingIpConfig {
    /// The external network.
    pub network: String,
}

/// Where a node's SSH host keys are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HostKeys {
    /// On the console, if cloud-init prints them there, else at first contact.
    #[default]
    Auto,
    /// On the console. The boot fails if they are not printed there in time.
    Console,
    /// At first contact; the executor pins them for the run.
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

fn create_visibility_timeout() -> HumanDuration {
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

/// Implements `with_FIELD(value)` for each field.
macro_rules! setters {
    ($type:ty { $($field:ident / $setter:ident: $value:ty),* $(,)? }) => {
        impl $type {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $setter(mut self, $field: impl Into<$value>) -> Self {
                    self.$field = $field.into();
                    self
                }
            )*
        }
    };
}

setters!(OpenStackConfig {
    clouds_file / with_clouds_file: Option<PathBuf>,
    cloud / with_cloud: Option<String>,
    region / with_region: Option<String>,
    connect_timeout / with_connect_timeout: HumanDuration,
    request_timeout / with_request_timeout: HumanDuration,
    release_timeout / with_release_timeout: HumanDuration,
    create_visibility_timeout / with_create_visibility_timeout: HumanDuration,
    parallel_boots / with_parallel_boots: usize,
    console_dir / with_console_dir: Option<PathBuf>,
});

setters!(NodeLabelConfig {
    key_name / with_key_name: Option<String>,
    key_file / with_key_file: Option<PathBuf>,
    user / with_user: String,
    networks / with_networks: Vec<String>,
    security_groups / with_security_groups: Vec<String>,
    availability_zone / with_availability_zone: Option<String>,
    user_data / with_user_data: Option<UserData>,
    boot_from_volume / with_boot_from_volume: Option<BootVolume>,
    metadata / with_metadata: BTreeMap<String, String>,
    floating_ip / with_floating_ip: Option<FloatingIpConfig>,
    ssh_port / with_ssh_port: u16,
    host_keys / with_host_keys: HostKeys,
    vars / with_vars: BTreeMap<String, serde_json::Value>,
});

setters!(BootVolume { volume_type / with_volume_type: Option<String> });

impl UserData {
    /// The text itself.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), file: None }
    }

    /// A file with the text, read at each boot.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { text: None, file: Some(path.into()) }
    }
}

impl BootVolume {
    /// A volume of this size and the cloud's default type.
    pub fn new(size_gb: u32) -> Self {
        Self { size_gb, volume_type: None }
    }
}

impl FloatingIpConfig {
    /// A floating IP of this external network.
    pub fn new(network: impl Into<String>) -> Self {
        Self { network: network.into() }
    }
}

impl NodeLabelConfig {
    /// A label with this image and flavor, and the default of everything else.
    pub fn new(image: impl Into<String>, flavor: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            flavor: flavor.into(),
            key_name: None,
            key_file: None,
            user: root(),
            networks: Vec::new(),
            security_groups: Vec::new(),
            availability_zone: None,
            user_data: None,
            boot_from_volume: None,
            metadata: BTreeMap::new(),
            floating_ip: None,
            ssh_port: ssh_port(),
            host_keys: HostKeys::default(),
            vars: BTreeMap::new(),
        }
    }
}

impl OpenStackConfig {
    /// A cloud with these node labels, and the default of everything else.
    pub fn new(nodes: impl IntoIterator<Item = (NodeLabel, NodeLabelConfig)>) -> Self {
        Self {
            clouds_file: None,
            cloud: None,
            region: None,
            connect_timeout: connect_timeout(),
            request_timeout: request_timeout(),
            release_timeout: release_timeout(),
            create_visibility_timeout: create_visibility_timeout(),
            parallel_boots: parallel_boots(),
            console_dir: None,
            nodes: nodes.into_iter().collect(),
        }
    }

    /// Refuses values that cannot work.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.nodes.is_empty() {
            return Err(refuse("`nodes` is empty: define at least one label"));
        }
        if self.parallel_boots == 0 {
            return Err(refuse("`parallel_boots` is 0, so no node could boot: set 1 or more"));
        }
        for (label, config) in &self.nodes {
            if let Some(UserData { text, file }) = &config.user_data {
                if text.is_some() == file.is_some() {
                    return Err(refuse(format!("nodes.{label}.user_data: give either `text` or `file`")));
                }
            }
            if let Some(key) = config.metadata.keys().find(|key| key.starts_with("pushbutton_")) {
                return Err(refuse(format!(
                    "nodes.{label}.metadata: {key:?} starts with pushbutton_, which is reserved for ownership tags"
                )));
            }
            if config.boot_from_volume.as_ref().is_some_and(|volume| volume.size_gb == 0) {
                return Err(refuse(format!("nodes.{label}.boot_from_volume: size_gb is 0: set 1 or more")));
            }
        }
        Ok(())
    }

    pub(crate) fn label(&self, label: &NodeLabel) -> Result<&NodeLabelConfig> {
        self.nodes.get(label).ok_or_else(|| {
            let known = self.nodes.keys().map(NodeLabel::as_str).collect::<Vec<_>>().join(", ");
            let message = format!(
                "the cloud's `nodes` do not define the label {:?}: there are {known}",
                label.as_str()
            );
            Error::permanent(ErrorKind::Config, message)
        })
    }

    pub(crate) fn uses_volumes(&self) -> bool {
        self.nodes.values().any(|label| label.boot_from_volume.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<OpenStackConfig, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    #[test]
    fn image_and_flavor_are_enough() {
        let config = parse("nodes: {lab: {image: noble, flavor: m1.large}}").unwrap();
        config.validate().unwrap();
        let label = config.label(&NodeLabel::new("lab").unwrap()).unwrap();
        assert_eq!((label.user.as_str(), label.ssh_port, label.host_keys), ("root", 22, HostKeys::Auto));
        let error = config.label(&NodeLabel::new("labs").unwrap()).unwrap_err();
        assert!(error.to_string().contains("there are lab"), "{error}");
    }

    #[test]
    fn values_that_cannot_work_are_refused_with_their_key() {
        for (text, says) in [
            ("nodes: {}", "define at least one label"),
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
