//! Copies of files that are published, without the secrets in them.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::credentials::CredentialFilter;
use crate::redact::{MAX_SECRET, Redactor};

/// A longer line is redacted in parts.
const MAX_LINE: u64 = 1 << 20;
/// A file with a zero byte at its beginning is no text.
const SNIFFED: u64 = 8 << 10;
/// What a stream of test results (subunit v2) begins with. It may have no zero byte.
const SUBUNIT: u8 = 0xb3;

/// What redacts a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filters<'a> {
    pub(crate) secrets: &'a Redactor,
    pub(crate) credentials: &'a CredentialFilter,
}

/// Why a copy is not whole.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// One copy of a file. Text loses configured secrets and what [`CredentialFilter`] finds. In other files, configured
/// secrets are replaced by as many asterisks, so that nothing moves.
pub(crate) struct RedactedCopy<'a> {
    filters: Filters<'a>,
    /// Bytes that may still be written, before they are compressed.
    left: &'a mut u64,
    /// Asked now and then. When it says so, the copy ends.
    stop: &'a dyn Fn() -> bool,
    /// Whether the copy ended because of `left` or `stop`.
    pub(crate) is_cut: bool,
    /// Whether the copy differs from the file.
    pub(crate) is_changed: bool,
}

impl<'a> RedactedCopy<'a> {
    pub(crate) fn new(filters: Filters<'a>, left: &'a mut u64, stop: &'a dyn Fn() -> bool) -> Self {
        Self { filters, left, stop, is_cut: false, is_changed: false }
    }

    /// Copies a file that is compressed, and compresses it again.
    pub(crate) fn gzip(&mut self, from: impl Read, to: impl Write) -> Result<(), CopyError> {
        let from = BufReader::with_capacity(64 << 10, MultiGzDecoder::new(BufReader::new(from)));
        let mut to = GzEncoder::new(to, Compression::default());
        let copied = self.content(from, &mut to);
        let finished = to.finish().and_then(|mut to| to.flush()).map_err(CopyError::Write);
        copied.and(finished)
    }

    /// Copies a file as it is.
    pub(crate) fn plain(&mut self, from: impl Read, mut to: impl Write) -> Result<(), CopyError> {
        let copied = self.content(BufReader::new(from), &mut to);
        copied.and(to.flush().map_err(CopyError::Write))
    }

    fn content(&mut self, mut from: impl BufRead, to: &mut impl Write) -> Result<(), CopyError> {
        let mut start = Vec::new();
        let read = from.by_ref().take(SNIFFED).read_to_end(&mut start);
        let is_text = !start.contains(&0) && start.first() != Some(&SUBUNIT);
        let mut credentials = self.filters.credentials.clone();
        let mut from = Cursor::new(start).chain(from);
        let mut block = Vec::new();
        loop {
            let mut part = from.by_ref().take(MAX_LINE);
            // What was read before an error is kept.
            let length =
                if is_text { part.read_until(b'\n', &mut block) } else { part.read_to_end(&mut block) };
            let is_end = !matches!(length, Ok(1..));
            let (done, redacted) = if is_text {
                (block.len(), self.filters.secrets.redact_bytes(&credentials.redact(&block)))
            } else {
                let masked = self.filters.secrets.mask_bytes(&block);
                // A secret may go on in the next block.
                let done = if is_end { block.len() } else { block.len().saturating_sub(MAX_SECRET) };
                (done, masked.get(..done).unwrap_or_default().to_vec())
            };
            self.is_changed |= block.get(..done).is_some_and(|original| original != redacted);
            if *self.left < redacted.len() as u64 || (self.stop)() {
                *self.left = 0;
                self.is_cut = true;
                return to.write_all(b"\n[cut by pushbutton]\n").map_err(CopyError::Write);
            }
            *self.left -= redacted.len() as u64;
            to.write_all(&redacted).map_err(CopyError::Write)?;
            block.drain(..done);
            if length.map_err(CopyError::Read)? == 0 {
                return read.map(drop).map_err(CopyError::Read);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(content: &[u8]) -> (Vec<u8>, bool) {
        let secrets = [("s".to_owned(), "configured-secret".into())];
        let (secrets, credentials) =
            (Redactor::new(&secrets.into()).unwrap(), CredentialFilter::new().unwrap());
        let filters = Filters { secrets: &secrets, credentials: &credentials };
        let (mut left, mut written) = (u64::MAX, Vec::new());
        let mut copy = RedactedCopy::new(filters, &mut left, &|| false);
        copy.plain(content, &mut written).unwrap();
        let is_changed = copy.is_changed;
        assert_eq!(u64::MAX - left, written.len() as u64);
        (written, is_changed)
    }

    #[test]
    fn a_file_without_secrets_is_the_same() {
        for content in [&b"a line\nand \xff one without an end"[..], b"", &[0; 3_000_000]] {
            assert_eq!(copied(content), (content.to_vec(), false));
        }
    }

    #[test]
    fn text_loses_secrets_and_credentials() {
        let (written, is_changed) = copied(b"configured-secret\nsan_password = hunter2\n");
        assert_eq!((written.as_slice(), is_changed), (&b"********\nsan_password = ********\n"[..], true));
    }

    /// What a test of a driver prints is in the stream of its results.
    #[test]
    fn a_secret_in_a_binary_file_is_masked_wherever_it_is_and_nothing_moves() {
        for start in [SUBUNIT, 0] {
            for before in [1, (1 << 20) - 9, (1 << 20) - 4096, (2 << 20) - 4097, (2 << 20) - 4110] {
                let content =
                    |secret: &[u8]| [&[start], &vec![b'x'; before][..], secret, b" password = y\n"].concat();
                let (written, is_changed) = copied(&content(b"configured-secret"));
                assert!(is_changed && written == content(b"*****************"), "{before}");
            }
        }
    }
}
