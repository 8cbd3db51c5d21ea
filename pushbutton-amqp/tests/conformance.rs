//! The parts on RabbitMQ keep the contracts of core's traits, on 3.10 and on 4.x.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests report by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushbutton_amqp::AmqpQueue;
use pushbutton_core::memory::MemoryHistory;
use pushbutton_core::{EventStore, Queue};
use pushbutton_testbed::{Version, rabbitmq};
use pushbutton_testkit::conformance::dead_letters::{self, QueueWithDeadLetters};
use pushbutton_testkit::conformance::outbox::{self, QueueWithOutbox};
use pushbutton_testkit::conformance::{event_store, history, queue};

/// The holder's part is four fifths of it. The checks renew every quarter of that: what a busy machine needs for one
/// answer.
const LEASE: Duration = Duration::from_secs(10);

/// Opens queues by name, and deletes them all in the end.
struct Queues {
    url: String,
    prefix: String,
    prefixes: Mutex<BTreeSet<String>>,
}

impl Queues {
    async fn new(version: Version, suite: &str) -> Self {
        let url = tokio::task::spawn_blocking(move || rabbitmq(version).url.clone())
            .await
            .expect("the broker is up");
        Self { url, prefix: common::prefix(suite), prefixes: Mutex::default() }
    }

    async fn open(&self, name: &str) -> Arc<AmqpQueue> {
        let prefix = format!("{}-{name}", self.prefix);
        self.prefixes.lock().unwrap().insert(prefix.clone());
        common::connect(&common::config(&self.url, &prefix, LEASE)).await
    }

    async fn delete(self) {
        common::delete(&self.url, self.prefixes.into_inner().unwrap()).await;
    }
}

async fn queue_suite(version: Version) {
    let queues = Queues::new(version, "queue").await;
    queue::all(async |name: &str| queues.open(name).await as Arc<dyn Queue>).await;
    queues.delete().await;
}

async fn dead_letter_suite(version: Version) {
    let queues = Queues::new(version, "dead").await;
    dead_letters::all(async |name: &str| queues.open(name).await as Arc<dyn QueueWithDeadLetters>).await;
    queues.delete().await;
}

async fn outbox_suite(version: Version) {
    let queues = Queues::new(version, "outbox").await;
    outbox::all(async |name: &str| queues.open(name).await as Arc<dyn QueueWithOutbox>).await;
    queues.delete().await;
}

/// Each participant has a connection and a copy of its own.
async fn history_suite(version: Version) {
    let queues = Queues::new(version, "history").await;
    history::all(async |name: &str| {
        let (queue, copy) = (queues.open(name).await, MemoryHistory::default());
        let (shared, followed) = (queue.history(), copy.clone());
        let follower = shared.clone();
        tokio::spawn(async move { follower.follow(&followed).await });
        history::Participant { log: Arc::new(shared), history: Arc::new(copy) }
    })
    .await;
    queues.delete().await;
}

async fn event_store_suite(version: Version) {
    let queues = Queues::new(version, "events").await;
    event_store::all(async |name: &str| {
        Arc::new(queues.open(name).await.event_store()) as Arc<dyn EventStore>
    })
    .await;
    queues.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_on_rabbitmq_3_10_keeps_its_contract() {
    queue_suite(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_on_rabbitmq_4_keeps_its_contract() {
    queue_suite(Version::V4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letters_on_rabbitmq_3_10_keep_their_contract() {
    dead_letter_suite(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letters_on_rabbitmq_4_keep_their_contract() {
    dead_letter_suite(Version::V4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_on_rabbitmq_3_10_keeps_its_contract() {
    outbox_suite(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_on_rabbitmq_4_keeps_its_contract() {
    outbox_suite(Version::V4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_on_rabbitmq_3_10_keeps_its_contract() {
    history_suite(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_on_rabbitmq_4_keeps_its_contract() {
    history_suite(Version::V4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_store_on_rabbitmq_3_10_keeps_its_contract() {
    event_store_suite(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_store_on_rabbitmq_4_keeps_its_contract() {
    event_store_suite(Version::V4).await;
}
