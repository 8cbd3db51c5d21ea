//! A stage's output on its way to people: split into lines, redacted, sanitized, and with the time of day in the
//! console log.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pushbutton_core::text::{cut, is_unsafe, short_line};
use pushbutton_core::{HumanDuration, LineSink, Result, Stage, StageContext, StageOutcome};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt, BufWriter};

use crate::error::local;
use crate::live;
use crate::redact::{MAX_SECRET, Redactor};

/// The longest line in the console log, in bytes. The rest of a line is counted, not kept.
const MAX_LINE: usize = 64 << 10;
/// The longest line of pushbutton itself, in bytes.
const MAX_NOTE: usize = 4096;
/// How much of Ansible's own error message is kept, in bytes.
const MAX_ERROR: usize = 500;

/// The first line of a stage in the console log.
pub(crate) fn header(stage: &Stage, context: &StageContext) -> String {
    let StageContext { run, job, attempt, .. } = context;
    let (name, playbook, target, revision) =
        (&stage.name, &stage.playbook, job.target(), &job.patchset.revision);
    format!(
        "pushbutton: stage {name} begins: {playbook} of job {} for {target} ({revision}), run {run}, attempt {attempt}",
        job.name
    )
}

/// The last line of a stage in the console log.
pub(crate) fn footer(stage: &Stage, outcome: &StageOutcome) -> String {
    let took = HumanDuration(outcome.took);
    let mut text = format!("pushbutton: stage {} ended: {:?} in {took}", stage.name, outcome.status);
    if let Some(detail) = &outcome.detail {
        let _ = write!(text, ": {detail}");
    }
    if let Some(fault) = &outcome.lab_fault {
        let _ = write!(text, "; recognised as infrastructure: {fault}");
    }
    if let Some(tests) = outcome.tests {
        let (passed, failed, skipped) = (tests.passed, tests.failed, tests.skipped);
        let _ = write!(text, "; tests: {passed} passed, {failed} failed, {skipped} skipped");
    }
    text
}

/// Splits bytes into lines of bounded length.
#[derive(Default)]
struct LineSplitter {
    line: Vec<u8>,
    lost: u64,
}

impl LineSplitter {
    /// Takes bytes; returns each line that they complete, and how many of its bytes were lost.
    fn feed(&mut self, bytes: &[u8]) -> Vec<(Vec<u8>, u64)> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            // Longer than MAX_LINE by the length of a secret: the line is redacted before it is cut to MAX_LINE.
            let room = (MAX_LINE + MAX_SECRET).saturating_sub(self.line.len()).min(text.len());
            self.line.extend_from_slice(&text[..room]);
            self.lost += (text.len() - room) as u64;
            if text.len() < piece.len() {
                lines.push(self.take());
            }
        }
        lines
    }

    /// The line that has no end yet.
    fn take(&mut self) -> (Vec<u8>, u64) {
        (std::mem::take(&mut self.line), std::mem::take(&mut self.lost))
    }
}

/// Makes a line harmless for terminals and pages: control characters become the symbols that stand for them, and
/// characters that change the direction of text are replaced.
fn sanitize(line: &str) -> String {
    let shown = |c: char| match c {
        '\t' => '\t',
        '\0'..='\x1f' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        c if is_unsafe(c) => '\u{fffd}',
        c => c,
    };
    line.chars().map(shown).collect()
}

/// A message as one redacted line of at most `max` bytes.
pub(crate) fn one_line(text: &str, redactor: &Redactor, max: usize) -> String {
    short_line(&redactor.redact(text).split_whitespace().collect::<Vec<_>>().join(" "), max)
}

/// Where a stage's output goes: to the console log, and to whoever reads it live.
pub(crate) struct Console<'a> {
    splitter: LineSplitter,
    file: BufWriter<File>,
    path: PathBuf,
    redactor: &'a Redactor,
    reader: &'a LineSink,
    /// What a line of a command on a node begins with.
    mark: &'a str,
    room: u64,
    dropped: u64,
    write_failed: bool,
    ansible_error: Option<String>,
}

