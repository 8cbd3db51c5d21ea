//! `Provisioner` on OpenStack.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{
    Current, Error, ErrorKind, InstallationId, Journal, Node, NodeLabel, NodeRequest, OwnedResource,
    OwnerName, Provisioner, Result, RunId,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::Api;
use crate::boot::{Boot, BootProgress};
use crate::cloud_config::{CloudConfig, refuse};
use crate::cloud_files::Environment;
use crate::config::{NodeLabelConfig, OpenStackConfig};
use crate::console::ConsoleTail;
use crate::create::Shared;
use crate::endpoints::{FLOATING_IPS, PORTS, SERVERS, VOLUMES};
use crate::lookup::Lookup;
use crate::ownership_tags::OwnershipTags;
use crate::release::Release;
use crate::user_data::BootData;

/// The longest owner name: with the ids of a run and a job it must fit into Neutron's descriptions of 255 characters.
const MAX_OWNER: usize = 64;
/// How long reading the console of a failed node may take.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines of that console that are read.
const CONSOLE_LINES: u32 = 10_000;

/// Creates nodes on an OpenStack cloud, and deletes them.
///
/// Everything that it creates carries the owner, the installation and the run as ownership tags: servers and volumes in their metadata,
/// floating IPs and ports in their description. It is recorded in the journal before the request is sent.
pub struct OpenStackProvisioner {
    pub(crate) config: Current<OpenStackConfig>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) lookup: Lookup,
    boots: Semaphore,
}

impl OpenStackProvisioner {
    /// Reads the cloud's entry. Sends nothing; the first call logs in. The installation is that of the queue
    /// ([`Queue::installation`](pushbutton_core::Queue::installation)).
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent: the configuration, `clouds.yaml` or a certificate file cannot work.
    pub fn new(config: OpenStackConfig, owner: OwnerName, installation: InstallationId) -> Result<Self> {
        config.validate()?;
        if owner.as_str().len() > MAX_OWNER {
            return Err(refuse(format!(
                "the owner name {owner:?} is too long: use at most {MAX_OWNER} characters"
            )));
        }
        let cloud = CloudConfig::read(&config, &Environment::of_process())?;
        for warning in &cloud.warnings {
            tracing::warn!("{warning}");
        }
        let shared = Shared {
            api: Api::new(cloud, &config)?,
            tags: OwnershipTags::new(owner, installation),
            creates: Default::default(),
            create_visibility_timeout: config.create_visibility_timeout.0,
        };
        let boots = Semaphore::new(config.parallel_boots);
        let config = Current::new(config);
        Ok(Self { config, shared: Arc::new(shared), lookup: Lookup::default(), boots })
    }

    /// Changes what labels mean, for nodes that are created from now on. Labels that are not among these stay as they are:
    /// a job may have been claimed that needs one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent, for labels that cannot work; nothing changes then.
    pub fn set_nodes(&self, nodes: BTreeMap<NodeLabel, NodeLabelConfig>) -> Result<()> {
        let mut config = self.config.get().as_ref().clone();
        config.nodes.extend(nodes);
        config.validate()?;
        self.config.replace(config);
        Ok(())
    }

    /// Keeps the console of a failed node, and adds its last lines to the error.
    async fn with_console(&self, mut error: Error, run: &RunId, server: &str) -> Error {
        let read = timeout(CONSOLE_TIMEOUT, self.shared.api.console(server, CONSOLE_LINES)).await;
        let Ok(Ok(Some(console))) = read else { return error };
        if let Some(dir) = &self.config.get().console_dir {
            let path = dir.join(format!("{run}.log"));
            let write = async {
                tokio::fs::create_dir_all(dir).await?;
                tokio::fs::write(&path, &console).await
            };
            match write.await {
                Ok(()) => error = error.with("console", path.display()),
                Err(fault) => tracing::warn!("cannot keep the console as {}: {fault}", path.display()),
            }
        }
        match ConsoleTail::of(&console) {
            Some(tail) => {
                tracing::warn!(%run, server, "{tail}");
                error.because(tail)
            }
            None => error,
        }
    }
}

