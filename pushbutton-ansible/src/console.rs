//! A stage's output on its way to people: cut into lines, made harmless, secrets hidden, with the time of day in the console log.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pushbutton_core::LineSink;
use pushbutton_core::Result;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt, BufWriter};

use crate::error::local;
use crate::mask::{self, Masks};

/// The longest line in the console log, in bytes; the rest of it is counted, not kept.
const MAX_LINE: usize = 64 << 10;

/// Cuts bytes into lines of bounded length.
#[derive(Default)]
struct Cutter {
    line: Vec<u8>,
    lost: u64,
}

impl Cutter {
    /// Takes bytes and hands out each line that they end.
    fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(Vec<u8>, u64)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            // Beyond the limit by the length of a secret, so that none is cut before it is hidden.
            let room = (MAX_LINE + mask::LONGEST).saturating_sub(self.line.len()).min(text.len());
            self.line.extend_from_slice(&text[..room]);
            self.lost += (text.len() - room) as u64;
            if ends {
                line(std::mem::take(&mut self.line), std::mem::take(&mut self.lost));
            }
        }
    }
}

/// Bytes as text that does nothing to a terminal or a page: control characters become their pictures, marks that turn the direction of text go.
fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = |c: char| match c {
        '\t' => '\t',
        '\0'..='\x1f' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            '\u{fffd}'
        }
        _ => c,
    };
    text.strip_suffix('\r').unwrap_or(&text).chars().map(shown).collect()
}

/// The same for a message of a few words: one line, no secrets, cut.
pub(crate) fn one_line(text: &str, masks: &Masks, limit: usize) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    shorten(masks.hide(harmless(flat.as_bytes())), limit).0
}

/// Cuts a text at a character; says how many bytes went.
fn shorten(mut text: String, limit: usize) -> (String, u64) {
    let full = text.len();
    if full > limit {
        let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    let lost = full.saturating_sub(limit) as u64;
    (text, lost)
}

/// Where a stage's output goes.
pub(crate) struct Console<'a> {
    cutter: Cutter,
    file: BufWriter<File>,
    path: PathBuf,
    masks: &'a Masks,
    lines: &'a LineSink,
    room: u64,
    dropped: u64,
    broken: bool,
    first_error: Option<String>,
}

impl<'a> Console<'a> {
    /// Opens the console log for appending, with room for so many bytes of this stage.
    pub(crate) async fn open(path: &Path, room: u64, masks: &'a Masks, lines: &'a LineSink) -> Result<Self> {
        let opening = "cannot open the console log";
        // A stage on the local machine might have put a link here; artifacts.rs removes such, and this is the second lock.
        if tokio::fs::symlink_metadata(path).await.is_ok_and(|meta| !meta.is_file()) {
            tokio::fs::remove_file(path).await.map_err(|error| local(error, opening, path))?;
        }
        let file = OpenOptions::new().append(true).create(true).open(path).await;
        let file = BufWriter::new(file.map_err(|error| local(error, opening, path))?);
        let path = path.to_owned();
        Ok(Self {
            cutter: Cutter::default(),
            file,
            path,
            masks,
            lines,
            room,
            dropped: 0,
            broken: false,
            first_error: None,
        })
    }

    /// Takes output as it comes.
    pub(crate) async fn feed(&mut self, bytes: &[u8]) {
        let mut ended = Vec::new();
        self.cutter.feed(bytes, |line, lost| ended.push((line, lost)));
        for (line, lost) in ended {
            self.put(&line, lost).await;
        }
        self.flush().await;
    }

    /// A line of our own: in the console log only.
    pub(crate) async fn note(&mut self, text: &str) {
        let text = one_line(text, self.masks, 4096);
        self.write(&text, true).await;
        self.flush().await;
    }

    /// The last line may lack its end.
    pub(crate) async fn finish(&mut self) {
        let (line, lost) = (std::mem::take(&mut self.cutter.line), std::mem::take(&mut self.cutter.lost));
        if !line.is_empty() {
            self.put(&line, lost).await;
        }
        if self.dropped > 0 {
            let note = format!(
                "pushbutton: {} bytes of output did not fit in here (console_limit_mib)",
                self.dropped
            );
            self.write(&note, true).await;
        }
        self.flush().await;
    }

