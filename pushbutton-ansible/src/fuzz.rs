//! Entry points for fuzzing: parsers of bytes that the tested machine can influence. Each function takes any bytes.

use crate::playbook_events::parse;
use crate::subunit;

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

/// A stream of test results.
pub fn subunit_stream(bytes: &[u8]) {
    read_whole_and_in_chunks(bytes);
    read_whole_and_in_chunks(&packet_with(bytes));
}

/// A packet with the right length and checksum, which a fuzzer does not find by itself.
fn packet_with(body: &[u8]) -> Vec<u8> {
    let (flags, rest) = body.split_at(body.len().min(2));
    let flags = flags.iter().fold(0, |flags, byte| flags << 8 | u16::from(*byte));
    let mut packet = vec![0xb3];
    packet.extend((0x2000 | flags & 0x0fff).to_be_bytes());
    let length = packet.len() + 3 + rest.len() + 4;
    packet.extend([0x80 | (length >> 16) as u8 & 0x3f, (length >> 8) as u8, length as u8]);
    packet.extend(rest);
    packet.extend(crc32fast::hash(&packet).to_be_bytes());
    packet
}

fn read_whole_and_in_chunks(bytes: &[u8]) {
    let mut tests = 0;
    let whole = subunit::read(bytes, |name, _| {
        assert!(name.len() <= bytes.len());
        tests += 1;
    });
    // The smallest packet that names a test: signature, flags, length, an empty name, checksum.
    assert!(tests <= bytes.len() / 9);
    let mut again = 0;
    let in_chunks = subunit::read(std::io::BufReader::with_capacity(7, bytes), |_, _| again += 1);
    assert_eq!((whole.is_ok(), tests), (in_chunks.is_ok(), again));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            playbook_events(&bytes);
            subunit_stream(&bytes);
        }

        #[test]
        fn any_lines_are_read_to_their_end(lines in prop::collection::vec(line(), 0..40)) {
            playbook_events(lines.join("\n").as_bytes());
        }

        #[test]
        fn any_packets_are_read_to_their_end(packets in prop::collection::vec(packet(), 0..20)) {
            subunit_stream(&packets.concat());
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

    /// Headers whose length does not fit what follows.
    fn packet() -> impl Strategy<Value = Vec<u8>> {
        (any::<u16>(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(flags, rest)| {
            let mut packet = vec![0xb3, 0x20 | (flags >> 8) as u8 & 0x0f, flags as u8];
            packet.extend(rest);
            packet
        })
    }
}
