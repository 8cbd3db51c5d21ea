//! The event store in memory keeps the contract of `EventStore`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pushbutton_core::EventStore;
use pushbutton_core::memory::MemoryEventStore;
use pushbutton_testkit::conformance::event_store;

#[tokio::test]
async fn the_memory_ledger_keeps_the_contract() {
    let all = Mutex::new(HashMap::<String, Arc<MemoryEventStore>>::new());
    event_store::all(async |name: &str| {
        let store = all.lock().unwrap().entry(name.to_owned()).or_default().clone();
        store as Arc<dyn EventStore>
    })
    .await;
}
