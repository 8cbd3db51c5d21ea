//! A deterministic simulation: the state machine, replicas and decisions of this crate in a world without a broker,
//! where everything goes wrong that can. A seed decides all that happens.
//!
//! - [`world`]: whose turn it is, and how long that takes.
//! - [`broker`]: a log and an inbox.
//! - [`participant`]: a process, with the production code's decisions.
//! - [`clock`]: the two clocks of a participant.
//! - [`faults`]: broken connections, crashes, pauses, wrong clocks, a lost end or beginning of the log.
//! - [`invariants`]: what must be true all the same.
//!
//! A failure names its seed; `PUSHBUTTON_SIMULATION_SEED=N cargo test -p pushbutton-amqp --lib simulation` replays it
//! and prints what happened. `PUSHBUTTON_SIMULATION_SEEDS=FROM..TO` tries others.

mod broker;
mod clock;
mod faults;
mod invariants;
mod participant;
mod world;

use std::env::var;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pushbutton_core::samples::job_on;
use pushbutton_core::{Account, Buildset, ChangeNumber, EventId, Job, JobId, JobName, PatchsetNumber};
use tokio::time::Instant;

use super::rules::{Rule, without};
use world::World;

const SEEDS: Range<u64> = 0..10_000;
/// In how many worlds a broken rule must be noticed.
const BROKEN_SEEDS: u64 = 2_000;

fn seeds() -> Range<u64> {
    match var("PUSHBUTTON_SIMULATION_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").unwrap();
            from.parse().unwrap()..to.parse().unwrap()
        }
        Err(_) => SEEDS,
    }
}

/// Runs one world; returns what happened in it, if that is asked for, and what was wrong.
fn run(seed: u64, start: Instant, jobs: &[Job], traces: bool) -> (Vec<String>, Result<(), String>) {
    let mut world = World::new(seed, start, jobs);
    world.trace = traces.then(Vec::new);
    let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|_| Err("a panic".to_owned()));
    (world.trace.unwrap_or_default(), result)
}

fn start() -> (Instant, Vec<Job>) {
    let set = |change: u64, names: &[&str], cause: u32| {
        let event =
            EventId::comment(ChangeNumber(change), PatchsetNumber(1), &Account::of("bob"), "recheck", cause);
        let names: Vec<JobName> = names.iter().map(|name| name.parse().unwrap()).collect();
        let buildset = Buildset::of(&event, names.clone());
        let job = |name: &JobName| {
            let mut job = job_on(change, name.as_str()).with_buildset(buildset.clone());
            job.id = JobId::of(&event, name);
            job
        };
        names.iter().map(job).collect::<Vec<_>>()
    };
    // The third may absorb the second's job, or be absorbed by it.
    let sets = [
        set(0, &["tempest", "unit"], 1),
        set(1, &["tempest"], 1),
        set(1, &["tempest", "unit"], 2),
        set(2, &["tempest"], 1),
    ];
    (Instant::now(), sets.into_iter().flatten().collect())
}

#[test]
fn every_invariant_holds_in_every_world() {
    let (start, jobs) = start();
    if let Ok(seed) = var("PUSHBUTTON_SIMULATION_SEED") {
        let (trace, result) = run(seed.parse().unwrap(), start, &jobs, true);
        println!("{}", trace.join("\n"));
        return assert_eq!(result, Ok(()));
    }
    for seed in seeds() {
        if let (_, Err(why)) = run(seed, start, &jobs, false) {
            panic!("{why}\nreplay: PUSHBUTTON_SIMULATION_SEED={seed}");
        }
    }
}

/// The simulation is tested, too: it must notice when a rule is broken on which the guarantees rest.
#[test]
fn every_broken_rule_is_noticed() {
    // What is seen first, among what may be.
    let act = &["act at the same time", "ended twice"];
    // A participant whose state lacks something: whichever of its consequences comes first.
    let lack = &[
        "differs",
        "has another state",
        "is neither",
        "is lost",
        "not all jobs end",
        "at the same time",
        "twice",
    ];
    let broken: [(Rule, &[&str]); 13] = [
        (Rule::ClaimUnchanged, act),
        (Rule::ReportUnchanged, &["deliver report", "is delivered again"]),
        (Rule::LeaseWaits, act),
        (Rule::HolderStopsFirst, act),
        (Rule::OneLeader, &["lead at the same time"]),
        (Rule::KnownJobSkipped, act),
        (Rule::AcknowledgeReadBack, &["is lost", "not all jobs end"]),
        (Rule::EventNewOnce, &["was new twice"]),
        (Rule::HeardOnce, &["twice"]),
        (Rule::SnapshotWhole, lack),
        (Rule::LossNoticed, lack),
        (Rule::LossRestored, lack),
        (Rule::GapNoticed, lack),
    ];
    let (start, jobs) = start();
    for (rule, expected) in broken {
        let found = without(rule, || {
            (0..BROKEN_SEEDS).find_map(|seed| Some((seed, run(seed, start, &jobs, false).1.err()?)))
        });
        let (seed, why) = found.unwrap_or_else(|| panic!("no seed notices that {rule:?} is broken"));
        println!("{rule:?}: seed {seed}: {}", why.lines().next().unwrap_or_default());
        assert!(expected.iter().any(|part| why.contains(part)), "{rule:?}: seed {seed}: {why}");
    }
}

#[test]
fn a_seed_is_always_the_same_world() {
    let (start, jobs) = start();
    for seed in 0..20 {
        let (first, second) = (run(seed, start, &jobs, true).0, run(seed, start, &jobs, true).0);
        assert!(first.len() > 10);
        assert_eq!(first, second, "seed {seed}");
    }
}
