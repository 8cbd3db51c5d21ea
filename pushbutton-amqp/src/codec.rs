//! Message format: JSON, with a format version in a header.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use pushbutton_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The header with the format version. A reader refuses newer versions: it would apply other rules than their writers.
const FORMAT_HEADER: &str = "pushbutton-format";
const FORMAT: i64 = 1;
/// The header in which RabbitMQ gives a message's offset in a stream.
const OFFSET_HEADER: &str = "x-stream-offset";
/// The largest job: core bounds names and subjects, so real jobs are far smaller.
pub(crate) const MAX_JOB: usize = 64 << 10;
/// AMQP's delivery mode for "keep it on disk".
const PERSISTENT: u8 = 2;

/// Why a message could not be read.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It was written by a newer version of this crate.
    #[error(
        "its format version is {0}, and this program reads versions up to {FORMAT}: upgrade this program"
    )]
    Newer(i64),
    /// It was not written by this crate, or was damaged.
    #[error("{0}")]
    Malformed(String),
}

/// Serializes a message.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::permanent(ErrorKind::Unexpected, "cannot be written as JSON").because(error))
}

/// The properties of every message.
pub(crate) fn properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(FORMAT_HEADER.into(), AMQPValue::LongLongInt(FORMAT));
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_headers(headers)
}

/// Deserializes a message.
pub(crate) fn decode<T: DeserializeOwned>(delivery: &Delivery) -> Result<T, Unreadable> {
    read(header(delivery, FORMAT_HEADER), &delivery.data)
}

/// A message's offset in its stream.
pub(crate) fn offset(delivery: &Delivery) -> Option<u64> {
    header(delivery, OFFSET_HEADER).and_then(|offset| u64::try_from(offset).ok())
}

fn header(delivery: &Delivery, name: &str) -> Option<i64> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get(&ShortString::from(name))? {
        AMQPValue::LongLongInt(value) => Some(*value),
        AMQPValue::LongInt(value) => Some(i64::from(*value)),
        AMQPValue::LongUInt(value) => Some(i64::from(*value)),
        AMQPValue::ShortInt(value) => Some(i64::from(*value)),
        AMQPValue::ShortShortInt(value) => Some(i64::from(*value)),
        _ => None,
    }
}

fn read<T: DeserializeOwned>(format: Option<i64>, body: &[u8]) -> Result<T, Unreadable> {
    let malformed = |text| Err(Unreadable::Malformed(text));
    match format {
        Some(1..=FORMAT) => {}
        Some(newer) if newer > FORMAT => return Err(Unreadable::Newer(newer)),
        Some(other) => return malformed(format!("its format version {other} was never in use")),
        None => return malformed(format!("it has no header {FORMAT_HEADER}: not written by pushbutton")),
    }
    serde_json::from_slice(body).or_else(|error| malformed(format!("its body is malformed: {error}")))
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
