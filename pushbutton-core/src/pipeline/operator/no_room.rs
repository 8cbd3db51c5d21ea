//! A gate in front of labels for which the cloud has no room: a full quota is not an attempt of the job that met it. The
//! job returns to the queue, and jobs of that label are not claimed before one of them, at intervals, finds room.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::circuit_breaker::CircuitBreaker;
use crate::clock::Clock;
use crate::duration::{HumanDuration, human};
use crate::job::JobFilter;
use crate::names::{JobId, JobName, NodeLabel, RunId};
use crate::retry::{Backoff, RetryPolicy};
use crate::run::JobSpec;
use crate::setters::setters;
use crate::traits::Alerter;

/// For how many jobs it is remembered since when there is no room. Beyond that the oldest are forgotten, and begin anew.
const REMEMBERED: usize = 10_000;

/// What an operator does while the cloud has no room for a node: a quota, the hosts or the addresses are used up. In a
/// configuration this is `operator.no_room:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct NoRoomPolicy {
    /// The first pause before one job of the label is tried. It doubles each time that there is no room; up to half of
    /// it is cut at random. A run of this operator that gives back its node ends it. Default: a minute.
    #[serde(with = "human")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::duration::HumanDuration"))]
    pub pause: Duration,
    /// The longest pause. Default: 15 minutes.
    #[serde(with = "human")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::duration::HumanDuration"))]
    pub pause_cap: Duration,
    /// The lab's people are alerted, once, when there is no room for so long. Default: an hour.
    #[serde(with = "human")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::duration::HumanDuration"))]
    pub alert_after: Duration,
    /// After so long the attempts of a job count, so that it ends: "no valid host" may also mean that there will never
    /// be one. Counted by each operator since it began. Default: 24 hours.
    #[serde(with = "human")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::duration::HumanDuration"))]
    pub count_after: Duration,
}

impl Default for NoRoomPolicy {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(60),
            pause_cap: Duration::from_secs(15 * 60),
            alert_after: Duration::from_secs(3600),
            count_after: Duration::from_secs(24 * 3600),
        }
    }
}

setters!(NoRoomPolicy {
    pause / with_pause: Duration,
    pause_cap / with_pause_cap: Duration,
    alert_after / with_alert_after: Duration,
    count_after / with_count_after: Duration,
});

/// A label for which there is no room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NoRoom {
    /// The label.
    pub label: NodeLabel,
    /// Since when.
    pub since: Timestamp,
    /// When one job will be tried; in the past while one is, or may be.
    pub until: Timestamp,
    /// The last error.
    pub last: String,
}

/// A label whose jobs are not claimed, apart from one that probes.
#[derive(Debug)]
struct Closed {
    since: Instant,
    until: Instant,
    pauses: Backoff,
    probe: Option<RunId>,
    last: String,
    alerted: bool,
}

/// The state of the gate. Pure: the caller passes the time.
#[derive(Debug, Default)]
struct Machine {
    policy: NoRoomPolicy,
    closed: BTreeMap<NodeLabel, Closed>,
    /// Runs that have a node, which they will give back.
    with_node: HashSet<RunId>,
    /// Since when there is no room for a job.
    waiting: HashMap<JobId, Instant>,
    waiting_order: VecDeque<JobId>,
}

impl Machine {
    /// The labels whose jobs may not be claimed now.
    fn closed_labels(&self, now: Instant) -> BTreeSet<&NodeLabel> {
        let is_closed = |closed: &Closed| closed.probe.is_some() || now < closed.until;
        self.closed.iter().filter(|(_, closed)| is_closed(closed)).map(|(label, _)| label).collect()
    }

    /// When a pause ends next.
    fn next_probe(&self, now: Instant) -> Option<Instant> {
        self.closed.values().filter(|it| it.probe.is_none() && now < it.until).map(|it| it.until).min()
    }

    /// A job of this label was claimed. If the label is closed, it is its probe.
    fn claimed(&mut self, run: &RunId, label: &NodeLabel) {
        if let Some(Closed { probe: probe @ None, .. }) = self.closed.get_mut(label) {
            *probe = Some(run.clone());
        }
    }

