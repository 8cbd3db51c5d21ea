//! A recorded stream: lines of `gerrit stream-events` from a file, for replays, demonstrations and tests.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::memory::MemoryEventStore;
use pushbutton_core::{Error, ErrorKind, Event, EventSource, EventStore, Position, Result, text};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::deduplication::{Dedup, Deduplicator};
use crate::event_filter::EventFilter;
use crate::lines::{LineSplitter, MAX_LINE};
use crate::raw_event::{ParsedLine, RawEvent, parse_line};

/// A finite source: the events of a recorded stream, in order, parsed like a live one.
///
/// Lines that cannot be parsed are logged with `file:line`, counted, and skipped; so is a truncated last line.
///
/// # Cancel safety
/// A dropped `next` loses no event.
pub struct RecordedStream {
    name: String,
    input: Box<dyn AsyncRead + Send + Unpin>,
    lines: LineSplitter,
    read: ReadLines,
    dedup: Deduplicator,
    store: Arc<dyn EventStore>,
    ended: bool,
}

/// What the lines so far held.
struct ReadLines {
    filter: EventFilter,
    number: u64,
    pending: VecDeque<RawEvent>,
    skipped: Vec<String>,
}

impl RecordedStream {
    /// Opens a file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent, when it cannot be read.
    pub async fn open(file: impl AsRef<Path>, filter: EventFilter) -> Result<Self> {
        let file = file.as_ref();
        let input = tokio::fs::File::open(file).await.map_err(|error| {
            Error::permanent(ErrorKind::Config, format!("the recorded stream cannot be read: {error}"))
                .during("gerrit::recorded_stream")
                .with("file", file.display())
        })?;
        Ok(Self::new(file.display().to_string(), input, filter))
    }

    /// Reads from anything; `name` is the name of the file in messages.
    pub fn new(
        name: impl Into<String>,
        input: impl AsyncRead + Send + Unpin + 'static,
        filter: EventFilter,
    ) -> Self {
        let store: Arc<dyn EventStore> = Arc::new(MemoryEventStore::default());
        Self {
            name: name.into(),
            input: Box::new(input),
            lines: LineSplitter::new(MAX_LINE),
            read: ReadLines { filter, number: 0, pending: VecDeque::new(), skipped: Vec::new() },
            dedup: Deduplicator::new(Arc::clone(&store)),
            store,
            ended: false,
        }
    }

    /// The lines skipped so far, each as `file:line: reason`; the first thousand.
    pub fn skipped(&self) -> &[String] {
        &self.read.skipped
    }
}

impl ReadLines {
    fn add(&mut self, file: &str, line: crate::lines::Line<'_>) {
        self.number += 1;
        // The time of an event that has none, as of some old servers. The same in every replay.
        let now = Timestamp::UNIX_EPOCH;
        let parsed = line.and_then(|line| {
            parse_line(line, &self.filter, now).map_err(|error| {
                tracing::debug!(line = %text::short_line(line, 200), "skipping a line of the recorded stream");
                error.to_string()
            })
        });
        let reason = match parsed {
            Ok(ParsedLine::Events(events, _)) => return self.pending.extend(events),
            // There is no server that can be asked.
            Ok(ParsedLine::Joined(_)) => return,
            Ok(ParsedLine::Dropped) => "the server dropped events here".into(),
            Err(reason) => reason,
        };
        let skipped = format!("{file}:{}: {reason}", self.number);
        tracing::warn!("{skipped}");
        if self.skipped.len() < 1000 {
            self.skipped.push(skipped);
        }
    }
}

#[async_trait]
impl EventSource for RecordedStream {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(event) = self.read.pending.front() {
                let dedup = self.dedup.check_streamed(event).await?;
                let Some(event) = self.read.pending.pop_front() else { break };
                // No server can be asked, so an ambiguous event is taken as new.
                let (Dedup::New(id) | Dedup::Ambiguous(id)) = dedup else { continue };
                let position = Position::at(event.at);
                let event = Event::new(id, position, event.kind.into(), event.change, event.patchset);
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            let mut bytes = vec![0; 64 << 10];
            // Cancel-safe: a dropped read has read nothing.
            let count = self.input.read(&mut bytes).await.map_err(|error| {
                Error::permanent(ErrorKind::Local, "reading the recorded stream failed")
                    .with("file", &self.name)
                    .because(error)
            })?;
            if count > 0 {
                self.lines.feed(&bytes[..count], |line| self.read.add(&self.name, line));
            } else {
                self.ended = true;
                self.lines.finish(|line| self.read.add(&self.name, line));
            }
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        self.store.commit(position).await
    }
}

impl fmt::Debug for RecordedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedStream")
            .field("name", &self.name)
            .field("line", &self.read.number)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushbutton_core::EventKind;

    async fn all(text: &[u8]) -> (Vec<Event>, Vec<String>) {
        let mut stream =
            RecordedStream::new("rec", std::io::Cursor::new(text.to_vec()), EventFilter::everything());
        let mut events = Vec::new();
        while let Some(event) = stream.next().await.unwrap() {
            events.push(event);
        }
        (events, stream.skipped().to_vec())
    }

    #[tokio::test]
    async fn a_recorded_stream_of_a_real_server_is_read_completely() {
        let (events, skipped) = all(include_bytes!("../tests/payloads/stream-3.10.jsonl")).await;
        assert_eq!(skipped, [""; 0]);
        let names: Vec<&str> = events.iter().map(|event| event.kind.name()).collect();
        assert_eq!(names[0], "patchset-created");
        assert_eq!(names.iter().filter(|name| **name == "change-merged").count(), 1);
        let texts: Vec<&str> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::CommentAdded { texts, .. } => texts.first().map(String::as_str),
                _ => None,
            })
            .collect();
        assert_eq!(texts[..3], ["recheck", "recheck acme", "recheck acme"]);
        assert_eq!(texts[3], "recheck both\nsecond text\n\nwith lines");
        let ids: std::collections::HashSet<_> = events.iter().map(|event| &event.id).collect();
        assert_eq!(ids.len(), events.len(), "two equal comments are two events");
    }

    #[tokio::test]
    async fn a_truncated_line_is_skipped_and_reported_with_its_number() {
        let line = include_str!("../tests/payloads/stream-3.10.jsonl")
            .lines()
            .find(|line| line.contains("recheck"))
            .unwrap();
        let text = format!("{line}\n{}\n\n{line}\n{{\"type\":\"comm", &line[..200]);
        let (events, skipped) = all(text.as_bytes()).await;
        assert_eq!(events.len(), 2);
        assert_eq!(skipped.len(), 2);
        assert!(skipped[0].starts_with("rec:2: ") && skipped[1].starts_with("rec:5: "), "{skipped:?}");
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let error =
            RecordedStream::open("/nonexistent/stream", EventFilter::everything()).await.err().unwrap();
        assert!(error.to_string().contains("/nonexistent/stream"), "{error}");
    }
}
