use std::time::Duration;

use pushbutton_core::Verdict;
use pushbutton_core::samples::{AT, job_on, success};

use super::super::dead_letters::Letter;
use super::super::entry::Entry;
use super::super::ids::{EventKey, JobKey};
use super::super::import;
use super::super::seen_events::MAX_SEEN;
use super::super::state_machine::{Outcome, State};
use super::super::test_log::Log;
use super::*;
use crate::supervise::MAX_SNAPSHOT;
use Outcome::{Accepted, Rejected};

const LEASE: Duration = Duration::from_secs(60);

impl Log {
    fn import_all(&mut self, jobs: &[Job]) {
        assert_eq!(self.write(Op::Import { jobs: jobs.to_vec(), unreadable: Vec::new() }), Accepted);
    }

    /// Claims the first job that waits.
    fn claim_first(&mut self) -> (Job, RunId) {
        let Next::Claim(next) = self.state.jobs.next(self.now.instant, 0, |_| true) else {
            panic!("none waits")
        };
        let run = RunId::generate();
        let entry = next.entry(&run, LeaseTerm::of_job(LEASE), 5, self.now.date);
        assert_eq!(self.write(entry), Accepted);
        (next.job, run)
    }

    fn complete(&mut self, (job, run): &(Job, RunId)) -> Outcome {
        self.write(completion(job, run))
    }

    fn reject(&mut self, (job, run): &(Job, RunId)) {
        let at = self.now.date;
        let op = Op::Reject { job: job.id.clone(), run: run.clone(), why: "no such flavor".into(), at };
        assert_eq!(self.write(op), Accepted);
    }

    fn requeue(&mut self, job: &Job) -> Outcome {
        let at = self.state.dead.find(job.id.as_str()).expect("there is a letter").at;
        self.write(Op::Requeue { letter: job.id.to_string(), at })
    }

    /// Imports a job and completes it.
    fn run(&mut self, job: &Job) {
        self.import_all(std::slice::from_ref(job));
        let claim = self.claim_first();
        assert_eq!((&claim.0.id, self.complete(&claim)), (&job.id, Accepted));
    }

    fn deliverable(&self) -> Option<Deliverable> {
        match self.state.outbox.next(self.now.instant) {
            Next::Claim(deliverable) => Some(*deliverable),
            _ => None,
        }
    }

    /// Leases the first report that is due.
    fn deliver(&mut self) -> (BuildsetReport, RunId) {
        let next = self.deliverable().expect("a report is due");
        let delivery = RunId::generate();
        assert_eq!(self.write(next.entry(&delivery, LeaseTerm::of_report(LEASE))), Accepted);
        (next.report, delivery)
    }

    fn settle(&mut self, (report, delivery): &(BuildsetReport, RunId), how: Settlement) -> Outcome {
        self.write(Op::SettleReport { buildset: report.id.clone(), delivery: delivery.clone(), how })
    }

    /// The broker has lost what this log has and the other has not.
    fn restore_in(&self, short: &mut Self) {
        let lost = self.state.missing_in(&short.state, short.now).expect("something is missing");
        assert_eq!(short.write(Op::Restore { lost: Box::new(lost) }), Accepted);
        assert_eq!(self.state.missing_in(&short.state, short.now), None);
    }
}

fn completion(job: &Job, run: &RunId) -> Op {
    Op::Complete { job: job.id.clone(), run: run.clone(), result: Box::new(success(job)) }
}

fn set(change: u64, names: &[&str]) -> Vec<Job> {
    let jobs: Vec<Job> = names.iter().map(|name| job_on(change, name)).collect();
    let buildset = Buildset::of(&jobs[0].cause.event, jobs.iter().map(|job| job.name.clone()));
    jobs.into_iter().map(|job| job.with_buildset(buildset.clone())).collect()
}

/// The same jobs of another event.
fn again(jobs: &[Job]) -> Vec<Job> {
    let buildset = jobs[0].buildset_alone("again").id;
    let again = |job: &Job| {
        let mut again = job.clone();
        again.id = job_on(100 + job.change.number.0, job.name.as_str()).id;
        again.buildset.id = buildset.clone();
        again
    };
    jobs.iter().map(again).collect()
}

fn gave_up(at: Timestamp) -> Settlement {
    Settlement::GaveUp { why: "refused".into(), at, delivered: BTreeSet::new() }
}

