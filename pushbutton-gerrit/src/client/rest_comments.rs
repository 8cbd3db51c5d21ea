//! Parses the REST reply to `GET /changes/ID/comments`. Pure, in bounded memory.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use pushbutton_core::{Account, Error, ErrorKind, PatchsetNumber, Result};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::raw_event;
use crate::wire::{List, Listed, MAX_LIST, Number, PATCHSET_LEVEL, Text, WireAccount};

/// The first bytes of a JSON reply: they keep browsers from running it as a script.
const PREFIX: &[u8] = b")]}'";

/// When a comment was written. A query has its text too, but not its time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommentTime {
    pub(crate) patchset: PatchsetNumber,
    pub(crate) author: Account,
    /// By Gerrit's clock.
    pub(crate) at: Timestamp,
    /// The text of a comment on the patch set as a whole; none for a comment on a file.
    pub(crate) text: Option<String>,
}

/// Parses a reply: all comments of a change, in any order.
///
/// # Errors
/// [`ErrorKind::Protocol`], permanent: this is not a reply of Gerrit, perhaps a login page.
pub(crate) fn parse_comments(reply: &[u8]) -> Result<Vec<CommentTime>> {
    let invalid = |what: String| Error::permanent(ErrorKind::Protocol, what);
    let json = reply.strip_prefix(PREFIX).ok_or_else(|| {
        invalid("the reply does not begin like one of Gerrit; is `url` the address of a Gerrit?".into())
    })?;
    let files: Files = serde_json::from_slice(json)
        .map_err(|error| invalid(format!("the reply cannot be parsed: {error}")))?;
    Ok(files.0)
}

/// Comments by file.
struct Files(Vec<CommentTime>);

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct RestComment<'a> {
    patch_set: Number,
    author: Option<WireAccount<'a>>,
    updated: Text<'a>,
    message: Text<'a>,
}

impl Listed for RestComment<'_> {
    fn is_usable(&self) -> bool {
        self.patch_set.0.is_some() && self.updated.is_usable()
    }
}

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
                    let on_patchset = file.as_str() == PATCHSET_LEVEL;
                    let comments = map.next_value::<List<RestComment<'de>>>()?;
                    found.extend(comments.iter().filter_map(|comment| comment_time(comment, on_patchset)));
                }
                Ok(Files(found))
            }
        }
        deserializer.deserialize_map(ByFile)
    }
}

fn comment_time(comment: &RestComment<'_>, on_patchset: bool) -> Option<CommentTime> {
    // `2026-11-24 02:47:14.000000000`, always UTC.
    let at = Offset::UTC.to_timestamp(comment.updated.as_str().parse::<DateTime>().ok()?).ok()?;
    Some(CommentTime {
        patchset: PatchsetNumber(u32::try_from(comment.patch_set.0?).ok()?),
        author: raw_event::account(comment.author.as_ref()),
        at,
        text: on_patchset.then(|| comment.message.as_str().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &[u8] = include_bytes!("../../tests/payloads/rest-3.10-comments.json");

    #[test]
    fn a_recorded_reply_is_parsed() {
        let all = parse_comments(REPLY).unwrap();
        assert_eq!(all.len(), 7);
        let whole: Vec<_> = all.iter().filter(|w| w.text.is_some()).collect();
        assert_eq!(whole.len(), 5);
        assert_eq!(whole[0].author.handle(), "bob");
        assert_eq!(whole[0].patchset, PatchsetNumber(1));
        assert_eq!(whole[0].at.to_string(), "2026-11-24T02:47:13Z");
    }

    #[test]
    fn another_reply_is_an_error_and_an_invalid_comment_is_skipped() {
        for reply in [
            &b"<html>Sign in</html>"[..],
            b"",
            b")]}'",
            b")]}'\n[]",
            b")]}'\n{\"a\":5}",
            b")]}'\n{\"a\":[",
            b"{}",
        ] {
            assert_eq!(parse_comments(reply).unwrap_err().kind(), ErrorKind::Protocol);
        }
        let odd = br#")]}'
        {"/PATCHSET_LEVEL":[{}, {"patch_set":-1,"updated":"2026-11-24 02:47:14"}, {"patch_set":1,"updated":"soon"},
        {"patch_set":"1","updated":"2026-11-24 02:47:14","message":7,"author":{"name":{}}}],"a":null}"#;
        let all = parse_comments(odd).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!((all[0].text.as_deref(), all[0].author.handle()), (Some("7"), ""));
    }

    #[test]
    fn a_long_list_takes_no_more_memory_than_its_bytes() {
        let many = format!(")]}}'\n{{\"a\":[{}{{}}]}}", "{},".repeat(1_000_000));
        assert_eq!(parse_comments(many.as_bytes()).unwrap(), []);
        let comment = r#"{"patch_set":1,"updated":"2026-11-24 02:47:14"},"#;
        let many = format!(")]}}'\n{{\"a\":[{}{{}}]}}", comment.repeat(MAX_LIST + 10));
        assert_eq!(parse_comments(many.as_bytes()).unwrap().len(), MAX_LIST);
    }
}
