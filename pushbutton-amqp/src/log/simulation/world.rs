//! One world: the broker, its participants, and the order in which things happen, all drawn from a seed.

use std::time::Duration;

use pushbutton_core::Job;
use tokio::time::Instant;

use super::super::entry::{Entry, Op};
use super::super::ids::EventKey;
use super::super::replica::Applied;
use super::super::state_machine::Arrival;
use super::broker::Broker;
use super::clock::Clock;
use super::faults::FaultRates;
use super::invariants::{Invariants, Violation};
use super::participant::{Event, Ids, Participant};

/// How many steps with faults a world has.
const STEPS: u32 = 450;
/// How many rounds without faults it may take until all has ended.
const CALM_ROUNDS: u32 = 400;

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: fastrand::Rng,
    pub(super) ids: Ids,
    /// The true time since the beginning, which nobody knows.
    pub(super) now: Duration,
    pub(super) start: Instant,
    pub(super) broker: Broker,
    pub(super) participants: Vec<Participant>,
    /// Entries of broken connections that arrive late.
    pub(super) late: Vec<(Duration, Entry)>,
    pub(super) rates: FaultRates,
    pub(super) checks: Invariants,
    /// The snapshots in the log: the last entry that each covers, and its own place.
    pub(super) snapshots: Vec<(u64, u64)>,
    /// The participant that must not die, because it knows what the broker has lost.
    pub(super) keeper: Option<usize>,
    /// Whether the faults are over.
    is_calm: bool,
    jobs: Vec<Job>,
    next_message: u32,
    /// What happened, for a person who replays a seed.
    pub(super) trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, start: Instant, jobs: &[Job]) -> Self {
        let (mut rng, mut ids) = (fastrand::Rng::with_seed(seed), Ids::new(!seed));
        let count = rng.usize(2..=4);
        let participant = |_| Participant::new(Clock::new(start, &mut rng), &mut ids, &mut rng);
        let participants = (0..count).map(participant).collect();
        let rates = FaultRates::draw(&mut rng);
        Self {
            rng,
            ids,
            now: Duration::ZERO,
            start,
            broker: Broker::default(),
            participants,
            late: Vec::new(),
            rates,
            checks: Invariants::default(),
            snapshots: Vec::new(),
            keeper: None,
            is_calm: false,
            jobs: jobs.to_vec(),
            next_message: 0,
            trace: None,
        }
    }

    pub(super) fn log(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>8.3} {}", now.as_secs_f64(), text()));
        }
    }

    /// The clock of the reader that judges.
    pub(super) fn steady(&self) -> Arrival {
        Arrival { instant: self.start + self.now, date: pushbutton_core::samples::AT + self.now }
    }

    /// Lives through the faults, then until all jobs have ended.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        for _ in 0..STEPS {
            self.now += Duration::from_millis(match self.rng.u8(..50) {
                0 => self.rng.u64(1_000..8_000),
                _ => self.rng.u64(1..400),
            });
            self.disturb();
            let index = self.rng.usize(..self.participants.len());
            self.step(index)?;
        }
        self.calm()
    }

    pub(super) fn append(&mut self, entry: Entry) {
        let size = match &entry.op {
            Op::Snapshot { .. } | Op::Restore { .. } => 300_000,
            _ => self.rng.usize(100_000..400_000),
        };
        let now = self.steady();
        self.checks.appended(&entry, now, &mut self.rng);
        let as_of = if let Op::Snapshot { as_of, .. } = &entry.op { Some(*as_of) } else { None };
        if self.trace.is_some() {
            let text = format!("    log {}: {entry:?}", self.broker.end());
            self.log(|| text.chars().take(400).collect());
        }
        let offset = self.broker.append(entry, size);
        self.snapshots.extend(as_of.map(|as_of| (as_of, offset)));
    }

    fn late_entries(&mut self) {
        while let Some(index) = self.late.iter().position(|(at, _)| *at <= self.now) {
            let (_, entry) = self.late.remove(index);
            self.append(entry);
        }
    }

    /// One participant does one thing.
    fn step(&mut self, index: usize) -> Result<(), Violation> {
        self.late_entries();
        if self.participants[index].paused_until > self.now {
            return Ok(());
        }
        let events = match self.rng.u8(..100) {
            0..=19 => self.send(index),
            20..=39 => return self.read(index),
            40..=45 => return self.work(index),
            46..=51 => self.connect(index),
            52..=59 => self.claim(index),
            60..=67 => self.act(index),
            68..=73 => self.lead(index),
            74..=79 => self.import(index),
            80..=83 => self.publish(index),
            84..=85 => self.broadcast(index),
            86..=88 => self.participants[index].listen(),
            89..=90 => self.record(index),
            91 => self.list_runs(index),
            92 => self.snapshot(index),
            93..=95 => self.deliver(index),
            _ => self.arrive(index),
        };
        self.check(index, events)?;
        self.poll(index)
    }

    fn poll(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.clocks(index).instant;
        let events = self.participants[index].poll_commits(now, &mut self.broker, &mut self.ids);
        self.check(index, events)
    }

    fn check(&mut self, index: usize, events: Vec<Event>) -> Result<(), Violation> {
        for event in events {
            self.log(|| format!("{index}: {event:?}"));
            self.checks.check(index, event, &self.participants, self.now)?;
        }
        Ok(())
    }

    fn clocks(&self, index: usize) -> Arrival {
        self.participants[index].clock.read(self.now)
    }

    fn send(&mut self, index: usize) -> Vec<Event> {
        if let Some(entry) = self.participants[index].send() {
            self.append(entry);
        }
        Vec::new()
    }

    fn read(&mut self, index: usize) -> Result<(), Violation> {
        for _ in 0..self.rng.u32(1..8) {
            if !self.read_one(index)? {
                break;
            }
        }
        Ok(())
    }

    fn read_one(&mut self, index: usize) -> Result<bool, Violation> {
        let now = self.clocks(index);
        let read = self.participants[index].read(now, &mut self.broker, &mut self.ids);
        if read == Some(Applied::Diverged) {
            self.log(|| format!("{index}: reads the log again"));
        }
        if read == Some(Applied::Yes) {
            self.checks.check_state(&self.participants[index], now)?;
        }
        if self.keeper == Some(index) && self.participants[index].is_ready() {
            self.keeper = None;
        }
        self.poll(index)?;
        Ok(read.is_some())
    }

    fn connect(&mut self, index: usize) -> Vec<Event> {
        let now = self.clocks(index).instant;
        self.participants[index].connect(now, &self.broker, &mut self.ids);
        Vec::new()
    }

    fn claim(&mut self, index: usize) -> Vec<Event> {
        let now = self.clocks(index);
        self.participants[index].claim(now, &mut self.ids);
        Vec::new()
    }

    fn arrive(&mut self, index: usize) -> Vec<Event> {
        let now = self.clocks(index).instant;
        self.participants[index].arrive(now, &mut self.ids, &mut self.rng)
    }

    fn act(&mut self, index: usize) -> Vec<Event> {
        let now = self.clocks(index);
        self.participants[index].act(now, self.is_calm, &mut self.ids, &mut self.rng);
        Vec::new()
    }

    fn deliver(&mut self, index: usize) -> Vec<Event> {
        let now = self.clocks(index);
        self.participants[index].deliver(now, self.is_calm, &mut self.ids, &mut self.rng)
    }

    fn lead(&mut self, index: usize) -> Vec<Event> {
        let now = self.clocks(index).instant;
        let resigns = !self.is_calm && self.rng.u8(..30) == 0;
        self.participants[index].lead(now, resigns, &mut self.ids);
        Vec::new()
    }

    fn import(&mut self, index: usize) -> Vec<Event> {
        let now = self.clocks(index).instant;
        self.participants[index].import(now, &mut self.broker, &mut self.ids)
    }

    /// Publishes one of the jobs, perhaps not for the first time.
    fn publish(&mut self, index: usize) -> Vec<Event> {
        let job = self.rng.choice(&self.jobs).unwrap().clone();
        self.publish_job(index, &job);
        Vec::new()
    }

    fn publish_job(&mut self, index: usize, job: &Job) {
        if self.participants[index].publish(job, &mut self.broker, &mut self.rng) {
            self.log(|| format!("{index}: published job {}", job.id));
            self.checks.confirmed(job);
        }
    }

    fn broadcast(&mut self, index: usize) -> Vec<Event> {
        self.next_message += 1;
        let (now, message) = (self.clocks(index).instant, format!("message {}", self.next_message));
        self.participants[index].broadcast(now, message, &mut self.ids);
        Vec::new()
    }

    fn record(&mut self, index: usize) -> Vec<Event> {
        let now = self.clocks(index).instant;
        let events = (0..self.rng.usize(1..4)).map(|_| EventKey(self.rng.u128(..30))).collect();
        self.participants[index].record(now, events, &mut self.ids);
        Vec::new()
    }

    fn list_runs(&mut self, index: usize) -> Vec<Event> {
        let mut wanted = Vec::new();
        for participant in &self.participants {
            let acting = participant.acting(participant.clock.read(self.now).instant);
            wanted.extend(acting.map(|(job, run)| (job.clone(), run.clone())));
        }
        let now = self.clocks(index).instant;
        self.participants[index].list_runs(now, wanted, &mut self.ids);
        Vec::new()
    }

    fn snapshot(&mut self, index: usize) -> Vec<Event> {
        let now = self.clocks(index);
        self.participants[index].write_due_snapshot(now, &mut self.ids);
        Vec::new()
    }

    /// The faults are over: everybody works, until all has ended.
    fn calm(&mut self) -> Result<(), Violation> {
        self.log(|| "the faults are over".to_owned());
        self.is_calm = true;
        let jobs = self.jobs.clone();
        for participant in &mut self.participants {
            participant.paused_until = Duration::ZERO;
        }
        for round in 0..CALM_ROUNDS {
            self.now += Duration::from_secs(2);
            self.late_entries();
            for index in 0..self.participants.len() {
                for job in &jobs {
                    if !self.checks.is_confirmed(job) {
                        self.publish_job(index, job);
                    }
                }
                self.work(index)?;
            }
            let has_ended = self.checks.all_ended()
                && self.broker.inbox_is_empty()
                && self.late.is_empty()
                && jobs.iter().all(|job| self.checks.is_confirmed(job));
            // Whoever leads does so after a lease at the latest.
            if has_ended && round > 40 {
                return self.settle();
            }
        }
        Err("not all jobs end".to_owned())
    }

    /// One participant does all that it can, without any delay.
    fn work(&mut self, index: usize) -> Result<(), Violation> {
        self.connect(index);
        self.send_and_read(index)?;
        for task in [Self::import, Self::claim, Self::lead, Self::act, Self::deliver] {
            let events = task(self, index);
            self.check(index, events)?;
        }
        self.poll(index)?;
        self.send_and_read(index)?;
        for _ in 0..4 {
            let events = self.arrive(index);
            self.check(index, events)?;
        }
        let events = self.participants[index].listen();
        self.check(index, events)?;
        self.poll(index)
    }

    fn send_and_read(&mut self, index: usize) -> Result<(), Violation> {
        while let Some(entry) = self.participants[index].send() {
            self.append(entry);
        }
        while self.read_one(index)? {}
        Ok(())
    }

    /// Nothing new is written; everybody reads the rest.
    fn settle(&mut self) -> Result<(), Violation> {
        for _ in 0..40 {
            self.now += Duration::from_millis(200);
            for index in 0..self.participants.len() {
                self.connect(index);
                self.poll(index)?;
                self.send_and_read(index)?;
                let events = self.participants[index].listen();
                self.check(index, events)?;
            }
            if self.participants.iter().all(|participant| participant.is_ready() && !participant.is_busy()) {
                return self.checks.check_end(&self.participants, self.now, self.steady());
            }
        }
        Err("participants do not come to rest".to_owned())
    }
}