fn names(report: &BuildsetReport) -> Vec<&str> {
    report.results.iter().map(|result| result.job.name.as_str()).collect()
}

#[test]
fn the_last_result_makes_the_report_due_also_for_one_who_began_with_a_snapshot() {
    let mut log = Log::new();
    log.import_all(&set(1, &["tempest", "unit"]));
    let (first, second) = (log.claim_first(), log.claim_first());
    assert_eq!(log.complete(&second), Accepted);
    assert_eq!(log.deliverable(), None);
    log.state = log.reread();
    let last = Entry::new(completion(&first.0, &first.1));
    assert_eq!(log.write_entry(&last), Accepted);
    let due = log.deliverable().unwrap();
    assert_eq!(names(&due.report), ["tempest", "unit"]);
    // A second copy, and the same claim again: accepted, and nothing changes.
    let before = log.snapshot();
    assert_eq!((log.write_entry(&last), log.complete(&first)), (Accepted, Accepted));
    assert_eq!((log.snapshot(), log.reread().snapshot(log.now)), (before.clone(), before));
    let stranger = (first.0, RunId::generate());
    assert_eq!(log.complete(&stranger), Rejected);
}

#[test]
fn a_lease_on_a_report_is_fenced_by_its_version() {
    let mut log = Log::new();
    log.run(&job_on(1, "tempest"));
    let seen = log.deliverable().unwrap();
    let first = log.deliver();
    assert_eq!(log.write(seen.entry(&RunId::generate(), LeaseTerm::of_report(LEASE))), Rejected);
    assert_eq!(log.deliverable(), None, "a lease holds");
    log.pass(LEASE);
    let second = log.deliver();
    for late in [Settlement::Done, gave_up(AT), Settlement::HandedBack] {
        assert_eq!(log.settle(&first, late), Rejected);
    }
    let retry =
        Settlement::Retry { due: log.now.date + LEASE, after_ms: 60_000, delivered: ["mail".into()].into() };
    assert_eq!((log.settle(&second, retry.clone()), log.settle(&second, retry)), (Accepted, Rejected));
    assert_eq!(log.deliverable(), None, "it waits");
    log.state = log.reread();
    log.pass(LEASE);
    let due = log.deliverable().unwrap();
    assert_eq!((due.failed_attempts, due.delivered), (1, ["mail".to_owned()].into()));
    let third = log.deliver();
    assert_eq!(log.settle(&third, Settlement::Done), Accepted);
    assert_eq!((log.state.outbox.due_len(), log.state.outbox.due_bytes()), (0, 0));
}

#[test]
fn a_delivery_that_nobody_took_counts_for_nothing() {
    let mut log = Log::new();
    log.run(&job_on(1, "tempest"));
    let unused = log.deliver();
    assert_eq!(log.settle(&unused, Settlement::HandedBack), Accepted);
    assert_eq!(log.deliverable().unwrap().failed_attempts, 0);
}

#[test]
fn a_refused_report_is_kept_until_it_is_retried_or_dropped() {
    let mut log = Log::new();
    log.run(&job_on(1, "tempest"));
    let held = log.deliver();
    assert_eq!(log.settle(&held, gave_up(AT)), Accepted);
    assert_eq!((log.deliverable(), log.reread().outbox.undelivered().len()), (None, 1));
    let buildset = &held.0.id;
    let retry = Entry::new(Op::RetryUndelivered { buildset: buildset.clone(), at: Some(AT) });
    assert_eq!(log.write_entry(&retry), Accepted);
    let again = log.deliver();
    let later = AT + LEASE;
    assert_eq!((&again.0, log.settle(&again, gave_up(later))), (&held.0, Accepted));
    assert_eq!(log.write_entry(&retry), Rejected, "a late copy");
    let dropped = Op::DropUndelivered { buildset: buildset.clone(), at: Some(later) };
    assert_eq!((log.write(dropped.clone()), log.write(dropped)), (Accepted, Rejected));
    assert_eq!(log.state.outbox.undelivered_bytes, 0);
}

