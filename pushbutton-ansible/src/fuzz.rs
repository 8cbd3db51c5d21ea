//! Entry points for fuzzing: parsers of bytes that the tested machine can influence. Each function takes any bytes.

use crate::playbook_events::parse;

/// The events that the callback plugin writes.
pub fn playbook_events(bytes: &[u8]) {
    let events = parse(bytes, &Default::default());
    // The URL is posted on a review.
    let is_plain = |url: &String| url.starts_with("http") && url.bytes().all(|byte| byte.is_ascii_graphic());
    assert!(events.log_url.as_ref().is_none_or(is_plain));
    // Each result is on a line of its own.
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    assert!(events.results <= lines);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            playbook_events(&bytes);
        }

        #[test]
        fn any_lines_are_read_to_their_end(lines in prop::collection::vec(line(), 0..40)) {
            playbook_events(lines.join("\n").as_bytes());
        }
    }

    /// Events, many of them malformed.
    fn line() -> impl Strategy<Value = String> {
        let event = prop::sample::select(vec!["play", "no-hosts", "task", "result", "log-url", "stats", ""]);
        let value = prop_oneof![
            Just("null".to_owned()),
            Just("7".to_owned()),
            Just("true".to_owned()),
            Just("[{}]".to_owned()),
            Just("\"failed\"".to_owned()),
            Just("\"unreachable\"".to_owned()),
            "\"https?://[ -~]{0,30}\"",
            "\"[^\"\\\\\n]{0,20}\"",
        ];
        let key =
            prop::sample::select(vec!["status", "host", "task", "name", "url", "rc", "msg", "ignored", "x"]);
        let fields = prop::collection::vec((key, value), 0..6);
        (event, fields, any::<bool>()).prop_map(|(event, fields, whole)| {
            let fields: String =
                fields.into_iter().map(|(key, value)| format!(",\"{key}\":{value}")).collect();
            format!("{{\"event\":\"{event}\"{fields}{}", if whole { "}" } else { "" })
        })
    }
}
