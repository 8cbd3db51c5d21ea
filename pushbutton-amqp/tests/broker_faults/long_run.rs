//! Runs that last longer than RabbitMQ's acknowledgement timeout, with a restart in the middle.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use pushbutton_core::samples::job_on;
use pushbutton_core::{HumanDuration, JobFilter, Queue};
use pushbutton_testbed::{Broker, Version};
use tokio::task::block_in_place;

use crate::common;

/// What a run would come to whose message were held until its end: the broker cuts its channel. Returns when it did.
async fn a_message_is_held_too_long(url: &str) {
    let (_connection, channel) = common::channel(url).await;
    let name = common::prefix("held");
    channel
        .queue_declare(name.as_str().into(), QueueDeclareOptions::default(), Default::default())
        .await
        .unwrap();
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), name.as_str().into(), options, b"{}", properties).await.unwrap();
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(name.into(), "".into(), options, Default::default()).await.unwrap();
    let _unacknowledged = consumer.next().await.unwrap().unwrap();
    let cut = async {
        while channel.status().connected() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // The client does not always tell its consumers.
    common::soon(cut).await;
}

/// The connections to the broker, by their own ends: column 2 of proc_net(5), where the state is "established".
pub(crate) fn connections(broker: &Broker) -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("this is Linux");
    let there = format!("0100007F:{:04X}", broker.port);
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|line| line[2] == there && line[3] == "01").map(|line| line[1].to_owned()).collect()
}

/// Those of the two participants, once all that were tried in vain are closed.
async fn two_connections(broker: &Broker) -> BTreeSet<String> {
    loop {
        let there = connections(broker);
        if there.len() == 2 {
            return there;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One claim, held for longer than the broker lets a message be held, before a restart of the broker and again after
/// it: one run, one completion.
async fn one_run_through_it_all(version: Version) {
    let mut broker = block_in_place(|| {
        Broker::private_with(version, "consumer_timeout = 2000", "{rabbit, [{channel_tick_interval, 1000}]}")
    });
    let mut config = common::config(&broker.url, "timeout", Duration::from_secs(600));
    // A connection that ends here was ended by the acknowledgement timeout, not by a busy machine.
    config.heartbeat = HumanDuration::secs(60);
    let (operator, other) = (common::connect(&config).await, common::connect(&config).await);
    common::first_stream_is_on_disk(&broker);
    common::publish(&operator, &job_on(1, "tempest")).await;
    let held = common::claim(&operator).await;
    let run = held.run().clone();
    let mut listening = other.control_messages().await.unwrap();
    let any = JobFilter::any();
    let mut rival = std::pin::pin!(other.claim(&any));
    for round in ["before the restart", "after the restart"] {
        let before = common::soon(two_connections(&broker)).await;
        tokio::select! {
            () = a_message_is_held_too_long(&broker.url) => {}
            error = common::hold(&*held) => panic!("{round}: the run was stopped: {error:?}"),
            next = &mut rival => panic!("{round}: claimed again: {:?}", next.map(|next| next.job().clone())),
            notice = listening.next() => panic!("nobody announced {notice:?}"),
        }
        assert!(connections(&broker).is_superset(&before), "{round}: the broker cut a connection");
        assert_eq!(other.leased_runs().await.unwrap(), std::slice::from_ref(&run), "{round}");
        if round == "before the restart" {
            block_in_place(|| {
                broker.kill9();
                broker.restart();
            });
            for queue in [&operator, &other] {
                common::depth_until(queue, |depth| depth.leased == 1).await;
            }
        }
    }
    common::complete(held.as_ref()).await;
    common::publish(&operator, &job_on(1, "tempest")).await;
    common::publish(&operator, &job_on(2, "tempest")).await;
    let next = common::soon(rival).await.unwrap();
    assert_eq!(next.job().change.number.0, 2, "the job is completed: the next in order is another");
    common::complete(next.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_the_acknowledgement_timeout_and_a_restart_of_rabbitmq_3_10() {
    one_run_through_it_all(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_the_acknowledgement_timeout_and_a_restart_of_rabbitmq_4() {
    one_run_through_it_all(Version::V4).await;
}
