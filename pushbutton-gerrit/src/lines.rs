//! Splits a byte stream into lines, in bounded memory.

/// The longest line that is kept: an event of Gerrit with the longest commit message and comment it takes has some tens of KiB.
pub(crate) const MAX_LINE: usize = 4 << 20;

/// Collects bytes into lines. A line longer than the limit is dropped up to its end.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    part: Vec<u8>,
    limit: usize,
    /// Bytes of the over-long line that is being dropped; 0: none is.
    dropping: u64,
}

/// What was found at the end of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A whole line, without its end.
    Whole(&'a [u8]),
    /// A line of so many bytes, which were dropped.
    TooLong(u64),
}

impl LineSplitter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { part: Vec::new(), limit, dropping: 0 }
    }

    /// Takes bytes in, and gives each line that they end to `each`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(at) = bytes.iter().position(|&b| b == b'\n') {
            let (head, rest) = bytes.split_at(at);
            bytes = &rest[1..];
            if self.dropping > 0 || self.part.len() + head.len() > self.limit {
                each(Line::TooLong(self.dropping + (self.part.len() + head.len()) as u64));
                self.dropping = 0;
                self.forget();
            } else if self.part.is_empty() {
                // The usual case, without a copy.
                each(Line::Whole(without_cr(head)));
            } else {
                self.part.extend_from_slice(head);
                each(Line::Whole(without_cr(&self.part)));
                self.forget();
            }
        }
        if self.dropping > 0 || self.part.len() + bytes.len() > self.limit {
            self.dropping += (self.part.len() + bytes.len()) as u64;
            self.forget();
        } else {
            self.part.extend_from_slice(bytes);
        }
    }

    /// What came after the last line's end: a truncated line, or nothing.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        self.dropping = 0;
        (!self.part.is_empty()).then(|| std::mem::take(&mut self.part))
    }

    /// Empties the buffer, and gives back what a long line had made it grow to.
    fn forget(&mut self) {
        self.part.clear();
        self.part.shrink_to(64 << 10);
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(limit: usize, chunks: &[&[u8]]) -> (Vec<String>, LineSplitter) {
        let (mut splitter, mut found) = (LineSplitter::new(limit), Vec::new());
        for chunk in chunks {
            splitter.feed(chunk, |line| {
                found.push(match line {
                    Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                    Line::TooLong(size) => format!("<{size}>"),
                });
            });
        }
        (found, splitter)
    }

    #[test]
    fn lines_are_found_wherever_the_chunks_end() {
        let text = b"one\ntwo\r\n\nthree\n";
        for size in 1..text.len() {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(split(100, &chunks).0, ["one", "two", "", "three"], "chunks of {size}");
        }
    }

    #[test]
    fn a_long_line_is_dropped_and_the_next_is_whole() {
        for size in 1..20 {
            let chunks: Vec<&[u8]> = b"abc\n0123456789\nxyz\n01234".chunks(size).collect();
            let (found, mut rest) = split(5, &chunks);
            assert_eq!(found, ["abc", "<10>", "xyz"], "chunks of {size}");
            assert_eq!(rest.finish().as_deref(), Some(&b"01234"[..]));
        }
    }

    #[test]
    fn memory_stays_bounded() {
        let (mut splitter, mut dropped) = (LineSplitter::new(MAX_LINE), 0);
        let chunk = vec![b'x'; 32 << 10];
        for _ in 0..1600 {
            splitter.feed(&chunk, |_| unreachable!("no line has ended"));
            assert!(splitter.part.capacity() <= 2 * MAX_LINE);
        }
        splitter.feed(b"\n", |line| {
            if let Line::TooLong(size) = line {
                dropped = size
            }
        });
        assert_eq!(dropped, 1600 * 32 * 1024);
        assert!(splitter.part.capacity() <= 64 << 10);
    }
}
