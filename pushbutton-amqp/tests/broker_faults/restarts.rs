//! The broker is killed, away for long, or not there yet.

use std::time::Duration;

use pushbutton_amqp::AmqpQueue;
use pushbutton_core::check::Check;
use pushbutton_core::samples;
use pushbutton_core::samples::job_on;
use pushbutton_core::{ErrorKind, HumanDuration, JobFilter, Queue};
use pushbutton_testbed::Version;
use tokio::task::block_in_place;

use crate::common;

const TWICE: Duration = Duration::from_secs(2);

/// Killed as in a crash and restarted within the lease: the run goes on, nobody else gets the job.
async fn killed_within_the_lease(version: Version) {
    let mut broker = common::private(version);
    let config = common::config(&broker.url, "kill", Duration::from_secs(600));
    let (operator, other) = (common::connect(&config).await, common::connect(&config).await);
    common::first_stream_is_on_disk(&broker);
    common::publish(&operator, &job_on(1, "tempest")).await;
    common::publish(&operator, &job_on(2, "tempest")).await;
    let held = common::claim(&operator).await;
    assert_eq!(held.job().change.number.0, 1);
    common::publish(&operator, &job_on(3, "tempest")).await;

    let rivals = async {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let claim = common::claim(&other).await;
            seen.push(claim.job().change.number.0);
            common::complete(claim.as_ref()).await;
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
    common::complete(held.as_ref()).await;
    common::publish(&operator, &job_on(1, "tempest")).await;
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
    let mut config = common::config(&broker.url, "away", Duration::from_secs(5));
    let operator = common::connect(&config).await;
    // Whoever has it next must not lose it to a busy machine.
    config.lease = HumanDuration::secs(600);
    let other = common::connect(&config).await;
    common::first_stream_is_on_disk(&broker);
    common::publish(&operator, &job_on(1, "tempest")).await;
    let held = common::claim(&operator).await;
    block_in_place(|| broker.kill9());
    // Nobody can tell the holder: it knows by its own clock.
    let error = common::soon(common::hold(&*held)).await;
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error:?}");

    block_in_place(|| broker.restart());
    let next = common::claim(&other).await;
    assert_eq!((next.job().change.number.0, next.job().failed_attempts), (1, 0));
    let error = held.complete(&samples::success(held.job())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error:?}");
    tokio::select! {
        () = common::nothing_for(&operator, Duration::from_secs(6)) => {}
        error = common::hold(&*next) => panic!("the new holder was disturbed: {error:?}"),
    }
    common::complete(next.as_ref()).await;
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

/// A broker that is not there at the start is waited for; calls say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_later_is_found() {
    let mut broker = common::private(Version::V4);
    block_in_place(|| broker.stop());
    let mut config = common::config(&broker.url, "later", Duration::from_secs(30));
    config.timeout = HumanDuration::secs(5);
    let queue = common::soon(AmqpQueue::connect(config.clone())).await.unwrap();
    let error = queue.publish(&job_on(1, "tempest")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unreachable, true), "{error:?}");
    let port = broker.port.to_string();
    assert!(error.to_string().contains("refused") && error.to_string().contains(&port), "{error}");
    let findings = config.check().await;
    assert!(findings.last().unwrap().to_string().contains("is the broker running"), "{findings:?}");

    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.claim(&JobFilter::any()).await.map(|claim| claim.job().change.number.0) }
    });
    block_in_place(|| broker.restart());
    common::publish(&queue, &job_on(1, "tempest")).await;
    assert_eq!(common::soon(waiting).await.unwrap().unwrap(), 1, "a waiting claim outlasts it");
}
