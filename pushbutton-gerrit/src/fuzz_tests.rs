//! A few thousand hostile inputs in every test run: random bytes, and recorded lines with errors in them.

use proptest::prelude::*;
use serde_json::{Value, json};

const STREAM: &str = include_str!("../tests/payloads/stream-3.10.jsonl");
const QUERY: &str = include_str!("../tests/payloads/query-3.10-web.jsonl");
const REST: &str = include_str!("../tests/payloads/rest-3.10-comments.json");

/// The text with some bytes replaced, inserted, cut off or repeated.
fn damaged(text: String) -> impl Strategy<Value = Vec<u8>> {
    let at = 0..text.len();
    prop::collection::vec((at, any::<u8>(), 0..4_u8), 1..8).prop_map(move |damages| {
        let mut bytes = text.clone().into_bytes();
        for (at, byte, how) in damages {
            let at = at.min(bytes.len().saturating_sub(1));
            match how {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => bytes.insert(at.min(bytes.len()), byte),
                _ => bytes.extend_from_within(at..bytes.len().min(at + 50)),
            }
        }
        bytes
    })
}

/// Values of the wrong type or form.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "Patch Set [0-9]{1,12}:(\n| Verified[+-][0-9]|\n\n\\([0-9]{1,20} comments?\\)){0,3}.{0,20}"
            .prop_map(Value::from),
        "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,12})?".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[[{"a": []}]]])),
        Just(json!({"name": {"name": "x"}})),
    ]
}

/// JSON with some of its values replaced.
fn odd(value: Value) -> impl Strategy<Value = String> {
    let places = count(&value);
    prop::collection::vec((0..places, odd_value()), 1..6).prop_map(move |changes| {
        let mut value = value.clone();
        for (place, other) in changes {
            replace(&mut value, &mut { place }, &other);
        }
        value.to_string()
    })
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0_usize,
    }
}

fn replace(value: &mut Value, place: &mut usize, other: &Value) -> bool {
    if *place == 0 {
        *value = other.clone();
        return true;
    }
    *place -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|inner| replace(inner, place, other)),
        Value::Object(map) => map.values_mut().any(|inner| replace(inner, place, other)),
        _ => false,
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn a_line() -> impl Strategy<Value = String> {
    let lines: Vec<String> = STREAM.lines().map(str::to_owned).collect();
    prop::sample::select(lines)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        super::event_line(&bytes);
        super::comment_text(&bytes);
        super::query_line(&bytes);
        super::rest_reply(&bytes);
    }

    #[test]
    fn a_damaged_event_does_no_harm(bytes in a_line().prop_flat_map(damaged)) {
        super::event_line(&bytes);
    }

    #[test]
    fn an_odd_event_does_no_harm(line in a_line().prop_flat_map(|line| odd(json_of(&line)))) {
        super::event_line(line.as_bytes());
    }

    #[test]
    fn odd_headers_do_no_harm(
        text in "(Patch Set [0-9]{1,11}:?[ \n]{0,2}){0,2}(Verified[+-]?[0-9]? ?|-[a-z-]{1,5} ?){0,3}\n{0,2}(\\([0-9]{0,22} (inline )?comments?\\)\r?\n?){0,2}.{0,20}"
    ) {
        super::comment_text(text.as_bytes());
    }

    #[test]
    fn a_damaged_row_does_no_harm(bytes in damaged(QUERY.lines().next().unwrap_or("").to_owned())) {
        super::query_line(&bytes);
    }

    #[test]
    fn an_odd_row_does_no_harm(line in odd(json_of(QUERY.lines().next().unwrap()))) {
        super::query_line(line.as_bytes());
    }

    #[test]
    fn a_damaged_reply_of_rest_does_no_harm(bytes in damaged(REST.to_owned())) {
        super::rest_reply(&bytes);
    }

    #[test]
    fn an_odd_reply_of_rest_does_no_harm(json in odd(json_of(REST.strip_prefix(")]}'").unwrap()))) {
        super::rest_reply(format!(")]}}'\n{json}").as_bytes());
    }
}

/// Time grows with the size of the input, not with its square: this would take minutes otherwise.
#[test]
fn many_elements_are_read_in_linear_time() {
    let inline: Vec<Value> = (0..9_000)
        .map(|n| json!({"file": "/PATCHSET_LEVEL", "reviewer": {"username": format!("u{n}")}, "message": "recheck"}))
        .collect();
    let messages: Vec<Value> = (0..9_000)
        .map(|n| json!({"timestamp": 2_000 + n, "reviewer": {"username": format!("u{}", n % 4_500)}, "message": "Patch Set 1:\n\n(1 comment)"}))
        .collect();
    let votes: Vec<Value> = (0..9_000)
        .map(|n| json!({"type": "Verified", "value": 1, "grantedOn": 2_000 + n, "by": {"username": format!("u{n}")}}))
        .collect();
    let row = json!({
        "project": "p", "branch": "master", "number": 7, "comments": messages, "hashtags": vec!["x"; 9_000],
        "patchSets": [{"number": 1, "revision": "0".repeat(40), "ref": "refs/changes/07/7/1", "createdOn": 1_000,
            "comments": inline, "approvals": votes}],
    });
    super::query_line(row.to_string().as_bytes());
}

/// Many votes in one line must not become as many events, each with a copy of the change.
#[test]
fn a_line_of_votes_is_not_multiplied() {
    let votes = vec![json!({"type": "V", "value": 1, "oldValue": 0}); 50_000];
    let event = json!({
        "type": "comment-added", "author": {"username": "u"}, "comment": "Patch Set 1: V+1", "approvals": votes,
        "change": {"project": "p", "branch": "master", "number": 7, "topic": "t".repeat(1 << 20)},
        "patchSet": {"number": 1, "revision": "0".repeat(40), "ref": "refs/changes/07/7/1"},
    });
    super::event_line(event.to_string().as_bytes());
}
