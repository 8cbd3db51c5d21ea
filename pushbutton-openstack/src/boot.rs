//! Boots one node, step by step, until it answers SSH.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Journal, Node, NodeRequest, Result};

use crate::addresses::{candidates, nat_port};
use crate::api_types::Resource;
use crate::config::{AddressChoice, HostKeys, NetworkConfig, NodeLabelConfig};
use crate::console;
use crate::create::Shared;
use crate::create_spec::{Attachments, CreateSpec, Ids};
use crate::endpoints::{FLOATING_IPS, SERVERS, VOLUMES};
use crate::error::{is_no_room, is_transient};
use crate::host_key::{self, GeneratedHostKey};
use crate::lookup::{Kind, Lookup};
use crate::ssh;
use crate::user_data::BootData;

/// How often the console is read for host keys, where first contact would do as well.
const MAX_CONSOLE_READS: u32 = 3;
/// How often a node's host key is looked at, where another than the one that was handed over would do as well. An SSH
/// server that cloud-init restarts may show another key at first.
const MAX_KEY_LOOKS: u32 = 3;
/// Lines of a console that are read for host keys.
const CONSOLE_LINES: u32 = 1000;
/// How often a server's status is checked while it does not answer SSH yet, or does not show its host keys.
const WATCH_INTERVAL: Duration = Duration::from_secs(10);

/// One boot.
pub(crate) struct Boot<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) lookup: &'a Lookup,
    pub(crate) label: &'a NodeLabelConfig,
    pub(crate) data: &'a BootData,
    pub(crate) request: &'a NodeRequest,
    pub(crate) journal: &'a Arc<dyn Journal>,
    pub(crate) progress: &'a BootProgress,
}

