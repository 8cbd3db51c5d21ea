//! Checks of the contract of [`DeadLetters`].
//!
//! Each check opens queues through `open`, as in [`queue`](super::queue): the same name gives another handle to the
//! same queue. A dead letter whose job cannot be read cannot be made through the traits: the backend's own tests must
//! cover it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use pushbutton_core::{DeadLetter, DeadLetters, Queue};

use super::queue::{TIME_LIMIT, claim, claim_within, complete, job, nothing_for, publish};

/// The most lost leases that the check of their limit waits for. A usual limit is five.
const MOST_LOST_LEASES: u32 = 20;

/// A queue that also lists its dead letters.
pub trait QueueWithDeadLetters: Queue + DeadLetters {}

impl<T: Queue + DeadLetters + ?Sized> QueueWithDeadLetters for T {}

/// Runs all checks concurrently, each on its own queue.
pub async fn all(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    let open = &open;
    tokio::join!(
        Box::pin(a_rejected_job_is_kept_with_the_reason(open)),
        Box::pin(dead_letter_ids_are_stable(open)),
        Box::pin(a_requeued_dead_letter_runs_again(open)),
        Box::pin(only_one_caller_takes_a_dead_letter(open)),
        Box::pin(a_removed_dead_letter_never_runs(open)),
        Box::pin(an_unknown_id_is_not_an_error(open)),
        Box::pin(counted_lost_leases_end_as_a_dead_letter(open)),
    );
}

/// A job whose leases run out again and again becomes a dead letter that says so. Requeued by a person it is as new: it
/// may lose as many leases again.
pub async fn counted_lost_leases_end_as_a_dead_letter(
    open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>,
) {
    let (operator, other) = (open("lost-leases").await, open("lost-leases").await);
    publish(&*operator, &job(1)).await;
    let mut losses = Vec::new();
    for round in ["published", "requeued"] {
        let mut lost = 0;
        let letter = loop {
            let letter = letters(&*other).await.pop();
            if let Some(letter) = letter {
                break letter;
            }
            assert!(lost <= MOST_LOST_LEASES, "{round}: after {lost} lost leases the job is claimed again");
            // An operator that dies. The claim waits for the end of the lease before it, which may make the job a dead
            // letter instead.
            let queue = if lost % 2 == 0 { &operator } else { &other };
            let dead = async {
                while letters(&*other).await.is_empty() {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::select! {
                claimed = claim_within(&**queue, TIME_LIMIT) => {
                    let claimed = claimed.expect("a job whose lease ran out is claimed again, or a dead letter");
                    assert_eq!(claimed.job().failed_attempts, 0, "a lost lease is not a failed attempt");
                    lost += 1;
                }
                () = dead => {}
            }
        };
        assert!(lost > 0, "{round}: the job is claimed before it is a dead letter");
        assert_eq!(letter.why, DeadLetter::lost_leases_reason(lost), "{round}: the letter says why");
        // A requeued job may be reported alone.
        let with_its_buildset = letter.job.map(|found| found.with_buildset(job(1).buildset));
        assert_eq!(with_its_buildset, Some(job(1)), "{round}: the letter has the job");
        losses.push(lost);
        if round == "published" {
            assert!(requeue(&*operator, &letter.id).await, "the letter is there");
        } else {
            assert!(remove(&*operator, &letter.id).await, "the letter is there");
        }
    }
    assert_eq!(losses[0], losses[1], "a requeued job may lose as many leases as a new one");
}

/// A rejected job is not run again. Every handle lists it with the reason, oldest first, and listing changes nothing.
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
        held.reject(why).await.expect("a claimed job is rejected");
    }
    publish(&*other, &job(0)).await;
    nothing_for(&*other, lease + lease / 2, "all jobs were rejected, also the one that was published again")
        .await;
    for (queue, limit) in [(&operator, 10), (&other, 10), (&other, 2), (&operator, 0), (&operator, 10)] {
        // A backend may list by taking letters and returning them: give it the time to return them.
        sleep(Duration::from_millis(50)).await;
        let listed = queue.list(limit).await.expect("listing works");
        let found: Vec<_> = listed.iter().map(|letter| (letter.job.clone(), letter.why.as_str())).collect();
        let wanted: Vec<_> = (0..).zip(reasons).take(limit).map(|(n, why)| (Some(job(n)), why)).collect();
        assert_eq!(
            found, wanted,
            "dead letters are listed oldest first, at most {limit}, with job and reason"
        );
    }
    drop((operator, other));
    let later = open("reject").await;
    assert_eq!(later.list(10).await.expect("listing works").len(), 3, "dead letters survive a restart");
}

/// The id of a dead letter is the id of its job, in every list of every handle.
pub async fn dead_letter_ids_are_stable(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    let (operator, other) = (open("letters").await, open("letters").await);
    for n in 0..3 {
        reject(&*operator, n).await;
    }
    let wanted: Vec<_> = (0..3).map(|n| job(n).id.to_string()).collect();
    assert_eq!(wanted.iter().collect::<BTreeSet<_>>().len(), 3);
    for queue in [&operator, &other, &other, &open("letters").await] {
        let ids: Vec<_> = letters(&**queue).await.into_iter().map(|letter| letter.id).collect();
        assert_eq!(ids, wanted, "the id of a dead letter is the id of its job, for every handle");
    }
}

