//! Ids of 16 bytes, in messages as 32 hexadecimal digits.

use std::fmt;

use pushbutton_core::{Error, ErrorKind, EventId, JobId, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Defines an id.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub(crate) struct $name(pub(super) u128);

        impl TryFrom<String> for $name {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                parse(&text).map(Self).ok_or("an id is 32 hexadecimal digits")
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
    };
}

id! {
    /// Identifies a log entry: a UUID of version 7 (RFC 9562), which nobody else draws.
    EntryId
}
id! {
    /// Identifies an event: core's event ids are digests of this size.
    EventKey
}
id! {
    /// Identifies a job, as the event.
    JobKey
}

/// The version of a job or a leader: the offset and the id of the entry that changed it last. Neither is unique alone:
/// offsets are used again when the broker has lost the end of the log, and an entry may be in the log twice.
pub(crate) type Version = (u64, EntryId);

fn parse(text: &str) -> Option<u128> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl EntryId {
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7().as_u128())
    }
}

impl EventKey {
    pub(crate) fn of(event: &EventId) -> Result<Self> {
        let error = || Error::permanent(ErrorKind::Invalid, "the event's id is not a digest of 16 bytes");
        parse(event.as_str()).map(Self).ok_or_else(error)
    }
}

impl JobKey {
    /// Core checks that job ids have this form.
    pub(super) fn of(job: &JobId) -> Self {
        Self(parse(job.as_str()).unwrap_or_default())
    }
}
