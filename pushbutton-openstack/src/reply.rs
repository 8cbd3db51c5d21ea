//! Reading replies: bounded, and for their words when they are refusals.

use reqwest::Response;
use serde_json::Value;

/// The largest reply that is read. A page of a thousand servers with all their details is some 3 MiB.
const MAX_REPLY: usize = 16 * 1024 * 1024;

/// Reads a reply's body, as far as the limit: what is longer is no reply of an OpenStack service, and will not parse.
pub(crate) async fn read_bounded(reply: &mut Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = reply.chunk().await? {
        let room = MAX_REPLY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == MAX_REPLY {
            break;
        }
    }
    Ok(body)
}

/// The words of a refusal. Each service wraps them its own way: `{"badRequest": {"message": ..}}`, `{"NeutronError": {..}}`,
/// `{"error": {..}}`, `{"message": ..}`, or a proxy's HTML.
pub(crate) fn words_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let found = serde_json::from_str::<Value>(&text).ok().and_then(|value| message_in(&value));
    one_line(&found.unwrap_or_else(|| without_tags(&text)))
}

fn message_in(value: &Value) -> Option<String> {
    let own = |value: &Value| {
        let keys = ["message", "faultstring", "title"];
        keys.iter().find_map(|key| value.get(key).and_then(Value::as_str)).map(str::to_owned)
    };
    own(value).or_else(|| value.as_object()?.values().find_map(own))
}

/// What a browser would show of a page.
fn without_tags(text: &str) -> String {
    let mut inside = false;
    let shown = text.chars().take(4096).filter_map(|c| match c {
        '<' => {
            inside = true;
            Some(' ')
        }
        '>' if inside => {
            inside = false;
            None
        }
        c => (!inside).then_some(c),
    });
    shown.collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_services_way_of_saying_no() {
        for (body, words) in [
            (r#"{"badRequest": {"code": 400, "message": "Invalid\nkey."}}"#, "Invalid key."),
            (
                r#"{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded", "detail": ""}}"#,
                "Quota exceeded",
            ),
            (r#"{"message": "plain", "code": "404 Not Found"}"#, "plain"),
            (
                "<html><head></head><body><h1>503 Service Unavailable</h1>\nNo server</body></html>",
                "503 Service Unavailable No server",
            ),
            ("", ""),
            ("\u{fffd}{", "\u{fffd}{"),
        ] {
            assert_eq!(words_of(body.as_bytes()), words);
        }
    }
}
