//! What Gerrit's REST answers about the comments on a change (`GET /changes/ID/comments`): pure, and bounded.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use pushbutton_core::{Account, Error, ErrorKind, PatchsetNumber, Result};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::convert::{self, PATCHSET_LEVEL};
use crate::wire::{Number, Text, WireAccount};
use crate::wire_list::{Listed, MAX_LIST, list};

/// What a reply in JSON begins with, so that no browser takes it for a script.
const PREFIX: &[u8] = b")]}'";

/// When a comment was written. A query tells its text as well, but never this.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Written {
    pub(crate) patchset: PatchsetNumber,
    pub(crate) author: Account,
    /// By Gerrit's clock.
    pub(crate) at: Timestamp,
    /// Of a comment on the patch set as a whole, its text; none for one on a file.
    pub(crate) text: Option<String>,
}

/// Reads a reply: all comments of a change, in no order.
///
/// # Errors
/// [`ErrorKind::Protocol`], permanent: this is no reply of Gerrit, but a login page, perhaps.
pub(crate) fn written(reply: &[u8]) -> Result<Vec<Written>> {
    let foreign = |what: String| Error::permanent(ErrorKind::Protocol, what);
    let json = reply.strip_prefix(PREFIX).ok_or_else(|| {
        foreign("the reply does not begin as Gerrit's replies do; does `url` name a Gerrit?".into())
    })?;
    let files: Files = serde_json::from_slice(json)
        .map_err(|error| foreign(format!("the reply cannot be understood: {error}")))?;
    Ok(files.0)
}

/// Comments by file.
struct Files(Vec<Written>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireComment<'a> {
    patch_set: Number,
    #[serde(borrow)]
    author: Option<WireAccount<'a>>,
    #[serde(borrow)]
    updated: Text<'a>,
    #[serde(borrow)]
    message: Text<'a>,
}

impl Listed for WireComment<'_> {
    fn is_of_use(&self) -> bool {
        self.patch_set.0.is_some() && self.updated.is_of_use()
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct WireComments<'a>(#[serde(borrow, deserialize_with = "list")] Vec<WireComment<'a>>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct ByFile;
        impl<'de> Visitor<'de> for ByFile {
            type Value = Files;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("comments by file")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Files, A::Error> {
                let mut found = Vec::new();
                while let Some(file) = map.next_key::<Text<'de>>()? {
                    if found.len() >= MAX_LIST {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let is_whole = file.as_str() == PATCHSET_LEVEL;
                    found.extend(
                        map.next_value::<WireComments<'de>>()?.0.iter().filter_map(|c| one(c, is_whole)),
                    );
                }
                Ok(Files(found))
            }
        }
        deserializer.deserialize_map(ByFile)
    }
}

fn one(comment: &WireComment<'_>, is_whole: bool) -> Option<Written> {
    Some(Written {
        patchset: PatchsetNumber(u32::try_from(comment.patch_set.0?).ok()?),
        author: convert::account(comment.author.as_ref()),
        at: time(comment.updated.as_str())?,
        text: is_whole.then(|| comment.message.as_str().to_owned()),
    })
}

/// `2026-11-24 02:47:14.000000000`, always UTC.
fn time(text: &str) -> Option<Timestamp> {
    Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &[u8] = include_bytes!("../tests/payloads/rest-3.10-comments.json");

    #[test]
    fn a_recorded_reply_is_read() {
        let all = written(REPLY).unwrap();
        assert_eq!(all.len(), 7);
        let whole: Vec<_> = all.iter().filter(|w| w.text.is_some()).collect();
        assert_eq!(whole.len(), 5);
        assert_eq!(whole[0].author.handle(), "bob");
        assert_eq!(whole[0].patchset, PatchsetNumber(1));
        assert_eq!(whole[0].at.to_string(), "2026-11-24T02:47:13Z");
    }

    #[test]
    fn what_is_no_reply_is_an_error_and_what_is_odd_is_passed_by() {
        for reply in [
            &b"<html>Sign in</html>"[..],
            b"",
            b")]}'",
            b")]}'\n[]",
            b")]}'\n{\"a\":5}",
            b")]}'\n{\"a\":[",
            b"{}",
        ] {
            assert_eq!(written(reply).unwrap_err().kind(), ErrorKind::Protocol);
        }
        let odd = br#")]}'
        {"/PATCHSET_LEVEL":[{}, {"patch_set":-1,"updated":"2026-11-24 02:47:14"}, {"patch_set":1,"updated":"soon"},
        {"patch_set":"1","updated":"2026-11-24 02:47:14","message":7,"author":{"name":{}}}],"a":null}"#;
        let all = written(odd).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!((all[0].text.as_deref(), all[0].author.handle()), (Some("7"), ""));
    }

    #[test]
    fn a_long_list_costs_no_more_than_its_bytes() {
        let many = format!(")]}}'\n{{\"a\":[{}{{}}]}}", "{},".repeat(1_000_000));
        assert_eq!(written(many.as_bytes()).unwrap(), []);
        let comment = r#"{"patch_set":1,"updated":"2026-11-24 02:47:14"},"#;
        let many = format!(")]}}'\n{{\"a\":[{}{{}}]}}", comment.repeat(MAX_LIST + 10));
        assert_eq!(written(many.as_bytes()).unwrap().len(), MAX_LIST);
    }
}
