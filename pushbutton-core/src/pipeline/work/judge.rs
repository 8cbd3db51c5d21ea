//! From what happened to what it means: pure, so that every case can be a test.

use std::time::Duration;

use super::stop::Reason;
use crate::error::{Error, ErrorKind, RetryClass};
use crate::ident::StageName;
use crate::run::{OnFailure, RunWhen, Stage, StageOutcome, StageStatus};
use crate::verdict::Verdict;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ending {
    /// With a verdict, and why it is not a success.
    Verdict(Verdict, Option<String>),
    /// The infrastructure failed: try again, or say `last` when no attempt is left.
    Infrastructure { why: String, last: Verdict },
    /// The lab is not set up for it: for the dead-letter queue, until a person has mended that.
    Misconfigured { why: String },
    /// It was stopped.
    Stopped(Reason),
}

impl Ending {
    /// No node could be had.
    pub(super) fn no_node(error: &Error) -> Self {
        Self::of_error(error, Verdict::NodeFailure)
    }

    /// A stage could not be run at all.
    pub(super) fn no_stage(error: &Error) -> Self {
        Self::of_error(error, Verdict::RetryLimit)
    }

    fn of_error(error: &Error, last: Verdict) -> Self {
        // For people on the review: what went wrong, and the cloud's own words. The log has the rest.
        let why = match error.context("fault") {
            Some(fault) => format!("{}: {fault}", error.message()),
            None => error.message().to_owned(),
        };
        let setup = matches!(error.kind(), ErrorKind::Config | ErrorKind::Denied);
        match error.retry_class() {
            RetryClass::Permanent if setup => Self::Misconfigured { why },
            // Another attempt cannot mend it, but it is no fault of the configuration either.
            RetryClass::Permanent => Self::Verdict(last, Some(why)),
            RetryClass::Temporary | RetryClass::RetriedOut => Self::Infrastructure { why, last },
        }
    }

    /// What a stage's outcome means; none when the run goes on.
    pub(super) fn of_stage(stage: &Stage, outcome: &StageOutcome, stopped: Option<Reason>) -> Option<Self> {
        let name = stage.name.clone();
        // The verdict names the stage already.
        let why = || outcome.detail.clone();
        match outcome.status {
            StageStatus::Passed => None,
            StageStatus::Cancelled => Some(match stopped {
                Some(reason) => Self::Stopped(reason),
                // Nobody of ours asked for it: the node or the executor was ended from outside.
                None => {
                    Self::Infrastructure { why: describe(&stage.name, outcome), last: Verdict::RetryLimit }
                }
            }),
            StageStatus::Unreachable => {
                Some(Self::Infrastructure { why: describe(&stage.name, outcome), last: Verdict::RetryLimit })
            }
            StageStatus::TimedOut | StageStatus::Failed if stage.on_failure == OnFailure::Retry => {
                Some(Self::Infrastructure { why: describe(&stage.name, outcome), last: Verdict::RetryLimit })
            }
            StageStatus::TimedOut => Some(Self::Verdict(Verdict::TimedOut { stage: name }, why())),
            StageStatus::Failed => Some(Self::Verdict(Verdict::Failure { stage: name }, why())),
        }
    }

    /// The ending after an `always` stage: it can spoil a success, and show that what looked like the patch's fault was a node on its way out.
    pub(super) fn after_always(self, stage: &Stage, outcome: &StageOutcome) -> Self {
        debug_assert_eq!(stage.run, RunWhen::Always);
        match (self, outcome.status) {
            // A machine that dies takes its processes with it, which looks like tests that fail.
            (
                Self::Verdict(Verdict::Failure { stage: failed } | Verdict::TimedOut { stage: failed }, _),
                StageStatus::Unreachable,
            ) => Self::Infrastructure {
                why: format!("after stage {failed}: {}", describe(&stage.name, outcome)),
                last: Verdict::RetryLimit,
            },
            (Self::Verdict(Verdict::Success, _), status) if status != StageStatus::Passed => {
                Self::Verdict(Verdict::PostFailure, Some(describe(&stage.name, outcome)))
            }
            (ending, _) => ending,
        }
    }
}

