//! `Claim::run` and `leased_runs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::{Claim, ErrorKind, Queue, Result, RunId};
use tokio::time::{sleep, timeout};

use super::{TIME_LIMIT, claim, complete, job, publish};

/// The next claim of a job starts another run, however the last claim ended.
pub async fn each_claim_starts_a_new_run(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (operator, other) = (open("runs").await, open("runs").await);
    publish(&*operator, &job(1)).await;
    let mut seen = BTreeSet::new();
    for ending in ["handed back", "retried", "expired", "completed"] {
        let held = claim(if seen.len() % 2 == 0 { &*operator } else { &*other }).await;
        assert_eq!(held.job().id, job(1).id, "the job is claimed again");
        assert!(seen.insert(held.run().clone()), "a claim has the run of an earlier one: {:?}", held.run());
        match ending {
            "handed back" => ended_or_lost(held.hand_back().await),
            "retried" => ended_or_lost(held.retry(Duration::ZERO, "no node").await),
            "expired" => drop(held),
            _ => ended_or_lost(complete(&*held).await),
        }
    }
}

/// Every handle lists the runs of all claims that were granted before the call, also a handle that is opened later.
pub async fn every_handle_lists_every_leased_run(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (holder, other) = (open("leased").await, open("leased").await);
    assert_eq!(listed(&*other).await, BTreeSet::new(), "no job is claimed, so no run is listed");
    let mut jobs = 0..;
    held_and_listed(&[&*holder, &*other, &*holder], &open, "leased", &mut jobs).await;
}

/// A run that has ended, in whatever way, is no longer listed.
pub async fn a_run_that_ended_is_no_longer_listed(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (holder, other) = (open("unleased").await, open("unleased").await);
    let mut jobs = 0..;
    for ending in ["complete", "retry", "hand back", "reject", "expire"] {
        let held = held_and_listed(&[&*holder], &open, "unleased", &mut jobs).await.remove(0);
        let run = held.run().clone();
        match ending {
            "complete" => ended_or_lost(complete(&*held).await),
            "retry" => ended_or_lost(held.retry(Duration::from_secs(3600), "no node").await),
            "hand back" => ended_or_lost(held.hand_back().await),
            "reject" => ended_or_lost(held.reject("malformed").await),
            _ => sleep(held.lease()).await,
        }
        for queue in [&holder, &other] {
            let unlisted = async {
                while listed(&**queue).await.contains(&run) {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            let unlisted = timeout(TIME_LIMIT, unlisted).await;
            assert!(
                unlisted.is_ok(),
                "{ending}: the run is still listed {TIME_LIMIT:?} after its lease ended"
            );
        }
    }
}

/// Claims a job with each of these handles. All of them, and a handle that is opened after the claims, must list all
/// runs.
async fn held_and_listed(
    holders: &[&dyn Queue],
    open: &impl AsyncFn(&str) -> Arc<dyn Queue>,
    name: &str,
    jobs: &mut impl Iterator<Item = u64>,
) -> Vec<Box<dyn Claim>> {
    // On a busy machine the leases may expire meanwhile: that round proves nothing, and is repeated.
    for _ in 0..20 {
        let mut held = Vec::new();
        for holder in holders {
            publish(*holder, &job(jobs.next().expect("numbers do not end"))).await;
            held.push(claim(*holder).await);
        }
        let later = open(name).await;
        let mut lists = vec![listed(&*later).await];
        for holder in holders {
            lists.push(listed(*holder).await);
        }
        let mut lasted = true;
        for claim in &held {
            lasted &= claim.renew().await.is_ok();
        }
        if lasted {
            for claim in &held {
                let seen = lists.iter().all(|list| list.contains(claim.run()));
                assert!(seen, "run {} was leased and not listed: {lists:?}", claim.run());
            }
            return held;
        }
    }
    panic!("in twenty rounds the leases expired before all handles had listed them: use a longer lease");
}

async fn listed(queue: &dyn Queue) -> BTreeSet<RunId> {
    let runs = queue.leased_runs().await.expect("listing leased runs works");
    let listed: BTreeSet<_> = runs.iter().cloned().collect();
    assert_eq!(listed.len(), runs.len(), "each leased run is listed once");
    listed
}

/// Accepts that the lease was lost: the claim has ended in both cases.
fn ended_or_lost(result: Result<()>) {
    if let Err(error) = result {
        assert_eq!(error.kind(), ErrorKind::LeaseLost, "a claim could not be ended: {error:?}");
    }
}
