//! The ledger in memory keeps the contract of `Ledger`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pushbutton_core::Ledger;
use pushbutton_core::memory::MemoryLedger;
use pushbutton_testkit::conformance::ledger;

#[tokio::test]
async fn the_memory_ledger_keeps_the_contract() {
    let all = Mutex::new(HashMap::<String, Arc<MemoryLedger>>::new());
    ledger::all(async |name: &str| {
        let ledger = all.lock().unwrap().entry(name.to_owned()).or_default().clone();
        ledger as Arc<dyn Ledger>
    })
    .await;
}
