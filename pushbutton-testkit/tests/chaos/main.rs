//! A whole installation in memory, with random faults of every kind that the testkit has, for days of paused time.
//!
//! A handler and two operators share one queue. Calls of all their parts fail, lose responses, are delayed or hang; the
//! processes are killed, shut down and started again; the queue, the cloud and the review are unreachable for a while.
//! Then everything is repaired, and these must hold: every job is reported exactly once, no patch gets a false failure,
//! no job ran twice at the same time, and no resource is left behind.
//!
//! `CHAOS_SEEDS=500` runs more seeds, `CHAOS_SEED=7` runs only that seed. Retries have random jitter, so a seed repeats
//! the faults but not the exact order of all events.
#![allow(clippy::unwrap_used, reason = "a helper of tests panics when it cannot work")]

mod cloud;
mod lab;
mod processes;
mod review;
mod rng;
mod upstream;

use std::time::Duration;

use crate::lab::Lab;

/// Seeds that `cargo test` runs.
const SEEDS: u64 = 6;

#[test]
fn every_job_is_reported_once_and_nothing_is_left_behind() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("CHAOS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("CHAOS_SEEDS").unwrap_or(SEEDS) + 1,
    };
    let mut failed = Vec::new();
    for seed in seeds {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let outcome = runtime.block_on(async {
            let lab = Lab::new(seed);
            lab.run().await;
            lab.outcome().await
        });
        println!("seed {seed}: {outcome}");
        if !outcome.errors.is_empty() {
            failed.push((seed, outcome.errors));
        }
    }
    assert!(failed.is_empty(), "seeds and their errors: {failed:#?}");
}

/// How long one seed may take, in paused time. A few hours are usual.
const TIME_LIMIT: Duration = Duration::from_secs(2 * 24 * 3600);