/// A requeued letter is gone from the list, and its job runs again with no failed attempt counted.
pub async fn a_requeued_dead_letter_runs_again(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    let (operator, person) = (open("requeue").await, open("requeue").await);
    publish(&*operator, &job(0)).await;
    claim(&*operator).await.retry(Duration::ZERO, "no node").await.expect("a claimed job is returned");
    let failed = claim(&*operator).await;
    assert_eq!(failed.job().failed_attempts, 1);
    failed.reject("no such flavor").await.expect("a claimed job is rejected");
    reject(&*operator, 1).await;

    let [first, second] = [0, 1].map(|n| job(n).id.to_string());
    assert!(requeue(&*person, &first).await, "a listed letter is requeued");
    let left: Vec<_> = letters(&*operator).await.into_iter().map(|letter| letter.id).collect();
    assert_eq!(left, [second], "the letter is gone, and no other letter");
    assert!(!requeue(&*person, &first).await, "a requeued letter is gone");
    assert!(!remove(&*person, &first).await, "a requeued letter is gone");
    drop(person);

    publish(&*operator, &job(0)).await;
    let again = claim(&*operator).await;
    let lease = again.lease();
    let as_published = again.job().clone().with_buildset(job(0).buildset);
    assert_eq!(as_published, job(0), "all attempts of the job are available again");
    // It can be rejected and requeued again.
    again.reject("still no such flavor").await.expect("a claimed job is rejected");
    let why: Vec<_> = letters(&*operator).await.into_iter().map(|letter| (letter.id, letter.why)).collect();
    assert_eq!(
        why.last(),
        Some(&(first.clone(), "still no such flavor".to_owned())),
        "the newest letter is the last"
    );
    assert!(requeue(&*operator, &first).await, "a listed letter is requeued");
    complete(&*claim(&*operator).await).await.expect("a claimed job is completed");
    publish(&*operator, &job(0)).await;
    nothing_for(&*operator, lease + lease / 2, "the requeued job is completed").await;
}

/// Of several callers that requeue or remove the same letter, exactly one succeeds, and the job runs only if that one
/// was a requeue.
pub async fn only_one_caller_takes_a_dead_letter(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
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
                "of two callers that requeued one letter, {} succeeded",
                if mine { "both" } else { "none" }
            );
            to_run.insert(job(n).id);
        } else {
            let (requeued, removed) = tokio::join!(requeue(&*one, &id), remove(&*other, &id));
            assert!(
                requeued != removed,
                "one caller requeued a letter, another removed it, and {} succeeded",
                if removed { "both" } else { "none" }
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
        complete(&*held).await.expect("a claimed job is completed");
        assert!(to_run.remove(&id), "the job of a letter ran twice, or ran after it was removed");
    }
    nothing_for(&*other, lease + lease / 2, "all requeued jobs are completed").await;
}

/// A removed letter is gone, and its job never runs, also when it is published again.
pub async fn a_removed_dead_letter_never_runs(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    let (operator, person) = (open("remove").await, open("remove").await);
    let lease = reject(&*operator, 0).await;
    let id = job(0).id.to_string();
    assert!(remove(&*person, &id).await, "a listed letter is removed");
    assert_eq!(letters(&*operator).await, [], "the letter is gone");
    assert!(!remove(&*operator, &id).await, "a removed letter is gone");
    assert!(!requeue(&*person, &id).await, "a removed letter is gone");
    publish(&*operator, &job(0)).await;
    nothing_for(&*operator, lease / 2, "the job was removed").await;
    let later = open("remove").await;
    publish(&*later, &job(0)).await;
    nothing_for(&*later, lease / 2, "the job was removed before the restart").await;
}

/// An id that no letter has is neither requeued nor removed, and is not an error.
pub async fn an_unknown_id_is_not_an_error(open: impl AsyncFn(&str) -> Arc<dyn QueueWithDeadLetters>) {
    let queue = open("unknown").await;
    reject(&*queue, 0).await;
    publish(&*queue, &job(1)).await;
    // An unknown job, a waiting one, and text that is not an id.
    for id in [job(7).id.as_str(), job(1).id.as_str(), "", "no such letter", "'; --"] {
        assert!(!requeue(&*queue, id).await, "no letter has the id {id:?}");
        assert!(!remove(&*queue, id).await, "no letter has the id {id:?}");
    }
    assert_eq!(letters(&*queue).await.len(), 1, "the letter is still listed");
    assert_eq!(claim(&*queue).await.job().id, job(1).id, "the waiting job is still there");
}

/// Publishes a job, claims and rejects it. Returns the length of the lease.
async fn reject(queue: &dyn Queue, n: u64) -> Duration {
    publish(queue, &job(n)).await;
    let held = claim(queue).await;
    let lease = held.lease();
    held.reject("malformed").await.expect("a claimed job is rejected");
    lease
}

async fn letters(queue: &dyn DeadLetters) -> Vec<DeadLetter> {
    queue.list(100).await.expect("listing works")
}

async fn requeue(queue: &dyn DeadLetters, letter: &str) -> bool {
    queue.requeue(letter).await.expect("requeueing a letter works")
}

async fn remove(queue: &dyn DeadLetters, letter: &str) -> bool {
    queue.remove(letter).await.expect("removing a letter works")
}