    /// A run met no room. Returns whether this counts as a failed attempt of its job, and the pause if one begins.
    fn no_room(
        &mut self,
        run: &RunId,
        label: &NodeLabel,
        job: &JobId,
        why: &str,
        now: Instant,
    ) -> (bool, Option<Duration>) {
        let NoRoomPolicy { pause, pause_cap, count_after, .. } = self.policy;
        let is_new = !self.closed.contains_key(label);
        let closed = self.closed.entry(label.clone()).or_insert_with(|| Closed {
            since: now,
            until: now,
            pauses: Backoff::new(pause, pause_cap.max(pause)),
            probe: None,
            last: String::new(),
            alerted: false,
        });
        closed.last = why.to_owned();
        // Runs that were claimed before it closed show nothing new.
        let begins = is_new || closed.probe.as_ref() == Some(run);
        let pause = begins.then(|| closed.pauses.next_delay());
        if let Some(pause) = pause {
            (closed.probe, closed.until) = (None, now + pause);
        }
        let since = *self.waiting.entry(job.clone()).or_insert_with(|| {
            self.waiting_order.push_back(job.clone());
            now
        });
        while self.waiting_order.len() > REMEMBERED {
            if let Some(oldest) = self.waiting_order.pop_front() {
                self.waiting.remove(&oldest);
            }
        }
        (now.duration_since(since) >= count_after, pause)
    }

    /// A run got its node. Returns whether that opens its label: if it was the probe. Others were accepted by the cloud
    /// before there was no room, and only now have booted.
    fn node_up(&mut self, run: &RunId, label: &NodeLabel, job: &JobId) -> bool {
        self.with_node.insert(run.clone());
        if self.waiting.remove(job).is_some() {
            self.waiting_order.retain(|waiting| waiting != job);
        }
        let found_room = self.closed.get(label).is_some_and(|closed| closed.probe.as_ref() == Some(run));
        if found_room {
            self.closed.remove(label);
        }
        found_room
    }

    /// A run has ended. Returns whether a job may be claimed sooner because of that: it was a probe, or there may be
    /// room where its node was.
    fn ended(&mut self, run: &RunId, now: Instant) -> bool {
        let gave_back = self.with_node.remove(run);
        let mut changed = false;
        for closed in self.closed.values_mut() {
            if closed.probe.as_ref() == Some(run) {
                closed.probe = None;
                changed = true;
            }
            if gave_back && now < closed.until {
                closed.until = now;
                changed = true;
            }
        }
        changed
    }

    /// When the lab's people must be alerted next.
    fn next_alert(&self) -> Option<Instant> {
        let waiting = self.closed.values().filter(|closed| !closed.alerted);
        waiting.filter_map(|closed| closed.since.checked_add(self.policy.alert_after)).min()
    }

    /// An alert that is due, with its label; each once.
    fn take_alert(&mut self, now: Instant) -> Option<(NodeLabel, String)> {
        let after = self.policy.alert_after;
        let is_due = |closed: &Closed| !closed.alerted && now.duration_since(closed.since) >= after;
        let (label, closed) = self.closed.iter_mut().find(|(_, closed)| is_due(closed))?;
        closed.alerted = true;
        let long = HumanDuration(Duration::from_secs(now.duration_since(closed.since).as_secs()));
        let text = format!(
            "For {long} the cloud has had no room for a node of the label {label}. Jobs that need one wait on the queue, \
             and one is tried at intervals.\n\nThe cloud's last answer: {}\n\n\
             Look at the quotas and the free hosts (`pushbutton-bin check` shows the quotas), and whether resources \
             are left behind (`pushbutton-bin sweep --dry-run`).\n",
            closed.last
        );
        Some((label.clone(), text))
    }

    /// What watchers see.
    fn shown(&self, clock: &dyn Clock) -> Vec<NoRoom> {
        let (now, date) = (Instant::now(), clock.now());
        let at = |instant: Instant| {
            let ahead = SignedDuration::try_from(instant.saturating_duration_since(now));
            let ago = SignedDuration::try_from(now.saturating_duration_since(instant));
            let moved = date.saturating_add(ahead.unwrap_or(SignedDuration::MAX));
            moved.and_then(|date| date.saturating_sub(ago.unwrap_or(SignedDuration::MAX))).unwrap_or(date)
        };
        let no_room = |(label, closed): (&NodeLabel, &Closed)| NoRoom {
            label: label.clone(),
            since: at(closed.since),
            until: at(closed.until),
            last: closed.last.clone(),
        };
        self.closed.iter().map(no_room).collect()
    }
}

