//! `check` reads the policies of real brokers, and says which of them do harm.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests report by panicking"
)]

mod common;

use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use pushbutton_amqp::AmqpConfig;
use pushbutton_core::check::{Check, Finding, Level};
use pushbutton_core::memory::MemoryHistory;
use pushbutton_core::{ControlMessage, HistoryEntry, HistoryLog as _, Queue as _, samples};
use pushbutton_testbed::{Broker, Version};
use secrecy::SecretString;
use tokio::task::block_in_place;

fn set_policy(broker: &Broker, name: &str, pattern: &str, definition: &str) {
    let command = ["rabbitmqctl", "set_policy", "--apply-to", "queues", name, pattern, definition];
    block_in_place(|| broker.ctl(&command));
}

/// What is said of the policies. The broker applies a new policy in its own time.
async fn policies(config: &AmqpConfig, wanted: impl Fn(&[Finding]) -> bool) -> Vec<Finding> {
    let mut seen = Vec::new();
    let settled = async {
        loop {
            let mut findings = config.check().await;
            findings.retain(|finding| finding.what.contains("polic"));
            seen.clone_from(&findings);
            if wanted(&findings) {
                return findings;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), settled).await {
        Ok(findings) => findings,
        Err(_) => panic!("{seen:?}"),
    }
}

async fn policies_are_read(version: Version) {
    let port = common::free_port();
    let advanced =
        format!("{{rabbitmq_management, [{{tcp_config, [{{port, {port}}}, {{ip, \"127.0.0.1\"}}]}}]}}");
    let broker = block_in_place(|| Broker::private_with(version, "", &advanced));
    let mut config = common::config(&broker.url, "ci", Duration::from_secs(30));
    config.management = Some(SecretString::from(format!("http://127.0.0.1:{port}")));
    let unreachable = policies(&config, |findings| findings.len() == 1).await;
    assert!(unreachable[0].level == Level::Warn && unreachable[0].to_string().contains("Connection refused"));
    assert!(unreachable[0].to_string().contains("rabbitmqctl list_policies -p /"), "{unreachable:?}");

    block_in_place(|| broker.ctl(&["rabbitmq-plugins", "enable", "rabbitmq_management"]));
    let missing = policies(&config, |findings| findings.len() == 2).await;
    assert!(missing.iter().all(|finding| finding.what.contains("not declared yet")), "{missing:?}");

    let queue = common::connect(&config).await;
    let none = policies(&config, |findings| findings.iter().all(|finding| finding.level == Level::Ok)).await;
    assert!(none[0].what.ends_with("policies of ci.jobs: none"), "{none:?}");
    assert!(none[1].what.ends_with("policies of ci.log: none"), "{none:?}");

    set_policy(
        &broker,
        "short",
        "^ci",
        r#"{"message-ttl": 60000, "max-length": 1000000, "overflow": "reject-publish"}"#,
    );
    let short = policies(&config, |findings| findings[0].level == Level::Warn).await;
    assert!(short[0].what.contains("ci.jobs: message-ttl=60000 drops jobs"), "{short:?}");
    assert_eq!(short.len(), 2, "max-length refuses jobs and loses none: {short:?}");
    assert_eq!(short[1].level, Level::Ok, "a stream has no message-ttl: {short:?}");

    set_policy(&broker, "short", "^ci", r#"{"max-age": "1h"}"#);
    let aged =
        policies(&config, |findings| findings[0].level == Level::Ok && findings[1].level == Level::Fail)
            .await;
    assert!(aged[1].what.contains(r#"ci.log: max-age="1h" drops entries of the log"#), "{aged:?}");
    assert!(aged[0].what.ends_with("policies of ci.jobs: none"), "a quorum queue has no max-age: {aged:?}");
    assert!(!format!("{aged:?}").contains("guest"), "no login is shown");

    // The history is declared with its first entry.
    assert_eq!(aged.len(), 2, "{aged:?}");
    let message = ControlMessage::Unmuted { by: "ann".into(), at: samples::AT };
    queue.history().append(HistoryEntry::Control { message }).await.unwrap();
    common::soon(queue.history().catch_up(&MemoryHistory::default())).await.unwrap();
    let kept = policies(&config, |findings| findings.len() == 3 && findings[2].level == Level::Warn).await;
    assert!(kept[2].what.contains(r#"ci.history: max-age="1h" drops runs from the history"#), "{kept:?}");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_of_rabbitmq_3_10_are_read() {
    policies_are_read(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_of_rabbitmq_4_are_read() {
    policies_are_read(Version::V4).await;
}

/// Runs renew their leases on the same connection, and all handlers would connect again with each job that is refused.
async fn a_full_inbox_is_waited_for(version: Version) {
    let broker = common::private(version);
    let config = common::config(&broker.url, "ci", Duration::from_secs(30));
    // Somebody else has the inbox, and imports nothing.
    let (other, channel) = common::channel(&broker.url).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1_000_000));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    channel.queue_declare("ci.jobs".into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let _consumer =
        channel.basic_consume("ci.jobs".into(), "".into(), options, FieldTable::default()).await.unwrap();

    set_policy(&broker, "full", "^ci.jobs", r#"{"max-length": 1, "overflow": "reject-publish"}"#);
    let queue = common::connect(&config).await;
    let refused = async {
        for n in 0.. {
            if let Err(error) = queue.publish(&samples::job_on(n, "tempest")).await {
                return (n, error);
            }
        }
        unreachable!("numbers do not end");
    };
    let (first, error) = common::soon(refused).await;
    assert!(error.is_temporary() && error.to_string().contains("the queue is full"), "{error:?}");
    for n in first..first + 10 {
        assert!(queue.publish(&samples::job_on(n, "tempest")).await.is_err());
        assert!(queue.is_connected(), "the connection is kept");
    }
    other.close(200, "done".into()).await.unwrap();
    common::publish(&queue, &samples::job_on(first, "tempest")).await;
    let jobs = first + 1;
    common::depth_until(&queue, |depth| depth.waiting == jobs).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_of_rabbitmq_3_10_is_waited_for() {
    a_full_inbox_is_waited_for(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_of_rabbitmq_4_is_waited_for() {
    a_full_inbox_is_waited_for(Version::V4).await;
}
