//! Reports of all kinds, on which a template is tried before it is used.

use std::time::Duration;

use pushbutton_core::{
    BuildsetReport, Cause, Change, ChangeNumber, Error, ErrorKind, EventId, FailureCount, Job, JobName,
    MissingJob, Patchset, PatchsetNumber, Result, RunId, RunResult, StageName, StageOutcome, StageResult,
    StageStatus, TestCounts, Timestamp, Verdict,
};

use crate::template::EarlierFailures;

const TEST: &str =
    "tempest.api.volume.test_volumes_actions.VolumesActionsTest.test_attach_detach_volume_to_instance";

/// What a comment is about, its report, and what a history knows of it.
pub type SampleReport = (&'static str, BuildsetReport, EarlierFailures);

/// One report for each kind of comment.
///
/// # Errors
/// None that a user can cause.
pub fn sample_reports() -> Result<Vec<SampleReport>> {
    let stage = StageName::new("run-tempest")?;
    let job = JobName::new("cinder-tempest")?;
    let failure = || Verdict::Failure { stage: stage.clone() };
    let passed = result(&job, Verdict::Success)?.with_tests(TestCounts::new(1234, 0, 31));
    let outcome = StageOutcome::new(StageStatus::Failed, Duration::from_secs(3000))
        .with_tests(TestCounts::new(1230, 14, 31))
        .with_failed_tests((0..12).map(|nth| format!("{TEST}[id-{nth}]")).collect::<Vec<_>>());
    let failed = result(&job, failure())?
        .with_tests(TestCounts::new(1230, 14, 31))
        .with_reason("task \"Run tempest\" on devstack: exit 1".to_owned())
        .with_stages(vec![StageResult::new(stage.clone(), outcome)]);
    let earlier =
        EarlierFailures::default().with(job.clone(), format!("{TEST}[id-0]"), FailureCount::new(6, 20));
    let none = EarlierFailures::default;
    let why = "no valid host was found. There are not enough hosts available.";
    let lab = |verdict| -> Result<RunResult> {
        Ok(result(&job, verdict)?.with_attempts(3_u32).with_log_url(None).with_reason(why.to_owned()))
    };
    let unit = JobName::new("cinder-unit")?;
    let missing = MissingJob::new(JobName::new("cinder-grenade")?, "an equal job waited already");
    let two = report(vec![passed.clone(), result(&unit, failure())?])?.with_missing(vec![missing.clone()]);
    let notice = BuildsetReport::without_results(
        two.id.clone(),
        two.change.clone(),
        two.patchset.clone(),
        vec![missing],
    );
    Ok(vec![
        ("a success", report(vec![passed])?, none()),
        ("a failure", report(vec![failed.clone()])?, earlier),
        ("a failure without logs", report(vec![failed.with_log_url(None)])?, none()),
        ("a run without a machine", report(vec![lab(Verdict::NodeFailure)?])?, none()),
        ("a run that failed on every attempt", report(vec![lab(Verdict::RetryLimit)?])?, none()),
        ("a run that took too long", report(vec![lab(Verdict::TimedOut { stage })?])?, none()),
        ("a run without published logs", report(vec![lab(Verdict::PostFailure)?])?, none()),
        ("two jobs, and one without a result", two, none()),
        ("a build that was not started", notice, none()),
    ])
}

fn result(job: &JobName, verdict: Verdict) -> Result<RunResult> {
    let (number, patchset) = (ChangeNumber(12345), PatchsetNumber(2));
    let change = Change::new("openstack/cinder".parse()?, "master".parse()?, number)
        .with_subject("Acme: retry a failed attach".to_owned())
        .with_url("https://review.opendev.org/c/openstack/cinder/+/12345".to_owned());
    let revision = "0123456789abcdef0123456789abcdef01234567".parse()?;
    let patchset_of = Patchset::new(patchset, revision, "refs/changes/45/12345/2".parse()?);
    let cause = Cause::new(EventId::manual(number, patchset, "sample"), "comment-added", "recheck");
    let at = Timestamp::UNIX_EPOCH;
    let job = Job::for_patchset(job.clone(), change, patchset_of, cause, at);
    let run = RunId::new("00000000-0000-7000-8000-000000000000")?;
    let url = format!("https://logs.example.org/45/12345/2/{}/{run}/", job.name);
    Ok(RunResult::new(run, job, verdict, at, Duration::from_secs(5025)).with_log_url(url))
}

fn report(results: Vec<RunResult>) -> Result<BuildsetReport> {
    let no_results = || Error::permanent(ErrorKind::Unexpected, "a sample has no results");
    let id = results.first().ok_or_else(no_results)?.job.buildset.id.clone();
    BuildsetReport::new(id, results).ok_or_else(no_results)
}
