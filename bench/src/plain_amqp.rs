//! The peer of `latency`: one message from the plain AMQP client through one queue and back, at the same pace.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Connection, ConnectionProperties};

/// The size of a job.
const BYTES: usize = 900;
/// AMQP's delivery mode for "keep it on disk".
const PERSISTENT: u8 = 2;

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

/// From publishing to the delivery, for each message.
pub(crate) async fn measure(
    url: &str,
    kind: Kind,
    messages: usize,
    pause: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let runtime = lapin::runtime::default_runtime()?;
    let connection = Connection::connect_with_runtime(url, ConnectionProperties::default(), runtime).await?;
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
    let mut consumer = receiving.basic_consume(name.clone(), "".into(), options, from).await?;

    let (mut took, mut ticks) = (Vec::new(), tokio::time::interval(pause));
    for _ in 0..messages {
        ticks.tick().await;
        let began = Instant::now();
        let (options, properties) =
            (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(PERSISTENT));
        let sent =
            sending.basic_publish("".into(), name.clone(), options, &[b'x'; BYTES], properties).await?;
        let delivery = consumer.next().await.context("the broker ended the consumer")??;
        took.push(began.elapsed());
        delivery.ack(BasicAckOptions::default()).await?;
        sent.await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(took)
}
