//! Log entries.

use jiff::Timestamp;
use pushbutton_core::{BuildsetId, InstallationId, Job, JobId, Position, RunId, RunResult};
use serde::{Deserialize, Serialize};

use super::dead_letters::Letter;
use super::ids::{EntryId, EventKey, Version};
use super::outbox::Settlement;
use super::snapshot::Snapshot;

/// One entry. It may be in the log twice, when its writer could not know that the first try arrived. The second copy
/// finds the state changed by the first, and changes nothing.
///
/// Readers ignore fields that they do not know, and a new field has a default, so a field of an entry itself can be added
/// without a new format version. A new kind of entry, or a new rule for an old one, needs a new version (see
/// [`codec`](crate::codec)): all participants must apply the same rules. So does a new field of what the state keeps
/// (`Job`, `RunResult`, `BuildsetReport`, [`Letter`] and what they hold): limits count the bytes of what was kept, and a
/// reader that drops the field counts fewer, so that it drops other things than the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// By this its writer recognizes it.
    pub(crate) id: EntryId,
    /// How often its writer had written it before. After the broker has lost the end of the log, another copy may come
    /// to the same place, and what is before it is not the same.
    #[serde(default, skip_serializing_if = "is_first")]
    pub(crate) copy: u32,
    pub(crate) op: Op,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first(copy: &u32) -> bool {
    *copy == 0
}

impl Entry {
    pub(crate) fn new(op: Op) -> Self {
        Self::with_id(EntryId::new(), op)
    }

    pub(super) fn with_id(id: EntryId, op: Op) -> Self {
        Self { id, copy: 0, op }
    }
}

/// What an entry does. Each kind names the condition under which it is accepted.
///
/// Its name is the key in the JSON, and no field: with a field that may come last, a reader has to keep the whole entry in
/// another form first, which for a snapshot is several times its size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Op {
    /// Nothing. A reader that sees its own barrier has read everything that was written before it.
    Barrier,
    /// Moves messages from the inbox into the log. Jobs that the state knows, in whatever status, are skipped; a job
    /// that a waiting one absorbs has ended.
    Import {
        #[serde(default)]
        jobs: Vec<Job>,
        /// Dead letters of messages that could not be read.
        #[serde(default)]
        unreadable: Vec<Letter>,
    },
    /// Claims a job that waits or whose lease ran out. Accepted if nothing happened to the job since that version.
    Claim {
        job: JobId,
        expected_version: Version,
        run: RunId,
        lease_ms: u64,
    },
    /// Accepted while this run holds the job, as are the next four.
    Renew {
        job: JobId,
        run: RunId,
    },
    /// Also accepted for a job that the state does not know, and again for the run that has completed it: then it
    /// changes nothing.
    Complete {
        job: JobId,
        run: RunId,
        result: Box<RunResult>,
    },
    /// Counts a failed attempt. The job can be claimed at `due`, and at the latest `after_ms` after this was read.
    Retry {
        job: JobId,
        run: RunId,
        due: Timestamp,
        after_ms: u64,
    },
    HandBack {
        job: JobId,
        run: RunId,
    },
    Reject {
        job: JobId,
        run: RunId,
        why: String,
        at: Timestamp,
    },
    /// Makes a dead letter of a job whose leases ran out too often. Accepted if nothing happened to it since that
    /// version.
    DeadLetter {
        job: JobId,
        expected_version: Version,
        why: String,
        at: Timestamp,
    },
    /// Makes a job of a dead letter again. Accepted if the letter of that time is still there, as is the next.
    Requeue {
        letter: String,
        at: Timestamp,
    },
    /// Removes a dead letter; its job, if it has one, counts as completed.
    RemoveLetter {
        letter: String,
        at: Timestamp,
    },
    /// Leases a report that is due to a delivery. Accepted if nothing happened to it since that version.
    ClaimReport {
        buildset: BuildsetId,
        expected_version: Version,
        delivery: RunId,
        lease_ms: u64,
    },
    /// Accepted while this delivery has the report.
    SettleReport {
        buildset: BuildsetId,
        delivery: RunId,
        how: Settlement,
    },
    /// Makes an undelivered report due again. Accepted if the one of that time is still there, as is the next.
    RetryUndelivered {
        buildset: BuildsetId,
        at: Option<Timestamp>,
    },
    DropUndelivered {
        buildset: BuildsetId,
        at: Option<Timestamp>,
    },
    /// Acquires or renews the leader's lease. Accepted if there is no leader, if the candidate is the leader, or if the
    /// leader has not renewed since `expected_version`: its lease ran out.
    Lead {
        candidate: EntryId,
        #[serde(default)]
        expected_version: Option<Version>,
        lease_ms: u64,
    },
    /// The leader ends its lease.
    StepDown {
        candidate: EntryId,
    },
    /// Events that a handler has seen, and its position in the event stream. Always accepted; says which were new.
    Seen {
        #[serde(default)]
        events: Vec<EventKey>,
        #[serde(default)]
        position: Option<Position>,
    },
    /// A control message, as JSON text: participants that do not know its kind keep it all the same.
    Broadcast {
        message: String,
    },
    /// Gives the installation its id. Accepted if it has none.
    Installation {
        installation: InstallationId,
    },
    /// What its writer knew and the broker has lost with the end of the log. Adds what the state does not know.
    Restore {
        lost: Box<Snapshot>,
    },
    /// The state before all entries after offset `as_of`, so that the broker can drop the beginning of the log.
    Snapshot {
        as_of: u64,
        state: Box<Snapshot>,
    },
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
