//! What the end of a stage or an error means for the attempt. Pure, so that every case can be a test.

use super::stop_signal::StopReason;
use crate::error::{Error, ErrorKind, RetryClass};
use crate::names::StageName;
use crate::run::{OnFailure, RunWhen, Stage, StageOutcome, StageStatus};
use crate::verdict::Verdict;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AttemptOutcome {
    /// With a verdict, and why it is not a success.
    Verdict(Verdict, Option<String>),
    /// The infrastructure failed: try again, or end with the verdict `last` when no attempt is left.
    Infrastructure { why: String, last: Verdict },
    /// The cloud has no room: the job returns to the queue, uncounted. It waits there, because jobs of its label are not
    /// claimed meanwhile.
    NoRoom { why: String },
    /// The operator's own host is at fault, such as a missing program, a full disk or a login that the cloud refuses, and
    /// nothing has run yet: the job returns to the queue, uncounted, for another operator.
    HostFault { why: String },
    /// The lab is not set up for the job: it becomes a dead letter, until a person has fixed the lab.
    Misconfigured { why: String },
    /// It was stopped.
    Stopped(StopReason),
}

impl AttemptOutcome {
    /// No node could be had.
    pub(super) fn no_node(error: &Error) -> Self {
        match Self::of_error(error, Verdict::NodeFailure) {
            Self::Infrastructure { why, .. } if error.kind() == ErrorKind::Exhausted => Self::NoRoom { why },
            outcome => outcome,
        }
    }

    /// There has been no room for so long that the attempt counts.
    pub(super) fn count_no_room(self) -> Self {
        match self {
            Self::NoRoom { why } => Self::Infrastructure { why, last: Verdict::NodeFailure },
            other => other,
        }
    }

    /// A stage could not be run at all.
    pub(super) fn no_stage(error: &Error) -> Self {
        Self::of_error(error, Verdict::RetryLimit)
    }

    /// Whether an error is a fault of the operator's own host or its settings, which affects whatever it runs.
    pub(super) fn is_host_fault(error: &Error) -> bool {
        let is_local = error.kind() == ErrorKind::Local && error.retry_class() != RetryClass::Permanent;
        is_local || error.affects_all_jobs()
    }

    fn of_error(error: &Error, last: Verdict) -> Self {
        // This text is for people on the review. The log has the rest of the error.
        let why = match error.people_text() {
            Some(fault) => format!("{}: {fault}", error.message()),
            None => error.message().to_owned(),
        };
        let setup = matches!(error.kind(), ErrorKind::Config | ErrorKind::Denied);
        match error.retry_class() {
            RetryClass::Permanent if setup => Self::Misconfigured { why },
            // Another attempt cannot fix it, but the configuration is not at fault either.
            RetryClass::Permanent => Self::Verdict(last, Some(why)),
            RetryClass::Temporary | RetryClass::RetriedOut => Self::Infrastructure { why, last },
        }
    }

    /// Whether the attempt failed because of the infrastructure, and another one may follow.
    pub(super) fn is_infrastructure(&self) -> bool {
        matches!(self, Self::Infrastructure { .. })
    }

    /// Turns an infrastructure failure of the last attempt into a verdict.
    pub(super) fn exhaust_retries(self, attempt: u32, attempts: u32) -> Self {
        match self {
            Self::Infrastructure { why, last } if attempt >= attempts => Self::Verdict(last, Some(why)),
            other => other,
        }
    }

