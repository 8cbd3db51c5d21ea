//! Takes away all that was made for a run, found by its marks and by the journal.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::retry::Backoff;
use pushbutton_core::traits::JournalEntry;
use pushbutton_core::{Error, ErrorKind, ResourceKind, Result, RunId};
use tokio::time::Instant;

use crate::ask::Service;
use crate::make::Shared;
use crate::wire::Server;

/// One release: what was seen of the run so far.
pub(crate) struct Release<'a> {
    shared: &'a Shared,
    run: &'a RunId,
    /// The journal's entries of the run.
    entries: Vec<JournalEntry>,
    /// All servers of the run that were ever seen; their ports are looked for when they are gone.
    servers: BTreeSet<String>,
    /// Of what kinds something was seen: an entry without an id is explained by that.
    seen: BTreeSet<ResourceKind>,
}

impl<'a> Release<'a> {
    pub(crate) async fn of(shared: &'a Shared, run: &'a RunId) -> Result<Self> {
        let mut entries = shared.journal.open().await?;
        entries.retain(|entry| entry.run == *run);
        Ok(Self { shared, run, entries, servers: BTreeSet::new(), seen: BTreeSet::new() })
    }

    /// Works until nothing is left, or time is up.
    pub(crate) async fn run(mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let mut backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(5));
        loop {
            let left = self.round().await?;
            if left.is_empty() && !self.may_still_appear() {
                break;
            }
            let delay = backoff.next_delay();
            if Instant::now() + delay > end {
                let message = "the cloud has not taken everything away in time";
                return Err(Error::temporary(ErrorKind::TimedOut, message).with("left", left.join(", ")));
            }
            tokio::time::sleep(delay).await;
        }
        for entry in &self.entries {
            self.shared.journal.gone(entry.entry).await?;
        }
        Ok(())
    }

    /// One round: looks, asks for deletions, and returns what is left. One refusal does not keep the rest from going.
    async fn round(&mut self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let mut refused = None;
        for ip in self.floating_ips().await? {
            refused = refused.or(self.shared.api.delete_floating_ip(&ip).await.err());
            left.push(format!("floating IP {ip}"));
        }
        let mut servers_left = false;
        for (server, going) in self.servers().await? {
            servers_left = true;
            if !going {
                refused = refused.or(self.shared.api.delete_server(&server).await.err());
            }
            left.push(format!("server {server}"));
        }
        // A volume lets go of its server, and a port of its machine, only when that is gone.
        if !servers_left {
            for (volume, going) in self.volumes().await? {
                if !going {
                    refused = refused.or(self.shared.api.delete_volume(&volume).await.err());
                }
                left.push(format!("volume {volume}"));
            }
            let servers: Vec<String> = self.servers.iter().cloned().collect();
            for port in self.shared.api.ports_of(&servers).await? {
                refused = refused.or(self.shared.api.delete_port(&port.id).await.err());
                left.push(format!("port {}", port.id));
            }
        }
        match refused {
            // Such as 409, a task is under way: the next round asks again.
            Some(error) if !error.is_temporary() => Err(error),
            _ => Ok(left),
        }
    }

    fn in_journal(&self, kind: ResourceKind) -> Vec<String> {
        let of_kind = self.entries.iter().filter(|entry| entry.kind == kind);
        of_kind.filter_map(|entry| entry.id.clone()).collect()
    }

    async fn floating_ips(&mut self) -> Result<Vec<String>> {
        let api = &self.shared.api;
        let marked = api.our_floating_ips(&self.shared.marks, Some(self.run)).await?;
        let mut ids: BTreeSet<String> = marked.into_iter().map(|(ip, _)| ip.id).collect();
        for id in self.in_journal(ResourceKind::FloatingIp) {
            // One whose description a person changed is still the one that we made.
            if !ids.contains(&id) && api.floating_ip(&id).await?.is_some() {
                ids.insert(id);
            }
        }
        self.saw(ResourceKind::FloatingIp, !ids.is_empty());
        Ok(ids.into_iter().collect())
    }

    /// The servers that are left, and whether each is going already.
    async fn servers(&mut self) -> Result<Vec<(String, bool)>> {
        let api = &self.shared.api;
        let marked = api.our_servers(&self.shared.marks, Some(self.run)).await?;
        let mut left: Vec<_> = marked.into_iter().map(|(server, _)| server).collect();
        for id in self.in_journal(ResourceKind::Server) {
            self.servers.insert(id.clone());
            if !left.iter().any(|server| server.id == id) {
                left.extend(api.server(&id).await?);
            }
        }
        for server in left.extract_if(.., |server| server.status.as_deref() == Some("SOFT_DELETED")) {
            // Kept for days where the cloud keeps deleted servers, with its port and its quota; it is going for good either way.
            self.servers.insert(server.id.clone());
            if let Err(error) = api.force_delete_server(&server.id).await {
                tracing::warn!(server = server.id, "the cloud keeps a deleted server for a while: {error}");
            }
        }
        self.servers.extend(left.iter().map(|server| server.id.clone()));
        self.saw(ResourceKind::Server, !left.is_empty());
        // DELETED is the last moment before a server is no longer shown.
        let going = |server: &Server| {
            matches!(server.task_state.as_deref(), Some("deleting" | "soft-deleting"))
                || server.status.as_deref() == Some("DELETED")
        };
        Ok(left.into_iter().map(|server| (server.id.clone(), going(&server))).collect())
    }

    /// The volumes that are left, and whether each is going already.
    async fn volumes(&mut self) -> Result<Vec<(String, bool)>> {
        let api = &self.shared.api;
        let noted = self.in_journal(ResourceKind::Volume);
        let mut left = match api.our_volumes(&self.shared.marks, Some(self.run)).await {
            Ok(marked) => marked.into_iter().map(|(volume, _)| volume).collect::<Vec<_>>(),
            // Block storage that is down must not hold up a run that never had a volume.
            Err(error) if !self.entries.iter().any(|entry| entry.kind == ResourceKind::Volume) => {
                tracing::warn!(run = %self.run, "cannot look for volumes: {error}");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        if !noted.is_empty() && api.has(Service::BlockStorage).await? {
            for id in noted {
                if !left.iter().any(|volume| volume.id == id) {
                    left.extend(api.volume(&id).await?);
                }
            }
        }
        self.saw(ResourceKind::Volume, !left.is_empty());
        Ok(left.into_iter().map(|one| (one.id, one.status.as_deref() == Some("deleting"))).collect())
    }

    fn saw(&mut self, kind: ResourceKind, any: bool) {
        if any {
            self.seen.insert(kind);
        }
    }

    /// Whether something that was asked for, by a process that died before the answer, may still come to be seen.
    fn may_still_appear(&self) -> bool {
        let settled = |entry: &JournalEntry| {
            let age = Timestamp::now().duration_since(entry.at);
            Duration::try_from(age).unwrap_or_default() > self.shared.settle_time
        };
        let mut unexplained = self.entries.iter().filter(|entry| entry.id.is_none());
        unexplained.any(|entry| !self.seen.contains(&entry.kind) && !settled(entry))
    }
}
