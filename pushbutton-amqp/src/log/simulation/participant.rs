//! One participant: a process with the replica of the log, a connection, and the tasks that write entries.
//!
//! The decisions are those of the production code: [`Replica`], [`Claimable::entry`], [`ImportBatch`], [`candidate`],
//! [`Listened`], [`LeaseTerm`]. What stands in async code there, who waits for what, is here one function for each
//! step, and the world chooses whose turn it is.

use std::collections::VecDeque;
use std::time::Duration;

use pushbutton_core::samples::success;
use pushbutton_core::{BuildsetId, Job, JobId, RunId, RunResult};
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use super::super::candidate::{self, Candidacy};
use super::super::control_messages::Listened;
use super::super::entry::{Entry, Op};
use super::super::ids::{EntryId, EventKey};
use super::super::import::{self, ImportBatch};
use super::super::jobs::Next;
use super::super::lease::{HeldLease, LeaseTerm};
use super::super::outbox::Settlement;
use super::super::replica::{Applied, Replica, Resume};
use super::super::state_machine::{Arrival, Outcome, State};
use super::broker::Broker;
use super::clock::Clock;

pub(super) const LEASE: Duration = Duration::from_secs(60);
pub(super) const LEADER_LEASE: Duration = Duration::from_secs(30);
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_LOST_LEASES: u32 = 3;
const INBOX_PREFETCH: usize = 4;
/// How many claims one operator holds.
const SLOTS: usize = 2;

/// Draws the ids of a whole world: the same in each run of a seed, and as random as real ones.
#[derive(Debug)]
pub(super) struct Ids(fastrand::Rng);

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub(super) fn entry(&mut self) -> EntryId {
        EntryId(self.0.u128(..))
    }

    fn connection(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// How many jobs a claimer leaves to others.
    fn skip(&mut self) -> usize {
        self.0.usize(..3)
    }

    fn run(&mut self) -> RunId {
        format!("01975b7a-0000-7000-8000-{:012x}", self.0.u64(..1 << 48)).parse().unwrap()
    }
}

/// What happened that the invariants are about.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A caller has a claim, and acts.
    Holds {
        job: JobId,
        run: RunId,
    },
    /// An entry that ends a job was accepted; with the buildset where it has a result.
    JobEnded {
        job: JobId,
        reported_in: Option<BuildsetId>,
    },
    /// A delivery began.
    Delivers {
        buildset: BuildsetId,
        delivery: RunId,
    },
    /// Reporters have got a report, whatever is settled then.
    Reported {
        buildset: BuildsetId,
    },
    /// A delivery was settled: nobody may deliver the report again.
    Delivered {
        buildset: BuildsetId,
    },
    Leads,
    Broadcast {
        message: EntryId,
    },
    Heard {
        message: String,
    },
    Recorded {
        events: Vec<EventKey>,
        new: Vec<bool>,
    },
    RunsListed {
        wanted: Vec<(JobId, RunId)>,
        listed: Vec<RunId>,
    },
    /// The inbox was told that these messages are in the log.
    Acknowledged,
}

/// Why an entry was written, and so what follows from its outcome.
#[derive(Debug)]
enum Purpose {
    Claim {
        job: Job,
        run: RunId,
        lease: HeldLease,
    },
    Renew {
        run: RunId,
        written: Instant,
    },
    Settle {
        job: JobId,
        ends: bool,
        reported_in: Option<BuildsetId>,
    },
    ClaimReport {
        buildset: BuildsetId,
        delivery: RunId,
        written: Instant,
    },
    SettleReport {
        buildset: BuildsetId,
        ends: bool,
    },
    DeadLetter {
        job: JobId,
    },
    Import(ImportBatch),
    Lead(HeldLease),
    RenewLead {
        written: Instant,
    },
    Broadcast,
    Seen(Vec<EventKey>),
    ListRuns {
        wanted: Vec<(JobId, RunId)>,
    },
    /// Nobody needs its outcome: a hand-back of a claim that nobody took, or a step-down.
    Last,
}

