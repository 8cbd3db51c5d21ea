use pushbutton_core::samples::{AT, job_on};
use pushbutton_core::{Job, JobId, RunId};

use super::super::entry::Op;
use super::super::state::{Moment, Next, Outcome, State};
use super::*;

/// An entry and its place. Places are ten apart, so that a late copy fits between any two.
type Script = Vec<(u64, Op)>;

fn id() -> JobId {
    job_on(1, "tempest").id
}

fn letter(at: Timestamp) -> (String, Timestamp) {
    (id().to_string(), at)
}

fn requeue((letter, at): (String, Timestamp)) -> Op {
    Op::RequeueLetter { letter, at }
}

fn forget((letter, at): (String, Timestamp)) -> Op {
    Op::DropLetter { letter, at }
}

fn reject(claim: &RunId, at: Timestamp) -> Op {
    Op::Reject { job: id(), claim: claim.clone(), why: "no such flavor".into(), at }
}

fn second() -> Timestamp {
    AT + std::time::Duration::from_secs(1)
}

fn play(state: &mut State, script: &[(u64, Op)]) -> Vec<Outcome> {
    script.iter().map(|(place, op)| state.apply(*place, op, Moment::now())).collect()
}

/// A state with one dead letter, of a job that had failed before and that operators died of.
fn with_letter() -> State {
    let mut state = State::default();
    let [first, second, third] = [RunId::generate(), RunId::generate(), RunId::generate()];
    let take = |seen, claim: &RunId| Op::Take { job: id(), seen, claim: claim.clone(), lease_ms: 60_000 };
    let script = vec![
        (0, Op::Adopt { job: job_on(1, "tempest"), claim: first.clone(), lease_ms: 60_000 }),
        (1, Op::Retry { job: id(), claim: first, due: AT, after_ms: 0 }),
        (2, take(1, &second)),
        (3, take(2, &third)),
        (4, reject(&third, AT)),
    ];
    assert_eq!(play(&mut state, &script), vec![Outcome::Done; 5]);
    state
}

/// What is known in the end, whichever way it was read.
fn written(state: &State) -> String {
    serde_json::to_string(&state.snapshot()).unwrap()
}

#[test]
fn a_job_put_back_is_as_new() {
    let mut state = with_letter();
    assert_eq!(play(&mut state, &[(10, requeue(letter(AT)))]), [Outcome::Done]);
    let Next::Take { job, seen, lost } = state.next(Moment::now().instant) else {
        panic!("it can be claimed")
    };
    assert_eq!((*job, seen, lost), (job_on(1, "tempest"), 10, 0));
    assert_eq!((state.dead().len(), state.dead().bytes()), (0, 0));
    let again = Op::Adopt { job: job_on(1, "tempest"), claim: RunId::generate(), lease_ms: 60_000 };
    assert_eq!(play(&mut state, &[(20, again)]), [Outcome::Void], "it is open, and not adopted beside that");
}

#[test]
fn a_job_put_back_comes_after_those_that_were_there() {
    let mut state = with_letter();
    let claim = RunId::generate();
    let other = job_on(2, "tempest");
    play(
        &mut state,
        &[
            (10, Op::Adopt { job: other.clone(), claim: claim.clone(), lease_ms: 60_000 }),
            (20, requeue(letter(AT))),
            (30, Op::HandBack { job: other.id.clone(), claim }),
        ],
    );
    let Next::Take { job, .. } = state.next(Moment::now().instant) else { panic!("both can be claimed") };
    assert_eq!(job.id, other.id);
}

#[test]
fn a_dropped_job_counts_as_completed() {
    let mut state = with_letter();
    assert_eq!(play(&mut state, &[(10, forget(letter(AT)))]), [Outcome::Done]);
    let state = State::from_snapshot(&state.snapshot(), Moment::now());
    assert!(state.knows(&id()) && state.dead().len() == 0);
    assert_eq!(state.snapshot().completed, [id()]);
}

/// Three people, in every order, each entry perhaps written twice: one of them has the letter, and nobody else.
#[test]
fn of_all_who_take_a_letter_the_first_in_the_record_has_it() {
    let wishes = [requeue(letter(AT)), requeue(letter(AT)), forget(letter(AT))];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for copies in 1..=2 {
            let mut state = with_letter();
            let entries = order.iter().flat_map(|who| std::iter::repeat_n(&wishes[*who], copies));
            let script: Script = (1..).zip(entries.cloned()).map(|(n, op)| (n * 10, op)).collect();
            let outcomes = play(&mut state, &script);
            let mut wanted = vec![Outcome::Void; 3 * copies];
            wanted[0] = Outcome::Done;
            assert_eq!(outcomes, wanted, "order {order:?}, {copies} of each");
            let dropped = order[0] == 2;
            assert_eq!(state.snapshot().open.is_empty(), dropped, "the first one's wish is done");
        }
    }
}

