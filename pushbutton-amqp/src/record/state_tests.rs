use super::*;
use crate::record::letters::{LETTER_BYTES, LETTERS};
use pushbutton_core::samples::{AT, job_on};

const LEASE: Duration = Duration::from_secs(60);

fn renew(job: &JobId, claim: &RunId) -> Op {
    Op::Renew { job: job.clone(), claim: claim.clone() }
}

fn complete(job: &JobId, claim: &RunId) -> Op {
    Op::Complete { job: job.clone(), claim: claim.clone() }
}

fn hand_back(job: &JobId, claim: &RunId) -> Op {
    Op::HandBack { job: job.clone(), claim: claim.clone() }
}

fn reject(job: &JobId, claim: &RunId, at: Timestamp) -> Op {
    Op::Reject { job: job.clone(), claim: claim.clone(), why: "no such job".to_owned(), at }
}

fn adopt(n: u64) -> Op {
    Op::Adopt { job: job_on(n, "tempest"), claim: RunId::generate(), lease_ms: 60_000 }
}

/// A record that is being written, with its reader's clock.
struct Record {
    state: State,
    offset: u64,
    now: Moment,
}

impl Record {
    fn new() -> Self {
        Self { state: State::default(), offset: 0, now: Moment { instant: Instant::now(), date: AT } }
    }

    fn say(&mut self, op: Op) -> Outcome {
        let outcome = self.state.apply(self.offset, &op, self.now);
        self.offset += 1;
        outcome
    }

    fn pass(&mut self, time: Duration) {
        self.now = Moment { instant: self.now.instant + time, date: self.now.date + time };
    }

    fn adopt(&mut self, n: u64) -> (JobId, RunId) {
        let adopt = adopt(n);
        assert_eq!(self.say(adopt.clone()), Outcome::Done);
        let Op::Adopt { job, claim, .. } = adopt else { unreachable!() };
        (job.id, claim)
    }

    fn next(&self) -> Option<(JobId, u64, u32)> {
        match self.state.next(self.now.instant) {
            Next::Take { job, seen, lost } => Some((job.id, seen, lost)),
            _ => None,
        }
    }

    fn take(&mut self, job: &JobId, seen: u64) -> (Outcome, RunId) {
        let claim = RunId::generate();
        (self.say(Op::Take { job: job.clone(), seen, claim: claim.clone(), lease_ms: 60_000 }), claim)
    }
}

#[test]
fn a_job_is_adopted_once() {
    let mut record = Record::new();
    let (job, claim) = record.adopt(1);
    assert_eq!(record.say(adopt(1)), Outcome::Void);
    assert_eq!(record.say(complete(&job, &claim)), Outcome::Done);
    assert_eq!(record.say(adopt(1)), Outcome::Void);
    assert_eq!(record.say(renew(&job, &claim)), Outcome::Void);
}

#[test]
fn of_two_that_take_a_lost_job_the_first_in_the_record_has_it() {
    let mut record = Record::new();
    let (job, old) = record.adopt(1);
    assert_eq!(record.next(), None, "a lease holds");
    record.pass(LEASE);
    let (found, seen, lost) = record.next().unwrap();
    assert_eq!((&found, lost), (&job, 1));
    assert_eq!(record.take(&job, seen).0, Outcome::Done);
    assert_eq!(record.take(&job, seen).0, Outcome::Void);
    for late in [renew(&job, &old), hand_back(&job, &old)] {
        assert_eq!(record.say(late), Outcome::Void);
    }
    assert_eq!(record.say(complete(&job, &old)), Outcome::Void);
}

#[test]
fn a_renewal_that_stands_first_keeps_the_job_from_who_thought_it_lost() {
    let mut record = Record::new();
    let (job, claim) = record.adopt(1);
    record.pass(LEASE);
    let (_, seen, _) = record.next().unwrap();
    assert_eq!(record.say(renew(&job, &claim)), Outcome::Done);
    assert_eq!(record.take(&job, seen).0, Outcome::Void);
    assert_eq!(record.next(), None, "the lease counts from the renewal");
    // The same renewal once more, from a connection that was cut: it does no harm.
    assert_eq!(record.say(renew(&job, &claim)), Outcome::Done);
}

