//! Deletes everything that was created for a run, found by its ownership tags and by the journal.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::retry::Backoff;
use pushbutton_core::traits::JournalEntry;
use pushbutton_core::{Error, ErrorKind, Journal, ResourceKind, Result, RunId};
use tokio::time::{Instant, timeout_at};

use crate::api_types::Resource;
use crate::create::Shared;
use crate::endpoints::{Collection, FLOATING_IPS, PORTS, SERVERS, VOLUMES};
use crate::error::is_transient;

/// One release, and what it has found of the run so far.
pub(crate) struct Release<'a> {
    shared: &'a Shared,
    run: &'a RunId,
    journal: &'a dyn Journal,
    /// The journal's open entries of the run.
    entries: Vec<JournalEntry>,
    /// Every server of the run that was seen: a port has no tags, and is found by its server, also after the server is
    /// gone.
    servers: BTreeSet<String>,
    /// Ids in the journal of what is another installation's.
    of_others: BTreeSet<String>,
    /// The kinds and names of the resources that were seen. A create whose reply was lost has a journal entry without an
    /// id; that resource may still appear, unless it was seen and deleted. A floating IP has no name.
    seen: BTreeSet<(ResourceKind, String)>,
}

/// What one round has requested.
#[derive(Default)]
struct Round {
    /// What is still there, each with its state.
    left: Vec<String>,
    /// Whether any of it is in an error state.
    in_error: bool,
    /// A permanent refusal of a deletion, else the last one.
    refused: Option<Error>,
}

/// The error of a release whose time is up, with what was left at last, and the last error as its cause.
fn out_of_time(last: Round) -> Error {
    let message = match last.in_error {
        true => {
            "the cloud has not deleted everything in time: what is in an error state may be deletable no more, then an \
             administrator must reset its state or force-delete it"
        }
        false => "the cloud has not deleted everything in time",
    };
    let error = Error::temporary(ErrorKind::TimedOut, message);
    let error = if last.left.is_empty() { error } else { error.with("left", last.left.join(", ")) };
    match last.refused {
        // Logs show one line, without its causes.
        Some(refused) => error.with("last_error", &refused).because(refused),
        None => error,
    }
}

impl<'a> Release<'a> {
    pub(crate) async fn new(shared: &'a Shared, run: &'a RunId, journal: &'a dyn Journal) -> Result<Self> {
        let mut entries = journal.open().await?;
        entries.retain(|entry| entry.run == *run);
        let (servers, of_others, seen) = Default::default();
        Ok(Self { shared, run, journal, entries, servers, of_others, seen })
    }

