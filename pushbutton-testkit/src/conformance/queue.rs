//! Checks of the contract of [`Queue`].
//!
//! Each check opens queues through `open`: the same name gives another handle to the same queue, as on another machine;
//! a new name gives an empty queue. Use a lease of a few seconds (two in memory or in a file, four over a network): the
//! checks wait for leases to expire, and must also be able to renew them in time on a busy machine. An implementation
//! that waits only on tokio's clock can run with a paused clock.
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
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! // In the body of a `#[tokio::test(start_paused = true)]`:
//! let queues = Mutex::new(HashMap::new());
//! queue::all(async |name: &str| {
//!     let mut queues = queues.lock().unwrap();
//!     let queue = queues.entry(name.to_owned()).or_insert_with(|| MemoryQueue::with_lease(Duration::from_secs(2)));
//!     Arc::new(queue.clone()) as Arc<dyn Queue>
//! })
//! .await;
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::samples;
use pushbutton_core::{Claim, Error, ErrorKind, Job, JobFilter, Queue, RetryClass};
use tokio::time::timeout;

mod claims;
mod control_messages;
mod endings;
mod installation;
mod leases;
mod publishing;
mod runs;

pub use claims::{
    a_dropped_claim_call_loses_no_job, a_filter_leaves_other_jobs_in_their_place, claims_wait_for_a_job,
    exactly_one_claim_gets_a_job,
};
pub use control_messages::{a_manual_job_keeps_its_cause, every_subscriber_gets_every_control_message};
pub use endings::{
    a_job_that_is_handed_back_is_not_counted, a_retry_delay_survives_a_restart_and_blocks_no_other_job,
    a_retry_is_delayed_and_counted, completing_is_final,
};
pub use installation::{
    an_installation_id_survives_restarts_and_is_shared, participants_that_ask_at_once_get_one_installation_id,
};
pub use leases::{
    a_claim_says_when_its_lease_ends, a_clock_step_disturbs_no_claim,
    a_late_holder_keeps_a_job_that_nobody_claimed, a_lost_claim_cannot_end_the_job,
    a_silence_of_four_fifths_of_the_lease_disturbs_no_claim, an_expired_lease_returns_the_job,
    renewing_keeps_the_lease,
};
pub use publishing::{
    a_known_job_does_not_run_again, depth_counts_jobs_by_state, jobs_are_claimed_in_the_order_of_publishing,
    published_jobs_survive_a_restart, waiting_jobs_are_counted_by_name_and_label,
};
pub use runs::{
    a_run_that_ended_is_no_longer_listed, each_claim_starts_a_new_run, every_handle_lists_every_leased_run,
};

/// Runs all checks concurrently, each on its own queue; except [`a_clock_step_disturbs_no_claim`], which needs queues
/// with a clock.
pub async fn all(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let open = &open;
    tokio::join!(
        Box::pin(published_jobs_survive_a_restart(open)),
        Box::pin(jobs_are_claimed_in_the_order_of_publishing(open)),
        Box::pin(a_known_job_does_not_run_again(open)),
        Box::pin(depth_counts_jobs_by_state(open)),
        Box::pin(waiting_jobs_are_counted_by_name_and_label(open)),
        Box::pin(claims_wait_for_a_job(open)),
        Box::pin(exactly_one_claim_gets_a_job(open)),
        Box::pin(a_dropped_claim_call_loses_no_job(open)),
        Box::pin(a_filter_leaves_other_jobs_in_their_place(open)),
        Box::pin(renewing_keeps_the_lease(open)),
        Box::pin(an_expired_lease_returns_the_job(open)),
        Box::pin(a_lost_claim_cannot_end_the_job(open)),
        Box::pin(a_claim_says_when_its_lease_ends(open)),
        Box::pin(a_silence_of_four_fifths_of_the_lease_disturbs_no_claim(open)),
        Box::pin(a_late_holder_keeps_a_job_that_nobody_claimed(open)),
        Box::pin(completing_is_final(open)),
        Box::pin(a_retry_is_delayed_and_counted(open)),
        Box::pin(a_retry_delay_survives_a_restart_and_blocks_no_other_job(open)),
        Box::pin(a_job_that_is_handed_back_is_not_counted(open)),
        Box::pin(each_claim_starts_a_new_run(open)),
        Box::pin(every_handle_lists_every_leased_run(open)),
        Box::pin(a_run_that_ended_is_no_longer_listed(open)),
        Box::pin(every_subscriber_gets_every_control_message(open)),
        Box::pin(a_manual_job_keeps_its_cause(open)),
        Box::pin(an_installation_id_survives_restarts_and_is_shared(open)),
        Box::pin(participants_that_ask_at_once_get_one_installation_id(open)),
    );
}

/// How long a step may take beyond the time in the contract. It is long because a busy machine breaks no contract; a
/// correct queue never needs it.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A job with the number `n`; different numbers are different jobs.
pub(super) fn job(n: u64) -> Job {
    samples::job_on(n, "tempest")
}

pub(super) async fn publish(queue: &dyn Queue, job: &Job) {
    queue.publish(job).await.expect("publishing a job works");
}

/// Claims the job that must be available.
pub(super) async fn claim(queue: &dyn Queue) -> Box<dyn Claim> {
    claim_within(queue, TIME_LIMIT).await.expect("an available job is claimed")
}

/// Claims a job if one is available within this time.
pub(super) async fn claim_within(queue: &dyn Queue, time: Duration) -> Option<Box<dyn Claim>> {
    timeout(time, queue.claim(&JobFilter::any()))
        .await
        .ok()
        .map(|claim| claim.expect("waiting for a job returns no error"))
}

/// Completes a claimed job as a success.
pub(super) async fn complete(claim: &dyn Claim) -> Result<(), Error> {
    claim.complete(&samples::success(claim.job())).await
}

/// Checks that no job can be claimed for this time.
pub(super) async fn nothing_for(queue: &dyn Queue, time: Duration, because: &str) {
    if let Some(claim) = claim_within(queue, time).await {
        panic!("{because}, but job {} of change {} was claimed", claim.job().id, claim.job().change.number);
    }
}

/// Checks that a call on a lost claim fails with the error that makes its operator stop at once.
pub(super) fn assert_lost(result: Result<(), Error>, what: &str) {
    match result {
        Ok(()) => panic!("{what} worked although the lease had expired and another operator holds the job"),
        Err(error) => {
            assert_eq!(
                error.kind(),
                ErrorKind::LeaseLost,
                "{what} on a lost claim failed with another error: {error:?}"
            );
            assert_eq!(error.retry_class(), RetryClass::Permanent, "{what}: a lost lease is permanent");
        }
    }
}
