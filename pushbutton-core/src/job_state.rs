//! The nine states of a job and their legal changes, in one pure function.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// On the queue, waiting for an operator.
    Queued,
    /// An operator holds the lease; nothing has been made yet.
    Claimed,
    /// A node is being made.
    Provisioning,
    /// Stages run.
    Running,
    /// The stages that always run (gather, publish) run after the others have ended, well or not.
    Collecting,
    /// The verdict is being told.
    Reporting,
    /// Waiting to be tried again after an infrastructure failure, or handed back at shutdown.
    Retrying,
    /// Ended with a verdict; final.
    Completed,
    /// In the dead-letter queue; final until a person puts it back.
    Dead,
}

impl JobState {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Claimed,
        Self::Provisioning,
        Self::Running,
        Self::Collecting,
        Self::Reporting,
        Self::Retrying,
        Self::Completed,
        Self::Dead,
    ];

    /// Whether a job may go from this state to that one.
    pub fn may_become(self, next: Self) -> bool {
        use JobState::*;
        match (self, next) {
            // The straight way.
            (Queued, Claimed)
            | (Claimed, Provisioning)
            | (Provisioning, Running)
            | (Running, Collecting)
            | (Collecting, Reporting)
            | (Reporting, Completed) => true,
            // Nothing ran, or nothing is left to run: superseded before boot, no node, cancelled, no `always` stage.
            (Claimed | Provisioning | Running, Reporting) => true,
            // Lost leases, infrastructure failures and shutdown give the job back from wherever it was.
            (Claimed | Provisioning | Running | Collecting | Reporting, Retrying) => true,
            (Retrying, Queued) => true,
            // What this lab is not set up to run, or what nobody must hear of.
            (Queued | Claimed | Provisioning | Running | Collecting, Dead) => true,
            (Claimed, Completed) => true,
            // A person puts it back.
            (Dead, Queued) => true,
            _ => false,
        }
    }

    /// Goes to the next state.
    ///
    /// # Errors
    /// [`ErrorKind::Unexpected`], permanent: a change that is not legal is a defect of the caller.
    pub fn become_next(self, next: Self) -> Result<Self> {
        if self.may_become(next) {
            return Ok(next);
        }
        Err(Error::permanent(ErrorKind::Unexpected, format!("a job cannot go from {self:?} to {next:?}")))
    }

    /// Whether nothing more happens to it by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Dead)
    }
}

#[cfg(test)]
mod tests {
    use super::JobState::{self, *};

    /// Every pair, spelled out: a row a state, its legal successors.
    const LEGAL: [(JobState, &[JobState]); 9] = [
        (Queued, &[Claimed, Dead]),
        (Claimed, &[Provisioning, Reporting, Retrying, Completed, Dead]),
        (Provisioning, &[Running, Reporting, Retrying, Dead]),
        (Running, &[Collecting, Reporting, Retrying, Dead]),
        (Collecting, &[Reporting, Retrying, Dead]),
        (Reporting, &[Completed, Retrying]),
        (Retrying, &[Queued]),
        (Completed, &[]),
        (Dead, &[Queued]),
    ];

    #[test]
    fn each_pair_is_legal_or_refused_as_documented() {
        for (from, successors) in LEGAL {
            for to in JobState::ALL {
                assert_eq!(from.may_become(to), successors.contains(&to), "{from:?} -> {to:?}");
                assert_eq!(from.become_next(to).is_ok(), successors.contains(&to));
            }
        }
    }

    #[test]
    fn only_the_ends_are_final() {
        let ends: Vec<_> = JobState::ALL.into_iter().filter(|state| state.is_final()).collect();
        assert_eq!(ends, [Completed, Dead]);
    }
}
