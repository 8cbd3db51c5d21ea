use pushbutton_core::Approval;

use super::*;
use crate::client::rest_comments::parse_comments;
use crate::event_filter::EventFilter;
use crate::raw_event::{ParsedLine, parse_line};

const OPEN: &str = include_str!("../../tests/payloads/query-3.10-open.jsonl");
const MERGED: &str = include_str!("../../tests/payloads/query-3.10-merged.jsonl");
const STREAM: &str = include_str!("../../tests/payloads/stream-3.10.jsonl");

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn backfilled(row: &str, horizon: i64, first_start: i64) -> Vec<BackfilledEvent> {
    let wire: WireChange<'_> = serde_json::from_str(row.lines().next().unwrap()).unwrap();
    backfilled_events(&wire, at(horizon), at(first_start), None).unwrap()
}

/// The event without its time, as text.
fn describe(kind: &RawEventKind) -> String {
    match kind {
        RawEventKind::Created { uploader } => format!("created by {uploader}"),
        RawEventKind::Comment { author, texts, approvals, .. } => {
            format!("{author}: {:?} {approvals:?}", texts.join("\n"))
        }
        RawEventKind::Vote { voter, vote } => format!("{voter} votes {vote:?}"),
        RawEventKind::Merged => "merged".into(),
        RawEventKind::Abandoned => "abandoned".into(),
        RawEventKind::Restored { restorer } => format!("restored by {restorer}"),
        RawEventKind::Ready { changer } => format!("ready by {changer}"),
        RawEventKind::Public { changer } => format!("public by {changer}"),
        RawEventKind::Deleted => "deleted".into(),
    }
}

