use pushbutton_core::samples::{AT, job_on, success};
use pushbutton_core::{Job, JobId, RunId};

use super::super::entry::{Entry, Op};
use super::super::ids::{EntryId, Version};
use super::super::jobs::Next;
use super::super::state_machine::{Arrival, Outcome, State};
use super::*;
use Outcome::{Accepted, Rejected};

/// An entry and its place. Places are ten apart, so that a late copy fits between any two. A copy has the id of the
/// first: the number beside the place.
type Script = Vec<(u64, u64, Op)>;

fn id() -> JobId {
    job_on(1, "tempest").id
}

fn letter(at: Timestamp) -> (String, Timestamp) {
    (id().to_string(), at)
}

fn requeue((letter, at): (String, Timestamp)) -> Op {
    Op::Requeue { letter, at }
}

fn remove((letter, at): (String, Timestamp)) -> Op {
    Op::RemoveLetter { letter, at }
}

fn reject(run: &RunId, at: Timestamp) -> Op {
    Op::Reject { job: id(), run: run.clone(), why: "no such flavor".into(), at }
}

fn import(job: &Job) -> Op {
    Op::Import { jobs: vec![job.clone()], unreadable: Vec::new() }
}

fn unreadable(why: &str, at: Timestamp) -> Op {
    Op::Import { jobs: Vec::new(), unreadable: vec![Letter { job: None, why: why.to_owned(), at }] }
}

fn version(place: u64) -> Version {
    (place, EntryId(place.into()))
}

fn claim(place: u64, run: &RunId) -> Op {
    Op::Claim { job: id(), expected_version: version(place), run: run.clone(), lease_ms: 60_000 }
}

fn second() -> Timestamp {
    AT + std::time::Duration::from_secs(1)
}

fn script(entries: impl IntoIterator<Item = (u64, Op)>) -> Script {
    entries.into_iter().map(|(place, op)| (place, place, op)).collect()
}

fn play(state: &mut State, script: &[(u64, u64, Op)]) -> Vec<Outcome> {
    let entry = |id: &u64, op: &Op| Entry::with_id(EntryId((*id).into()), op.clone());
    script.iter().map(|(place, id, op)| state.apply(*place, &entry(id, op), Arrival::now())).collect()
}

fn play_one(state: &mut State, place: u64, op: Op) -> Outcome {
    play(state, &[(place, place, op)]).remove(0)
}

/// A state with one dead letter, of a job that had failed before and whose lease had run out.
fn with_letter() -> State {
    let mut state = State::default();
    let [first, second, third] = [RunId::generate(), RunId::generate(), RunId::generate()];
    let entries = script([
        (0, import(&job_on(1, "tempest"))),
        (1, claim(0, &first)),
        (2, Op::Retry { job: id(), run: first, due: AT, after_ms: 0 }),
        (3, claim(2, &second)),
        (4, claim(3, &third)),
        (5, reject(&third, AT)),
    ]);
    assert_eq!(play(&mut state, &entries), vec![Accepted; 6]);
    state
}

/// What is known in the end, however it was read. Versions of jobs tell which entry was the last, and are left out.
fn written(state: &State) -> String {
    let mut written = serde_json::to_value(state.snapshot(Arrival::now())).unwrap();
    for job in written["jobs"].as_array_mut().unwrap() {
        job["version"].take();
    }
    for report in written["outbox"]["due"].as_array_mut().unwrap() {
        report["version"].take();
    }
    written.to_string()
}

#[test]
fn a_requeued_job_is_as_new() {
    let mut state = with_letter();
    assert_eq!(play_one(&mut state, 10, requeue(letter(AT))), Accepted);
    let Next::Claim(next) = state.jobs.next(Arrival::now().instant, 0, |_| true) else {
        panic!("it can be claimed")
    };
    let buildset = next.job.buildset.clone();
    assert_ne!(buildset, job_on(1, "tempest").buildset, "what was reported is not changed");
    let job = job_on(1, "tempest").with_buildset(buildset);
    assert_eq!((next.job, next.version, next.lost_leases), (job, version(10), 0));
    assert_eq!((state.dead.len(), state.dead.bytes()), (0, 0));
    play_one(&mut state, 20, import(&job_on(1, "tempest")));
    assert_eq!(state.jobs.counts(Arrival::now().instant), (1, 0), "it is open, and not imported beside that");
}

#[test]
fn a_requeued_job_comes_after_those_that_were_there() {
    let mut state = with_letter();
    play(&mut state, &script([(10, import(&job_on(2, "tempest"))), (20, requeue(letter(AT)))]));
    let Next::Claim(next) = state.jobs.next(Arrival::now().instant, 0, |_| true) else {
        panic!("both can be claimed")
    };
    assert_eq!(next.job.id, job_on(2, "tempest").id);
}

#[test]
fn a_removed_job_counts_as_completed() {
    let mut state = with_letter();
    assert_eq!(play_one(&mut state, 10, remove(letter(AT))), Accepted);
    let state = State::from_snapshot(&state.snapshot(Arrival::now()), Arrival::now());
    assert!(state.knows(&id()) && state.dead.len() == 0);
    assert!(state.jobs.is_completed(JobKey::of(&id())));
}

