//! Messages on the wire: JSON, with the version of its form in a header.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use pushbutton_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Names the form of a message.
const FORMAT_HEADER: &str = "pushbutton-format";
/// The newest form that is read here.
const NEWEST: i64 = Form::Second as i64;
/// Where RabbitMQ says at what place of a stream a message stands.
const OFFSET_HEADER: &str = "x-stream-offset";
/// The largest job: names and subjects are bounded by core, and no honest job comes near this.
pub(crate) const MAX_JOB: usize = 64 << 10;
/// AMQP's mark for "keep it on disk".
const PERSISTENT: u8 = 2;

/// The form of a message. Each is written in the oldest that carries it, so that versions can work side by side; a new one is
/// for what an older reader would misunderstand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Everything of the first version.
    First = 1,
    /// What people do to dead letters: who passed it over would run a job that another has dropped.
    Second = 2,
}

/// Why a message could not be read.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It was written by a newer version of this crate.
    #[error("it is of form {0}, and this version reads forms up to {NEWEST}: upgrade this one first")]
    Newer(i64),
    /// It was not written by this crate, or was damaged.
    #[error("{0}")]
    Malformed(String),
}

/// Writes a message.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|why| Error::permanent(ErrorKind::Unexpected, "cannot be written as JSON").because(why))
}

/// What goes along with every message.
pub(crate) fn properties(form: Form) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(FORMAT_HEADER.into(), AMQPValue::LongLongInt(form as i64));
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_headers(headers)
}

/// Reads a message.
pub(crate) fn decode<T: DeserializeOwned>(delivery: &Delivery) -> Result<T, Unreadable> {
    read(header(delivery, FORMAT_HEADER), &delivery.data)
}

/// Its place in a stream.
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
    match format {
        Some(1..=NEWEST) => {}
        Some(newer) if newer > NEWEST => return Err(Unreadable::Newer(newer)),
        Some(other) => return Err(Unreadable::Malformed(format!("its form {other} was never in use"))),
        None => {
            return Err(Unreadable::Malformed(format!(
                "it has no header {FORMAT_HEADER}: not written by pushbutton"
            )));
        }
    }
    serde_json::from_slice(body).map_err(|why| Unreadable::Malformed(format!("its body is malformed: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushbutton_core::Job;
    use pushbutton_core::samples;

    #[test]
    fn a_job_comes_back_as_it_was_written() {
        let job = samples::job("tempest");
        let body = encode(&job).unwrap();
        assert!(body.len() < MAX_JOB);
        assert_eq!(read(Some(1), &body), Ok(job));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let why = |format, body: &[u8]| read::<Job>(format, body).unwrap_err().to_string();
        assert!(why(Some(NEWEST + 1), b"{}").contains("upgrade"));
        assert!(why(None, b"{}").contains("no header pushbutton-format"));
        assert!(why(Some(0), b"{}").contains("never in use"));
        assert!(why(Some(1), b"{\"id\"").contains("malformed: EOF"));
        assert!(why(Some(1), b"\xff\xfe").contains("malformed"));
    }
}
