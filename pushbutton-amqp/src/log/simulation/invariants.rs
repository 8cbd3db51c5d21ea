//! What must be true in every world. The log is judged by a reader of its own, which misses nothing and never stops.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use pushbutton_core::{BuildsetId, Job, JobId};
use serde_json::Value;

use super::super::entry::{Entry, Op};
use super::super::ids::{EntryId, EventKey, JobKey};
use super::super::snapshot::Snapshot;
use super::super::state_machine::{Arrival, State};
use super::participant::{Event, LEADER_LEASE, Participant};

/// States are compared at every so many entries.
const CHECKPOINT: u64 = 8;

/// What was wrong.
pub(super) type Violation = String;

#[derive(Debug, Default)]
pub(super) struct Invariants {
    /// The whole log, also what the broker has dropped.
    log: Vec<Entry>,
    /// The state after all of it.
    reference: State,
    /// The state of one that began with a snapshot, somewhere.
    resumed: Option<State>,
    checkpoints: BTreeMap<u64, Snapshot>,
    /// The last offset that any participant has read, also one that is dead.
    pub(super) last_read: u64,
    confirmed: Vec<JobId>,
    ended: HashSet<JobId>,
    /// Buildsets with a result, those whose report the reporters have, and those whose delivery has ended.
    with_result: HashSet<BuildsetId>,
    reported: HashSet<BuildsetId>,
    delivered: HashSet<BuildsetId>,
    broadcasts: Vec<EntryId>,
    heard: HashMap<usize, Vec<String>>,
    recorded: HashMap<EventKey, u32>,
    /// Jobs and events of entries that the broker has lost. Until those are written again others do not know them:
    /// such a job may be held twice, and such an event be new twice (README, "Failures").
    lost_jobs: HashSet<JobId>,
    lost_events: HashSet<EventKey>,
    lost_reports: HashSet<BuildsetId>,
    lost_messages: bool,
    lost_leader_until: Duration,
}

fn comparable(state: &State, now: Arrival) -> Snapshot {
    state.snapshot(now).without_ages()
}

fn roundtrip(state: &State, now: Arrival) -> State {
    let text = serde_json::to_string(&state.snapshot(now)).unwrap();
    State::from_snapshot(&serde_json::from_str(&text).unwrap(), now)
}

impl Invariants {
    /// An entry is in the log.
    pub(super) fn appended(&mut self, entry: &Entry, now: Arrival, rng: &mut fastrand::Rng) {
        let offset = self.log.len() as u64;
        self.log.push(entry.clone());
        self.reference.apply(offset, entry, now);
        if let Some(resumed) = &mut self.resumed {
            resumed.apply(offset, entry, now);
        } else if rng.u8(..32) == 0 {
            self.resumed = Some(roundtrip(&self.reference, now));
        }
        if offset.is_multiple_of(CHECKPOINT) {
            self.checkpoints.insert(offset, comparable(&self.reference, now));
        }
    }

    /// The broker has lost these entries.
    pub(super) fn lost(&mut self, from: u64, lost: &[Entry], time: Duration, now: Arrival) {
        self.log.truncate(usize::try_from(from).unwrap());
        self.reference = State::default();
        for (offset, entry) in (0..).zip(&self.log) {
            self.reference.apply(offset, entry, now);
        }
        self.resumed = None;
        self.checkpoints.split_off(&from);
        self.last_read = self.last_read.min(from - 1);
        for entry in lost {
            match &entry.op {
                Op::Barrier
                | Op::Snapshot { .. }
                | Op::Requeue { .. }
                | Op::RemoveLetter { .. }
                | Op::Installation { .. } => {}
                Op::Import { jobs, .. } => self.lost_jobs.extend(jobs.iter().map(|job| job.id.clone())),
                Op::Claim { job, .. }
                | Op::Renew { job, .. }
                | Op::Complete { job, .. }
                | Op::Retry { job, .. }
                | Op::HandBack { job, .. }
                | Op::Reject { job, .. }
                | Op::DeadLetter { job, .. } => {
                    self.lost_jobs.insert(job.clone());
                }
                Op::ClaimReport { buildset, .. }
                | Op::SettleReport { buildset, .. }
                | Op::RetryUndelivered { buildset, .. }
                | Op::DropUndelivered { buildset, .. } => {
                    self.lost_reports.insert(buildset.clone());
                }
                Op::Lead { .. } | Op::StepDown { .. } => self.lost_leader_until = time + LEADER_LEASE * 2,
                Op::Seen { events, .. } => self.lost_events.extend(events),
                Op::Broadcast { .. } => self.lost_messages = true,
                Op::Restore { lost } => {
                    self.lost_jobs.extend(lost.jobs.iter().map(|record| record.job.id.clone()));
                    self.lost_events.extend(&lost.seen);
                    self.lost_reports.extend(lost.outbox.reports().cloned());
                    self.lost_messages |= !lost.messages.is_empty();
                    self.lost_leader_until = time + LEADER_LEASE * 2;
                }
            }
        }
    }