impl Boot<'_> {
    pub(crate) async fn run(&self) -> Result<Node> {
        self.progress.waits_for("the names in the configuration");
        let ids = self.ids().await?;
        let (ids, server) = match self.create_all(&ids).await {
            // A cached id may be the one of an image or a network that has been replaced since under the same name.
            Err((error, attachments)) if matches!(error.kind(), ErrorKind::Config | ErrorKind::NotFound) => {
                self.lookup.clear();
                let fresh = self.ids().await?;
                match attachments {
                    _ if fresh == ids => return Err(error),
                    Some(attachments) if fresh.networks == ids.networks => {
                        let server = self.create_server(&fresh, &attachments).await?;
                        (fresh, server)
                    }
                    // What was created already belongs to the old ids.
                    _ => {
                        let message = "a network or a group was replaced under its name during the boot";
                        return Err(Error::temporary(ErrorKind::Remote, message).because(error));
                    }
                }
            }
            Err((error, _)) => return Err(error),
            Ok(server) => (ids, server),
        };
        self.progress.has_server(&server);
        self.progress.waits_for("the server to become ACTIVE");
        poll(|| self.is_active(&server)).await?;
        let addresses = match &ids.floating_network {
            Some(network) => {
                let floating = match self.floating_address(network, &server, &ids).await {
                    // Without its server the port is gone too; the server's error explains more than the port's.
                    Err(error) if !error.is_temporary() => {
                        self.is_active(&server).await?;
                        return Err(error);
                    }
                    address => address?,
                };
                match self.label.address {
                    AddressChoice::Any | AddressChoice::Floating => vec![floating],
                    AddressChoice::Ipv4 | AddressChoice::Ipv6 => self.fixed_addresses(&server, &ids).await?,
                }
            }
            None => self.fixed_addresses(&server, &ids).await?,
        };
        self.progress.waits_for("the node to answer SSH");
        let address = tokio::select! {
            address = ssh::first_that_answers(&addresses, self.label.ssh_port) => address,
            error = self.watch_server(&server) => return Err(error.with("address", addresses.join(", "))),
        };
        let (source, host_keys) = tokio::select! {
            keys = self.host_keys(&server, &address) => keys?,
            error = self.watch_server(&server) => return Err(error.with("address", &address)),
        };
        tracing::info!(run = %self.request.run, %server, %address, host_keys = source, "the node is ready");
        Ok(self.node(server, address, host_keys))
    }

    fn node(&self, id: String, address: String, host_keys: Vec<String>) -> Node {
        let label = self.label;
        Node::ssh(id, self.request.label.clone(), address, &label.user)
            .with_name(self.shared.tags.name(self.request))
            .with_port(label.ssh_port)
            .with_key_file(label.key_file.clone())
            .with_host_keys(host_keys)
            .with_vars(label.vars.clone())
    }

    async fn id(&self, kind: Kind, name: &str) -> Result<String> {
        self.lookup.id(&self.shared.api, kind, name).await
    }

    async fn ids(&self) -> Result<Ids> {
        let label = self.label;
        if let Some(key) = &label.key_name {
            self.id(Kind::KeyPair, key).await?;
        }
        if let Some(zone) = &label.availability_zone {
            self.id(Kind::Zone, zone).await?;
        }
        let mut routes = Vec::new();
        for network in &self.shared.api.cloud().networks {
            match self.id(Kind::Network, &network.name).await {
                Ok(id) => routes.push((id, network.clone())),
                // A file that is shared with others may name networks that this project does not see.
                Err(error) if error.kind() == ErrorKind::Config => tracing::debug!("of clouds.yaml: {error}"),
                Err(error) => return Err(error),
            }
        }
        let mut networks = Vec::new();
        for network in &label.networks {
            networks.push(self.id(Kind::Network, &network.name).await?);
        }
        if networks.is_empty() {
            let default = routes.iter().find(|(_, network)| network.default_interface);
            networks.extend(default.map(|(id, _)| id.clone()));
        }
        let mut security_groups = Vec::new();
        if label.networks.iter().any(NetworkConfig::has_options) {
            for group in &label.security_groups {
                security_groups.push(self.id(Kind::SecurityGroup, group).await?);
            }
        }
        let floating_network = match &label.floating_ip {
            Some(floating) => Some(self.id(Kind::Network, &floating.network).await?),
            None => None,
        };
        let server_group = match &label.server_group {
            Some(group) => Some(self.id(Kind::ServerGroup, group).await?),
            None => None,
        };
        let image = self.id(Kind::Image, &label.image).await?;
        let flavor = self.id(Kind::Flavor, &label.flavor).await?;
        Ok(Ids { image, flavor, networks, floating_network, server_group, security_groups, routes })
    }

    async fn create(&self, spec: CreateSpec) -> Result<String> {
        self.shared.create(spec, self.journal).await
    }

    /// Creates the server with what it is connected to. After an error, the attachments if they are complete.
    async fn create_all(&self, ids: &Ids) -> std::result::Result<String, (Error, Option<Attachments>)> {
        let attachments = self.create_attachments(ids).await.map_err(|error| (error, None))?;
        self.create_server(ids, &attachments).await.map_err(|error| (error, Some(attachments)))
    }

    async fn create_attachments(&self, ids: &Ids) -> Result<Attachments> {
        let Self { shared, label, request, .. } = self;
        let mut attachments = Attachments::default();
        self.progress.waits_for("the ports");
        for (number, network) in label.networks.iter().enumerate() {
            attachments.ports.push(match network.has_options() {
                true => {
                    Some(self.create(CreateSpec::port(&shared.tags, request, network, ids, number)).await?)
                }
                false => None,
            });
        }
        self.progress.waits_for("the data volumes");
        for (number, volume) in label.data_volumes.iter().enumerate() {
            let spec = CreateSpec::data_volume(&shared.tags, request, volume, number);
            attachments.data_volumes.push(self.create(spec).await?);
        }
        for id in &attachments.data_volumes {
            poll(|| self.is_available(id)).await?;
        }
        Ok(attachments)
    }

    async fn create_server(&self, ids: &Ids, attachments: &Attachments) -> Result<String> {
        let Self { shared, label, request, .. } = self;
        let volume = match &label.boot_from_volume {
            Some(config) => {
                // Nova could create it, but its volumes have no tags, and stay when a boot fails.
                self.progress.waits_for("the boot volume");
                let spec = CreateSpec::boot_volume(&shared.tags, request, config, &ids.image);
                let id = self.create(spec).await?;
                poll(|| self.is_available(&id)).await?;
                Some(id)
            }
            None => None,
        };
        self.progress.waits_for("the server to be accepted");
        let (user_data, volume) = (self.data.encoded.as_ref(), volume.as_deref());
        self.create(CreateSpec::server(&shared.tags, request, label, ids, attachments, volume, user_data))
            .await
    }

    /// Whether the volume is available; an error if it cannot become so any more.
    async fn is_available(&self, id: &str) -> Result<Option<()>> {
        let Some(volume) = self.shared.api.get(VOLUMES, id).await? else {
            return Err(vanished("volume", id));
        };
        match volume.status.as_deref() {
            Some("available") => Ok(Some(())),
            Some(status) if status.starts_with("error") => {
                let fault = self.shared.api.volume_fault(id).await;
                Err(volume_fault(fault.as_deref()).with("volume", id))
            }
            _ => Ok(None),
        }
    }

    /// Whether the server is ACTIVE; an error if it cannot become so any more.
    async fn is_active(&self, id: &str) -> Result<Option<()>> {
        let Some(server) = self.shared.api.get(SERVERS, id).await? else {
            return Err(vanished("server", id));
        };
        match server.status.as_deref() {
            Some("ACTIVE") => Ok(Some(())),
            Some("ERROR") => Err(server_fault(&server)),
            Some("DELETED" | "SOFT_DELETED") => Err(vanished("server", id)),
            _ => Ok(None),
        }
    }

    /// Checks a server that should stay ACTIVE until that fails.
    async fn watch_server(&self, id: &str) -> Error {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            match self.is_active(id).await {
                Ok(_) => {}
                Err(error) if is_transient(&error) => {
                    tracing::debug!(server = id, "cannot check the server: {error}")
                }
                Err(error) => return error,
            }
        }
    }

    /// The addresses to try, as soon as the server's ports have some.
    async fn fixed_addresses(&self, server: &str, ids: &Ids) -> Result<Vec<String>> {
        self.progress.waits_for("the server's port");
        let servers = [server.to_owned()];
        let look = || async {
            let ports = self.shared.api.ports_of(&servers).await?;
            let addresses = candidates(&ports, ids, self.label.address)?;
            match addresses.is_empty() {
                true => self.is_active(server).await.map(|_| None),
                false => Ok(Some(addresses.iter().map(ToString::to_string).collect())),
            }
        };
        poll(look).await
    }

    async fn floating_address(&self, network: &str, server: &str, ids: &Ids) -> Result<String> {
        self.progress.waits_for("the server's port");
        let servers = [server.to_owned()];
        let look = || async {
            let ports = self.shared.api.ports_of(&servers).await?;
            match nat_port(&ports, ids)? {
                Some((port, address)) => Ok(Some((port.id.clone(), address))),
                None => self.is_active(server).await.map(|_| None),
            }
        };
        let (port, fixed) = poll(look).await?;
        self.progress.waits_for("the floating IP");
        let spec = CreateSpec::floating_ip(&self.shared.tags, self.request, network, &port, fixed);
        let id = match self.create(spec).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The network's id may be an old one in the cache.
                self.lookup.clear();
                return Err(no_floating_ip(error));
            }
            id => id?,
        };
        let look = || async {
            match self.shared.api.get(FLOATING_IPS, &id).await? {
                Some(ip) => Ok(ip.floating_ip_address),
                None => Err(vanished("floating IP", &id)),
            }
        };
        poll(look).await
    }

    /// The host keys to pin, and where they are from; none to pin those of the first contact.
    async fn host_keys(&self, server: &str, address: &str) -> Result<(&'static str, Vec<String>)> {
        let source = self.label.host_keys;
        if let Some(key) = &self.data.host_key {
            self.progress.waits_for("the node to present the host key that was handed over in its user data");
            if self.presents(key, server, address).await {
                return Ok(("generated", vec![key.public().to_owned()]));
            }
            tracing::warn!(
                run = %self.request.run, server,
                "the node does not present the host key that was handed over: is there cloud-init in its image? If so, \
                 set `host_keys: generated`; if not, set `console` or `first-contact`"
            );
        }
        if source == HostKeys::FirstContact {
            return Ok(("first contact", Vec::new()));
        }
        self.progress.waits_for("the node's host keys on its console");
        let keys = self.console_keys(server).await;
        Ok((if keys.is_empty() { "first contact" } else { "console" }, keys))
    }

    /// Whether the node presents this key. With `generated` it waits until it does, without a time limit of its own.
    async fn presents(&self, key: &GeneratedHostKey, server: &str, address: &str) -> bool {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        loop {
            match host_key::presented(address, self.label.ssh_port).await {
                Ok(Some(presented)) if presented == key.public() => return true,
                Ok(_) if self.label.host_keys == HostKeys::Auto && backoff.tries() + 1 >= MAX_KEY_LOOKS => {
                    return false;
                }
                Ok(presented) => tracing::debug!(server, ?presented, "not yet the generated host key"),
                Err(error) => tracing::debug!(server, "{error}"),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn console_keys(&self, server: &str) -> Vec<String> {
        let source = self.label.host_keys;
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        loop {
            let output = self.shared.api.console(server, CONSOLE_LINES).await.unwrap_or_else(|error| {
                tracing::debug!(server, "cannot read the console: {error}");
                None
            });
            let keys = output.as_deref().map(console::host_keys).unwrap_or_default();
            let give_up =
                source == HostKeys::Auto && (output.is_none() || backoff.tries() + 1 >= MAX_CONSOLE_READS);
            if !keys.is_empty() || give_up {
                return keys;
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

fn vanished(what: &'static str, id: &str) -> Error {
    let message = format!("the {what} is gone: somebody else deleted it");
    Error::temporary(ErrorKind::Remote, message).with("id", id)
}

/// The error of a cloud that knows no floating IPs, or not the network of one.
fn no_floating_ip(refused: Error) -> Error {
    let message = "the cloud makes no floating IP: see `floating_ip`, and whether this cloud has routers";
    Error::permanent(ErrorKind::Config, message).because(refused)
}

/// The error of a server in ERROR.
///
/// It is always temporary. "No valid host" mostly means that the cloud is full at this moment, or that another boot was
/// faster. A flavor that can never fit looks the same from outside; the limit of attempts ends that.
fn server_fault(server: &Resource) -> Error {
    let fault = server.fault.as_ref().and_then(|fault| fault.message.as_deref()).map(str::trim);
    let fault = fault.unwrap_or("no reason given");
    let (kind, message) = if is_no_room(fault) {
        (ErrorKind::Exhausted, "the cloud has no room for the server: its hosts or a quota are full")
    } else {
        (ErrorKind::Remote, "the server went into ERROR")
    };
    Error::temporary(kind, message).for_people(fault).with("server", &server.id)
}

/// The error of a volume in error. Where Cinder does not say why, most often no back end has room for it.
fn volume_fault(fault: Option<&str>) -> Error {
    let (kind, message) = if fault.is_none_or(is_no_room) {
        (
            ErrorKind::Exhausted,
            "the cloud has no room for the volume: no back end is free, or a quota is full",
        )
    } else {
        (ErrorKind::Remote, "the volume went into error")
    };
    Error::temporary(kind, message).for_people(fault.unwrap_or("no reason given"))
}

/// Calls `look` until it has an answer, at first often, then less often. It has no time limit of its own.
async fn poll<T, F, Fut>(mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(5));
    loop {
        match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            // The boot goes on while the API is away.
            Err(error) if is_transient(&error) => tracing::warn!("will check again: {error}"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// How far a boot is. It is read when the boot fails or runs into its deadline.
#[derive(Debug, Default)]
pub(crate) struct BootProgress(Mutex<(&'static str, Option<String>)>);

impl BootProgress {
    fn waits_for(&self, step: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = step;
    }

    fn has_server(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(id.to_owned());
    }

    /// What is being waited for, and the server if it was created.
    pub(crate) fn get(&self) -> (&'static str, Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
