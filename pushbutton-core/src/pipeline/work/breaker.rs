//! Whether it is worth to claim jobs at all: a circuit breaker over provisioning. Pure, with a clock that the caller holds.

use std::time::Duration;

use tokio::time::Instant;

use crate::ident::RunId;
use crate::retry::Backoff;

/// When an operator stops claiming because no node comes up, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// So many runs in a row that got no node; 0 for never.
    pub failures: u32,
    /// The first pause, before one job is tried. It doubles each time that this one gets no node either, and up to half of it is cut at
    /// random: operators that lost the same cloud do not come back in step.
    pub pause: Duration,
    /// The longest pause.
    pub cap: Duration,
}

impl Default for BreakerPolicy {
    /// Five failures, a minute, half an hour.
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(60), cap: Duration::from_secs(30 * 60) }
    }
}

/// The breaker. Closed lets jobs flow, open lets none, half-open lets one at a time.
#[derive(Debug)]
pub(super) struct Breaker {
    policy: BreakerPolicy,
    pauses: Backoff,
    position: Position,
    /// Runs in a row that got no node.
    failures: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    Closed,
    Open {
        until: Instant,
    },
    /// With the run that is to show whether nodes come up again, once it is claimed.
    HalfOpen {
        probe: Option<RunId>,
    },
}

/// Whether a job may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Now.
    Open,
    /// Not before then.
    Until(Instant),
    /// Not before the probe has shown something.
    Probing,
}

/// A change of position, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Claiming stops, for so long.
    Opened { pause: Duration },
    /// One job may be claimed.
    HalfOpened,
    /// Claiming goes on.
    Closed,
}

impl Breaker {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        let pauses = Backoff::new(policy.pause, policy.cap.max(policy.pause));
        Self { policy, pauses, position: Position::Closed, failures: 0 }
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Says whether a job may be claimed; the end of a pause makes it half-open.
    pub(super) fn gate(&mut self, now: Instant) -> (Gate, Option<Turn>) {
        match &self.position {
            Position::Closed | Position::HalfOpen { probe: None } => (Gate::Open, None),
            Position::HalfOpen { probe: Some(_) } => (Gate::Probing, None),
            Position::Open { until } if now < *until => (Gate::Until(*until), None),
            Position::Open { .. } => {
                self.position = Position::HalfOpen { probe: None };
                (Gate::Open, Some(Turn::HalfOpened))
            }
        }
    }

    /// A job was claimed.
    pub(super) fn claimed(&mut self, run: &RunId) {
        if let Position::HalfOpen { probe: probe @ None } = &mut self.position {
            *probe = Some(run.clone());
        }
    }

    /// A run got its node.
    pub(super) fn came_up(&mut self) -> Option<Turn> {
        self.failures = 0;
        self.pauses.reset();
        (std::mem::replace(&mut self.position, Position::Closed) != Position::Closed).then_some(Turn::Closed)
    }

    /// A run got no node.
    pub(super) fn failed(&mut self, run: &RunId, now: Instant) -> Option<Turn> {
        self.failures = self.failures.saturating_add(1);
        match &self.position {
            Position::Closed if self.policy.failures != 0 && self.failures >= self.policy.failures => {}
            Position::HalfOpen { probe: Some(probe) } if probe == run => {}
            // Runs that were claimed before it opened say nothing new.
            _ => return None,
        }
        let pause = self.pauses.next_delay();
        self.position = Position::Open { until: now + pause };
        Some(Turn::Opened { pause })
    }

    /// A run ended. If it was to show something and did not, because it was cancelled before, another one may.
    pub(super) fn ended(&mut self, run: &RunId) -> bool {
        match &mut self.position {
            Position::HalfOpen { probe } if probe.as_ref() == Some(run) => {
                *probe = None;
                true
            }
            _ => false,
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
    fn opened(now: Instant) -> (Breaker, Instant) {
        let mut breaker = Breaker::new(BreakerPolicy { failures: 3, ..BreakerPolicy::default() });
        let turns: Vec<_> = (1..=3).map(|n| breaker.failed(&run(n), now)).collect();
        let [None, None, Some(Turn::Opened { pause })] = turns[..] else { panic!("{turns:?}") };
        assert!(pause >= MINUTE / 2 && pause <= MINUTE, "{pause:?}");
        (breaker, now + pause)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_before() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy { failures: 3, ..BreakerPolicy::default() });
        for n in 0..2 {
            assert_eq!((breaker.failed(&run(n), now), breaker.gate(now)), (None, (Gate::Open, None)));
        }
        assert_eq!(breaker.came_up(), None);
        for n in 2..4 {
            assert_eq!(breaker.failed(&run(n), now), None, "the row began anew");
        }
        let (mut breaker, end) = opened(now);
        assert_eq!(breaker.gate(now), (Gate::Until(end), None));
    }

    #[test]
    fn after_the_pause_one_run_decides() {
        let (mut breaker, end) = opened(Instant::now());
        assert_eq!(breaker.gate(end), (Gate::Open, Some(Turn::HalfOpened)));
        breaker.claimed(&run(7));
        assert_eq!(breaker.gate(end), (Gate::Probing, None));
        assert_eq!(breaker.failed(&run(2), end), None, "it was claimed before");
        assert_eq!((breaker.came_up(), breaker.gate(end)), (Some(Turn::Closed), (Gate::Open, None)));
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_begin_anew_after_a_success() {
        let (mut breaker, mut end) = opened(Instant::now());
        for (n, whole) in (10..).zip([2, 4, 8, 16, 30, 30]) {
            breaker.gate(end);
            breaker.claimed(&run(n));
            let Some(Turn::Opened { pause }) = breaker.failed(&run(n), end) else {
                panic!("it did not open")
            };
            assert!(pause >= whole * MINUTE / 2 && pause <= whole * MINUTE, "{pause:?}");
            end += pause;
        }
        assert_eq!(breaker.came_up(), Some(Turn::Closed), "also a run from before it opened shows that");
        let pauses: Vec<_> = (0..3).filter_map(|n| breaker.failed(&run(n), end)).collect();
        assert!(matches!(pauses[..], [Turn::Opened { pause }] if pause <= MINUTE), "{pauses:?}");
    }

    #[test]
    fn a_probe_that_shows_nothing_makes_room_for_another() {
        let (mut breaker, end) = opened(Instant::now());
        breaker.gate(end);
        breaker.claimed(&run(7));
        assert!(!breaker.ended(&run(2)));
        assert!(breaker.ended(&run(7)));
        assert_eq!(breaker.gate(end), (Gate::Open, None));
        breaker.claimed(&run(8));
        assert_eq!(breaker.gate(end), (Gate::Probing, None));
    }

    #[test]
    fn it_can_be_turned_off() {
        let mut breaker = Breaker::new(BreakerPolicy { failures: 0, ..BreakerPolicy::default() });
        assert!((0..1000).all(|n| breaker.failed(&run(n), Instant::now()).is_none()));
    }
}
