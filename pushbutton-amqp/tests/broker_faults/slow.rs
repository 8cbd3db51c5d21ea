//! The broker answers nothing, or takes nothing.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use pushbutton_amqp::AmqpQueue;
use pushbutton_core::samples::job_on;
use pushbutton_core::{Claim, HumanDuration, JobFilter, Queue};
use pushbutton_testbed::{Broker, Version};
use tokio::task::block_in_place;
use tokio::time::timeout;

use crate::common;

async fn connected(queue: &AmqpQueue, wanted: bool) {
    while queue.is_connected() != wanted {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The broker has answered again.
async fn renewed(claim: &dyn Claim) {
    while let Err(error) = claim.renew().await {
        assert!(error.is_temporary(), "the lease is long enough: {error:?}");
    }
}

/// A frozen broker keeps its connections open and answers nothing; the heartbeat shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_is_given_up_and_found_again() {
    let broker = common::private(Version::V4);
    let mut config = common::config(&broker.url, "frozen", Duration::from_secs(600));
    config.heartbeat = HumanDuration::secs(2);
    config.timeout = HumanDuration::secs(5);
    let operator = common::connect(&config).await;
    common::publish(&operator, &job_on(1, "tempest")).await;
    let held = common::claim(&operator).await;

    block_in_place(|| broker.freeze());
    common::soon(connected(&operator, false)).await;
    let second = job_on(2, "tempest");
    let (renewed_now, published, counted) =
        tokio::join!(held.renew(), operator.publish(&second), operator.depth());
    let error = published.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("no connection to the broker"), "{error}");
    for error in [renewed_now.unwrap_err(), counted.unwrap_err()] {
        assert!(error.is_temporary(), "the lease has not run out: {error:?}");
    }

    block_in_place(|| broker.thaw());
    let any = JobFilter::any();
    tokio::select! {
        next = operator.claim(&any) => panic!("claimed again: {:?}", next.map(|next| next.job().clone())),
        error = common::hold(&*held) => panic!("the run was stopped: {error:?}"),
        () = common::soon(renewed(&*held)) => {}
    }
    common::complete(held.as_ref()).await;
}

fn memory(broker: &Broker, limit: &[&str]) {
    block_in_place(|| broker.ctl(&[&["rabbitmqctl", "set_vm_memory_high_watermark"], limit].concat()));
}

/// A broker that has no memory left accepts nothing. Callers wait, or get a temporary error, and when it has
/// some again all is done and no run was disturbed.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_memory_is_waited_for() {
    const JOBS: u64 = 1_000;
    let broker = common::private(Version::V4);
    let config = common::config(&broker.url, "memory", Duration::from_secs(3600));
    let queue = common::connect(&config).await;
    common::publish(&queue, &job_on(0, "tempest")).await;
    let held = common::claim(&queue).await;
    common::publish(&queue, &job_on(1, "tempest")).await;

    memory(&broker, &["absolute", "1MB"]);
    // The broker blocks its connections one after another.
    let mut next = 2;
    while timeout(Duration::from_secs(1), queue.publish(&job_on(next, "tempest"))).await.is_ok() {
        next += 1;
    }
    let mut flood = stream::iter(next..next + JOBS)
        .map(|n| {
            let queue = &queue;
            async move { common::publish(queue, &job_on(n, "tempest")).await }
        })
        .buffer_unordered(JOBS as usize);
    let any = JobFilter::any();
    let claiming = queue.claim(&any);
    tokio::pin!(claiming);
    tokio::select! {
        Some(()) = flood.next() => panic!("a broker without memory took a job"),
        claim = &mut claiming => panic!("a broker without memory took a claim: {:?}", claim.map(|claim| claim.job().clone())),
        () = tokio::time::sleep(Duration::from_secs(2)) => {}
    }
    assert!(held.renew().now_or_never().is_none(), "a renewal waits, too");

    memory(&broker, &["0.8"]);
    let all = async {
        let claim = claiming.await.unwrap();
        assert_eq!(claim.job().change.number.0, 1);
        common::complete(claim.as_ref()).await;
        renewed(&*held).await;
        common::complete(held.as_ref()).await;
    };
    common::soon(async { tokio::join!(all, flood.count()) }).await;
    common::depth_until(&queue, |depth| depth.waiting >= JOBS && depth.leased == 0).await;
}
