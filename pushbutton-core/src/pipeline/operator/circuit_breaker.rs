//! A circuit breaker over provisioning: an operator whose cloud makes no nodes stops claiming jobs, and tries one now
//! and then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::no_room::NoRoom;
use crate::clock::Clock;
use crate::duration::{HumanDuration, human};
use crate::names::RunId;
use crate::retry::Backoff;
use crate::setters::setters;

/// When an operator stops claiming because no node comes up, and for how long. In a configuration this is
/// `operator.breaker:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct BreakerPolicy {
    /// The number of consecutive runs without a node that opens the breaker; 0 for never. Default: 5.
    pub failures: u32,
    /// The first pause before one job is tried. It doubles each time that this job gets no node either. Up to half of
    /// it is cut at random, so that operators that lost the same cloud do not try at the same moment. Default: a
    /// minute.
    #[serde(with = "human")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::duration::HumanDuration"))]
    pub pause: Duration,
    /// The longest pause. Default: half an hour.
    #[serde(with = "human")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::duration::HumanDuration"))]
    pub pause_cap: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(60), pause_cap: Duration::from_secs(30 * 60) }
    }
}

setters!(BreakerPolicy { failures / with_failures: u32, pause / with_pause: Duration, pause_cap / with_pause_cap: Duration });

/// The state machine of the breaker. Closed admits every job, open none, half-open one at a time. Pure: the caller
/// passes the time.
#[derive(Debug)]
struct Machine {
    policy: BreakerPolicy,
    pauses: Backoff,
    state: State,
    /// Consecutive runs without a node, or that could not run a stage.
    failures: u32,
    /// The host itself was at fault last: a node does not show that it works again, only a stage does.
    host_faulty: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// With the run that probes whether nodes come up again, once it is claimed.
    HalfOpen {
        probe: Option<RunId>,
    },
}

/// Whether a job may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Now.
    Allowed,
    /// Not before this time.
    After(Instant),
    /// Not before the probe has ended.
    WaitForProbe,
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transition {
    /// Claiming stops for this long.
    Opened { pause: Duration },
    /// One job may be claimed.
    HalfOpened,
    /// Claiming goes on.
    Closed,
}

impl Machine {
    fn new(policy: BreakerPolicy) -> Self {
        let pauses = Backoff::new(policy.pause, policy.pause_cap.max(policy.pause));
        Self { policy, pauses, state: State::Closed, failures: 0, host_faulty: false }
    }

    /// Goes by another policy from now on. Its state stays, and a pause that has begun ends when it was to end.
    fn set_policy(&mut self, policy: BreakerPolicy) {
        if policy != self.policy {
            *self = Self {
                state: std::mem::replace(&mut self.state, State::Closed),
                failures: self.failures,
                host_faulty: self.host_faulty,
                ..Self::new(policy)
            };
        }
    }

    fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether a job may be claimed. The end of a pause makes the breaker half-open.
    fn admission(&mut self, now: Instant) -> (Admission, Option<Transition>) {
        match &self.state {
            State::Closed | State::HalfOpen { probe: None } => (Admission::Allowed, None),
            State::HalfOpen { probe: Some(_) } => (Admission::WaitForProbe, None),
            State::Open { until } if now < *until => (Admission::After(*until), None),
            State::Open { .. } => {
                self.state = State::HalfOpen { probe: None };
                (Admission::Allowed, Some(Transition::HalfOpened))
            }
        }
    }

    /// A job was claimed.
    fn claimed(&mut self, run: &RunId) {
        if let State::HalfOpen { probe: probe @ None } = &mut self.state {
            *probe = Some(run.clone());
        }
    }

    /// A run got its node.
    fn node_up(&mut self) -> Option<Transition> {
        if self.host_faulty { None } else { self.close() }
    }

    /// A stage was run, whatever its outcome.
    fn stage_ran(&mut self) -> Option<Transition> {
        if std::mem::take(&mut self.host_faulty) { self.close() } else { None }
    }

    fn close(&mut self) -> Option<Transition> {
        self.failures = 0;
        self.pauses.reset();
        (std::mem::replace(&mut self.state, State::Closed) != State::Closed).then_some(Transition::Closed)
    }

    /// A run got no node.
    fn no_node(&mut self, run: &RunId, now: Instant) -> Option<Transition> {
        self.failures = self.failures.saturating_add(1);
        match &self.state {
            State::Closed if self.policy.failures != 0 && self.failures >= self.policy.failures => {}
            State::HalfOpen { probe: Some(probe) } if probe == run => {}
            // Runs that were claimed before it opened show nothing new.
            _ => return None,
        }
        let pause = self.pauses.next_delay();
        self.state = State::Open { until: now + pause };
        Some(Transition::Opened { pause })
    }

