//! Reads subunit v2, the format in which tempest and stestr write test results.
//!
//! The published crate `subunit` panics on a packet without room for its checksum, and a stream comes from the machine
//! that ran the patch. This reader takes a test's name, status, time and texts, skips what does not parse, and holds one
//! packet at a time.
//!
//! ```text
//! packet = 0xb3, flags: u16, length: number, [timestamp], [test id], [tags], [MIME type], [file], ..., crc32: u32
//! number = 1 to 4 bytes, the length in the two highest bits
//! ```

use std::io::{self, BufRead};
use std::time::Duration;

const SIGNATURE: u8 = 0xb3;
/// The longest packet (subunit's README, "Version 2").
const MAX_PACKET: usize = 4 << 20;
const VERSION: u16 = 0x2000;
const VERSION_BITS: u16 = 0xf000;
const HAS_TEST_ID: u16 = 0x0800;
const HAS_TIMESTAMP: u16 = 0x0200;
const HAS_TAGS: u16 = 0x0080;
const HAS_FILE: u16 = 0x0040;
const HAS_MIME_TYPE: u16 = 0x0020;
const STATUS_BITS: u16 = 0x0007;

/// What a packet says of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    InProgress,
    Passed,
    Skipped,
    Failed,
}

/// A packet that names a test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) test: &'a str,
    /// None for a packet that brings only a file.
    pub(crate) status: Option<Status>,
    /// When, since 1970.
    pub(crate) at: Option<Duration>,
    /// A piece of a text that belongs to the test: its name, such as `traceback`, and its bytes.
    pub(crate) text: Option<(&'a str, &'a [u8])>,
}

/// How many bytes of broken packets are checked, in all: a stream that is made to look like packets everywhere would
/// take days.
const MAX_BROKEN: usize = 64 << 20;

/// Reads a stream to its end and calls `take` for each packet of a test.
pub(crate) fn read(mut from: impl BufRead, mut take: impl FnMut(Packet<'_>)) -> io::Result<()> {
    let mut window: Vec<u8> = Vec::new();
    let mut broken = 0;
    loop {
        let more = from.fill_buf()?;
        let (length, at_end) = (more.len(), more.is_empty());
        window.extend_from_slice(more);
        from.consume(length);
        let mut used = 0;
        loop {
            // What is no packet, such as text that a test printed, is skipped.
            used += window[used..].iter().position(|byte| *byte == SIGNATURE).unwrap_or(window.len() - used);
            let Some(wanted) = wanted(&window[used..]) else { break };
            used += match window.get(used..used + wanted) {
                None if at_end => 1,
                None => break,
                Some(packet) => match decode(packet) {
                    Decoded::Test(packet) => {
                        take(packet);
                        wanted
                    }
                    Decoded::Nothing => wanted,
                    Decoded::Broken if broken + wanted > MAX_BROKEN => {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many broken packets"));
                    }
                    // The next packet may begin at the byte after a broken one's first.
                    Decoded::Broken => {
                        broken += wanted;
                        1
                    }
                },
            };
        }
        window.drain(..used);
        if at_end {
            return Ok(());
        }
    }
}

/// How many bytes are needed for the next step; none when the window is empty. What is no packet needs 1, to be
/// skipped.
fn wanted(window: &[u8]) -> Option<usize> {
    window.first()?;
    let Some((flags, rest)) = window.get(1..).and_then(be16) else { return Some(3) };
    if flags & VERSION_BITS != VERSION {
        return Some(1);
    }
    match number(rest) {
        Err(needed) => Some(3 + needed),
        Ok((length, _)) if length > MAX_PACKET => Some(1),
        Ok((length, after)) => Some(length.max(window.len() - after.len())),
    }
}

enum Decoded<'a> {
    Test(Packet<'a>),
    Nothing,
    Broken,
}

fn decode(packet: &[u8]) -> Decoded<'_> {
    let Some((body, sum)) = packet.split_last_chunk::<4>() else { return Decoded::Broken };
    if crc32fast::hash(body) != u32::from_be_bytes(*sum) {
        return Decoded::Broken;
    }
    let Some((flags, rest)) = body.get(1..).and_then(be16) else { return Decoded::Broken };
    let status = match flags & STATUS_BITS {
        2 => Some(Status::InProgress),
        3 | 7 => Some(Status::Passed),
        4 | 6 => Some(Status::Failed),
        5 => Some(Status::Skipped),
        _ if flags & HAS_FILE == 0 => return Decoded::Nothing,
        _ => None,
    };
    if flags & HAS_TEST_ID == 0 {
        return Decoded::Nothing;
    }
    // After the flags: the length; the time; the test id.
    let Ok((_, rest)) = number(rest) else { return Decoded::Broken };
    let timed = if flags & HAS_TIMESTAMP == 0 { Some((None, rest)) } else { time(rest) };
    let Some((at, (id, rest))) = timed.and_then(|(at, rest)| Some((at, text(rest)?))) else {
        return Decoded::Broken;
    };
    match std::str::from_utf8(id) {
        // A file that cannot be read loses its text, not the test.
        Ok(test) => Decoded::Test(Packet { test, status, at, text: file(flags, rest) }),
        Err(_) => Decoded::Broken,
    }
}

