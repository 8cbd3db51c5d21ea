use std::collections::BTreeSet;

use jiff::SignedDuration;
use pushbutton_core::samples::{AT, job_on, success};
use pushbutton_core::{InstallationId, Position, RunId};

use super::*;
use crate::log::dead_letters::{MAX_BYTES, MAX_LETTERS};
use crate::log::entry::Op;
use crate::log::ids::{EventKey, Version};
use crate::log::jobs::{MAX_COMPLETED, Next};
use crate::log::seen_events::MAX_SEEN;
use crate::log::test_log::Log;

const LEASE: Duration = Duration::from_secs(60);
use Outcome::{Accepted, Rejected};

impl Log {
    fn import(&mut self, n: u64) -> JobId {
        let job = job_on(n, "tempest");
        let id = job.id.clone();
        assert_eq!(self.write(Op::Import { jobs: vec![job], unreadable: Vec::new() }), Accepted);
        id
    }

    /// What can be claimed now, and how many leases on it ran out.
    fn next(&self) -> Option<(JobId, Version, u32)> {
        match self.state.jobs.next(self.now.instant, 0, |_| true) {
            Next::Claim(next) => Some((next.job.id, next.version, next.lost_leases)),
            _ => None,
        }
    }

    fn claim(&mut self, job: &JobId, expected_version: Version) -> (Outcome, RunId) {
        let run = RunId::generate();
        let claim = Op::Claim { job: job.clone(), expected_version, run: run.clone(), lease_ms: 60_000 };
        (self.write(claim), run)
    }

    /// A new job that is claimed.
    fn claimed(&mut self, n: u64) -> (JobId, RunId) {
        let job = self.import(n);
        let version = self.state.jobs.get(&job).unwrap().version;
        let (outcome, run) = self.claim(&job, version);
        assert_eq!(outcome, Accepted);
        (job, run)
    }
}

fn renew(job: &JobId, run: &RunId) -> Op {
    Op::Renew { job: job.clone(), run: run.clone() }
}

fn complete(job: &JobId, run: &RunId) -> Op {
    let mut done = job_on(1, "tempest");
    done.id = job.clone();
    Op::Complete { job: job.clone(), run: run.clone(), result: Box::new(success(&done)) }
}

fn hand_back(job: &JobId, run: &RunId) -> Op {
    Op::HandBack { job: job.clone(), run: run.clone() }
}

fn reject(job: &JobId, run: &RunId) -> Op {
    Op::Reject { job: job.clone(), run: run.clone(), why: "no such job".to_owned(), at: AT }
}

fn seen(events: impl IntoIterator<Item = u128>, position: Option<i64>) -> Op {
    let position = position.map(|at| Position::at(AT + SignedDuration::from_secs(at)));
    Op::Seen { events: events.into_iter().map(EventKey).collect(), position }
}

fn unreadable(why: String) -> Op {
    Op::Import { jobs: Vec::new(), unreadable: vec![Letter { job: None, why, at: AT }] }
}

#[test]
fn a_job_is_imported_once() {
    let mut log = Log::new();
    let (job, run) = log.claimed(1);
    log.import(1);
    assert_eq!(log.next(), None, "it is leased, and there is no second one");
    assert_eq!(log.write(complete(&job, &run)), Accepted);
    log.import(1);
    assert_eq!(log.next(), None, "it is completed");
    assert_eq!(log.write(renew(&job, &run)), Rejected);
}

#[test]
fn of_two_claims_the_first_in_the_log_is_accepted() {
    let mut log = Log::new();
    let (job, old) = log.claimed(1);
    assert_eq!(log.next(), None, "a lease holds");
    log.pass(LEASE);
    let (found, version, lost) = log.next().unwrap();
    assert_eq!((&found, lost), (&job, 1));
    assert_eq!(log.claim(&job, version).0, Accepted);
    assert_eq!(log.claim(&job, version).0, Rejected);
    for late in [renew(&job, &old), hand_back(&job, &old), complete(&job, &old)] {
        assert_eq!(log.write(late), Rejected);
    }
}

#[test]
fn a_renewal_before_a_claim_keeps_the_job() {
    let mut log = Log::new();
    let (job, run) = log.claimed(1);
    log.pass(LEASE);
    let (_, version, _) = log.next().unwrap();
    let renewal = Entry::new(renew(&job, &run));
    assert_eq!(log.write_entry(&renewal), Accepted);
    assert_eq!(log.claim(&job, version).0, Rejected);
    assert_eq!(log.next(), None, "the lease counts from the renewal");
    // A second copy, of a connection that broke, does no harm.
    assert_eq!(log.write_entry(&renewal), Accepted);
    assert_eq!(log.claim(&job, version).0, Rejected);
}

