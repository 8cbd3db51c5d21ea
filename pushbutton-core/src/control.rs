//! Control messages: what every operator must learn about queued and running jobs.

use std::fmt;

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
    /// A person has settled undelivered reports or dead letters. It is done already: the message is for the history.
    Settled {
        /// What was done with them.
        settlement: Settlement,
        /// The ids of the first twenty of them.
        ids: Vec<String>,
        /// How many they are.
        count: u64,
        /// Who.
        by: String,
        /// When it was sent.
        at: Timestamp,
    },
}

/// How many ids a message names: with `--all` there may be thousands.
const MAX_SETTLED_IDS: usize = 20;

/// What a person does with an undelivered report or a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Settlement {
    /// An undelivered report will be delivered again.
    RetryReport,
    /// An undelivered report is dropped.
    DropReport,
    /// A dead letter is put back on the queue.
    RequeueJob,
    /// A dead letter is dropped.
    DropJob,
}

impl Settlement {
    /// In the words that the command prints: `report will be delivered again`.
    pub fn done(self, count: u64) -> String {
        let (noun, verb) = match self {
            Self::RetryReport => ("report", "will be delivered again"),
            Self::DropReport => ("report", "dropped"),
            Self::RequeueJob => ("job", "put back on the queue"),
            Self::DropJob => ("job", "dropped"),
        };
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {noun}{plural} {verb}")
    }
}

/// What it says, on one line for people. Names and reasons are as they were given: untrusted text.
impl fmt::Display for ControlMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded { change, by, .. } => write!(f, "change {change}: superseded by patch set {by}"),
            Self::Closed { change, .. } => write!(f, "change {change}: merged or abandoned"),
            Self::Cancel { job, by, .. } => write!(f, "job {job}: cancelled by {by}"),
            Self::CancelAll { change, patchset, name, by, .. } => {
                write!(f, "change {change}")?;
                if let Some(patchset) = patchset {
                    write!(f, ",{patchset}")?;
                }
                match name {
                    Some(name) => write!(f, ": job {name} cancelled by {by}"),
                    None => write!(f, ": all jobs cancelled by {by}"),
                }
            }
            Self::Operator(state) if state.ended => write!(f, "{} has ended", state.name),
            Self::Operator(state) => write!(f, "{} runs", state.name),
            Self::Muted { by, why, .. } if why.is_empty() => write!(f, "comments muted by {by}"),
            Self::Muted { by, why, .. } => write!(f, "comments muted by {by}: {why}"),
            Self::Unmuted { by, .. } => write!(f, "comments allowed again by {by}"),
            Self::Settled { settlement, ids, count, by, .. } => {
                let more = if *count > ids.len() as u64 { ", ..." } else { "" };
                write!(f, "{} by {by}: {}{more}", settlement.done(*count), ids.join(", "))
            }
        }
    }
}

impl ControlMessage {
    /// What a person has done with undelivered reports or dead letters of these ids.
    pub fn settled(settlement: Settlement, mut ids: Vec<String>, by: String, at: Timestamp) -> Self {
        let count = ids.len() as u64;
        ids.truncate(MAX_SETTLED_IDS);
        Self::Settled { settlement, ids, count, by, at }
    }

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
            Self::Muted { .. } | Self::Unmuted { .. } | Self::Operator(_) | Self::Settled { .. } => false,
        }
    }

    /// Whether it is part of the history: an operator's announcement is not, which is repeated and is about the present.
    pub fn is_action(&self) -> bool {
        !matches!(self, Self::Operator(_))
    }

    /// When it was sent.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Superseded { at, .. }
            | Self::Closed { at, .. }
            | Self::Cancel { at, .. }
            | Self::CancelAll { at, .. }
            | Self::Muted { at, .. }
            | Self::Unmuted { at, .. }
            | Self::Settled { at, .. } => *at,
            Self::Operator(state) => state.at,
        }
    }
}
