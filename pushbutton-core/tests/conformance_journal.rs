//! `MemoryJournal` keeps the contract of `Journal`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pushbutton_core::Journal;
use pushbutton_core::memory::MemoryJournal;
use pushbutton_testkit::conformance::journal;

#[tokio::test]
async fn the_memory_journal_keeps_the_contract() {
    let all = Mutex::new(HashMap::<String, Arc<MemoryJournal>>::new());
    journal::all(async |name: &str| {
        let journal = all.lock().unwrap().entry(name.to_owned()).or_default().clone();
        journal as Arc<dyn Journal>
    })
    .await;
}