    /// What a stage's outcome means; none when the run goes on.
    pub(super) fn of_stage(
        stage: &Stage,
        outcome: &StageOutcome,
        stopped: Option<StopReason>,
    ) -> Option<Self> {
        let name = stage.name.clone();
        // The verdict names the stage already.
        let why = || outcome.detail.clone();
        match outcome.status {
            StageStatus::Passed => None,
            StageStatus::Cancelled => Some(match stopped {
                Some(reason) => Self::Stopped(reason),
                // The pipeline did not stop it: the node or the executor was ended from outside.
                None => {
                    Self::Infrastructure { why: describe(&stage.name, outcome), last: Verdict::RetryLimit }
                }
            }),
            StageStatus::Unreachable => {
                Some(Self::Infrastructure { why: describe(&stage.name, outcome), last: Verdict::RetryLimit })
            }
            // Before `on_failure`: another attempt would find the same conflict.
            StageStatus::Failed if outcome.merge_conflict.is_some() => {
                Some(Self::Verdict(Verdict::MergeConflict, outcome.merge_conflict.clone()))
            }
            StageStatus::TimedOut | StageStatus::Failed if stage.on_failure == OnFailure::Retry => {
                Some(Self::Infrastructure { why: describe(&stage.name, outcome), last: Verdict::RetryLimit })
            }
            StageStatus::Failed if outcome.lab_fault.is_some() => {
                Some(Self::Infrastructure { why: describe(&stage.name, outcome), last: Verdict::RetryLimit })
            }
            StageStatus::TimedOut => Some(Self::Verdict(Verdict::TimedOut { stage: name }, why())),
            StageStatus::Failed => Some(Self::Verdict(Verdict::Failure { stage: name }, why())),
        }
    }

