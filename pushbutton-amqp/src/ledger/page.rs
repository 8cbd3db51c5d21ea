//! What is written into the ledger's stream.

use std::fmt;

use pushbutton_core::{Error, ErrorKind, EventId, Position, Result};
use serde::{Deserialize, Serialize};

use crate::record::Mark;

/// An event's identity in 16 bytes: it is a digest of that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Key(pub(super) u128);

impl Key {
    pub(crate) fn of(event: &EventId) -> Result<Self> {
        Self::parse(event.as_str())
            .ok_or_else(|| Error::permanent(ErrorKind::Invalid, "the event's id is no digest of 16 bytes"))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl TryFrom<String> for Key {
    type Error = &'static str;
    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an event's id is 32 hexadecimal digits")
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

/// One message. Pages may be read in any order, and more than once: seen is seen, and of positions the newest counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Page {
    /// By this its writer knows it again.
    pub(crate) mark: Mark,
    /// Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) seen: Vec<Key>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<Position>,
    /// Set on the whole ledger: all up to this place of the stream is in it, so that what stands before may be dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) whole: Option<u64>,
}

impl Page {
    /// Nothing: who reads its own knows that it has read all that stood before.
    pub(crate) fn blank() -> Self {
        Self { mark: Mark::new(), seen: Vec::new(), position: None, whole: None }
    }
}