/// A letter's whole life, twice; then every entry once more at every later place, as a cut connection may leave it there.
#[test]
fn a_late_copy_of_an_entry_changes_nothing() {
    let (claim, next) = (RunId::generate(), RunId::generate());
    let take = |seen, claim: &RunId| Op::Take { job: id(), seen, claim: claim.clone(), lease_ms: 60_000 };
    let begin = || -> FakeStage {
        vec![
            (100, requeue(letter(AT))),
            (110, take(100, &claim)),
            (120, Op::Renew { job: id(), claim: claim.clone() }),
            (130, reject(&claim, second())),
        ]
    };
    let mut back = begin();
    back.extend([(140, requeue(letter(second()))), (150, take(140, &next))]);
    back.push((160, Op::Complete { job: id(), claim: next.clone() }));
    let mut gone = begin();
    gone.push((140, forget(letter(second()))));
    for script in [back, gone] {
        let mut plain = with_letter();
        assert!(play(&mut plain, &script).iter().all(|outcome| *outcome == Outcome::Done));
        for (n, (place, op)) in script.iter().enumerate() {
            // What keeps its holder's lease alive may well be said twice while he has it.
            let idempotent = matches!(op, Op::Renew { .. });
            for (later, _) in script[n..].iter().skip(usize::from(idempotent)) {
                let mut copied = script.clone();
                copied.push((later + 5, op.clone()));
                copied.sort_by_key(|(place, _)| *place);
                let mut state = with_letter();
                play(&mut state, &copied);
                assert_eq!(written(&state), written(&plain), "{op:?} of {place} again after {later}");
            }
        }
    }
}

/// Who starts with a snapshot, taken at any moment, comes to the same end.
#[test]
fn a_snapshot_at_any_moment_carries_all_of_it() {
    let claim = RunId::generate();
    let unreadable = Letter { job: None, why: "not written by pushbutton: hello".into(), at: AT };
    let script: Script = vec![
        (100, Op::Malformed { why: unreadable.why.clone(), at: AT }),
        (110, requeue(letter(AT))),
        (120, Op::Take { job: id(), seen: 110, claim: claim.clone(), lease_ms: 60_000 }),
        (130, reject(&claim, second())),
        (140, requeue(letter(AT))),
        (150, forget((unreadable.id(), AT))),
        (160, forget(letter(second()))),
        (170, requeue(letter(second()))),
    ];
    let mut all = with_letter();
    let outcomes = play(&mut all, &script);
    let void: Vec<_> =
        script.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Void).collect();
    assert_eq!(void.iter().map(|((place, _), _)| *place).collect::<Vec<_>>(), [140, 170], "{outcomes:?}");
    for cut in 0..=script.len() {
        let mut state = with_letter();
        let before = play(&mut state, &script[..cut]);
        let mut state = State::from_snapshot(&serde_json::from_str(&written(&state)).unwrap(), Moment::now());
        let after = play(&mut state, &script[cut..]);
        assert_eq!([before, after].concat(), outcomes, "with a snapshot after {cut} entries");
        assert_eq!(written(&state), written(&all));
    }
}

#[test]
fn what_could_not_be_read_has_a_name_and_no_job_to_put_back() {
    let mut state = State::default();
    let malformed = |why: &str, at| Op::Malformed { why: why.to_owned(), at };
    let script = [
        (0, malformed("a", AT)),
        (1, malformed("b", AT)),
        (2, malformed("a", second())),
        (3, malformed("a", AT)),
    ];
    let wanted = [Outcome::Done, Outcome::Done, Outcome::Done, Outcome::Void];
    assert_eq!(play(&mut state, &script), wanted, "the very same entry is kept once");
    let names: Vec<_> = state.dead().iter().map(Letter::id).collect();
    let distinct: HashSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), 3, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("unreadable-") && name.len() == 43), "{names:?}");

    let first = (names[0].clone(), AT);
    assert!(state.dead().find(&first.0).is_some_and(|letter| letter.why == "a"));
    let taking =
        [(10, requeue(first.clone())), (20, forget((names[0].clone(), second()))), (30, forget(first))];
    assert_eq!(play(&mut state, &taking), [Outcome::Void, Outcome::Void, Outcome::Done]);
    assert_eq!(state.dead().len(), 2);
}

#[test]
fn a_letter_that_made_room_for_others_can_no_longer_be_taken() {
    let mut state = with_letter();
    for n in 0..LETTERS as u64 {
        state.apply(10 + n, &Op::Malformed { why: n.to_string(), at: AT }, Moment::now());
    }
    assert_eq!(play(&mut state, &[(5_000, requeue(letter(AT)))]), [Outcome::Void]);
    let again = Op::Adopt { job: job_on(1, "tempest"), claim: RunId::generate(), lease_ms: 60_000 };
    assert_eq!(
        play(&mut state, &[(5_010, again)]),
        [Outcome::Done],
        "what is forgotten can be published again"
    );
}

#[test]
fn a_job_is_as_large_as_its_letter_says() {
    let job: Job = job_on(1, "tempest");
    let bytes = size(&job) + "why".len();
    let mut letters = Letters::default();
    assert!(letters.keep(Letter { job: Some(job), why: "why".into(), at: AT }));
    assert_eq!((letters.bytes(), letters.len(), letters.has_job(number(&id()))), (bytes, 1, true));
    assert!(letters.take(id().as_str(), AT, |_| true).is_some());
    assert_eq!((letters.bytes(), letters.len(), letters.has_job(number(&id()))), (0, 0, false));
}
