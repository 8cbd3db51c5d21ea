//! The parts of the store keep the contracts of their traits. The same name opens the same file again, through another
//! connection, as another process would.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::{ChangeNumber, EventId, EventStore, Journal, PatchsetNumber, Queue};
use pushbutton_store::{Store, StoreConfig, StoreQueue};
use pushbutton_testkit::conformance;
use tempfile::TempDir;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.db"))
    }

    async fn open(&self, name: &str) -> Store {
        Store::open(self.path(name)).await.unwrap()
    }

    async fn queue(&self, name: &str) -> StoreQueue {
        let config = StoreConfig::new(self.path(name)).with_lease(Duration::from_secs(2));
        Store::open_with(config).await.unwrap().queue()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_keeps_its_contract() {
    let files = Files::new();
    conformance::queue::all(async |name| Arc::new(files.queue(name).await) as Arc<dyn Queue>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_step_disturbs_no_run() {
    let files = Files::new();
    conformance::queue::a_clock_step_disturbs_no_claim(async |name, clock| {
        let config = StoreConfig::new(files.path(name)).with_lease(Duration::from_secs(2));
        Arc::new(Store::open_with_clock(config, clock).await.unwrap().queue()) as Arc<dyn Queue>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letters_keep_their_contract() {
    let files = Files::new();
    conformance::dead_letters::all(async |name| {
        Arc::new(files.queue(name).await) as Arc<dyn conformance::dead_letters::QueueWithDeadLetters>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_keeps_its_contract() {
    let files = Files::new();
    conformance::outbox::all(async |name| {
        Arc::new(files.queue(name).await) as Arc<dyn conformance::outbox::QueueWithOutbox>
    })
    .await;
}

#[tokio::test]
async fn the_event_store_keeps_its_contract() {
    let files = Files::new();
    conformance::event_store::all(async |name| {
        Arc::new(files.open(name).await.events()) as Arc<dyn EventStore>
    })
    .await;
}

#[tokio::test]
async fn the_newest_recorded_events_are_listed() {
    let files = Files::new();
    let events = files.open("recent").await.events();
    assert_eq!(events.recent(10).await.unwrap(), []);
    let mut recorded = Vec::new();
    for n in 0..3 {
        let event = EventId::manual(ChangeNumber(n), PatchsetNumber(1), "recent");
        events.record(&event).await.unwrap();
        recorded.push(event);
        // Their order is that of their milliseconds.
        let recorded_at = Timestamp::now().as_millisecond();
        while Timestamp::now().as_millisecond() == recorded_at {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(events.recent(10).await.unwrap(), recorded);
    assert_eq!(events.recent(2).await.unwrap(), recorded[1..]);
}

#[tokio::test]
async fn the_journal_keeps_its_contract() {
    let files = Files::new();
    conformance::journal::all(async |name| Arc::new(files.open(name).await.journal()) as Arc<dyn Journal>)
        .await;
}

#[tokio::test]
async fn the_history_keeps_its_contract() {
    let files = Files::new();
    conformance::history::all(async |name| {
        Arc::new(files.open(name).await.history()) as Arc<dyn conformance::history::RecordingHistory>
    })
    .await;
}
