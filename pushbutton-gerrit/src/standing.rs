//! How a change stands: whether a job's patch set is still worth a machine.

use async_trait::async_trait;
use pushbutton_core::{Change, ChangeStatus, Changes, ErrorKind, Job, PatchsetNumber, Result, Standing};

use crate::client::Gerrit;

/// One `gerrit query` over the connection that all commands share.
#[async_trait]
impl Changes for Gerrit {
    async fn standing(&self, job: &Job) -> Result<Standing> {
        match self.newest(job.change.number).await {
            Ok((change, newest)) => Ok(standing(&change, newest, job.patchset.number)),
            // Deleted, or made private: nobody waits for an answer there.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Standing::Closed),
            Err(error) => Err(error),
        }
    }
}

fn standing(change: &Change, newest: PatchsetNumber, ours: PatchsetNumber) -> Standing {
    match change.status {
        ChangeStatus::New if newest > ours => Standing::Superseded { by: newest },
        ChangeStatus::New => Standing::Current,
        ChangeStatus::Merged | ChangeStatus::Abandoned => Standing::Closed,
    }
}
