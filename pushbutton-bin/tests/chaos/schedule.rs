//! The schedule of faults: which target, which kind, when and for how long. Pure, and the same for the same seed.

use std::fmt;
use std::time::Duration;

use crate::configuration::LEASE;
use crate::rng::Rng;

/// The average time between two faults.
const PACE: Duration = Duration::from_secs(4);
/// The first fault comes after this: a broker that is killed in the second in which its first stream is declared loses
/// that stream. That is a failed installation, not a failure of a working lab.
const QUIET_START: Duration = Duration::from_secs(10);

/// What a fault is injected into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Handler,
    Operator1,
    Operator2,
    Broker,
    Gerrit,
    NovaApi,
    NovaConductor,
    NovaCompute,
}

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FaultKind {
    /// kill -9; a start after a while.
    Kill,
    /// SIGSTOP; SIGCONT after a while.
    Freeze,
    /// A graceful shutdown and a start.
    Restart,
    /// All connections to and from it are reset.
    Cut,
    /// All connections stay open, and for a while no byte passes.
    Silence,
    /// The same, for 80 % of a lease.
    Outage,
    /// kill -9; a start after more time than a run takes.
    Away,
    /// It works, but refuses what is asked of it: the project on Gerrit is read-only, the operator's host has no
    /// `ansible-playbook`.
    Impair,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedFault {
    /// Since the start. Later if the fault before it has not ended.
    pub(crate) at: Duration,
    pub(crate) target: Target,
    pub(crate) kind: FaultKind,
    /// How long it stays killed, frozen or silent.
    pub(crate) lasts: Duration,
}

impl Target {
    pub(crate) const ALL: [Self; 8] = [
        Self::Handler,
        Self::Operator1,
        Self::Operator2,
        Self::Broker,
        Self::Gerrit,
        Self::NovaApi,
        Self::NovaConductor,
        Self::NovaCompute,
    ];

    /// The kinds that apply: Nova's inner services have no connection to us that could be cut.
    fn faults(self) -> &'static [FaultKind] {
        use FaultKind::{Away, Cut, Freeze, Impair, Kill, Outage, Restart, Silence};
        match self {
            Self::NovaConductor | Self::NovaCompute => &[Kill, Freeze, Restart],
            Self::NovaApi | Self::Handler => &[Kill, Freeze, Restart, Cut, Silence],
            Self::Broker => &[Kill, Freeze, Restart, Cut, Silence, Outage],
            Self::Operator1 | Self::Operator2 => &[Kill, Freeze, Restart, Cut, Silence, Impair],
            Self::Gerrit => &[Kill, Freeze, Restart, Cut, Silence, Away, Impair],
        }
    }

    /// The longest time that it is frozen or silent. For operators longer than a lease.
    fn longest_silence(self) -> u64 {
        match self {
            Self::Operator1 | Self::Operator2 => 40,
            Self::Handler => 30,
            Self::Broker | Self::Gerrit => 25,
            Self::NovaApi | Self::NovaConductor | Self::NovaCompute => 15,
        }
    }
}

impl FaultKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Kill,
        Self::Freeze,
        Self::Restart,
        Self::Cut,
        Self::Silence,
        Self::Outage,
        Self::Away,
        Self::Impair,
    ];
}

/// Each kind of fault of each target once, in random order, so that none is missing; then random ones, up to the number
/// of jobs.
pub(crate) fn schedule(rng: &mut Rng, jobs: usize) -> Vec<PlannedFault> {
    let mut pairs: Vec<(Target, FaultKind)> =
        Target::ALL.iter().flat_map(|target| target.faults().iter().map(|fault| (*target, *fault))).collect();
    rng.shuffle(&mut pairs);
    while pairs.len() < jobs {
        let target = rng.pick(&Target::ALL);
        pairs.push((target, rng.pick(target.faults())));
    }
    let mut at = QUIET_START;
    let mut faults = Vec::new();
    for (target, kind) in pairs {
        let lasts = match kind {
            FaultKind::Restart | FaultKind::Cut => Duration::ZERO,
            FaultKind::Kill => rng.between(Duration::from_millis(200), Duration::from_secs(6)),
            FaultKind::Outage => Duration::from_secs(LEASE) * 4 / 5,
            FaultKind::Away => rng.between(Duration::from_secs(60), Duration::from_secs(75)),
            FaultKind::Impair => rng.between(Duration::from_secs(5), Duration::from_secs(20)),
            FaultKind::Freeze | FaultKind::Silence => {
                rng.between(Duration::from_secs(1), Duration::from_secs(target.longest_silence()))
            }
        };
        faults.push(PlannedFault { at, target, kind, lasts });
        at += rng.between(Duration::ZERO, PACE * 2);
    }
    faults
}

/// When the last fault comes.
pub(crate) fn window(faults: &[PlannedFault]) -> Duration {
    faults.last().map_or(Duration::ZERO, |fault| fault.at)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Handler => "handler",
            Self::Operator1 => "operator-1",
            Self::Operator2 => "operator-2",
            Self::Broker => "broker",
            Self::Gerrit => "gerrit",
            Self::NovaApi => "nova-api",
            Self::NovaConductor => "nova-conductor",
            Self::NovaCompute => "nova-compute",
        })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "kill -9",
            Self::Freeze => "SIGSTOP",
            Self::Restart => "restart",
            Self::Cut => "cut",
            Self::Silence => "silence",
            Self::Outage => "outage",
            Self::Away => "away",
            Self::Impair => "impair",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_every_target_is_there_and_the_seed_decides_the_rest() {
        for seed in 0..20 {
            let faults = schedule(&mut Rng::new(seed), 30);
            for target in Target::ALL {
                for kind in target.faults() {
                    assert!(
                        faults.iter().any(|fault| (fault.target, fault.kind) == (target, *kind)),
                        "{target} {kind}"
                    );
                }
            }
            assert_eq!(faults, schedule(&mut Rng::new(seed), 30));
            assert_ne!(faults, schedule(&mut Rng::new(seed + 1), 30));
            assert!(faults.is_sorted_by_key(|fault| fault.at));
            assert_eq!(schedule(&mut Rng::new(seed), 200).len(), 200);
        }
    }
}
