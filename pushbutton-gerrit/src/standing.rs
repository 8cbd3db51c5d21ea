//! How a change stands: whether a job's patch set is still worth a machine.

use async_trait::async_trait;
use pushbutton_core::{ChangeStatus, Changes, ErrorKind, Job, Result, Standing};

use crate::client::Gerrit;
use crate::query::ChangeState;

#[async_trait]
impl Changes for Gerrit {
    async fn standing(&self, job: &Job) -> Result<Standing> {
        match self.change(job.change.number).await {
            Ok(state) => Ok(standing(&state, job)),
            // Deleted, or made private: nobody waits for an answer there.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Standing::Closed),
            Err(error) => Err(error),
        }
    }
}

fn standing(state: &ChangeState, job: &Job) -> Standing {
    if state.change.status != ChangeStatus::New {
        return Standing::Closed;
    }
    match state.current() {
        Some(newest) if newest.number > job.patchset.number => Standing::Superseded { by: newest.number },
        _ => Standing::Current,
    }
}
