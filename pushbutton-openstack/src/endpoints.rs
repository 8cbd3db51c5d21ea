//! The API calls on the resources of a run.

use pushbutton_core::{Error, ErrorKind, ResourceKind, Result, RunId};
use serde_json::{Value, json};

use crate::api::Api;
use crate::api_types::{Named, Resource};
use crate::catalog::Service::{self, BlockStorage, Compute, Network};
use crate::error::is_no_room;
use crate::ownership_tags::{OwnershipTags, run_suffix};
use crate::request::{Request, RequestError};

/// The first version of Cinder's API with attachments (Ocata).
const ATTACHMENTS_VERSION: &str = "volume 3.27";

/// How many servers one request for ports names: as many ids as fit into a URL that every proxy accepts.
const MAX_IDS_IN_URL: usize = 40;

/// The same refusal as a temporary error: another state of the resource makes it go away.
fn for_now(refused: &Error) -> Error {
    let error = Error::temporary(ErrorKind::Remote, refused.message().to_owned());
    refused.contexts().fold(error, |error, (key, value)| error.with(key, value))
}

/// Where the API of a kind of resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Collection {
    pub(crate) kind: ResourceKind,
    service: Service,
    /// Its path, and its key in the reply of a list.
    path: &'static str,
    /// The key of one resource in a request and in a reply.
    pub(crate) key: &'static str,
}

pub(crate) const SERVERS: Collection =
    Collection { kind: ResourceKind::Server, service: Compute, path: "servers", key: "server" };
pub(crate) const FLOATING_IPS: Collection =
    Collection { kind: ResourceKind::FloatingIp, service: Network, path: "floatingips", key: "floatingip" };
pub(crate) const PORTS: Collection =
    Collection { kind: ResourceKind::Port, service: Network, path: "ports", key: "port" };
pub(crate) const VOLUMES: Collection =
    Collection { kind: ResourceKind::Volume, service: BlockStorage, path: "volumes", key: "volume" };

impl Api {
    /// Sends a create; returns the id.
    pub(crate) async fn create(
        &self,
        of: Collection,
        body: &Value,
    ) -> std::result::Result<String, RequestError> {
        let request = Request::post(of.service, [of.path], body.clone());
        self.fetch::<Named>(&request, of.key).await.map(|created| created.id)
    }

    pub(crate) async fn get(&self, of: Collection, id: &str) -> Result<Option<Resource>> {
        if of == VOLUMES && !self.has(BlockStorage).await? {
            return Ok(None);
        }
        self.find(&Request::get(of.service, [of.path, id]), of.key).await
    }

    /// Requests a deletion; fine if the resource does not exist.
    ///
    /// # Errors
    /// Temporary: the resource cannot be deleted in its present state.
    pub(crate) async fn delete(&self, of: Collection, id: &str) -> Result<()> {
        match self.send_delete(&Request::delete(of.service, [of.path, id])).await {
            // Cinder answers 400 for a volume that is still attached or is being deleted. The next round shows its
            // state.
            Err(error) if of == VOLUMES && error.kind() == ErrorKind::Config => {
                self.delete_attachments(id).await;
                Err(for_now(&error))
            }
            other => other,
        }
    }

    /// Deletes the attachments of a volume whose server is gone. Nova leaves one behind when it is stopped while it
    /// creates or deletes the server, and the volume could then never be deleted. Cinder refuses the deletion of an
    /// attachment whose server still exists.
    async fn delete_attachments(&self, volume: &str) {
        let mut list = Request::get(BlockStorage, ["attachments"]).with("volume_id", volume);
        list.microversion = Some(ATTACHMENTS_VERSION);
        let attachments: Vec<Named> = match self.list(list, "attachments").await {
            Ok(attachments) => attachments,
            Err(error) => return tracing::warn!(volume, "cannot list the attachments of a volume: {error}"),
        };
        for attachment in attachments {
            let mut delete = Request::delete(BlockStorage, ["attachments", &attachment.id]);
            delete.microversion = Some(ATTACHMENTS_VERSION);
            match self.send_delete(&delete).await {
                Ok(()) => tracing::warn!(
                    volume,
                    attachment = attachment.id,
                    "deleted an attachment to a server that is gone"
                ),
                Err(error) => {
                    tracing::warn!(volume, attachment = attachment.id, "cannot delete an attachment: {error}")
                }
            }
        }
    }

