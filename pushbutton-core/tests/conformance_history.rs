//! `MemoryHistory` keeps the contracts of `HistoryLog` and `RunHistory`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pushbutton_core::memory::MemoryHistory;
use pushbutton_testkit::conformance::history::{self, Participant};

#[tokio::test]
async fn the_history_keeps_its_contract() {
    let all = Mutex::new(HashMap::<String, MemoryHistory>::new());
    history::all(async |name| {
        let history = all.lock().unwrap().entry(name.to_owned()).or_default().clone();
        Participant { log: Arc::new(history.clone()), history: Arc::new(history) }
    })
    .await;
}
