//! The peer of `latency` and `ingest`: the plain AMQP client, which sends messages through one queue and back.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, PublisherConfirm};

use crate::figures::Usage;

/// The size of a job.
const BYTES: usize = 900;
/// AMQP's delivery mode for "keep it on disk".
const PERSISTENT: u8 = 2;

/// Messages between two acknowledgements, where many are on their way.
const AT_ONCE: usize = 64;

/// What a queue of the broker does with a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// As the inbox: durable on disk before it is delivered.
    Quorum,
    /// As the log.
    Stream,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Quorum, Self::Stream];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }
}

/// One queue, and the consumer of it.
struct Plain {
    connection: Connection,
    sending: Channel,
    consumer: Consumer,
    name: ShortString,
}

impl Plain {
    async fn open(url: &str, kind: Kind) -> anyhow::Result<Self> {
        let runtime = lapin::runtime::default_runtime()?;
        let connection =
            Connection::connect_with_runtime(url, ConnectionProperties::default(), runtime).await?;
        let (sending, receiving) = (connection.create_channel().await?, connection.create_channel().await?);
        sending.confirm_select(ConfirmSelectOptions::default()).await?;
        receiving.basic_qos(200, BasicQosOptions::default()).await?;
        let name = ShortString::from(format!("bench-{}-plain-{}", std::process::id(), kind.name()));
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text(kind.name()));
        sending.queue_declare(name.clone(), QueueDeclareOptions::durable(), arguments).await?;
        let mut from = FieldTable::default();
        if let Kind::Stream = kind {
            from.insert("x-stream-offset".into(), text("next"));
        }
        let options = BasicConsumeOptions::default();
        let consumer = receiving.basic_consume(name.clone(), "".into(), options, from).await?;
        Ok(Self { connection, sending, consumer, name })
    }

    async fn publish(&self) -> anyhow::Result<PublisherConfirm> {
        let (options, properties) =
            (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(PERSISTENT));
        let sent =
            self.sending.basic_publish("".into(), self.name.clone(), options, &[b'x'; BYTES], properties);
        Ok(sent.await?)
    }

    async fn receive(&mut self) -> anyhow::Result<Delivery> {
        Ok(self.consumer.next().await.context("the broker ended the consumer")??)
    }
}

/// From publishing to the delivery, for each message.
pub(crate) async fn measure(
    url: &str,
    kind: Kind,
    messages: usize,
    pause: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let mut plain = Plain::open(url, kind).await?;
    let (mut took, mut ticks) = (Vec::new(), tokio::time::interval(pause));
    for _ in 0..messages {
        ticks.tick().await;
        let began = Instant::now();
        let sent = plain.publish().await?;
        let delivery = plain.receive().await?;
        took.push(began.elapsed());
        delivery.ack(BasicAckOptions::default()).await?;
        sent.await?;
    }
    plain.connection.close(200, "done".into()).await?;
    Ok(took)
}

/// The CPU time of this process for one message, as many at once as fit between two acknowledgements.
pub(crate) async fn cpu_of_a_message(url: &str, kind: Kind, messages: usize) -> anyhow::Result<Duration> {
    let mut plain = Plain::open(url, kind).await?;
    let before = Usage::own()?.cpu;
    let mut left = messages;
    while left > 0 {
        let batch = left.min(AT_ONCE);
        left -= batch;
        let mut sent = Vec::with_capacity(batch);
        for _ in 0..batch {
            sent.push(plain.publish().await?);
        }
        let mut last = None;
        for _ in 0..batch {
            last = Some(plain.receive().await?);
        }
        if let Some(last) = last {
            last.ack(BasicAckOptions { multiple: true }).await?;
        }
        for sent in sent {
            sent.await?;
        }
    }
    let took = (Usage::own()?.cpu - before) / u32::try_from(messages)?;
    plain.connection.close(200, "done".into()).await?;
    Ok(took)
}
