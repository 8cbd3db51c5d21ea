//! The shared history on RabbitMQ when the broker is away, when its stream is another one, and with other retention.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests report by panicking"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use pushbutton_amqp::AmqpQueue;
use pushbutton_core::memory::MemoryHistory;
use pushbutton_core::{ControlMessage, HistoryEntry, HistoryLog as _, RunHistory as _, samples};
use pushbutton_testbed::{Version, rabbitmq};

use common::soon;

const LEASE: Duration = Duration::from_secs(60);

fn entry(by: &str) -> HistoryEntry {
    HistoryEntry::Control { message: ControlMessage::Unmuted { by: by.to_owned(), at: samples::AT } }
}

async fn append(queue: &AmqpQueue, by: &str) {
    queue.history().append(entry(by)).await.unwrap();
}

/// Who is known to have done something.
async fn known(copy: &MemoryHistory) -> Vec<String> {
    let actions = copy.actions(1000).await.unwrap().into_iter().map(|message| match message {
        ControlMessage::Unmuted { by, .. } => by,
        other => panic!("{other:?}"),
    });
    let mut all: Vec<_> = actions.collect();
    all.sort();
    all
}

/// Follows until the copy knows exactly these.
async fn follow_until(queue: &AmqpQueue, copy: &MemoryHistory, expected: &[&str]) {
    let history = queue.history();
    let arrived = async {
        while known(copy).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(async {
        tokio::select! {
            () = history.follow(copy) => panic!("the queue was closed"),
            () = arrived => {}
        }
    })
    .await;
}

async fn a_stream_is_replaced(version: Version) {
    let url = tokio::task::block_in_place(|| rabbitmq(version).url.clone());
    let prefix = common::prefix("history-replaced");
    let mut config = common::config(&url, &prefix, LEASE);
    let (first, copy) = (common::connect(&config).await, MemoryHistory::default());
    for by in ["a", "b", "c"] {
        append(&first, by).await;
    }
    follow_until(&first, &copy, &["a", "b", "c"]).await;
    // Another participant is configured with other retention, which the broker would not change.
    config.history_mib = 64;
    let second = common::connect(&config).await;
    append(&second, "d").await;
    soon(second.history().catch_up(&copy)).await.unwrap();
    follow_until(&second, &copy, &["a", "b", "c", "d"]).await;
    // Its places begin at zero again.
    let (connection, channel) = common::channel(&url).await;
    common::delete_queue(&channel, &format!("{prefix}.history")).await;
    connection.close(200, "done".into()).await.unwrap();
    append(&first, "e").await;
    follow_until(&first, &copy, &["a", "b", "c", "d", "e"]).await;
    let fresh = MemoryHistory::default();
    soon(first.history().catch_up(&fresh)).await.unwrap();
    assert_eq!(known(&fresh).await, ["e"]);
    assert_eq!(first.history().dropped(), 0);
    first.close().await;
    second.close().await;
    common::delete(&url, [&prefix]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_begins_again_when_the_stream_is_another_one_on_rabbitmq_3_10() {
    a_stream_is_replaced(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_begins_again_when_the_stream_is_another_one_on_rabbitmq_4() {
    a_stream_is_replaced(Version::V4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_wait_while_the_broker_is_away_and_nobody_waits_for_them() {
    let mut broker = common::private(Version::V4);
    let config = common::config(&broker.url, &common::prefix("history-away"), LEASE);
    let (queue, copy) = (common::connect(&config).await, MemoryHistory::default());
    append(&queue, "before").await;
    follow_until(&queue, &copy, &["before"]).await;
    common::first_stream_is_on_disk(&broker);
    let following = {
        let (history, copy) = (queue.history(), copy.clone());
        tokio::spawn(async move { history.follow(&copy).await })
    };
    broker = tokio::task::spawn_blocking(move || {
        broker.kill9();
        broker
    })
    .await
    .unwrap();
    let began = tokio::time::Instant::now();
    for n in 0..100 {
        append(&queue, &format!("away-{:02}", n)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "appending has waited: {:?}", began.elapsed());
    let broker = tokio::task::spawn_blocking(move || {
        broker.restart();
        broker
    })
    .await
    .unwrap();
    soon(async {
        while known(&copy).await.len() != 101 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let fresh = MemoryHistory::default();
    let other = common::connect(&config).await;
    soon(other.history().catch_up(&fresh)).await.unwrap();
    assert_eq!(known(&fresh).await, known(&copy).await);
    other.close().await;
    queue.close().await;
    soon(following).await.unwrap();
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_entries_are_written_when_the_queue_is_closed() {
    let url = tokio::task::block_in_place(|| rabbitmq(Version::V4).url.clone());
    let prefix = common::prefix("history-close");
    let config = common::config(&url, &prefix, LEASE);
    for by in ["a", "b"] {
        let queue = common::connect(&config).await;
        append(&queue, by).await;
        queue.close().await;
    }
    let (queue, copy) = (common::connect(&config).await, Arc::new(MemoryHistory::default()));
    soon(queue.history().catch_up(copy.as_ref())).await.unwrap();
    assert_eq!(known(&copy).await, ["a", "b"]);
    queue.close().await;
    common::delete(&url, [&prefix]).await;
}
