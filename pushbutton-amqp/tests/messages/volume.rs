//! Many jobs, and a long log.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use pushbutton_core::samples::job_on;
use pushbutton_core::{Queue, QueueDepth};
use pushbutton_testbed::{Version, rabbitmq};
use tokio::task::block_in_place;
use tokio::time::Instant;

use crate::{both, common, config};

/// Ten thousand jobs wait. The log, and with it the memory of every participant, holds at most 4 MiB of them; the
/// others stay in the inbox until there is room.
async fn ten_thousand_jobs_wait(version: Version) {
    const JOBS: u64 = 10_000;
    const CLAIMED: u64 = 20;
    let url = block_in_place(|| rabbitmq(version).url.clone());
    let config = config(&url, "many", 300);
    let (handler, operator) = (common::connect(&config).await, common::connect(&config).await);
    let jobs: Vec<_> = (0..JOBS).map(|n| job_on(n, "tempest")).collect();
    let started = Instant::now();
    // Unconstrained: when tokio makes a call yield, the next one would overtake it.
    let publishing = stream::iter(&jobs).map(|job| handler.publish(job)).buffered(64).collect();
    let published: Vec<_> = tokio::task::unconstrained(publishing).await;
    let failed: Vec<_> = published.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
    tracing::info!(
        "{version:?}: {:.0} jobs/s published in a window of 64",
        JOBS as f64 / started.elapsed().as_secs_f64()
    );
    let all = QueueDepth::new(JOBS, 0, 0);
    common::depth_until(&operator, |depth| depth == all).await;
    let size = serde_json::to_vec(&jobs[0]).unwrap().len() as u64;
    let batch = 2 * 64;
    let most = (4 << 20) / size + batch;
    let (_connection, channel) = common::channel(&url).await;
    let inbox = u64::from(common::queue_length(&channel, &format!("{}.jobs", config.prefix)).await);
    assert!(JOBS - inbox <= most, "{} jobs are in the log", JOBS - inbox);

    let started = Instant::now();
    for n in 0..CLAIMED {
        let claim = common::claim(&operator).await;
        assert_eq!(claim.job().change.number.0, n, "jobs come in the order of publishing");
        common::complete(claim.as_ref()).await;
        common::delivery(&handler).await.done().await.unwrap();
    }
    let rate = CLAIMED as f64 / started.elapsed().as_secs_f64();
    tracing::info!("{version:?}: {rate:.0} jobs/s claimed, completed and reported, one after another");
    let rest = QueueDepth::new(JOBS - CLAIMED, 0, 0);
    common::depth_until(&handler, |depth| depth == rest).await;
    // The others move into the log in their turn.
    for n in CLAIMED..JOBS {
        let claim = common::claim(&operator).await;
        assert_eq!(claim.job().change.number.0, n, "jobs come in the order of publishing");
        if n > most + 100 {
            break;
        }
        common::complete(claim.as_ref()).await;
        common::delivery(&handler).await.done().await.unwrap();
    }
    common::delete(&url, [&config.prefix]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_wait_on_rabbitmq_3_10() {
    ten_thousand_jobs_wait(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_wait_on_rabbitmq_4() {
    ten_thousand_jobs_wait(Version::V4).await;
}

/// The client's buffers are as large as 32 frames, for each of two connections. A job may be longer than a frame.
async fn frames_are_small_and_long_jobs_pass(version: Version) {
    let broker = block_in_place(|| rabbitmq(version));
    let config = config(&broker.url, "frames", 300);
    let queue = common::connect(&config).await;
    let mut job = job_on(1, "tempest");
    job.change.subject = "x".repeat(50 << 10);
    queue.publish(&job).await.unwrap();
    let claim = common::claim(&queue).await;
    assert_eq!(claim.job().change.subject, job.change.subject);

    let command = ["rabbitmqctl", "--silent", "list_connections", "frame_max", "client_properties"];
    let said = block_in_place(|| broker.ctl(&command));
    let ours: Vec<_> = said.lines().filter(|line| line.contains(&config.prefix)).collect();
    assert!(!ours.is_empty() && ours.iter().all(|line| line.starts_with("16384\t")), "{said}");
    common::delete(&broker.url, [&config.prefix]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_small_and_long_jobs_pass_on_rabbitmq_3_10() {
    frames_are_small_and_long_jobs_pass(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_small_and_long_jobs_pass_on_rabbitmq_4() {
    frames_are_small_and_long_jobs_pass(Version::V4).await;
}

/// The broker drops the beginning of the log; what it said is still known, to old readers and new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_longer_than_the_broker_keeps_forgets_nothing() {
    for url in both() {
        let config = config(&url, "long", 600);
        let queue = common::connect(&config).await;
        for n in 0..4 {
            queue.publish(&job_on(n, "tempest")).await.unwrap();
        }
        common::complete(common::claim(&queue).await.as_ref()).await;
        common::claim(&queue).await.reject("no such job").await.unwrap();
        let held = common::claim(&queue).await;

        let (_connection, channel) = common::channel(&url).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let log = format!("{}.log", config.prefix);
        let mut header = FieldTable::default();
        header.insert("pushbutton-format".into(), 1.into());
        let properties = BasicProperties::default().with_headers(header);
        // Entries that do nothing but take space, 2 MiB at a time; then one of ours.
        let padding = "x".repeat(64 << 10);
        for round in 0..40 {
            let mut confirms = Vec::new();
            for n in 0..33 {
                let body = format!(
                    r#"{{"id":"{:032x}","op":"barrier","padding":"{padding}"}}"#,
                    0x7000_0000_0000_u64 + round * 100 + n
                );
                let options = BasicPublishOptions::default();
                let sent = channel.basic_publish(
                    "".into(),
                    log.as_str().into(),
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
        common::soon(async { while common::first_offset(&url, &log).await == 0 {} }).await;

        let later = common::connect(&config).await;
        let known = QueueDepth::new(1, 1, 1).with_reports(1u64);
        common::depth_until(&later, |depth| depth == known).await;
        common::depth_until(&queue, |depth| depth == known).await;
        later.publish(&job_on(0, "tempest")).await.unwrap();
        let next = common::claim(&later).await;
        assert_eq!(next.job().change.number.0, 3, "a completed job is not run again");
        common::complete(next.as_ref()).await;
        common::nothing_for(&later, Duration::from_secs(1)).await;
        common::complete(held.as_ref()).await;
        for n in [0, 3, 2] {
            let due = common::delivery(&later).await;
            assert_eq!(due.report().change.number.0, n, "reports come in the order in which they were due");
            due.done().await.unwrap();
        }
        common::delete(&url, [&config.prefix]).await;
    }
}
