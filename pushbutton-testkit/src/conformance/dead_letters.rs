//! The contract of [`DeadLetters`], as checks.
//!
//! Each check opens queues through `open`, as in [`queue`](super::queue): the same name gives another handle to the same queue.
//! A letter whose job cannot be read cannot be made through the traits: the backend's own tests cover it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use pushbutton_core::{DeadLetter, DeadLetters, Queue};

use super::queue::{claim, job, nothing_for, publish};

/// A queue that also lists its dead letters.
pub trait QueueWithDeadLetters: Queue + DeadLetters {}

impl<T: Queue + DeadLetters + ?Sized> QueueWithDeadLetters for T {}

/// Runs every check, side by side: each has a queue of its own.
pub async fn all(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    let open = &open;
    tokio::join!(
        Box::pin(a_rejected_job_is_kept_with_the_reason(open)),
        Box::pin(dead_letters_have_names_that_stay(open)),
        Box::pin(a_requeued_dead_letter_runs_again(open)),
        Box::pin(a_dead_letter_is_taken_once(open)),
        Box::pin(a_dropped_dead_letter_never_runs(open)),
        Box::pin(unknown_dead_letters_are_no_errors(open)),
    );
}

/// A rejected job is not run, but listed with the reason, oldest first, by every handle, and listing changes nothing.
pub async fn a_rejected_job_is_kept_with_the_reason(
    open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>,
) {
    let (operator, other) = (open("reject").await, open("reject").await);
    let reasons = ["no such job in the configuration", "the ref is malformed: \"x\ny\"", "third"];
    let mut lease = Duration::ZERO;
    for (n, why) in (0..).zip(reasons) {
        publish(&*operator, &job(n)).await;
        let held = claim(&*operator).await;
        lease = held.lease();
        held.reject(why).await.expect("a held job is rejected");
    }
    publish(&*other, &job(0)).await;
    nothing_for(&*other, lease + lease / 2, "all jobs were rejected, also the one that was published again")
        .await;
    for (queue, limit) in [(&operator, 10), (&other, 10), (&other, 2), (&operator, 0), (&operator, 10)] {
        // What is being listed by one is put back for the next.
        sleep(Duration::from_millis(50)).await;
        let listed = queue.list(limit).await.expect("listing works");
        let seen: Vec<_> = listed.iter().map(|letter| (letter.job.clone(), letter.why.as_str())).collect();
        let wanted: Vec<_> = (0..).zip(reasons).take(limit).map(|(n, why)| (Some(job(n)), why)).collect();
        assert_eq!(
            seen, wanted,
            "dead letters are listed oldest first, at most {limit}, with job and reason"
        );
    }
    drop((operator, other));
    let later = open("reject").await;
    assert_eq!(later.list(10).await.expect("listing works").len(), 3, "dead letters outlive the handle");
}

/// Each letter has a name of its own, the job's id, which is the same for everyone who lists it, every time.
pub async fn dead_letters_have_names_that_stay(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    let (operator, other) = (open("letters").await, open("letters").await);
    for n in 0..3 {
        reject(&*operator, n).await;
    }
    let wanted: Vec<_> = (0..3).map(|n| job(n).id.to_string()).collect();
    assert_eq!(wanted.iter().collect::<BTreeSet<_>>().len(), 3);
    for queue in [&operator, &other, &other, &open("letters").await] {
        let names: Vec<_> = letters(&**queue).await.into_iter().map(|letter| letter.id).collect();
        assert_eq!(names, wanted, "a dead letter is named by the id of its job, whoever lists it");
    }
}

/// A letter put back on the queue is gone from the list, and its job runs again as if it had never failed.
pub async fn a_requeued_dead_letter_runs_again(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    let (operator, person) = (open("requeue").await, open("requeue").await);
    publish(&*operator, &job(0)).await;
    claim(&*operator).await.retry(Duration::ZERO, "no node").await.expect("a held job is given back");
    let failed = claim(&*operator).await;
    assert_eq!(failed.job().failed_attempts, 1);
    failed.reject("no such flavor").await.expect("a held job is rejected");
    reject(&*operator, 1).await;

    let [first, second] = [0, 1].map(|n| job(n).id.to_string());
    assert!(requeue(&*person, &first).await, "a letter that is listed is put back");
    let left: Vec<_> = letters(&*operator).await.into_iter().map(|letter| letter.id).collect();
    assert_eq!(left, [second], "the letter is gone, and no other");
    assert!(!requeue(&*person, &first).await, "a letter that was put back is there no more");
    assert!(!drop_letter(&*person, &first).await, "a letter that was put back is there no more");
    drop(person);

    publish(&*operator, &job(0)).await;
    let again = claim(&*operator).await;
    let lease = again.lease();
    assert_eq!(*again.job(), job(0), "the job has all its attempts before it again");
    // It can die again, and be put back again.
    again.reject("still no such flavor").await.expect("a held job is rejected");
    let why: Vec<_> = letters(&*operator).await.into_iter().map(|letter| (letter.id, letter.why)).collect();
    assert_eq!(
        why.last(),
        Some(&(first.clone(), "still no such flavor".to_owned())),
        "the newest letter is the last"
    );
    assert!(requeue(&*operator, &first).await, "a letter that is listed is put back");
    claim(&*operator).await.complete().await.expect("a held job is completed");
    publish(&*operator, &job(0)).await;
    nothing_for(&*operator, lease + lease / 2, "the job that was put back is completed").await;
}

