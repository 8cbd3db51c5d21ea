//! [`ChangeStatusLookup`]: whether a job's patch set is still worth a machine.

use async_trait::async_trait;
use pushbutton_core::{
    ChangeStatus, ChangeStatusLookup, Error, ErrorKind, Job, PatchsetNumber, PatchsetStatus, Result,
};

use crate::client::Gerrit;
use crate::raw_event;
use crate::wire::WireChange;

/// One `gerrit query` for the change and its newest patch set: a small reply.
#[async_trait]
impl ChangeStatusLookup for Gerrit {
    async fn status(&self, job: &Job) -> Result<PatchsetStatus> {
        let read = |row: &WireChange<'_>| status(row, job.patchset.number);
        match self.one_change("--current-patch-set", job.change.number, read).await {
            // Deleted, or made private: nobody waits for a result there.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(PatchsetStatus::Closed),
            result => result.map_err(|error| error.during("gerrit::change_status")),
        }
    }
}

fn status(row: &WireChange<'_>, patchset: PatchsetNumber) -> Result<PatchsetStatus> {
    let current = row.current_patch_set.as_ref().ok_or_else(|| {
        Error::temporary(ErrorKind::Protocol, "Gerrit's reply does not hold the current patch set")
    })?;
    let newest = raw_event::patchset(current)?.number;
    Ok(match raw_event::change(row)?.status {
        ChangeStatus::New if newest > patchset => PatchsetStatus::Superseded { by: newest },
        ChangeStatus::New => PatchsetStatus::Current,
        _ => PatchsetStatus::Closed,
    })
}
