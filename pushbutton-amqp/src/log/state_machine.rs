//! The state machine: (state, entry, arrival) -> outcome. It has no input, no output and no clock of its own.

use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::{InstallationId, Job, JobEnd, JobId, RunId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::control_messages::ControlMessages;
use super::dead_letters::{DeadLetters, Letter};
use super::entry::{Entry, Op};
use super::ids::{EntryId, JobKey, Version};
use super::jobs::{JobRecord, JobStatus, Jobs};
use super::outbox::Outbox;
use super::rules::{Rule, holds};
use super::seen_events::SeenEvents;

/// When an entry was read, on the reader's clocks: the monotonic one, and the calendar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) instant: Instant,
    pub(crate) date: Timestamp,
}

impl Arrival {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), date: Timestamp::now() }
    }
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It took effect.
    Accepted,
    /// It had no effect: the job is known already, another participant was faster, or the lease was lost.
    Rejected,
    /// Of events: which of them are new.
    Recorded(Vec<bool>),
}

impl From<bool> for Outcome {
    fn from(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Rejected }
    }
}

/// The leader among the handlers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leader {
    pub(crate) candidate: EntryId,
    /// The entry by which it acquired or last renewed its lease.
    pub(crate) version: Version,
    lease_ms: u64,
}

/// Everything that the log says.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) jobs: Jobs,
    pub(crate) dead: DeadLetters,
    pub(crate) outbox: Outbox,
    pub(crate) events: SeenEvents,
    pub(crate) messages: ControlMessages,
    pub(crate) installation: Option<InstallationId>,
    /// With the end of its lease, on the clock of this participant.
    leader: Option<(Leader, Instant)>,
}

pub(super) fn later(from: Instant, by: Duration) -> Instant {
    // A delay that the clock cannot express is ten years.
    from.checked_add(by).unwrap_or_else(|| from + Duration::from_secs(315_360_000))
}

pub(super) fn lease_end(lease_ms: u64, now: Arrival) -> Instant {
    later(now.instant, Duration::from_millis(lease_ms))
}

impl State {
    /// Applies one entry, at its place in the log.
    pub(crate) fn apply(&mut self, offset: u64, entry: &Entry, now: Arrival) -> Outcome {
        let version = (offset, entry.id);
        match &entry.op {
            Op::Barrier | Op::Snapshot { .. } => Outcome::Accepted,
            Op::Import { jobs, unreadable } => {
                for job in jobs {
                    self.import(job, version, now);
                }
                for letter in unreadable {
                    self.dead.keep(letter.clone());
                }
                Outcome::Accepted
            }
            Op::Claim { job, expected_version, run, lease_ms } => {
                let claim = |record: &mut JobRecord| {
                    let unchanged = record.version == *expected_version || !holds(Rule::ClaimUnchanged);
                    if unchanged {
                        record.lost_leases += u32::from(matches!(record.status, JobStatus::Leased { .. }));
                        record.status = JobStatus::Leased { run: run.clone(), lease_ms: *lease_ms };
                    }
                    unchanged
                };
                self.jobs.change(job, version, now, claim).into()
            }
            Op::Renew { job, run } => self.change_held(job, run, version, now, |_| {}),
            Op::Retry { job, run, due, after_ms } => self.change_held(job, run, version, now, |record| {
                record.job.failed_attempts = record.job.failed_attempts.saturating_add(1);
                record.lost_leases = 0;
                record.status = JobStatus::Waiting { due: *due, after_ms: *after_ms };
            }),
            Op::HandBack { job, run } => {
                self.change_held(job, run, version, now, |record| record.status = JobStatus::waiting())
            }
            Op::Complete { job: id, run, result } => {
                let key = JobKey::of(id);
                if self.jobs.is_completed_by(key, run) {
                    return Outcome::Accepted;
                }
                let record = self.jobs.get(id);
                let may = record.map_or(!self.knows(id), |record| record.is_held_by(run));
                if may {
                    let job = record.map_or_else(|| result.job.clone(), |record| record.job.clone());
                    self.jobs.complete(key, Some(run.clone()));
                    self.outbox.end(
                        &job,
                        JobEnd::Finished { result: result.clone() },
                        &mut self.jobs,
                        version,
                        now,
                    );
                }
                may.into()
            }
            Op::Reject { job, run, why, at } => {
                self.dead_letter(job, why, *at, version, now, |record| record.is_held_by(run)).into()
            }
            Op::DeadLetter { job, expected_version, why, at } => {
                let unchanged = |record: &JobRecord| record.version == *expected_version;
                self.dead_letter(job, why, *at, version, now, unchanged).into()
            }
            Op::Requeue { letter, at } => {
                let taken = self.dead.take(letter, *at, |letter| letter.job.is_some());
                let job = taken.and_then(|letter| letter.job);
                let requeued = job.is_some();
                if let Some(mut job) = job {
                    job.failed_attempts = 0;
                    self.outbox.reopen(&mut job, entry.id);
                    self.insert(job, version, now);
                }
                requeued.into()
            }
            Op::RemoveLetter { letter, at } => {
                let taken = self.dead.take(letter, *at, |_| true);
                if let Some(job) = taken.as_ref().and_then(|letter| letter.job.as_ref()) {
                    self.jobs.complete(JobKey::of(&job.id), None);
                }
                taken.is_some().into()
            }
            Op::ClaimReport { buildset, expected_version, delivery, lease_ms } => {
                let status = JobStatus::Leased { run: delivery.clone(), lease_ms: *lease_ms };
                self.outbox.claim(buildset, *expected_version, status, version, now).into()
            }
            Op::SettleReport { buildset, delivery, how } => {
                self.outbox.settle(buildset, delivery, how, version, now).into()
            }
            Op::RetryUndelivered { buildset, at } => {
                self.outbox.retry_undelivered(buildset, *at, version, now).into()
            }
            Op::DropUndelivered { buildset, at } => {
                self.outbox.take_undelivered(buildset, *at).is_some().into()
            }
            Op::Lead { candidate, expected_version, lease_ms } => {
                let may = self.leader().is_none_or(|(leader, _)| {
                    leader.candidate == *candidate
                        || Some(leader.version) == *expected_version
                        || !holds(Rule::OneLeader)
                });
                if may {
                    let leader = Leader { candidate: *candidate, version, lease_ms: *lease_ms };
                    self.set_leader(Some(leader), now);
                }
                may.into()
            }
            Op::StepDown { candidate } => {
                let leads = self.leader().is_some_and(|(leader, _)| leader.candidate == *candidate);
                if leads {
                    self.leader = None;
                }
                leads.into()
            }
            Op::Seen { events, position } => {
                self.events.advance(position.as_ref());
                Outcome::Recorded(self.events.record(events))
            }
            Op::Broadcast { message } => {
                self.messages.add(entry.id, message, now.instant, now.instant);
                Outcome::Accepted
            }
            Op::Installation { installation } => {
                let first = self.installation.is_none();
                if first {
                    self.installation = Some(installation.clone());
                }
                first.into()
            }
            Op::Restore { lost } => {
                // Reported by what was lost: a job that the writer knew as one of another buildset.
                for id in self.outbox.newly_closed(&lost.outbox) {
                    self.jobs.leave_buildset(id, entry.id);
                }
                self.restore(lost, version, now);
                Outcome::Accepted
            }
        }
    }

