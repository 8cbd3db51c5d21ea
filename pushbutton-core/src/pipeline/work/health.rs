//! How an operator is: the breaker as its runs and its watchers see it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::breaker::{Breaker, BreakerPolicy, Gate, Turn};
use crate::clock::Clock;
use crate::human::HumanDuration;
use crate::ident::RunId;

/// How an operator is, for status pages and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Runs at present.
    pub running: usize,
    /// Runs that it may have at once.
    pub slots: usize,
    /// Whether it takes more.
    pub claiming: Claiming,
}

/// Whether an operator claims jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Claiming {
    /// As many as it has slots.
    Freely,
    /// None: no node has come up for so many runs in a row. Runs that have their nodes go on.
    Stopped {
        /// How many.
        failures: u32,
        /// What the last one said.
        last: String,
        /// When one job will be tried.
        until: Timestamp,
    },
    /// One, to see whether nodes come up again.
    Probing {
        /// How many runs in a row got no node.
        failures: u32,
        /// What the last one said.
        last: String,
    },
}

/// A breaker that many runs report to, and that one loop obeys.
pub(super) struct Pulse {
    breaker: Mutex<(Breaker, String)>,
    health: watch::Sender<Health>,
    changed: Notify,
}

impl Pulse {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        let health = Health { running: 0, slots: 1, claiming: Claiming::Freely };
        Self {
            breaker: Mutex::new((Breaker::new(policy), String::new())),
            health: watch::Sender::new(health),
            changed: Notify::new(),
        }
    }

    pub(super) fn set_policy(&self, policy: BreakerPolicy) {
        self.breaker().0 = Breaker::new(policy);
    }

    pub(super) fn watch(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(super) fn set_slots(&self, slots: usize) {
        self.health.send_modify(|health| health.slots = slots);
    }

    pub(super) fn set_running(&self, running: usize) {
        self.health.send_if_modified(|health| std::mem::replace(&mut health.running, running) != running);
    }

    /// Says whether a job may be claimed now.
    pub(super) fn gate(&self, clock: &dyn Clock) -> Gate {
        let mut held = self.breaker();
        let (gate, turn) = held.0.gate(Instant::now());
        self.tell(&held, turn, clock);
        gate
    }

    /// Waits until [`gate`](Self::gate) may say something else, pauses aside. For one waiter.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Begins to follow a run that was claimed. However it ends, the guard's end is heard of.
    pub(super) fn follow(self: &Arc<Self>, run: &RunId) -> Followed {
        self.breaker().0.claimed(run);
        Followed { pulse: Arc::clone(self), run: run.clone() }
    }

    pub(super) fn came_up(&self, clock: &dyn Clock) {
        let mut held = self.breaker();
        let turn = held.0.came_up();
        self.tell(&held, turn, clock);
    }

    pub(super) fn failed(&self, run: &RunId, why: &str, clock: &dyn Clock) {
        let mut held = self.breaker();
        held.1 = why.to_owned();
        let turn = held.0.failed(run, Instant::now());
        self.tell(&held, turn, clock);
    }

    /// Says it to the log, to whoever watches, and to the loop. The breaker is held, so that they hear all turns in order.
    fn tell(&self, (breaker, last): &(Breaker, String), turn: Option<Turn>, clock: &dyn Clock) {
        let Some(turn) = turn else { return };
        let (failures, last) = (breaker.failures(), last.clone());
        let claiming = match turn {
            Turn::Opened { pause } => {
                let long = HumanDuration(pause);
                tracing::error!(
                    "provisioning failed {failures} times in a row: claiming stops for {long}; last: {last}"
                );
                let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
                let until = clock.now().saturating_add(pause).unwrap_or(Timestamp::MAX);
                Claiming::Stopped { failures, last, until }
            }
            Turn::HalfOpened => {
                tracing::warn!("the pause is over: one job is claimed to see whether nodes come up again");
                Claiming::Probing { failures, last }
            }
            Turn::Closed => {
                tracing::info!("nodes come up again: claiming goes on");
                Claiming::Freely
            }
        };
        self.health.send_modify(|health| health.claiming = claiming);
        self.changed.notify_one();
    }

    fn breaker(&self) -> MutexGuard<'_, (Breaker, String)> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that is being followed.
pub(super) struct Followed {
    pulse: Arc<Pulse>,
    run: RunId,
}

impl Drop for Followed {
    fn drop(&mut self) {
        if self.pulse.breaker().0.ended(&self.run) {
            self.pulse.changed.notify_one();
        }
    }
}
