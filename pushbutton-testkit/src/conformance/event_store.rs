//! The contract of [`EventStore`], as checks.
//!
//! Each check opens event stores through `open`: the same name gives the same ledger, as a handler that was started again would have
//! it; a name that was not used before gives an empty one.

use std::sync::Arc;

use jiff::SignedDuration;
use pushbutton_core::event::{EventId, Position};
use pushbutton_core::samples;
use pushbutton_core::{ChangeNumber, EventStore, PatchsetNumber};

/// Runs every check.
pub async fn all(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let open = &open;
    an_event_is_new_once(open).await;
    of_many_who_record_an_event_one_is_first(open).await;
    what_was_recorded_outlives_the_handle(open).await;
    a_position_never_goes_back(open).await;
    a_position_keeps_its_token(open).await;
}

/// `record`: `Ok(true)` when it is new, `Ok(false)` when it was recorded before; `has_seen` agrees, and asking records nothing.
pub async fn an_event_is_new_once(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let store = open("new-once").await;
    for _ in 0..2 {
        assert!(!seen(&*store, 1).await, "an event counts as seen although nobody recorded it");
    }
    assert!(record(&*store, 1).await, "an event that was never recorded is not new");
    assert!(!record(&*store, 1).await, "an event that was recorded is new again");
    assert!(seen(&*store, 1).await, "an event that was recorded does not count as seen");
    assert!(!seen(&*store, 2).await, "recording one event marked another as seen");
    assert!(record(&*store, 2).await, "recording one event made another old");
}

/// `record`: of several callers at once, exactly one hears that the event is new.
pub async fn of_many_who_record_an_event_one_is_first(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
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
    assert_eq!(first, 1, "of eight callers at once, {first} were told that the event is new");
}

/// `record` and `commit`: `Ok` means durable.
pub async fn what_was_recorded_outlives_the_handle(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let store = open("durable").await;
    record(&*store, 1).await;
    commit(&*store, &position(5)).await;
    drop(store);
    let store = open("durable").await;
    assert!(seen(&*store, 1).await, "a recorded event was forgotten with the handle");
    assert!(!record(&*store, 1).await, "a recorded event is new to the next handle");
    assert_eq!(committed(&*store).await, Some(position(5)), "the position was forgotten with the handle");
}

/// `position`: none before the first commit. `commit`: never goes back.
pub async fn a_position_never_goes_back(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let store = open("forward").await;
    assert_eq!(committed(&*store).await, None, "there is a position before the first commit");
    for (commits, stands) in [(10, 10), (20, 20), (15, 20), (20, 20), (21, 21), (0, 21)] {
        commit(&*store, &position(commits)).await;
        let found = committed(&*store).await;
        assert_eq!(found, Some(position(stands)), "after committing {commits} s, {stands} s should stand");
    }
}

/// `position`: gives back all of what was committed: the time to the nanosecond, and the source's own token.
pub async fn a_position_keeps_its_token(open: impl AsyncFn(&str) -> Arc<dyn EventStore>) {
    let store = open("token").await;
    let at = samples::AT + SignedDuration::from_nanos(123_456_789);
    let position = Position::at(at).with_token("page \"2\"; é\n".to_owned());
    commit(&*store, &position).await;
    assert_eq!(committed(&*store).await, Some(position), "the position came back changed");
}

fn event(n: u64) -> EventId {
    EventId::manual(ChangeNumber(n), PatchsetNumber(1), "conformance")
}

fn position(seconds: i64) -> Position {
    Position::at(samples::AT + SignedDuration::from_secs(seconds))
}

async fn seen(store: &dyn EventStore, n: u64) -> bool {
    store.has_seen(&event(n)).await.expect("asking for an event works")
}

async fn record(store: &dyn EventStore, n: u64) -> bool {
    store.record(&event(n)).await.expect("recording an event works")
}

async fn commit(store: &dyn EventStore, position: &Position) {
    store.commit(position).await.expect("committing a position works");
}

async fn committed(store: &dyn EventStore) -> Option<Position> {
    store.position().await.expect("asking for the position works")
}
