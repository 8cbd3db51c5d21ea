//! Records the live event stream, line by line, as the server writes it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use pushbutton_core::retry::Backoff;
use pushbutton_core::{CancellationToken, Error, ErrorKind, Result};
use russh::ChannelMsg;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::client::Gerrit;
use crate::client::connection::{Connection, Excerpt};
use crate::error::from_command;
use crate::event_filter::ALL_TYPES;
use crate::lines::{LineSplitter, MAX_LINE};
use crate::wire::WireEvent;

/// The line that stands for a gap: what Gerrit itself writes where it has dropped events.
const GAP: &str = r#"{"type":"dropped-output"}"#;

/// The file of a recording. Lines are appended; it is readable by its owner only, since comments and addresses of people
/// are in it.
#[derive(Debug)]
pub struct Recording {
    file: File,
    name: String,
}

/// Writes the events of a Gerrit to a [`Recording`], until it is stopped.
///
/// Types that are never read are not asked for. Events of private changes are left out: recordings are copied, and their
/// changes are not public. Where events may be missing, because the connection was lost or the recording was continued,
/// there is the line by which Gerrit says so (`dropped-output`).
#[derive(Debug)]
pub struct Recorder {
    gerrit: Arc<Gerrit>,
    recorded: u64,
    left_out: u64,
}

impl Recording {
    /// Opens a file, to continue it if it exists. A line that was cut off when an earlier recording ended is closed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent, if the file cannot be written, or another process writes to it.
    pub async fn open(file: impl AsRef<Path>) -> Result<Self> {
        let file = file.as_ref();
        let name = file.display().to_string();
        let refused = |what: &str, error: std::io::Error| {
            Error::permanent(ErrorKind::Config, format!("{what}: {error}"))
                .during("gerrit::recording")
                .with("file", &name)
        };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let opened =
            options.open(file).await.map_err(|error| refused("the recording cannot be written", error))?;
        let opened = opened.into_std().await;
        opened.try_lock().map_err(|error| {
            let problem = "the recording is locked: another process may be writing to it";
            refused(problem, std::io::Error::other(error))
        })?;
        let mut recording = Self { file: File::from_std(opened), name: name.clone() };
        if recording.is_continued().await.map_err(|error| refused("the recording cannot be read", error))? {
            recording.write(GAP).await?;
        }
        Ok(recording)
    }

    /// Whether something was recorded before. Then the next write begins a line.
    async fn is_continued(&mut self) -> std::io::Result<bool> {
        let end = self.file.seek(std::io::SeekFrom::End(0)).await?;
        if end == 0 {
            return Ok(false);
        }
        self.file.seek(std::io::SeekFrom::Start(end - 1)).await?;
        let mut last = [0];
        self.file.read_exact(&mut last).await?;
        if last != *b"\n" {
            self.file.write_all(b"\n").await?;
        }
        Ok(true)
    }

    /// Appends a line, in one write, so that a crash cuts off at most the last one.
    async fn write(&mut self, line: &str) -> Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let written = async {
            self.file.write_all(&bytes).await?;
            self.file.flush().await
        };
        written.await.map_err(|error| {
            Error::permanent(ErrorKind::Local, "writing the recording failed")
                .with("file", &self.name)
                .because(error)
        })
    }

    /// Makes what was written durable.
    async fn sync(&self) {
        if let Err(error) = self.file.sync_data().await {
            tracing::warn!(file = self.name, "the recording may not be on the disk yet: {error}");
        }
    }
}

impl Recorder {
    /// Records the events of this server.
    pub fn new(gerrit: Arc<Gerrit>) -> Self {
        Self { gerrit, recorded: 0, left_out: 0 }
    }