fn streamed() -> Vec<RawEvent> {
    let now = Timestamp::UNIX_EPOCH;
    STREAM
        .lines()
        .flat_map(|line| match parse_line(line, &EventFilter::everything(), now).unwrap() {
            ParsedLine::Events(events, _) => events,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_query_finds_what_the_stream_brought() {
    // The same change in both forms. A query shows only the current votes, and it is uncertain which of bob's
    // comments came with which message, since he also commented on a file.
    let streamed: Vec<String> = streamed().iter().map(|e| describe(&e.kind)).collect();
    let found: Vec<String> = backfilled(MERGED, 0, 0).iter().map(|r| describe(&r.event.kind)).collect();
    for expected in [
        "created by alice",
        "bob: \"recheck\" []",
        "bob: \"recheck acme\" []",
        "zuul: \"again\" []",
        "bob: \"late recheck\" []",
        "ready by alice",
        "abandoned",
        "restored by alice",
        "merged",
    ] {
        assert!(streamed.iter().any(|s| s == expected), "stream: {expected} in {streamed:#?}");
        assert!(found.iter().any(|f| f == expected), "query: {expected} in {found:#?}");
    }
    let count = |all: &[String]| all.iter().filter(|w| w.contains("\"recheck acme\"")).count();
    assert_eq!((count(&streamed), count(&found)), (2, 2));
}

#[test]
fn a_vote_that_came_with_a_text_stays_with_it() {
    let found = backfilled(OPEN, 0, 0);
    let build =
        found.iter().find(|r| describe(&r.event.kind).starts_with("zuul: \"Build succeeded")).unwrap();
    let RawEventKind::Comment { approvals, .. } = &build.event.kind else { panic!() };
    assert_eq!(approvals, &[Approval::new("Verified", 1)]);
    assert!(!found.iter().any(|r| describe(&r.event.kind).starts_with("zuul votes")));
}

#[test]
fn nothing_older_than_the_horizon_is_found() {
    let all = backfilled(OPEN, 0, 0);
    let middle = all[all.len() / 2].event.at.as_second();
    let later = backfilled(OPEN, middle, 0);
    assert!(later.len() < all.len() && later.iter().all(|r| r.event.at.as_second() >= middle));
}

/// A change with messages of bob, (time, text), and his undated comments on the patch set and on files.
fn row(messages: &[(i64, &str)], whole: &[&str], on_files: usize) -> String {
    let bob = r#""reviewer":{"username":"bob"}"#;
    let messages: Vec<String> =
        messages.iter().map(|(t, text)| format!(r#"{{"timestamp":{t},{bob},"message":{text:?}}}"#)).collect();
    let mut comments: Vec<String> = whole
        .iter()
        .map(|text| format!(r#"{{"file":"/PATCHSET_LEVEL",{bob},"message":{text:?}}}"#))
        .collect();
    comments.extend((0..on_files).map(|_| format!(r#"{{"file":"a.py","line":1,{bob},"message":"why?"}}"#)));
    format!(
        r#"{{"project":"p","branch":"master","number":7,"lastUpdated":500,"status":"NEW","comments":[{}],"patchSets":[{{"number":1,
        "revision":"0123456789abcdef0123456789abcdef01234567","ref":"refs/changes/07/7/1","createdOn":10,"comments":[{}]}}]}}"#,
        messages.join(","),
        comments.join(",")
    )
    .replace('\n', " ")
}

/// (time, text, nth) of the comments.
fn comments(row: &str, horizon: i64, first_start: i64) -> Vec<(i64, String, u32)> {
    backfilled(row, horizon, first_start)
        .into_iter()
        .filter_map(|r| match r.event.kind {
            RawEventKind::Comment { texts, .. } => Some((r.event.at.as_second(), texts.join("\n"), r.nth)),
            _ => None,
        })
        .collect()
}

const ONE: &str = "Patch Set 1:\n\n(1 comment)";
const TWO: &str = "Patch Set 1:\n\n(2 comments)";

#[test]
fn comments_of_the_web_ui_are_assigned_to_their_messages() {
    let row =
        row(&[(100, ONE), (200, TWO), (300, "Patch Set 1:\n\nrecheck")], &["recheck", "recheck", "more"], 0);
    let expected = [
        (100, "recheck".to_owned(), 1),
        (200, "recheck\nmore".to_owned(), 1),
        (300, "recheck".to_owned(), 2),
    ];
    assert_eq!(comments(&row, 0, 0), expected);
}

#[test]
fn a_full_name_that_is_anothers_login_makes_nobody_another() {
    let mut row = row(&[(100, "Patch Set 1:\n\nrecheck"), (200, "Patch Set 1:\n\nagain")], &[], 0);
    let at = row.rfind(r#""username":"bob""#).unwrap();
    row.replace_range(at..at + r#""username""#.len(), r#""name""#);
    let authors: Vec<_> = backfilled(&row, 0, 0)
        .into_iter()
        .filter_map(|r| match r.event.kind {
            RawEventKind::Comment { author, .. } => Some(author.username),
            _ => None,
        })
        .collect();
    assert_eq!(authors, [Some("bob".to_owned()), None]);
}

#[test]
fn an_uncertain_comment_gets_its_latest_time() {
    // Either comment may have been the one on the file.
    let row = row(&[(100, ONE), (200, ONE)], &["recheck"], 1);
    assert_eq!(comments(&row, 0, 0), [(200, "recheck".to_owned(), 1)]);
    // A reply that does not add up loses nothing.
    let row = self::row(&[(100, "Patch Set 1:\n\nhello")], &["recheck"], 0);
    assert_eq!(comments(&row, 0, 0), [(100, "hello".to_owned(), 1), (100, "recheck".to_owned(), 1)]);
}

#[test]
fn comments_before_the_first_start_are_not_counted() {
    let plain = "Patch Set 1:\n\nrecheck";
    let row = row(&[(100, plain), (200, plain), (300, plain)], &[], 0);
    assert_eq!(comments(&row, 300, 200), [(300, "recheck".to_owned(), 2)]);
}

#[test]
fn a_copied_vote_is_not_a_new_one() {
    let row = row(&[], &[], 0).replace(
        r#""createdOn":10,"#,
        r#""createdOn":10,"approvals":[{"type":"Verified","value":"1","grantedOn":5,"by":{"username":"zuul"}},
        {"type":"Verified","value":"1","grantedOn":15,"by":{"username":"zool"}}],"#,
    );
    let votes: Vec<String> =
        backfilled(&row.replace('\n', " "), 0, 0).iter().map(|r| describe(&r.event.kind)).collect();
    assert_eq!(votes.len(), 2, "{votes:?}");
    assert!(votes[1].starts_with("zool votes"), "{votes:?}");
}

#[test]
fn an_invalid_patch_set_is_skipped_and_the_rest_is_kept() {
    let row = row(&[(100, "Patch Set 1:\n\nrecheck")], &[], 0)
        .replace(r#""patchSets":["#, r#""patchSets":[{"number":2,"revision":"$(id)","ref":"x"},"#);
    assert_eq!(comments(&row, 0, 0).len(), 1);
}

const WEB: &str = include_str!("../../tests/payloads/query-3.10-web.jsonl");
const REST: &[u8] = include_bytes!("../../tests/payloads/rest-3.10-comments.json");

/// (second after the first message, author, text) of the comments of the recorded change.
fn on_the_web(times: Option<&[CommentTime]>, horizon: i64) -> Vec<(i64, String, String)> {
    let wire: WireChange<'_> = serde_json::from_str(WEB.lines().next().unwrap()).unwrap();
    let found = backfilled_events(&wire, at(horizon), at(0), times).unwrap();
    let said = |r: BackfilledEvent| match r.event.kind {
        RawEventKind::Comment { author, texts, .. } => {
            Some((r.event.at.as_second() - 1_795_488_431, author.handle().to_owned(), texts.join("\n")))
        }
        _ => None,
    };
    found.into_iter().filter_map(said).collect()
}

#[test]
fn times_from_rest_decide_what_a_query_leaves_open() {
    let times = parse_comments(REST).unwrap();
    let found = on_the_web(Some(&times), 0);
    let words = |at: i64, who: &str, text: &str| (at, who.to_owned(), text.to_owned());
    assert_eq!(
        found,
        [
            words(1, "bob", "recheck"),
            words(2, "bob", "second\nrecheck"),
            words(3, "bob", "recheck"),
            words(4, "zuul", "plain"),
            words(5, "alice", "words"),
        ]
    );
    // reports.md 1: the message is a text too, but the identity is that of the comments: the stream may lack it.
    let wire: WireChange<'_> = serde_json::from_str(WEB.lines().next().unwrap()).unwrap();
    let all = backfilled_events(&wire, at(0), at(0), Some(&times)).unwrap();
    let with_message = |found: &BackfilledEvent| matches!(&found.event.kind, RawEventKind::Comment { message: Some(message), .. } if message == "cover");
    assert_eq!(all.iter().filter(|found| with_message(found)).count(), 1);
    // With the query alone, each of bob's comments may have come with a later message.
    assert_ne!(on_the_web(None, 0), found);
    assert!(on_the_web(None, 0).iter().filter(|(_, _, text)| text == "recheck").count() >= 2);
    // What was written before the horizon is left out, although its message came with others.
    let late = on_the_web(Some(&times), 1_795_488_431 + 3);
    assert_eq!(late[0], words(3, "bob", "recheck"));
}

#[test]
fn an_incomplete_answer_of_rest_changes_nothing() {
    let mut times = parse_comments(REST).unwrap();
    times.retain(|w| w.text.as_deref() != Some("second"));
    let of = |all: Vec<(i64, String, String)>, who: &str| {
        all.into_iter().filter(|(_, author, _)| author == who).collect::<Vec<_>>()
    };
    assert_eq!(of(on_the_web(Some(&times), 0), "bob"), of(on_the_web(None, 0), "bob"));
    assert_eq!(on_the_web(Some(&[]), 0), on_the_web(None, 0));
}
