//! The state in serialized form: what a snapshot holds, and what a restore adds.

use pushbutton_core::{InstallationId, Job, Position, RunId};
use serde::{Deserialize, Serialize};

use super::control_messages::MessageRecord;
use super::dead_letters::Letter;
use super::ids::{EntryId, EventKey, JobKey, Version};
use super::jobs::{JobRecord, JobStatus};
use super::outbox::OutboxSnapshot;
use super::rules::{Rule, holds};
use super::state_machine::{Arrival, Leader, State};

/// All that later entries are judged by. Lists are in order, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Snapshot {
    pub(super) jobs: Vec<JobRecord>,
    pub(super) completed: Vec<(JobKey, Option<RunId>)>,
    pub(super) dead: Vec<Letter>,
    pub(super) outbox: OutboxSnapshot,
    pub(super) leader: Option<Leader>,
    pub(super) seen: Vec<EventKey>,
    pub(super) position: Option<Position>,
    pub(super) messages: Vec<MessageRecord>,
    pub(super) installation: Option<InstallationId>,
}

#[cfg(test)]
impl Snapshot {
    /// Ages of messages are those of one clock.
    pub(super) fn without_ages(mut self) -> Self {
        self.messages.iter_mut().for_each(MessageRecord::forget_age);
        self
    }
}

impl State {
    pub(crate) fn snapshot(&self, now: Arrival) -> Snapshot {
        Snapshot {
            jobs: self.jobs.records().cloned().collect(),
            completed: self.jobs.completed().collect(),
            dead: self.dead.iter().cloned().collect(),
            outbox: if holds(Rule::SnapshotWhole) {
                self.outbox.snapshot()
            } else {
                OutboxSnapshot::default()
            },
            leader: self.leader().map(|(leader, _)| leader.clone()),
            seen: self.events.keys().collect(),
            position: self.events.position().cloned(),
            messages: self.messages.records(now.instant),
            installation: self.installation.clone(),
        }
    }

    /// Reads it back. Leases count from now: their holders renewed them earlier.
    pub(crate) fn from_snapshot(snapshot: &Snapshot, now: Arrival) -> Self {
        let mut state = Self::default();
        // No buildset in it is complete, so no report gets this version.
        state.restore(snapshot, (0, EntryId(0)), now);
        state
    }

    /// Adds what is not known. Of what is known only a job that waits changes, to the lease that it had.
    pub(super) fn restore(&mut self, lost: &Snapshot, version: Version, now: Arrival) {
        for (id, run) in &lost.completed {
            self.jobs.complete(*id, run.clone());
            // It ended twice: with a result that the broker lost, and then as a dead letter. The result counts.
            self.dead.forget(*id);
        }
        for letter in &lost.dead {
            let stands = |job: &Job| {
                let newer = self.jobs.get(&job.id).is_some_and(|it| letter.is_replaced_by(&it.job));
                !newer && !self.jobs.is_completed(JobKey::of(&job.id))
            };
            if letter.job.as_ref().is_none_or(stands) {
                if let Some(job) = &letter.job {
                    self.jobs.remove(&job.id);
                }
                self.dead.keep(letter.clone());
            }
        }
        for record in &lost.jobs {
            if !self.knows(&record.job.id) {
                self.jobs.insert(record.clone(), now);
            } else if let JobStatus::Leased { .. } = record.status {
                self.jobs.change(&record.job.id, record.version, now, |known| {
                    let waits = matches!(known.status, JobStatus::Waiting { .. });
                    let restored = waits && known.version == record.version;
                    if restored {
                        known.status = record.status.clone();
                    }
                    restored
                });
            }
        }
        self.outbox.restore(&lost.outbox, &mut self.jobs, version, now);
        if self.leader().is_none() {
            self.set_leader(lost.leader.clone(), now);
        }
        self.events.record(&lost.seen);
        self.events.advance(lost.position.as_ref());
        self.messages.restore(&lost.messages, now.instant);
        if self.installation.is_none() {
            self.installation = lost.installation.clone();
        }
    }

    /// What this state knows and the other does not, for a [`restore`](Self::restore) there; none if that is nothing.
    ///
    /// A lease goes to the other's version of the job: it is void if something happens there first.
    pub(super) fn missing_in(&self, other: &Self, now: Arrival) -> Option<Snapshot> {
        let mine = self.snapshot(now);
        let job = |record: JobRecord| {
            let Some(known) = other.jobs.get(&record.job.id) else {
                return (!other.knows(&record.job.id)).then_some(record);
            };
            let is_leased = matches!(record.status, JobStatus::Leased { .. });
            let restores = is_leased && matches!(known.status, JobStatus::Waiting { .. });
            restores.then_some(JobRecord { version: known.version, ..record })
        };
        let lost = Snapshot {
            jobs: mine.jobs.into_iter().filter_map(job).collect(),
            completed: mine.completed.into_iter().filter(|(id, _)| !other.jobs.is_completed(*id)).collect(),
            dead: mine.dead.into_iter().filter(|letter| !other.dead.holds(letter)).collect(),
            outbox: self.outbox.missing_in(&other.outbox),
            leader: mine.leader.filter(|_| other.leader().is_none()),
            seen: mine.seen.into_iter().filter(|key| !other.events.has_seen(*key)).collect(),
            position: mine.position.filter(|position| other.events.is_behind(position)),
            messages: mine.messages.into_iter().filter(|message| !other.messages.has(message.id)).collect(),
            installation: mine.installation.filter(|_| other.installation.is_none()),
        };
        (lost != Snapshot::default()).then_some(lost)
    }
}
