//! Splits a byte stream into lines, in bounded memory: [`LinesCodec`] on a buffer that may arrive in pieces.

use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, LinesCodec, LinesCodecError};

/// The longest event line that is read. The longest commit message and comment that Gerrit accepts make some tens of
/// KiB.
pub(crate) const MAX_LINE: usize = 4 << 20;

/// What stays allocated after a long line.
const KEPT_CAPACITY: usize = 64 << 10;

/// Collects bytes into lines. A line that is too long or not UTF-8 is skipped, and the next one is read.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    codec: LinesCodec,
    buffer: BytesMut,
}

/// A line without its end, or why it was skipped.
pub(crate) type Line<'a> = Result<&'a str, String>;

impl LineSplitter {
    pub(crate) fn new(max_length: usize) -> Self {
        Self { codec: LinesCodec::new_with_max_length(max_length), buffer: BytesMut::new() }
    }

    /// Adds bytes, and passes each line that is now complete to `each`.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        self.buffer.extend_from_slice(bytes);
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(line)) => each(Ok(&line)),
                Ok(None) => break,
                Err(error) => each(Err(self.reason(error))),
            }
        }
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_CAPACITY {
            self.buffer = BytesMut::new();
        }
    }

    /// The end of the input: what came after the last line end, if anything.
    pub(crate) fn finish(&mut self, each: impl FnOnce(Line<'_>)) {
        match self.codec.decode_eof(&mut self.buffer) {
            Ok(Some(line)) => each(Ok(&line)),
            Ok(None) => {}
            Err(error) => each(Err(self.reason(error))),
        }
    }

    fn reason(&self, error: LinesCodecError) -> String {
        match error {
            LinesCodecError::MaxLineLengthExceeded => {
                format!("the line is longer than {} bytes", self.codec.max_length())
            }
            LinesCodecError::Io(_) => "the line is not UTF-8".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(limit: usize, chunks: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut found) = (LineSplitter::new(limit), Vec::new());
        let mut keep = |line: Line<'_>| {
            found.push(line.map_or_else(|reason| format!("<{reason}>"), str::to_owned));
        };
        for chunk in chunks {
            splitter.feed(chunk, &mut keep);
        }
        splitter.finish(&mut keep);
        found
    }

    #[test]
    fn lines_are_found_wherever_the_chunks_end() {
        let text = b"one\ntwo\r\n\nthree\n";
        for size in 1..text.len() {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(split(100, &chunks), ["one", "two", "", "three"], "chunks of {size}");
        }
    }

    #[test]
    fn a_long_line_is_skipped_and_the_next_is_whole() {
        for size in 1..20 {
            let chunks: Vec<&[u8]> = b"abc\n0123456789\nxyz\n01234".chunks(size).collect();
            let expected = ["abc", "<the line is longer than 5 bytes>", "xyz", "01234"];
            assert_eq!(split(5, &chunks), expected, "chunks of {size}");
        }
    }

    #[test]
    fn a_line_that_is_not_utf8_is_skipped_and_the_next_is_whole() {
        for size in 1..9 {
            let chunks: Vec<&[u8]> = b"a\n\xff\xfe\nb\n\xc3".chunks(size).collect();
            let expected = ["a", "<the line is not UTF-8>", "b", "<the line is not UTF-8>"];
            assert_eq!(split(5, &chunks), expected, "chunks of {size}");
        }
    }

    #[test]
    fn memory_stays_bounded() {
        let (mut splitter, mut skipped) = (LineSplitter::new(MAX_LINE), 0);
        let chunk = vec![b'x'; 32 << 10];
        for _ in 0..1600 {
            splitter.feed(&chunk, |line| skipped += usize::from(line.is_err()));
            assert!(splitter.buffer.capacity() <= 2 * MAX_LINE);
        }
        splitter.feed(b"\n", |line| skipped += usize::from(line.is_err()));
        assert_eq!(skipped, 1, "the line is reported once");
        assert!(splitter.buffer.capacity() <= KEPT_CAPACITY);
    }
}
