//! What is broken, how, when and for how long: pure, and the same for the same seed.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;

/// Between one fault and the next, on average.
const PACE: Duration = Duration::from_secs(4);
/// No fault comes sooner: a broker that is killed in the very second in which its first stream is declared loses that stream, and that
/// is a fault of a broker that was never installed well, not one of a lab at work.
const QUIET_START: Duration = Duration::from_secs(10);

/// What can be broken.
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

/// How it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// kill -9; started again after a while.
    Kill,
    /// SIGSTOP; SIGCONT after a while.
    Freeze,
    /// An orderly end, and a start.
    Restart,
    /// All connections to and from it are reset.
    Cut,
    /// All connections stay, and for a while nothing comes through.
    Hush,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blow {
    /// Since the start. Later when the target has not got over the one before.
    pub(crate) at: Duration,
    pub(crate) target: Target,
    pub(crate) fault: Fault,
    /// How long it stays killed, frozen or hushed.
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

    /// What can be done to it: Nova's inner services have no connection to us that could be cut.
    fn faults(self) -> &'static [Fault] {
        match self {
            Self::NovaConductor | Self::NovaCompute => &[Fault::Kill, Fault::Freeze, Fault::Restart],
            _ => &Fault::ALL,
        }
    }

    /// The longest time that it is frozen or hushed. Operators: well beyond a lease.
    fn longest_silence(self) -> u64 {
        match self {
            Self::Operator1 | Self::Operator2 => 40,
            Self::Handler => 30,
            Self::Broker | Self::Gerrit => 25,
            Self::NovaApi | Self::NovaConductor | Self::NovaCompute => 15,
        }
    }
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [Self::Kill, Self::Freeze, Self::Restart, Self::Cut, Self::Hush];
}

/// First each fault of each target once, in any order, so that none is ever missing; then whatever comes, as many as there are jobs.
pub(crate) fn schedule(dice: &mut Dice, jobs: usize) -> Vec<Blow> {
    let mut deck: Vec<(Target, Fault)> =
        Target::ALL.iter().flat_map(|target| target.faults().iter().map(|fault| (*target, *fault))).collect();
    dice.shuffle(&mut deck);
    while deck.len() < jobs {
        let target = dice.pick(&Target::ALL);
        deck.push((target, dice.pick(target.faults())));
    }
    let mut at = QUIET_START;
    let mut blows = Vec::new();
    for (target, fault) in deck {
        let lasts = match fault {
            Fault::Restart | Fault::Cut => Duration::ZERO,
            Fault::Kill => dice.between(Duration::from_millis(200), Duration::from_secs(6)),
            Fault::Freeze | Fault::Hush => {
                dice.between(Duration::from_secs(1), Duration::from_secs(target.longest_silence()))
            }
        };
        blows.push(Blow { at, target, fault, lasts });
        at += dice.between(Duration::ZERO, PACE * 2);
    }
    blows
}

/// When the last of them comes.
pub(crate) fn window(blows: &[Blow]) -> Duration {
    blows.last().map_or(Duration::ZERO, |blow| blow.at)
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "kill -9",
            Self::Freeze => "SIGSTOP",
            Self::Restart => "restart",
            Self::Cut => "cut",
            Self::Hush => "silence",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_every_target_is_there_and_the_seed_decides_the_rest() {
        for seed in 0..20 {
            let blows = schedule(&mut Dice::new(seed), 30);
            for target in Target::ALL {
                for fault in target.faults() {
                    assert!(
                        blows.iter().any(|blow| (blow.target, blow.fault) == (target, *fault)),
                        "{target} {fault}"
                    );
                }
            }
            assert_eq!(blows, schedule(&mut Dice::new(seed), 30));
            assert_ne!(blows, schedule(&mut Dice::new(seed + 1), 30));
            assert!(blows.is_sorted_by_key(|blow| blow.at));
            assert_eq!(schedule(&mut Dice::new(seed), 200).len(), 200);
        }
    }
}