/// Three people, in every order, each entry perhaps twice in the log: one of them has the letter, and nobody else.
#[test]
fn of_all_who_take_a_letter_the_first_in_the_log_has_it() {
    let entries = [requeue(letter(AT)), requeue(letter(AT)), remove(letter(AT))];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for copies in 1..=2 {
            let mut state = with_letter();
            let copied = order.iter().flat_map(|who| std::iter::repeat_n(who, copies));
            let entry = |(n, who): (u64, &usize)| (n * 10, *who as u64 + 1_000, entries[*who].clone());
            let script: Script = (1..).zip(copied).map(entry).collect();
            let outcomes = play(&mut state, &script);
            let mut wanted = vec![Rejected; 3 * copies];
            wanted[0] = Accepted;
            assert_eq!(outcomes, wanted, "order {order:?}, {copies} of each");
            let removed = order[0] == 2;
            assert_eq!(state.jobs.records().count() == 0, removed, "the first one's request is done");
        }
    }
}

/// A letter's whole life, twice; then every entry once more at every later place, as a broken connection may leave it
/// there.
#[test]
fn a_late_copy_of_an_entry_changes_nothing() {
    let (run, next) = (RunId::generate(), RunId::generate());
    let begin = || {
        vec![
            (100, requeue(letter(AT))),
            (110, claim(100, &run)),
            (120, Op::Renew { job: id(), run: run.clone() }),
            (130, reject(&run, second())),
        ]
    };
    let mut back = begin();
    back.extend([(140, requeue(letter(second()))), (150, claim(140, &next))]);
    back.push((
        160,
        Op::Complete { job: id(), run: next.clone(), result: Box::new(success(&job_on(1, "tempest"))) },
    ));
    let mut gone = begin();
    gone.push((140, remove(letter(second()))));
    for script in [script(back), script(gone)] {
        let mut plain = with_letter();
        assert!(play(&mut plain, &script).iter().all(|outcome| *outcome == Accepted));
        for (n, (place, id, op)) in script.iter().enumerate() {
            for (later, _, _) in &script[n..] {
                let mut copied = script.clone();
                copied.push((later + 5, *id, op.clone()));
                copied.sort_by_key(|(place, _, _)| *place);
                let mut state = with_letter();
                play(&mut state, &copied);
                assert_eq!(written(&state), written(&plain), "{op:?} of {place} again after {later}");
            }
        }
    }
}

/// A reader that begins with a snapshot, taken at any moment, comes to the same end.
#[test]
fn a_snapshot_at_any_moment_carries_all_letters() {
    let run = RunId::generate();
    let hello = Letter { job: None, why: "not written by pushbutton: hello".into(), at: AT };
    let script = script([
        (100, unreadable(&hello.why, AT)),
        (110, requeue(letter(AT))),
        (120, claim(110, &run)),
        (130, reject(&run, second())),
        (140, requeue(letter(AT))),
        (150, remove((hello.id(), AT))),
        (160, remove(letter(second()))),
        (170, requeue(letter(second()))),
    ]);
    let mut all = with_letter();
    let outcomes = play(&mut all, &script);
    let rejected = script.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Rejected);
    assert_eq!(rejected.map(|((place, _, _), _)| *place).collect::<Vec<_>>(), [140, 170], "{outcomes:?}");
    for cut in 0..=script.len() {
        let mut state = with_letter();
        let before = play(&mut state, &script[..cut]);
        let text = serde_json::to_string(&state.snapshot(Arrival::now())).unwrap();
        let mut state = State::from_snapshot(&serde_json::from_str(&text).unwrap(), Arrival::now());
        let after = play(&mut state, &script[cut..]);
        assert_eq!([before, after].concat(), outcomes, "with a snapshot after {cut} entries");
        assert_eq!(written(&state), written(&all));
    }
}

#[test]
fn an_unreadable_message_has_an_id_and_no_job_to_requeue() {
    let mut state = State::default();
    for (n, (why, at)) in (0..).zip([("a", AT), ("b", AT), ("a", second()), ("a", AT)]) {
        play_one(&mut state, n, unreadable(why, at));
    }
    let ids: Vec<_> = state.dead.iter().map(Letter::id).collect();
    let distinct: HashSet<_> = ids.iter().collect();
    assert_eq!((distinct.len(), ids.len()), (3, 3), "the same letter is kept once: {ids:?}");
    assert!(ids.iter().all(|id| id.starts_with("unreadable-") && id.len() == 43), "{ids:?}");

    let first = (ids[0].clone(), AT);
    assert!(state.dead.find(&first.0).is_some_and(|letter| letter.why == "a"));
    let taking =
        script([(10, requeue(first.clone())), (20, remove((ids[0].clone(), second()))), (30, remove(first))]);
    assert_eq!(play(&mut state, &taking), [Rejected, Rejected, Accepted]);
    assert_eq!(state.dead.len(), 2);
}

#[test]
fn a_letter_that_was_dropped_for_newer_ones_can_no_longer_be_taken() {
    let mut state = with_letter();
    for n in 0..MAX_LETTERS as u64 {
        play_one(&mut state, 10 + n, unreadable(&n.to_string(), AT));
    }
    assert_eq!(play_one(&mut state, 5_000, requeue(letter(AT))), Rejected);
    play_one(&mut state, 5_010, import(&job_on(1, "tempest")));
    assert_eq!(state.jobs.counts(Arrival::now().instant), (1, 0), "its job can be published again");
}

#[test]
fn letters_count_their_bytes() {
    let job: Job = job_on(1, "tempest");
    let letter = Letter { job: Some(job), why: "why".into(), at: AT };
    let bytes = json_size(&letter);
    let mut letters = DeadLetters::default();
    let has_job = |letters: &DeadLetters| letters.has_job(JobKey::of(&id()));
    assert!(letters.keep(letter));
    assert_eq!((letters.bytes(), letters.len(), has_job(&letters)), (bytes, 1, true));
    assert!(letters.take(id().as_str(), AT, |_| true).is_some());
    assert_eq!((letters.bytes(), letters.len(), has_job(&letters)), (0, 0, false));
}