    /// Every participant that has read the same entries has the same state.
    pub(super) fn check_state(&mut self, participant: &Participant, now: Arrival) -> Result<(), Violation> {
        let Some(offset) = participant.last_offset() else { return Ok(()) };
        self.last_read = self.last_read.max(offset);
        let (Some(wanted), Some(state)) = (self.checkpoints.get(&offset), participant.state()) else {
            return Ok(());
        };
        same(wanted, &comparable(state, now), || format!("what was read up to {offset}"))
    }

    pub(super) fn confirmed(&mut self, job: &Job) {
        self.confirmed.push(job.id.clone());
    }

    pub(super) fn is_confirmed(&self, job: &Job) -> bool {
        self.confirmed.contains(&job.id)
    }

    /// Its next process begins to listen anew.
    pub(super) fn forget_listener(&mut self, index: usize) {
        self.heard.remove(&index);
    }

    /// Judges what a participant did.
    pub(super) fn check(
        &mut self,
        index: usize,
        event: Event,
        participants: &[Participant],
        now: Duration,
    ) -> Result<(), Violation> {
        match event {
            Event::Holds { job, run } => {
                for (other, participant) in participants.iter().enumerate() {
                    let mut acting = participant.acting(participant.clock.read(now).instant);
                    if acting.any(|(other_job, other_run)| *other_job == job && *other_run != run)
                        && !self.lost_jobs.contains(&job)
                    {
                        return Err(format!("{index} and {other} act at the same time for job {job}"));
                    }
                }
            }
            Event::Leads => {
                let leads =
                    |participant: &Participant| participant.leads(participant.clock.read(now).instant);
                let other =
                    (0..participants.len()).find(|other| *other != index && leads(&participants[*other]));
                if let Some(other) = other.filter(|_| now >= self.lost_leader_until) {
                    return Err(format!("{index} and {other} lead at the same time"));
                }
            }
            Event::Delivers { buildset, delivery } => {
                let other = participants.iter().position(|it| {
                    let acting = it.delivers(it.clock.read(now).instant);
                    acting.is_some_and(|(report, by)| *report == buildset && *by != delivery)
                });
                if let Some(other) = other.filter(|_| !self.lost_reports.contains(&buildset)) {
                    return Err(format!("{index} and {other} deliver report {buildset} at the same time"));
                }
                if self.delivered.contains(&buildset) && !self.lost_reports.contains(&buildset) {
                    return Err(format!("report {buildset} is delivered again"));
                }
            }
            Event::Reported { buildset } => {
                // By contract a reporter reports once, whatever it is given.
                self.reported.insert(buildset);
            }
            Event::Delivered { buildset } => {
                self.delivered.insert(buildset);
            }
            Event::JobEnded { job, reported_in } => {
                self.with_result.extend(reported_in);
                if !self.ended.insert(job.clone()) && !self.lost_jobs.contains(&job) {
                    return Err(format!("job {job} ended twice"));
                }
            }
            Event::Broadcast { message } => self.broadcasts.push(message),
            Event::Heard { message } => {
                let heard = self.heard.entry(index).or_default();
                if heard.contains(&message) {
                    return Err(format!("{index} heard {message} twice"));
                }
                heard.push(message);
            }
            Event::Recorded { events, new } => {
                for (key, _) in events.into_iter().zip(new).filter(|(_, new)| *new) {
                    let count = self.recorded.entry(key).or_default();
                    *count += 1;
                    if *count > 1 && !self.lost_events.contains(&key) {
                        return Err(format!("event {key} was new twice"));
                    }
                }
            }
            Event::RunsListed { wanted, listed } => {
                let acts = |run| {
                    participants
                        .iter()
                        .any(|it| it.acting(it.clock.read(now).instant).any(|(_, acting)| acting == run))
                };
                let missing = wanted
                    .iter()
                    .find(|(job, run)| !listed.contains(run) && acts(run) && !self.lost_jobs.contains(job));
                if let Some((job, run)) = missing {
                    return Err(format!("run {run} of job {job} acts and is not among the leased runs"));
                }
            }
            Event::Acknowledged => {}
        }
        Ok(())
    }

