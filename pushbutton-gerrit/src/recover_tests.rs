use pushbutton_core::Approval;

use super::*;
use crate::interest::Interest;
use crate::parse::{Parsed, parse_line};

const OPEN: &str = include_str!("../tests/payloads/query-3.10-open.jsonl");
const MERGED: &str = include_str!("../tests/payloads/query-3.10-merged.jsonl");
const STREAM: &str = include_str!("../tests/payloads/stream-3.10.jsonl");

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn recovered(row: &str, horizon: i64, first_start: i64) -> Vec<Recovered> {
    let wire: WireChange<'_> = serde_json::from_str(row.lines().next().unwrap()).unwrap();
    happenings(&wire, at(horizon), at(first_start), None).unwrap()
}

/// What happened, without its time, in words that can be compared.
fn words(what: &What) -> String {
    match what {
        What::Created { uploader } => format!("created by {uploader}"),
        What::Comment { author, text, approvals } => format!("{author}: {text:?} {approvals:?}"),
        What::Vote { voter, vote } => format!("{voter} votes {vote:?}"),
        What::Merged => "merged".into(),
        What::Abandoned => "abandoned".into(),
        What::Restored { restorer } => format!("restored by {restorer}"),
    }
}

fn streamed() -> Vec<Happening> {
    let now = Timestamp::UNIX_EPOCH;
    STREAM
        .lines()
        .flat_map(|line| match parse_line(line.as_bytes(), &Interest::everything(), now).unwrap() {
            Parsed::Happenings(happenings, _) => happenings,
            Parsed::Dropped => panic!("dropped"),
        })
        .collect()
}

#[test]
fn a_query_tells_what_the_stream_told() {
    // The same server and change, told in both ways. A query shows only the votes that stand now, and cannot tell for sure which of
    // bob's words came with which message, since he also commented on a file.
    let streamed: Vec<String> = streamed().iter().map(|h| words(&h.what)).collect();
    let found: Vec<String> = recovered(MERGED, 0, 0).iter().map(|r| words(&r.happening.what)).collect();
    for told in [
        "created by alice",
        "bob: \"recheck\" []",
        "bob: \"recheck acme\" []",
        "zuul: \"again\" []",
        "bob: \"late recheck\" []",
        "abandoned",
        "restored by alice",
        "merged",
    ] {
        assert!(streamed.iter().any(|s| s == told), "stream: {told} in {streamed:#?}");
        assert!(found.iter().any(|f| f == told), "query: {told} in {found:#?}");
    }
    let count = |all: &[String]| all.iter().filter(|w| w.contains("\"recheck acme\"")).count();
    assert_eq!((count(&streamed), count(&found)), (2, 2));
}

#[test]
fn a_vote_that_came_with_a_text_stays_with_it() {
    let found = recovered(OPEN, 0, 0);
    let build =
        found.iter().find(|r| words(&r.happening.what).starts_with("zuul: \"Build succeeded")).unwrap();
    let What::Comment { approvals, .. } = &build.happening.what else { panic!() };
    assert_eq!(approvals, &[Approval { label: "Verified".into(), value: 1 }]);
    assert!(!found.iter().any(|r| words(&r.happening.what).starts_with("zuul votes")));
}

#[test]
fn nothing_older_than_the_horizon_comes() {
    let all = recovered(OPEN, 0, 0);
    let middle = all[all.len() / 2].happening.at.as_second();
    let later = recovered(OPEN, middle, 0);
    assert!(later.len() < all.len() && later.iter().all(|r| r.happening.at.as_second() >= middle));
}

/// A change on which bob said these things: (time, message), and these words on the patch set and on files, without times.
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
    recovered(row, horizon, first_start)
        .into_iter()
        .filter_map(|r| match r.happening.what {
            What::Comment { text, .. } => Some((r.happening.at.as_second(), text, r.nth)),
            _ => None,
        })
        .collect()
}

