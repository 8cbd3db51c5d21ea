//! `Provisioner` on OpenStack.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{
    Error, ErrorKind, Journal, Node, NodeRequest, OwnedResource, OwnerName, Provisioner, ResourceKind,
    Result, RunId,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::Api;
use crate::boot::Boot;
use crate::clouds;
use crate::config::OpenStackConfig;
use crate::console::LastWords;
use crate::inflight::InFlight;
use crate::lookup::Lookup;
use crate::make::Shared;
use crate::marks::Marks;
use crate::progress::Progress;
use crate::release::Release;
use crate::wire::moment;

/// The longest owner name: with a run's and a job's id it must fit into Neutron's descriptions of 255 characters.
const MAX_OWNER: usize = 64;
/// How long the console of a node that failed may take to be read.
const CONSOLE_TIME: Duration = Duration::from_secs(10);
/// Lines that are kept of it.
const CONSOLE_LINES: u32 = 10_000;

/// Makes nodes on an OpenStack cloud, and takes them away.
///
/// All that it makes carries the owner and the run: servers and volumes in their metadata, floating IPs in their description.
/// The journal knows of each before the cloud does.
pub struct OpenStackProvisioner {
    pub(crate) config: OpenStackConfig,
    pub(crate) shared: Arc<Shared>,
    pub(crate) lookup: Lookup,
    boots: Semaphore,
}

impl OpenStackProvisioner {
    /// Reads the cloud's entry. Nothing is sent yet: the first call logs in.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent: a configuration, a `clouds.yaml` or a certificate file that cannot work.
    pub fn new(config: OpenStackConfig, owner: OwnerName, journal: Arc<dyn Journal>) -> Result<Self> {
        config.validate()?;
        if owner.as_str().len() > MAX_OWNER {
            let message =
                format!("the owner name {owner:?} is too long: take at most {MAX_OWNER} characters");
            return Err(Error::permanent(ErrorKind::Config, message).during("cloud"));
        }
        let entry =
            clouds::read(&config, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
        let shared = Shared {
            api: Api::new(entry, &config)?,
            marks: Marks::of(owner),
            journal,
            in_flight: Arc::new(InFlight::default()),
            settle_time: config.settle_time.0,
        };
        let boots = Semaphore::new(config.parallel_boots);
        Ok(Self { config, shared: Arc::new(shared), lookup: Lookup::default(), boots })
    }

    async fn boot(&self, request: &NodeRequest, progress: &Progress) -> Result<Node> {
        let class = self.config.class(&request.label)?;
        let _slot = self.boots.acquire().await.map_err(|error| {
            Error::temporary(ErrorKind::Cancelled, "no more nodes are booted").because(error)
        })?;
        Boot { shared: &self.shared, lookup: &self.lookup, class, request, progress }.run().await
    }

    /// Keeps the console of a node that failed, and adds its last words to the error.
    async fn with_console(&self, error: Error, run: &RunId, server: &str) -> Error {
        let read = timeout(CONSOLE_TIME, self.shared.api.console(server, CONSOLE_LINES)).await;
        let Ok(Ok(Some(console))) = read else { return error };
        let mut error = error;
        if let Some(dir) = &self.config.console_dir {
            let path = dir.join(format!("{run}.log"));
            let kept = async {
                tokio::fs::create_dir_all(dir).await?;
                tokio::fs::write(&path, &console).await
            };
            match kept.await {
                Ok(()) => error = error.with("console", path.display()),
                Err(fault) => tracing::warn!("cannot keep the console as {}: {fault}", path.display()),
            }
        }
        match LastWords::of(&console) {
            Some(words) => {
                tracing::warn!(%run, server, "{words}");
                error.because(words)
            }
            None => error,
        }
    }
}

impl fmt::Debug for OpenStackProvisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenStackProvisioner").field("cloud", &self.shared.api.name()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provisioner for OpenStackProvisioner {
    async fn provision(&self, request: &NodeRequest) -> Result<Node> {
        let deadline = Instant::now() + request.deadline;
        let progress = Progress::waiting_for_a_slot();
        let error = match timeout_at(deadline, self.boot(request, &progress)).await {
            Ok(Ok(node)) => return Ok(node),
            Ok(Err(error)) => error,
            Err(_) => Error::temporary(ErrorKind::TimedOut, "the node was not ready in time")
                .with("waited_for", progress.step())
                .with("deadline", format_args!("{:?}", request.deadline)),
        };
        let error = error.during("provisioner::provision").with("label", &request.label);
        match progress.server() {
            Some(server) => {
                Err(self.with_console(error.with("server", &server), &request.run, &server).await)
            }
            None => Err(error),
        }
    }

