//! The rules: what each entry does to what is known. No input, no output, no clock of its own.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::{Job, JobId, RunId};
use tokio::time::Instant;

use super::entry::Op;
use super::letters::{Letter, Letters};
use super::snapshot::{OpenJob, Place, Snapshot};

/// How many completed jobs are remembered, so that they are not run again.
const COMPLETED: usize = 10_000;

/// When something is done: by the clock that never jumps, and by the calendar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    pub(crate) date: Timestamp,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), date: Timestamp::now() }
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It held.
    Done,
    /// It did not: the job is known already, somebody else was faster, or the claim was lost.
    Void,
    /// It did not, because the record does not know the job at all: not open, not ended.
    Unknown,
}

/// What a claimer can do next with the open jobs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    /// Take this one; it may also be one on which too many operators died.
    Take { job: Box<Job>, seen: u64, lost: u32 },
    /// Nothing before then.
    At(Instant),
    /// Nothing at all.
    Never,
}

#[derive(Debug, Clone)]
struct Open {
    record: OpenJob,
    /// When the lease has run out or the delay is over, as seen from here: never earlier than anywhere the holder is.
    free: Instant,
    bytes: usize,
}

/// Everything that the record says.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    open: BTreeMap<JobId, Open>,
    open_bytes: usize,
    completed: HashSet<u128>,
    completed_order: VecDeque<u128>,
    dead: Letters,
}

/// Job ids are 32 hexadecimal digits: half the memory as a number.
pub(super) fn number(id: &JobId) -> u128 {
    u128::from_str_radix(id.as_str(), 16).unwrap_or_default()
}

pub(super) fn size(job: &Job) -> usize {
    serde_json::to_vec(job).map_or(0, |text| text.len())
}

fn later(from: Instant, by: Duration) -> Instant {
    // A delay that the clock cannot tell is ten years.
    from.checked_add(by).unwrap_or_else(|| from + Duration::from_secs(315_360_000))
}

impl Place {
    /// To be claimed without delay.
    fn at_once() -> Self {
        Self::Waiting { due: Timestamp::UNIX_EPOCH, after_ms: 0 }
    }

    fn free(&self, now: Moment) -> Instant {
        match self {
            Self::Leased { lease_ms, .. } => later(now.instant, Duration::from_millis(*lease_ms)),
            Self::Waiting { due, after_ms } => {
                let left = Duration::try_from(due.duration_since(now.date)).unwrap_or(Duration::ZERO);
                later(now.instant, left.min(Duration::from_millis(*after_ms)))
            }
        }
    }
}

impl State {
    /// Judges one entry, at its place in the record.
    pub(crate) fn apply(&mut self, offset: u64, op: &Op, now: Moment) -> Outcome {
        match op {
            Op::Hello | Op::Snapshot { .. } => Outcome::Done,
            Op::Adopt { job, claim, lease_ms } => {
                if self.knows(&job.id) {
                    return Outcome::Void;
                }
                self.insert(
                    OpenJob {
                        job: job.clone(),
                        adopted: offset,
                        version: offset,
                        lost: 0,
                        place: Place::Leased { claim: claim.clone(), lease_ms: *lease_ms },
                    },
                    now,
                );
                Outcome::Done
            }
            Op::Take { job, seen, claim, lease_ms } => self.change(job, offset, now, |open| {
                if open.version != *seen {
                    return false;
                }
                open.lost += u32::from(matches!(open.place, Place::Leased { .. }));
                open.place = Place::Leased { claim: claim.clone(), lease_ms: *lease_ms };
                true
            }),
            Op::Renew { job, claim } => self.change(job, offset, now, |open| open.is_held(claim)),
            Op::Retry { job, claim, due, after_ms } => self.change(job, offset, now, |open| {
                let held = open.is_held(claim);
                if held {
                    open.job.failed_attempts = open.job.failed_attempts.saturating_add(1);
                    open.lost = 0;
                    open.place = Place::Waiting { due: *due, after_ms: *after_ms };
                }
                held
            }),
            Op::HandBack { job, claim } => self.change(job, offset, now, |open| {
                let held = open.is_held(claim);
                if held {
                    open.place = Place::at_once();
                }
                held
            }),
            Op::Complete { job, claim } => {
                let outcome = self.end(job, |open| open.is_held(claim)).map(|_| ());
                match outcome {
                    Err(Outcome::Void) => Outcome::Void,
                    _ => {
                        self.complete(number(job));
                        Outcome::Done
                    }
                }
            }
            Op::Reject { job, claim, why, at } => self.bury(job, why, *at, |open| open.is_held(claim)),
            Op::Bury { job, seen, why, at } => self.bury(job, why, *at, |open| open.version == *seen),
            Op::Malformed { why, at } => {
                let kept = self.dead.keep(Letter { job: None, why: why.clone(), at: *at });
                if kept { Outcome::Done } else { Outcome::Void }
            }
            Op::RequeueLetter { letter, at } => {
                let taken = self.dead.take(letter, *at, |letter| letter.job.is_some());
                let Some(job) = taken.and_then(|letter| letter.job) else { return Outcome::Void };
                let job = Job { failed_attempts: 0, ..job };
                let (adopted, version) = (offset, offset);
                self.insert(OpenJob { job, adopted, version, lost: 0, place: Place::at_once() }, now);
                Outcome::Done
            }
            Op::DropLetter { letter, at } => {
                let Some(letter) = self.dead.take(letter, *at, |_| true) else { return Outcome::Void };
                if let Some(job) = letter.job {
                    self.complete(number(&job.id));
                }
                Outcome::Done
            }
        }
    }