#[test]
fn a_late_copy_of_a_renewal_brings_no_old_version_back() {
    let mut log = Log::new();
    let (job, run) = log.claimed(1);
    let first = Entry::new(renew(&job, &run));
    log.write_entry(&first);
    log.pass(LEASE);
    let (_, version, _) = log.next().unwrap();
    log.write(renew(&job, &run));
    log.write_entry(&first);
    assert_eq!(log.claim(&job, version).0, Rejected);
}

#[test]
fn a_retry_waits_for_its_time_and_is_counted() {
    let mut log = Log::new();
    let (job, run) = log.claimed(1);
    let due = log.now.date + Duration::from_secs(90);
    assert_eq!(log.write(Op::Retry { job: job.clone(), run, due, after_ms: 90_000 }), Accepted);
    log.pass(Duration::from_secs(89));
    assert_eq!(log.next(), None);
    log.pass(Duration::from_secs(1));
    let (_, version, lost) = log.next().unwrap();
    assert_eq!(lost, 0, "no operator died");
    assert_eq!(log.claim(&job, version).0, Accepted);
    let job = &log.snapshot().jobs[0];
    assert_eq!((job.job.failed_attempts, job.lost_leases), (1, 0));
}

#[test]
fn a_wrong_calendar_prolongs_no_delay() {
    let mut log = Log::new();
    let (job, run) = log.claimed(1);
    let due = log.now.date + Duration::from_secs(1_000_000);
    log.write(Op::Retry { job, run, due, after_ms: 5_000 });
    log.pass(Duration::from_secs(5));
    assert!(log.next().is_some());
}

#[test]
fn a_rejected_job_is_not_imported_again() {
    let mut log = Log::new();
    let (job, run) = log.claimed(1);
    assert_eq!(log.write(reject(&job, &run)), Accepted);
    log.import(1);
    assert_eq!(log.next(), None);
    assert_eq!(log.write(complete(&job, &run)), Rejected);
    assert!(log.reread().knows(&job));
}

#[test]
fn a_job_handed_back_keeps_its_place() {
    let mut log = Log::new();
    let (first, run) = log.claimed(1);
    let (second, other) = log.claimed(2);
    log.write(hand_back(&second, &other));
    log.write(hand_back(&first, &run));
    assert_eq!(log.next().unwrap().0, first);
    let Next::Claim(next) = log.reread().jobs.next(log.now.instant, 0, |_| true) else { panic!("it waits") };
    assert_eq!(next.job.id, first, "also in a snapshot");
}

#[test]
fn a_claimer_can_leave_the_first_jobs_to_others() {
    let mut log = Log::new();
    assert_eq!(log.state.jobs.next(log.now.instant, 7, |_| true), Next::Never);
    let jobs = [log.import(1), log.import(2), log.import(3)];
    let after = |log: &Log, skip| match log.state.jobs.next(log.now.instant, skip, |_| true) {
        Next::Claim(next) => next.job.id,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        [0, 1, 2, 3, 4, 200].map(|skip| after(&log, skip)),
        [0, 1, 2, 0, 1, 2].map(|at| jobs[at].clone())
    );
    let first = log.next().unwrap();
    assert_eq!(log.claim(&first.0, first.1).0, Accepted);
    assert_eq!([0, 1, 2].map(|skip| after(&log, skip)), [1, 2, 1].map(|at| jobs[at].clone()), "it is leased");
}

#[test]
fn a_job_that_nobody_here_can_run_blocks_no_other() {
    let mut log = Log::new();
    let (first, second) = (log.import(1), log.import(2));
    let next = |log: &Log, wanted: &JobId| log.state.jobs.next(log.now.instant, 0, |job| job.id == *wanted);
    let Next::Claim(found) = next(&log, &second) else { panic!("it waits") };
    assert_eq!(found.job.id, second);
    assert_eq!(log.claim(&second, found.version).0, Accepted);
    assert_eq!(log.next().unwrap().0, first, "the other one waits in its place");
    assert!(matches!(next(&log, &second), Next::At(_)), "until its lease ends");
    assert_eq!(log.state.jobs.next(log.now.instant, 0, |_| false), Next::Never);
}

#[test]
fn a_job_that_the_log_does_not_know_can_be_completed_and_nothing_else() {
    let mut log = Log::new();
    let (job, run) = (job_on(1, "tempest").id, RunId::generate());
    assert_eq!(log.write(renew(&job, &run)), Rejected);
    assert_eq!(log.write(complete(&job, &run)), Accepted);
    assert!(log.state.knows(&job));
}