#[test]
fn a_waiting_job_absorbs_an_equal_one_and_a_claimed_one_does_not() {
    let mut log = Log::new();
    let (first, second) = (set(1, &["tempest"]), again(&set(1, &["tempest", "unit"])));
    log.import_all(&first);
    log.import_all(&second);
    log.import_all(&second);
    let claims = [log.claim_first(), log.claim_first()];
    assert_eq!([&claims[0].0.id, &claims[1].0.id], [&first[0].id, &second[1].id]);
    assert!(log.reread().knows(&second[0].id), "it counts as completed");
    claims.iter().for_each(|claim| assert_eq!(log.complete(claim), Accepted));
    for (names_of, missing) in [(["tempest"], 0), (["unit"], 1)] {
        let due = log.deliver();
        assert_eq!((names(&due.0), due.0.missing.len()), (names_of.to_vec(), missing));
        log.settle(&due, Settlement::Done);
    }
    let third = set(2, &["tempest"]);
    log.import_all(&third);
    log.claim_first();
    log.import_all(&again(&third));
    assert_eq!(log.claim_first().0.id, again(&third)[0].id);
}

#[test]
fn a_dead_letter_ends_its_job_until_it_is_requeued() {
    let mut log = Log::new();
    let jobs = set(1, &["tempest", "unit"]);
    log.import_all(&jobs);
    let (first, second) = (log.claim_first(), log.claim_first());
    log.reject(&second);
    assert_eq!(log.requeue(&second.0), Accepted);
    assert_eq!(log.complete(&first), Accepted);
    assert_eq!(log.deliverable(), None, "it is waited for again");
    let second = log.claim_first();
    log.reject(&second);
    let due = log.deliver();
    assert_eq!((names(&due.0), due.0.missing[0].why.as_str()), (vec!["tempest"], "no such flavor"));
    log.settle(&due, Settlement::Done);
    // The buildset was reported: the job makes a report of its own, with another identity.
    assert_eq!(log.requeue(&second.0), Accepted);
    let last = log.claim_first();
    assert_eq!(log.complete(&last), Accepted);
    let alone = log.deliver().0;
    assert_eq!(names(&alone), ["unit"]);
    assert_ne!(alone.id, due.0.id);
}

/// Core S1-2: an identity that repeats after a day belongs to a new event.
#[test]
fn a_dead_letter_that_is_older_than_a_day_is_replaced() {
    let mut log = Log::new();
    let job = job_on(1, "tempest");
    log.import_all(std::slice::from_ref(&job));
    let claim = log.claim_first();
    log.reject(&claim);
    let created = |hours: u64| {
        let mut later = job.clone();
        later.created = log.now.date + Duration::from_secs(hours * 3600);
        later
    };
    let (soon, later) = (created(23), created(25));
    log.import_all(&[soon]);
    assert_eq!((log.state.dead.len(), log.state.jobs.counts(log.now.instant)), (1, (0, 0)));
    log.import_all(&[later]);
    assert_eq!((log.state.dead.len(), log.state.jobs.counts(log.now.instant)), (0, (1, 0)));
    let claim = log.claim_first();
    assert_eq!(log.complete(&claim), Accepted);
    assert_eq!(names(&log.deliver().0), ["tempest"]);
}

// ---- bounds

#[test]
fn a_flood_of_results_is_bounded_and_all_are_reported() {
    let mut log = Log::new();
    let verbose = |job: &Job| {
        let mut result = success(job);
        let stage = pushbutton_core::StageOutcome::new(pushbutton_core::StageStatus::Passed, LEASE)
            .with_detail("x".repeat(40_000));
        result.stages = vec![pushbutton_core::StageResult::new("run".parse().unwrap(), stage)];
        result
    };
    for n in 0..200 {
        log.import_all(&[job_on(n, "tempest")]);
        let (job, run) = log.claim_first();
        let result = Box::new(verbose(&job));
        assert_eq!(log.write(Op::Complete { job: job.id, run, result }), Accepted);
    }
    assert_eq!(log.state.outbox.due_len(), 200);
    let bytes = log.state.outbox.due_bytes();
    assert!((MAX_WHOLE_BYTES..MAX_WHOLE_BYTES + 500_000).contains(&bytes), "{bytes}");
    assert_eq!(log.reread().snapshot(log.now), log.snapshot());
    for _ in 0..200 {
        let held = log.deliver();
        log.settle(&held, gave_up(AT));
    }
    let outbox = &log.state.outbox;
    assert!(outbox.undelivered_bytes <= MAX_UNDELIVERED_BYTES && outbox.due_bytes() == 0);
    assert_eq!(outbox.undelivered().back().unwrap().report.change.number.0, 199, "the oldest are dropped");
}

