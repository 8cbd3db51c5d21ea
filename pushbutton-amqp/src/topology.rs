//! The objects on the broker: the inbox and the log, which are declared on every connection, and the history.

use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind as Lapin};
use pushbutton_core::{Error, ErrorKind, Result};

use crate::config::AmqpConfig;
use crate::error::from_lapin;
use crate::session::channel;

/// A quorum queue counts each delivery, also one that a broken connection gave back, and drops a message after 20
/// (RabbitMQ 4.0) if no limit is set; -1 means "no limit" on 4.x and "one" on 3.10. So: a number that is never reached.
const DELIVERY_LIMIT: i32 = 1_000_000;
/// The size of the log. A snapshot has at most some 15 MiB (8 MiB of jobs, open buildsets and due reports, 2 each of control
/// messages and seen events, 1 each of dead letters and undelivered reports, the ids of what has ended), and is followed by
/// the next one after as many bytes: the last whole one is never near the end that is dropped.
pub(crate) const LOG_BYTES: i64 = 64 << 20;
/// RabbitMQ frees a stream's space by whole segments.
const LOG_SEGMENT_BYTES: i64 = 2 << 20;

/// The same for the history.
const HISTORY_SEGMENT_BYTES: i64 = 8 << 20;

/// The names of one installation's objects.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// A quorum queue: jobs that are not in the log yet.
    pub(crate) jobs: ShortString,
    /// A stream: the command log.
    pub(crate) log: ShortString,
    /// A stream: the history.
    pub(crate) history: ShortString,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            jobs: format!("{prefix}.jobs").into(),
            log: format!("{prefix}.log").into(),
            history: format!("{prefix}.history").into(),
        }
    }

    /// Declares both; an object that is there stays as it is.
    pub(crate) async fn declare(&self, channel: &Channel) -> Result<()> {
        let jobs = vec![
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
            // One participant at a time imports jobs, so that they keep the order of publishing.
            ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ];
        let log = vec![
            ("x-queue-type", text("stream")),
            ("x-max-length-bytes", AMQPValue::LongLongInt(LOG_BYTES)),
            ("x-stream-max-segment-size-bytes", AMQPValue::LongLongInt(LOG_SEGMENT_BYTES)),
        ];
        declare(channel, &self.jobs, jobs).await?;
        declare(channel, &self.log, log).await
    }

    /// Opens a channel that confirms, and declares the history.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is there with other retention: the broker does not change it.
    pub(crate) async fn history_channel(
        &self,
        connection: &Connection,
        config: &AmqpConfig,
        is_declared: bool,
    ) -> Result<Channel> {
        let open = channel(connection).await?;
        let history = vec![
            ("x-queue-type", text("stream")),
            ("x-max-age", text(&format!("{}s", config.history_age.0.as_secs()))),
            ("x-max-length-bytes", AMQPValue::LongLongInt(config.history_bytes())),
            ("x-stream-max-segment-size-bytes", AMQPValue::LongLongInt(HISTORY_SEGMENT_BYTES)),
        ];
        if !is_declared {
            declare(&open, &self.history, history).await?;
        }
        open.confirm_select(ConfirmSelectOptions::default()).await.map_err(from_lapin)?;
        Ok(open)
    }
}

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(crate) async fn declare(
    channel: &Channel,
    name: &ShortString,
    arguments: Vec<(&str, AMQPValue)>,
) -> Result<()> {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert(key.into(), value);
    }
    let declared = channel.queue_declare(name.clone(), QueueDeclareOptions::durable(), table).await;
    declared.map(|_| ()).map_err(|error| declare_error(error, name))
}

/// A queue of that name with other arguments was made by somebody else, or the broker is too old for streams.
fn declare_error(error: lapin::Error, name: &ShortString) -> Error {
    let precondition = AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED);
    match error.kind() {
        Lapin::ProtocolError(answer) if *answer.kind() == precondition => Error::permanent(
            ErrorKind::Config,
            format!(
                "the broker cannot declare the queue: {}; delete the queue of that name, or choose another rabbitmq.prefix \
                 (RabbitMQ 3.10 or later is needed, with the feature flags stream_queue and quorum_queue on)",
                answer.get_message()
            ),
        )
        .with("queue", name)
        .because(error),
        // "Down or inaccessible": its node is starting, or is away. A damaged queue looks the same.
        _ => from_lapin(error).with("queue", name),
    }
}
