//! The state as it is written down, so that the record need not be kept for ever.

use jiff::Timestamp;
use pushbutton_core::{Job, JobId, RunId};
use serde::{Deserialize, Serialize};

use super::entry::run;
use super::letters::Letter;

/// All that later entries are judged by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) open: Vec<OpenJob>,
    /// Oldest first.
    pub(crate) completed: Vec<JobId>,
    /// Oldest first.
    pub(crate) dead: Vec<Letter>,
}

/// A job that was claimed at least once and has not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenJob {
    pub(crate) job: Job,
    /// Where in the record it was adopted: its place in the order.
    pub(crate) adopted: u64,
    /// Where in the record something last happened to it.
    pub(crate) version: u64,
    /// How many leases on it ran out.
    pub(crate) lost: u32,
    pub(crate) place: Place,
}

/// Where an open job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum Place {
    /// Claimed; others wait so long after they saw the last sign of life.
    Leased {
        #[serde(deserialize_with = "run")]
        claim: RunId,
        lease_ms: u64,
    },
    /// To be claimed again, not before `due`; never more than `after_ms` from when that was read, whatever the clocks say.
    Waiting { due: Timestamp, after_ms: u64 },
}