#[test]
fn dead_letters_and_completed_jobs_are_bounded() {
    let mut log = Log::new();
    for n in 0..(MAX_COMPLETED as u64 + 5) {
        let (job, run) = log.claimed(n);
        log.write(complete(&job, &run));
    }
    assert!(!log.state.knows(&job_on(0, "tempest").id), "the oldest is forgotten");
    assert!(log.state.knows(&job_on(5, "tempest").id));
    for n in 0..(MAX_LETTERS + 3) {
        log.write(unreadable(format!("{n}")));
    }
    assert_eq!(log.state.dead.len(), MAX_LETTERS);
    assert_eq!(log.state.dead.iter().next().unwrap().why, "3", "the oldest go first");
    for n in 0..20 {
        log.write(unreadable(format!("{n}{}", "x".repeat(MAX_BYTES / 10))));
    }
    assert!(log.state.dead.len() <= 10);
    let again = log.reread();
    assert_eq!(again.snapshot(log.now), log.snapshot());
    assert_eq!((log.state.jobs.bytes(), again.dead.bytes()), (0, log.state.dead.bytes()));
}

#[test]
fn a_run_is_leased_from_its_claim_to_its_end() {
    let mut log = Log::new();
    let (first, run) = log.claimed(1);
    let (second, other) = log.claimed(2);
    let leased = |log: &Log| log.state.jobs.leased_runs(log.now.instant);
    assert_eq!(leased(&log).len(), 2);
    log.write(hand_back(&second, &other));
    assert_eq!(leased(&log), std::slice::from_ref(&run), "a job that waits has no run");
    log.pass(LEASE / 2);
    log.write(renew(&first, &run));
    log.pass(LEASE / 2);
    assert_eq!(leased(&log), std::slice::from_ref(&run), "a renewal counts from itself");
    assert_eq!(log.reread().jobs.leased_runs(log.now.instant), [run], "a snapshot has it, too");
    log.pass(LEASE / 2);
    assert_eq!(leased(&log), [], "the lease ran out");
    let (job, version, _) = log.next().unwrap();
    let (_, claimed) = log.claim(&job, version);
    assert_eq!(leased(&log), [claimed], "it returns as another run");
}

// ---- leader election

impl Log {
    fn lead(&mut self, candidate: EntryId) -> Outcome {
        let expected_version = self.state.leader().map(|(leader, _)| leader.version);
        let free = self.state.leader().is_none_or(|(_, end)| *end <= self.now.instant);
        self.write(Op::Lead {
            candidate,
            expected_version: expected_version.filter(|_| free),
            lease_ms: 60_000,
        })
    }

    fn leader(&self) -> Option<EntryId> {
        self.state.leader().map(|(leader, _)| leader.candidate)
    }
}

#[test]
fn a_leader_renews_and_a_second_candidate_waits_for_the_end_of_its_lease() {
    let mut log = Log::new();
    let (one, other) = (EntryId::new(), EntryId::new());
    assert_eq!(log.lead(one), Accepted);
    assert_eq!(log.lead(other), Rejected);
    log.pass(LEASE / 2);
    assert_eq!(log.lead(one), Accepted);
    log.pass(LEASE / 2);
    assert_eq!((log.lead(other), log.leader()), (Rejected, Some(one)), "the renewal counts");
    log.pass(LEASE / 2);
    assert_eq!((log.lead(other), log.leader()), (Accepted, Some(other)));
    assert_eq!(
        log.write(Op::Lead { candidate: one, expected_version: None, lease_ms: 1 }),
        Rejected,
        "too late"
    );
    assert_eq!(log.reread().leader().map(|(leader, _)| leader.candidate), Some(other));
}

#[test]
fn a_renewal_before_a_rival_keeps_the_leadership() {
    let mut log = Log::new();
    let (one, other) = (EntryId::new(), EntryId::new());
    log.lead(one);
    log.pass(LEASE);
    let expected_version = log.state.leader().map(|(leader, _)| leader.version);
    log.lead(one);
    let rival = Op::Lead { candidate: other, expected_version, lease_ms: 60_000 };
    assert_eq!((log.write(rival), log.leader()), (Rejected, Some(one)));
}