#[test]
fn a_buildset_with_a_job_that_never_comes_does_not_stay_for_ever() {
    let mut log = Log::new();
    for n in 0..=MAX_OPEN as u64 {
        log.run(&set(n, &["tempest", "unit"])[0]);
    }
    assert_eq!(log.state.outbox.open_len(), MAX_OPEN);
    let report = log.deliver().0;
    assert_eq!((report.change.number.0, names(&report), report.missing.len()), (0, vec!["tempest"], 1));
    assert_eq!(report.vote(), None);
}

impl Log {
    /// Imports two jobs for each change and completes the first; says which the second ones are.
    fn half_run(&mut self, changes: std::ops::Range<u64>) -> Vec<(Job, RunId)> {
        let half = |n| {
            self.import_all(&set(n, &["tempest", "unit"]));
            let (first, second) = (self.claim_first(), self.claim_first());
            assert_eq!(self.complete(&first), Accepted);
            second
        };
        changes.map(half).collect()
    }
}

/// A second report of the same buildset would be taken for the first one by the reporters.
#[test]
fn jobs_of_a_buildset_that_is_closed_to_make_room_are_reported_separately() {
    let mut log = Log::new();
    let last_claims = log.half_run(0..MAX_OPEN as u64 + 1);
    let early = log.deliver();
    assert_eq!((early.0.change.number.0, names(&early.0)), (0, vec!["tempest"]));
    assert_eq!(early.0.missing[0].why, "it has not ended yet, and is reported separately");
    assert_eq!(log.settle(&early, Settlement::Done), Accepted);

    let unit = &last_claims[0];
    let record = log.state.jobs.get(&unit.0.id).unwrap().clone();
    assert_eq!(log.reread().jobs.get(&unit.0.id), Some(&record), "a reader of a snapshot has the same");
    assert_eq!(log.reread().jobs.bytes(), log.state.jobs.bytes());
    assert_eq!(log.complete(unit), Accepted);
    let late = log.deliver();
    assert_eq!((late.0.change.number.0, names(&late.0), late.0.missing.len()), (0, vec!["unit"], 0));
    assert_ne!(late.0.id, early.0.id);
    assert_eq!(log.state.outbox.open_len(), MAX_OPEN);
    // The others are reported whole.
    assert_eq!(log.complete(&last_claims[1]), Accepted);
    assert_eq!(names(&log.deliver().0), ["tempest", "unit"]);
}

#[test]
fn a_job_is_reported_separately_also_if_the_broker_has_lost_that_its_buildset_was_closed() {
    let (mut log, mut short) = (Log::new(), Log::new());
    let claims = log.half_run(0..MAX_OPEN as u64);
    (short.state, short.offset) = (log.state.clone(), log.offset);
    log.half_run(MAX_OPEN as u64..MAX_OPEN as u64 + 1);
    log.restore_in(&mut short);
    let early = short.deliver();
    assert_eq!((early.0.change.number.0, names(&early.0)), (0, vec!["tempest"]));
    assert_eq!(short.settle(&early, Settlement::Done), Accepted);
    assert_eq!(short.complete(&claims[0]), Accepted);
    let late = short.deliver().0;
    assert_eq!((late.change.number.0, names(&late)), (0, vec!["unit"]));
    assert_ne!(late.id, early.0.id);
}

/// Results of jobs whose buildset waits for another job are part of each snapshot, which must fit into a message.
#[test]
fn open_buildsets_take_a_bounded_number_of_bytes() {
    let mut log = Log::new();
    let names = ["tempest", "unit"];
    for n in 0..MAX_OPEN as u64 {
        log.import_all(&set(n, &names)[..1]);
        let claim = log.claim_first();
        let result = success(&claim.0).with_reason("x".repeat(32 << 10));
        let result = Box::new(result);
        log.write(Op::Complete { job: claim.0.id.clone(), run: claim.1, result });
    }
    let open = log.state.outbox.open_len();
    assert!((MAX_OPEN / 8..MAX_OPEN).contains(&open), "{open}");
    assert_eq!(log.deliverable().unwrap().report.change.number.0, 0, "the oldest is reported as it is");
    assert_eq!(log.reread().outbox.open_len(), log.state.outbox.open_len(), "the same after a snapshot");
}

