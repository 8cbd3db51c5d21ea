//! Checks of the contract of [`EventStore`].
//!
//! Each check opens event stores through `open`: the same name gives the same store, as after a restart of the handler;
//! a new name gives an empty one.

use std::sync::Arc;

use jiff::SignedDuration;
use pushbutton_core::event::{EventId, Position};
use pushbutton_core::samples;
use pushbutton_core::{ChangeNumber, EventStore, PatchsetNumber};

/// Runs all checks.
pub async fn all(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let open = &open;
    an_event_is_new_only_once(open).await;
    an_event_is_new_for_one_of_many_callers(open).await;
    records_survive_a_restart(open).await;
    a_position_never_goes_back(open).await;
    a_position_keeps_its_token(open).await;
}

/// `record`: `Ok(true)` when it is new, `Ok(false)` when it was recorded before. `has_seen` agrees, and records
/// nothing.
pub async fn an_event_is_new_only_once(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let store = open("new-once").await;
    for _ in 0..2 {
        assert!(!seen(&*store, 1).await, "an event counts as seen although it was not recorded");
    }
    assert!(record(&*store, 1).await, "an event that was never recorded is not new");
    assert!(!record(&*store, 1).await, "an event that was recorded is new again");
    assert!(seen(&*store, 1).await, "an event that was recorded does not count as seen");
    assert!(!seen(&*store, 2).await, "recording one event marked another as seen");
    assert!(record(&*store, 2).await, "recording one event recorded another");
}

/// `record`: for exactly one of several concurrent callers the event is new.
pub async fn an_event_is_new_for_one_of_many_callers(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let store = open("one-first").await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { record(&*store, 1).await })
        })
        .collect();
    let mut first = 0;
    for task in tasks {
        first += usize::from(task.await.expect("recording does not panic"));
    }
    assert_eq!(first, 1, "the event was new for {first} of eight concurrent callers");
}

/// `record` and `commit`: `Ok` means durable.
pub async fn records_survive_a_restart(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let store = open("durable").await;
    record(&*store, 1).await;
    commit(&*store, &position(5)).await;
    drop(store);
    let store = open("durable").await;
    assert!(seen(&*store, 1).await, "a recorded event was lost at the restart");
    assert!(!record(&*store, 1).await, "a recorded event is new again after the restart");
    assert_eq!(committed(&*store).await, Some(position(5)), "the position was lost at the restart");
}

/// `position`: none before the first commit. `commit`: never goes back.
pub async fn a_position_never_goes_back(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let store = open("forward").await;
    assert_eq!(committed(&*store).await, None, "there is a position before the first commit");
    for (commits, expected) in [(10, 10), (20, 20), (15, 20), (20, 20), (21, 21), (0, 21)] {
        commit(&*store, &position(commits)).await;
        let found = committed(&*store).await;
        assert_eq!(found, Some(position(expected)), "the position after a commit of {commits} s");
    }
}

/// `position`: returns all that was committed: the time to the nanosecond, and the source's own token.
pub async fn a_position_keeps_its_token(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let store = open("token").await;
    let at = samples::AT + SignedDuration::from_nanos(123_456_789);
    let position = Position::at(at).with_token("page \"2\"; é\n".to_owned());
    commit(&*store, &position).await;
    assert_eq!(committed(&*store).await, Some(position), "the position has changed");
}

fn event(n: u64) -> EventId {
    EventId::manual(ChangeNumber(n), PatchsetNumber(1), "conformance")
}

fn position(seconds: i64) -> Position {
    Position::at(samples::AT + SignedDuration::from_secs(seconds))
}

async fn seen(store: &dyn EventStore, n: u64) -> bool {
    store.has_seen(&event(n)).await.expect("looking up an event works")
}

async fn record(store: &dyn EventStore, n: u64) -> bool {
    store.record(&event(n)).await.expect("recording an event works")
}

async fn commit(store: &dyn EventStore, position: &Position) {
    store.commit(position).await.expect("committing a position works");
}

async fn committed(store: &dyn EventStore) -> Option<Position> {
    store.position().await.expect("reading the position works")
}
