//! Entry points for fuzzing: parsers of bytes that the tested machine can influence. Each function takes any bytes.

use crate::{junit, subunit};

/// A stream of test results.
pub fn subunit_stream(bytes: &[u8]) {
    read_whole_and_in_chunks(bytes);
    read_whole_and_in_chunks(&packet_with(bytes));
}

/// A report of test results.
pub fn junit_report(bytes: &[u8]) {
    let mut cases = 0;
    let whole = junit::read(bytes, |case| {
        assert!(case.text.len() <= junit::MAX_TEXT);
        cases += 1;
    });
    // The smallest case is `<testcase/>`.
    assert!(cases <= bytes.len() / 11);
    let mut again = 0;
    let in_chunks = junit::read(std::io::BufReader::with_capacity(7, bytes), |_| again += 1);
    assert_eq!((whole, cases), (in_chunks, again));
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
    let whole = subunit::read(bytes, |packet| {
        let text = packet.text.map_or(0, |(name, text)| name.len() + text.len());
        assert!(packet.test.len() + text <= bytes.len());
        tests += 1;
    });
    // The smallest packet that names a test: signature, flags, length, an empty name, checksum.
    assert!(tests <= bytes.len() / 9);
    let mut again = 0;
    let in_chunks = subunit::read(std::io::BufReader::with_capacity(7, bytes), |_| again += 1);
    assert_eq!((whole, tests), (in_chunks, again));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            subunit_stream(&bytes);
            junit_report(&bytes);
        }

        #[test]
        fn any_packets_are_read_to_their_end(packets in prop::collection::vec(packet(), 0..20)) {
            subunit_stream(&packets.concat());
        }

        #[test]
        fn any_pieces_of_a_report_are_read_to_their_end(pieces in prop::collection::vec(piece(), 0..40)) {
            junit_report(pieces.concat().as_bytes());
        }
    }

    /// Headers whose length does not fit what follows.
    fn packet() -> impl Strategy<Value = Vec<u8>> {
        (any::<u16>(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(flags, rest)| {
            let mut packet = vec![0xb3, 0x20 | (flags >> 8) as u8 & 0x0f, flags as u8];
            packet.extend(rest);
            packet
        })
    }

    /// Parts of reports, in any order.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("<testsuites>".to_owned()),
            Just("<testsuite name='s'>".to_owned()),
            Just("<testcase classname='c' name='n' time='1'>".to_owned()),
            Just("<testcase name='n&lt;&x;&#1114112;'/>".to_owned()),
            Just("<failure message='m'>".to_owned()),
            Just("<skipped/>".to_owned()),
            Just("<![CDATA[ ]]>".to_owned()),
            Just("&amp;&#0;&x;".to_owned()),
            Just("</failure></testcase>".to_owned()),
            Just("</testsuite></testsuites>".to_owned()),
            "[ -~]{0,20}",
        ]
    }
}
