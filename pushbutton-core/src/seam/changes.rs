use async_trait::async_trait;

use crate::error::Result;
use crate::ident::PatchsetNumber;
use crate::job::Job;

/// Knows how changes stand upstream.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Changes: Send + Sync {
    /// Asks whether a job's patch set is still worth a machine.
    ///
    /// # Contract
    /// - Answers from upstream's present state, not from memory.
    /// - A change that upstream no longer shows is [`Standing::Closed`].
    /// - Temporary when upstream cannot be asked: the caller decides whether to go on without an answer.
    async fn standing(&self, job: &Job) -> Result<Standing>;
}

/// How a job's patch set stands upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the newest of an open change.
    Current,
    /// A newer one is there.
    Superseded {
        /// The newest.
        by: PatchsetNumber,
    },
    /// The change was merged, abandoned or deleted.
    Closed,
}