impl<'a> Console<'a> {
    /// Opens the console log for appending at most `room` bytes of output.
    pub(crate) async fn open(
        path: &Path,
        room: u64,
        redactor: &'a Redactor,
        reader: &'a LineSink,
        mark: &'a str,
    ) -> Result<Self> {
        let failed = |error| local(error, "cannot open the console log", path);
        // A stage on the local machine can replace the log by a link. `artifacts` removes such links after a stage;
        // this is a second check.
        if tokio::fs::symlink_metadata(path).await.is_ok_and(|meta| !meta.is_file()) {
            tokio::fs::remove_file(path).await.map_err(failed)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(path).await.map_err(failed)?;
        Ok(Self {
            splitter: LineSplitter::default(),
            file: BufWriter::new(file),
            path: path.to_owned(),
            redactor,
            reader,
            mark,
            room,
            dropped: 0,
            write_failed: false,
            ansible_error: None,
        })
    }

    /// Takes output as it comes.
    pub(crate) async fn feed(&mut self, bytes: &[u8]) {
        for (line, lost) in self.splitter.feed(bytes) {
            self.output_line(&line, lost).await;
        }
        self.flush().await;
    }

    /// Writes a line of pushbutton itself, to the console log only and whatever room is left.
    pub(crate) async fn note(&mut self, text: &str) {
        let text = one_line(text, self.redactor, MAX_NOTE);
        self.append(&dated(Timestamp::now(), &text)).await;
        self.flush().await;
    }

    /// Writes the last line, which may lack its end, and how much was dropped.
    pub(crate) async fn finish(&mut self) {
        let (line, lost) = self.splitter.take();
        if !line.is_empty() {
            self.output_line(&line, lost).await;
        }
        if self.dropped > 0 {
            let dropped = self.dropped;
            self.note(&format!(
                "pushbutton: {dropped} bytes of output did not fit in here (console_limit_mib)"
            ))
            .await;
        }
        self.flush().await;
    }

    /// The first error message of Ansible itself, as opposed to one of a task.
    pub(crate) fn ansible_error(&self) -> Option<&str> {
        self.ansible_error.as_deref()
    }

    async fn output_line(&mut self, line: &[u8], lost: u64) {
        let line = String::from_utf8_lossy(line);
        let now = Timestamp::now();
        let (time, line) = match live::parse_line(self.mark, &line) {
            // A node's clock may be wrong: nothing was written later than now.
            Some((written, host, text)) => (written.min(now), format!("{host} | {text}").into()),
            None => (now, line),
        };
        let line = self.redactor.redact(&line);
        let mut text = sanitize(line.strip_suffix('\r').unwrap_or(&line));
        let lost = lost + text.len().saturating_sub(MAX_LINE) as u64;
        if lost > 0 {
            text = format!("{}… [{lost} bytes cut]", cut(&text, MAX_LINE));
        }
        // ansible-core 2.19 and later write `[ERROR]: `.
        let error = text.strip_prefix("ERROR! ").or_else(|| text.strip_prefix("[ERROR]: "));
        if let (Some(error), None) = (error, &self.ansible_error) {
            self.ansible_error = Some(short_line(error, MAX_ERROR));
        }
        let dated = dated(time, &text);
        self.reader.line(text);
        if self.room < dated.len() as u64 {
            // From the first line that does not fit, all are dropped: the log has no holes.
            (self.room, self.dropped) = (0, self.dropped + dated.len() as u64);
            return;
        }
        self.room -= dated.len() as u64;
        self.append(&dated).await;
    }

    async fn append(&mut self, line: &str) {
        let written = self.file.write_all(line.as_bytes()).await;
        self.log_failure(written);
    }

    async fn flush(&mut self) {
        let flushed = self.file.flush().await;
        self.log_failure(flushed);
    }

    /// A full disk loses lines of the console log, but not the stage: the live reader still gets them.
    fn log_failure(&mut self, result: std::io::Result<()>) {
        if let (Err(error), false) = (&result, self.write_failed) {
            tracing::error!(console = %self.path.display(), %error, "cannot write the console log");
        }
        self.write_failed = result.is_err();
    }
}

fn dated(time: Timestamp, text: &str) -> String {
    format!("{} | {text}\n", time.strftime("%Y-%m-%d %H:%M:%S%.3f"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// What the live reader gets, and the console log.
    async fn output(room: u64, secrets: &[&str], chunks: &[&[u8]]) -> (Vec<String>, String) {
        let folder = tempfile::tempdir().unwrap();
        let secrets: BTreeMap<_, _> = secrets.iter().map(|text| (text.to_string(), (*text).into())).collect();
        let (redactor, (sink, mut reader)) = (Redactor::new(&secrets).unwrap(), LineSink::bounded(100));
        let path = folder.path().join("console.log");
        let mut console = Console::open(&path, room, &redactor, &sink, "m4rk").await.unwrap();
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
    async fn lines_are_joined_from_chunks_and_dated_in_the_log() {
        let (lines, log) = output(1000, &[], &[b"one\ntw", b"o\r\nthr", b"ee"]).await;
        assert_eq!(lines, ["one", "two", "three"]);
        let dated = |line: &str| {
            line.split_once(" | ").is_some_and(|(time, _)| time.len() == "2026-11-23 12:00:00.000".len())
        };
        assert!(log.lines().all(dated), "{log}");
    }

    #[tokio::test]
    async fn a_line_of_a_command_on_a_node_has_the_time_at_which_it_was_written_there() {
        let later = Timestamp::now().as_millisecond() + 3_600_000;
        let lines = format!(
            "m4rk 1764150000123 node oneword tw\u{1b}o\nm4rk {later} node three\nm4rx 1 node four\nm4rk x y z\n"
        );
        let (lines, log) = output(1000, &["oneword"], &[lines.as_bytes()]).await;
        assert_eq!(lines, ["node | ******** tw␛o", "node | three", "m4rx 1 node four", "m4rk x y z"]);
        let log: Vec<_> = log.lines().collect();
        assert_eq!(log[0], "2025-11-26 09:40:00.123 | node | ******** tw␛o");
        // The node's clock is an hour ahead.
        let time = log[1].split(" | ").next().unwrap();
        assert!(time <= Timestamp::now().strftime("%Y-%m-%d %H:%M:%S%.3f").to_string().as_str(), "{log:?}");
    }

    #[tokio::test]
    async fn terminal_escapes_and_direction_marks_are_shown_and_not_obeyed() {
        let (lines, _) = output(1000, &[], &[b"\x1b[2J\x07\rx\ty \xff \xc2\x9b \xe2\x80\xae\n"]).await;
        assert_eq!(lines, ["␛[2J␇␍x\ty \u{fffd} \u{fffd} \u{fffd}"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_lost_bytes_are_counted() {
        let long = vec![b'x'; 10 * MAX_LINE];
        let (lines, log) = output(10_000_000, &[], &[&long, b"\nnext\n"]).await;
        assert_eq!(lines[1], "next");
        assert!(
            log.len() < 2 * MAX_LINE && log.contains(&format!("[{} bytes cut]", 9 * MAX_LINE)),
            "{}",
            log.len()
        );
    }

    #[tokio::test]
    async fn a_secret_across_chunks_or_at_the_limit_of_a_line_is_redacted() {
        let (lines, log) = output(1000, &["topsecret"], &[b"a tops", b"ecret z\n"]).await;
        assert_eq!(lines, ["a ******** z"]);
        assert!(!log.contains("secret"), "{log}");
        let mut line = vec![b'x'; MAX_LINE - 4];
        line.extend(b"topsecret\n");
        let (_, log) = output(10_000_000, &["topsecret"], &[&line]).await;
        assert!(!log.contains("tops") && log.contains("x****"), "{}", &log[log.len() - 80..]);
    }

    #[tokio::test]
    async fn a_full_log_counts_what_it_drops_and_readers_still_get_lines() {
        let (lines, log) = output(100, &[], &[&b"0123456789\n".repeat(20)]).await;
        assert_eq!(lines.len(), 20);
        assert!(log.lines().count() < 5 && log.contains("did not fit"), "{log}");
    }
}
