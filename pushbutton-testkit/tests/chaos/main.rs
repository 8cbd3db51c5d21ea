//! A whole installation in memory, broken in every way that the testkit knows, by chance and for days of its own time.
//!
//! A handler and two operators share one queue. Every part of theirs fails, loses answers, is slow or hangs; each of them is killed, ended
//! and started again; the queue, the cloud and the review are away for a while, now and then. Then all is repaired, and what must hold is
//! counted: every job was reported exactly once, nothing says a patch failed that did not, no job ran twice at once, nothing is left.
//!
//! `CHAOS_SEEDS=500` runs more of them, `CHAOS_SEED=7` that one alone. Retries have jitter of their own, so that a seed leads to the same
//! faults and not to the same order of everything.
#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what they cannot do")]

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
fn nothing_is_lost_nothing_doubled_nothing_leaked() {
    let asked = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match asked("CHAOS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..asked("CHAOS_SEEDS").unwrap_or(SEEDS) + 1,
    };
    let mut broken = Vec::new();
    for seed in seeds {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let outcome = runtime.block_on(async {
            let lab = Lab::new(seed);
            lab.run().await;
            lab.outcome().await
        });
        println!("seed {seed}: {outcome}");
        if !outcome.faults.is_empty() {
            broken.push((seed, outcome.faults));
        }
    }
    assert!(broken.is_empty(), "seeds and what they broke: {broken:#?}");
}

/// Longer than any of it may take, in the lab's own time: a few hours are usual.
const TIME_LIMIT: Duration = Duration::from_secs(2 * 24 * 3600);
