//! The broker is killed between the end of a job and the delivery of its report.

use std::time::Duration;

use pushbutton_core::samples::{job_on, success};
use pushbutton_core::{Queue, QueueDepth};
use pushbutton_testbed::Version;
use tokio::task::block_in_place;
use tokio::time::timeout;

use crate::common;

/// Every result makes one report, which is delivered once.
async fn killed_before_the_delivery(version: Version) {
    let mut broker = common::private(version);
    let config = common::config(&broker.url, "outbox", Duration::from_secs(600));
    let (operator, handler) = (common::connect(&config).await, common::connect(&config).await);
    common::first_stream_is_on_disk(&broker);
    for n in [1, 2, 3] {
        common::publish(&handler, &job_on(n, "tempest")).await;
    }
    let (first, second, third) =
        (common::claim(&operator).await, common::claim(&operator).await, common::claim(&operator).await);
    common::complete(&*first).await;
    let due = common::delivery(&handler).await;
    assert_eq!(due.report().change.number.0, 1);
    common::complete(&*second).await;
    block_in_place(|| broker.kill9());
    // The caller stops waiting for an answer, and cannot know whether the result has arrived.
    let result = success(third.job());
    assert!(timeout(Duration::from_secs(1), third.complete(&result)).await.is_err(), "there is no broker");
    block_in_place(|| broker.restart());
    let completing = async {
        while let Err(error) = third.complete(&result).await {
            assert!(error.is_temporary(), "{error:?}");
        }
    };
    common::soon(completing).await;
    third.complete(&result).await.expect("it is completed already");
    due.done().await.expect("the delivery outlasts the broker");
    for n in [2, 3] {
        let due = common::delivery(&handler).await;
        assert_eq!(due.report().change.number.0, n);
        due.done().await.unwrap();
    }
    block_in_place(|| {
        broker.kill9();
        broker.restart();
    });
    let late = common::connect(&config).await;
    for n in [1, 2, 3] {
        common::publish(&late, &job_on(n, "tempest")).await;
    }
    for queue in [&operator, &handler, &late] {
        common::depth_until(queue, |depth| depth == QueueDepth::default()).await;
        let again = timeout(Duration::from_millis(500), queue.claim_report()).await;
        assert!(again.is_err(), "a report is delivered again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_3_10_killed_before_a_delivery_loses_and_doubles_no_report() {
    killed_before_the_delivery(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_4_killed_before_a_delivery_loses_and_doubles_no_report() {
    killed_before_the_delivery(Version::V4).await;
}
