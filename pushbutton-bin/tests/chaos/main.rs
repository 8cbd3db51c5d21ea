//! Real servers are killed, frozen, restarted and cut off at random under a handler and two operators, while people ask for jobs. In
//! the end each trigger has exactly one comment, and the cloud is empty: by Gerrit's own records and by the cloud's own lists.
//!
//! `CHAOS_JOBS` (30), `CHAOS_SEED` (random, shown) and `CHAOS_RABBITMQ` (4, or 3) vary the run. `make chaos` is the long one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a lab that does not work must end the test, loudly")]

mod configuration;
mod crew;
mod dice;
mod leaks;
mod records;
mod schedule;
mod servers;
mod show;
mod table;
mod triggers;
mod victims;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pushbutton_testbed::{Change, NovaService, Version, ansible_bin, until};
use tempfile::TempDir;

use crate::dice::Dice;
use crate::records::{Count, Records};
use crate::schedule::{Blow, Target};
use crate::servers::{Lines, OWNER, Servers, Site};
use crate::show::{Curtain, Show};
use crate::triggers::Trigger;
use crate::victims::{Victim, strike};

/// Once all faults are over, something must move within so long: a comment, or something that goes from the cloud.
const PATIENCE: Duration = Duration::from_secs(480);

/// What a run is to be.
struct Plan {
    jobs: usize,
    seed: u64,
    version: Version,
    blows: Vec<Blow>,
    triggers: Vec<Trigger>,
}

impl Plan {
    fn of_environment() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is no number")))
        };
        let jobs = number("CHAOS_JOBS").unwrap_or(30) as usize;
        let seed = number("CHAOS_SEED")
            .unwrap_or_else(|| u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs()));
        let version = match number("CHAOS_RABBITMQ") {
            Some(3) => Version::V3,
            Some(4) | None => Version::V4,
            Some(other) => panic!("CHAOS_RABBITMQ={other} is neither 3 nor 4"),
        };
        let mut dice = Dice::new(seed);
        let blows = schedule::schedule(&mut dice.fork(), jobs);
        let triggers = triggers::plan(&mut dice.fork(), jobs, schedule::window(&blows));
        Self { jobs, seed, version, blows, triggers }
    }
}

#[test]
fn nothing_is_lost_nothing_doubled_nothing_leaked() {
    let plan = Plan::of_environment();
    let mut folder = TempDir::with_prefix("pushbutton-chaos-").unwrap();
    folder.disable_cleanup(true);
    let show = Show::begin(folder.path());
    let Plan { jobs, seed, version, .. } = plan;
    show.say(&format!(
        "CHAOS_SEED={seed} CHAOS_JOBS={jobs} CHAOS_RABBITMQ={}; logs in {}",
        if version == Version::V3 { 3 } else { 4 },
        folder.path().display()
    ));
    let ansible = ansible_bin();
    let servers = Servers::start(version);
    let lines = Lines::before(&servers, &[Target::Handler, Target::Operator1, Target::Operator2]);
    let keypair = servers.cloud.keypair(OWNER);
    let site = Site { servers: &servers, lines: &lines, keypair: &keypair, folder: folder.path(), ansible };
    let changes = servers.push(triggers::changes_for(jobs));
    assert!(leaks::left(&servers.cloud).is_empty(), "a new cloud is empty");

    let (count, left) = run(&plan, &site, &changes, folder.path().into());
    let leaked = left.len();
    let Count { triggered, commented, lost, doubled } = count;
    show.conclude(&format!(
        "triggered {triggered}, commented {commented}, lost {lost}, doubled {doubled}, leaked {leaked}"
    ));
    assert_eq!(
        (triggered, commented, lost, doubled, leaked),
        (jobs, jobs, 0, 0, 0),
        "logs are in {}",
        folder.path().display()
    );
    folder.disable_cleanup(std::env::var_os("CHAOS_KEEP").is_some());
}

