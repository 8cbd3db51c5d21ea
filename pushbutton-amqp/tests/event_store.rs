//! The event store on RabbitMQ is one for all handlers, bounded, and loses nothing with a broker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests report by panicking"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::proxy::Proxy;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::SignedDuration;
use pushbutton_amqp::{AmqpConfig, AmqpEventStore};
use pushbutton_core::samples;
use pushbutton_core::{ChangeNumber, EventId, EventStore, PatchsetNumber, Position};
use pushbutton_testbed::{Version, rabbitmq};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::Instant;

const LEASE: Duration = Duration::from_secs(30);
/// What a caller's window holds.
const WINDOW: usize = 64;

fn event(n: u64) -> EventId {
    EventId::manual(ChangeNumber(n), PatchsetNumber(1), "store")
}

fn position(seconds: i64) -> Position {
    Position::at(samples::AT + SignedDuration::from_secs(seconds))
}

/// A handler's event store, on a connection of its own.
async fn open(config: &AmqpConfig) -> AmqpEventStore {
    common::connect(config).await.event_store()
}

/// Records as a handler does: so many at once, each until it is confirmed. Returns how many were new.
async fn record_all(store: &AmqpEventStore, events: impl Iterator<Item = u64>) -> usize {
    let mut events = events.map(|n| async move {
        loop {
            match store.record(&event(n)).await {
                Ok(new) => return new,
                Err(error) => assert!(error.is_temporary(), "{error:?}"),
            }
        }
    });
    let mut pending: FuturesUnordered<_> = events.by_ref().take(WINDOW).collect();
    let mut new = 0;
    while let Some(was_new) = pending.next().await {
        new += usize::from(was_new);
        pending.extend(events.next());
    }
    new
}

/// A handler that asks for the position has read everything that was confirmed to another; of two that record an
/// event, one is first.
#[tokio::test(flavor = "multi_thread")]
async fn two_handlers_share_one_event_store() {
    for version in [Version::V3, Version::V4] {
        let broker = block_in_place(|| rabbitmq(version));
        let config = common::config(&broker.url, &common::prefix("shared"), LEASE);
        let (one, other) = (open(&config).await, open(&config).await);
        assert_eq!(other.position().await.unwrap(), None);
        for round in 0..20 {
            let (active, standby) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
            active.record(&event(round)).await.unwrap();
            active.commit(&position(i64::try_from(round).unwrap())).await.unwrap();
            let taken_over = standby.position().await.unwrap();
            assert_eq!(taken_over, Some(position(i64::try_from(round).unwrap())));
            assert!(standby.has_seen(&event(round)).await.unwrap(), "what was confirmed was read");
        }
        let at_once = async |store: &AmqpEventStore| record_all(store, 1_000..1_500).await;
        let (mine, theirs) = tokio::join!(at_once(&one), at_once(&other));
        assert_eq!(mine + theirs, 500, "each event is new to one of the two");
        common::delete(&broker.url, [&config.prefix]).await;
    }
}

/// Memory and stream stay bounded, the newest events are remembered, and who comes late knows them too.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_is_recorded_in_a_bounded_space() {
    const EVENTS: u64 = 55_000;
    let broker = block_in_place(|| rabbitmq(Version::V4));
    let config = common::config(&broker.url, &common::prefix("flood"), LEASE);
    let store = open(&config).await;
    let started = Instant::now();
    let new = record_all(&store, 0..EVENTS).await;
    eprintln!("{EVENTS} events in windows of {WINDOW}: {:?}", started.elapsed());
    assert_eq!(new as u64, EVENTS);
    // A source may need a long token. More of them than the log holds:
    let token = "t".repeat(200_000);
    for at in 0..=400 {
        store.commit(&position(at).with_token(Some(token.clone()))).await.unwrap();
    }
    store.commit(&position(401)).await.unwrap();

    let started = Instant::now();
    let late = open(&config).await;
    assert_eq!(late.position().await.unwrap(), Some(position(401)));
    eprintln!("read again in {:?}", started.elapsed());
    for store in [&store, &late] {
        assert!(store.has_seen(&event(EVENTS - 1)).await.unwrap());
        // Those of a window overtake each other.
        assert!(store.has_seen(&event(EVENTS - 49_000)).await.unwrap(), "50,000 are remembered");
        assert!(!store.has_seen(&event(EVENTS - 51_000)).await.unwrap(), "and no more");
    }
    let first = common::first_offset(&broker.url, &format!("{}.log", config.prefix)).await;
    assert!(first > 0, "the stream's beginning was dropped");
    common::delete(&broker.url, [&config.prefix]).await;
}

