//! A recorded stream: lines of `gerrit stream-events` from a file, for replays, demonstrations and tests.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::memory::MemoryEventStore;
use pushbutton_core::{Error, ErrorKind, Event, EventSource, EventStore, Position, Result};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::convert::Happening;
use crate::identity::{Identities, Told, kind};
use crate::interest::Interest;
use crate::lines::{Line, LineSplitter, MAX_LINE};
use crate::parse::{Parsed, parse_line};
use crate::stream::excerpt;

/// A finite source: the events of a recorded stream, in order, read by the same parser as the live ones.
///
/// Lines that cannot be understood are logged with `file:line`, counted, and passed by; so is a truncated last line.
pub struct RecordedStream {
    name: String,
    input: Box<dyn AsyncRead + Send + Unpin>,
    lines: LineSplitter,
    number: u64,
    passed_by: Vec<String>,
    interest: Interest,
    identities: Identities,
    ledger: Arc<dyn EventStore>,
    pending: VecDeque<Happening>,
    ended: bool,
}

impl RecordedStream {
    /// Opens a file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent, when it cannot be read.
    pub async fn open(file: impl AsRef<Path>, interest: Interest) -> Result<Self> {
        let file = file.as_ref();
        let input = tokio::fs::File::open(file).await.map_err(|error| {
            Error::permanent(ErrorKind::Config, format!("the recorded stream cannot be read: {error}"))
                .during("gerrit::recorded")
                .with("file", file.display())
        })?;
        Ok(Self::read(file.display().to_string(), input, interest))
    }

    /// Reads from anything; `name` stands for the file in messages.
    pub fn read(
        name: impl Into<String>,
        input: impl AsyncRead + Send + Unpin + 'static,
        interest: Interest,
    ) -> Self {
        let ledger: Arc<dyn EventStore> = Arc::new(MemoryEventStore::default());
        Self {
            name: name.into(),
            input: Box::new(input),
            lines: LineSplitter::new(MAX_LINE),
            number: 0,
            passed_by: Vec::new(),
            interest,
            identities: Identities::new(Arc::clone(&ledger)),
            ledger,
            pending: VecDeque::new(),
            ended: false,
        }
    }

    /// The lines passed by so far, each as `file:line: why`; the first thousand.
    pub fn passed_by(&self) -> &[String] {
        &self.passed_by
    }

    fn take(&mut self, bytes: &[u8]) {
        // Times are missing in a few events of old servers; a replay must not depend on the hour.
        let now = Timestamp::UNIX_EPOCH;
        let (mut lines, mut found) =
            (std::mem::replace(&mut self.lines, LineSplitter::new(MAX_LINE)), Vec::new());
        lines.feed(bytes, |line| {
            found.push(match line {
                Line::Whole(line) => parse_line(line, &self.interest, now).map_err(|error| {
                    tracing::debug!(line = %excerpt(line), "passed by");
                    error.to_string()
                }),
                Line::TooLong(size) => Err(format!("{size} bytes are more than {MAX_LINE}")),
            });
        });
        self.lines = lines;
        for parsed in found {
            self.number += 1;
            match parsed {
                Ok(Parsed::Happenings(happenings, _)) => self.pending.extend(happenings),
                Ok(Parsed::Dropped) => self.pass_by("the server dropped events here".into()),
                Err(why) => self.pass_by(why),
            }
        }
    }

    fn pass_by(&mut self, why: String) {
        let place = format!("{}:{}: {why}", self.name, self.number);
        tracing::warn!("{place}");
        if self.passed_by.len() < 1000 {
            self.passed_by.push(place);
        }
    }
}

#[async_trait]
impl EventSource for RecordedStream {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(happening) = self.pending.front() {
                let told = self.identities.streamed(happening).await?;
                let Some(happening) = self.pending.pop_front() else { break };
                // There is nobody to ask: what may be another is another.
                let (Told::New(id) | Told::Doubtful(id)) = told else { continue };
                let position = Position::at(happening.at);
                let (change, patchset) = (happening.change, happening.patchset);
                return Ok(Some(Event { id, position, change, patchset, kind: kind(happening.what) }));
            }
            if self.ended {
                return Ok(None);
            }
            let mut bytes = vec![0; 64 << 10];
            // A dropped read has read nothing.
            let count = self.input.read(&mut bytes).await.map_err(|error| {
                Error::permanent(ErrorKind::Local, "reading the recorded stream failed")
                    .with("file", &self.name)
                    .because(error)
            })?;
            if count > 0 {
                self.take(&bytes[..count]);
                continue;
            }
            self.ended = true;
            if let Some(rest) = self.lines.finish() {
                // A last line without an end is whole, or truncated: the parser tells.
                self.take(&[rest.as_slice(), b"\n"].concat());
            }
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        self.ledger.commit(position).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushbutton_core::EventKind;

    async fn all(text: &[u8]) -> (Vec<Event>, Vec<String>) {
        let mut stream =
            RecordedStream::read("rec", std::io::Cursor::new(text.to_vec()), Interest::everything());
        let mut events = Vec::new();
        while let Some(event) = stream.next().await.unwrap() {
            events.push(event);
        }
        (events, stream.passed_by().to_vec())
    }

    #[tokio::test]
    async fn a_recorded_stream_of_a_real_server_is_read_whole() {
        let (events, passed_by) = all(include_bytes!("../tests/payloads/stream-3.10.jsonl")).await;
        assert_eq!(passed_by, [""; 0]);
        let names: Vec<&str> = events.iter().map(|event| event.kind.name()).collect();
        assert_eq!(names[0], "patchset-created");
        assert_eq!(names.iter().filter(|name| **name == "change-merged").count(), 1);
        let texts: Vec<&str> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::CommentAdded { text, .. } if !text.is_empty() => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(texts[..3], ["recheck", "recheck acme", "recheck acme"]);
        assert_eq!(texts[3], "recheck both\nsecond text\n\nwith lines");
        let ids: std::collections::HashSet<_> = events.iter().map(|event| &event.id).collect();
        assert_eq!(ids.len(), events.len(), "two equal comments are two events");
    }

    #[tokio::test]
    async fn a_truncated_line_is_told_with_its_place_and_passed_by() {
        let line = include_str!("../tests/payloads/stream-3.10.jsonl")
            .lines()
            .find(|line| line.contains("recheck"))
            .unwrap();
        let text = format!("{line}\n{}\n\n{line}\n{{\"type\":\"comm", &line[..200]);
        let (events, passed_by) = all(text.as_bytes()).await;
        assert_eq!(events.len(), 2);
        assert_eq!(passed_by.len(), 2);
        assert!(passed_by[0].starts_with("rec:2: ") && passed_by[1].starts_with("rec:5: "), "{passed_by:?}");
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let error = RecordedStream::open("/nonexistent/stream", Interest::everything()).await.err().unwrap();
        assert!(error.to_string().contains("/nonexistent/stream"), "{error}");
    }
}
