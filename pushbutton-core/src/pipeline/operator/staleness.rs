//! Looks up, before a node is booted, whether the patch set is still current.

use std::time::Duration;

use crate::job::Job;
use crate::pipeline::supersede::SupersedePolicy;
use crate::traits::{ChangeStatusLookup, PatchsetStatus};

/// How long the answer may take. Without one the job runs: an unneeded run costs some machine time, a missing one
/// costs a review.
const LIMIT: Duration = Duration::from_secs(30);

/// Whether the job need not run any more. Only a clear answer of upstream makes a job stale.
pub(super) async fn is_stale(lookup: &dyn ChangeStatusLookup, policy: SupersedePolicy, job: &Job) -> bool {
    // A person who starts a job for exactly this patch set does so on purpose.
    if policy == SupersedePolicy::NEVER || job.is_manual() {
        return false;
    }
    let answer = tokio::time::timeout(LIMIT, lookup.status(job)).await;
    let status = match answer {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            let error = error.during("change_status::status").with("target", job.target());
            tracing::warn!(job = %job.id, "cannot look up whether the patch set is current, it runs: {error}");
            return false;
        }
        Err(_) => {
            tracing::warn!(job = %job.id, patchset = %job.target(), "no answer within {LIMIT:?} whether the patch set is current: it runs");
            return false;
        }
    };
    let stale = match status {
        PatchsetStatus::Current => false,
        PatchsetStatus::Superseded { .. } => policy.newer_patchset,
        PatchsetStatus::Closed => policy.closed,
    };
    if stale {
        tracing::info!(job = %job.id, patchset = %job.target(), ?status, "not run: the patch set is not current any more");
    }
    stale
}
