//! The configuration: which cloud, and what each node label means there.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use pushbutton_core::pipeline::RELEASE_TIMEOUT;
use pushbutton_core::{Error, ErrorKind, HumanDuration, NodeLabel, Result};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// How long a release waits until the cloud has deleted everything; less than `5m`. Default: `3m`.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// The private key file to log in with. Default: what the executor's SSH finds by itself.
    pub key_file: Option<PathBuf>,
    /// The user to log in as. Default: `root`.
    #[serde(default = "root")]
    pub user: String,
    /// The networks to connect it to, in order, each a name, or a mapping with the options of its port. Default: the one
    /// with `default_interface` in `clouds.yaml`, else none; then Nova uses the project's only network.
    #[serde(default)]
    pub networks: Vec<NetworkConfig>,
    /// Which of its addresses to log in to. Default: `any`.
    #[serde(default)]
    pub address: AddressChoice,
    /// The security groups. Default: none; Nova uses the project's `default`.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// The availability zone. Default: any.
    pub availability_zone: Option<String>,
    /// User data for cloud-init. Default: none.
    pub user_data: Option<UserData>,
    /// Give the user data and the network configuration on a drive, for a cloud without a metadata service. Default: no.
    #[serde(default)]
    pub config_drive: bool,
    /// Boot from a volume of its own instead of the hypervisor's disk. Default: no.
    pub boot_from_volume: Option<VolumeConfig>,
    /// Empty volumes to attach, deleted with the run. Default: none.
    #[serde(default)]
    pub data_volumes: Vec<VolumeConfig>,
    /// A server group that exists, for affinity or anti-affinity. Default: none.
    pub server_group: Option<String>,
    /// More hints for Nova's scheduler, as its filters on this cloud define them. Default: none.
    #[serde(default)]
    pub scheduler_hints: BTreeMap<String, serde_json::Value>,
    /// More metadata for the server; keys that start with `pushbutton_` are reserved. Default: none.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// A floating IP of its own, created and deleted with the node. Default: none; SSH uses the fixed address.
    pub floating_ip: Option<FloatingIpConfig>,
    /// SSH's port. Default: 22.
    #[serde(default = "ssh_port")]
    pub ssh_port: u16,
    /// Where the node's host keys are from. Default: `auto`.
    #[serde(default)]
    pub host_keys: HostKeys,
    /// More variables for the inventory, such as `ansible_python_interpreter`. Default: none.
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
}

/// User data: exactly one of `text` and `file`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct UserData {
    /// The text.
    pub text: Option<String>,
    /// The file with the text, read at each boot.
    pub file: Option<PathBuf>,
}

/// A network that a node is connected to, with the options of its port. A name alone is enough.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
#[non_exhaustive]
pub struct NetworkConfig {
    /// The network.
    pub name: String,
    /// The addresses of the port. Only one node can have them at a time; the next one finds no room. Default: any.
    #[serde(default)]
    pub fixed_ips: Vec<IpAddr>,
    /// Whether Neutron filters the port's traffic: by security group, and by its own addresses. Nested virtual machines
    /// on a provider network need `false`. Default: as the network has it.
    pub port_security_enabled: Option<bool>,
    /// More addresses (or ranges, as `10.0.0.0/24`) that the port may send from; only with port security. Default: none.
    #[serde(default)]
    pub allowed_address_pairs: Vec<String>,
}

/// Which address of a node is used to log in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AddressChoice {
    /// The floating IP where there is one. Else what the route flags in `clouds.yaml` allow; of several, of both
    /// families, the first that answers SSH.
    #[default]
    Any,
    /// The floating IP.
    Floating,
    /// A fixed IPv4 address.
    Ipv4,
    /// A fixed IPv6 address.
    Ipv6,
}

/// A volume, deleted with the run. A boot volume is created from the image; others are empty.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct VolumeConfig {
    /// Its size, in GiB.
    pub size_gb: u32,
    /// Its volume type. Default: the cloud's.
    #[serde(rename = "type")]
    pub volume_type: Option<String>,
    /// Its availability zone in Cinder, which may differ from Nova's. A cloud whose Nova attaches no volume of another
    /// zone (`cross_az_attach = False`) needs that of the node. Default: the cloud's choice.
    pub availability_zone: Option<String>,
}

