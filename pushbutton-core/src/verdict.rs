//! How a run ended, and which endings may vote.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::StageName;

/// How a run ended. Only [`Verdict::Failure`] blames the patch; all others but `Success` are about the lab or the
/// change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
#[non_exhaustive]
pub enum Verdict {
    /// Every stage passed.
    Success,
    /// The tests or the patch failed.
    Failure {
        /// The stage that failed.
        stage: StageName,
    },
    /// No machine could be had, on any attempt.
    NodeFailure,
    /// The infrastructure failed on every attempt.
    RetryLimit,
    /// The run's or a stage's time limit passed.
    TimedOut {
        /// The stage that was running.
        stage: StageName,
    },
    /// The patch set, or a change that it depends on, does not merge with its branch. The review server says so itself,
    /// so that by default no comment repeats it: the lab's people are told (third-party CI requirements).
    MergeConflict,
    /// The tests passed, but their logs could not be gathered or published.
    PostFailure,
    /// A person cancelled it.
    Cancelled,
    /// A newer patch set, an abandon or a merge made it stale.
    Superseded,
    /// It was decided not to run it.
    Skipped,
}

/// A vote on a review. Made only by [`Verdict::vote`], so that an infrastructure verdict can never become a negative
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote(i8);

impl Vote {
    /// +1 or -1: the gate's ±2 is not for third-party CIs (third-party CI requirements).
    pub fn value(self) -> i8 {
        self.0
    }
}

impl Verdict {
    /// The word in the result line, which OpenStack's dashboards know (zuul-results-summary).
    pub fn result(&self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Failure { .. } => "FAILURE",
            Self::NodeFailure => "NODE_FAILURE",
            Self::RetryLimit => "RETRY_LIMIT",
            Self::TimedOut { .. } => "TIMED_OUT",
            Self::MergeConflict => "MERGER_FAILURE",
            Self::PostFailure => "POST_FAILURE",
            Self::Cancelled | Self::Superseded => "ABORTED",
            Self::Skipped => "SKIPPED",
        }
    }

    /// The vote that this verdict may cast, if it may cast one at all.
    pub fn vote(&self) -> Option<Vote> {
        match self {
            Self::Success => Some(Vote(1)),
            Self::Failure { .. } => Some(Vote(-1)),
            _ => None,
        }
    }

    /// Whether it is reported. Nobody waits for a verdict on a superseded patch set.
    pub fn is_reported(&self) -> bool {
        !matches!(self, Self::Superseded | Self::Cancelled | Self::Skipped)
    }

    /// Whether nobody needs a verdict on this patch set any more.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Superseded)
    }

    /// Whether the lab, not the patch, is to blame.
    pub fn is_infrastructure(&self) -> bool {
        matches!(self, Self::NodeFailure | Self::RetryLimit | Self::PostFailure)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failure { stage } | Self::TimedOut { stage } => {
                write!(f, "{} in stage {stage}", self.result())
            }
            _ => f.write_str(self.result()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Verdict> {
        let stage = StageName::new("tempest").unwrap();
        vec![
            Verdict::Success,
            Verdict::Failure { stage: stage.clone() },
            Verdict::NodeFailure,
            Verdict::RetryLimit,
            Verdict::TimedOut { stage },
            Verdict::MergeConflict,
            Verdict::PostFailure,
            Verdict::Cancelled,
            Verdict::Superseded,
            Verdict::Skipped,
        ]
    }

    #[test]
    fn only_a_failure_votes_against_and_only_a_success_votes_for() {
        for verdict in all() {
            let expected = match verdict {
                Verdict::Success => Some(1),
                Verdict::Failure { .. } => Some(-1),
                _ => None,
            };
            assert_eq!(verdict.vote().map(Vote::value), expected, "{verdict}");
        }
    }

    #[test]
    fn result_words_hold_no_blank() {
        assert!(
            all().iter().all(|verdict| verdict.result().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        );
    }
}
