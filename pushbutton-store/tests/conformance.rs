//! The parts of the store keep the contracts of their traits. The same name opens the same file again, through another connection, as
//! another process would.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::{ChangeNumber, EventId, EventStore, Journal, PatchsetNumber, Queue};
use pushbutton_store::Store;
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
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_keeps_its_contract() {
    let files = Files::new();
    conformance::queue::all(async |name: &str| {
        Arc::new(files.open(name).await.queue(Duration::from_secs(2))) as Arc<dyn Queue>
    })
    .await;
}

#[tokio::test]
async fn the_ledger_keeps_its_contract() {
    let files = Files::new();
    conformance::event_store::all(async |name: &str| {
        Arc::new(files.open(name).await.ledger()) as Arc<dyn EventStore>
    })
    .await;
}

#[tokio::test]
async fn the_newest_recorded_events_are_listed() {
    let files = Files::new();
    let ledger = files.open("recent").await.ledger();
    assert_eq!(ledger.recent(10).await.unwrap(), []);
    let mut recorded = Vec::new();
    for n in 0..3 {
        let event = EventId::manual(ChangeNumber(n), PatchsetNumber(1), "recent");
        ledger.record(&event).await.unwrap();
        recorded.push(event);
        // They are told apart by the millisecond.
        let recorded_at = Timestamp::now().as_millisecond();
        while Timestamp::now().as_millisecond() == recorded_at {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(ledger.recent(10).await.unwrap(), recorded);
    assert_eq!(ledger.recent(2).await.unwrap(), recorded[1..]);
}

#[tokio::test]
async fn the_journal_keeps_its_contract() {
    let files = Files::new();
    conformance::journal::all(async |name: &str| {
        Arc::new(files.open(name).await.journal()) as Arc<dyn Journal>
    })
    .await;
}