#[test]
fn a_leader_that_steps_down_is_followed_at_once() {
    let mut log = Log::new();
    let (one, other) = (EntryId::new(), EntryId::new());
    log.lead(one);
    assert_eq!(log.write(Op::StepDown { candidate: other }), Rejected, "only the leader can");
    assert_eq!(log.write(Op::StepDown { candidate: one }), Accepted);
    assert_eq!(log.lead(other), Accepted);
    assert_eq!(log.write(Op::StepDown { candidate: one }), Rejected, "a late copy");
    assert_eq!(log.leader(), Some(other));
}

// ---- seen events and control messages

#[test]
fn an_event_is_new_once_and_a_position_never_goes_back() {
    let mut log = Log::new();
    assert_eq!(log.write(seen([1, 2, 1], Some(20))), Outcome::Recorded(vec![true, true, false]));
    assert_eq!(log.write(seen([2, 3], Some(10))), Outcome::Recorded(vec![false, true]));
    let at = |state: &State| state.events.position().map(|position| position.at);
    assert_eq!(at(&log.state), Some(AT + SignedDuration::from_secs(20)));
    let again = log.reread();
    assert!(again.events.has_seen(EventKey(3)) && !again.events.has_seen(EventKey(4)));
    assert_eq!(at(&again), at(&log.state));
}

#[test]
fn the_newest_events_are_remembered() {
    let mut log = Log::new();
    log.write(seen(0..10, None));
    log.write(seen(10..MAX_SEEN as u128 + 10, None));
    let again = log.reread();
    for state in [&log.state, &again] {
        assert_eq!(state.events.keys().count(), MAX_SEEN);
        assert!(!state.events.has_seen(EventKey(9)) && state.events.has_seen(EventKey(10)));
    }
    assert_eq!(again.snapshot(log.now), log.snapshot());
}

fn texts(state: &State) -> Vec<&str> {
    state.messages.iter().map(|message| message.text.as_str()).collect()
}

#[test]
fn control_messages_are_kept_for_a_day_in_order_also_across_snapshots() {
    let mut log = Log::new();
    let message = |n: u32| Op::Broadcast { message: n.to_string() };
    log.write(message(1));
    log.pass(Duration::from_secs(12 * 3600));
    let copy = Entry::new(message(2));
    log.write_entry(&copy);
    log.write_entry(&copy);
    log.pass(Duration::from_secs(12 * 3600));
    assert_eq!(texts(&log.reread()), ["1", "2"]);
    // The age goes on in a reader that began with the snapshot.
    log.state = log.reread();
    log.pass(Duration::from_secs(2 * 3600));
    assert_eq!(texts(&log.reread()), ["2"]);
    log.write(message(3));
    assert_eq!(texts(&log.state), ["2", "3"]);
}

#[test]
fn a_flood_of_control_messages_is_bounded() {
    let mut log = Log::new();
    for n in 0..50 {
        log.write(Op::Broadcast { message: format!("{n:02}{}", "x".repeat(100_000)) });
    }
    let kept = texts(&log.state);
    assert!(kept.len() == 20 && kept[19].starts_with("49"), "{} are kept", kept.len());
}

/// L4: whoever asks first decides, and nothing changes that.
#[test]
fn l4_of_several_installation_ids_the_first_in_the_log_stays() {
    let id = |digits: &str| InstallationId::new(digits).unwrap();
    let give = |digits: &str| Entry::new(Op::Installation { installation: id(digits) });
    let (first, second) = (give("00000000000a"), give("00000000000b"));
    let (mut log, mut short) = (Log::new(), Log::new());
    let outcomes = [&first, &second, &first].map(|entry| log.write_entry(entry));
    assert_eq!(outcomes, [Accepted, Rejected, Rejected]);
    assert_eq!(log.reread().installation, Some(id("00000000000a")), "a snapshot has it");
    // The broker has lost it: whoever knows it restores it, unless there is another one by then.
    let lost = log.state.missing_in(&short.state, short.now).unwrap();
    let restore = Entry::new(Op::Restore { lost: Box::new(lost) });
    let mut other = Log::new();
    other.write_entry(&second);
    assert_eq!([&mut short, &mut other].map(|log| log.write_entry(&restore)), [Accepted, Accepted]);
    assert_eq!(short.state.installation, Some(id("00000000000a")));
    assert_eq!(other.state.installation, Some(id("00000000000b")));
    assert_eq!(log.state.missing_in(&other.state, other.now), None);
}

// ---- what the broker loses