    /// The operator's own host is at fault: no job can run here, whatever the count.
    fn host_fault(&mut self, now: Instant) -> Transition {
        self.failures = self.failures.saturating_add(1);
        self.host_faulty = true;
        let pause = self.pauses.next_delay();
        self.state = State::Open { until: now + pause };
        Transition::Opened { pause }
    }

    /// A run ended. If it was the probe and was cancelled before it showed anything, another run becomes the probe.
    fn ended(&mut self, run: &RunId) -> bool {
        match &mut self.state {
            State::HalfOpen { probe } if probe.as_ref() == Some(run) => {
                *probe = None;
                true
            }
            _ => false,
        }
    }
}

/// The state of an operator, for status pages and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Runs now.
    pub running: usize,
    /// Runs that it may have at once.
    pub slots: usize,
    /// Whether it claims jobs.
    pub breaker: BreakerState,
    /// The labels for which the cloud has no room: of their jobs it claims one at intervals.
    pub no_room: Vec<NoRoom>,
}

impl Health {
    /// An operator that claims jobs, with so many runs now.
    pub fn new(running: usize, slots: usize) -> Self {
        Self { running, slots, breaker: BreakerState::Closed, no_room: Vec::new() }
    }
}

/// Whether an operator claims jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum BreakerState {
    /// As many as it has slots.
    Closed,
    /// None, because several consecutive runs got no node. Runs that have their nodes go on.
    Open {
        /// How many runs.
        failures: u32,
        /// The last error.
        last: String,
        /// When one job will be tried.
        until: Timestamp,
    },
    /// One, to see whether nodes come up again.
    HalfOpen {
        /// How many consecutive runs got no node.
        failures: u32,
        /// The last error.
        last: String,
    },
}

/// A circuit breaker over provisioning: many runs report to it, and the operator loop asks it before each claim.
pub(super) struct CircuitBreaker {
    /// With the last error.
    machine: Mutex<(Machine, String)>,
    health: watch::Sender<Health>,
    changed: Notify,
}

