//! The ledger in memory keeps the contract of `EventStore`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pushbutton_core::EventStore;
use pushbutton_core::memory::MemoryEventStore;
use pushbutton_testkit::conformance::event_store;

#[tokio::test]
async fn the_memory_ledger_keeps_the_contract() {
    let all = Mutex::new(HashMap::<String, Arc<MemoryEventStore>>::new());
    ledger::all(async |name: &str| {
        let ledger = all.lock().unwrap().entry(name.to_owned()).or_default().clone();
        ledger as Arc<dyn EventStore>
    })
    .await;
}