    /// Whether all jobs that the log knows have ended.
    pub(super) fn all_ended(&self) -> bool {
        self.reference.jobs.records().next().is_none() && self.reference.outbox.due_len() == 0
    }

    /// The faults are over, and everybody has read everything.
    pub(super) fn check_end(
        &self,
        participants: &[Participant],
        now: Duration,
        steady: Arrival,
    ) -> Result<(), Violation> {
        let wanted = comparable(&self.reference, steady);
        for (index, participant) in participants.iter().enumerate() {
            let state = participant.state().ok_or_else(|| format!("{index} has no state"))?;
            same(&wanted, &comparable(state, participant.clock.read(now)), || {
                format!("participant {index}")
            })?;
        }
        if let Some(resumed) = &self.resumed {
            same(&wanted, &comparable(resumed, steady), || "a reader that began with a snapshot".into())?;
        }
        for job in &self.confirmed {
            let key = JobKey::of(job);
            if !self.reference.jobs.is_completed(key) && !self.reference.dead.has_job(key) {
                return Err(format!("job {job} was published and is lost"));
            }
        }
        for buildset in &self.with_result {
            let is_listed = self.reference.outbox.find_undelivered(buildset).is_some();
            if !self.reported.contains(buildset) && !is_listed {
                return Err(format!("report {buildset} is lost"));
            }
        }
        if self.reference.outbox.open_len() > 0 {
            return Err("all jobs have ended, and a buildset waits for one".to_owned());
        }
        for message in &self.broadcasts {
            if !self.reference.messages.has(*message) {
                return Err(format!("control message {message} is lost"));
            }
        }
        for key in self.recorded.keys() {
            if !self.reference.events.has_seen(*key) {
                return Err(format!("event {key} is forgotten"));
            }
        }
        let order: Vec<&str> = self.reference.messages.iter().map(|message| message.text.as_str()).collect();
        for (index, heard) in &self.heard {
            let missing = order.iter().find(|message| !heard.iter().any(|heard| heard == *message));
            if let Some(message) = missing {
                return Err(format!("{index} did not hear {message}"));
            }
            if !self.lost_messages && order != *heard {
                return Err(format!("{index} heard {heard:?}, and the log has {order:?}"));
            }
        }
        let leaders = participants.iter().filter(|it| it.leads(it.clock.read(now).instant)).count();
        if leaders != 1 {
            return Err(format!("{leaders} participants lead"));
        }
        Ok(())
    }
}

fn same(wanted: &Snapshot, found: &Snapshot, who: impl Fn() -> String) -> Result<(), Violation> {
    if wanted == found {
        return Ok(());
    }
    let mut text = format!("{} differs from the log", who());
    let [wanted, found] = [wanted, found].map(|snapshot| serde_json::to_value(snapshot).unwrap());
    for (key, wanted) in wanted.as_object().unwrap() {
        if *wanted != found[key] {
            write!(
                text,
                "\n{key} of the log: {}\n{key} found:      {}",
                shortened(wanted),
                shortened(&found[key])
            )
            .unwrap();
        }
    }
    Err(text)
}

/// Of jobs only their ids.
fn shortened(value: &Value) -> Value {
    let mut value = value.clone();
    for record in value.as_array_mut().into_iter().flatten().filter(|record| record.get("job").is_some()) {
        record["job"] = record["job"]["id"].take();
    }
    value
}
