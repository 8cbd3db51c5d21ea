//! `MemoryQueue` keeps the contracts of `Queue`, `DeadLetters` and the outbox, on a paused clock.

#![allow(clippy::unwrap_used, reason = "a helper of tests panics when it cannot work")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushbutton_core::Queue;
use pushbutton_core::memory::MemoryQueue;
use pushbutton_testkit::conformance::dead_letters::{self, QueueWithDeadLetters};
use pushbutton_testkit::conformance::outbox::{self, QueueWithOutbox};
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
async fn the_dead_letters_of_the_memory_queue_keep_the_contract() {
    let queues = Mutex::default();
    dead_letters::all(async |name: &str| open_in(&queues, name) as Arc<dyn QueueWithDeadLetters>).await;
}

#[tokio::test(start_paused = true)]
async fn the_outbox_of_the_memory_queue_keeps_the_contract() {
    let queues = Mutex::default();
    outbox::all(async |name: &str| open_in(&queues, name) as Arc<dyn QueueWithOutbox>).await;
}
