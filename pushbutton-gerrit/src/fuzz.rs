//! The parsers of bytes that strangers write, for fuzzing and for the property tests beside this file. Each function
//! takes any bytes, and must return, with bounded results.

use jiff::Timestamp;
use pushbutton_core::PatchsetNumber;

use crate::backfill::BackfilledEvent;
use crate::backfill::change_events::backfilled_events;
use crate::client::dependency_lookup::linked_change;
use crate::client::query::{Row, read_row};
use crate::client::rest_comments::{CommentTime, parse_comments};
use crate::comment_text::split_header;
use crate::event_filter::EventFilter;
use crate::lines::{LineSplitter, MAX_LINE};
use crate::raw_event::{ParsedLine, RawEventKind, parse_line};
use crate::wire::{MAX_LIST, WireChange};

/// A change in a query reply of a real server.
const ROW: &str = include_str!("../tests/payloads/query-3.10-web.jsonl");

/// The event stream.
pub fn event_line(bytes: &[u8]) {
    let mut lines = LineSplitter::new(MAX_LINE);
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    for part in [head, tail, b"\n"] {
        lines.feed(part, |line| {
            let Ok(line) = line else { return };
            let parsed = parse_line(line, &EventFilter::everything(), Timestamp::UNIX_EPOCH);
            if let Ok(ParsedLine::Events(events, _)) = parsed {
                assert!(events.len() <= 100, "one review is not many events");
            }
        });
    }
}

/// A comment as Gerrit shows it, with its header.
pub fn comment_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parts = split_header(&text);
    assert!(text.contains(parts.text), "the text is part of the message");
    assert_eq!(parts.text, parts.text.trim());
    // A header that a person typed is part of the text.
    let quoted = format!("Patch Set 7:\n\n(2 comments)\n\n{text}");
    let quoted = split_header(&quoted);
    assert_eq!((quoted.patchset, quoted.inline, quoted.text), (Some(7), 2, text.trim()));
}

/// A line of a query reply.
pub fn query_line(bytes: &[u8]) {
    let Ok(Ok(Row::Change(row))) = std::str::from_utf8(bytes).map(read_row) else { return };
    backfill(&row, &[]);
    if let Ok(found) = linked_change(&row) {
        assert!(!found.commits.is_empty() && found.commits.len() <= MAX_LIST);
        assert!(found.commits.iter().all(|commit| commit.parents.len() <= 16));
    }
    if let Ok(times) = parse_comments(include_bytes!("../tests/payloads/rest-3.10-comments.json")) {
        backfill(&row, &times);
    }
}

/// A REST reply with the comments on a change.
pub fn rest_reply(bytes: &[u8]) {
    let row = read_row(ROW.lines().next().unwrap_or(""));
    let (Ok(times), Ok(Row::Change(row))) = (parse_comments(bytes), row) else { return };
    backfill(&row, &times);
    // It adds times only, no texts and no people.
    let found = backfilled_events(&row, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Some(&times));
    for BackfilledEvent { event, .. } in found.unwrap_or_default() {
        match event.kind {
            RawEventKind::Comment { author, texts, message, .. } if author.handle() == "bob" => {
                let is_known = |text: &String| ["recheck", "second"].contains(&text.as_str());
                assert!(texts.iter().chain(&message).all(is_known), "{texts:?} {message:?}");
            }
            _ => {}
        }
    }
}

fn backfill(row: &WireChange<'_>, times: &[CommentTime]) {
    let horizon = Timestamp::from_second(1_000).unwrap_or(Timestamp::UNIX_EPOCH);
    for times in [None, Some(times)] {
        let Ok(found) = backfilled_events(row, horizon, Timestamp::UNIX_EPOCH, times) else { continue };
        assert!(found.iter().all(|found| found.event.at >= horizon), "nothing is older than the horizon");
        assert!(found.iter().all(|found| found.event.patchset.number > PatchsetNumber(0) && found.nth > 0));
        assert!(found.len() <= 4 * MAX_LIST);
    }
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod tests;
