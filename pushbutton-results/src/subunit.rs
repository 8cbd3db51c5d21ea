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

use std::io::BufRead;
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
    /// It began, and the file that would say how it ended is incomplete. No packet says this.
    Lost,
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

/// How reading a file of results ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It holds no results: it is another kind of file.
    NoResults,
    /// All of it was read.
    Whole,
    /// It holds results, and some of them may be lost. Why.
    Incomplete(String),
}

/// Reads a stream to its end and calls `take` for each packet of a test.
///
/// A packet that begins where one may and that is broken or cut makes the stream incomplete, once there was a whole packet
/// or when the file begins with it: what is not there may be a failure.
pub(crate) fn read(mut from: impl BufRead, mut take: impl FnMut(Packet<'_>)) -> Ending {
    let mut window: Vec<u8> = Vec::new();
    let mut broken = 0;
    let (mut is_start, mut has_begun, mut damage) = (true, false, None);
    // Between packets there may be text. In UTF-8 the signature is a part of some characters, never their first byte: after
    // one that is not ASCII, nobody can tell.
    let mut may_begin = true;
    loop {
        let more = match from.fill_buf() {
            Ok(more) => more,
            Err(error) => return Ending::Incomplete(error.to_string()),
        };
        let (length, at_end) = (more.len(), more.is_empty());
        window.extend_from_slice(more);
        from.consume(length);
        let mut used = 0;
        loop {
            // What is no packet, such as text that a test printed, is skipped.
            let rest = &window[used..];
            let skipped = rest.iter().position(|byte| *byte == SIGNATURE).unwrap_or(rest.len());
            let rest = &rest[skipped..];
            used += skipped;
            if skipped > 0 {
                (is_start, may_begin) = (false, window[used - 1].is_ascii());
            }
            let Some(wanted) = wanted(rest) else { break };
            let packet = rest.get(..wanted);
            match packet.map_or(Decoded::Broken, decode) {
                _ if packet.is_none() && !at_end => break,
                Decoded::Broken => {
                    if may_begin && has_version(rest) {
                        has_begun |= is_start;
                        damage = damage.or(Some(match packet {
                            Some(_) => "a packet of it is broken",
                            None => "it ends in the middle of a packet",
                        }));
                    }
                    broken += packet.map_or(0, <[u8]>::len);
                    if broken > MAX_BROKEN {
                        return Ending::Incomplete("it has too many broken packets".to_owned());
                    }
                    // The next packet may begin at the byte after a broken one's first.
                    (used, may_begin) = (used + 1, false);
                }
                decoded => {
                    if let Decoded::Test(packet) = decoded {
                        take(packet);
                    }
                    has_begun = true;
                    (used, may_begin) = (used + wanted, true);
                }
            }
            is_start = false;
        }
        window.drain(..used);
        if at_end {
            return match damage.filter(|_| has_begun) {
                Some(damage) => Ending::Incomplete(damage.to_owned()),
                None if has_begun => Ending::Whole,
                None => Ending::NoResults,
            };
        }
    }
}

/// Whether the flags after the signature are those of a packet, as far as they are there.
fn has_version(window: &[u8]) -> bool {
    window.get(1).is_none_or(|flags| u16::from(*flags) << 8 & VERSION_BITS == VERSION)
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
    use std::io;

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
        });
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
        assert_eq!(read(packet.as_slice(), |packet| times.extend(packet.at)), Ending::Whole);
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
        let ending = read(stream.as_slice(), |packet| {
            assert_eq!((packet.test, packet.status), ("t", None));
            texts.extend(packet.text.map(|(name, text)| (name.to_owned(), text.to_owned())));
        });
        assert_eq!(ending, Ending::Whole);
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
        let ending = read(stream.as_slice(), |_| {});
        assert_eq!(ending, Ending::Incomplete("it has too many broken packets".to_owned()));
    }

    #[test]
    fn a_stream_with_a_broken_packet_is_incomplete() {
        let (one, two) = (packet("one", TestStatus::Success), packet("two", TestStatus::Failed));
        let ending = |stream: &[&[u8]]| read(stream.concat().as_slice(), |_| {});
        let broken = Ending::Incomplete("a packet of it is broken".to_owned());
        for changed in [1, 20, one.len() - 1] {
            let mut bad = one.clone();
            bad[changed] ^= 1;
            assert_eq!(ending(&[&bad, &two]), broken, "{changed}");
            assert_eq!(ending(&[&two, b"text\n", &bad, &two]), broken, "{changed}");
        }
        let too_long = [SIGNATURE, 0x2b, 0x03, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(ending(&[&one, &too_long, &two]), broken);
    }

    #[test]
    fn text_between_packets_is_no_broken_packet() {
        let one = packet("one", TestStatus::Success);
        // Bytes of characters that begin like a packet.
        for text in ["acci\u{f3} de", "\u{f3} ", "\u{f3}", "\u{cf3} #\n", "no packet\n", ""] {
            assert_eq!(read([text.as_bytes(), &one].concat().as_slice(), |_| {}), Ending::Whole, "{text}");
            assert_eq!(read([&one, text.as_bytes()].concat().as_slice(), |_| {}), Ending::Whole, "{text}");
            assert_eq!(read(text.as_bytes(), |_| {}), Ending::NoResults, "{text}");
        }
        assert_eq!(read([0, SIGNATURE, 0x2b, 3].as_slice(), |_| {}), Ending::NoResults);
    }

    proptest! {
        #[test]
        fn a_stream_that_is_cut_in_a_packet_is_incomplete(tests in 1usize..4, noise in "([ -~é\u{f3}]{0,20}\n)?", at in any::<prop::sample::Index>()) {
            let (mut stream, mut between) = (Vec::new(), Vec::new());
            for _ in 0..tests {
                stream.extend(packet("t", TestStatus::Success));
                between.push(stream.len()..=stream.len() + noise.len());
                stream.extend(noise.as_bytes());
            }
            let cut = 1 + at.index(stream.len());
            let expected = match between.iter().any(|places| places.contains(&cut)) {
                true => Ending::Whole,
                false => Ending::Incomplete("it ends in the middle of a packet".to_owned()),
            };
            prop_assert_eq!(read(&stream[..cut], |_| {}), expected);
        }

        #[test]
        fn packets_are_found_between_other_bytes(noise in prop::collection::vec(0u8..0xb3, 0..100), id in "[a-z.]{1,40}") {
            let stream = [noise.as_slice(), &packet(&id, TestStatus::Success), &noise, &packet(&id, TestStatus::Failed)].concat();
            prop_assert_eq!(tests_in(&stream), vec![(id.clone(), Status::Passed), (id, Status::Failed)]);
        }
    }
}