impl CircuitBreaker {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        let health = Health { running: 0, slots: 1, breaker: BreakerState::Closed, no_room: Vec::new() };
        Self {
            machine: Mutex::new((Machine::new(policy), String::new())),
            health: watch::Sender::new(health),
            changed: Notify::new(),
        }
    }

    pub(super) fn set_policy(&self, policy: BreakerPolicy) {
        self.machine().0.set_policy(policy);
    }

    pub(super) fn watch(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(super) fn set_slots(&self, slots: usize) {
        self.health.send_if_modified(|health| std::mem::replace(&mut health.slots, slots) != slots);
    }

    pub(super) fn set_running(&self, running: usize) {
        self.health.send_if_modified(|health| std::mem::replace(&mut health.running, running) != running);
    }

    /// Lets watchers look again although nothing that they see has changed.
    pub(super) fn wake_watchers(&self) {
        self.health.send_modify(|_| {});
    }

    /// Publishes for which labels there is no room.
    pub(super) fn set_no_room(&self, labels: Vec<NoRoom>) {
        self.health.send_modify(|health| health.no_room = labels);
        self.changed.notify_one();
    }

    /// Whether a job may be claimed now.
    pub(super) fn admission(&self, clock: &dyn Clock) -> Admission {
        let mut held = self.machine();
        let (admission, transition) = held.0.admission(Instant::now());
        self.publish(&held, transition, clock);
        admission
    }

    /// Waits until [`admission`](Self::admission) may answer differently, apart from the end of a pause. For one
    /// waiter.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Registers a claimed run. However the run ends, dropping the guard reports its end.
    pub(super) fn register(self: &Arc<Self>, run: &RunId) -> ProbeGuard {
        self.machine().0.claimed(run);
        ProbeGuard { breaker: Arc::clone(self), run: run.clone() }
    }

    pub(super) fn node_up(&self, clock: &dyn Clock) {
        let mut held = self.machine();
        let transition = held.0.node_up();
        self.publish(&held, transition, clock);
    }

    pub(super) fn no_node(&self, run: &RunId, why: &str, clock: &dyn Clock) {
        let mut held = self.machine();
        held.1 = why.to_owned();
        let transition = held.0.no_node(run, Instant::now());
        self.publish(&held, transition, clock);
    }

    pub(super) fn stage_ran(&self, clock: &dyn Clock) {
        let mut held = self.machine();
        let transition = held.0.stage_ran();
        self.publish(&held, transition, clock);
    }

    pub(super) fn host_fault(&self, why: &str, clock: &dyn Clock) {
        let mut held = self.machine();
        held.1 = why.to_owned();
        let transition = held.0.host_fault(Instant::now());
        self.publish(&held, Some(transition), clock);
    }

    /// Publishes a transition to the log, to watchers and to the loop. The caller holds the lock, so that they see
    /// all in order.
    fn publish(
        &self,
        (machine, last): &(Machine, String),
        transition: Option<Transition>,
        clock: &dyn Clock,
    ) {
        let Some(transition) = transition else { return };
        let (failures, last) = (machine.failures(), last.clone());
        let state = match transition {
            Transition::Opened { pause } => {
                let long = HumanDuration(pause);
                tracing::error!(
                    "no job is claimed for {long}: {failures} runs in a row could not start; last error: {last}"
                );
                let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
                let until = clock.now().saturating_add(pause).unwrap_or(Timestamp::MAX);
                BreakerState::Open { failures, last, until }
            }
            Transition::HalfOpened => {
                tracing::warn!("the pause is over: one job is claimed to see whether runs can start again");
                BreakerState::HalfOpen { failures, last }
            }
            Transition::Closed => {
                tracing::info!("runs start again: jobs are claimed as usual");
                BreakerState::Closed
            }
        };
        self.health.send_modify(|health| health.breaker = state);
        self.changed.notify_one();
    }

    fn machine(&self) -> MutexGuard<'_, (Machine, String)> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claimed run that the breaker knows of.
pub(super) struct ProbeGuard {
    breaker: Arc<CircuitBreaker>,
    run: RunId,
}

impl Drop for ProbeGuard {
    fn drop(&mut self) {
        if self.breaker.machine().0.ended(&self.run) {
            self.breaker.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn run(n: u32) -> RunId {
        RunId::new(format!("r{n}")).unwrap()
    }

    /// A breaker that has just opened at `now`, and the end of its pause.
    fn opened(now: Instant) -> (Machine, Instant) {
        let mut machine = Machine::new(BreakerPolicy { failures: 3, ..BreakerPolicy::default() });
        let turns: Vec<_> = (1..=3).map(|n| machine.no_node(&run(n), now)).collect();
        let [None, None, Some(Transition::Opened { pause })] = turns[..] else { panic!("{turns:?}") };
        assert!(pause >= MINUTE / 2 && pause <= MINUTE, "{pause:?}");
        (machine, now + pause)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_before() {
        let now = Instant::now();
        let mut machine = Machine::new(BreakerPolicy { failures: 3, ..BreakerPolicy::default() });
        for n in 0..2 {
            assert_eq!(
                (machine.no_node(&run(n), now), machine.admission(now)),
                (None, (Admission::Allowed, None))
            );
        }
        assert_eq!(machine.node_up(), None);
        for n in 2..4 {
            assert_eq!(machine.no_node(&run(n), now), None, "the count began again");
        }
        let (mut machine, end) = opened(now);
        assert_eq!(machine.admission(now), (Admission::After(end), None));
    }

    #[test]
    fn after_the_pause_one_run_decides() {
        let (mut machine, end) = opened(Instant::now());
        assert_eq!(machine.admission(end), (Admission::Allowed, Some(Transition::HalfOpened)));
        machine.claimed(&run(7));
        assert_eq!(machine.admission(end), (Admission::WaitForProbe, None));
        assert_eq!(machine.no_node(&run(2), end), None, "it was claimed before");
        assert_eq!(
            (machine.node_up(), machine.admission(end)),
            (Some(Transition::Closed), (Admission::Allowed, None))
        );
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_begin_anew_after_a_success() {
        let (mut machine, mut end) = opened(Instant::now());
        for (n, whole) in (10..).zip([2, 4, 8, 16, 30, 30]) {
            machine.admission(end);
            machine.claimed(&run(n));
            let Some(Transition::Opened { pause }) = machine.no_node(&run(n), end) else {
                panic!("it did not open")
            };
            assert!(pause >= whole * MINUTE / 2 && pause <= whole * MINUTE, "{pause:?}");
            end += pause;
        }
        assert_eq!(
            machine.node_up(),
            Some(Transition::Closed),
            "also a run from before it opened shows that"
        );
        let pauses: Vec<_> = (0..3).filter_map(|n| machine.no_node(&run(n), end)).collect();
        assert!(matches!(pauses[..], [Transition::Opened { pause }] if pause <= MINUTE), "{pauses:?}");
    }

    #[test]
    fn a_probe_that_shows_nothing_makes_room_for_another() {
        let (mut machine, end) = opened(Instant::now());
        machine.admission(end);
        machine.claimed(&run(7));
        assert!(!machine.ended(&run(2)));
        assert!(machine.ended(&run(7)));
        assert_eq!(machine.admission(end), (Admission::Allowed, None));
        machine.claimed(&run(8));
        assert_eq!(machine.admission(end), (Admission::WaitForProbe, None));
    }

    #[test]
    fn it_can_be_turned_off() {
        let mut machine = Machine::new(BreakerPolicy { failures: 0, ..BreakerPolicy::default() });
        assert!((0..1000).all(|n| machine.no_node(&run(n), Instant::now()).is_none()));
    }
}