    /// Whether the job is open, or ended: completed, or on the dead letters.
    pub(crate) fn knows(&self, id: &JobId) -> bool {
        self.open.contains_key(id) || self.ended(number(id))
    }

    fn ended(&self, id: u128) -> bool {
        self.completed.contains(&id) || self.dead.has_job(id)
    }

    fn insert(&mut self, record: OpenJob, now: Moment) {
        let (bytes, free) = (size(&record.job), record.place.free(now));
        self.open_bytes += bytes;
        self.open.insert(record.job.id.clone(), Open { record, free, bytes });
    }

    fn change(
        &mut self,
        id: &JobId,
        offset: u64,
        now: Moment,
        to: impl FnOnce(&mut OpenJob) -> bool,
    ) -> Outcome {
        let Some(open) = self.open.get_mut(id) else { return self.absent(id) };
        if !to(&mut open.record) {
            return Outcome::Void;
        }
        open.record.version = offset;
        open.free = open.record.place.free(now);
        Outcome::Done
    }

    fn end(&mut self, id: &JobId, may: impl FnOnce(&OpenJob) -> bool) -> Result<Job, Outcome> {
        match self.open.get(id) {
            Some(open) if !may(&open.record) => return Err(Outcome::Void),
            _ => {}
        }
        let open = self.open.remove(id).ok_or_else(|| self.absent(id))?;
        self.open_bytes -= open.bytes;
        Ok(open.record.job)
    }

    fn absent(&self, id: &JobId) -> Outcome {
        if self.ended(number(id)) { Outcome::Void } else { Outcome::Unknown }
    }

    fn bury(&mut self, id: &JobId, why: &str, at: Timestamp, may: impl FnOnce(&OpenJob) -> bool) -> Outcome {
        match self.end(id, may) {
            Ok(job) => {
                self.dead.keep(Letter { job: Some(job), why: why.to_owned(), at });
                Outcome::Done
            }
            Err(outcome) => outcome,
        }
    }

    fn complete(&mut self, id: u128) {
        if self.completed.insert(id) {
            self.completed_order.push_back(id);
        }
        if self.completed_order.len() > COMPLETED {
            if let Some(oldest) = self.completed_order.pop_front() {
                self.completed.remove(&oldest);
            }
        }
    }

    /// What a claimer can do now, the job that was adopted first being the first.
    pub(crate) fn next(&self, now: Instant) -> Next {
        let free = self.open.values().filter(|open| open.free <= now);
        if let Some(Open { record, .. }) = free.min_by_key(|open| open.record.adopted) {
            // The lease that ran out just now counts as well.
            let lost = record.lost + u32::from(matches!(record.place, Place::Leased { .. }));
            return Next::Take { job: Box::new(record.job.clone()), seen: record.version, lost };
        }
        self.open.values().map(|open| open.free).min().map_or(Next::Never, Next::At)
    }

    /// Open jobs that wait, and those that are claimed.
    pub(crate) fn counts(&self, now: Instant) -> (u64, u64) {
        let leased = |open: &&Open| matches!(open.record.place, Place::Leased { .. }) && open.free > now;
        let leased = self.open.values().filter(leased).count();
        ((self.open.len() - leased) as u64, leased as u64)
    }

    /// The runs whose leases have not ended, as seen from here.
    pub(crate) fn leased_runs(&self, now: Instant) -> Vec<RunId> {
        let run = |open: &Open| match &open.record.place {
            Place::Leased { claim, .. } if open.free > now => Some(claim.clone()),
            _ => None,
        };
        self.open.values().filter_map(run).collect()
    }

    /// Bytes of all open jobs: what a snapshot is mostly made of.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// The dead letters, oldest first.
    pub(crate) fn dead(&self) -> &Letters {
        &self.dead
    }

    /// All of it, to be written down.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let id = |number: &u128| JobId::new(format!("{number:032x}")).ok();
        Snapshot {
            open: self.open.values().map(|open| open.record.clone()).collect(),
            completed: self.completed_order.iter().filter_map(id).collect(),
            dead: self.dead.iter().cloned().collect(),
        }
    }

    /// Reads it back. Leases count from now: the holder's last sign of life was earlier.
    pub(crate) fn from_snapshot(snapshot: &Snapshot, now: Moment) -> Self {
        let mut state = Self::default();
        for open in &snapshot.open {
            state.insert(open.clone(), now);
        }
        for id in &snapshot.completed {
            state.complete(number(id));
        }
        for letter in &snapshot.dead {
            state.dead.keep(letter.clone());
        }
        state
    }
}

impl OpenJob {
    fn is_held(&self, by: &RunId) -> bool {
        matches!(&self.place, Place::Leased { claim, .. } if claim == by)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
