//! Real servers are killed, frozen, restarted and disconnected at random under a handler and two operators, while
//! comments trigger jobs, two each. Gerrit refuses comments for a while, and is away for longer than a run; operators
//! lose their `ansible-playbook`; the executor of a third operator panics. At the end each trigger has exactly one
//! comment with the results of both jobs, and the cloud is empty: by Gerrit's own records and by the cloud's own lists.
//!
//! `CHAOS_JOBS` (30), `CHAOS_SEED` (random, shown) and `CHAOS_RABBITMQ` (4, or 3) vary the run. `make chaos` is the
//! long one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a lab that does not work fails the test")]

mod configuration;
mod embedded;
mod leaks;
mod processes;
mod records;
mod report;
mod rng;
mod run_log;
mod schedule;
mod servers;
mod targets;
mod triggers;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pushbutton_testbed::{Change, NovaService, Version, ansible_bin, until};
use tempfile::TempDir;

use crate::processes::command;
use crate::records::{Count, Records};
use crate::rng::Rng;
use crate::run_log::{EndOnDrop, RunLog};
use crate::schedule::{PlannedFault, Target};
use crate::servers::{OWNER, Proxies, Servers, Site};
use crate::targets::{FaultTarget, inject};
use crate::triggers::Trigger;

/// After the last fault the run fails when for so long no comment is posted and nothing disappears from the cloud.
const STALL_TIMEOUT: Duration = Duration::from_secs(480);

/// The parameters of a run.
struct Plan {
    /// Each calls for two jobs.
    events: usize,
    seed: u64,
    version: Version,
    faults: Vec<PlannedFault>,
    triggers: Vec<Trigger>,
}

impl Plan {
    fn of_environment() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
        };
        let events = (number("CHAOS_JOBS").unwrap_or(30) as usize).div_ceil(2);
        let seed = number("CHAOS_SEED")
            .unwrap_or_else(|| u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs()));
        let version = match number("CHAOS_RABBITMQ") {
            Some(3) => Version::V3,
            Some(4) | None => Version::V4,
            Some(other) => panic!("CHAOS_RABBITMQ={other} is neither 3 nor 4"),
        };
        let mut rng = Rng::new(seed);
        let faults = schedule::schedule(&mut rng.fork(), 2 * events);
        let triggers = triggers::plan(&mut rng.fork(), events, schedule::window(&faults));
        Self { events, seed, version, faults, triggers }
    }
}

#[test]
fn nothing_is_lost_nothing_doubled_nothing_leaked() {
    let plan = Plan::of_environment();
    let mut folder = TempDir::with_prefix("pushbutton-chaos-").unwrap();
    folder.disable_cleanup(true);
    let log = RunLog::start(folder.path());
    let Plan { events, seed, version, .. } = plan;
    log.print(&format!(
        "CHAOS_SEED={seed} CHAOS_JOBS={} CHAOS_RABBITMQ={}; logs in {}",
        2 * events,
        if version == Version::V3 { 3 } else { 4 },
        folder.path().display()
    ));
    let ansible = ansible_bin();
    let servers = Servers::start(version);
    let proxies = Proxies::before(&servers, &[Target::Handler, Target::Operator1, Target::Operator2]);
    let keypair = servers.cloud.keypair(OWNER);
    let site =
        Site { servers: &servers, proxies: &proxies, keypair: &keypair, folder: folder.path(), ansible };
    let changes = servers.push(triggers::changes_for(events));
    assert!(leaks::left(&servers.cloud).is_empty(), "a new cloud is empty");

    let (count, left) = run(&plan, &site, &changes, folder.path().into());
    let leaked = left.len();
    let Count { triggered, commented, lost, doubled } = count;
    log.print_result(&format!(
        "jobs {}, triggered {triggered}, commented {commented}, lost {lost}, doubled {doubled}, leaked {leaked}",
        2 * events
    ));
    assert_eq!(
        (triggered, commented, lost, doubled, leaked),
        (events, events, 0, 0, 0),
        "logs are in {}",
        folder.path().display()
    );
    folder.disable_cleanup(std::env::var_os("CHAOS_KEEP").is_some());
}

