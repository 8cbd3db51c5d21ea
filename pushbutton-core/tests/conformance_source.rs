//! `MemorySource` keeps the contract of `EventSource`.

#![allow(clippy::unwrap_used, reason = "a helper of tests panics when it cannot work")]

use async_trait::async_trait;
use pushbutton_core::memory::MemorySource;
use pushbutton_core::samples;
use pushbutton_core::{Event, EventId, EventSource};
use pushbutton_testkit::conformance::source::{self, Harness};
use tokio::sync::mpsc;

/// Comments by bob. Equal comments are counted, as in a real source, so that each has its own id.
#[derive(Default)]
struct Comments(Vec<String>);

impl Comments {
    fn next(&mut self, text: &str) -> Event {
        self.0.push(text.to_owned());
        let nth = self.0.iter().filter(|earlier| *earlier == text).count();
        let mut event = samples::comment("bob", text);
        if let Some(author) = event.kind.actor() {
            let nth = u32::try_from(nth).unwrap();
            event.id = EventId::comment(event.change.number, event.patchset.number, author, text, nth);
        }
        event
    }
}

/// A live source. Comments before it is opened are lost.
#[derive(Default)]
struct Live {
    comments: Comments,
    upstream: Option<mpsc::Sender<Event>>,
}

#[async_trait]
impl Harness for Live {
    async fn comment(&mut self, text: &str) {
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

/// A source that ends after the comments that were added before it was opened.
#[derive(Default)]
struct Finite {
    comments: Comments,
    events: Vec<Event>,
}

#[async_trait]
impl Harness for Finite {
    async fn comment(&mut self, text: &str) {
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
async fn a_live_memory_source_keeps_the_contract() {
    source::all(async || Live::default()).await;
}

#[tokio::test]
async fn a_finite_memory_source_keeps_the_contract() {
    source::all(async || Finite::default()).await;
}
