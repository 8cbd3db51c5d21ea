//! What the queue does when its broker accepts connections and does not answer any more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod common;

use std::time::Duration;

use pushbutton_core::{HumanDuration, Queue as _};
use pushbutton_testbed::{Broker, Version};
use pushbutton_testkit::conformance::time_bounded;

#[tokio::test(flavor = "multi_thread")]
async fn every_call_but_claim_ends_in_time() {
    let broker = Broker::private(Version::V4);
    let mut config = common::config(&broker.url, &common::prefix("silent"), Duration::from_secs(30));
    config.timeout = HumanDuration::secs(5);
    let queue = common::connect(&config).await;
    queue.depth().await.unwrap();
    broker.freeze();
    time_bounded::queue(&*queue).await;
    broker.thaw();
    common::soon(async {
        while queue.depth().await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}
