//! The wrappers without faults pass the conformance suites, and a part that breaks its contract fails them.
#![allow(clippy::unwrap_used, reason = "a helper of tests panics when it cannot work")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::memory::{MemoryEventStore, MemoryJournal, MemoryQueue};
use pushbutton_core::samples;
use pushbutton_core::{
    Claim, ControlMessage, ControlMessages, Delivery, EventStore, InstallationId, Job, JobFilter, Journal,
    Queue, QueueDepth, Result, RunId,
};
use pushbutton_testkit::conformance::{event_store, journal, queue};
use pushbutton_testkit::faults::{
    Fault, FaultPlan, Faulty, FaultyEventStore, FaultyJournal, FaultyQueue, Method, Rates,
};

/// Returns the same part for the same name.
struct Named<T>(Mutex<HashMap<String, Arc<T>>>);

impl<T> Named<T> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        Arc::clone(self.0.lock().unwrap().entry(name.to_owned()).or_insert_with(|| Arc::new(make())))
    }
}

fn short_queue() -> MemoryQueue {
    MemoryQueue::with_lease(Duration::from_secs(2))
}

#[tokio::test(start_paused = true)]
async fn a_faulty_queue_without_faults_passes_the_suite() {
    let (queues, plan) = (Named::new(), FaultPlan::none());
    queue::all(async |name: &str| {
        Arc::new(FaultyQueue::new(queues.get(name, short_queue), &plan)) as Arc<dyn Queue>
    })
    .await;
    assert!(plan.calls(Method::Publish) > 0 && plan.calls(Method::Renew) > 0);
    assert!(plan.injected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_queue_passes_the_suite() {
    // Slower than most brokers, and much faster than a lease.
    let slow = Rates::none().with_delay(0.3, Duration::from_millis(20));
    let (queues, plan) = (Named::new(), FaultPlan::seeded(1, slow));
    queue::all(async |name: &str| {
        Arc::new(FaultyQueue::new(queues.get(name, short_queue), &plan)) as Arc<dyn Queue>
    })
    .await;
    assert!(!plan.injected().is_empty());
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "was leased and not listed")]
async fn the_suite_fails_a_queue_that_does_not_list_all_leased_runs() {
    let queues = Named::new();
    let open = async |name: &str| Arc::new(Incomplete(queues.get(name, short_queue))) as Arc<dyn Queue>;
    queue::every_handle_lists_every_leased_run(open).await;
}

#[tokio::test]
async fn faulty_event_stores_and_journals_without_faults_pass_their_suites() {
    let (stores, journals, plan) = (Named::new(), Named::new(), FaultPlan::none());
    event_store::all(async |name: &str| {
        Arc::new(FaultyEventStore::new(stores.get(name, MemoryEventStore::default), &plan))
            as Arc<dyn EventStore>
    })
    .await;
    journal::all(async |name: &str| {
        Arc::new(FaultyJournal::new(journals.get(name, MemoryJournal::default), &plan)) as Arc<dyn Journal>
    })
    .await;
    assert!(plan.calls(Method::Record) > 0 && plan.calls(Method::Intend) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_response_is_lost_can_be_claimed_again_after_its_lease() {
    let plan = FaultPlan::none();
    let queue = Faulty::new(Arc::new(short_queue()), &plan);
    queue.publish(&samples::job("tempest")).await.unwrap();
    plan.next(Method::Claim, [Some(Fault::response_lost())]);
    assert!(queue.claim(&JobFilter::any()).await.is_err());
    let depth = queue.inner().depth().await.unwrap();
    assert_eq!((depth.waiting, depth.leased), (0, 1), "the claim was granted, and its caller does not know");
    assert_eq!(queue.claim(&JobFilter::any()).await.unwrap().job().id, samples::job("tempest").id);
}

/// A queue whose list of leased runs is incomplete.
struct Incomplete(Arc<MemoryQueue>);

#[async_trait]
impl Queue for Incomplete {
    async fn publish(&self, job: &Job) -> Result<()> {
        self.0.publish(job).await
    }
    async fn claim(&self, filter: &JobFilter) -> Result<Box<dyn Claim>> {
        self.0.claim(filter).await
    }
    async fn broadcast(&self, message: &ControlMessage) -> Result<()> {
        self.0.broadcast(message).await
    }
    async fn control_messages(&self) -> Result<ControlMessages> {
        self.0.control_messages().await
    }
    async fn claim_report(&self) -> Result<Box<dyn Delivery>> {
        self.0.claim_report().await
    }
    async fn depth(&self) -> Result<QueueDepth> {
        self.0.depth().await
    }
    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        Ok(self.0.leased_runs().await?.into_iter().skip(1).collect())
    }
    async fn installation(&self) -> Result<InstallationId> {
        self.0.installation().await
    }
}
