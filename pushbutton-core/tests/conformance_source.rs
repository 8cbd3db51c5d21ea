//! The source in memory keeps the contract of its trait.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what they cannot do")]

use async_trait::async_trait;
use pushbutton_core::memory::MemorySource;
use pushbutton_core::samples;
use pushbutton_core::{Event, EventId, EventSource};
use pushbutton_testkit::conformance::source::{self, Harness};
use tokio::sync::mpsc;

/// Comments by bob; equal ones are counted, as a real source counts them.
#[derive(Default)]
struct Comments(Vec<String>);

impl Comments {
    fn next(&mut self, text: &str) -> Event {
        self.0.push(text.to_owned());
        let nth = self.0.iter().filter(|said| *said == text).count();
        let mut event = samples::comment("bob", text);
        if let Some(author) = event.kind.actor() {
            let nth = u32::try_from(nth).unwrap();
            event.id = EventId::comment(event.change.number, event.patchset.number, author, text, nth);
        }
        event
    }
}

/// What is sent before anybody has opened the source goes nowhere.
#[derive(Default)]
struct Live {
    comments: Comments,
    upstream: Option<mpsc::Sender<Event>>,
}

#[async_trait]
impl Harness for Live {
    async fn happen(&mut self, text: &str) {
        let event = self.comments.next(text);
        if let Some(upstream) = &self.upstream {
            upstream.send(event).await.unwrap();
        }
    }

    async fn open(&mut self) -> Box<dyn EventSource> {
        let (sender, source) = MemorySource::channel(100);
        self.upstream = Some(sender);
        Box::new(source)
    }

    fn is_finite(&self) -> bool {
        false
    }
}

#[derive(Default)]
struct Finite {
    comments: Comments,
    events: Vec<Event>,
}

#[async_trait]
impl Harness for Finite {
    async fn happen(&mut self, text: &str) {
        self.events.push(self.comments.next(text));
    }

    async fn open(&mut self) -> Box<dyn EventSource> {
        Box::new(MemorySource::of(self.events.clone()))
    }

    fn is_finite(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_live_source_in_memory_keeps_the_contract() {
    source::all(async || Live::default()).await;
}

#[tokio::test]
async fn a_finite_source_in_memory_keeps_the_contract() {
    source::all(async || Finite::default()).await;
}