/// What may be claimed.
pub(super) struct Claimable {
    /// Jobs of open labels; none if no job may be claimed.
    pub(super) filter: Option<JobFilter>,
    /// When more jobs may be claimed, unless the gate changes before.
    pub(super) until: Option<Instant>,
}

/// The gate of an operator: its runs report to it, and the operator loop asks it before each claim.
pub(super) struct NoRoomGate {
    machine: Mutex<Machine>,
    /// It publishes the state of the operator.
    breaker: Arc<CircuitBreaker>,
}

impl NoRoomGate {
    pub(super) fn new(breaker: Arc<CircuitBreaker>) -> Self {
        Self { machine: Mutex::default(), breaker }
    }

    pub(super) fn set_policy(&self, policy: NoRoomPolicy) {
        let before = std::mem::replace(&mut self.machine().policy, policy);
        if before != policy {
            // An alert may be due sooner.
            self.breaker.wake_watchers();
        }
    }

    /// Which of the jobs that the operator may claim it can claim now.
    pub(super) fn claimable(&self, filter: &JobFilter, jobs: &BTreeMap<JobName, Arc<JobSpec>>) -> Claimable {
        let (machine, now) = (self.machine(), Instant::now());
        let closed = machine.closed_labels(now);
        let until = machine.next_probe(now);
        if closed.is_empty() {
            return Claimable { filter: Some(filter.clone()), until };
        }
        // By name: a job on the queue need not know its label.
        let names = filter.names.clone().unwrap_or_else(|| jobs.keys().cloned().collect());
        let is_open = |name: &JobName| jobs.get(name).is_none_or(|spec| !closed.contains(&spec.node));
        let open: BTreeSet<JobName> = names.into_iter().filter(is_open).collect();
        let filter = (!open.is_empty()).then(|| JobFilter { names: Some(open), ..filter.clone() });
        Claimable { filter, until }
    }

    /// Registers a claimed run. However the run ends, dropping the guard reports its end.
    pub(super) fn register(
        self: &Arc<Self>,
        run: &RunId,
        label: Option<&NodeLabel>,
        clock: Arc<dyn Clock>,
    ) -> RoomGuard {
        if let Some(label) = label {
            self.machine().claimed(run, label);
        }
        RoomGuard { gate: Arc::clone(self), run: run.clone(), clock }
    }

    /// A run met no room. Returns whether this counts as a failed attempt.
    pub(super) fn no_room(
        &self,
        run: &RunId,
        label: &NodeLabel,
        job: &JobId,
        why: &str,
        clock: &dyn Clock,
    ) -> bool {
        let mut machine = self.machine();
        let (counts, pause) = machine.no_room(run, label, job, why, Instant::now());
        if let Some(pause) = pause {
            let long = HumanDuration(pause);
            tracing::warn!(%label, "the cloud has no room: for {long} no job of this label is claimed; {why}");
        }
        self.publish(&machine, clock);
        counts
    }

    pub(super) fn node_up(&self, run: &RunId, label: &NodeLabel, job: &JobId, clock: &dyn Clock) {
        let mut machine = self.machine();
        if machine.node_up(run, label, job) {
            tracing::info!(%label, "the cloud has room again: jobs of this label are claimed as usual");
            self.publish(&machine, clock);
        }
    }

