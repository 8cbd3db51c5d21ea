//! The calls that we make, one function each.

use pushbutton_core::{ErrorKind, Result, RunId};
use serde_json::{Value, json};

use crate::api::Api;
use crate::ask::{Ask, Service};
use crate::marks::{Marks, run_tail};
use crate::wire::{FloatingIp, Port, Server, Volume};

use Service::{BlockStorage, Compute, Network};

/// Servers asked about in one request for ports: as many ids as fit into a URL that every proxy takes.
const IDS_AT_ONCE: usize = 40;

/// A thing of ours, and the run that its mark names.
pub(crate) type Marked<T> = (T, RunId);

impl Api {
    pub(crate) async fn server(&self, id: &str) -> Result<Option<Server>> {
        self.find(&Ask::get(Compute, ["servers", id]), "server").await
    }

    /// Our servers; with a run, those of that run.
    pub(crate) async fn our_servers(
        &self,
        marks: &Marks,
        run: Option<&RunId>,
    ) -> Result<Vec<Marked<Server>>> {
        // Nova takes a regular expression; the marks decide in the end. No text of ours holds anything but [a-z0-9-].
        let name = run.map_or_else(|| format!("^{}", marks.prefix()), |run| format!("-{}$", run_tail(run)));
        let servers: Vec<Server> =
            self.list(Ask::get(Compute, ["servers", "detail"]).with("name", name), "servers").await?;
        Ok(ours(servers, run, |server| marks.run_of_metadata(server.metadata.as_ref()?)))
    }

    pub(crate) async fn delete_server(&self, id: &str) -> Result<()> {
        self.remove(&Ask::delete(Compute, ["servers", id])).await
    }

    pub(crate) async fn force_delete_server(&self, id: &str) -> Result<()> {
        self.remove(&Ask::post(Compute, ["servers", id, "action"], json!({"forceDelete": null}))).await
    }

    /// The last lines of the console; none where the cloud shows none.
    pub(crate) async fn console(&self, id: &str, lines: u32) -> Result<Option<String>> {
        let body = json!({"os-getConsoleOutput": {"length": lines}});
        let output =
            self.fetch::<Value>(&Ask::post(Compute, ["servers", id, "action"], body), "output").await;
        match output {
            Ok(output) => Ok(output.as_str().map(str::to_owned)),
            // 404 no such server or no console at all, 409 not running yet, 501 not on this hypervisor.
            Err(failed) if matches!(failed.error.context("status"), Some("404" | "409" | "501")) => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }

    pub(crate) async fn ports_of(&self, servers: &[String]) -> Result<Vec<Port>> {
        let mut ports = Vec::new();
        for some in servers.chunks(IDS_AT_ONCE) {
            let ask = some.iter().fold(Ask::get(Network, ["ports"]), |ask, id| ask.with("device_id", id));
            let found: Vec<Port> = self.list(ask, "ports").await?;
            ports.extend(found.into_iter().filter(|port| {
                // A cloud that does not know the filter would show all ports of the project.
                port.device_id.as_ref().is_some_and(|device| some.contains(device))
            }));
        }
        Ok(ports)
    }

    pub(crate) async fn delete_port(&self, id: &str) -> Result<()> {
        self.remove(&Ask::delete(Network, ["ports", id])).await
    }

    pub(crate) async fn floating_ip(&self, id: &str) -> Result<Option<FloatingIp>> {
        self.find(&Ask::get(Network, ["floatingips", id]), "floatingip").await
    }

    /// Our floating IPs; with a run, those of that run.
    pub(crate) async fn our_floating_ips(
        &self,
        marks: &Marks,
        run: Option<&RunId>,
    ) -> Result<Vec<Marked<FloatingIp>>> {
        let all: Vec<FloatingIp> = self.list(Ask::get(Network, ["floatingips"]), "floatingips").await?;
        Ok(ours(all, run, |ip| marks.run_of_description(ip.description.as_deref()?)))
    }

    pub(crate) async fn delete_floating_ip(&self, id: &str) -> Result<()> {
        self.remove(&Ask::delete(Network, ["floatingips", id])).await
    }

    pub(crate) async fn volume(&self, id: &str) -> Result<Option<Volume>> {
        self.find(&Ask::get(BlockStorage, ["volumes", id]), "volume").await
    }

    /// Our volumes; with a run, those of that run. None on a cloud without block storage.
    pub(crate) async fn our_volumes(
        &self,
        marks: &Marks,
        run: Option<&RunId>,
    ) -> Result<Vec<Marked<Volume>>> {
        if !self.has(BlockStorage).await? {
            return Ok(Vec::new());
        }
        let all: Vec<Volume> = self.list(Ask::get(BlockStorage, ["volumes", "detail"]), "volumes").await?;
        Ok(ours(all, run, |volume| marks.run_of_metadata(volume.metadata.as_ref()?)))
    }

    pub(crate) async fn delete_volume(&self, id: &str) -> Result<()> {
        match self.remove(&Ask::delete(BlockStorage, ["volumes", id])).await {
            // Cinder says 400 of a volume that is still attached, or is being deleted already: a later look will tell.
            Err(error) if error.kind() == ErrorKind::Config => Ok(()),
            other => other,
        }
    }
}

fn ours<T>(all: Vec<T>, wanted: Option<&RunId>, mark: impl Fn(&T) -> Option<RunId>) -> Vec<Marked<T>> {
    let marked = all.into_iter().filter_map(|one| mark(&one).map(|run| (one, run)));
    marked.filter(|(_, run)| wanted.is_none_or(|wanted| wanted == run)).collect()
}
