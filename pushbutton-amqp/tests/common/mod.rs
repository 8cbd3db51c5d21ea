//! What the tests of this crate share: queues with names of their own, deleted at the end.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod proxy;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use pushbutton_amqp::{AmqpConfig, AmqpQueue};
use pushbutton_core::samples;
use pushbutton_core::{Claim, Delivery, Error, HumanDuration, Job, JobFilter, Queue, QueueDepth};
use pushbutton_testbed::{Broker, Version};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A prefix that no other test, and no other run of this one, uses.
pub(crate) fn prefix(test: &str) -> String {
    format!("test-{test}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A timeout that a broker on a busy machine keeps; a lease must be longer than two and a half of it.
pub(crate) const PATIENT: HumanDuration = HumanDuration(Duration::from_secs(60));
/// How long what must happen may take in all. Nobody waits so long where all is well.
const SOON: Duration = Duration::from_secs(300);

/// What must happen by and by.
pub(crate) async fn soon<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, step).await.expect("it happens within minutes")
}

/// A configuration with this lease; others wait so long, the holder four fifths of it.
pub(crate) fn config(url: &str, prefix: &str, lease: Duration) -> AmqpConfig {
    let mut config = AmqpConfig::new(url);
    config.prefix = prefix.to_owned();
    config.lease = HumanDuration(lease);
    // As long as this lease allows.
    config.timeout = HumanDuration((lease * 39 / 100).min(PATIENT.0).max(Duration::from_secs(1)));
    config.leader_lease = HumanDuration(lease);
    config
}

/// Another operator.
pub(crate) async fn connect(config: &AmqpConfig) -> Arc<AmqpQueue> {
    // Shown for tests that fail; RUST_LOG chooses what.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    Arc::new(AmqpQueue::connect(config.clone()).await.expect("the broker takes us"))
}

/// A plain channel beside the queue, for what only a test does.
pub(crate) async fn channel(url: &str) -> (Connection, Channel) {
    let connection =
        Connection::connect(url, ConnectionProperties::default()).await.expect("the broker takes us");
    let channel = connection.create_channel().await.expect("a channel opens");
    (connection, channel)
}

/// Deletes what an installation of this prefix has on the broker.
pub(crate) async fn delete(url: &str, prefixes: impl IntoIterator<Item = impl AsRef<str>>) {
    let (connection, channel) = channel(url).await;
    for prefix in prefixes {
        for part in ["jobs", "log", "history"] {
            delete_queue(&channel, &format!("{}.{part}", prefix.as_ref())).await;
        }
    }
    connection.close(200, "done".into()).await.expect("the connection closes");
}

/// Deletes one queue or stream.
pub(crate) async fn delete_queue(channel: &Channel, name: &str) {
    let deleted = channel.queue_delete(name.into(), QueueDeleteOptions::default()).await;
    deleted.expect("the queue is deleted");
}

/// How many messages of a queue are ready.
pub(crate) async fn queue_length(channel: &Channel, name: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    let queue = channel.queue_declare(name.into(), passive, FieldTable::default()).await;
    queue.expect("the queue is there").message_count()
}

/// Reads a stream from the first message that the broker still has.
async fn read_stream(channel: &Channel, stream: &str) -> Consumer {
    channel.basic_qos(100, BasicQosOptions::default()).await.expect("the channel is open");
    let mut from = FieldTable::default();
    from.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    let options = BasicConsumeOptions::default();
    channel.basic_consume(stream.into(), "".into(), options, from).await.expect("it is a stream")
}

/// The place of the first message that a stream still has.
pub(crate) async fn first_offset(url: &str, stream: &str) -> i64 {
    let (_connection, channel) = channel(url).await;
    let mut consumer = read_stream(&channel, stream).await;
    let first = consumer.next().await.expect("it is not empty").expect("it can be read");
    let headers = first.properties.headers().clone().expect("a stream's messages have headers");
    let offset = headers.inner().get("x-stream-offset").and_then(AMQPValue::as_long_long_int);
    offset.expect("a stream's messages have an offset")
}