    /// Alerts the lab's people when there is no room for long. Without an alerter the log alone says so.
    pub(super) async fn alert(&self, alerter: Option<&dyn Alerter>) -> Infallible {
        let mut health = self.breaker.watch();
        loop {
            let due = self.machine().next_alert();
            let pause = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = pause => {}
                // The sender lives as long as this gate.
                _ = health.changed() => continue,
            }
            let Some((label, text)) = self.machine().take_alert(Instant::now()) else { continue };
            tracing::error!(%label, "{}", text.lines().next().unwrap_or_default());
            let Some(alerter) = alerter else { continue };
            let subject = format!("pushbutton: the cloud has no room for {label}");
            let alert = || alerter.alert(&subject, &text);
            if let Err(error) = RetryPolicy::UNTIL_SUCCESS.run("alerter::alert", alert).await {
                tracing::error!("could not alert a person: {error}");
            }
        }
    }

    fn publish(&self, machine: &Machine, clock: &dyn Clock) {
        self.breaker.set_no_room(machine.shown(clock));
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claimed run that the gate knows of.
pub(super) struct RoomGuard {
    gate: Arc<NoRoomGate>,
    run: RunId,
    clock: Arc<dyn Clock>,
}

impl Drop for RoomGuard {
    fn drop(&mut self) {
        let mut machine = self.gate.machine();
        if machine.ended(&self.run, Instant::now()) {
            self.gate.publish(&machine, self.clock.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    const MINUTE: Duration = Duration::from_secs(60);

    fn run(n: u32) -> RunId {
        RunId::new(format!("r{n}")).unwrap()
    }

    fn label(text: &str) -> NodeLabel {
        NodeLabel::new(text).unwrap()
    }

    fn job(n: u64) -> JobId {
        samples::job_on(n, "tempest").id
    }

    /// No room for `big` at `now`, and the pause.
    fn full(now: Instant) -> (Machine, Duration) {
        let mut machine = Machine::default();
        machine.claimed(&run(1), &label("big"));
        let (counts, pause) = machine.no_room(&run(1), &label("big"), &job(1), "quota", now);
        let pause = pause.unwrap();
        assert!(!counts && pause >= MINUTE / 2 && pause <= MINUTE, "{pause:?}");
        (machine, pause)
    }

    #[test]
    fn v6_pauses_grow_up_to_the_cap_and_only_the_probe_makes_them_grow() {
        let mut now = Instant::now();
        let (mut machine, mut pause) = full(now);
        for (n, whole) in (10..).zip([2, 4, 8, 15, 15]) {
            assert_eq!(machine.closed_labels(now), BTreeSet::from([&label("big")]));
            assert_eq!(machine.next_probe(now), Some(now + pause));
            now += pause;
            assert!(machine.closed_labels(now).is_empty(), "one may be claimed");
            machine.claimed(&run(n), &label("big"));
            assert!(!machine.closed_labels(now).is_empty(), "and no second one");
            let earlier = machine.no_room(&run(2), &label("big"), &job(2), "quota", now);
            assert_eq!(earlier, (false, None), "it was claimed before the label was closed");
            pause = machine.no_room(&run(n), &label("big"), &job(1), "quota", now).1.unwrap();
            assert!(pause >= whole * MINUTE / 2 && pause <= whole * MINUTE, "{pause:?} of {whole}");
        }
    }

    #[test]
    fn v6_a_node_that_was_accepted_before_does_not_open_the_gate_but_its_end_does() {
        let now = Instant::now();
        let (mut machine, _) = full(now);
        assert!(!machine.node_up(&run(7), &label("big"), &job(7)));
        assert!(!machine.closed_labels(now).is_empty());
        assert!(machine.ended(&run(7), now), "its room is free now");
        assert!(machine.closed_labels(now).is_empty());
        machine.claimed(&run(8), &label("big"));
        assert!(machine.node_up(&run(8), &label("big"), &job(8)), "the probe found room");
        assert!(machine.closed.is_empty() && machine.waiting.len() == 1);
    }

    #[test]
    fn v6_a_probe_that_shows_nothing_makes_room_for_another() {
        let now = Instant::now();
        let (mut machine, pause) = full(now);
        machine.claimed(&run(8), &label("big"));
        assert!(machine.ended(&run(8), now + pause) && !machine.ended(&run(9), now + pause));
        assert!(machine.closed_labels(now + pause).is_empty());
    }

    #[test]
    fn v6_memory_is_bounded() {
        let now = Instant::now();
        let (mut machine, _) = full(now);
        for n in 0..(REMEMBERED as u64 + 10) {
            machine.no_room(&run(2), &label("big"), &job(n), "quota", now);
        }
        assert_eq!((machine.waiting.len(), machine.waiting_order.len()), (REMEMBERED, REMEMBERED));
    }
}
