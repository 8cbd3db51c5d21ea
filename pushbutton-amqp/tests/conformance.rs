//! The queue on RabbitMQ keeps the contract of `Queue`, on 3.10 and on 4.x.
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

use pushbutton_core::Queue;
use pushbutton_testbed::{Version, rabbitmq};
use pushbutton_testkit::conformance::queue;

/// The holder's is four fifths of it. The checks renew every quarter of that: what a busy machine needs for one answer.
const LEASE: Duration = Duration::from_secs(8);

async fn suite(version: Version) {
    let broker = tokio::task::spawn_blocking(move || rabbitmq(version)).await.expect("the broker is up");
    let names = Mutex::new(BTreeSet::new());
    let prefix = common::prefix("suite");
    queue::all(async |name: &str| {
        let prefix = format!("{prefix}-{name}");
        names.lock().unwrap().insert(prefix.clone());
        let config = common::config(&broker.url, &prefix, LEASE);
        common::connect(&config).await as Arc<dyn Queue>
    })
    .await;
    let names = names.into_inner().unwrap();
    common::delete(&broker.url, names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_3_10_keeps_the_contract() {
    suite(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_4_keeps_the_contract() {
    suite(Version::V4).await;
}
