//! The broker is killed, frozen, or away, and no job is lost or run twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests report by panicking"
)]

mod common;

use std::time::Duration;

use pushbutton_core::memory::sample::job_on;
use pushbutton_core::{ErrorKind, Queue};
use pushbutton_testbed::{Broker, Version};
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout};

const TWICE: Duration = Duration::from_secs(2);

/// Killed as in a crash and restarted within the lease: the run goes on, nobody else gets the job.
async fn killed_within_the_lease(version: Version) {
    let mut broker = common::private(version);
    let config = common::config(&broker.url, "kill", Duration::from_secs(60));
    let (operator, other) = (common::connect(&config).await, common::connect(&config).await);
    common::first_stream_is_on_disk().await;
    operator.publish(&job_on(1, "tempest")).await.unwrap();
    operator.publish(&job_on(2, "tempest")).await.unwrap();
    let held = common::claim(&operator).await;
    assert_eq!(held.job().change.number.0, 1);
    operator.publish(&job_on(3, "tempest")).await.unwrap();

    let rivals = async {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let claim = common::claim(&other).await;
            seen.push(claim.job().change.number.0);
            claim.complete().await.unwrap();
        }
        common::nothing_for(&other, TWICE).await;
        seen
    };
    block_in_place(|| {
        broker.kill9();
        broker.restart();
    });
    let seen = tokio::select! {
        seen = rivals => seen,
        error = common::hold(&*held) => panic!("the run was stopped: {error:?}"),
    };
    assert_eq!(
        seen,
        [2, 3],
        "the jobs that were queued are there, in order, and the held one is not among them"
    );
    held.complete().await.unwrap();
    operator.publish(&job_on(1, "tempest")).await.unwrap();
    common::nothing_for(&other, TWICE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_3_10_killed_within_the_lease_disturbs_no_run() {
    killed_within_the_lease(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_4_killed_within_the_lease_disturbs_no_run() {
    killed_within_the_lease(Version::V4).await;
}

/// Away for longer than the lease: the holder stops itself in time, and the job comes back, once.
async fn away_beyond_the_lease(version: Version) {
    let mut broker = common::private(version);
    let config = common::config(&broker.url, "away", Duration::from_secs(5));
    let (operator, other) = (common::connect(&config).await, common::connect(&config).await);
    common::first_stream_is_on_disk().await;
    operator.publish(&job_on(1, "tempest")).await.unwrap();
    let held = common::claim(&operator).await;
    held.renew().await.unwrap();
    let renewed = Instant::now();
    block_in_place(|| broker.kill9());
    let error = common::hold(&*held).await;
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error:?}");
    let waited = renewed.elapsed();
    assert!(waited < held.lease() + Duration::from_millis(500), "the holder heard of it after {waited:?}");

    block_in_place(|| broker.restart());
    let next = common::claim(&other).await;
    assert_eq!((next.job().change.number.0, next.job().failed_attempts), (1, 0));
    let error = held.complete().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error:?}");
    tokio::select! {
        () = common::nothing_for(&operator, Duration::from_secs(8)) => {}
        error = common::hold(&*next) => panic!("the new holder was disturbed: {error:?}"),
    }
    next.complete().await.unwrap();
    common::nothing_for(&operator, TWICE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_runs_out_while_rabbitmq_3_10_is_away_comes_back_once() {
    away_beyond_the_lease(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_runs_out_while_rabbitmq_4_is_away_comes_back_once() {
    away_beyond_the_lease(Version::V4).await;
}

/// A frozen broker keeps its connections open and says nothing: the heartbeat tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_is_given_up_and_found_again() {
    let broker = common::private(Version::V4);
    let mut config = common::config(&broker.url, "frozen", Duration::from_secs(30));
    config.heartbeat = pushbutton_core::HumanDuration::secs(2);
    config.timeout = pushbutton_core::HumanDuration::secs(3);
    let operator = common::connect(&config).await;
    operator.publish(&job_on(1, "tempest")).await.unwrap();
    let held = common::claim(&operator).await;

    broker.freeze();
    let frozen = Instant::now();
    while operator.is_connected() {
        assert!(frozen.elapsed() < Duration::from_secs(8), "still taken for alive");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = held.renew().await.unwrap_err();
    assert!(error.is_temporary(), "the lease has not run out: {error:?}");
    let error = operator.publish(&job_on(2, "tempest")).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("no connection to the broker"), "{error}");
    let error = operator.depth().await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");

    broker.thaw();
    tokio::select! {
        next = common::claim(&operator) => panic!("claimed again: {:?}", next.job()),
        error = common::hold(&*held) => panic!("the run was stopped: {error:?}"),
        () = async {
            while !operator.is_connected() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            held.renew().await.unwrap();
        } => {}
    }
    held.complete().await.unwrap();
}

/// A run of many times RabbitMQ's acknowledgement timeout: nothing is held unacknowledged, so nothing is cut.
async fn a_run_beyond_the_acknowledgement_timeout(version: Version) {
    let broker = block_in_place(|| {
        Broker::private_with(version, "consumer_timeout = 4000", "{rabbit, [{channel_tick_interval, 1000}]}")
    });
    let config = common::config(&broker.url, "timeout", Duration::from_secs(40));
    let (operator, other) = (common::connect(&config).await, common::connect(&config).await);
    operator.publish(&job_on(1, "tempest")).await.unwrap();
    let held = common::claim(&operator).await;
    let mut listening = other.notices().await.unwrap();
    let quiet = async {
        for _ in 0..200 {
            assert!(
                operator.is_connected() && other.is_connected(),
                "the broker cut a connection or a channel"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = quiet => {}
        error = common::hold(&*held) => panic!("the run was stopped: {error:?}"),
        next = common::claim(&other) => panic!("claimed again: {:?}", next.job()),
        notice = listening.next() => panic!("nobody announced {notice:?}"),
    }
    held.complete().await.unwrap();
    let log = block_in_place(|| broker.ctl(&["rabbitmqctl", "list_connections", "name"]));
    assert!(log.contains("127.0.0.1"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_the_acknowledgement_timeout_of_rabbitmq_3_10() {
    a_run_beyond_the_acknowledgement_timeout(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_the_acknowledgement_timeout_of_rabbitmq_4() {
    a_run_beyond_the_acknowledgement_timeout(Version::V4).await;
}

/// A broker that is not there at the start is waited for; calls say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_later_is_found() {
    let mut broker = common::private(Version::V4);
    block_in_place(|| broker.stop());
    let mut config = common::config(&broker.url, "later", Duration::from_secs(30));
    config.timeout = pushbutton_core::HumanDuration::secs(1);
    let started = Instant::now();
    let queue = common::connect(&config).await;
    assert!(started.elapsed() < Duration::from_secs(2), "connecting does not wait for a broker that is away");
    let error = queue.publish(&job_on(1, "tempest")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unreachable, true), "{error:?}");
    let port = broker.port.to_string();
    assert!(error.to_string().contains("refused") && error.to_string().contains(&port), "{error}");
    let findings = pushbutton_amqp::check(&config).await;
    assert!(findings.last().unwrap().to_string().contains("is the broker running"), "{findings:?}");

    let waiting = tokio::spawn({
        let queue = std::sync::Arc::clone(&queue);
        async move { queue.claim().await.map(|claim| claim.job().change.number.0) }
    });
    block_in_place(|| broker.restart());
    let published = async { while queue.publish(&job_on(1, "tempest")).await.is_err() {} };
    timeout(Duration::from_secs(30), published).await.expect("the broker is found");
    let claimed =
        timeout(Duration::from_secs(10), waiting).await.expect("a waiting claim outlasts it").unwrap();
    assert_eq!(claimed.unwrap(), 1);
}
