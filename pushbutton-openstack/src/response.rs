//! Reads replies, with a limit of their size, and finds the message in a refusal.

use reqwest::Response;
use serde_json::Value;

/// The largest reply that is read. A page of a thousand servers with all their details is some 3 MiB.
const MAX_REPLY: usize = 16 * 1024 * 1024;

/// Reads a reply's body up to the limit. A longer body is cut, and then cannot be parsed.
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

/// The message of a refusal, on one line. Each service wraps it in its own way: `{"badRequest": {"message": ..}}`,
/// `{"NeutronError": {..}}`, `{"error": {..}}`, `{"message": ..}`; a proxy sends HTML.
pub(crate) fn message_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let found = serde_json::from_str::<Value>(&text).ok().and_then(|value| message_in(&value));
    let found = found.unwrap_or_else(|| without_tags(&text));
    found.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn message_in(value: &Value) -> Option<String> {
    let of_object = |value: &Value| {
        let keys = ["message", "faultstring", "title"];
        keys.iter().find_map(|key| value.get(key).and_then(Value::as_str)).map(str::to_owned)
    };
    of_object(value).or_else(|| value.as_object()?.values().find_map(of_object))
}

/// The text of an HTML page.
fn without_tags(html: &str) -> String {
    let mut in_tag = false;
    let text = html.chars().take(4096).filter_map(|c| match c {
        '<' => {
            in_tag = true;
            Some(' ')
        }
        '>' if in_tag => {
            in_tag = false;
            None
        }
        c => (!in_tag).then_some(c),
    });
    text.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_found_in_each_services_refusal() {
        for (body, message) in [
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
            assert_eq!(message_of(body.as_bytes()), message);
        }
    }
}
