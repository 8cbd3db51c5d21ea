//! One connection and its channels.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, PublisherConfirm};
use pushbutton_core::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

use crate::codec;
use crate::connect::within;
use crate::error::from_lapin;
use crate::topology::{Names, text};

/// The client only hands a frame over to its connection; when that has just closed, it may wait without an error.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a close may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the next entry of a chunk may take to arrive.
const CHUNK_TIMEOUT: Duration = Duration::from_millis(10);
/// How many entries of the log may be on their way.
const LOG_PREFETCH: u16 = 200;
/// How many jobs of the inbox are imported with one entry.
pub(crate) const INBOX_PREFETCH: u16 = 64;

/// A connection in use. Whoever sees that it failed calls [`fail`](Self::fail), and the supervisor replaces it.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    names: Names,
    /// For new jobs alone: confirms come in the order of publishing.
    jobs: Channel,
    /// For log entries.
    log: Channel,
    closed: CancellationToken,
    /// Why it failed.
    failed: OnceLock<String>,
    timeout: Duration,
}

impl Session {
    /// Declares inbox and log, and opens the channels.
    pub(crate) async fn open(connection: Connection, names: Names, timeout: Duration) -> Result<Self> {
        let opening = async {
            let log = channel(&connection).await?;
            names.declare(&log).await?;
            let jobs = channel(&connection).await?;
            for channel in [&jobs, &log] {
                channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(from_lapin)?;
            }
            Ok((jobs, log))
        };
        let (jobs, log) = within(timeout, opening).await?;
        let (closed, failed) = (CancellationToken::new(), OnceLock::new());
        Ok(Self { connection, names, jobs, log, closed, failed, timeout })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Gives the whole connection up.
    pub(crate) fn fail(&self, error: &Error) {
        if !self.closed.is_cancelled() {
            tracing::debug!("closing the connection to the broker: {error}");
            // The first reason counts.
            let _ = self.failed.set(error.to_string());
            self.closed.cancel();
        }
    }

    /// The error of those who wait for something on a connection that was given up.
    pub(crate) fn failure(&self) -> Error {
        Error::temporary(ErrorKind::Unreachable, failure(self.failed.get()))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Whether the client still has its connection. It does not always report the loss to its consumers.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.status().connected()
            && self.jobs.status().connected()
            && self.log.status().connected()
    }

    /// Whether the broker takes nothing at the moment, because its memory or disk is full (`connection.blocked`). It
    /// still sends, and its heartbeats show that it lives.
    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Runs a step with a timeout that is not counted while the broker takes nothing. Another connection would be
    /// blocked like this one, and would cost a broker without memory more of it.
    async fn patiently<T>(&self, time: Duration, step: impl Future<Output = Result<T>>) -> Result<T> {
        let mut step = std::pin::pin!(step);
        loop {
            let was_blocked = self.is_blocked();
            let waited = tokio::select! {
                done = within(time, &mut step) => done,
                () = self.closed() => return Err(self.failure()),
            };
            let waits_on = was_blocked || self.is_blocked();
            match waited {
                Err(error) if error.kind() == ErrorKind::TimedOut && waits_on && self.is_connected() => {}
                waited => return waited,
            }
        }
    }

    /// Waits until the connection failed.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Sends a job to the inbox; the confirm comes later. Calls keep their order.
    pub(crate) async fn send_job(&self, body: &[u8]) -> Result<PublisherConfirm> {
        self.patiently(SEND_TIMEOUT, send(&self.jobs, &self.names.jobs, body)).await
    }

    /// Appends an entry to the log and waits for the confirm.
    pub(crate) async fn append(&self, body: &[u8]) -> Result<()> {
        let appending = async { confirmed(send(&self.log, &self.names.log, body).await?).await };
        self.patiently(self.timeout, appending).await
    }

    /// Waits for the confirm of a job that was sent.
    pub(crate) async fn job_confirmed(&self, confirm: PublisherConfirm) -> Result<()> {
        self.patiently(self.timeout, confirmed(confirm)).await
    }

    /// Acknowledges this message, or with `multiple` all up to this one. `Ok(false)` of the client means that the
    /// channel is closed and nothing was acknowledged.
    pub(crate) async fn acknowledge(&self, delivery: &Delivery, multiple: bool) -> Result<()> {
        let acknowledging = delivery.acker.ack(BasicAckOptions { multiple });
        match self.patiently(SEND_TIMEOUT, async { acknowledging.await.map_err(from_lapin) }).await? {
            true => Ok(()),
            false => Err(Error::temporary(ErrorKind::Unreachable, "the channel of the delivery was closed")),
        }
    }

    /// Reads the log.
    pub(crate) async fn read_log(&self, from: AMQPValue) -> Result<Consumer> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), from);
        self.consume(&self.names.log, LOG_PREFETCH, arguments).await
    }

    /// The offset of the last entry that is in the log now. Reading from "last" delivers the last chunk, whose
    /// entries were written at the same moment and arrive together.
    pub(crate) async fn log_end(&self) -> Result<Option<u64>> {
        let mut log = self.read_log(text("last")).await?;
        let mut end = codec::offset(&within(self.timeout, log.next()).await?);
        while let Ok(next) = tokio::time::timeout(CHUNK_TIMEOUT, log.next()).await {
            end = end.max(codec::offset(&next?));
        }
        self.end(log).await?;
        Ok(end)
    }

    /// Appends to the history on a channel of its own, and waits for the confirm.
    pub(crate) async fn append_history(&self, channel: &Channel, body: &[u8]) -> Result<()> {
        let appending = async { confirmed(send(channel, &self.names.history, body).await?).await };
        self.patiently(self.timeout, appending).await
    }

    /// Reads the history, which must be there.
    pub(crate) async fn read_history(&self, from: AMQPValue) -> Result<Consumer> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), from);
        self.consume(&self.names.history, LOG_PREFETCH, arguments).await
    }

    /// Takes jobs from the inbox, once no other participant does.
    pub(crate) async fn read_inbox(&self) -> Result<Consumer> {
        self.consume(&self.names.jobs, INBOX_PREFETCH, FieldTable::default()).await
    }

    /// Closes a consumer's channel: what was not acknowledged goes back. While the broker takes nothing, it does not answer
    /// that either.
    pub(crate) async fn end(&self, consumer: Consumer) -> Result<()> {
        let closing = consumer.channel.close(200, "done".into());
        self.patiently(SEND_TIMEOUT, async { closing.await.map_err(from_lapin) }).await
    }

    async fn consume(&self, name: &ShortString, prefetch: u16, arguments: FieldTable) -> Result<Consumer> {
        let opening = async {
            let channel = channel(&self.connection).await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(from_lapin)?;
            let options = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(name.clone(), "".into(), options, arguments).await;
            Ok(Consumer { consumer: consumer.map_err(from_lapin)?, channel })
        };
        self.patiently(self.timeout, opening).await
    }

    /// How many messages are in the inbox and not on their way to a participant.
    pub(crate) async fn inbox_depth(&self) -> Result<u64> {
        let asking = async {
            let channel = channel(&self.connection).await?;
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            let queue = channel.queue_declare(self.names.jobs.clone(), passive, FieldTable::default()).await;
            let count = u64::from(queue.map_err(from_lapin)?.message_count());
            channel.close(200, "done".into()).await.map_err(from_lapin)?;
            Ok(count)
        };
        within(self.timeout, asking).await
    }

    /// Closes the connection in an orderly way, if the broker still answers.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        let closing = self.connection.close(200, "done".into());
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::debug!("the broker did not answer the close");
        }
    }
}