/// Connections are cut again and again while two handlers record: what was confirmed is there, each event new once at
/// most.
async fn cut_again_and_again(version: Version) {
    const EVENTS: u64 = 3_000;
    let broker = block_in_place(|| rabbitmq(version));
    let proxy = Arc::new(Proxy::before(&broker.url).await);
    let config = common::config(&proxy.url, &common::prefix("cut"), LEASE);
    let mut recording = JoinSet::new();
    for _ in 0..2 {
        let store = open(&config).await;
        recording.spawn(async move { record_all(&store, 0..EVENTS).await });
    }
    let mut cuts = tokio::time::interval(Duration::from_millis(700));
    let mut new = 0;
    loop {
        tokio::select! {
            recorded = recording.join_next() => match recorded {
                Some(recorded) => new += recorded.unwrap(),
                None => break,
            },
            _ = cuts.tick(), if proxy.cuts() < 12 => proxy.cut(),
        }
    }
    assert!(new as u64 <= EVENTS, "{new} of {EVENTS} events were called new");
    let direct = open(&common::config(&broker.url, &config.prefix, LEASE)).await;
    direct.position().await.unwrap();
    for n in 0..EVENTS {
        assert!(direct.has_seen(&event(n)).await.unwrap(), "event {n} was confirmed");
    }
    common::delete(&broker.url, [&config.prefix]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_to_rabbitmq_3_10_lose_no_event() {
    cut_again_and_again(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_to_rabbitmq_4_lose_no_event() {
    cut_again_and_again(Version::V4).await;
}

/// A broker that is killed keeps what it confirmed; meanwhile the store answers from memory.
async fn killed(version: Version) {
    let mut broker = common::private(version);
    let config = common::config(&broker.url, "killed", LEASE);
    let store = open(&config).await;
    common::first_stream_is_on_disk(&broker);
    assert_eq!(record_all(&store, 0..100).await, 100);
    store.commit(&position(1)).await.unwrap();
    block_in_place(|| broker.kill9());
    assert!(store.has_seen(&event(99)).await.unwrap(), "answered from memory");
    block_in_place(|| broker.restart());
    assert_eq!(record_all(&store, 50..150).await, 50);
    let other = open(&config).await;
    assert_eq!(other.position().await.unwrap(), Some(position(1)));
    for n in 0..150 {
        assert!(other.has_seen(&event(n)).await.unwrap(), "event {n} was confirmed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_outlives_a_killed_rabbitmq_3_10() {
    killed(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_outlives_a_killed_rabbitmq_4() {
    killed(Version::V4).await;
}

/// What the broker has lost for good, a handler that still knows it writes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_lost_is_written_again() {
    for version in [Version::V3, Version::V4] {
        let broker = block_in_place(|| rabbitmq(version));
        let proxy = Proxy::before(&broker.url).await;
        let config = common::config(&proxy.url, &common::prefix("lost"), LEASE);
        let store = open(&config).await;
        assert_eq!(record_all(&store, 0..100).await, 100);
        store.commit(&position(1)).await.unwrap();
        proxy.close();
        let (connection, channel) = common::channel(&broker.url).await;
        common::delete_queue(&channel, &format!("{}.log", config.prefix)).await;
        connection.close(200, "done".into()).await.unwrap();
        proxy.open();
        assert_eq!(record_all(&store, 50..101).await, 1);
        let late = open(&config).await;
        assert_eq!(late.position().await.unwrap(), Some(position(1)));
        for n in 0..101 {
            assert!(late.has_seen(&event(n)).await.unwrap(), "event {n} was written again");
        }
        common::delete(&broker.url, [&config.prefix]).await;
    }
}