    /// Deletes until nothing is left, or the time is up.
    pub(crate) async fn run(mut self, end: Instant) -> Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(5));
        let mut last = Round::default();
        loop {
            match timeout_at(end, self.round()).await {
                Ok(Ok(round)) if round.left.is_empty() && !self.may_still_appear() => break,
                // What was refused for now, such as a server with a task in progress (409), is tried again.
                Ok(Ok(round)) => last = round,
                // The release goes on while the API is away.
                Ok(Err(error)) if is_transient(&error) => {
                    tracing::warn!(run = %self.run, "will look again for what is left of a run: {error}");
                    last.refused = Some(error);
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(out_of_time(last)),
            }
            let delay = backoff.next_delay();
            if Instant::now() + delay > end {
                return Err(out_of_time(last));
            }
            tokio::time::sleep(delay).await;
        }
        for entry in &self.entries {
            self.journal.gone(entry.entry).await?;
        }
        Ok(())
    }

    /// Searches, requests deletions, and returns what is left.
    async fn round(&mut self) -> Result<Round> {
        let mut round = Round::default();
        let floating_ips = self.find(FLOATING_IPS).await?;
        self.delete(&mut round, FLOATING_IPS, floating_ips).await;
        let servers = self.servers().await?;
        // Volumes and ports can be deleted only after their servers are gone.
        let without_servers = servers.is_empty();
        self.delete(&mut round, SERVERS, servers).await;
        if without_servers {
            let volumes = self.find(VOLUMES).await?;
            self.delete(&mut round, VOLUMES, volumes).await;
            let mut ports = self.find(PORTS).await?;
            let servers: Vec<String> = self.servers.iter().cloned().collect();
            let of_servers = self.shared.api.ports_of(&servers).await?;
            ports.extend(
                of_servers
                    .into_iter()
                    .filter(|one| !ports.iter().any(|port| port.id == one.id))
                    .collect::<Vec<_>>(),
            );
            self.delete(&mut round, PORTS, ports).await;
        }
        match round.refused {
            Some(error) if !error.is_temporary() => Err(error),
            _ => Ok(round),
        }
    }

    /// Requests deletions. A refusal does not stop the deletion of the rest.
    async fn delete(&self, round: &mut Round, of: Collection, resources: Vec<Resource>) {
        for one in resources {
            if !one.is_being_deleted() {
                if let Err(refused) = self.shared.api.delete(of, &one.id).await {
                    let permanent = round.refused.take_if(|error| !error.is_temporary());
                    round.refused = permanent.or(Some(refused));
                }
            }
            let (kind, id) = (of.kind.as_str(), &one.id);
            let status = one.status.as_deref();
            round.in_error |= status.is_some_and(|status| status.to_ascii_lowercase().starts_with("error"));
            round.left.push(match status {
                Some(status) => format!("{kind} {id} ({status})"),
                None => format!("{kind} {id}"),
            });
        }
    }

    /// The run's resources by their tags, and by the ids in the journal: somebody may have removed the tags.
    async fn find(&mut self, of: Collection) -> Result<Vec<Resource>> {
        let Shared { api, tags, .. } = self.shared;
        let entries: Vec<_> = self.entries.iter().filter(|entry| entry.kind == of.kind).collect();
        let tagged = match api.owned(of, tags, Some(self.run)).await {
            // A run without a volume is released while block storage is down.
            Err(error) if of == VOLUMES && entries.is_empty() => {
                tracing::warn!(run = %self.run, "cannot search for volumes: {error}");
                Vec::new()
            }
            tagged => tagged?,
        };
        let mut found: Vec<Resource> = tagged.into_iter().map(|(one, _)| one).collect();
        for id in entries.iter().filter_map(|entry| entry.id.as_ref()) {
            if !found.iter().any(|one| one.id == *id) {
                match api.get(of, id).await? {
                    Some(one) if tags.is_of_others(&one) => {
                        if self.of_others.insert(one.id) {
                            let (run, kind) = (self.run, of.kind.as_str());
                            tracing::warn!(
                                %run, kind, id, "this is in the journal, but its tags name another owner or \
                                 installation: it is not touched"
                            );
                        }
                    }
                    one => found.extend(one),
                }
            }
        }
        let names = found.iter().map(|one| (of.kind, one.name.clone().unwrap_or_default()));
        self.seen.extend(names);
        Ok(found)
    }

    async fn servers(&mut self) -> Result<Vec<Resource>> {
        let mut servers = self.find(SERVERS).await?;
        let in_journal = self.entries.iter().filter(|entry| entry.kind == ResourceKind::Server);
        let ids = in_journal.filter_map(|entry| entry.id.as_ref());
        self.servers.extend(ids.filter(|id| !self.of_others.contains(*id)).cloned());
        self.servers.extend(servers.iter().map(|server| server.id.clone()));
        for server in servers.extract_if(.., |server| server.has_status("SOFT_DELETED")) {
            // A cloud with reclaim_instance_interval keeps it, with its port and its quota, for days. It counts as
            // deleted in any case.
            if let Err(error) = self.shared.api.force_delete_server(&server.id).await {
                tracing::warn!(server = server.id, "the cloud keeps a deleted server for a while: {error}");
            }
        }
        Ok(servers)
    }

    /// Whether a resource may still appear: one whose create was sent by a process that died before the reply.
    fn may_still_appear(&self) -> bool {
        let is_recent = |entry: &JournalEntry| {
            let age = Timestamp::now().duration_since(entry.at);
            Duration::try_from(age).unwrap_or_default() <= self.shared.create_visibility_timeout
        };
        let mut unknown = self.entries.iter().filter(|entry| entry.id.is_none());
        let was_seen = |entry: &JournalEntry| {
            let names = [entry.name.clone(), String::new()];
            names.into_iter().any(|name| self.seen.contains(&(entry.kind, name)))
        };
        unknown.any(|entry| !was_seen(entry) && is_recent(entry))
    }
}
