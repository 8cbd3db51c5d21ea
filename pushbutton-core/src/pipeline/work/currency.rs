//! A last look upstream before a node is booted: is this patch set still worth a machine?

use std::time::Duration;

use crate::job::Job;
use crate::pipeline::supersede::SupersedePolicy;
use crate::seam::{Changes, Standing};

/// How long the answer may take. Without one the job runs: a run too many costs a machine, a run too few a review.
const LIMIT: Duration = Duration::from_secs(30);

/// Asks upstream. Only a clear answer makes a job pointless.
pub(super) async fn is_pointless(changes: &dyn Changes, policy: SupersedePolicy, job: &Job) -> bool {
    // A person who asks for exactly this patch set means it.
    if policy == SupersedePolicy::NEVER || job.is_by_hand() {
        return false;
    }
    let answer = tokio::time::timeout(LIMIT, changes.standing(job)).await;
    let standing = match answer {
        Ok(Ok(standing)) => standing,
        Ok(Err(error)) => {
            let error = error.during("changes::standing").with("target", job.target());
            tracing::warn!(job = %job.id, "cannot see whether the patch set is current, it runs: {error}");
            return false;
        }
        Err(_) => {
            tracing::warn!(job = %job.id, target = %job.target(), "upstream does not say in {LIMIT:?} whether the patch set is current: it runs");
            return false;
        }
    };
    let pointless = match standing {
        Standing::Current => false,
        Standing::Superseded { .. } => policy.newer_patchset,
        Standing::Closed => policy.closed,
    };
    if pointless {
        tracing::info!(job = %job.id, target = %job.target(), ?standing, "not worth a machine any more");
    }
    pointless
}