    /// How many events were recorded.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// How many events of private changes were left out.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Records until `stop`. Connects again whenever the connection is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Local`] if the file cannot be written any more. Permanent errors of the first connection, such as a
    /// refused login.
    ///
    /// # Cancel safety
    /// A dropped call may cut off the line that is being written.
    pub async fn run(&mut self, recording: &mut Recording, stop: &CancellationToken) -> Result<()> {
        let delays = self.gerrit.config().backoff.clone();
        let mut backoff = Backoff::new(delays.first.0, delays.cap.0);
        let mut has_streamed = false;
        let result = loop {
            let (began, before) = (Instant::now(), self.recorded);
            let error = match self.record(recording, stop, has_streamed).await {
                Ok(()) => break Ok(()),
                Err(error) => error,
            };
            has_streamed |= self.recorded > before || began.elapsed() >= crate::stream::GRANTED_AFTER;
            if error.kind() == ErrorKind::Local || !has_streamed && !error.is_temporary() {
                break Err(error);
            }
            if began.elapsed() >= delays.healthy.0 {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            tracing::warn!(?delay, "the event stream is down, it is opened again: {error}");
            tokio::select! { () = stop.cancelled() => break Ok(()), () = tokio::time::sleep(delay) => {} }
        };
        recording.sync().await;
        result
    }

    /// Records one connection; returns at `stop`.
    async fn record(
        &mut self,
        recording: &mut Recording,
        stop: &CancellationToken,
        has_gap: bool,
    ) -> Result<()> {
        let mut command = "gerrit stream-events".to_owned();
        for kind in ALL_TYPES {
            let _ = write!(command, " -s {kind}");
        }
        let open = async {
            let connection = Connection::open(self.gerrit.config()).await?;
            let channel = connection.exec(&command).await?;
            Ok::<_, Error>((connection, channel))
        };
        let (connection, mut channel) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = open => opened?,
        };
        tracing::info!(server = %self.gerrit.config().host, "recording the event stream");
        if has_gap {
            recording.write(GAP).await?;
        }
        let (mut lines, mut stderr, mut status) = (LineSplitter::new(MAX_LINE), Excerpt::default(), None);
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                message = channel.wait() => message,
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    let mut kept = Vec::new();
                    lines.feed(&data, |line| kept.extend(self.kept(line)));
                    for line in kept {
                        recording.write(&line).await?;
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => stderr.push(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => status = Some(exit_status),
                Some(ChannelMsg::Failure) => {
                    let text = "the server refuses to run gerrit stream-events";
                    return Err(Error::permanent(ErrorKind::Denied, text));
                }
                Some(_) => {}
                None => break,
            }
        }
        Err(match status {
            None => {
                drop(channel);
                connection.why_closed().await
            }
            Some(0) => Error::temporary(ErrorKind::Unreachable, "the server ended the stream"),
            Some(status) => from_command(status, &stderr.text()),
        })
    }

    /// The line, if it is recorded.
    fn kept(&mut self, line: crate::lines::Line<'_>) -> Option<String> {
        let line = match line {
            Ok(line) => line.trim_end(),
            Err(reason) => {
                tracing::warn!("a line of the event stream is not recorded: {reason}");
                return None;
            }
        };
        match is_public(line) {
            None => {
                tracing::warn!("a line of the event stream is not recorded: it is no Gerrit event");
                None
            }
            Some(false) => {
                self.left_out += 1;
                None
            }
            Some(true) => {
                self.recorded += 1;
                Some(line.to_owned())
            }
        }
    }
}

/// Whether a line may be recorded; none if it cannot be read. An event that becomes private, or was until now, names a
/// change that was not public: it is left out, too.
fn is_public(line: &str) -> Option<bool> {
    let event: WireEvent<'_> = serde_json::from_str(line).ok()?;
    if event.r#type.as_str().is_empty() {
        return None;
    }
    Some(event.change.is_none_or(|change| change.private != Some(true)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_recording_is_continued_and_a_line_that_was_cut_off_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stream.jsonl");
        let mut recording = Recording::open(&file).await.unwrap();
        recording.write(r#"{"type":"a"}"#).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let second = Recording::open(&file).await.unwrap_err();
        assert!(second.to_string().contains("another process"), "{second}");
        drop(recording);
        std::fs::write(&file, "{\"type\":\"a\"}\n{\"type\":\"cut o").unwrap();
        let mut again = Recording::open(&file).await.unwrap();
        again.write(r#"{"type":"b"}"#).await.unwrap();
        drop(again);
        let lines = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines, [r#"{"type":"a"}"#, r#"{"type":"cut o"#, GAP, r#"{"type":"b"}"#]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_named() {
        let error = Recording::open("/nonexistent/folder/stream.jsonl").await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/folder/stream.jsonl"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[test]
    fn events_of_private_changes_are_not_public() {
        let line = |change: &str| format!(r#"{{"type":"comment-added","change":{{"number":1{change}}}}}"#);
        assert_eq!(is_public(&line("")), Some(true));
        assert_eq!(is_public(&line(r#","private":false"#)), Some(true));
        assert_eq!(is_public(&line(r#","private":true"#)), Some(false));
        assert_eq!(is_public(GAP), Some(true));
        assert_eq!(is_public("no json"), None);
        assert_eq!(is_public("{}"), None);
    }
}
