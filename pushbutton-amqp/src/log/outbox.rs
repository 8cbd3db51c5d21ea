//! The outbox: buildsets of which some jobs have not ended, reports that are due, and those that were refused for good.

use std::collections::{BTreeSet, HashSet, VecDeque};

use jiff::Timestamp;
use pushbutton_core::{
    Buildset, BuildsetId, BuildsetReport, Job, JobEnd, JobName, OpenBuildset, RunId, RunResult,
    UndeliveredReport,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::entry::Op;
use super::ids::{EntryId, Version};
use super::jobs::{JobStatus, Jobs, MAX_COMPLETED, Next, RECORD_SIZE, json_size};
use super::lease::LeaseTerm;
use super::rules::{Rule, holds};
use super::state_machine::Arrival;

/// How many bytes of results are kept whole until they are delivered; further ones lose their stages.
pub(super) const MAX_WHOLE_BYTES: usize = 2 << 20;
/// How many buildsets may be open. The oldest is reported as it is: most likely one of its jobs was never published.
pub(super) const MAX_OPEN: usize = 2_000;
/// And in how many bytes: a snapshot must fit into a message, which RabbitMQ 4 limits to 16 MiB.
pub(super) const MAX_OPEN_BYTES: usize = 2 << 20;
/// Above so many bytes of due reports no further job begins: each job adds one, and the handlers deliver none.
pub(super) const MAX_DUE_BYTES: usize = 3 << 20;
/// How many undelivered reports are kept, and in how many bytes. The oldest are dropped.
pub(super) const MAX_UNDELIVERED: usize = 10_000;
pub(super) const MAX_UNDELIVERED_BYTES: usize = 1 << 20;

/// Why a buildset is reported without a job, when it is closed to make room.
const NOT_ENDED: &str = "it has not ended yet, and is reported separately";
const NEVER_PUBLISHED: &str = "it was not run: no such job was published";

/// A report that is due or is being delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReportRecord {
    pub(super) report: BuildsetReport,
    /// The entry that changed it last.
    pub(super) version: Version,
    /// Leased by a delivery, as a job is by a run.
    pub(super) status: JobStatus,
    #[serde(default)]
    failed_attempts: u32,
    #[serde(default)]
    delivered: BTreeSet<String>,
}

/// What a delivery says of its report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Settlement {
    /// Every reporter has it.
    Done,
    /// Counts a failed attempt. It is due again at `due`, and at the latest `after_ms` after this was read.
    Retry { due: Timestamp, after_ms: u64, delivered: BTreeSet<String> },
    /// It was refused for good.
    GaveUp { why: String, at: Timestamp, delivered: BTreeSet<String> },
    /// Nobody took the delivery.
    HandedBack,
}

/// A report that can be delivered, if nothing happens to it first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deliverable {
    pub(crate) report: BuildsetReport,
    pub(crate) version: Version,
    pub(crate) failed_attempts: u32,
    pub(crate) delivered: BTreeSet<String>,
}

impl Deliverable {
    /// The entry to be written: a claim by this delivery.
    pub(crate) fn entry(&self, delivery: &RunId, term: LeaseTerm) -> Op {
        Op::ClaimReport {
            buildset: self.report.id.clone(),
            expected_version: self.version,
            delivery: delivery.clone(),
            lease_ms: term.ms(),
        }
    }
}

/// The outbox in serialized form. Lists are in order, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OutboxSnapshot {
    open: Vec<OpenBuildset>,
    pub(super) due: Vec<ReportRecord>,
    undelivered: Vec<UndeliveredReport>,
    closed: Vec<BuildsetId>,
    /// In a restore: reports that need not be delivered any more.
    settled: Vec<BuildsetId>,
}

#[cfg(test)]
impl OutboxSnapshot {
    /// Reports that are due, refused or delivered.
    pub(super) fn reports(&self) -> impl Iterator<Item = &BuildsetId> {
        let undelivered = self.undelivered.iter().map(|undelivered| &undelivered.report.id);
        self.due.iter().map(|due| &due.report.id).chain(undelivered).chain(&self.settled)
    }
}

