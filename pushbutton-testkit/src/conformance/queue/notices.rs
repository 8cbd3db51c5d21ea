//! `announce` and `notices`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::{Cause, ChangeNumber, Notice, Notices, PatchsetNumber, Queue};
use tokio::time::timeout;

use super::{PATIENCE, claim, job, publish};

/// Each listener gets every notice in the order announced: those that came before it, and those that come.
pub async fn every_listener_hears_every_notice(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (handler, operator) = (open("notices").await, open("notices").await);
    let at = Timestamp::from_second(Timestamp::now().as_second()).expect("now is a time");
    let change = ChangeNumber(12345);
    let early = Notice::Superseded { change, by: PatchsetNumber(3), at };
    let middle = Notice::Closed { change, at };
    let muted =
        Notice::Muted { by: "operator host-3".into(), why: "5 runs in a row \"failed\"\n".into(), at };
    let unmuted = Notice::Unmuted { by: "ops".into(), at };
    let late = Notice::Cancel { job: job(1).id, by: "bob".into(), at };

    let mut first = operator.notices().await.expect("listening works");
    handler.announce(&early).await.expect("announcing works");
    let mut second = handler.notices().await.expect("listening works");
    for notice in [&middle, &muted, &unmuted] {
        operator.announce(notice).await.expect("announcing works");
    }
    let wanted = [early, middle, muted, unmuted, late.clone()];
    for listener in [&mut first, &mut second] {
        for notice in &wanted[..4] {
            assert_eq!(
                next(listener).await,
                *notice,
                "each listener hears every notice, in the order announced"
            );
        }
        let quiet = timeout(Duration::from_millis(100), listener.next()).await;
        assert!(quiet.is_err(), "a notice was heard that nobody announced: {quiet:?}");
    }
    // The calls dropped above take no notice with them.
    handler.announce(&late).await.expect("announcing works");
    let mut third = open("notices").await.notices().await.expect("listening works");
    assert_eq!(next(&mut first).await, late, "a dropped call loses no notice");
    assert_eq!(next(&mut second).await, late, "a dropped call loses no notice");
    for notice in &wanted {
        assert_eq!(next(&mut third).await, *notice, "who starts later hears what came before");
    }
}

/// A job that a person asked for is still known as such when it is claimed: a newer patch set does not end it.
pub async fn a_job_asked_for_by_hand_is_known_as_such(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (person, operator) = (open("by-hand").await, open("by-hand").await);
    let mut asked = job(1);
    asked.cause = Cause { kind: Cause::BY_HAND.to_owned(), by: Some("ops".into()), ..asked.cause };
    publish(&*person, &asked).await;
    let held = claim(&*operator).await;
    assert_eq!(*held.job(), asked, "the job comes as it was published");
    let by = PatchsetNumber(asked.patchset.number.0 + 1);
    let newer = Notice::Superseded { change: asked.change.number, by, at: Timestamp::now() };
    assert!(newer.concerns(&job(1)), "a newer patch set ends a job that an event called for");
    assert!(!newer.concerns(held.job()), "a newer patch set ended a job that a person asked for");
}

async fn next(listener: &mut Box<dyn Notices>) -> Notice {
    let notice =
        timeout(PATIENCE, listener.next()).await.expect("an announced notice reaches every listener");
    notice.expect("listening goes on")
}