impl fmt::Debug for OpenStackProvisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenStackProvisioner")
            .field("cloud", &self.shared.api.cloud().name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Provisioner for OpenStackProvisioner {
    async fn provision(&self, request: &NodeRequest, journal: &Arc<dyn Journal>) -> Result<Node> {
        let within = |error: Error| error.during("provisioner::provision").with("label", &request.label);
        let config = self.config.get();
        let label = config.label(&request.label).map_err(within)?;
        // The time that other boots take is not this node's: its deadline starts here.
        let slot = timeout(request.deadline.saturating_mul(3), self.boots.acquire()).await.map_err(|_| {
            let message = "the boots of other nodes leave no place for this one (`cloud.parallel_boots`)";
            within(Error::temporary(ErrorKind::Exhausted, message))
        })?;
        let slot = slot.map_err(|error| {
            within(Error::temporary(ErrorKind::Cancelled, "no more nodes are booted").because(error))
        })?;
        let progress = BootProgress::default();
        let (shared, lookup) = (&self.shared, &self.lookup);
        let data = BootData::of(label).await.map_err(within)?;
        let boot = Boot { shared, lookup, label, data: &data, request, journal, progress: &progress };
        let result = timeout(request.deadline, boot.run()).await;
        drop(slot);
        let (waited_for, server) = progress.get();
        let error = match result {
            Ok(Ok(node)) => return Ok(node),
            Ok(Err(error)) => error,
            Err(_) => Error::temporary(ErrorKind::TimedOut, "the node was not ready in time")
                .with("waited_for", waited_for)
                .with("deadline", format_args!("{:?}", request.deadline)),
        };
        let error = within(error);
        match server {
            Some(server) => {
                Err(self.with_console(error.with("server", &server), &request.run, &server).await)
            }
            None => Err(error),
        }
    }

    async fn release(&self, run: &RunId, journal: &Arc<dyn Journal>) -> Result<()> {
        let end = Instant::now() + self.config.get().release_timeout.0;
        let release = async {
            timeout_at(end, self.shared.creates.none_of(run)).await.map_err(|_| {
                Error::temporary(ErrorKind::TimedOut, "a create of this run is still in progress")
            })?;
            Release::new(&self.shared, run, &**journal).await?.run(end).await
        };
        release.await.map_err(|error| error.during("provisioner::release").with("run", run))
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let owned = list_owned(&self.shared, self.config.get().uses_volumes()).await;
        owned.map_err(|error| error.during("provisioner::list_owned"))
    }
}

async fn list_owned(shared: &Shared, needs_volumes: bool) -> Result<Vec<OwnedResource>> {
    let Shared { api, tags, .. } = shared;
    let servers = api.owned(SERVERS, tags, None).await?;
    let runs: HashMap<String, RunId> =
        servers.iter().map(|(one, run)| (one.id.clone(), run.clone())).collect();
    let floating_ips = api.owned(FLOATING_IPS, tags, None).await?;
    // Ports with options have tags. Nova's have none, and are found by their servers.
    let tagged = api.owned(PORTS, tags, None).await?;
    let of_servers = api.ports_of(&runs.keys().cloned().collect::<Vec<_>>()).await?;
    let untagged = of_servers.into_iter().filter(|one| !tagged.iter().any(|(port, _)| port.id == one.id));
    let untagged: Vec<_> = untagged.collect();
    let volumes = match api.owned(VOLUMES, tags, None).await {
        // Without a label that uses volumes there are none to miss while block storage is down.
        Err(error) if !needs_volumes => {
            tracing::warn!("cannot search for volumes: {error}");
            Vec::new()
        }
        volumes => volumes?,
    };
    let mut all = Vec::new();
    let of_kind = [(SERVERS, servers), (FLOATING_IPS, floating_ips), (VOLUMES, volumes), (PORTS, tagged)];
    for (of, resources) in of_kind {
        all.extend(resources.into_iter().map(|(one, run)| one.owned(of.kind, Some(run))));
    }
    all.extend(untagged.into_iter().map(|port| {
        let run = port.device_id.as_ref().and_then(|id| runs.get(id).cloned());
        port.owned(PORTS.kind, run)
    }));
    Ok(all)
}
