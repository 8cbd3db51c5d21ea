//! A wrapper that breaks nothing is the part that it wraps: it passes the suites. One that breaks something fails them.
#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what they cannot do")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::memory::{MemoryEventStore, MemoryJournal, MemoryQueue};
use pushbutton_core::samples;
use pushbutton_core::{
    Claim, ControlMessage, ControlMessages, EventStore, Job, JobFilter, Journal, Queue, QueueDepth, Result,
    RunId,
};
use pushbutton_testkit::conformance::{event_store, journal, queue};
use pushbutton_testkit::faults::{
    Fault, FaultPlan, Faulty, FaultyEventStore, FaultyJournal, FaultyQueue, Method, Rates,
};

/// The same part for the same name.
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
async fn a_queue_without_faults_keeps_the_contract() {
    let (queues, schedule) = (Named::new(), FaultPlan::none());
    queue::all(async |name: &str| {
        Arc::new(FaultyQueue::new(queues.get(name, short_queue), &schedule)) as Arc<dyn Queue>
    })
    .await;
    assert!(schedule.calls(Method::Publish) > 0 && schedule.calls(Method::Renew) > 0);
    assert!(schedule.injected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_queue_keeps_the_contract() {
    // Slower than most brokers, faster than a lease.
    let slow = Rates { delay: 0.3, longest_delay: Duration::from_millis(20), ..Rates::default() };
    let (queues, schedule) = (Named::new(), FaultPlan::seeded(1, slow));
    queue::all(async |name: &str| {
        Arc::new(FaultyQueue::new(queues.get(name, short_queue), &schedule)) as Arc<dyn Queue>
    })
    .await;
    assert!(!schedule.injected().is_empty());
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "was leased and not listed")]
async fn the_suite_finds_a_queue_that_forgets_leased_runs() {
    let queues = Named::new();
    let open = async |name: &str| Arc::new(Forgetful(queues.get(name, short_queue))) as Arc<dyn Queue>;
    queue::every_leased_run_is_listed_for_everyone(open).await;
}

#[tokio::test]
async fn event_stores_and_journals_without_faults_keep_their_contracts() {
    let (stores, journals, schedule) = (Named::new(), Named::new(), FaultPlan::none());
    event_store::all(async |name: &str| {
        Arc::new(FaultyEventStore::new(stores.get(name, MemoryEventStore::default), &schedule))
            as Arc<dyn EventStore>
    })
    .await;
    journal::all(async |name: &str| {
        Arc::new(FaultyJournal::new(journals.get(name, MemoryJournal::default), &schedule))
            as Arc<dyn Journal>
    })
    .await;
    assert!(schedule.calls(Method::Record) > 0 && schedule.calls(Method::Intend) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_is_lost_comes_back_after_its_lease() {
    let schedule = FaultPlan::none();
    let queue = Faulty::new(Arc::new(short_queue()), &schedule);
    queue.publish(&samples::job("tempest")).await.unwrap();
    schedule.next(Method::Claim, [Some(Fault::answer_lost())]);
    assert!(queue.claim(&JobFilter::any()).await.is_err());
    let depth = queue.inner().depth().await.unwrap();
    assert_eq!((depth.waiting, depth.leased), (0, 1), "it was granted, and nobody knows");
    assert_eq!(queue.claim(&JobFilter::any()).await.unwrap().job().id, samples::job("tempest").id);
}

/// A queue whose list of leased runs lacks what other handles hold.
struct Forgetful(Arc<MemoryQueue>);

#[async_trait]
impl Queue for Forgetful {
    async fn publish(&self, job: &Job) -> Result<()> {
        self.0.publish(job).await
    }
    async fn claim(&self, filter: &JobFilter) -> Result<Box<dyn Claim>> {
        self.0.claim(filter).await
    }
    async fn broadcast(&self, notice: &ControlMessage) -> Result<()> {
        self.0.broadcast(notice).await
    }
    async fn control_messages(&self) -> Result<ControlMessages> {
        self.0.control_messages().await
    }
    async fn depth(&self) -> Result<QueueDepth> {
        self.0.depth().await
    }
    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        Ok(self.0.leased_runs().await?.into_iter().skip(1).collect())
    }
}