/// The run itself. Returns its counts, and what is left on the cloud.
fn run(plan: &Plan, site: &Site<'_>, changes: &[Change], folder: PathBuf) -> (Count, Vec<String>) {
    let (servers, proxies) = (site.servers, site.proxies);
    site.write_clouds();
    let mut handler = site.start(Target::Handler, "handler", "handler");
    let mut first = site.start(Target::Operator1, "operator-1", "operator");
    let mut second = site.start(Target::Operator2, "operator-2", "operator");
    let embedded = site.start_embedded();
    let logs = [handler.log(), first.log(), second.log()];
    until("the handler reads the event stream", STALL_TIMEOUT, || {
        std::fs::read_to_string(&logs[0]).unwrap().contains("the event stream runs").then_some(())
    });
    let log = RunLog::start(&folder);
    let at_rest = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let end = EndOnDrop(&log);
        let mut targets: Vec<(Target, Box<dyn FaultTarget + Send + '_>)> = vec![
            (Target::Broker, Box::new(&servers.broker)),
            (Target::Gerrit, Box::new(&servers.gerrit)),
            (Target::NovaApi, Box::new((&servers.cloud, NovaService::Api))),
            (Target::NovaConductor, Box::new((&servers.cloud, NovaService::Conductor))),
            (Target::NovaCompute, Box::new((&servers.cloud, NovaService::Compute))),
        ];
        for (target, process) in [
            (Target::Handler, &mut handler),
            (Target::Operator1, &mut first),
            (Target::Operator2, &mut second),
        ] {
            targets.push((target, Box::new(process)));
        }
        let mut threads = Vec::new();
        let (parts, log, at_rest) = (targets.len() + 1, &log, &at_rest);
        for (name, mut target) in targets {
            let faults: Vec<PlannedFault> =
                plan.faults.iter().filter(|fault| fault.target == name).copied().collect();
            let proxies = proxies.of(name);
            threads.push(scope.spawn(move || {
                for fault in &faults {
                    log.wait_until(fault.at, || target.supervise());
                    log.print(&format!("{name}: {} ({:.1} s)", fault.kind, fault.lasts.as_secs_f64()));
                    inject(target.as_mut(), &proxies, fault, log);
                }
                at_rest.fetch_add(1, Relaxed);
                log.wait_until(Duration::MAX, || target.supervise());
            }));
        }
        threads.push(scope.spawn(|| {
            triggers::comment(&servers.gerrit, changes, &plan.triggers, log);
            at_rest.fetch_add(1, Relaxed);
            log.wait_until(Duration::MAX, || {});
        }));
        let check = || {
            if threads.iter().any(|thread| thread.is_finished()) {
                panic!("a thread of the test has failed: see above");
            }
        };
        while at_rest.load(Relaxed) < parts {
            check();
            log.wait(Duration::from_millis(200));
        }
        log.print("all faults are over, all comments are posted");
        let gerrit = || servers.gerrit.read().unwrap();
        settle(log, "comments missing", || {
            check();
            retry_undelivered(site, log);
            let answers = records::answers(&gerrit(), changes).unwrap();
            (plan.events.saturating_sub(answers), answers)
        });
        settle(log, "things left on the cloud", || {
            check();
            let left = leaks::left(&servers.cloud).len();
            (left, left)
        });
        drop(end);
    });
    for process in [&mut handler, &mut first, &mut second] {
        process.end();
    }
    let (embedded, panics) = embedded.end();
    let records = Records::read(&servers.gerrit.read().unwrap(), changes).unwrap();
    let left = leaks::left(&servers.cloud);
    for thing in &left {
        log.print(&format!("leaked: {thing}"));
    }
    for (change, job) in records.triggered.keys().filter(|key| !records.answers.contains_key(*key)) {
        log.print(&format!("lost: {job} on change {change}"));
    }
    for (key, answers) in records.answers.iter().filter(|(_, answers)| answers.len() > 1) {
        log.print(&format!("doubled: {} on change {}: {answers:?}", key.1, key.0));
    }
    let restarts: usize =
        [&handler, &first, &second].iter().map(|process| process.unexpected_ends.len()).sum();
    log.print(&report::faults(&plan.faults));
    log.print(&report::work(&logs));
    log.print(&format!("embedded operator: {embedded:?}; stages that panicked: {panics}"));
    log.print(&format!("processes that ended by themselves and were restarted: {restarts}"));
    log.print(&report::results(&records));
    log.print(&report::waits(&records));
    assert_eq!(records.negative_votes, 0, "an infrastructure failure never gets a negative vote");
    (records.count(), left)
}

/// Does what a person does who was alerted that Gerrit refused reports.
fn retry_undelivered(site: &Site<'_>, log: &RunLog) {
    let retried = command(&site.folder.join("handler")).args(["reports", "retry", "--all"]).output().unwrap();
    let output = String::from_utf8_lossy(&retried.stdout);
    assert!(retried.status.success(), "{output}{}", String::from_utf8_lossy(&retried.stderr));
    if !output.starts_with("0 ") {
        log.print(&format!("reports retry --all: {}", output.trim()));
    }
}

/// Waits until nothing is missing. Gives up when there is no progress for [`STALL_TIMEOUT`]. `look` returns how much is
/// missing, and a number that changes with any progress.
fn settle(log: &RunLog, what: &str, mut look: impl FnMut() -> (usize, usize)) {
    let (mut last, mut changed_at) = (None, Instant::now());
    loop {
        let (missing, progress) = look();
        if missing == 0 {
            return;
        }
        if last != Some(progress) {
            log.print(&format!("{what}: {missing}"));
            (last, changed_at) = (Some(progress), Instant::now());
        }
        if changed_at.elapsed() > STALL_TIMEOUT {
            return log.print(&format!("{what}: {missing}, and no progress for {STALL_TIMEOUT:?}"));
        }
        log.wait(Duration::from_secs(2));
    }
}