/// An entry that is being written, until it is read back.
#[derive(Debug)]
struct Commit {
    entry: Entry,
    outcome: Receiver<Outcome>,
    until: Instant,
    /// The connection on which it was sent.
    sent_on: Option<u64>,
    purpose: Purpose,
}

#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    /// Entries on their way to the broker.
    outgoing: VecDeque<Entry>,
    next: u64,
    /// The supervisor's last entry: a barrier, or a restore.
    catching_up: Receiver<Outcome>,
    ready: bool,
    last_delivery: Instant,
    /// When it was sent.
    asked: Instant,
}

/// A claim on its way to its caller.
#[derive(Debug, Clone)]
struct Arriving {
    job: Job,
    run: RunId,
    lease: HeldLease,
    /// The claimer has sent it.
    sent: bool,
}

/// A report that is being delivered.
#[derive(Debug)]
struct Delivering {
    buildset: BuildsetId,
    delivery: RunId,
    until: Instant,
}

/// A claim that a caller has.
#[derive(Debug)]
struct Holding {
    job: Job,
    run: RunId,
    lease: HeldLease,
    /// How much is left to do.
    work: u32,
    renewing: bool,
    /// Its work has ended: nothing is done on the node any more.
    settling: bool,
}

impl Holding {
    fn acts_until(&self) -> Instant {
        self.lease.end()
    }
}

fn lease() -> LeaseTerm {
    LeaseTerm::of_job(LEASE)
}

fn report_lease() -> LeaseTerm {
    LeaseTerm::of_report(LEASE)
}

/// The same in each run of a seed.
fn result(job: &Job, run: &RunId) -> RunResult {
    let mut result = success(job);
    result.run = run.clone();
    result
}

fn leader_lease() -> LeaseTerm {
    LeaseTerm::of_leader(LEADER_LEASE)
}

#[derive(Debug)]
pub(super) struct Participant {
    pub(super) clock: Clock,
    pub(super) paused_until: Duration,
    replica: Replica,
    connection: Option<Connection>,
    commits: Vec<Commit>,
    arriving: Vec<Arriving>,
    holdings: Vec<Holding>,
    delivering: Option<Delivering>,
    candidate: EntryId,
    leadership: Option<HeldLease>,
    listened: Listened,
    snapshot_jitter: Duration,
}

impl Participant {
    pub(super) fn new(clock: Clock, ids: &mut Ids, rng: &mut fastrand::Rng) -> Self {
        Self {
            clock,
            paused_until: Duration::ZERO,
            replica: Replica::default(),
            connection: None,
            commits: Vec::new(),
            arriving: Vec::new(),
            holdings: Vec::new(),
            delivering: None,
            candidate: ids.entry(),
            leadership: None,
            listened: Listened::default(),
            snapshot_jitter: Duration::from_secs(rng.u64(..256)),
        }
    }

    // ---- what others may know of it

    pub(super) fn state(&self) -> Option<&State> {
        self.replica.state()
    }

