//! `broadcast` and `control_messages`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use pushbutton_core::Timestamp;
use pushbutton_core::{Cause, ChangeNumber, ControlMessage, ControlMessages, PatchsetNumber, Queue};
use tokio::time::timeout;

use super::{TIME_LIMIT, claim, job, publish};

/// Each subscriber gets every message in the order of the broadcasts, also those sent before it subscribed.
pub async fn every_subscriber_gets_every_control_message(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (handler, operator) = (open("messages").await, open("messages").await);
    let at = Timestamp::from_second(Timestamp::now().as_second()).expect("now is a time");
    let change = ChangeNumber(12345);
    let early = ControlMessage::Superseded { change, by: PatchsetNumber(3), at };
    let middle = ControlMessage::Closed { change, at };
    let muted = ControlMessage::Muted {
        by: "operator host-3".into(),
        why: "5 runs in a row \"failed\"\n".into(),
        at,
    };
    let unmuted = ControlMessage::Unmuted { by: "ops".into(), at };
    let late = ControlMessage::Cancel { job: job(1).id, by: "bob".into(), at };

    let mut first = operator.control_messages().await.expect("subscribing works");
    handler.broadcast(&early).await.expect("broadcasting works");
    let mut second = handler.control_messages().await.expect("subscribing works");
    for message in [&middle, &muted, &unmuted] {
        operator.broadcast(message).await.expect("broadcasting works");
    }
    let wanted = [early, middle, muted, unmuted, late.clone()];
    for subscriber in [&mut first, &mut second] {
        for message in &wanted[..4] {
            assert_eq!(next(subscriber).await, *message, "each subscriber gets every message, in order");
        }
        let quiet = timeout(Duration::from_millis(100), subscriber.next()).await;
        assert!(quiet.is_err(), "a message arrived that was not sent: {quiet:?}");
    }
    // The calls to `next` that timed out above lose no message.
    handler.broadcast(&late).await.expect("broadcasting works");
    let mut third = open("messages").await.control_messages().await.expect("subscribing works");
    assert_eq!(next(&mut first).await, late, "a dropped call loses no message");
    assert_eq!(next(&mut second).await, late, "a dropped call loses no message");
    for message in &wanted {
        assert_eq!(next(&mut third).await, *message, "a later subscriber gets earlier messages");
    }
}

/// A manual job keeps its cause: a newer patch set does not cancel it.
pub async fn a_manual_job_keeps_its_cause(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (person, operator) = (open("manual").await, open("manual").await);
    let mut manual = job(1);
    manual.cause.kind = Cause::MANUAL.to_owned();
    manual.cause.by = Some("ops".into());
    publish(&*person, &manual).await;
    let held = claim(&*operator).await;
    assert_eq!(*held.job(), manual, "the job is as it was published");
    let by = PatchsetNumber(manual.patchset.number.0 + 1);
    let newer = ControlMessage::Superseded { change: manual.change.number, by, at: Timestamp::now() };
    assert!(newer.affects(&job(1)), "a newer patch set cancels a job that an event started");
    assert!(!newer.affects(held.job()), "a newer patch set cancels a manual job");
}

async fn next(subscriber: &mut ControlMessages) -> ControlMessage {
    let message = timeout(TIME_LIMIT, subscriber.next()).await.expect("a message reaches every subscriber");
    message.expect("the stream does not end").expect("the stream has no error")
}