/// Of several who take the same letter, exactly one does, and the job runs as that one asked.
pub async fn a_dead_letter_is_taken_once(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    const LETTERS: u64 = 4;
    let (one, other) = (open("take").await, open("take").await);
    for n in 0..LETTERS {
        reject(&*one, n).await;
    }
    let mut to_run = BTreeSet::new();
    for n in 0..LETTERS {
        let id = job(n).id.to_string();
        if n % 2 == 0 {
            let (mine, theirs) = tokio::join!(requeue(&*one, &id), requeue(&*other, &id));
            assert!(
                mine != theirs,
                "two put one letter back, and {} did",
                if mine { "both" } else { "none" }
            );
            to_run.insert(job(n).id);
        } else {
            let (requeued, dropped) = tokio::join!(requeue(&*one, &id), drop_letter(&*other, &id));
            assert!(
                requeued != dropped,
                "one put a letter back, one dropped it, and {} did",
                if dropped { "both" } else { "none" }
            );
            if requeued {
                to_run.insert(job(n).id);
            }
        }
    }
    assert_eq!(letters(&*one).await, [], "every letter was taken");
    let mut lease = Duration::ZERO;
    while !to_run.is_empty() {
        let held = claim(&*one).await;
        lease = held.lease();
        let id = held.job().id.clone();
        held.complete().await.expect("a held job is completed");
        assert!(to_run.remove(&id), "a letter's job ran twice, or although it was dropped");
    }
    nothing_for(&*other, lease + lease / 2, "every job that was put back is completed").await;
}

/// A letter that is dropped is gone, and its job never runs, also when it is published again.
pub async fn a_dropped_dead_letter_never_runs(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    let (operator, person) = (open("drop").await, open("drop").await);
    let lease = reject(&*operator, 0).await;
    let id = job(0).id.to_string();
    assert!(drop_letter(&*person, &id).await, "a letter that is listed is dropped");
    assert_eq!(letters(&*operator).await, [], "the letter is gone");
    assert!(!drop_letter(&*operator, &id).await, "a letter that was dropped is there no more");
    assert!(!requeue(&*person, &id).await, "a letter that was dropped is there no more");
    publish(&*operator, &job(0)).await;
    nothing_for(&*operator, lease / 2, "the job was dropped").await;
    let later = open("drop").await;
    publish(&*later, &job(0)).await;
    nothing_for(&*later, lease / 2, "the job was dropped before this handle").await;
}

/// What is no letter is neither put back nor dropped.
pub async fn unknown_dead_letters_are_no_errors(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    let queue = open("unknown").await;
    reject(&*queue, 0).await;
    publish(&*queue, &job(1)).await;
    // A job that was never heard of, one that waits, and text that is no name at all.
    for id in [job(7).id.as_str(), job(1).id.as_str(), "", "no such letter", "'; --"] {
        assert!(!requeue(&*queue, id).await, "{id:?} is no letter");
        assert!(!drop_letter(&*queue, id).await, "{id:?} is no letter");
    }
    assert_eq!(letters(&*queue).await.len(), 1, "the one letter is still there");
    assert_eq!(claim(&*queue).await.job().id, job(1).id, "the job that waits is still there");
}

/// Publishes a job and rejects what is claimed then; says how long its lease was.
async fn reject(queue: &dyn Queue, n: u64) -> Duration {
    publish(queue, &job(n)).await;
    let held = claim(queue).await;
    let lease = held.lease();
    held.reject("malformed").await.expect("a held job is rejected");
    lease
}

async fn letters(queue: &dyn DeadLetters) -> Vec<DeadLetter> {
    queue.list(100).await.expect("listing works")
}

async fn requeue(queue: &dyn DeadLetters, letter: &str) -> bool {
    queue.requeue(letter).await.expect("putting a letter back works")
}

async fn drop_letter(queue: &dyn DeadLetters, letter: &str) -> bool {
    queue.remove(letter).await.expect("dropping a letter works")
}