/// A floating IP.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FloatingIpConfig {
    /// The external network.
    pub network: String,
}

/// Where a node's SSH host keys are from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HostKeys {
    /// As `generated`, where cloud-init is in the image and nothing in the user data is against it. Else on the console,
    /// if they are printed there; else at first contact.
    #[default]
    Auto,
    /// One is generated for each node, handed over in its user data for cloud-init, and the only one that is accepted.
    /// The boot fails if the node does not present it.
    Generated,
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

pushbutton_core::__setters!(OpenStackConfig {
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

pushbutton_core::__setters!(NodeLabelConfig {
    key_name / with_key_name: Option<String>,
    key_file / with_key_file: Option<PathBuf>,
    user / with_user: String,
    networks / with_networks: Vec<NetworkConfig>,
    address / with_address: AddressChoice,
    security_groups / with_security_groups: Vec<String>,
    availability_zone / with_availability_zone: Option<String>,
    user_data / with_user_data: Option<UserData>,
    config_drive / with_config_drive: bool,
    boot_from_volume / with_boot_from_volume: Option<VolumeConfig>,
    data_volumes / with_data_volumes: Vec<VolumeConfig>,
    server_group / with_server_group: Option<String>,
    scheduler_hints / with_scheduler_hints: BTreeMap<String, serde_json::Value>,
    metadata / with_metadata: BTreeMap<String, String>,
    floating_ip / with_floating_ip: Option<FloatingIpConfig>,
    ssh_port / with_ssh_port: u16,
    host_keys / with_host_keys: HostKeys,
    vars / with_vars: BTreeMap<String, serde_json::Value>,
});

pushbutton_core::__setters!(VolumeConfig {
    volume_type / with_volume_type: Option<String>,
    availability_zone / with_availability_zone: Option<String>,
});

pushbutton_core::__setters!(NetworkConfig {
    fixed_ips / with_fixed_ips: Vec<IpAddr>,
    port_security_enabled / with_port_security_enabled: Option<bool>,
    allowed_address_pairs / with_allowed_address_pairs: Vec<String>,
});

impl NetworkConfig {
    /// A connection to this network by a port that Nova creates.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            fixed_ips: Vec::new(),
            port_security_enabled: None,
            allowed_address_pairs: Vec::new(),
        }
    }

    /// Whether the port is created here: Nova's ports have no options.
    pub(crate) fn has_options(&self) -> bool {
        *self != Self::new(&self.name)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for NetworkConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NetworkConfig".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A network that a node is connected to, with the options of its port. A name alone is enough.",
            "anyOf": [{ "type": "string" }, NetworkOptions::json_schema(generator)],
        })
    }
}

/// The keys of [`NetworkConfig`], whose own `Deserialize` takes a name, too.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
#[expect(dead_code, reason = "its schema alone is used")]
struct NetworkOptions {
    /// The network.
    name: String,
    /// The addresses of the port. Only one node can have them at a time; the next one finds no room. Default: any.
    #[serde(default)]
    fixed_ips: Vec<IpAddr>,
    /// Whether Neutron filters the port's traffic: by security group, and by its own addresses. Nested virtual machines
    /// on a provider network need `false`. Default: as the network has it.
    port_security_enabled: Option<bool>,
    /// More addresses (or ranges, as `10.0.0.0/24`) that the port may send from; only with port security. Default: none.
    #[serde(default)]
    allowed_address_pairs: Vec<String>,
}