    pub(super) fn last_offset(&self) -> Option<u64> {
        self.replica.last_offset()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.ready)
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.commits.is_empty() || self.connection.as_ref().is_some_and(|it| !it.outgoing.is_empty())
    }

    /// The runs that act at this moment, paused or not.
    pub(super) fn acting(&self, now: Instant) -> impl Iterator<Item = (&JobId, &RunId)> {
        let acting = self.holdings.iter().filter(move |it| !it.settling && now < it.acts_until());
        acting.map(|holding| (&holding.job.id, &holding.run))
    }

    /// The delivery that acts at this moment, paused or not.
    pub(super) fn delivers(&self, now: Instant) -> Option<(&BuildsetId, &RunId)> {
        let acting = self.delivering.as_ref().filter(|it| now < it.until);
        acting.map(|it| (&it.buildset, &it.delivery))
    }

    pub(super) fn leads(&self, now: Instant) -> bool {
        self.leadership.is_some_and(|lease| !lease.has_ended(now))
    }

    // ---- the connection

    /// Connects and begins to read (`supervise::read_log`).
    pub(super) fn connect(&mut self, now: Instant, broker: &Broker, ids: &mut Ids) {
        if self.connection.is_some() {
            return;
        }
        let next = match self.replica.resume() {
            Resume::First => broker.first(),
            Resume::At(offset) => offset.clamp(broker.first(), broker.end()),
        };
        let barrier = Entry::with_id(ids.entry(), Op::Barrier);
        self.connection = Some(Connection {
            id: ids.connection(),
            next,
            catching_up: self.replica.expect(barrier.id),
            outgoing: VecDeque::from([barrier]),
            ready: false,
            last_delivery: now,
            asked: now,
        });
    }

    /// The connection breaks; returns what was on its way.
    pub(super) fn disconnect(&mut self, broker: &mut Broker) -> VecDeque<Entry> {
        let Some(connection) = self.connection.take() else { return VecDeque::new() };
        broker.disconnect(connection.id);
        // The import ends with its connection.
        let mut importing = Vec::new();
        self.commits.retain(|commit| {
            let is_import = matches!(commit.purpose, Purpose::Import(_));
            importing.extend(is_import.then_some(commit.entry.id));
            !is_import
        });
        importing.into_iter().for_each(|id| self.replica.give_up(id));
        connection.outgoing
    }

    /// The place that it reads next.
    pub(super) fn next_place(&self) -> Option<u64> {
        self.connection.as_ref().map(|connection| connection.next)
    }

    /// The next entry that reaches the broker.
    pub(super) fn send(&mut self) -> Option<Entry> {
        self.connection.as_mut()?.outgoing.pop_front()
    }

    /// Reads the next entry, if there is one.
    pub(super) fn read(&mut self, now: Arrival, broker: &mut Broker, ids: &mut Ids) -> Option<Applied> {
        let connection = self.connection.as_mut()?;
        // A reader that is too slow is moved on (`osiris_log:read_header_with_ra`).
        connection.next = connection.next.max(broker.first());
        let Some(stored) = broker.get(connection.next) else {
            if !connection.ready && now.instant > connection.last_delivery + TIMEOUT {
                self.replica.give_up_reading();
                self.disconnect(broker);
            }
            return None;
        };
        let applied = self.replica.read(connection.next, stored.entry.clone(), stored.size, now);
        connection.next += 1;
        connection.last_delivery = now.instant;
        if applied == Applied::Diverged {
            self.disconnect(broker);
            return Some(applied);
        }
        self.write_due_snapshot(now, ids);
        self.reach_end(now, ids);
        Some(applied)
    }

    fn reach_end(&mut self, now: Arrival, ids: &mut Ids) {
        let Some(connection) = self.connection.as_mut().filter(|connection| !connection.ready) else {
            return;
        };
        if connection.catching_up.try_recv().is_err() {
            if self.replica.has_beginning() && now.instant > connection.asked + TIMEOUT {
                let barrier = Entry::with_id(ids.entry(), Op::Barrier);
                (connection.catching_up, connection.asked) = (self.replica.expect(barrier.id), now.instant);
                connection.outgoing.push_back(barrier);
            }
            return;
        }
        match self.replica.reached_end(now) {
            Some(op) => {
                let restore = Entry::with_id(ids.entry(), op);
                connection.catching_up = self.replica.expect(restore.id);
                connection.outgoing.push_back(restore);
            }
            None => connection.ready = true,
        }
    }

    pub(super) fn write_due_snapshot(&mut self, now: Arrival, ids: &mut Ids) {
        let Some(connection) = &mut self.connection else { return };
        if let Some(op) = self.replica.due_snapshot(self.snapshot_jitter, now) {
            connection.outgoing.push_back(Entry::with_id(ids.entry(), op));
        }
    }

    // ---- writing (`commit`)

    fn commit(&mut self, op: Op, until: Instant, purpose: Purpose, ids: &mut Ids) {
        let entry = Entry::with_id(ids.entry(), op);
        let outcome = self.replica.expect(entry.id);
        self.commits.push(Commit { entry, outcome, until, sent_on: None, purpose });
    }

    fn is_writing(&self, what: impl Fn(&Purpose) -> bool) -> bool {
        self.commits.iter().any(|commit| what(&commit.purpose))
    }

    /// Sends what is to be written on this connection, and acts on the outcomes that came.
    pub(super) fn poll_commits(&mut self, now: Instant, broker: &mut Broker, ids: &mut Ids) -> Vec<Event> {
        let mut events = Vec::new();
        for mut commit in std::mem::take(&mut self.commits) {
            let outcome = match commit.outcome.try_recv() {
                Ok(outcome) => Some(outcome),
                Err(TryRecvError::Empty) if now < commit.until => {
                    if let Some(connection) = self.connection.as_mut().filter(|connection| connection.ready)
                        && commit.sent_on != Some(connection.id)
                    {
                        connection.outgoing.push_back(commit.entry.clone());
                        commit.entry.copy += 1;
                        commit.sent_on = Some(connection.id);
                    }
                    self.commits.push(commit);
                    continue;
                }
                Err(_) => None,
            };
            self.replica.give_up(commit.entry.id);
            self.written(commit, outcome.as_ref(), now, broker, ids, &mut events);
        }
        events
    }

    /// An entry was read back, or was not in time.
    fn written(
        &mut self,
        commit: Commit,
        outcome: Option<&Outcome>,
        now: Instant,
        broker: &mut Broker,
        ids: &mut Ids,
        events: &mut Vec<Event>,
    ) {
        let accepted = outcome == Some(&Outcome::Accepted);
        match commit.purpose {
            Purpose::Claim { job, run, lease: held } => match outcome {
                Some(Outcome::Accepted) => {
                    self.arriving.push(Arriving { job, run, lease: held, sent: false });
                }
                Some(_) => {}
                None => self.hand_back(job.id, run, now, ids),
            },
            Purpose::Renew { run, written } => {
                let Some(holding) = self.holdings.iter_mut().find(|holding| holding.run == run) else {
                    return;
                };
                holding.renewing = false;
                match outcome {
                    Some(Outcome::Accepted) => holding.lease.renewed(written),
                    // The lease is lost: the run stops at once.
                    Some(_) => self.holdings.retain(|holding| holding.run != run),
                    None => {}
                }
            }
            Purpose::Settle { job, ends, reported_in } if accepted && ends => {
                events.push(Event::JobEnded { job, reported_in });
            }
            Purpose::DeadLetter { job } if accepted => {
                events.push(Event::JobEnded { job, reported_in: None });
            }
            Purpose::ClaimReport { buildset, delivery, written } => match outcome {
                Some(Outcome::Accepted) if report_lease().may_begin(written, now) => {
                    let until = now + report_lease().held() * 4 / 5;
                    events.push(Event::Delivers { buildset: buildset.clone(), delivery: delivery.clone() });
                    self.delivering = Some(Delivering { buildset, delivery, until });
                }
                Some(Outcome::Rejected) => {}
                _ => self.settle_report(buildset, delivery, Settlement::HandedBack, now, ids),
            },
            Purpose::SettleReport { buildset, ends } if accepted && ends => {
                events.push(Event::Delivered { buildset });
            }
            Purpose::Import(batch) => match outcome {
                Some(_) if batch.may_acknowledge(outcome) => self.acknowledge(broker, events),
                Some(_) => {}
                // An error ends the connection.
                None => drop(self.disconnect(broker)),
            },
            Purpose::Lead(lease) if accepted && !lease.has_ended(now) => {
                self.leadership = Some(lease);
                events.push(Event::Leads);
            }
            Purpose::RenewLead { written } => match (&mut self.leadership, accepted) {
                (Some(lease), true) => lease.renewed(written),
                _ => self.step_down(now, ids),
            },
            Purpose::Broadcast if accepted => events.push(Event::Broadcast { message: commit.entry.id }),
            Purpose::Seen(seen) => {
                if let Some(Outcome::Recorded(new)) = outcome {
                    events.push(Event::Recorded { events: seen, new: new.clone() });
                }
            }
            Purpose::ListRuns { wanted } if accepted => {
                if let Some(state) = self.replica.state() {
                    events.push(Event::RunsListed { wanted, listed: state.jobs.leased_runs(now) });
                }
            }
            _ => {}
        }
    }

    // ---- the claimer, and the callers that it serves

    pub(super) fn claim(&mut self, now: Arrival, ids: &mut Ids) {
        let held = self.holdings.len() + self.arriving.len();
        let is_claiming =
            self.is_writing(|purpose| matches!(purpose, Purpose::Claim { .. } | Purpose::DeadLetter { .. }));
        if held >= SLOTS || is_claiming || !self.is_ready() {
            return;
        }
        let Some(state) = self.replica.state().filter(|state| !state.outbox.is_full()) else { return };
        let Next::Claim(claimable) = state.jobs.next(now.instant, ids.skip(), |_| true) else { return };
        let run = ids.run();
        let entry = claimable.entry(&run, lease(), MAX_LOST_LEASES, now.date);
        let held = lease().written_at(now.instant);
        let purpose = match entry {
            Op::DeadLetter { .. } => Purpose::DeadLetter { job: claimable.job.id },
            _ => Purpose::Claim { job: claimable.job, run, lease: held },
        };
        self.commit(entry, held.end(), purpose, ids);
    }

    /// A claim is sent to its caller (`Claimer::claim`), or reaches it (`AmqpQueue::claim`); or the caller has stopped
    /// waiting.
    pub(super) fn arrive(&mut self, now: Instant, ids: &mut Ids, rng: &mut fastrand::Rng) -> Vec<Event> {
        if self.arriving.is_empty() {
            return Vec::new();
        }
        let mut arriving = self.arriving.remove(0);
        let Arriving { job, run, lease: held, sent } = arriving.clone();
        if !sent {
            arriving.sent = true;
            self.arriving.insert(0, arriving);
            return Vec::new();
        }
        if held.has_ended(now) || rng.u8(..20) == 0 {
            self.hand_back(job.id, run, now, ids);
            return Vec::new();
        }
        let work = rng.u32(1..12);
        let (renewing, settling) = (false, false);
        self.holdings.push(Holding {
            job: job.clone(),
            run: run.clone(),
            lease: held,
            work,
            renewing,
            settling,
        });
        vec![Event::Holds { job: job.id, run }]
    }

    fn hand_back(&mut self, job: JobId, run: RunId, now: Instant, ids: &mut Ids) {
        self.commit(Op::HandBack { job, run }, now + lease().held(), Purpose::Last, ids);
    }

    /// Runs go on: they renew their leases, end, or are fenced.
    pub(super) fn act(&mut self, now: Arrival, calm: bool, ids: &mut Ids, rng: &mut fastrand::Rng) {
        self.holdings.retain(|holding| now.instant < holding.acts_until());
        let mut written = Vec::new();
        for holding in &mut self.holdings {
            let (job, run) = (holding.job.id.clone(), holding.run.clone());
            holding.work = holding.work.saturating_sub(1);
            if holding.work == 0 {
                holding.settling = true;
                let after = Duration::from_secs(rng.u64(..60));
                let op = match if calm { 0 } else { rng.u8(..20) } {
                    0..=10 => Op::Complete { job, run, result: Box::new(result(&holding.job, &holding.run)) },
                    11..=13 => {
                        let after_ms = u64::try_from(after.as_millis()).unwrap();
                        Op::Retry { job, run, due: now.date + after, after_ms }
                    }
                    14..=16 => Op::HandBack { job, run },
                    17 => Op::Reject { job, run, why: "no such flavor".into(), at: now.date },
                    // Dropped without an end.
                    _ => continue,
                };
                let ends = matches!(op, Op::Complete { .. } | Op::Reject { .. });
                let has_result = matches!(op, Op::Complete { .. });
                let reported_in = has_result.then(|| holding.job.buildset.id.clone());
                let until = holding.lease.end().max(now.instant + TIMEOUT);
                written.push((op, until, Purpose::Settle { job: holding.job.id.clone(), ends, reported_in }));
            } else if !holding.renewing
                && now.instant + lease().held() * 2 / 3 >= holding.lease.end()
                && !holding.lease.has_ended(now.instant)
            {
                holding.renewing = true;
                let until = holding.lease.end().min(now.instant + TIMEOUT);
                let purpose = Purpose::Renew { run: run.clone(), written: now.instant };
                written.push((Op::Renew { job, run }, until, purpose));
            }
        }
        self.holdings.retain(|holding| !holding.settling);
        for (op, until, purpose) in written {
            self.commit(op, until, purpose, ids);
        }
    }

    // ---- reports

    /// Claims a report, or delivers the one that it has.
    pub(super) fn deliver(
        &mut self,
        now: Arrival,
        calm: bool,
        ids: &mut Ids,
        rng: &mut fastrand::Rng,
    ) -> Vec<Event> {
        if let Some(Delivering { buildset, delivery, until }) = self.delivering.take() {
            // A try ends in time; one that is late is dropped, and the reporters may have the report or not.
            if now.instant >= until {
                return Vec::new();
            }
            let (delivered, after) = (Default::default(), Duration::from_secs(rng.u64(..60)));
            let how = match if calm { 0 } else { rng.u8(..10) } {
                0..=4 => Settlement::Done,
                5..=6 => {
                    let after_ms = u64::try_from(after.as_millis()).unwrap();
                    Settlement::Retry { due: now.date + after, after_ms, delivered }
                }
                7 => Settlement::GaveUp { why: "refused".into(), at: now.date, delivered },
                // Dropped without an end.
                _ => return vec![Event::Reported { buildset }],
            };
            let reported = how == Settlement::Done;
            self.settle_report(buildset.clone(), delivery, how, now.instant, ids);
            return if reported { vec![Event::Reported { buildset }] } else { Vec::new() };
        }
        let is_claiming = self.is_writing(|purpose| matches!(purpose, Purpose::ClaimReport { .. }));
        if is_claiming || !self.is_ready() {
            return Vec::new();
        }
        let Some(state) = self.replica.state() else { return Vec::new() };
        if let Next::Claim(deliverable) = state.outbox.next(now.instant) {
            let (delivery, buildset) = (ids.run(), deliverable.report.id.clone());
            let entry = deliverable.entry(&delivery, report_lease());
            let until = now.instant + report_lease().margin();
            self.commit(entry, until, Purpose::ClaimReport { buildset, delivery, written: now.instant }, ids);
        }
        Vec::new()
    }

    fn settle_report(
        &mut self,
        buildset: BuildsetId,
        delivery: RunId,
        how: Settlement,
        now: Instant,
        ids: &mut Ids,
    ) {
        let ends = matches!(how, Settlement::Done | Settlement::GaveUp { .. });
        let op = Op::SettleReport { buildset: buildset.clone(), delivery, how };
        self.commit(op, now + report_lease().held(), Purpose::SettleReport { buildset, ends }, ids);
    }

    // ---- leader election

    /// A candidate leads; a leader renews its lease, or steps down.
    pub(super) fn lead(&mut self, now: Instant, resigns: bool, ids: &mut Ids) {
        let writing = |purpose: &Purpose| matches!(purpose, Purpose::Lead(_) | Purpose::RenewLead { .. });
        if self.is_writing(writing) || !self.is_ready() {
            return;
        }
        match self.leadership {
            None => {
                let next = candidate::next(self.candidate, self.replica.state(), leader_lease(), now);
                if let Candidacy::Write(entry) = next {
                    let held = leader_lease().written_at(now);
                    self.commit(entry, held.end(), Purpose::Lead(held), ids);
                }
            }
            Some(held) if held.has_ended(now) || resigns => self.step_down(now, ids),
            Some(held) => {
                let entry = candidate::renewal(self.candidate, leader_lease());
                self.commit(entry, held.end(), Purpose::RenewLead { written: now }, ids);
            }
        }
    }

    /// The leadership ends; the next one is another candidate's.
    fn step_down(&mut self, now: Instant, ids: &mut Ids) {
        self.leadership = None;
        let candidate = std::mem::replace(&mut self.candidate, ids.entry());
        self.commit(Op::StepDown { candidate }, now + TIMEOUT, Purpose::Last, ids);
    }

    // ---- the inbox

    /// Publishes a job to the inbox, unless it is known (`publish::send`); whether that was confirmed.
    pub(super) fn publish(&self, job: &Job, broker: &mut Broker, rng: &mut fastrand::Rng) -> bool {
        if !self.is_ready() {
            return false;
        }
        if self.replica.state().is_some_and(|state| state.knows(&job.id)) {
            return true;
        }
        // The job, the confirm, or both are lost on the way.
        let (arrives, is_confirmed) = (rng.u8(..8) > 0, rng.u8(..8) > 0);
        if arrives {
            broker.publish(job.clone());
        }
        arrives && is_confirmed
    }

    /// Imports a batch of the inbox (`ingest`).
    pub(super) fn import(&mut self, now: Instant, broker: &mut Broker, ids: &mut Ids) -> Vec<Event> {
        let Some(connection) = self.connection.as_ref().filter(|connection| connection.ready) else {
            return Vec::new();
        };
        if self.is_writing(|purpose| matches!(purpose, Purpose::Import(_)))
            || !self.replica.state().is_some_and(import::has_room)
        {
            return Vec::new();
        }
        let jobs = broker.deliver(connection.id, INBOX_PREFETCH);
        if jobs.is_empty() {
            return Vec::new();
        }
        let batch = ImportBatch::new(self.replica.state(), jobs.into_iter().map(Ok));
        let mut events = Vec::new();
        if batch.may_acknowledge(None) {
            self.acknowledge(broker, &mut events);
        } else if let Some(entry) = batch.entry().cloned() {
            self.commit(entry, now + TIMEOUT, Purpose::Import(batch), ids);
        }
        events
    }

    fn acknowledge(&self, broker: &mut Broker, events: &mut Vec<Event>) {
        if let Some(connection) = &self.connection {
            broker.acknowledge(connection.id);
            events.push(Event::Acknowledged);
        }
    }

    // ---- control messages, seen events, and the list of runs

    pub(super) fn broadcast(&mut self, now: Instant, message: String, ids: &mut Ids) {
        self.commit(Op::Broadcast { message }, now + TIMEOUT, Purpose::Broadcast, ids);
    }

    pub(super) fn listen(&mut self) -> Vec<Event> {
        let Some(state) = self.replica.state() else { return Vec::new() };
        let heard = self.listened.new_messages(&state.messages);
        heard.into_iter().map(|message| Event::Heard { message }).collect()
    }

    pub(super) fn record(&mut self, now: Instant, events: Vec<EventKey>, ids: &mut Ids) {
        let op = Op::Seen { events: events.clone(), position: None };
        self.commit(op, now + TIMEOUT, Purpose::Seen(events), ids);
    }

    /// Asks for the runs that a sweep must not touch; `wanted` act at this moment.
    pub(super) fn list_runs(&mut self, now: Instant, wanted: Vec<(JobId, RunId)>, ids: &mut Ids) {
        self.commit(Op::Barrier, now + TIMEOUT, Purpose::ListRuns { wanted }, ids);
    }
}
