//! One line of the stream, read with as little work as it deserves.

use jiff::Timestamp;
use pushbutton_core::{Error, ErrorKind, Result};

use crate::convert::{Happening, from_stream};
use crate::interest::Interest;
use crate::wire::WireEvent;

/// What a line said.
#[derive(Debug, PartialEq)]
pub(crate) enum Parsed {
    /// Something happened, or nothing that matters (an empty list). With Gerrit's time of it.
    Happenings(Vec<Happening>, Option<i64>),
    /// The server has dropped events that we did not read fast enough.
    Dropped,
}

/// Reads one line.
///
/// # Errors
/// [`ErrorKind::Invalid`]: it is not JSON, or not what an event of its type must be. To be logged with its place and passed by.
pub(crate) fn parse_line(line: &[u8], interest: &Interest, now: Timestamp) -> Result<Parsed> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(Parsed::Happenings(Vec::new(), None));
    }
    let event: WireEvent<'_> = serde_json::from_slice(line)
        .map_err(|error| Error::permanent(ErrorKind::Invalid, format!("not an event of Gerrit: {error}")))?;
    let kind = event.kind.as_str();
    if kind == "dropped-output" {
        return Ok(Parsed::Dropped);
    }
    let at = event.created_on.0;
    let wanted = interest.wants_type(kind)
        && event
            .change
            .as_ref()
            .is_none_or(|change| interest.wants_place(change.project.as_str(), change.branch.as_str()));
    if !wanted {
        return Ok(Parsed::Happenings(Vec::new(), at));
    }
    Ok(Parsed::Happenings(from_stream(event, interest, now)?, at))
}