/// A consumer on a channel of its own: what was not acknowledged goes back when the channel closes.
#[derive(Debug)]
pub(crate) struct Consumer {
    channel: Channel,
    consumer: lapin::Consumer,
}

impl Consumer {
    /// Waits for the next message. Cancel-safe. The end of the consumer is an error.
    pub(crate) async fn next(&mut self) -> Result<Delivery> {
        delivery(self.consumer.next().await)
    }

    /// Takes a message that has arrived, if there is one.
    pub(crate) fn next_now(&mut self) -> Option<Result<Delivery>> {
        self.consumer.next().now_or_never().map(delivery)
    }
}

fn delivery(next: Option<lapin::Result<Delivery>>) -> Result<Delivery> {
    match next {
        Some(delivery) => delivery.map_err(from_lapin),
        None => Err(Error::temporary(ErrorKind::Unreachable, "the broker ended the consumer")),
    }
}

fn failure(why: Option<&String>) -> String {
    match why {
        Some(why) => format!("the connection failed: {why}"),
        None => "the connection failed".to_owned(),
    }
}

/// Whether an error of a message to the inbox says that the connection cannot be used any more. If the broker only has no
/// room for the message, all else goes on; a queue that was deleted is declared again with the next connection.
pub(crate) fn ends_connection(error: &Error) -> bool {
    error.kind() != ErrorKind::Exhausted
}

fn refused() -> Error {
    let text = "the broker refused the message: the queue is full (max-length with overflow=reject-publish), or has no leader \
                at the moment";
    Error::temporary(ErrorKind::Exhausted, text)
}

/// Waits for the confirm of a message. The broker has it if it confirmed *and* did not return it: a message that fits
/// no queue is confirmed all the same.
pub(crate) async fn confirmed(confirm: PublisherConfirm) -> Result<()> {
    let confirmation = confirm.await.map_err(from_lapin)?;
    if !confirmation.is_ack() {
        return Err(refused());
    }
    match confirmation.take_message() {
        None => Ok(()),
        Some(_) => Err(Error::temporary(ErrorKind::NotFound, "the queue was deleted")),
    }
}

pub(crate) async fn channel(connection: &Connection) -> Result<Channel> {
    connection.create_channel().await.map_err(from_lapin)
}

pub(crate) async fn send(channel: &Channel, queue: &ShortString, body: &[u8]) -> Result<PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel
        .basic_publish("".into(), queue.clone(), options, body, codec::properties())
        .await
        .map_err(from_lapin)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full inbox is no reason to give the connection up, on which runs renew their leases.
    #[test]
    fn a_message_that_the_broker_has_no_room_for_ends_no_connection() {
        let error = refused();
        assert!(error.is_temporary() && error.to_string().contains("the queue is full"), "{error}");
        assert!(!ends_connection(&error));
        for kind in [ErrorKind::NotFound, ErrorKind::TimedOut, ErrorKind::Unreachable, ErrorKind::Remote] {
            assert!(ends_connection(&Error::temporary(kind, "x")), "{kind:?}");
        }
    }

    #[test]
    fn who_waits_on_a_connection_that_failed_is_told_why() {
        let why = "the queue was deleted".to_owned();
        assert_eq!(failure(Some(&why)), "the connection failed: the queue was deleted");
        assert_eq!(failure(None), "the connection failed");
    }
}
