//! [`DependencyLookup`]: changes with their place in git and their commit messages.

use async_trait::async_trait;
use pushbutton_core::{
    ChangeId, ChangeSelector, DependencyLookup, Error, ErrorKind, LinkedChange, PatchsetCommit, Result,
    Revision, text,
};

use crate::client::Gerrit;
use crate::raw_event;
use crate::wire::{WireChange, WirePatchset};

/// How many changes are read: a Change-Id is on as many branches as a project keeps.
const MAX_FOUND: usize = 100;

/// How much of a commit message is kept, in bytes.
const MAX_MESSAGE: usize = 64 << 10;

/// How many parents of a commit are kept. Only merges have more than one.
const MAX_PARENTS: usize = 16;

/// One `gerrit query` for each question.
#[async_trait]
impl DependencyLookup for Gerrit {
    async fn find(&self, which: &ChangeSelector) -> Result<Vec<LinkedChange>> {
        let term = match which {
            ChangeSelector::Number(number) => format!("change:{number}"),
            ChangeSelector::Id(id) => format!("change:{id}"),
            ChangeSelector::Commit(revision) => format!("commit:{revision}"),
            _ => return Err(Error::permanent(ErrorKind::Unexpected, "an unknown way to select changes")),
        };
        let command =
            format!("gerrit query --format=JSON --patch-sets --commit-message limit:{MAX_FOUND} {term}");
        let mut found = Vec::new();
        let mut read = |_: &str, row: &WireChange<'_>| {
            if found.len() < MAX_FOUND {
                found.push(linked_change(row));
            }
        };
        let answer = self.query(&command, &mut read).await.and_then(|stats| stats.complete());
        let context = |error: Error| error.during("gerrit::find").with("query", &term);
        answer.map_err(context)?;
        found.into_iter().collect::<Result<_>>().map_err(context)
    }
}

pub(crate) fn linked_change(row: &WireChange<'_>) -> Result<LinkedChange> {
    let change = raw_event::change(row)?;
    let mut commits: Vec<PatchsetCommit> = row.patch_sets.iter().map(commit).collect::<Result<_>>()?;
    commits.sort_by_key(|commit| commit.patchset.number);
    if commits.is_empty() {
        return Err(Error::permanent(ErrorKind::Protocol, "the change has no patch set"));
    }
    Ok(LinkedChange::new(change, commits)
        .with_id(ChangeId::new(row.id.as_str()).ok())
        .with_message(text::cut(row.commit_message.as_str(), MAX_MESSAGE)))
}

fn commit(wire: &WirePatchset<'_>) -> Result<PatchsetCommit> {
    let parents = wire.parents.iter().take(MAX_PARENTS).map(|parent| Revision::new(parent.as_str()));
    Ok(PatchsetCommit::new(raw_event::patchset(wire)?, parents.collect::<Result<_>>()?))
}