/// Publishes a message that is not one of ours, with this format version in its header if any.
pub(crate) async fn publish_raw(channel: &Channel, queue: &str, format: Option<i32>, body: &[u8]) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("the channel is open");
    let mut headers = FieldTable::default();
    if let Some(format) = format {
        headers.insert("pushbutton-format".into(), format.into());
    }
    let properties = BasicProperties::default().with_headers(headers);
    let sent =
        channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties);
    assert!(sent.await.expect("it is sent").await.expect("it is answered").is_ack());
}

/// A broker of this test alone, taken up beside the tests that are running.
pub(crate) fn private(version: Version) -> Broker {
    tokio::task::block_in_place(|| Broker::private(version))
}

/// The very first stream of a new broker is lost for good when the broker is killed within a second of its declaration
/// (seen on 3.10 and 4.0, and not with any later stream): RabbitMQ has not yet written down that there are streams.
/// This makes it write its tables.
pub(crate) fn first_stream_is_on_disk(broker: &Broker) {
    let sync = "[ok = dets:sync(Table) || Table <- dets:all()].";
    let said = tokio::task::block_in_place(|| broker.ctl(&["rabbitmqctl", "eval", sync]));
    assert!(said.contains("ok"), "{said}");
}

/// Renews as an operator does: every quarter of the lease, and soon again after an error that may pass. Ends with the
/// error that ends the run, if any does.
pub(crate) async fn hold(claim: &dyn Claim) -> Error {
    loop {
        let pause = match claim.renew().await {
            Ok(()) => claim.lease() / 4,
            Err(error) if error.is_temporary() => Duration::from_millis(200),
            Err(error) => return error,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Claims what must be there by now.
pub(crate) async fn claim(queue: &AmqpQueue) -> Box<dyn Claim> {
    soon(queue.claim(&JobFilter::any())).await.expect("waiting for a job ends in no error")
}

/// Completes a job as a success.
pub(crate) async fn complete(claim: &dyn Claim) {
    claim.complete(&samples::success(claim.job())).await.expect("the claim is held");
}

/// Takes the report that must be due by now.
pub(crate) async fn delivery(queue: &AmqpQueue) -> Box<dyn Delivery> {
    soon(queue.claim_report()).await.expect("waiting for a report ends in no error")
}

/// Publishes as a handler does: again, after an error that may pass.
pub(crate) async fn publish(queue: &AmqpQueue, job: &Job) {
    let publishing = async {
        while let Err(error) = queue.publish(job).await {
            assert!(error.is_temporary(), "publishing fails for good: {error:?}");
        }
    };
    soon(publishing).await;
}

/// Waits until the queue's depth is as wanted.
pub(crate) async fn depth_until(queue: &AmqpQueue, wanted: impl Fn(QueueDepth) -> bool) {
    let mut seen = None;
    let settled = async {
        loop {
            match queue.depth().await {
                Ok(depth) if wanted(depth) => return,
                depth => seen = Some(depth),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(SOON, settled).await.is_err() {
        panic!("the depth stayed {seen:?}");
    }
}

/// Nothing can be claimed for this time.
pub(crate) async fn nothing_for(queue: &AmqpQueue, time: Duration) {
    if let Ok(claim) = tokio::time::timeout(time, queue.claim(&JobFilter::any())).await {
        let claim = claim.expect("waiting for a job ends in no error");
        panic!("the job of change {} was claimed", claim.job().change.number);
    }
}

/// A port that a passing connection of anybody does not take before the broker does: below those that the system
/// gives out.
pub(crate) fn free_port() -> u16 {
    let start = 10_000 + std::process::id() % 5_000 + COUNT.fetch_add(1, Ordering::Relaxed);
    let mut ports = (start as u16..).take(1_000);
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
}