const ONE: &str = "Patch Set 1:\n\n(1 comment)";
const TWO: &str = "Patch Set 1:\n\n(2 comments)";

#[test]
fn words_from_the_web_are_given_to_their_messages() {
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
fn in_doubt_the_later_time_is_taken() {
    // Either comment may have been the one on the file.
    let row = row(&[(100, ONE), (200, ONE)], &["recheck"], 1);
    assert_eq!(comments(&row, 0, 0), [(200, "recheck".to_owned(), 1)]);
    // A reply that does not add up loses nothing.
    let row = self::row(&[(100, "Patch Set 1:\n\nhello")], &["recheck"], 0);
    assert_eq!(comments(&row, 0, 0), [(100, "hello".to_owned(), 1), (100, "recheck".to_owned(), 1)]);
}

#[test]
fn comments_from_before_our_first_start_are_not_counted() {
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
        recovered(&row.replace('\n', " "), 0, 0).iter().map(|r| words(&r.happening.what)).collect();
    assert_eq!(votes.len(), 2, "{votes:?}");
    assert!(votes[1].starts_with("zool votes"), "{votes:?}");
}

#[test]
fn a_hostile_patch_set_is_passed_by_and_the_rest_is_kept() {
    let row = row(&[(100, "Patch Set 1:\n\nrecheck")], &[], 0)
        .replace(r#""patchSets":["#, r#""patchSets":[{"number":2,"revision":"$(id)","ref":"x"},"#);
    assert_eq!(comments(&row, 0, 0).len(), 1);
}

const WEB: &str = include_str!("../tests/payloads/query-3.10-web.jsonl");
const REST: &[u8] = include_bytes!("../tests/payloads/rest-3.10-comments.json");

/// (second after the first message, author, text) of the comments of the recorded change.
fn on_the_web(written: Option<&[Written]>, horizon: i64) -> Vec<(i64, String, String)> {
    let wire: WireChange<'_> = serde_json::from_str(WEB.lines().next().unwrap()).unwrap();
    let found = happenings(&wire, at(horizon), at(0), written).unwrap();
    let said = |r: Recovered| match r.happening.what {
        What::Comment { author, text, .. } => {
            Some((r.happening.at.as_second() - 1_795_488_431, author.handle().to_owned(), text))
        }
        _ => None,
    };
    found.into_iter().filter_map(said).collect()
}

#[test]
fn times_from_rest_make_certain_what_a_query_leaves_open() {
    let written = crate::web_reply::written(REST).unwrap();
    let told = on_the_web(Some(&written), 0);
    let words = |at: i64, who: &str, text: &str| (at, who.to_owned(), text.to_owned());
    assert_eq!(
        told,
        [
            words(1, "bob", "recheck"),
            words(2, "bob", "second\nrecheck"),
            words(3, "bob", "recheck"),
            words(4, "zuul", "plain"),
            words(5, "alice", "words"),
        ]
    );
    // With the query alone, each of bob's words may have come with a later message.
    assert_ne!(on_the_web(None, 0), told);
    assert!(on_the_web(None, 0).iter().filter(|(_, _, text)| text == "recheck").count() >= 2);
    // What was written before the horizon stays out, although its message came with others.
    let late = on_the_web(Some(&written), 1_795_488_431 + 3);
    assert_eq!(late[0], words(3, "bob", "recheck"));
}

#[test]
fn a_rest_that_sees_less_changes_nothing() {
    let mut written = crate::web_reply::written(REST).unwrap();
    written.retain(|w| w.text.as_deref() != Some("second"));
    let of = |all: Vec<(i64, String, String)>, who: &str| {
        all.into_iter().filter(|(_, author, _)| author == who).collect::<Vec<_>>()
    };
    assert_eq!(of(on_the_web(Some(&written), 0), "bob"), of(on_the_web(None, 0), "bob"));
    assert_eq!(on_the_web(Some(&[]), 0), on_the_web(None, 0));
}
