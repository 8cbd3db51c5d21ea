//! Jobs that wait, are leased, or were completed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::{BuildsetId, ChangeNumber, DeadLetter, Job, JobId, JobName, RunId, WaitingJobs};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::entry::Op;
use super::ids::{EntryId, JobKey, Version};
use super::lease::LeaseTerm;
use super::rules::{Rule, holds};
use super::state_machine::{Arrival, later, lease_end};

/// How many completed jobs are remembered, so that they are not run again.
pub(super) const MAX_COMPLETED: usize = 10_000;

/// A job that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(super) job: Job,
    /// The entry that changed it last.
    pub(super) version: Version,
    /// How many leases on it ran out since its last failed attempt.
    #[serde(default)]
    pub(super) lost_leases: u32,
    pub(super) status: JobStatus,
}

/// Where a job is, or a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum JobStatus {
    /// Held by a run. Others wait for the whole lease from when they read the last renewal.
    Leased { run: RunId, lease_ms: u64 },
    /// Can be claimed at `due`; at the latest `after_ms` after this was read, whatever the calendars say.
    Waiting { due: Timestamp, after_ms: u64 },
}

impl JobStatus {
    /// Can be claimed without delay.
    pub(super) fn waiting() -> Self {
        Self::Waiting { due: Timestamp::UNIX_EPOCH, after_ms: 0 }
    }

    pub(super) fn is_held_by(&self, by: &RunId) -> bool {
        matches!(self, Self::Leased { run, .. } if run == by)
    }

    pub(super) fn is_leased(&self) -> bool {
        matches!(self, Self::Leased { .. })
    }

    pub(super) fn available_at(&self, now: Arrival) -> Instant {
        match self {
            Self::Leased { .. } if !holds(Rule::LeaseWaits) => now.instant,
            Self::Leased { lease_ms, .. } => lease_end(*lease_ms, now),
            Self::Waiting { due, after_ms } => {
                let left = Duration::try_from(due.duration_since(now.date)).unwrap_or(Duration::ZERO);
                later(now.instant, left.min(Duration::from_millis(*after_ms)))
            }
        }
    }
}

impl JobRecord {
    pub(super) fn is_held_by(&self, by: &RunId) -> bool {
        self.status.is_held_by(by)
    }
}

/// What a claimer can do next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next<T = Claimable> {
    /// Claim this one now.
    Claim(Box<T>),
    /// Nothing can be claimed before then.
    At(Instant),
    /// Nothing can be claimed until the state changes.
    Never,
}

/// A job that can be claimed, if nothing happens to it first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claimable {
    pub(crate) job: Job,
    pub(crate) version: Version,
    /// The lease that ran out just now is counted.
    pub(crate) lost_leases: u32,
}

impl Claimable {
    /// The entry to be written: a claim by this run, or none of it if operators may be dying of the job.
    pub(crate) fn entry(&self, run: &RunId, term: LeaseTerm, max_lost_leases: u32, at: Timestamp) -> Op {
        let (job, expected_version) = (self.job.id.clone(), self.version);
        if self.lost_leases >= max_lost_leases {
            let why = DeadLetter::lost_leases_reason(self.lost_leases);
            return Op::DeadLetter { job, expected_version, why, at };
        }
        Op::Claim { job, expected_version, run: run.clone(), lease_ms: term.ms() }
    }
}

#[derive(Debug, Clone)]
struct OpenJob {
    record: JobRecord,
    /// When the lease has run out or the delay is over, on the clock of this participant.
    available_at: Instant,
    bytes: usize,
}

/// All jobs that have not ended, in the order of their import, and the newest that were completed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jobs {
    open: BTreeMap<u64, OpenJob>,
    /// Each job's place in `open`.
    places: HashMap<JobKey, u64>,
    /// The places of the jobs of each change, in order: to find the job that absorbs a new one.
    of_change: HashMap<ChangeNumber, BTreeSet<u64>>,
    next_place: u64,
    bytes: usize,
    /// With the run that completed them; none where it was somebody else's decision.
    completed: HashMap<JobKey, Option<RunId>>,
    completed_order: VecDeque<JobKey>,
}

/// How many bytes a record takes in a snapshot besides its job or report, about: version and status.
pub(super) const RECORD_SIZE: usize = 200;

/// How many bytes something takes in the log.
pub(super) fn json_size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |text| text.len())
}

