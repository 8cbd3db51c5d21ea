//! The queue in memory keeps the contract of `Queue`, on a paused clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushbutton_core::Queue;
use pushbutton_core::memory::MemoryQueue;
use pushbutton_testkit::conformance::queue;

#[tokio::test(start_paused = true)]
async fn the_memory_queue_keeps_the_contract() {
    let queues = Mutex::new(HashMap::new());
    queue::all(async |name: &str| {
        let mut queues = queues.lock().unwrap();
        let queue =
            queues.entry(name.to_owned()).or_insert_with(|| MemoryQueue::with_lease(Duration::from_secs(2)));
        Arc::new(queue.clone()) as Arc<dyn Queue>
    })
    .await;
}
