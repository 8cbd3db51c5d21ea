//! Many jobs, and a long record.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use pushbutton_core::samples::job_on;
use pushbutton_core::{Queue, QueueDepth};
use pushbutton_testbed::{Version, rabbitmq};
use tokio::task::block_in_place;
use tokio::time::Instant;

use crate::{both, common, config};

/// Ten thousand jobs wait on the broker. What every participant holds in memory is what the record says, and that knows of those
/// alone that were claimed.
async fn ten_thousand_jobs_wait_on_the_broker(version: Version) {
    const JOBS: u64 = 10_000;
    const CLAIMED: u64 = 20;
    let url = block_in_place(|| rabbitmq(version).url.clone());
    let config = config(&url, "many", 300);
    let (handler, operator) = (common::connect(&config).await, common::connect(&config).await);
    let jobs: Vec<_> = (0..JOBS).map(|n| job_on(n, "tempest")).collect();
    let started = Instant::now();
    let published: Vec<_> = stream::iter(&jobs).map(|job| handler.publish(job)).buffered(64).collect().await;
    let failed: Vec<_> = published.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
    tracing::info!(
        "{version:?}: {:.0} jobs/s published in a window of 64",
        JOBS as f64 / started.elapsed().as_secs_f64()
    );
    let all = QueueDepth { waiting: JOBS, leased: 0, dead: 0 };
    common::depth_until(&operator, |depth| depth == all).await;
    let before = common::record_bytes(&config).await;
    assert!(before < 4_096, "nobody claimed anything, and the record holds {before} bytes");

    let started = Instant::now();
    for n in 0..CLAIMED {
        let claim = common::claim(&operator).await;
        assert_eq!(claim.job().change.number.0, n, "jobs come in the order of publishing");
        claim.complete().await.unwrap();
    }
    let rate = CLAIMED as f64 / started.elapsed().as_secs_f64();
    tracing::info!("{version:?}: {rate:.0} jobs/s claimed and completed, one after another");
    let rest = QueueDepth { waiting: JOBS - CLAIMED, ..all };
    common::depth_until(&handler, |depth| depth == rest).await;
    let after = common::record_bytes(&config).await - before;
    let each = serde_json::to_vec(&jobs[0]).unwrap().len() as u64 + 1_024;
    assert!(
        after < (CLAIMED + 2) * each,
        "{CLAIMED} jobs were claimed, and the record grew by {after} bytes"
    );
    common::delete(&url, [&config.prefix]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_wait_on_rabbitmq_3_10() {
    ten_thousand_jobs_wait_on_the_broker(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_wait_on_rabbitmq_4() {
    ten_thousand_jobs_wait_on_the_broker(Version::V4).await;
}

/// The record is cut at its beginning by the broker; what it said is still known, to old readers and new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_longer_than_the_broker_keeps_forgets_nothing() {
    for url in both() {
        let config = config(&url, "long", 600);
        let queue = common::connect(&config).await;
        for n in 0..3 {
            queue.publish(&job_on(n, "tempest")).await.unwrap();
        }
        common::claim(&queue).await.complete().await.unwrap();
        common::claim(&queue).await.reject("no such job").await.unwrap();
        let held = common::claim(&queue).await;

        let (_connection, channel) = common::channel(&url).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let record = format!("{}.record", config.prefix);
        let header = lapin::types::FieldTable::from(BTreeMap::from([("pushbutton-format".into(), 1.into())]));
        let properties = BasicProperties::default().with_headers(header);
        // Entries that do nothing but take space, 2 MiB at a time; then one of ours.
        let padding = "x".repeat(64 << 10);
        for round in 0..24 {
            let mut confirms = Vec::new();
            for n in 0..33 {
                let body = format!(
                    r#"{{"mark":"{:032x}","op":{{"op":"hello"}},"padding":"{padding}"}}"#,
                    0x7000_0000_0000_u64 + round * 100 + n
                );
                let options = BasicPublishOptions::default();
                let sent = channel.basic_publish(
                    "".into(),
                    record.as_str().into(),
                    options,
                    body.as_bytes(),
                    properties.clone(),
                );
                confirms.push(sent.await.unwrap());
            }
            for confirmed in join_all(confirms).await {
                assert!(confirmed.unwrap().is_ack());
            }
            held.renew().await.unwrap();
        }
        // The broker drops the beginning in its own time.
        common::soon(async { while common::first_offset(&url, &record).await == 0 {} }).await;

        let later = common::connect(&config).await;
        let known = QueueDepth { waiting: 0, leased: 1, dead: 1 };
        common::depth_until(&later, |depth| depth == known).await;
        common::depth_until(&queue, |depth| depth == known).await;
        later.publish(&job_on(0, "tempest")).await.unwrap();
        common::nothing_for(&later, Duration::from_secs(1)).await;
        held.complete().await.unwrap();
        common::delete(&url, [&config.prefix]).await;
    }
}