impl<'de> Deserialize<'de> for NetworkConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct NameOrMapping;

        impl<'de> Visitor<'de> for NameOrMapping {
            type Value = NetworkConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a network, or a mapping with `name`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<NetworkConfig, E> {
                Ok(NetworkConfig::new(name))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<NetworkConfig, A::Error> {
                NetworkConfig::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(NameOrMapping)
    }
}

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

impl VolumeConfig {
    /// A volume of this size and the cloud's default type.
    pub fn new(size_gb: u32) -> Self {
        Self { size_gb, volume_type: None, availability_zone: None }
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
            address: AddressChoice::default(),
            security_groups: Vec::new(),
            availability_zone: None,
            user_data: None,
            config_drive: false,
            boot_from_volume: None,
            data_volumes: Vec::new(),
            server_group: None,
            scheduler_hints: BTreeMap::new(),
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

    /// Refuses values that cannot work. Looks at no file and no cloud.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent, with the key.
    pub fn validate(&self) -> Result<()> {
        if self.nodes.is_empty() {
            return Err(refuse("`nodes` is empty: define at least one label"));
        }
        if self.parallel_boots == 0 {
            return Err(refuse("`parallel_boots` is 0, so no node could boot: set 1 or more"));
        }
        if self.release_timeout.0 >= RELEASE_TIMEOUT {
            let (set, limit) = (self.release_timeout, HumanDuration(RELEASE_TIMEOUT));
            return Err(refuse(format!(
                "`release_timeout` is {set}, but a release is ended after {limit}: set less than that"
            )));
        }
        for (label, config) in &self.nodes {
            // Without port security a port may send from any address, and Neutron refuses the pairs.
            let is_both = |network: &&NetworkConfig| {
                network.port_security_enabled == Some(false) && !network.allowed_address_pairs.is_empty()
            };
            if let Some(NetworkConfig { name, .. }) = config.networks.iter().find(is_both) {
                return Err(refuse(format!(
                    "nodes.{label}.networks: {name:?} has allowed_address_pairs and port_security_enabled: false: remove \
                     the pairs, since without port security a port may send from any address"
                )));
            }
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
            let mut volumes = config.boot_from_volume.iter().chain(&config.data_volumes);
            if volumes.any(|volume| volume.size_gb == 0) {
                return Err(refuse(format!("nodes.{label}: size_gb of a volume is 0: set 1 or more")));
            }
            if config.address == AddressChoice::Floating && config.floating_ip.is_none() {
                return Err(refuse(format!("nodes.{label}.address is floating: set `floating_ip`, too")));
            }
            if config.server_group.is_some() && config.scheduler_hints.contains_key("group") {
                return Err(refuse(format!(
                    "nodes.{label}: both server_group and scheduler_hints.group are set: remove one"
                )));
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
        self.nodes.values().any(|label| label.boot_from_volume.is_some() || !label.data_volumes.is_empty())
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
            ("nodes: {a: {image: i, flavor: f, data_volumes: [{size_gb: 0}]}}", "size_gb"),
            ("nodes: {a: {image: i, flavor: f, address: floating}}", "set `floating_ip`"),
            ("{release_timeout: 5m, nodes: {a: {image: i, flavor: f}}}", "`release_timeout` is 5m"),
            (
                "nodes: {a: {image: i, flavor: f, networks: [{name: wide, port_security_enabled: false, allowed_address_pairs: [0.0.0.0/0]}]}}",
                "remove the pairs",
            ),
            ("nodes: {a: {image: i, flavor: f, server_group: g, scheduler_hints: {group: h}}}", "remove one"),
        ] {
            let error = parse(text).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(parse("nodes: {a: {image: i, flavour: f}}").unwrap_err().to_string().contains("flavour"));
    }

    #[test]
    fn a_network_is_a_name_or_a_mapping_with_the_options_of_its_port() {
        let config = parse(
            "nodes: {a: {image: i, flavor: f, networks: [plain, {name: wide, fixed_ips: [10.0.0.5, 'fd00::5'], port_security_enabled: true, allowed_address_pairs: [0.0.0.0/0]}]}}",
        )
        .unwrap();
        config.validate().unwrap();
        let networks = &config.nodes.values().next().unwrap().networks;
        assert_eq!(networks[0], NetworkConfig::new("plain"));
        assert!(!networks[0].has_options() && networks[1].has_options());
        assert_eq!((networks[1].fixed_ips.len(), networks[1].port_security_enabled), (2, Some(true)));
        for (network, says) in
            [("{name: a, fixed_ip: 10.0.0.5}", "fixed_ip"), ("{}", "name"), ("[]", "name of a network")]
        {
            let error = parse(&format!("nodes: {{a: {{image: i, flavor: f, networks: [{network}]}}}}"));
            assert!(error.as_ref().unwrap_err().to_string().contains(says), "{error:?}");
        }
    }
}