#[derive(Debug, Clone)]
struct Open {
    buildset: OpenBuildset,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Due {
    record: ReportRecord,
    /// When the lease has run out or the delay is over, on the clock of this participant.
    available_at: Instant,
    bytes: usize,
}

/// Each list is in order, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outbox {
    open: VecDeque<Open>,
    due: VecDeque<Due>,
    undelivered: VecDeque<UndeliveredReport>,
    /// The newest buildsets that were complete once: none of them is restored as an open or due one.
    closed: HashSet<BuildsetId>,
    closed_order: VecDeque<BuildsetId>,
    /// Bytes of what is open, due and undelivered.
    open_bytes: usize,
    due_bytes: usize,
    undelivered_bytes: usize,
}

impl Outbox {
    /// When the last run ended of the oldest report that is due.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.due.iter().filter_map(|due| due.record.report.ended()).min()
    }

    pub(crate) fn due_len(&self) -> usize {
        self.due.len()
    }

    #[cfg(test)]
    pub(super) fn open_len(&self) -> usize {
        self.open.len()
    }

    #[cfg(test)]
    pub(crate) fn due_bytes(&self) -> usize {
        self.due_bytes
    }

    /// Bytes of open buildsets and of reports that are due.
    pub(crate) fn bytes(&self) -> usize {
        self.open_bytes + self.due_bytes
    }

    /// Whether so many reports are due that no further job may begin.
    pub(crate) fn is_full(&self) -> bool {
        self.due_bytes > MAX_DUE_BYTES
    }

    pub(crate) fn undelivered(&self) -> &VecDeque<UndeliveredReport> {
        &self.undelivered
    }

    pub(crate) fn find_undelivered(&self, id: &BuildsetId) -> Option<&UndeliveredReport> {
        self.undelivered.iter().find(|undelivered| undelivered.report.id == *id)
    }

    // ---- buildsets

    /// Enters how a job ended in its buildset. The last end makes the report due. `jobs` are those that have not ended.
    pub(super) fn end(&mut self, job: &Job, end: JobEnd, jobs: &mut Jobs, version: Version, now: Arrival) {
        let is_full = self.open_bytes + self.due_bytes > MAX_WHOLE_BYTES;
        let end = if is_full { without_stages(end) } else { end };
        self.enter(&job.buildset, job.name.clone(), end, jobs, version, now);
    }

    fn enter(
        &mut self,
        buildset: &Buildset,
        job: JobName,
        end: JobEnd,
        jobs: &mut Jobs,
        version: Version,
        now: Arrival,
    ) {
        let at = self.place_of(&buildset.id).unwrap_or_else(|| {
            // Its identity repeats: the new one is reported, too.
            if self.closed.remove(&buildset.id) {
                self.closed_order.retain(|id| *id != buildset.id);
            }
            self.open.push_back(Open { buildset: OpenBuildset::new(buildset.clone()), bytes: 0 });
            self.open.len() - 1
        });
        self.change_open(at, |open| open.end(job, end));
        if self.open.get(at).is_some_and(|open| open.buildset.is_complete()) {
            self.close(at, version, now);
        }
        while self.open.len() > MAX_OPEN || self.open_bytes > MAX_OPEN_BYTES {
            self.close_oldest(jobs, version, now);
        }
    }

    fn change_open(&mut self, at: usize, change: impl FnOnce(&mut OpenBuildset)) {
        if let Some(open) = self.open.get_mut(at) {
            change(&mut open.buildset);
            // Counted anew, so that those who began with a snapshot count the same.
            self.open_bytes -= open.bytes;
            open.bytes = json_size(&open.buildset);
            self.open_bytes += open.bytes;
        }
    }

    fn remove_open(&mut self, at: usize) -> Option<OpenBuildset> {
        let Open { buildset, bytes } = self.open.remove(at)?;
        self.open_bytes -= bytes;
        Some(buildset)
    }

    /// Makes the report of an open buildset due, if there is something to report.
    fn close(&mut self, at: usize, version: Version, now: Arrival) {
        let Some(buildset) = self.remove_open(at) else { return };
        self.remember(buildset.buildset().id.clone());
        if let Some(report) = buildset.into_report() {
            self.push_due(report, BTreeSet::new(), version, now);
        }
    }

    /// Reports the oldest open buildset as it is, to make room. Its jobs that wait or run get buildsets of their own: a
    /// second report of this one would be taken for the first, and dropped.
    fn close_oldest(&mut self, jobs: &mut Jobs, version: Version, now: Arrival) {
        let Some(Open { buildset, .. }) = self.open.front() else { return };
        let buildset = buildset.buildset().clone();
        let alone = jobs.leave_buildset(&buildset.id, version.1);
        self.change_open(0, |open| {
            for job in buildset.jobs {
                if !open.has_ended(&job) {
                    let why = if alone.contains(&job) { NOT_ENDED } else { NEVER_PUBLISHED };
                    open.end(job, JobEnd::Dead { why: why.into() });
                }
            }
        });
        self.close(0, version, now);
    }

    /// The dead letter of a job was put back on the queue: its buildset waits for it, or the job gets one of its own.
    pub(super) fn reopen(&mut self, job: &mut Job, by: EntryId) {
        let Some(at) = self.place_of(&job.buildset.id) else {
            job.buildset = job.buildset_alone(&by.to_string());
            return;
        };
        self.change_open(at, |open| open.reopen(&job.name));
        if self.open.get(at).is_some_and(|open| open.buildset.ends().next().is_none()) {
            self.remove_open(at);
        }
    }

    fn place_of(&self, id: &BuildsetId) -> Option<usize> {
        self.open.iter().position(|open| open.buildset.buildset().id == *id)
    }

    fn remember(&mut self, id: BuildsetId) {
        if self.closed.insert(id.clone()) {
            self.closed_order.push_back(id);
        }
        if self.closed_order.len() > MAX_COMPLETED {
            if let Some(oldest) = self.closed_order.pop_front() {
                self.closed.remove(&oldest);
            }
        }
    }

    // ---- reports

    fn push_due(
        &mut self,
        report: BuildsetReport,
        delivered: BTreeSet<String>,
        version: Version,
        now: Arrival,
    ) {
        let status = JobStatus::waiting();
        self.push_record(ReportRecord { report, version, status, failed_attempts: 0, delivered }, now);
    }

    fn push_record(&mut self, record: ReportRecord, now: Arrival) {
        // Where an identity repeats the newest counts.
        self.take_due(|due| due.report.id == record.report.id);
        let (bytes, available_at) =
            (RECORD_SIZE + json_size(&record.report), record.status.available_at(now));
        self.due_bytes += bytes;
        self.due.push_back(Due { record, available_at, bytes });
    }

    /// Changes the status of a report, if `may` accepts; whether it did.
    fn change_due(
        &mut self,
        id: &BuildsetId,
        may: impl Fn(&ReportRecord) -> bool,
        status: JobStatus,
        version: Version,
        now: Arrival,
    ) -> bool {
        let due = self.due.iter_mut().find(|due| due.record.report.id == *id && may(&due.record));
        let accepted = due.is_some();
        if let Some(due) = due {
            due.available_at = status.available_at(now);
            (due.record.version, due.record.status) = (version, status);
        }
        accepted
    }

    fn take_due(&mut self, may: impl Fn(&ReportRecord) -> bool) -> Option<ReportRecord> {
        let at = self.due.iter().position(|due| may(&due.record))?;
        let Due { record, bytes, .. } = self.due.remove(at)?;
        self.due_bytes -= bytes;
        Some(record)
    }

    /// The first report, in the order in which they became due, that can be delivered now.
    pub(crate) fn next(&self, now: Instant) -> Next<Deliverable> {
        if let Some(Due { record, .. }) = self.due.iter().find(|due| due.available_at <= now) {
            let ReportRecord { report, version, failed_attempts, delivered, .. } = record.clone();
            return Next::Claim(Box::new(Deliverable { report, version, failed_attempts, delivered }));
        }
        self.due.iter().map(|due| due.available_at).min().map_or(Next::Never, Next::At)
    }

    /// Leases a report to a delivery, if nothing happened to it since that version.
    pub(super) fn claim(
        &mut self,
        id: &BuildsetId,
        expected_version: Version,
        status: JobStatus,
        version: Version,
        now: Arrival,
    ) -> bool {
        let unchanged =
            |record: &ReportRecord| record.version == expected_version || !holds(Rule::ReportUnchanged);
        self.change_due(id, unchanged, status, version, now)
    }

    /// Ends a delivery, if it still has the report.
    pub(super) fn settle(
        &mut self,
        id: &BuildsetId,
        delivery: &RunId,
        how: &Settlement,
        version: Version,
        now: Arrival,
    ) -> bool {
        let held = |record: &ReportRecord| record.report.id == *id && record.status.is_held_by(delivery);
        if *how == Settlement::HandedBack {
            return self.change_due(id, held, JobStatus::waiting(), version, now);
        }
        let Some(record) = self.take_due(held) else { return false };
        match how {
            Settlement::Done | Settlement::HandedBack => {}
            Settlement::Retry { due, after_ms, delivered } => {
                let status = JobStatus::Waiting { due: *due, after_ms: *after_ms };
                let (failed_attempts, delivered) =
                    (record.failed_attempts.saturating_add(1), delivered.clone());
                self.push_record(ReportRecord { version, status, failed_attempts, delivered, ..record }, now);
            }
            Settlement::GaveUp { why, at, delivered } => {
                let undelivered = UndeliveredReport::new(record.report, why.as_str());
                self.keep(undelivered.with_at(*at).with_delivered(delivered.clone()));
            }
        }
        true
    }

    // ---- undelivered reports

    fn keep(&mut self, undelivered: UndeliveredReport) {
        let id = &undelivered.report.id;
        if let Some(at) = self.undelivered.iter().position(|known| known.report.id == *id) {
            self.remove_undelivered(at);
        }
        self.undelivered_bytes += json_size(&undelivered);
        self.undelivered.push_back(undelivered);
        // The newest stays, whatever its size.
        while self.undelivered.len() > MAX_UNDELIVERED
            || self.undelivered.len() > 1 && self.undelivered_bytes > MAX_UNDELIVERED_BYTES
        {
            let Some(oldest) = self.remove_undelivered(0) else { return };
            let report = &oldest.report;
            tracing::warn!(buildset = %report.id, patchset = %report.target(), results = report.summary(), "too many undelivered reports: the oldest is dropped");
        }
    }

    fn remove_undelivered(&mut self, at: usize) -> Option<UndeliveredReport> {
        let undelivered = self.undelivered.remove(at)?;
        self.undelivered_bytes -= json_size(&undelivered);
        Some(undelivered)
    }

    /// Takes an undelivered report out, if it is the one of that time.
    pub(super) fn take_undelivered(
        &mut self,
        id: &BuildsetId,
        at: Option<Timestamp>,
    ) -> Option<UndeliveredReport> {
        let is_it = |undelivered: &UndeliveredReport| undelivered.report.id == *id && undelivered.at == at;
        let place = self.undelivered.iter().position(is_it)?;
        self.remove_undelivered(place)
    }

    /// Makes an undelivered report due again, with all its attempts.
    pub(super) fn retry_undelivered(
        &mut self,
        id: &BuildsetId,
        at: Option<Timestamp>,
        version: Version,
        now: Arrival,
    ) -> bool {
        let taken = self.take_undelivered(id, at);
        let is_there = taken.is_some();
        if let Some(UndeliveredReport { report, delivered, .. }) = taken {
            self.push_due(report, delivered, version, now);
        }
        is_there
    }

    // ---- snapshots, and what the broker has lost

    pub(super) fn snapshot(&self) -> OutboxSnapshot {
        OutboxSnapshot {
            open: self.open.iter().map(|open| open.buildset.clone()).collect(),
            due: self.due.iter().map(|due| due.record.clone()).collect(),
            undelivered: self.undelivered.iter().cloned().collect(),
            closed: self.closed_order.iter().cloned().collect(),
            settled: Vec::new(),
        }
    }

    /// Whether the buildset is past its report's delivery, as far as this state remembers.
    fn has_settled(&self, id: &BuildsetId) -> bool {
        self.closed.contains(id)
            && self.place_of(id).is_none()
            && !self.due.iter().any(|due| due.record.report.id == *id)
            && self.find_undelivered(id).is_none()
    }

    /// What this one knows and the other does not; see [`State::missing_in`](super::State::missing_in).
    pub(super) fn missing_in(&self, other: &Self) -> OutboxSnapshot {
        let mine = self.snapshot();
        let has_unknown_end = |open: &OpenBuildset| {
            let there = other.place_of(&open.buildset().id).and_then(|at| other.open.get(at));
            let known = |job: &JobName| there.is_some_and(|there| there.buildset.has_ended(job));
            !other.closed.contains(&open.buildset().id) && open.ends().any(|(job, _)| !known(job))
        };
        let due = |record: ReportRecord| {
            let there = other.due.iter().find(|due| due.record.report.id == record.report.id);
            match there {
                Some(there) => {
                    let restores = record.status.is_leased() && !there.record.status.is_leased();
                    restores.then_some(ReportRecord { version: there.record.version, ..record })
                }
                None => (!other.closed.contains(&record.report.id)).then_some(record),
            }
        };
        let reports = other.due.iter().map(|due| &due.record.report.id);
        OutboxSnapshot {
            open: mine.open.into_iter().filter(has_unknown_end).collect(),
            due: mine.due.into_iter().filter_map(due).collect(),
            undelivered: mine
                .undelivered
                .into_iter()
                .filter(|undelivered| !other.closed.contains(&undelivered.report.id))
                .collect(),
            closed: mine.closed.into_iter().filter(|id| !other.closed.contains(id)).collect(),
            settled: reports.filter(|id| self.has_settled(id)).cloned().collect(),
        }
    }

    /// The buildsets that a restore closes.
    pub(super) fn newly_closed<'a>(&self, lost: &'a OutboxSnapshot) -> impl Iterator<Item = &'a BuildsetId> {
        lost.closed.iter().filter(|id| !self.closed.contains(*id))
    }

    /// Adds what is not known. Of a known report only one that waits changes, to the lease that it had.
    pub(super) fn restore(&mut self, lost: &OutboxSnapshot, jobs: &mut Jobs, version: Version, now: Arrival) {
        for record in &lost.due {
            let id = &record.report.id;
            if self.due.iter().any(|due| due.record.report.id == *id) {
                let unchanged =
                    |known: &ReportRecord| known.version == record.version && !known.status.is_leased();
                self.change_due(id, unchanged, record.status.clone(), record.version, now);
            } else if !self.closed.contains(id) {
                self.forget_open(id);
                self.push_record(record.clone(), now);
            }
        }
        for undelivered in &lost.undelivered {
            if !self.closed.contains(&undelivered.report.id) {
                self.forget_open(&undelivered.report.id);
                self.keep(undelivered.clone());
            }
        }
        for id in &lost.settled {
            self.take_due(|record| record.report.id == *id);
        }
        for id in &lost.closed {
            self.forget_open(id);
            self.remember(id.clone());
        }
        for open in &lost.open {
            let buildset = open.buildset();
            for (job, end) in open.ends() {
                let place = self.place_of(&buildset.id).and_then(|at| self.open.get(at));
                let is_known = place.is_some_and(|place| place.buildset.has_ended(job));
                if !is_known && !self.closed.contains(&buildset.id) {
                    self.enter(buildset, job.clone(), end.clone(), jobs, version, now);
                }
            }
        }
    }

    fn forget_open(&mut self, id: &BuildsetId) {
        if let Some(at) = self.place_of(id) {
            self.remove_open(at);
        }
    }
}

/// What is needed to report it.
fn without_stages(end: JobEnd) -> JobEnd {
    match end {
        JobEnd::Finished { mut result } => {
            result.stages = Vec::new();
            JobEnd::Finished { result: Box::new(RunResult::bounded(*result)) }
        }
        other => other,
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