/// One participant knows more than the broker has: after a restore the state is what it was.
#[test]
fn what_the_broker_has_lost_is_restored() {
    let (mut log, mut short) = (Log::new(), Log::new());
    let prefix = [
        Entry::new(Op::Import {
            jobs: vec![job_on(1, "tempest"), job_on(2, "tempest")],
            unreadable: Vec::new(),
        }),
        Entry::new(seen([1], Some(1))),
        Entry::new(Op::Broadcast { message: "1".into() }),
    ];
    for entry in &prefix {
        log.write_entry(entry);
        short.write_entry(entry);
    }
    // From here on the broker loses everything.
    let (first, version, _) = log.next().unwrap();
    let (_, run) = log.claim(&first, version);
    let (third, other_run) = log.claimed(3);
    let (fourth, done) = log.claimed(4);
    log.write(complete(&fourth, &done));
    let (fifth, dead) = log.claimed(5);
    log.write(reject(&fifth, &dead));
    log.write(unreadable("hello".into()));
    log.write(seen([2, 3], Some(5)));
    log.write(Op::Broadcast { message: "2".into() });
    let leader = EntryId::new();
    log.lead(leader);
    log.import(6);

    let lost = log.state.missing_in(&short.state, short.now).unwrap();
    let restore = Entry::new(Op::Restore { lost: Box::new(lost) });
    assert_eq!(short.write_entry(&restore), Accepted);
    assert_eq!(log.state.missing_in(&short.state, short.now), None);
    let runs = |state: &State| state.jobs.leased_runs(short.now.instant).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(runs(&short.state), BTreeSet::from([run.clone(), other_run.clone()]));
    assert!(short.state.jobs.is_completed(JobKey::of(&fourth)));
    assert_eq!(short.state.dead.len(), 2);
    assert!(short.state.events.has_seen(EventKey(3)));
    assert_eq!((texts(&short.state), short.leader()), (vec!["1", "2"], Some(leader)));
    let waits = |log: &Log, n: u64| log.state.jobs.get(&job_on(n, "tempest").id).is_some();
    assert!(waits(&short, 2) && waits(&short, 6));
    // Everybody goes on; another participant that restores the same changes nothing.
    assert_eq!(short.write(renew(&first, &run)), Accepted);
    assert_eq!(short.write(complete(&third, &other_run)), Accepted);
    let before = short.snapshot();
    assert_eq!(short.write_entry(&restore), Accepted);
    assert_eq!(short.snapshot(), before);
}

/// A lease is restored only if nothing happened to the job since.
#[test]
fn a_restored_lease_takes_no_job_from_another() {
    let (mut log, mut short) = (Log::new(), Log::new());
    let import = Entry::new(Op::Import { jobs: vec![job_on(1, "tempest")], unreadable: Vec::new() });
    log.write_entry(&import);
    short.write_entry(&import);
    let (job, version, _) = log.next().unwrap();
    let (_, lost_run) = log.claim(&job, version);
    let lost = log.state.missing_in(&short.state, short.now).unwrap();
    let (_, run) = short.claim(&job, version);
    short.write(Op::Restore { lost: Box::new(lost) });
    assert_eq!(short.state.jobs.leased_runs(short.now.instant), [run]);
    assert_eq!(short.write(renew(&job, &lost_run)), Rejected);
}

/// Only the monotonic clock of the reader counts, whatever its calendar says.
#[test]
fn a_clock_step_ends_no_lease_and_keeps_none() {
    for days in [-1, 1] {
        let mut log = Log::new();
        let (job, run) = log.claimed(1);
        log.now.date += SignedDuration::from_hours(24 * days);
        assert_eq!(log.write(renew(&job, &run)), Accepted);
        log.pass(LEASE - Duration::from_secs(1));
        assert_eq!(log.next(), None, "{days} days: the lease lasts");
        assert_eq!(log.state.jobs.leased_runs(log.now.instant), [run]);
        log.pass(Duration::from_secs(1));
        assert_eq!(log.next().map(|(job, ..)| job), Some(job), "{days} days: it ends in time");
    }
}

/// The log is the fence: who is late keeps the job, until another claim is in the log.
#[test]
fn a_late_renewal_is_accepted_until_another_claim() {
    let mut log = Log::new();
    let (job, run) = log.claimed(1);
    log.pass(LEASE * 2);
    let (_, stale, _) = log.next().unwrap();
    assert_eq!(log.write(renew(&job, &run)), Accepted);
    assert_eq!(log.claim(&job, stale).0, Rejected, "the claim came after the renewal");
    log.pass(LEASE * 2);
    let (_, version, _) = log.next().unwrap();
    assert_eq!(log.claim(&job, version).0, Accepted);
    for late in [renew(&job, &run), complete(&job, &run)] {
        assert_eq!(log.write(late), Rejected);
    }
}
