//! The contract of [`Queue`], as checks.
//!
//! Each check opens queues through `open`: the same name gives another handle to the same queue, as a second operator
//! on another machine would have it; a name that was not used before gives an empty one. Take a lease of a few seconds (two in
//! a file or in memory, four across a network): the checks wait for leases to run out, and hold others by renewing them in time,
//! which a busy machine must be able to. Where the implementation waits on tokio's clock, a paused clock works.
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//!
//! use pushbutton_core::Queue;
//! use pushbutton_core::memory::MemoryQueue;
//! use pushbutton_testkit::conformance::queue;
//!
//! // As the body of a `#[tokio::test]`.
//! async fn the_queue_keeps_its_contract() {
//!     let queues = Mutex::new(HashMap::new());
//!     queue::all(async |name: &str| {
//!         let mut queues = queues.lock().unwrap();
//!         let queue = queues.entry(name.to_owned()).or_insert_with(|| MemoryQueue::with_lease(Duration::from_secs(1)));
//!         Arc::new(queue.clone()) as Arc<dyn Queue>
//!     })
//!     .await;
//! }
//! ```

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::samples;
use pushbutton_core::{Claim, Error, ErrorKind, Job, JobFilter, Queue, RetryClass};
use tokio::time::timeout;

mod claims;
mod control_messages;
mod endings;
mod leases;

mod publishing;
mod runs;

pub use claims::{
    a_dropped_claim_call_loses_nothing, a_filter_leaves_other_jobs_in_their_place, claims_wait_for_a_job,
    exactly_one_claim_gets_a_job,
};
pub use control_messages::{a_manual_job_is_known_as_such, every_subscriber_gets_every_control_message};
pub use endings::{
    a_delay_survives_the_handle_and_blocks_no_other_job, a_job_handed_back_is_not_counted,
    a_retry_waits_and_is_counted, completing_is_final,
};
pub use leases::{
    a_lease_that_runs_out_gives_the_job_to_another, a_lost_claim_can_end_nothing, renewing_keeps_the_lease,
};

pub use publishing::{
    a_job_known_already_is_not_run_again, depth_counts_jobs_where_they_are,
    jobs_come_in_the_order_of_publishing, published_jobs_outlive_the_handle,
};
pub use runs::{
    a_run_that_ended_is_listed_no_more, each_claim_has_a_run_of_its_own,
    every_leased_run_is_listed_for_everyone,
};

/// Runs every check, side by side: each has a queue of its own.
pub async fn all(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let open = &open;
    tokio::join!(
        Box::pin(published_jobs_outlive_the_handle(open)),
        Box::pin(jobs_come_in_the_order_of_publishing(open)),
        Box::pin(a_job_known_already_is_not_run_again(open)),
        Box::pin(depth_counts_jobs_where_they_are(open)),
        Box::pin(claims_wait_for_a_job(open)),
        Box::pin(exactly_one_claim_gets_a_job(open)),
        Box::pin(a_dropped_claim_call_loses_nothing(open)),
        Box::pin(a_filter_leaves_other_jobs_in_their_place(open)),
        Box::pin(renewing_keeps_the_lease(open)),
        Box::pin(a_lease_that_runs_out_gives_the_job_to_another(open)),
        Box::pin(a_lost_claim_can_end_nothing(open)),
        Box::pin(completing_is_final(open)),
        Box::pin(a_retry_waits_and_is_counted(open)),
        Box::pin(a_delay_survives_the_handle_and_blocks_no_other_job(open)),
        Box::pin(a_job_handed_back_is_not_counted(open)),
        Box::pin(each_claim_has_a_run_of_its_own(open)),
        Box::pin(every_leased_run_is_listed_for_everyone(open)),
        Box::pin(a_run_that_ended_is_listed_no_more(open)),
        Box::pin(every_subscriber_gets_every_control_message(open)),
        Box::pin(a_manual_job_is_known_as_such(open)),
    );
}

/// How long a step that must happen may take beyond what the contract makes it wait. No test waits so long where all is well;
/// a busy machine is not a broken contract.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The `n`th of jobs that differ.
pub(super) fn job(n: u64) -> Job {
    samples::job_on(n, "tempest")
}

pub(super) async fn publish(queue: &dyn Queue, job: &Job) {
    queue.publish(job).await.expect("publishing a job works");
}

/// Claims what must be there by now.
pub(super) async fn claim(queue: &dyn Queue) -> Box<dyn Claim> {
    claim_within(queue, TIME_LIMIT).await.expect("a job that may be claimed is claimed")
}

/// Claims what comes within this time, if anything does.
pub(super) async fn claim_within(queue: &dyn Queue, time: Duration) -> Option<Box<dyn Claim>> {
    timeout(time, queue.claim(&JobFilter::any()))
        .await
        .ok()
        .map(|claim| claim.expect("waiting for a job ends in no error"))
}

/// Nothing can be claimed for this time.
pub(super) async fn nothing_for(queue: &dyn Queue, time: Duration, because: &str) {
    if let Some(claim) = claim_within(queue, time).await {
        panic!(
            "{because}, and yet job {} of change {} was claimed",
            claim.job().id,
            claim.job().change.number
        );
    }
}

/// The error that tells a holder to stop at once.
pub(super) fn assert_lost(result: Result<(), Error>, what: &str) {
    match result {
        Ok(()) => panic!("{what} worked although the lease had run out and another holds the job"),
        Err(error) => {
            assert_eq!(
                error.kind(),
                ErrorKind::LeaseLost,
                "{what} on a lost lease failed otherwise: {error:?}"
            );
            assert_eq!(error.retry_class(), RetryClass::Permanent, "{what}: a lost lease does not come back");
        }
    }
}