    /// Deletes a server that the cloud would keep for a while.
    pub(crate) async fn force_delete_server(&self, id: &str) -> Result<()> {
        let body = json!({"forceDelete": null});
        self.send_delete(&Request::post(Compute, ["servers", id, "action"], body)).await
    }

    /// The installation's resources, or those of one run, each with the run in its tags. A cloud without block storage has no
    /// volumes, and one without Neutron's router extension no floating IPs.
    pub(crate) async fn owned(
        &self,
        of: Collection,
        tags: &OwnershipTags,
        run: Option<&RunId>,
    ) -> Result<Vec<(Resource, RunId)>> {
        let mut request = Request::get(of.service, [of.path]);
        if of == SERVERS {
            // Nova takes a regular expression. The names consist of [a-z0-9-], so nothing must be escaped.
            let any = || format!("^{}", tags.name_prefix());
            request = request.with("name", run.map_or_else(any, |run| format!("-{}$", run_suffix(run))));
        }
        if of == SERVERS || of == VOLUMES {
            request.path.push("detail".into());
        }
        if of == VOLUMES && !self.has(BlockStorage).await? {
            return Ok(Vec::new());
        }
        let all: Vec<Resource> = match of {
            FLOATING_IPS => self.list_of_extension(request, of.path).await?,
            _ => self.list(request, of.path).await?,
        };
        let owned = all.into_iter().filter_map(|one| tags.run_of(&one).map(|run| (one, run)));
        Ok(owned.filter(|(_, of_run)| run.is_none_or(|run| run == of_run)).collect())
    }

    pub(crate) async fn ports_of(&self, servers: &[String]) -> Result<Vec<Resource>> {
        let mut ports = Vec::new();
        for ids in servers.chunks(MAX_IDS_IN_URL) {
            let request = Request::get(Network, ["ports"]);
            let request = ids.iter().fold(request, |request, id| request.with("device_id", id));
            let found: Vec<Resource> = self.list(request, "ports").await?;
            // A cloud that does not know the filter returns all ports of the project.
            let is_wanted = |port: &Resource| port.device_id.as_ref().is_some_and(|id| ids.contains(id));
            ports.extend(found.into_iter().filter(is_wanted));
        }
        Ok(ports)
    }

    /// Why a volume is in error, in Cinder's words; none where it does not say so.
    pub(crate) async fn volume_fault(&self, id: &str) -> Option<String> {
        let request = Request::get(BlockStorage, ["messages"]).with("resource_uuid", id);
        // The version with this filter.
        let request = Request { microversion: Some("volume 3.5"), ..request };
        let messages: Vec<Value> = self.list(request, "messages").await.ok()?;
        let of_volume = messages.iter().filter(|one| one["resource_uuid"] == id);
        let texts: Vec<&str> = of_volume.filter_map(|one| one["user_message"].as_str()).collect();
        texts.iter().find(|text| is_no_room(text)).or(texts.first()).map(|text| (*text).to_owned())
    }

    /// The last lines of a server's console; none where the cloud provides no console.
    pub(crate) async fn console(&self, server: &str, lines: u32) -> Result<Option<String>> {
        let body = json!({"os-getConsoleOutput": {"length": lines}});
        let request = Request::post(Compute, ["servers", server, "action"], body);
        match self.fetch::<Value>(&request, "output").await {
            Ok(output) => Ok(output.as_str().map(str::to_owned)),
            // 404: no such server, or no console. 409: not running yet. 501: not on this hypervisor.
            Err(failed) if matches!(failed.error.context("status"), Some("404" | "409" | "501")) => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }
}