fn describe(stage: &StageName, outcome: &StageOutcome) -> String {
    let what = match outcome.status {
        StageStatus::Passed => "passed",
        StageStatus::Failed => "failed",
        StageStatus::Unreachable => "lost the node",
        StageStatus::TimedOut => "took too long",
        StageStatus::Cancelled => "was stopped",
    };
    match &outcome.detail {
        Some(detail) => format!("stage {stage} {what}: {detail}"),
        None => format!("stage {stage} {what}"),
    }
}

/// How long to wait before the next attempt, the `failed`th having failed.
pub(super) fn retry_delay(first: Duration, cap: Duration, failed: u32) -> Duration {
    first.saturating_mul(1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn stage(on_failure: OnFailure, run: RunWhen) -> Stage {
        Stage {
            name: StageName::new("tempest").unwrap(),
            playbook: "run_tempest.yml".into(),
            on_failure,
            run,
            timeout: Duration::from_secs(1),
            vars: BTreeMap::new(),
        }
    }

    fn outcome(status: StageStatus) -> StageOutcome {
        StageOutcome { detail: Some("exit 1".into()), ..StageOutcome::of(status, Duration::ZERO) }
    }

    fn ending(on_failure: OnFailure, status: StageStatus, stopped: Option<Reason>) -> Option<Ending> {
        Ending::of_stage(&stage(on_failure, RunWhen::OnSuccess), &outcome(status), stopped)
    }

    #[test]
    fn only_a_failed_stage_that_blames_the_patch_is_a_failure() {
        use StageStatus::*;
        for status in [Passed, Failed, Unreachable, TimedOut, Cancelled] {
            for on_failure in [OnFailure::Fail, OnFailure::Retry] {
                let is_failure = matches!(
                    ending(on_failure, status, None),
                    Some(Ending::Verdict(Verdict::Failure { .. }, _))
                );
                assert_eq!(
                    is_failure,
                    status == Failed && on_failure == OnFailure::Fail,
                    "{status:?} {on_failure:?}"
                );
            }
        }
    }

    #[test]
    fn an_unreachable_node_is_always_infrastructure() {
        let ending = ending(OnFailure::Fail, StageStatus::Unreachable, None);
        let why = "stage tempest lost the node: exit 1".to_owned();
        assert_eq!(ending, Some(Ending::Infrastructure { why, last: Verdict::RetryLimit }));
    }

    #[test]
    fn a_stopped_stage_tells_why() {
        let stopped = ending(OnFailure::Fail, StageStatus::Cancelled, Some(Reason::Superseded));
        assert_eq!(stopped, Some(Ending::Stopped(Reason::Superseded)));
    }

    #[test]
    fn unpublished_logs_spoil_a_success_and_nothing_else() {
        let publish = stage(OnFailure::Fail, RunWhen::Always);
        let after = |ending: Ending| ending.after_always(&publish, &outcome(StageStatus::Failed));
        assert!(matches!(
            after(Ending::Verdict(Verdict::Success, None)),
            Ending::Verdict(Verdict::PostFailure, Some(_))
        ));
        let failure = Ending::Verdict(Verdict::Failure { stage: publish.name.clone() }, None);
        assert_eq!(after(failure.clone()), failure);
    }

    #[test]
    fn a_lab_that_is_not_set_up_is_told_to_its_people_and_not_to_the_review() {
        let no_flavor = Error::permanent(ErrorKind::Config, "no flavor m1.huge");
        assert!(matches!(Ending::no_node(&no_flavor), Ending::Misconfigured { .. }));
        let full = Error::temporary(ErrorKind::Exhausted, "no valid host");
        assert!(matches!(Ending::no_node(&full), Ending::Infrastructure { last: Verdict::NodeFailure, .. }));
        assert!(matches!(Ending::no_node(&full.retried_out()), Ending::Infrastructure { .. }));
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let delay = |failed| retry_delay(Duration::from_secs(60), Duration::from_secs(900), failed).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(delay), [60, 120, 240, 480, 900, 900]);
    }

    #[test]
    fn a_node_that_is_gone_when_logs_are_gathered_was_the_cause_of_a_failure() {
        let always = stage(OnFailure::Fail, RunWhen::Always);
        let failure = Ending::Verdict(Verdict::Failure { stage: always.name.clone() }, None);
        let after = failure.clone().after_always(&always, &outcome(StageStatus::Unreachable));
        assert!(matches!(after, Ending::Infrastructure { last: Verdict::RetryLimit, .. }), "{after:?}");
        assert_eq!(failure.clone().after_always(&always, &outcome(StageStatus::Failed)), failure);
    }
}