    /// Whether the job is open, completed, or a dead letter.
    pub(crate) fn knows(&self, id: &JobId) -> bool {
        let key = JobKey::of(id);
        self.jobs.get(id).is_some() || self.jobs.is_completed(key) || self.dead.has_job(key)
    }

    /// Whether this job need not be imported.
    pub(crate) fn skips(&self, job: &Job) -> bool {
        let key = JobKey::of(&job.id);
        self.jobs.get(&job.id).is_some() || self.jobs.is_completed(key) || self.dead.blocks(job)
    }

    /// The leader, and when its lease ends.
    pub(crate) fn leader(&self) -> Option<&(Leader, Instant)> {
        self.leader.as_ref()
    }

    pub(super) fn set_leader(&mut self, leader: Option<Leader>, now: Arrival) {
        self.leader = leader.map(|leader| {
            let end = lease_end(leader.lease_ms, now);
            (leader, end)
        });
    }

    fn import(&mut self, job: &Job, version: Version, now: Arrival) {
        if self.skips(job) && holds(Rule::KnownJobSkipped) {
            return;
        }
        self.dead.forget(JobKey::of(&job.id));
        match self.jobs.absorber(job) {
            Some(by) => {
                self.jobs.complete(JobKey::of(&job.id), None);
                self.outbox.end(job, JobEnd::Absorbed { by }, &mut self.jobs, version, now);
            }
            None => self.insert(job.clone(), version, now),
        }
    }

    fn insert(&mut self, job: Job, version: Version, now: Arrival) {
        self.jobs.insert(JobRecord { job, version, lost_leases: 0, status: JobStatus::waiting() }, now);
    }

    /// Changes a job if this run holds it.
    fn change_held(
        &mut self,
        job: &JobId,
        run: &RunId,
        version: Version,
        now: Arrival,
        change: impl FnOnce(&mut JobRecord),
    ) -> Outcome {
        let change_held = |record: &mut JobRecord| {
            let held = record.is_held_by(run);
            if held {
                change(record);
            }
            held
        };
        self.jobs.change(job, version, now, change_held).into()
    }

    fn dead_letter(
        &mut self,
        id: &JobId,
        why: &str,
        at: Timestamp,
        version: Version,
        now: Arrival,
        may: impl FnOnce(&JobRecord) -> bool,
    ) -> bool {
        if !self.jobs.get(id).is_some_and(may) {
            return false;
        }
        let Some(job) = self.jobs.remove(id) else { return false };
        self.outbox.end(&job, JobEnd::Dead { why: why.to_owned() }, &mut self.jobs, version, now);
        self.dead.keep(Letter { job: Some(job), why: why.to_owned(), at });
        true
    }
}

#[cfg(test)]
#[path = "state_machine_tests.rs"]
mod tests;