/// RabbitMQ 4 closes the channel on which a message of more than 16 MiB comes. Nothing is delivered, and jobs go on for as
/// long as they may; all else is as large as it may be, in the form that takes most bytes as JSON.
#[test]
fn a_snapshot_of_the_largest_state_fits_into_a_message() {
    let mut log = Log::new();
    let mut changes = 0..;
    while import::has_room(&log.state) {
        let batch: Vec<_> = changes.by_ref().take(100).flat_map(|n| set(n, &["tempest", "unit"])).collect();
        log.import_all(&batch);
    }
    let verbose = |job: &Job| {
        let outcome = pushbutton_core::StageOutcome::new(pushbutton_core::StageStatus::Failed, LEASE);
        let stage = |n: u32| {
            let outcome = outcome.clone().with_detail("x".repeat(10_000));
            pushbutton_core::StageResult::new(format!("run-{n}").parse().unwrap(), outcome)
        };
        success(job)
            .with_stages((0..20).map(stage).collect::<Vec<_>>())
            .with_reason("x".repeat(10_000))
            .bounded()
    };
    while !log.state.outbox.is_full()
        && let Next::Claim(next) = log.state.jobs.next(log.now.instant, 0, |_| true)
    {
        let (run, job) = (RunId::generate(), next.job.clone());
        assert_eq!(log.write(next.entry(&run, LeaseTerm::of_job(LEASE), 5, AT)), Accepted);
        // Of every second buildset one job runs on.
        if job.name.as_str() == "tempest" || job.change.number.0 % 2 == 0 {
            let result = Box::new(verbose(&job));
            assert_eq!(log.write(Op::Complete { job: job.id.clone(), run, result }), Accepted);
        }
    }
    assert!(log.state.outbox.is_full() && log.state.outbox.open_bytes > MAX_OPEN_BYTES / 2);
    assert!(!import::has_room(&log.state));

    let (report, any) = (log.deliverable().unwrap().report, job_on(1, "tempest"));
    for n in 0..MAX_COMPLETED as u128 {
        log.state.jobs.complete(JobKey(n), Some(RunId::generate()));
        log.state.outbox.remember(any.buildset_alone(&n.to_string()).id);
    }
    while log.state.outbox.undelivered_bytes < MAX_UNDELIVERED_BYTES - 10_000 {
        let mut report = report.clone();
        report.results.truncate(1);
        report.results[0].stages.clear();
        report.id = any.buildset_alone(&format!("undelivered {}", log.state.outbox.undelivered.len())).id;
        log.state.outbox.keep(UndeliveredReport::new(report, "\u{1}".repeat(200)));
    }
    for n in 0..2_000 {
        let why = format!("{n}{}", "\u{1}".repeat(1_900));
        log.state.dead.keep(Letter { job: None, why, at: AT });
    }
    let keys: Vec<_> = (0..MAX_SEEN as u128).map(EventKey).collect();
    log.state.events.record(&keys);
    for _ in 0..20_000 {
        log.write(Op::Broadcast { message: "\"".repeat(100) });
    }
    let state = Box::new(log.snapshot());
    let snapshot = Entry::new(Op::Snapshot { as_of: u64::MAX, state });
    let size = crate::codec::encode(&snapshot).unwrap().len();
    assert!((12 << 20..MAX_SNAPSHOT).contains(&size), "{size}");
}

#[test]
fn an_undelivered_report_is_kept_whatever_its_size() {
    let mut log = Log::new();
    for n in 0..2 {
        let job = job_on(n, "tempest");
        log.import_all(std::slice::from_ref(&job));
        let claim = log.claim_first();
        let result = Box::new(success(&claim.0).with_reason("x".repeat(MAX_UNDELIVERED_BYTES)));
        log.write(Op::Complete { job: claim.0.id.clone(), run: claim.1, result });
        let held = log.deliver();
        log.settle(&held, gave_up(AT));
        let kept: Vec<_> =
            log.state.outbox.undelivered().iter().map(|it| it.report.change.number.0).collect();
        assert_eq!(kept, [n]);
    }
}

