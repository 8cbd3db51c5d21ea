//! Checks of the contract of [`Reporter`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::samples;
use pushbutton_core::{
    BuildsetReport, Job, Reporter, RunId, RunResult, StageName, StageOutcome, StageResult, StageStatus,
    Update, UpdateKind, Verdict,
};

/// The reporter under test, and the place where its reports can be counted.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Opens a reporter, as a process does at its start.
    async fn open(&mut self) -> Arc<dyn Reporter>;

    /// A job without reports; a different one at each call.
    async fn job(&mut self) -> Job;

    /// The number of reports on this job, as its readers see them.
    async fn report_count(&self, job: &Job) -> usize;

    /// How it gets the reports: by [`Reporter::deliver`], as on a review, or as the last step of a run, as a history
    /// does.
    fn delivers(&self) -> bool {
        true
    }

    /// Whether the reporter still knows after a restart what it has reported.
    fn survives_restart(&self) -> bool;
}

/// Runs all checks; `fresh` makes a new harness for each.
pub async fn all<H: Harness>(mut fresh: impl AsyncFnMut() -> H) {
    a_finished_run_is_reported_once(&mut fresh().await).await;
    a_restart_does_not_repeat_a_report(&mut fresh().await).await;
    steps_without_a_verdict_are_accepted_and_not_reported(&mut fresh().await).await;
    mixed_runs_are_each_reported(&mut fresh().await).await;
    the_name_is_short(&mut fresh().await).await;
}

/// The report of a buildset of this one job.
pub fn report(job: &Job, run: &RunId, verdict: Verdict) -> BuildsetReport {
    let UpdateKind::Finished { result } = finished(job, run, verdict).kind else {
        unreachable!("it is finished")
    };
    BuildsetReport::new(job.buildset.id.clone(), vec![*result]).expect("the verdict is reported")
}

/// The update at the end of a run of this job.
pub fn finished(job: &Job, run: &RunId, verdict: Verdict) -> Update {
    let passed = StageOutcome::new(StageStatus::Passed, Duration::from_secs(60));
    let result = RunResult::new(run.clone(), job.clone(), verdict, samples::AT, Duration::from_secs(90))
        .with_stages(vec![StageResult::new(stage(), passed)])
        .with_log_url("https://logs.example.org/1/".to_owned());
    update(job, run, UpdateKind::Finished { result: Box::new(result) })
}

fn update(job: &Job, run: &RunId, kind: UpdateKind) -> Update {
    Update::new(job.clone(), kind, samples::AT).with_run(run.clone())
}

fn stage() -> StageName {
    StageName::new("tempest").expect("a valid name")
}

async fn send(reporter: &dyn Reporter, update: &Update) {
    if let Err(error) = reporter.report(update).await {
        panic!("a reporter must accept {:?}: {error}", update.kind);
    }
}

async fn send_report(
    harness: &dyn Harness,
    reporter: &dyn Reporter,
    job: &Job,
    run: &RunId,
    verdict: Verdict,
) {
    if !harness.delivers() {
        return send(reporter, &finished(job, run, verdict)).await;
    }
    if let Err(error) = reporter.deliver(&report(job, run, verdict)).await {
        panic!("a reporter must deliver a report: {error}");
    }
}

/// Idempotent: given the same report several times, it reports once.
pub async fn a_finished_run_is_reported_once(harness: &mut dyn Harness) {
    let (reporter, job, run) = (harness.open().await, harness.job().await, RunId::generate());
    assert_eq!(harness.report_count(&job).await, 0, "the harness must return a job without reports");
    for _ in 0..3 {
        send_report(harness, &*reporter, &job, &run, Verdict::Success).await;
        assert_eq!(harness.report_count(&job).await, 1, "a repeated report must not be reported again");
    }
}

/// Idempotent also after a restart.
pub async fn a_restart_does_not_repeat_a_report(harness: &mut dyn Harness) {
    if !harness.survives_restart() {
        return;
    }
    let (job, run) = (harness.job().await, RunId::generate());
    for _ in 0..2 {
        let reporter = harness.open().await;
        send_report(harness, &*reporter, &job, &run, Verdict::Success).await;
    }
    assert_eq!(
        harness.report_count(&job).await,
        1,
        "a repeated report must not be reported again after a restart"
    );
}

/// Updates before the verdict are `Ok`, and cause no report.
pub async fn steps_without_a_verdict_are_accepted_and_not_reported(harness: &mut dyn Harness) {
    let (reporter, job, run) = (harness.open().await, harness.job().await, RunId::generate());
    for kind in [
        UpdateKind::Queued,
        UpdateKind::Started,
        UpdateKind::Provisioning,
        UpdateKind::NodeReady { name: "node".into(), address: "192.0.2.1".into() },
        UpdateKind::StageStarted { stage: stage() },
        UpdateKind::Line { stage: stage(), line: "\u{1b}[31m- job https://x : SUCCESS\u{0}".into() },
        UpdateKind::StageEnded {
            stage: stage(),
            outcome: StageOutcome::new(StageStatus::Failed, Duration::ZERO),
        },
        UpdateKind::Retrying { why: "no valid host".into(), after: Duration::from_secs(1) },
        UpdateKind::HandedBack { why: "shutdown".into() },
    ] {
        send(&*reporter, &update(&job, &run, kind)).await;
    }
    assert_eq!(
        harness.report_count(&job).await,
        0,
        "one report for each run: no step before the end is reported"
    );
}

/// Updates of several runs may mix; each run is reported.
pub async fn mixed_runs_are_each_reported(harness: &mut dyn Harness) {
    let (reporter, one, two) = (harness.open().await, harness.job().await, harness.job().await);
    let (first, second) = (RunId::generate(), RunId::generate());
    send(&*reporter, &update(&one, &first, UpdateKind::Started)).await;
    send(&*reporter, &update(&two, &second, UpdateKind::Started)).await;
    send_report(harness, &*reporter, &two, &second, Verdict::Success).await;
    send_report(harness, &*reporter, &one, &first, Verdict::Failure { stage: stage() }).await;
    for job in [&one, &two] {
        assert_eq!(harness.report_count(job).await, 1, "each run must be reported");
    }
}

/// The name for logs is short.
pub async fn the_name_is_short(harness: &mut dyn Harness) {
    let reporter = harness.open().await;
    let name = reporter.name();
    assert!(
        !name.is_empty() && name.len() <= 32 && !name.contains(char::is_whitespace),
        "{name:?} is not a short name"
    );
}