/// The run itself; what it came to, and what is left on the cloud.
fn run(plan: &Plan, site: &Site<'_>, changes: &[Change], folder: PathBuf) -> (Count, Vec<String>) {
    let (servers, lines) = (site.servers, site.lines);
    let mut handler = site.start(Target::Handler, "handler", "handler");
    let mut first = site.start(Target::Operator1, "operator-1", "operator");
    let mut second = site.start(Target::Operator2, "operator-2", "operator");
    let logs = [handler.log(), first.log(), second.log()];
    until("the handler hears Gerrit", PATIENCE, || {
        std::fs::read_to_string(&logs[0]).unwrap().contains("the event stream runs").then_some(())
    });
    let show = Show::begin(&folder);
    let at_rest = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let curtain = Curtain(&show);
        let mut cast: Vec<(Target, Box<dyn Victim + Send + '_>)> = vec![
            (Target::Broker, Box::new(&servers.broker)),
            (Target::Gerrit, Box::new(&servers.gerrit)),
            (Target::NovaApi, Box::new((&servers.cloud, NovaService::Api))),
            (Target::NovaConductor, Box::new((&servers.cloud, NovaService::Conductor))),
            (Target::NovaCompute, Box::new((&servers.cloud, NovaService::Compute))),
        ];
        for (target, crew) in [
            (Target::Handler, &mut handler),
            (Target::Operator1, &mut first),
            (Target::Operator2, &mut second),
        ] {
            cast.push((target, Box::new(crew)));
        }
        let mut threads = Vec::new();
        let (parts, show, at_rest) = (cast.len() + 1, &show, &at_rest);
        for (target, mut victim) in cast {
            let blows: Vec<Blow> = plan.blows.iter().filter(|blow| blow.target == target).copied().collect();
            let lines = lines.of(target);
            threads.push(scope.spawn(move || {
                for blow in &blows {
                    show.wait_until(blow.at, || victim.look_after());
                    show.say(&format!("{target}: {} ({:.1} s)", blow.fault, blow.lasts.as_secs_f64()));
                    strike(victim.as_mut(), &lines, blow, show);
                }
                at_rest.fetch_add(1, Relaxed);
                show.wait_until(Duration::MAX, || victim.look_after());
            }));
        }
        threads.push(scope.spawn(|| {
            triggers::comment(&servers.gerrit, changes, &plan.triggers, show);
            at_rest.fetch_add(1, Relaxed);
            show.wait_until(Duration::MAX, || {});
        }));
        let check = || {
            if threads.iter().any(|thread| thread.is_finished()) {
                panic!("a part of the lab has failed: see above");
            }
        };
        while at_rest.load(Relaxed) < parts {
            check();
            show.wait(Duration::from_millis(200));
        }
        show.say("all faults are over, all comments are made");
        let gerrit = || servers.gerrit.read().unwrap();
        settle(show, "comments missing", || {
            check();
            let answers = records::answers(&gerrit(), changes).unwrap();
            (plan.jobs.saturating_sub(answers), answers)
        });
        settle(show, "things left on the cloud", || {
            check();
            let left = leaks::left(&servers.cloud).len();
            (left, left)
        });
        drop(curtain);
    });
    for crew in [&mut handler, &mut first, &mut second] {
        crew.end();
    }
    let records = Records::read(&servers.gerrit.read().unwrap(), changes).unwrap();
    let left = leaks::left(&servers.cloud);
    for thing in &left {
        show.say(&format!("leaked: {thing}"));
    }
    for (change, job) in records.triggered.keys().filter(|key| !records.answers.contains_key(*key)) {
        show.say(&format!("lost: {job} on change {change}"));
    }
    for (key, answers) in records.answers.iter().filter(|(_, answers)| answers.len() > 1) {
        show.say(&format!("doubled: {} on change {}: {answers:?}", key.1, key.0));
    }
    let again: usize = [&handler, &first, &second].iter().map(|crew| crew.ended_by_itself.len()).sum();
    show.say(&table::faults(&plan.blows));
    show.say(&table::work(&logs));
    show.say(&format!("processes that gave up by themselves and were started again: {again}"));
    show.say(&table::results(&records));
    show.say(&table::waits(&records));
    assert_eq!(records.blamed, 0, "a lab that breaks is never the patch's fault");
    (records.count(), left)
}

/// Waits until nothing is missing any more; gives up when nothing has moved for long. `look` says how much is missing, and a number that moves.
fn settle(show: &Show, what: &str, mut look: impl FnMut() -> (usize, usize)) {
    let (mut last, mut moved_at) = (None, Instant::now());
    loop {
        let (missing, place) = look();
        if missing == 0 {
            return;
        }
        if last != Some(place) {
            show.say(&format!("{what}: {missing}"));
            (last, moved_at) = (Some(place), Instant::now());
        }
        if moved_at.elapsed() > PATIENCE {
            return show.say(&format!("{what}: {missing}, and nothing has moved for {PATIENCE:?}"));
        }
        show.wait(Duration::from_secs(2));
    }
}
