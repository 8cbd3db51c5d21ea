//! How a change stands: whether a job's patch set is still worth a machine.

use async_trait::async_trait;
use pushbutton_core::{
    Change, ChangeStatus, ChangeStatusLookup, ErrorKind, Job, PatchsetNumber, PatchsetStatus, Result,
};

use crate::client::Gerrit;

/// One `gerrit query` over the connection that all commands share.
#[async_trait]
impl ChangeStatusLookup for Gerrit {
    async fn status(&self, job: &Job) -> Result<PatchsetStatus> {
        match self.newest(job.change.number).await {
            Ok((change, newest)) => Ok(standing(&change, newest, job.patchset.number)),
            // Deleted, or made private: nobody waits for an answer there.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(PatchsetStatus::Closed),
            Err(error) => Err(error),
        }
    }
}

fn status(change: &Change, newest: PatchsetNumber, ours: PatchsetNumber) -> Standing {
    match change.status {
        ChangeStatus::New if newest > ours => PatchsetStatus::Superseded { by: newest },
        ChangeStatus::New => PatchsetStatus::Current,
        ChangeStatus::Merged | ChangeStatus::Abandoned => PatchsetStatus::Closed,
    }
}
