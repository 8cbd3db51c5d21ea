//! What lives as long as one connection: its channels, and the knowledge that it is gone.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};

use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer, PublisherConfirm};
use pushbutton_core::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

use crate::codec::{self, Form};
use crate::connect::within;
use crate::error::from_wire;
use crate::topology::Names;

/// The client only hands an acknowledgement over to its connection, but when that has just died it may wait for ever.
const HANDOVER: Duration = Duration::from_secs(3);
/// How many messages of a stream may be on their way.
const STREAM_WINDOW: u16 = 200;

/// A connection in use. Whoever sees that it failed says so, and the supervisor makes another.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    pub(crate) names: Names,
    /// For new jobs alone: confirms come in the order of publishing.
    jobs: Channel,
    /// For entries of the record and for notices.
    streams: Channel,
    gone: CancellationToken,
    timeout: Duration,
}

impl Session {
    /// Declares what is needed and opens the channels.
    pub(crate) async fn open(connection: Connection, names: Names, timeout: Duration) -> Result<Self> {
        let opening = async {
            let streams = channel(&connection).await?;
            names.declare(&streams).await?;
            let jobs = channel(&connection).await?;
            for channel in [&jobs, &streams] {
                channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(from_wire)?;
            }
            Ok((jobs, streams))
        };
        let (jobs, streams) = within(timeout, opening).await?;
        Ok(Self { connection, names, jobs, streams, gone: CancellationToken::new(), timeout })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Says that it failed; it is given up as a whole.
    pub(crate) fn fail(&self, error: &Error) {
        if !self.gone.is_cancelled() {
            tracing::debug!("giving up the connection to the broker: {error}");
            self.gone.cancel();
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Whether the client still thinks that it is connected. It does not always tell its consumers when it is not.
    pub(crate) fn is_alive(&self) -> bool {
        self.connection.status().connected()
            && self.jobs.status().connected()
            && self.streams.status().connected()
    }

    /// Waits until it failed.
    pub(crate) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Sends a job; the answer comes later. Calls keep their order.
    pub(crate) async fn send_job(&self, body: &[u8]) -> Result<PublisherConfirm> {
        within(HANDOVER, send(&self.jobs, &self.names.jobs, Form::First, body)).await
    }

    /// Writes an entry at the end of the record.
    pub(crate) async fn append(&self, form: Form, body: &[u8]) -> Result<()> {
        self.write(&self.names.record, form, body).await
    }

    /// Writes a notice.
    pub(crate) async fn broadcast(&self, body: &[u8]) -> Result<()> {
        self.write(&self.names.notices, Form::First, body).await
    }

    /// Writes a message and waits until the broker has confirmed it.
    pub(crate) async fn write(&self, stream: &ShortString, form: Form, body: &[u8]) -> Result<()> {
        within(self.timeout, async { accepted(send(&self.streams, stream, form, body).await?).await }).await
    }

    /// Reads the record.
    pub(crate) async fn read_record(&self, from: AMQPValue) -> Result<Reading> {
        self.read_stream(&self.names.record, from).await
    }

    /// Reads the notices.
    pub(crate) async fn read_notices(&self, from: AMQPValue) -> Result<Reading> {
        self.read_stream(&self.names.notices, from).await
    }

    /// Reads a stream.
    pub(crate) async fn read_stream(&self, name: &ShortString, from: AMQPValue) -> Result<Reading> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), from);
        self.consume(name, STREAM_WINDOW, arguments).await
    }

    /// Takes jobs that nobody has claimed, one at a time.
    pub(crate) async fn take_jobs(&self) -> Result<Reading> {
        self.consume(&self.names.jobs, 1, FieldTable::default()).await
    }

    /// Takes messages, so many at once before they are acknowledged.
    pub(crate) async fn consume(
        &self,
        name: &ShortString,
        window: u16,
        arguments: FieldTable,
    ) -> Result<Reading> {
        let opening = async {
            let channel = channel(&self.connection).await?;
            channel.basic_qos(window, BasicQosOptions::default()).await.map_err(from_wire)?;
            let consumer = channel
                .basic_consume(name.clone(), "".into(), BasicConsumeOptions::default(), arguments)
                .await
                .map_err(from_wire)?;
            Ok(Reading { channel, consumer })
        };
        within(self.timeout, opening).await
    }

    /// How many jobs wait that nobody ever claimed.
    pub(crate) async fn waiting_jobs(&self) -> Result<u64> {
        let asking = async {
            let channel = channel(&self.connection).await?;
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            let queue = channel.queue_declare(self.names.jobs.clone(), passive, FieldTable::default()).await;
            Ok(u64::from(queue.map_err(from_wire)?.message_count()))
        };
        within(self.timeout, asking).await
    }

    /// Says goodbye, if the broker still listens.
    pub(crate) async fn close(&self) {
        self.gone.cancel();
        let goodbye = self.connection.close(200, "done".into());
        if tokio::time::timeout(Duration::from_secs(2), goodbye).await.is_err() {
            tracing::debug!("the broker did not answer our goodbye");
        }
    }
}

/// A consumer and the channel it has for itself: what was not acknowledged goes back when the channel closes.
#[derive(Debug)]
pub(crate) struct Reading {
    channel: Channel,
    consumer: Consumer,
}

impl Reading {
    /// Waits for the next message. Cancel-safe. An error, or the end of the consumer, is an error.
    pub(crate) async fn next(&mut self) -> Result<Delivery> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => Ok(delivery),
            Some(Err(error)) => Err(from_wire(error)),
            None => Err(Error::temporary(ErrorKind::Unreachable, "the broker ended the consumer")),
        }
    }

    /// Asks the broker to deliver no more.
    pub(crate) async fn cancel(&self) -> Result<()> {
        let cancelling = self.channel.basic_cancel(self.consumer.tag(), Default::default());
        within(HANDOVER, async { cancelling.await.map_err(from_wire) }).await
    }

    /// Gives back what was delivered and not acknowledged.
    pub(crate) async fn close(self) -> Result<()> {
        let closing = self.channel.close(200, "done".into());
        within(HANDOVER, async { closing.await.map_err(from_wire) }).await
    }
}

/// Acknowledges. `Ok(false)` of the client means that the channel is gone and nothing was acknowledged.
pub(crate) async fn acknowledge(delivery: &Delivery) -> Result<()> {
    let acknowledging = delivery.acker.ack(BasicAckOptions::default());
    match within(HANDOVER, async { acknowledging.await.map_err(from_wire) }).await? {
        true => Ok(()),
        false => Err(Error::temporary(ErrorKind::Unreachable, "the channel of the delivery is gone")),
    }
}

/// Waits for the broker's word on a message. It is accepted if the broker took it *and* did not send it back: one
/// that fits no queue is acknowledged all the same.
pub(crate) async fn accepted(confirm: PublisherConfirm) -> Result<()> {
    let confirmation = confirm.await.map_err(from_wire)?;
    if !confirmation.is_ack() {
        return Err(Error::temporary(ErrorKind::Remote, "the broker refused the message"));
    }
    match confirmation.take_message() {
        None => Ok(()),
        Some(_) => Err(Error::temporary(ErrorKind::NotFound, "the queue is gone: somebody deleted it")),
    }
}

async fn channel(connection: &Connection) -> Result<Channel> {
    connection.create_channel().await.map_err(from_wire)
}

pub(crate) async fn send(
    channel: &Channel,
    queue: &ShortString,
    form: Form,
    body: &[u8],
) -> Result<PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish("".into(), queue.clone(), options, body, codec::properties(form)).await;
    sent.map_err(from_wire)
}