// ---- what the broker loses

/// A result must not be lost with an unsynced end of the log.
#[test]
fn results_that_the_broker_has_lost_are_restored() {
    let (mut log, mut short) = (Log::new(), Log::new());
    let (pair, single, refused) = (set(1, &["tempest", "unit"]), job_on(2, "tempest"), job_on(3, "tempest"));
    let import = Entry::new(Op::Import { jobs: pair.clone(), unreadable: Vec::new() });
    log.write_entry(&import);
    short.write_entry(&import);
    // From here on the broker loses everything.
    let (first, second) = (log.claim_first(), log.claim_first());
    assert_eq!(log.complete(&first), Accepted);
    log.run(&refused);
    let held = log.deliver();
    log.settle(&held, gave_up(AT));
    log.run(&single);
    let delivering = log.deliver();
    log.restore_in(&mut short);
    assert_eq!(short.complete(&second), Accepted, "the run goes on");
    let due = short.deliverable().unwrap();
    assert_eq!(names(&due.report), ["tempest", "unit"]);
    assert_eq!(short.settle(&delivering, Settlement::Done), Accepted, "its lease was restored");
    assert_eq!(short.state.outbox.undelivered().len(), 1);
    // Another participant that knew less restores nothing that has ended since.
    let due = short.deliver();
    assert_eq!(short.settle(&due, Settlement::Done), Accepted);
    let before = short.snapshot();
    let lost = log.state.missing_in(&State::default(), log.now).unwrap();
    short.write(Op::Restore { lost: Box::new(lost) });
    assert_eq!(short.snapshot(), before);
}

#[test]
fn a_delivery_that_the_broker_has_lost_is_not_made_again() {
    let (mut log, mut short) = (Log::new(), Log::new());
    let job = job_on(1, "tempest");
    let run = RunId::generate();
    let import = Entry::new(Op::Import { jobs: vec![job.clone()], unreadable: Vec::new() });
    let version = (0, import.id);
    let claim =
        Op::Claim { job: job.id.clone(), expected_version: version, run: run.clone(), lease_ms: 60_000 };
    for entry in [import, Entry::new(claim), Entry::new(completion(&job, &run))] {
        log.write_entry(&entry);
        short.write_entry(&entry);
    }
    let held = log.deliver();
    assert_eq!(log.settle(&held, Settlement::Done), Accepted);
    assert!(short.deliverable().is_some());
    log.restore_in(&mut short);
    assert_eq!((short.deliverable(), short.state.outbox.due_len()), (None, 0));
}

/// The job was run again by somebody who did not know its lost result: one of the two results counts.
#[test]
fn a_restored_result_does_not_double_a_report() {
    let (mut log, mut short) = (Log::new(), Log::new());
    let import = Entry::new(Op::Import { jobs: vec![job_on(1, "tempest")], unreadable: Vec::new() });
    log.write_entry(&import);
    short.write_entry(&import);
    let lost = log.claim_first();
    assert_eq!(log.complete(&lost), Accepted);
    let second = short.claim_first();
    assert_eq!(short.complete(&second), Accepted);
    let due = short.deliver();
    assert_eq!(short.settle(&due, Settlement::Done), Accepted);
    assert_eq!(log.state.missing_in(&short.state, short.now), None);
    assert_eq!((short.deliverable(), due.0.results[0].verdict.clone()), (None, Verdict::Success));
}

/// Found by the simulation, seed 3741: a job that has completed must not stay a dead letter, or readers that began with
/// a snapshot differ from those that read every entry.
#[test]
fn a_restored_result_ends_the_dead_letter_of_its_job() {
    let (mut log, mut short) = (Log::new(), Log::new());
    let import = Entry::new(Op::Import { jobs: vec![job_on(1, "tempest")], unreadable: Vec::new() });
    log.write_entry(&import);
    short.write_entry(&import);
    let lost = log.claim_first();
    assert_eq!(log.complete(&lost), Accepted);
    let second = short.claim_first();
    short.reject(&second);
    assert_eq!(short.state.dead.len(), 1);
    log.restore_in(&mut short);
    assert_eq!(short.state.dead.len(), 0, "its result counts");
    let read_back = State::from_snapshot(&short.snapshot(), short.now);
    assert_eq!(read_back.snapshot(short.now), short.snapshot());
}