/// Whole seconds in 4 bytes and nanoseconds as a number.
fn time(bytes: &[u8]) -> Option<(Option<Duration>, &[u8])> {
    let (seconds, rest) = bytes.split_first_chunk()?;
    let (nanoseconds, rest) = number(rest).ok()?;
    let nanoseconds = u32::try_from(nanoseconds).ok().filter(|nanoseconds| *nanoseconds < 1_000_000_000);
    let at = nanoseconds.map(|nanoseconds| Duration::new(u32::from_be_bytes(*seconds).into(), nanoseconds));
    Some((at, rest))
}

/// The file after the test id, where it is a text.
fn file(flags: u16, mut rest: &[u8]) -> Option<(&str, &[u8])> {
    if flags & HAS_FILE == 0 {
        return None;
    }
    if flags & HAS_TAGS != 0 {
        let (tags, after) = number(rest).ok()?;
        rest = after;
        for _ in 0..tags {
            rest = text(rest)?.1;
        }
    }
    if flags & HAS_MIME_TYPE != 0 {
        let (kind, after) = text(rest)?;
        if !kind.starts_with(b"text/") {
            return None;
        }
        rest = after;
    }
    let (name, rest) = text(rest)?;
    let (content, _) = text(rest)?;
    Some((std::str::from_utf8(name).ok()?, content))
}

/// Bytes after their length, and what follows them.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(bytes).ok()?;
    rest.split_at_checked(length)
}

fn be16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes.split_first_chunk().map(|(first, rest)| (u16::from_be_bytes(*first), rest))
}