    async fn release(&self, run: &RunId) -> Result<()> {
        let limit = self.config.release_timeout.0;
        let told = |error: Error| error.during("provisioner::release").with("run", run);
        timeout(limit, self.shared.in_flight.none_of(run)).await.map_err(|_| {
            told(Error::temporary(ErrorKind::TimedOut, "a create of this run is still under way"))
        })?;
        let release = async { Release::of(&self.shared, run).await?.run(limit).await };
        release.await.map_err(told)
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let volumes_matter = self.config.nodes.values().any(|class| class.boot_from_volume.is_some());
        owned(&self.shared, volumes_matter).await.map_err(|error| error.during("provisioner::list_owned"))
    }
}

async fn owned(shared: &Shared, mut volumes_matter: bool) -> Result<Vec<OwnedResource>> {
    let Shared { api, marks, journal, .. } = shared;
    let mut all = Vec::new();
    let mut add = |kind, id: &str, name: Option<&String>, run: Option<&RunId>, created: Option<&String>| {
        all.push(OwnedResource {
            kind,
            id: id.to_owned(),
            name: name.cloned().unwrap_or_default(),
            run: run.cloned(),
            created: moment(created.map(String::as_str)),
        });
    };
    let servers = api.our_servers(marks, None).await?;
    for (server, run) in &servers {
        add(ResourceKind::Server, &server.id, server.name.as_ref(), Some(run), server.created.as_ref());
    }
    for (ip, run) in api.our_floating_ips(marks, None).await? {
        let address = ip.floating_ip_address.as_ref();
        add(ResourceKind::FloatingIp, &ip.id, address, Some(&run), ip.created_at.as_ref());
    }
    // Nova's ports carry no mark of ours; they are known by their server, also one that is gone but for the journal.
    let mut hosts: Vec<(String, RunId)> =
        servers.iter().map(|(server, run)| (server.id.clone(), run.clone())).collect();
    for entry in journal.open().await? {
        volumes_matter |= entry.kind == ResourceKind::Volume;
        if let (ResourceKind::Server, Some(id)) = (entry.kind, entry.id) {
            hosts.push((id, entry.run));
        }
    }
    let ids: std::collections::BTreeSet<String> = hosts.iter().map(|(id, _)| id.clone()).collect();
    for port in api.ports_of(&ids.into_iter().collect::<Vec<_>>()).await? {
        let run = hosts.iter().find(|(id, _)| Some(id) == port.device_id.as_ref()).map(|(_, run)| run);
        add(ResourceKind::Port, &port.id, port.name.as_ref(), run, port.created_at.as_ref());
    }
    let volumes = match api.our_volumes(marks, None).await {
        // Block storage that is down hides nothing where nothing of ours was ever on it.
        Err(error) if !volumes_matter => {
            tracing::warn!("cannot look for volumes: {error}");
            Vec::new()
        }
        other => other?,
    };
    for (volume, run) in volumes {
        add(ResourceKind::Volume, &volume.id, volume.name.as_ref(), Some(&run), volume.created_at.as_ref());
    }
    Ok(all)
}