#[test]
fn a_retry_waits_for_its_time_and_is_counted() {
    let mut record = Record::new();
    let (job, claim) = record.adopt(1);
    let due = record.now.date + Duration::from_secs(90);
    assert_eq!(record.say(Op::Retry { job: job.clone(), claim, due, after_ms: 90_000 }), Outcome::Done);
    record.pass(Duration::from_secs(89));
    assert_eq!(record.next(), None);
    record.pass(Duration::from_secs(1));
    let (_, seen, lost) = record.next().unwrap();
    assert_eq!(lost, 0, "no operator died");
    assert_eq!(record.take(&job, seen).0, Outcome::Done);
    let snapshot = record.state.snapshot();
    assert_eq!((snapshot.open[0].job.failed_attempts, snapshot.open[0].lost), (1, 0));
}

#[test]
fn a_calendar_that_is_wrong_prolongs_no_delay() {
    let mut record = Record::new();
    let (job, claim) = record.adopt(1);
    let due = record.now.date + Duration::from_secs(1_000_000);
    record.say(Op::Retry { job, claim, due, after_ms: 5_000 });
    record.pass(Duration::from_secs(5));
    assert!(record.next().is_some());
}

#[test]
fn a_rejected_job_is_not_adopted_again() {
    let mut record = Record::new();
    let (job, claim) = record.adopt(1);
    assert_eq!(record.say(reject(&job, &claim, AT)), Outcome::Done);
    assert_eq!(record.say(adopt(1)), Outcome::Void);
    assert_eq!(record.say(complete(&job, &claim)), Outcome::Void);
    assert!(State::from_snapshot(&record.state.snapshot(), record.now).knows(&job));
}

#[test]
fn a_job_handed_back_keeps_its_place() {
    let mut record = Record::new();
    let (first, claim) = record.adopt(1);
    let (second, other) = record.adopt(2);
    record.say(hand_back(&second, &other));
    record.say(hand_back(&first, &claim));
    assert_eq!(record.next().unwrap().0, first);
}

#[test]
fn what_the_record_never_heard_of_is_said_so_and_can_be_completed() {
    let mut record = Record::new();
    let (job, claim) = (job_on(1, "tempest").id, RunId::generate());
    assert_eq!(record.say(renew(&job, &claim)), Outcome::Unknown);
    assert_eq!(record.say(complete(&job, &claim)), Outcome::Done);
    assert!(record.state.knows(&job));
}

#[test]
fn dead_letters_and_completed_jobs_are_bounded() {
    let mut record = Record::new();
    for n in 0..(COMPLETED as u64 + 5) {
        let (job, claim) = record.adopt(n);
        record.say(complete(&job, &claim));
    }
    assert!(!record.state.knows(&job_on(0, "tempest").id), "the oldest is forgotten");
    assert!(record.state.knows(&job_on(5, "tempest").id));
    for n in 0..(LETTERS + 3) {
        record.say(Op::Malformed { why: format!("{n}"), at: AT });
    }
    assert_eq!(record.state.dead().len(), LETTERS);
    assert_eq!(record.state.dead().iter().next().unwrap().why, "3", "the oldest go first");
    for n in 0..20 {
        record.say(Op::Malformed { why: format!("{n}{}", "x".repeat(LETTER_BYTES / 10)), at: AT });
    }
    assert!(record.state.dead().len() <= 10);
    let again = State::from_snapshot(&record.state.snapshot(), record.now);
    assert_eq!(again.snapshot(), record.state.snapshot());
    assert_eq!((record.state.open_bytes(), again.dead.bytes()), (0, record.state.dead.bytes()));
}

#[test]
fn a_run_is_leased_from_its_claim_to_its_end() {
    let mut record = Record::new();
    let (first, run) = record.adopt(1);
    let (second, other) = record.adopt(2);
    let leased = |record: &Record| record.state.leased_runs(record.now.instant);
    assert_eq!(leased(&record).len(), 2);
    record.say(hand_back(&second, &other));
    assert_eq!(leased(&record), std::slice::from_ref(&run), "a job that waits has no run");
    record.pass(LEASE / 2);
    record.say(renew(&first, &run));
    record.pass(LEASE / 2);
    assert_eq!(leased(&record), std::slice::from_ref(&run), "a renewal counts from itself");
    let snapshot = serde_json::to_string(&record.state.snapshot()).unwrap();
    let later = State::from_snapshot(&serde_json::from_str(&snapshot).unwrap(), record.now);
    assert_eq!(later.leased_runs(record.now.instant), [run], "who starts with a snapshot knows it too");
    record.pass(LEASE / 2);
    assert_eq!(leased(&record), [], "the lease ran out");
    let (job, seen, _) = record.next().unwrap();
    let (_, taken) = record.take(&job, seen);
    assert_eq!(leased(&record), [taken], "it comes back as another run");
}