impl Jobs {
    /// Bytes of all jobs that have not ended.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, id: &JobId) -> Option<&JobRecord> {
        Some(&self.open.get(self.places.get(&JobKey::of(id))?)?.record)
    }

    /// In the order of import.
    pub(super) fn records(&self) -> impl Iterator<Item = &JobRecord> {
        self.open.values().map(|open| &open.record)
    }

    /// Oldest first.
    pub(super) fn completed(&self) -> impl Iterator<Item = (JobKey, Option<RunId>)> {
        self.completed_order.iter().map(|key| (*key, self.completed.get(key).cloned().flatten()))
    }

    pub(super) fn is_completed(&self, key: JobKey) -> bool {
        self.completed.contains_key(&key)
    }

    pub(super) fn is_completed_by(&self, key: JobKey, run: &RunId) -> bool {
        self.completed.get(&key).is_some_and(|by| by.as_ref() == Some(run))
    }

    /// The buildset of a waiting job that stands for this one.
    pub(super) fn absorber(&self, job: &Job) -> Option<BuildsetId> {
        let places = self.of_change.get(&job.change.number)?;
        let records = places.iter().filter_map(|place| self.open.get(place)).map(|open| &open.record);
        let mut standing = records.filter(|record| !record.status.is_leased() && record.job.absorbs(job));
        standing.next().map(|record| record.job.buildset.id.clone())
    }

    /// Adds a job behind all others.
    pub(super) fn insert(&mut self, record: JobRecord, now: Arrival) {
        let (bytes, available_at) = (RECORD_SIZE + json_size(&record.job), record.status.available_at(now));
        self.bytes += bytes;
        self.places.insert(JobKey::of(&record.job.id), self.next_place);
        self.of_change.entry(record.job.change.number).or_default().insert(self.next_place);
        self.open.insert(self.next_place, OpenJob { record, available_at, bytes });
        self.next_place += 1;
    }

    /// Changes a job that has not ended, if `change` accepts; whether it did.
    pub(super) fn change(
        &mut self,
        id: &JobId,
        version: Version,
        now: Arrival,
        change: impl FnOnce(&mut JobRecord) -> bool,
    ) -> bool {
        let place = self.places.get(&JobKey::of(id));
        let Some(open) = place.and_then(|place| self.open.get_mut(place)) else { return false };
        let accepted = change(&mut open.record);
        if accepted {
            open.record.version = version;
            open.available_at = open.record.status.available_at(now);
        }
        accepted
    }

    /// The buildset is reported without its jobs that have not ended: each gets one of its own. Says which they are.
    pub(super) fn leave_buildset(&mut self, id: &BuildsetId, by: EntryId) -> BTreeSet<JobName> {
        let mut left = BTreeSet::new();
        for open in self.open.values_mut().filter(|open| open.record.job.buildset.id == *id) {
            let job = &mut open.record.job;
            job.buildset = job.buildset_alone(&by.to_string());
            left.insert(job.name.clone());
            self.bytes -= open.bytes;
            open.bytes = RECORD_SIZE + json_size(&open.record.job);
            self.bytes += open.bytes;
        }
        left
    }

    pub(super) fn remove(&mut self, id: &JobId) -> Option<Job> {
        self.take(JobKey::of(id))
    }

    fn take(&mut self, key: JobKey) -> Option<Job> {
        let place = self.places.remove(&key)?;
        let OpenJob { record, bytes, .. } = self.open.remove(&place)?;
        self.bytes -= bytes;
        let change = record.job.change.number;
        if let Some(places) = self.of_change.get_mut(&change) {
            places.remove(&place);
            if places.is_empty() {
                self.of_change.remove(&change);
            }
        }
        Some(record.job)
    }

    /// Remembers a job as completed; it is open no longer.
    pub(super) fn complete(&mut self, key: JobKey, by: Option<RunId>) {
        self.take(key);
        if let Entry::Vacant(new) = self.completed.entry(key) {
            new.insert(by);
            self.completed_order.push_back(key);
        }
        if self.completed_order.len() > MAX_COMPLETED {
            if let Some(oldest) = self.completed_order.pop_front() {
                self.completed.remove(&oldest);
            }
        }
    }

    /// A job that is wanted and can be claimed now: in the order of import the first one after `skip` others. If there are
    /// not so many, the count goes on at the first.
    pub(crate) fn next(&self, now: Instant, skip: usize, wanted: impl Fn(&Job) -> bool) -> Next {
        let mut earliest: Option<Instant> = None;
        let mut found = Vec::new();
        for OpenJob { record, available_at, .. } in self.open.values() {
            if !wanted(&record.job) {
                continue;
            }
            if *available_at <= now {
                found.push(record);
                if found.len() > skip {
                    break;
                }
                continue;
            }
            earliest = Some(earliest.map_or(*available_at, |earliest| earliest.min(*available_at)));
        }
        let chosen = skip.checked_rem(found.len()).and_then(|index| found.get(index));
        let Some(record) = chosen else { return earliest.map_or(Next::Never, Next::At) };
        let lost_leases = record.lost_leases + u32::from(record.status.is_leased());
        let (job, version) = (record.job.clone(), record.version);
        Next::Claim(Box::new(Claimable { job, version, lost_leases }))
    }

    /// How many jobs wait, and how many are leased.
    pub(crate) fn counts(&self, now: Instant) -> (u64, u64) {
        let leased = self.leased(now).count();
        ((self.open.len() - leased) as u64, leased as u64)
    }

    /// The jobs that [`counts`](Self::counts) counts as waiting, by name and label.
    pub(crate) fn waiting(&self, now: Instant) -> Vec<WaitingJobs> {
        let waits = |open: &&OpenJob| !(open.record.status.is_leased() && open.available_at > now);
        let jobs = self.open.values().filter(waits).map(|open| &open.record.job);
        WaitingJobs::count(jobs.map(|job| (&job.name, job.label.as_ref(), job.created)))
    }

    /// When the oldest job was created that is not leased.
    pub(crate) fn oldest_waiting(&self, now: Instant) -> Option<Timestamp> {
        let waiting =
            self.open.values().filter(|open| !open.record.status.is_leased() || open.available_at <= now);
        waiting.map(|open| open.record.job.created).min()
    }

    /// The runs whose leases have not ended.
    pub(crate) fn leased_runs(&self, now: Instant) -> Vec<RunId> {
        self.leased(now).cloned().collect()
    }

    fn leased(&self, now: Instant) -> impl Iterator<Item = &RunId> {
        self.open.values().filter_map(move |open| match &open.record.status {
            JobStatus::Leased { run, .. } if open.available_at > now => Some(run),
            _ => None,
        })
    }
}
