//! Control messages: what every operator must learn about queued and running jobs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::Job;
use crate::names::{ChangeNumber, JobId, JobName, PatchsetNumber};
use crate::operators::OperatorState;

/// The content of a control message. Acting on the same message twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "message")]
#[non_exhaustive]
pub enum ControlMessage {
    /// A newer patch set was uploaded: jobs of older ones of this change are stale.
    Superseded {
        /// The change.
        change: ChangeNumber,
        /// The newest patch set.
        by: PatchsetNumber,
        /// When it was sent.
        at: Timestamp,
    },
    /// The change was merged or abandoned: jobs that were created before this are stale.
    Closed {
        /// The change.
        change: ChangeNumber,
        /// When it was sent.
        at: Timestamp,
    },
    /// A person cancels one job.
    Cancel {
        /// The job.
        job: JobId,
        /// Who asked.
        by: String,
        /// When it was sent.
        at: Timestamp,
    },
    /// A person cancels all jobs of a change that exist now.
    CancelAll {
        /// The change.
        change: ChangeNumber,
        /// Only of this patch set.
        patchset: Option<PatchsetNumber>,
        /// Only jobs of this name.
        name: Option<JobName>,
        /// Who asked.
        by: String,
        /// When it was sent: jobs that were created later are not affected.
        at: Timestamp,
    },
    /// The builds of too many changes in a row failed: no handler comments on reviews until a person has looked.
    Muted {
        /// Who noticed it, as `handler host-3`.
        by: String,
        /// Why.
        why: String,
        /// When it was sent.
        at: Timestamp,
    },
    /// An operator announces itself: it has started, there is no room for a label or room again, it still runs, or it
    /// has ended.
    Operator(OperatorState),
    /// A person has looked: reviews are commented on again.
    Unmuted {
        /// Who.
        by: String,
        /// When it was sent.
        at: Timestamp,
    },
}

impl ControlMessage {
    /// Whether this job must not run, or must stop, because of the message.
    pub fn affects(&self, job: &Job) -> bool {
        match self {
            // A person who starts a job by hand for an older patch set does so on purpose.
            Self::Superseded { change, by, .. } => {
                job.change.number == *change && job.patchset.number < *by && !job.is_manual()
            }
            Self::Closed { change, at } => job.change.number == *change && job.created <= *at,
            Self::Cancel { job: id, .. } => job.id == *id,
            Self::CancelAll { change, patchset, name, at, .. } => {
                job.change.number == *change
                    && patchset.is_none_or(|patchset| job.patchset.number == patchset)
                    && name.as_ref().is_none_or(|name| job.name == *name)
                    && job.created <= *at
            }
            Self::Muted { .. } | Self::Unmuted { .. } | Self::Operator(_) => false,
        }
    }

    /// When it was sent.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Superseded { at, .. }
            | Self::Closed { at, .. }
            | Self::Cancel { at, .. }
            | Self::CancelAll { at, .. }
            | Self::Muted { at, .. }
            | Self::Unmuted { at, .. } => *at,
            Self::Operator(state) => state.at,
        }
    }
}
