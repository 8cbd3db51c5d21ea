//! Where hostile bytes come in, for fuzzing and for the property tests beside this file. Each function takes anything; that it returns, and
//! how little it takes from it, is what is tested.

use jiff::Timestamp;
use pushbutton_core::PatchsetNumber;

use crate::comment_text::take_apart;
use crate::convert::What;
use crate::interest::Interest;
use crate::lines::{Line, LineSplitter, MAX_LINE};
use crate::parse::{Parsed, parse_line};
use crate::query::{Row, read_row};
use crate::recover::happenings;
use crate::wire_list::MAX_LIST;
use crate::{web_reply, wire::WireChange};

/// A change as a real server shows it.
const ROW: &str = include_str!("../tests/payloads/query-3.10-web.jsonl");

/// The event stream.
pub fn event_line(bytes: &[u8]) {
    let mut lines = LineSplitter::new(MAX_LINE);
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    for part in [head, tail, b"\n"] {
        lines.feed(part, |line| {
            let Line::Whole(line) = line else { return };
            if let Ok(Parsed::Happenings(found, _)) =
                parse_line(line, &Interest::everything(), Timestamp::UNIX_EPOCH)
            {
                assert!(found.len() <= 100, "one review is no flood");
            }
        });
    }
}

/// A comment as Gerrit shows it, with its header.
pub fn comment_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parts = take_apart(&text);
    assert!(text.contains(parts.text), "no words that nobody wrote");
    assert_eq!(parts.text, parts.text.trim());
    // What people typed themselves is not taken for a header.
    let quoted = format!("Patch Set 7:\n\n(2 comments)\n\n{text}");
    let quoted = take_apart(&quoted);
    assert_eq!((quoted.patchset, quoted.inline, quoted.text), (Some(7), 2, text.trim()));
}

/// A line of a query's reply.
pub fn query_line(bytes: &[u8]) {
    if let Ok(Row::Change(row)) = read_row(bytes) {
        recover(&row, &[]);
        if let Ok(written) = web_reply::written(include_bytes!("../tests/payloads/rest-3.10-comments.json")) {
            recover(&row, &written);
        }
    }
}

/// A reply of REST about the comments on a change.
pub fn rest_reply(bytes: &[u8]) {
    let (Ok(written), Ok(Row::Change(row))) =
        (web_reply::written(bytes), read_row(ROW.lines().next().unwrap_or("").as_bytes()))
    else {
        return;
    };
    recover(&row, &written);
    // It tells times only: no words, no people.
    let words = |found: &crate::recover::Recovered| matches!(&found.happening.what, What::Comment { author, .. } if author.handle() == "bob");
    let found =
        happenings(&row, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Some(&written)).unwrap_or_default();
    let texts = ["recheck", "second"];
    for found in found.iter().filter(|found| words(found)) {
        if let What::Comment { text, .. } = &found.happening.what {
            assert!(text.lines().all(|line| texts.contains(&line)), "{text:?}");
        }
    }
}

fn recover(row: &WireChange<'_>, written: &[web_reply::Written]) {
    let horizon = Timestamp::from_second(1_000).unwrap_or(Timestamp::UNIX_EPOCH);
    for written in [None, Some(written)] {
        let Ok(found) = happenings(row, horizon, Timestamp::UNIX_EPOCH, written) else { continue };
        assert!(
            found.iter().all(|found| found.happening.at >= horizon),
            "nothing is older than the position"
        );
        assert!(
            found.iter().all(|found| found.happening.patchset.number > PatchsetNumber(0) && found.nth > 0)
        );
        assert!(found.len() <= 4 * MAX_LIST);
    }
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod tests;
