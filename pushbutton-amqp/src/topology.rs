//! What this crate needs on the broker: two queues and three streams, declared on every connection.

use lapin::options::QueueDeclareOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ErrorKind as Wire};
use pushbutton_core::{Error, ErrorKind, Result};

use crate::error::from_wire;

/// A quorum queue counts each delivery, also one that a cut connection gave back, and drops a message after 20 (RabbitMQ
/// 4.0) if no limit is set; -1 means "no limit" on 4.x and "one" on 3.10. A message is on its way here for milliseconds
/// only, and what kills operators is counted in the record, so: a number that is never reached.
const DELIVERIES: i32 = 1_000_000;
/// The record's size. A snapshot is written every [`SNAPSHOT_EVERY`] bytes, and is itself bounded by [`OPEN_BYTES`] and
/// the limits of the state: the last whole one is always far from the end that is dropped.
const RECORD_BYTES: i64 = 32 << 20;
/// Space is freed by whole segments.
const RECORD_SEGMENT: i64 = 2 << 20;
/// After so many bytes of other entries the state is written down.
pub(crate) const SNAPSHOT_EVERY: usize = 2 << 20;
/// Above so many bytes of open jobs no further one is adopted: they wait on the jobs queue, where there is room.
pub(crate) const OPEN_BYTES: usize = 2 << 20;
/// Longer than the day that notices must be kept.
const NOTICES_AGE: &str = "3D";
/// Bounds a flood of notices: some 150,000.
const NOTICES_BYTES: i64 = 32 << 20;

/// A ledger whole is at most 1.8 MB, and written after as many bytes of pages: several fit.
const LEDGER_BYTES: i64 = 12 << 20;
/// After so many bytes of other pages, or as many as it has itself if that is more, the ledger is written down whole.
pub(crate) const WHOLE_EVERY: usize = 256 << 10;

/// The names of one installation's queues.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// Jobs that nobody has claimed yet: a quorum queue.
    pub(crate) jobs: ShortString,
    /// What became of those that were claimed: a stream.
    pub(crate) record: ShortString,
    /// What operators are told: a stream.
    pub(crate) notices: ShortString,
    /// What handlers have seen: a stream.
    pub(crate) ledger: ShortString,
    /// Whose turn it is among handlers: a quorum queue that serves one consumer at a time.
    pub(crate) turn: ShortString,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        let name = |part: &str| format!("{prefix}.{part}").into();
        Self {
            jobs: name("jobs"),
            record: name("record"),
            notices: name("notices"),
            ledger: name("ledger"),
            turn: name("turn"),
        }
    }

    /// Declares all five; what is there already stays as it is.
    pub(crate) async fn declare(&self, channel: &Channel) -> Result<()> {
        let text = |value: &str| AMQPValue::LongString(value.into());
        let stream = |bytes| {
            let size = AMQPValue::LongLongInt(RECORD_SEGMENT);
            vec![
                ("x-queue-type", text("stream")),
                ("x-max-length-bytes", AMQPValue::LongLongInt(bytes)),
                ("x-stream-max-segment-size-bytes", size),
            ]
        };
        let mut notices = stream(NOTICES_BYTES);
        notices.push(("x-max-age", text(NOTICES_AGE)));
        let jobs =
            vec![("x-queue-type", text("quorum")), ("x-delivery-limit", AMQPValue::LongInt(DELIVERIES))];
        let mut turn = jobs.clone();
        turn.push(("x-single-active-consumer", AMQPValue::Boolean(true)));
        for (name, arguments) in [
            (&self.jobs, jobs),
            (&self.record, stream(RECORD_BYTES)),
            (&self.notices, notices),
            (&self.ledger, stream(LEDGER_BYTES)),
            (&self.turn, turn),
        ] {
            declare(channel, name, arguments).await?;
        }
        Ok(())
    }
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
    declared.map(|_| ()).map_err(|error| explain(error, name))
}

/// A queue of that name with other arguments was made by somebody else, or by a broker too old for streams.
fn explain(error: lapin::Error, name: &ShortString) -> Error {
    let precondition = AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED);
    match error.kind() {
        Wire::ProtocolError(said) if *said.kind() == precondition => Error::permanent(
            ErrorKind::Config,
            format!(
                "the broker cannot declare the queue: {}; delete the queue of that name, or choose another rabbitmq.prefix \
                 (RabbitMQ 3.10 or later is needed, with the feature flags stream_queue and quorum_queue on)",
                said.get_message()
            ),
        )
        .with("queue", name)
        .because(error),
        // "Down or inaccessible": its node is starting, or is away. It may also be damaged, but only a person can tell.
        _ => from_wire(error).with("queue", name),
    }
}
