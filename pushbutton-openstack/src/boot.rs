//! Boots one node, step by step, until it answers SSH.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Node, NodeRequest, ResourceKind, Result};
use serde_json::Value;

use crate::body::{self, Ids};
use crate::config::{BootVolume, HostKeys, NodeClass};
use crate::console;
use crate::lookup::{Lookup, What};
use crate::make::{Shared, Wanted};
use crate::poll::{poll, unheard};
use crate::progress::Progress;
use crate::ssh;
use crate::wire::{Port, Server};

/// Looks at a console that may still come to show host keys, where first contact would do as well.
const LOOKS: u32 = 3;
/// Lines of a console that are read for host keys.
const CONSOLE_LINES: u32 = 1000;
/// How often a server is looked at while it does not answer SSH.
const WATCH: Duration = Duration::from_secs(10);

/// One boot.
pub(crate) struct Boot<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) lookup: &'a Lookup,
    pub(crate) class: &'a NodeClass,
    pub(crate) request: &'a NodeRequest,
    pub(crate) progress: &'a Progress,
}

impl Boot<'_> {
    pub(crate) async fn run(&self) -> Result<Node> {
        self.progress.at("the names in the configuration");
        let ids = self.ids().await?;
        let (ids, server) = match self.server(&ids).await {
            // An image is replaced under its name; an id that was looked up before may be one too old.
            Err(error) if matches!(error.kind(), ErrorKind::Config | ErrorKind::NotFound) => {
                self.lookup.forget();
                let fresh = self.ids().await?;
                if fresh == ids {
                    return Err(error);
                }
                let server = self.server(&fresh).await?;
                (fresh, server)
            }
            other => (ids, other?),
        };
        self.progress.has_server(&server);
        self.progress.at("the server to become ACTIVE");
        self.until_active(&server).await?;
        let port = self.port(&server, &ids).await?;
        let address = match &ids.floating_network {
            Some(network) => match self.floating_address(network, &port).await {
                // A port that is gone went with its server; a network that is gone is another matter.
                Err(error) if !error.is_temporary() => {
                    self.alive(&server).await?;
                    return Err(error);
                }
                address => address?,
            },
            None => address_of(&port)?.to_string(),
        };
        self.progress.at("the node to answer SSH");
        tokio::select! {
            () = ssh::wait_until_it_answers(&address, self.class.ssh_port) => {}
            error = self.watch(&server) => return Err(error.with("address", address)),
        }
        self.progress.at("the node's host keys on its console");
        let host_keys = self.host_keys(&server).await?;
        let learnt = if host_keys.is_empty() { "at first contact" } else { "from the console" };
        tracing::info!(run = %self.request.run, %server, %address, host_keys = learnt, "the node is ready");
        Ok(self.node(server, address, host_keys))
    }

    fn node(&self, id: String, address: String, host_keys: Vec<String>) -> Node {
        Node {
            id,
            name: self.shared.marks.name(self.request),
            label: self.request.label.clone(),
            address,
            port: self.class.ssh_port,
            user: self.class.user.clone(),
            key_file: self.class.key_file.clone(),
            host_keys,
            local: false,
            vars: self.class.vars.clone(),
        }
    }

    async fn id(&self, what: What, name: &str) -> Result<String> {
        self.lookup.id(&self.shared.api, what, name).await
    }

    async fn ids(&self) -> Result<Ids> {
        let class = self.class;
        if let Some(key) = &class.key_name {
            self.id(What::KeyPair, key).await?;
        }
        if let Some(zone) = &class.availability_zone {
            self.id(What::Zone, zone).await?;
        }
        let mut networks = Vec::new();
        for network in &class.networks {
            networks.push(self.id(What::Network, network).await?);
        }
        let floating_network = match &class.floating_ip {
            Some(floating) => Some(self.id(What::Network, &floating.network).await?),
            None => None,
        };
        let image = self.id(What::Image, &class.image).await?;
        let flavor = self.id(What::Flavor, &class.flavor).await?;
        Ok(Ids { image, flavor, networks, floating_network })
    }

    async fn make(&self, kind: ResourceKind, body: Value) -> Result<String> {
        let (run, name) = (self.request.run.clone(), self.shared.marks.name(self.request));
        self.shared.make(Wanted { kind, run, name, body }).await
    }

    async fn server(&self, ids: &Ids) -> Result<String> {
        let volume = match &self.class.boot_from_volume {
            Some(wanted) => Some(self.boot_volume(wanted, &ids.image).await?),
            None => None,
        };
        self.progress.at("the server to be accepted");
        let Self { shared, class, request, .. } = self;
        let user_data = body::user_data(class.user_data.as_ref()).await?;
        let body = body::server(&shared.marks, request, class, ids, volume.as_deref(), user_data);
        self.make(ResourceKind::Server, body).await
    }

    /// Makes the boot volume ourselves: one that Nova makes has no mark, and stays when the boot fails.
    async fn boot_volume(&self, wanted: &BootVolume, image: &str) -> Result<String> {
        self.progress.at("the boot volume");
        let body = body::volume(&self.shared.marks, self.request, wanted, image);
        let id = self.make(ResourceKind::Volume, body).await?;
        let look = || async {
            let volume = self.shared.api.volume(&id).await?;
            match volume.as_ref().and_then(|volume| volume.status.as_deref()) {
                Some("available") => Ok(Some(())),
                Some(status) if status.starts_with("error") => Err(Error::temporary(
                    ErrorKind::Exhausted,
                    "the boot volume went into error: most often no back end has room for it",
                )
                .with("volume", &id)),
                None if volume.is_none() => Err(vanished("volume", &id)),
                _ => Ok(None),
            }
        };
        poll(look).await?;
        Ok(id)
    }

    async fn until_active(&self, id: &str) -> Result<()> {
        let look = || async {
            let Some(server) = self.shared.api.server(id).await? else { return Err(vanished("server", id)) };
            match server.status.as_deref() {
                Some("ACTIVE") => Ok(Some(())),
                Some("ERROR") => Err(fault(&server)),
                Some("DELETED" | "SOFT_DELETED") => Err(vanished("server", id)),
                _ => Ok(None),
            }
        };
        poll(look).await
    }

    /// Fails when a server that was ACTIVE is no more.
    async fn alive(&self, id: &str) -> Result<()> {
        match self.shared.api.server(id).await? {
            Some(server) if server.status.as_deref() == Some("ERROR") => Err(fault(&server)),
            Some(_) => Ok(()),
            None => Err(vanished("server", id)),
        }
    }

    /// Watches a server that should stay ACTIVE; returns what went wrong.
    async fn watch(&self, id: &str) -> Error {
        loop {
            tokio::time::sleep(WATCH).await;
            match self.alive(id).await {
                Ok(()) => {}
                Err(error) if unheard(&error) => {
                    tracing::debug!(server = id, "cannot look at the server: {error}")
                }
                Err(error) => return error,
            }
        }
    }

    /// The port that SSH goes to: on the first network of the class, else the first of all.
    async fn port(&self, server: &str, ids: &Ids) -> Result<Port> {
        self.progress.at("the server's port");
        let servers = [server.to_owned()];
        let look = || async {
            let mut ports = self.shared.api.ports_of(&servers).await?;
            let first = ids.networks.first();
            let at =
                ports.iter().position(|port| first.is_none_or(|id| port.network_id.as_ref() == Some(id)));
            match at.map(|at| ports.swap_remove(at)).filter(|port| !port.fixed_ips.is_empty()) {
                None => self.alive(server).await.map(|()| None),
                port => Ok(port),
            }
        };
        poll(look).await
    }

    async fn floating_address(&self, network: &str, port: &Port) -> Result<String> {
        self.progress.at("the floating IP");
        let body = body::floating_ip(&self.shared.marks, self.request, network, &port.id);
        let id = self.make(ResourceKind::FloatingIp, body).await?;
        let look = || async {
            match self.shared.api.floating_ip(&id).await? {
                Some(ip) => Ok(ip.floating_ip_address),
                None => Err(vanished("floating IP", &id)),
            }
        };
        poll(look).await
    }

    async fn host_keys(&self, server: &str) -> Result<Vec<String>> {
        let wanted = self.class.host_keys;
        if wanted == HostKeys::FirstContact {
            return Ok(Vec::new());
        }
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        loop {
            let output = match self.shared.api.console(server, CONSOLE_LINES).await {
                Ok(output) => output,
                Err(error) => {
                    tracing::debug!(server, "cannot read the console: {error}");
                    None
                }
            };
            let keys = output.as_deref().map(console::host_keys).unwrap_or_default();
            let no_console = output.is_none() && wanted == HostKeys::Auto;
            let enough = wanted == HostKeys::Auto && backoff.tries() + 1 >= LOOKS;
            if !keys.is_empty() || no_console || enough {
                return Ok(keys);
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

fn vanished(what: &'static str, id: &str) -> Error {
    Error::temporary(ErrorKind::Remote, format!("the {what} is gone: somebody else deleted it"))
        .with("id", id)
}

/// The error of a server in ERROR.
///
/// All of them are temporary. "No valid host" mostly means a cloud that is full at this moment, or a race lost against another
/// boot; that a flavor can never fit looks the same from outside, and ends by the bound on attempts.
fn fault(server: &Server) -> Error {
    let words =
        server.fault.as_ref().and_then(|fault| fault.message.as_deref()).unwrap_or("no reason given").trim();
    let full = words.contains("No valid host");
    let kind = if full { ErrorKind::Exhausted } else { ErrorKind::Remote };
    let message = if full {
        "the cloud found no host for the server: it is full, or no host is large enough for the flavor"
    } else {
        "the server went into ERROR"
    };
    Error::temporary(kind, message).with("fault", words).with("server", &server.id)
}

/// IPv4 first: clouds that have both seldom route the other from everywhere.
fn address_of(port: &Port) -> Result<IpAddr> {
    let all = || port.fixed_ips.iter().map(|fixed| fixed.ip_address);
    all().find(IpAddr::is_ipv4).or_else(|| all().next()).ok_or_else(|| {
        Error::temporary(ErrorKind::Remote, "the server's port has no address").with("port", &port.id)
    })
}
