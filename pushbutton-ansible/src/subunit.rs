//! Reads subunit v2, the stream that tempest and stestr write their results as.
//!
//! The published crate panics on a packet without room for its checksum, and a stream comes from the machine that ran the patch. This reader
//! takes what counting needs, a status and a test's name, passes over what it cannot read, and holds one packet at a time.
//!
//! ```text
//! packet = 0xb3, flags: u16, length: number, [timestamp], [test id], ..., crc32: u32
//! number = 1 to 4 bytes, the length in the two highest bits
//! ```

use std::io::{self, BufRead};

const SIGNATURE: u8 = 0xb3;
/// The longest packet (subunit's README, "Version 2").
const MAX_PACKET: usize = 4 << 20;
const VERSION: u16 = 0x2000;
const VERSION_BITS: u16 = 0xf000;
const HAS_TEST_ID: u16 = 0x0800;
const HAS_TIMESTAMP: u16 = 0x0200;
const STATUS_BITS: u16 = 0x0007;

/// What a packet says of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    InProgress,
    Passed,
    Skipped,
    Failed,
}

/// So many bytes may be checked in vain, as false or torn packets: a stream that is made to look like packets everywhere would take days.
const MAX_VAIN: usize = 64 << 20;

/// Reads a stream to its end and hands out each status of a test.
pub(crate) fn read(mut from: impl BufRead, mut test: impl FnMut(&str, Status)) -> io::Result<()> {
    let mut window: Vec<u8> = Vec::new();
    let mut vain = 0;
    loop {
        let more = from.fill_buf()?;
        let (length, at_end) = (more.len(), more.is_empty());
        window.extend_from_slice(more);
        from.consume(length);
        let mut used = 0;
        loop {
            // What is no packet, as text that a test printed, is passed over.
            used += window[used..].iter().position(|byte| *byte == SIGNATURE).unwrap_or(window.len() - used);
            let Some(wanted) = wanted(&window[used..]) else { break };
            used += match window.get(used..used + wanted) {
                None if at_end => 1,
                None => break,
                Some(packet) => match decode(packet) {
                    Decoded::Test(id, status) => {
                        test(id, status);
                        wanted
                    }
                    Decoded::Nothing => wanted,
                    Decoded::Broken if vain + wanted > MAX_VAIN => {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "more noise than packets"));
                    }
                    // The next packet may begin right behind the false or torn one's first byte.
                    Decoded::Broken => {
                        vain += wanted;
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

/// How many bytes must be there to go on; none when the window is empty. A false start wants 1: itself.
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
    Test(&'a str, Status),
    Nothing,
    Broken,
}

fn decode(packet: &[u8]) -> Decoded<'_> {
    let Some((body, sum)) = packet.split_last_chunk::<4>() else { return Decoded::Broken };
    if crc32(body) != u32::from_be_bytes(*sum) {
        return Decoded::Broken;
    }
    let Some((flags, rest)) = body.get(1..).and_then(be16) else { return Decoded::Broken };
    let status = match flags & STATUS_BITS {
        2 => Status::InProgress,
        3 | 7 => Status::Passed,
        4 | 6 => Status::Failed,
        5 => Status::Skipped,
        _ => return Decoded::Nothing,
    };
    if flags & HAS_TEST_ID == 0 {
        return Decoded::Nothing;
    }
    // The length again, then the time: whole seconds, and nanoseconds as a number.
    let id = number(rest).ok().and_then(|(_, rest)| match flags & HAS_TIMESTAMP {
        0 => Some(rest),
        _ => number(rest.get(4..)?).ok().map(|(_, rest)| rest),
    });
    let id = id.and_then(|rest| number(rest).ok()).and_then(|(length, rest)| rest.get(..length));
    match id.map(std::str::from_utf8) {
        Some(Ok(id)) => Decoded::Test(id, status),
        _ => Decoded::Broken,
    }
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

/// CRC-32 of IEEE 802.3, as zlib has it.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let (mut value, mut bit) = (at as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[at] = value;
            at += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ sum >> 8)
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
        read(io::BufReader::with_capacity(7, stream), |id, status| found.push((id.to_owned(), status)))
            .unwrap();
        found
    }

    #[test]
    fn what_another_writer_wrote_is_read() {
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
    }

    #[test]
    fn a_torn_packet_costs_only_itself() {
        let (one, two) = (packet("one", TestStatus::Success), packet("two", TestStatus::Failed));
        let mut broken = packet("broken", TestStatus::Failed);
        broken[20] ^= 1;
        let stream = [b"text \xb3\xb3\n".as_slice(), &one, &broken, &two[..40], &two, &one[..10]].concat();
        let names: Vec<_> = tests_in(&stream).into_iter().map(|(id, _)| id).collect();
        assert_eq!(names, ["one", "two"]);
    }

    #[test]
    fn a_packet_without_room_for_its_checksum_is_passed_over() {
        assert_eq!(tests_in(&[SIGNATURE, 0x20, 0x03, 4]), []);
        assert_eq!(tests_in(&[SIGNATURE, 0x28, 0x03, 0, 1, 2, 3, 4, 5]), []);
    }

    #[test]
    fn a_stream_made_of_false_packets_ends() {
        // Each sixth byte begins a packet of 4 MiB, whose checksum is wrong.
        let stream = [SIGNATURE, 0x20, 0x03, 0xbf, 0xff, 0xff].repeat(1 << 20);
        assert_eq!(read(stream.as_slice(), |_, _| {}).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn whole_packets_are_found_amid_noise(noise in prop::collection::vec(0u8..0xb3, 0..100), id in "[a-z.]{1,40}") {
            let stream = [noise.as_slice(), &packet(&id, TestStatus::Success), &noise, &packet(&id, TestStatus::Failed)].concat();
            prop_assert_eq!(tests_in(&stream), vec![(id.clone(), Status::Passed), (id, Status::Failed)]);
        }
    }
}
