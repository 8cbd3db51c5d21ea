//! The queue in memory keeps the contract of `Queue`, on a paused clock.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what they cannot do")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushbutton_core::Queue;
use pushbutton_core::memory::MemoryQueue;
use pushbutton_testkit::conformance::dead_letters::{self, QueueWithDeadLetters};
use pushbutton_testkit::conformance::queue;

fn open_in(queues: &Mutex<HashMap<String, MemoryQueue>>, name: &str) -> Arc<MemoryQueue> {
    let mut queues = queues.lock().unwrap();
    let new = || MemoryQueue::with_lease(Duration::from_secs(2));
    Arc::new(queues.entry(name.to_owned()).or_insert_with(new).clone())
}

#[tokio::test(start_paused = true)]
async fn the_memory_queue_keeps_the_contract() {
    let queues = Mutex::default();
    queue::all(async |name: &str| open_in(&queues, name) as Arc<dyn Queue>).await;
}

#[tokio::test(start_paused = true)]
async fn its_dead_letters_keep_the_contract() {
    let queues = Mutex::default();
    dead_letters::all(async |name: &str| open_in(&queues, name) as Arc<dyn QueueWithDeadLetters>).await;
}