/// A number and what follows it, or how many bytes it needs.
fn number(bytes: &[u8]) -> Result<(usize, &[u8]), usize> {
    let first = *bytes.first().ok_or(1usize)?;
    let length = usize::from(first >> 6) + 1;
    let (digits, rest) = bytes.split_at_checked(length).ok_or(length)?;
    let value =
        digits[1..].iter().fold(usize::from(first & 0x3f), |value, byte| value << 8 | usize::from(*byte));
    Ok((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::subunit::types::{event::Event, teststatus::TestStatus};
    use proptest::prelude::*;

    fn packet(id: &str, status: TestStatus) -> Vec<u8> {
        let event = Event::new(status).test_id(id).tag("worker-0").mime_type("text/plain");
        event.file_content("stdout", &[SIGNATURE; 300]).build().to_vec().unwrap()
    }

    fn tests_in(stream: &[u8]) -> Vec<(String, Status)> {
        let mut found = Vec::new();
        // Small pieces: packets lie across them.
        read(io::BufReader::with_capacity(7, stream), |packet| {
            found.extend(packet.status.map(|status| (packet.test.to_owned(), status)));
        })
        .unwrap();
        found
    }

    #[test]
    fn packets_of_another_writer_are_read() {
        use TestStatus::*;
        let all = [InProgress, Success, ExpectedFailure, UnexpectedSuccess, Failed, Skipped, Enumeration];
        let stream: Vec<u8> =
            all.into_iter().flat_map(|status| packet("tempest.api.test_x[id-1]", status)).collect();
        let statuses: Vec<_> = tests_in(&stream).into_iter().map(|(_, status)| status).collect();
        use Status as S;
        assert_eq!(statuses, [S::InProgress, S::Passed, S::Passed, S::Failed, S::Failed, S::Skipped]);
    }

    #[test]
    fn a_packet_with_a_time_is_read() {
        // Written by python-subunit 1.4.6: test id "t", success, at 2026-11-23T12:00:00.123456Z.
        let packet = b"\xb3\x2b\x03\x12\x6b\x04\x2a\xc0\xc7\x5b\xca\x00\x01t\x94\x21\xb9\xa8";
        assert_eq!(tests_in(packet), [("t".to_owned(), Status::Passed)]);
        let mut times = Vec::new();
        read(packet.as_slice(), |packet| times.extend(packet.at)).unwrap();
        assert_eq!(times, [Duration::new(1_795_435_200, 123_456_000)]);
    }

    #[test]
    fn texts_are_read_and_other_files_are_not() {
        let event = |name: &str, kind: &str, content: &[u8]| {
            let event = Event::new(TestStatus::Undefined).test_id("t").tag("worker-0").mime_type(kind);
            event.file_content(name, content).build().to_vec().unwrap()
        };
        let stream = [
            event("traceback", "text/x-traceback;charset=utf8", b"Traceback:\n"),
            event("screenshot", "image/png", b"\x89PNG"),
            event("traceback", "text/x-traceback;charset=utf8", b"  boom\n"),
        ]
        .concat();
        let mut texts = Vec::new();
        read(stream.as_slice(), |packet| {
            assert_eq!((packet.test, packet.status), ("t", None));
            texts.extend(packet.text.map(|(name, text)| (name.to_owned(), text.to_owned())));
        })
        .unwrap();
        assert_eq!(
            texts,
            [("traceback".into(), b"Traceback:\n".to_vec()), ("traceback".into(), b"  boom\n".to_vec())]
        );
    }

    #[test]
    fn after_a_broken_packet_the_next_one_is_read() {
        let (one, two) = (packet("one", TestStatus::Success), packet("two", TestStatus::Failed));
        let mut broken = packet("broken", TestStatus::Failed);
        broken[20] ^= 1;
        let stream = [b"text \xb3\xb3\n".as_slice(), &one, &broken, &two[..40], &two, &one[..10]].concat();
        let names: Vec<_> = tests_in(&stream).into_iter().map(|(id, _)| id).collect();
        assert_eq!(names, ["one", "two"]);
    }

    #[test]
    fn a_packet_without_room_for_its_checksum_is_skipped() {
        assert_eq!(tests_in(&[SIGNATURE, 0x20, 0x03, 4]), []);
        assert_eq!(tests_in(&[SIGNATURE, 0x28, 0x03, 0, 1, 2, 3, 4, 5]), []);
    }

    #[test]
    fn a_stream_of_broken_packets_is_an_error() {
        // Each sixth byte begins a packet of 4 MiB, whose checksum is wrong.
        let stream = [SIGNATURE, 0x20, 0x03, 0xbf, 0xff, 0xff].repeat(1 << 20);
        assert_eq!(read(stream.as_slice(), |_| {}).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn packets_are_found_between_other_bytes(noise in prop::collection::vec(0u8..0xb3, 0..100), id in "[a-z.]{1,40}") {
            let stream = [noise.as_slice(), &packet(&id, TestStatus::Success), &noise, &packet(&id, TestStatus::Failed)].concat();
            prop_assert_eq!(tests_in(&stream), vec![(id.clone(), Status::Passed), (id, Status::Failed)]);
        }
    }
}