    async fn put(&mut self, line: &[u8], lost: u64) {
        let (mut text, cut) = shorten(self.masks.hide(harmless(line)), MAX_LINE);
        if cut + lost > 0 {
            text.push_str(&format!(" [{} bytes cut]", cut + lost));
        }
        // `[ERROR]: ` is how ansible-core 2.19 and later write it.
        let error = text.strip_prefix("ERROR! ").or_else(|| text.strip_prefix("[ERROR]: "));
        if let (Some(error), None) = (error, &self.first_error) {
            self.first_error = Some(shorten(error.to_owned(), 500).0);
        }
        self.write(&text, false).await;
        self.lines.line(text);
    }

    /// The first line in which Ansible said that it could not go on.
    pub(crate) fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    async fn write(&mut self, text: &str, always: bool) {
        let now = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
        let line = format!("{now} | {text}\n");
        if !always && self.room < line.len() as u64 {
            (self.room, self.dropped) = (0, self.dropped + line.len() as u64);
            return;
        }
        self.room = self.room.saturating_sub(line.len() as u64);
        let written = self.file.write_all(line.as_bytes()).await;
        self.report(written);
    }

    async fn flush(&mut self) {
        let flushed = self.file.flush().await;
        self.report(flushed);
    }

    /// A disk that fills up in mid-stage loses lines of the log, not the stage: reporters still get them.
    fn report(&mut self, result: std::io::Result<()>) {
        match result {
            Ok(()) => self.broken = false,
            Err(error) if !self.broken => {
                self.broken = true;
                tracing::error!(console = %self.path.display(), %error, "cannot write the console log");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    async fn shown(room: u64, secrets: &[&str], chunks: &[&[u8]]) -> (Vec<String>, String) {
        let folder = tempfile::tempdir().unwrap();
        let secrets: BTreeMap<_, _> = secrets.iter().map(|text| (text.to_string(), (*text).into())).collect();
        let (masks, (sink, mut reader)) = (Masks::new(&secrets), LineSink::bounded(100));
        let path = folder.path().join("console.log");
        let mut console = Console::open(&path, room, &masks, &sink).await.unwrap();
        for chunk in chunks {
            console.feed(chunk).await;
        }
        console.finish().await;
        drop(console);
        let mut lines = Vec::new();
        while let Ok(line) = reader.try_recv() {
            lines.push(line);
        }
        (lines, std::fs::read_to_string(&path).unwrap())
    }

    #[tokio::test]
    async fn lines_are_put_together_from_pieces_and_dated_in_the_log() {
        let (lines, log) = shown(1000, &[], &[b"one\ntw", b"o\r\nthr", b"ee"]).await;
        assert_eq!(lines, ["one", "two", "three"]);
        let dated = |line: &str| {
            line.split_once(" | ").is_some_and(|(time, _)| time.len() == "2026-11-23 12:00:00.000".len())
        };
        assert!(log.lines().all(dated), "{log}");
    }

    #[tokio::test]
    async fn terminal_escapes_and_turned_text_are_shown_not_obeyed() {
        let (lines, _) = shown(1000, &[], &[b"\x1b[2J\x07\rx\ty \xff \xc2\x9b \xe2\x80\xae\n"]).await;
        assert_eq!(lines, ["␛[2J␇␍x\ty \u{fffd} \u{fffd} \u{fffd}"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_counted() {
        let long = vec![b'x'; 10 * MAX_LINE];
        let (lines, log) = shown(10_000_000, &[], &[&long, b"\nnext\n"]).await;
        assert_eq!(lines[1], "next");
        assert!(
            log.len() < 2 * MAX_LINE && log.contains(&format!("[{} bytes cut]", 9 * MAX_LINE)),
            "{}",
            log.len()
        );
    }

    #[tokio::test]
    async fn a_secret_across_the_cut_is_hidden_whole() {
        let mut line = vec![b'x'; MAX_LINE - 4];
        line.extend(b"topsecret\n");
        let (_, log) = shown(10_000_000, &["topsecret"], &[&line]).await;
        assert!(!log.contains("tops") && log.contains("x****"), "{}", &log[log.len() - 80..]);
    }

    #[tokio::test]
    async fn beyond_its_room_the_log_counts_and_readers_still_get_lines() {
        let (lines, log) = shown(100, &[], &[&b"0123456789\n".repeat(20)]).await;
        assert_eq!(lines.len(), 20);
        assert!(log.lines().count() < 5 && log.contains("did not fit"), "{log}");
    }
}