    /// The outcome after an `always` stage, which can show that a success has no logs, or that a failure was a dying
    /// node.
    pub(super) fn after_always(self, stage: &Stage, outcome: &StageOutcome) -> Self {
        debug_assert_eq!(stage.run, RunWhen::Always);
        match (self, outcome.status) {
            // When a machine dies, its tests fail first: that is no fault of the patch.
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
            (outcome, _) => outcome,
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
    let recognised = match (outcome.status, &outcome.lab_fault) {
        (StageStatus::Failed, Some(fault)) => format!(", recognised as infrastructure ({fault})"),
        _ => String::new(),
    };
    match &outcome.detail {
        Some(detail) => format!("stage {stage} {what}{recognised}: {detail}"),
        None => format!("stage {stage} {what}{recognised}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stage(on_failure: OnFailure, run: RunWhen) -> Stage {
        Stage::new(StageName::new("tempest").unwrap(), "run_tempest.yml")
            .with_on_failure(on_failure)
            .with_run(run)
    }

    fn outcome(status: StageStatus) -> StageOutcome {
        StageOutcome::new(status, Duration::ZERO).with_detail(Some("exit 1".into()))
    }

    fn outcome_of(
        on_failure: OnFailure,
        status: StageStatus,
        stopped: Option<StopReason>,
    ) -> Option<AttemptOutcome> {
        AttemptOutcome::of_stage(&stage(on_failure, RunWhen::OnSuccess), &outcome(status), stopped)
    }

    #[test]
    fn only_a_failed_stage_that_blames_the_patch_is_a_failure() {
        use StageStatus::*;
        for status in [Passed, Failed, Unreachable, TimedOut, Cancelled] {
            for on_failure in [OnFailure::Fail, OnFailure::Retry] {
                let is_failure = matches!(
                    outcome_of(on_failure, status, None),
                    Some(AttemptOutcome::Verdict(Verdict::Failure { .. }, _))
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
        let of_stage = outcome_of(OnFailure::Fail, StageStatus::Unreachable, None);
        let why = "stage tempest lost the node: exit 1".to_owned();
        assert_eq!(of_stage, Some(AttemptOutcome::Infrastructure { why, last: Verdict::RetryLimit }));
    }

    #[test]
    fn a_failure_that_is_recognised_as_infrastructure_is_retried_whatever_on_failure_says() {
        let recognised = outcome(StageStatus::Failed).with_lab_fault("rate limit: \"429\"".to_owned());
        for on_failure in [OnFailure::Fail, OnFailure::Retry] {
            let of_stage =
                AttemptOutcome::of_stage(&stage(on_failure, RunWhen::OnSuccess), &recognised, None);
            let why = r#"stage tempest failed, recognised as infrastructure (rate limit: "429"): exit 1"#
                .to_owned();
            assert_eq!(of_stage, Some(AttemptOutcome::Infrastructure { why, last: Verdict::RetryLimit }));
        }
    }

    #[test]
    fn a_merge_conflict_ends_the_run_whatever_on_failure_says() {
        let conflict = outcome(StageStatus::Failed).with_merge_conflict("a.py".to_owned());
        for on_failure in [OnFailure::Fail, OnFailure::Retry] {
            let of_stage = AttemptOutcome::of_stage(&stage(on_failure, RunWhen::OnSuccess), &conflict, None);
            assert_eq!(of_stage, Some(AttemptOutcome::Verdict(Verdict::MergeConflict, Some("a.py".into()))));
        }
        // Only a stage that failed says so.
        for status in [StageStatus::Passed, StageStatus::Unreachable, StageStatus::TimedOut] {
            let of_stage = AttemptOutcome::of_stage(
                &stage(OnFailure::Fail, RunWhen::OnSuccess),
                &outcome(status).with_merge_conflict("a.py".to_owned()),
                None,
            );
            let is_conflict = matches!(of_stage, Some(AttemptOutcome::Verdict(Verdict::MergeConflict, _)));
            assert!(!is_conflict, "{status:?}");
        }
    }

    #[test]
    fn a_stopped_stage_keeps_the_reason() {
        let stopped = outcome_of(OnFailure::Fail, StageStatus::Cancelled, Some(StopReason::Superseded));
        assert_eq!(stopped, Some(AttemptOutcome::Stopped(StopReason::Superseded)));
    }

    #[test]
    fn unpublished_logs_turn_a_success_into_post_failure_and_nothing_else() {
        let publish = stage(OnFailure::Fail, RunWhen::Always);
        let after = |attempt: AttemptOutcome| attempt.after_always(&publish, &outcome(StageStatus::Failed));
        assert!(matches!(
            after(AttemptOutcome::Verdict(Verdict::Success, None)),
            AttemptOutcome::Verdict(Verdict::PostFailure, Some(_))
        ));
        let failure = AttemptOutcome::Verdict(Verdict::Failure { stage: publish.name.clone() }, None);
        assert_eq!(after(failure.clone()), failure);
    }

    #[test]
    fn a_lab_that_is_not_set_up_gives_a_dead_letter_and_no_report() {
        let no_flavor = Error::permanent(ErrorKind::Config, "no flavor m1.huge");
        assert!(matches!(AttemptOutcome::no_node(&no_flavor), AttemptOutcome::Misconfigured { .. }));
        let broken = Error::temporary(ErrorKind::Remote, "the server went into ERROR");
        assert!(matches!(
            AttemptOutcome::no_node(&broken),
            AttemptOutcome::Infrastructure { last: Verdict::NodeFailure, .. }
        ));
        assert!(matches!(
            AttemptOutcome::no_node(&broken.retried_out()),
            AttemptOutcome::Infrastructure { .. }
        ));
    }

    #[test]
    fn v6_a_full_cloud_is_no_attempt_until_it_counts() {
        let full = || Error::temporary(ErrorKind::Exhausted, "no valid host");
        for error in [full(), full().retried_out()] {
            let outcome = AttemptOutcome::no_node(&error);
            assert_eq!(outcome, AttemptOutcome::NoRoom { why: "no valid host".into() });
            assert_eq!(outcome.clone().exhaust_retries(3, 3), outcome, "also at the last attempt");
            let counted = outcome.count_no_room().exhaust_retries(3, 3);
            assert_eq!(counted, AttemptOutcome::Verdict(Verdict::NodeFailure, Some("no valid host".into())));
        }
        // What is full while a stage runs is not the cloud.
        assert!(matches!(AttemptOutcome::no_stage(&full()), AttemptOutcome::Infrastructure { .. }));
    }

    #[test]
    fn a_node_that_is_gone_when_logs_are_gathered_was_the_cause_of_a_failure() {
        let always = stage(OnFailure::Fail, RunWhen::Always);
        let failure = AttemptOutcome::Verdict(Verdict::Failure { stage: always.name.clone() }, None);
        let after = failure.clone().after_always(&always, &outcome(StageStatus::Unreachable));
        assert!(
            matches!(after, AttemptOutcome::Infrastructure { last: Verdict::RetryLimit, .. }),
            "{after:?}"
        );
        assert_eq!(failure.clone().after_always(&always, &outcome(StageStatus::Failed)), failure);
    }
}
