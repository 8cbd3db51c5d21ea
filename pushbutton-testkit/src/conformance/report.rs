//! The contract of [`Reporter`], as checks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::samples;
use pushbutton_core::{
    Job, Report, Reporter, RunId, StageName, StageOutcome, StageResult, StageStatus, Update, UpdateKind,
    Verdict,
};

/// Where a reporter under test speaks.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A reporter, as a process makes it at its start.
    async fn open(&mut self) -> Arc<dyn Reporter>;

    /// A job that nobody has spoken of yet; another at each call.
    async fn job(&mut self) -> Job;

    /// How often this job has been spoken of, as those see it who are told.
    async fn spoken_of(&self, job: &Job) -> usize;

    /// Whether what was said is still known after a restart.
    fn remembers(&self) -> bool;
}

/// Runs all checks; `fresh` makes a new harness for each.
pub async fn all<W: Harness>(mut fresh: impl AsyncFnMut() -> W) {
    a_finished_run_is_spoken_of_once(&mut fresh().await).await;
    a_restart_does_not_repeat_it(&mut fresh().await).await;
    steps_without_a_verdict_are_taken_quietly(&mut fresh().await).await;
    runs_may_mix(&mut fresh().await).await;
    it_has_a_name(&mut fresh().await).await;
}

/// A finished run of this job.
pub fn finished(job: &Job, run: &RunId, verdict: Verdict) -> Update {
    let passed = StageOutcome::new(StageStatus::Passed, Duration::from_secs(60));
    let report = Report::new(run.clone(), job.clone(), verdict, samples::AT, Duration::from_secs(90))
        .with_stages(vec![StageResult::new(stage(), passed)])
        .with_log_url("https://logs.example.org/1/".to_owned());
    update(job, run, UpdateKind::Finished { report: Box::new(report) })
}

fn update(job: &Job, run: &RunId, kind: UpdateKind) -> Update {
    Update::new(job.clone(), kind, samples::AT).with_run(run.clone())
}

fn stage() -> StageName {
    StageName::new("tempest").expect("a good name")
}

async fn send(reporter: &dyn Reporter, update: &Update) {
    if let Err(error) = reporter.report(update).await {
        panic!("a reporter must take {:?}: {error}", update.kind);
    }
}

/// Idempotent: told the same `Finished` twice, it speaks once.
pub async fn a_finished_run_is_spoken_of_once(harness: &mut dyn Harness) {
    let (reporter, job, run) = (harness.open().await, harness.job().await, RunId::generate());
    assert_eq!(harness.spoken_of(&job).await, 0, "the harness must give jobs that nobody has spoken of");
    for _ in 0..3 {
        send(&*reporter, &finished(&job, &run, Verdict::Success)).await;
        assert_eq!(harness.spoken_of(&job).await, 1, "told again, it must not speak again");
    }
}

/// ... also after a restart.
pub async fn a_restart_does_not_repeat_it(harness: &mut dyn Harness) {
    if !harness.remembers() {
        return;
    }
    let (job, run) = (harness.job().await, RunId::generate());
    for _ in 0..2 {
        let reporter = harness.open().await;
        send(&*reporter, &finished(&job, &run, Verdict::Success)).await;
    }
    assert_eq!(harness.spoken_of(&job).await, 1, "told again after a restart, it must not speak again");
}

/// What it does not care for is `Ok`; before the verdict there is nothing to say to people.
pub async fn steps_without_a_verdict_are_taken_quietly(harness: &mut dyn Harness) {
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
        harness.spoken_of(&job).await,
        0,
        "at most one comment a patch set: no step but the last may speak"
    );
}

/// Updates of several runs may mix; each is spoken of.
pub async fn runs_may_mix(harness: &mut dyn Harness) {
    let (reporter, one, two) = (harness.open().await, harness.job().await, harness.job().await);
    let (first, second) = (RunId::generate(), RunId::generate());
    send(&*reporter, &update(&one, &first, UpdateKind::Started)).await;
    send(&*reporter, &update(&two, &second, UpdateKind::Started)).await;
    send(&*reporter, &finished(&two, &second, Verdict::Success)).await;
    send(&*reporter, &finished(&one, &first, Verdict::Failure { stage: stage() })).await;
    for job in [&one, &two] {
        assert_eq!(harness.spoken_of(job).await, 1, "each run must be spoken of");
    }
}

/// A short name for logs.
pub async fn it_has_a_name(harness: &mut dyn Harness) {
    let reporter = harness.open().await;
    let name = reporter.name();
    assert!(
        !name.is_empty() && name.len() <= 32 && !name.contains(char::is_whitespace),
        "{name:?} is no short name"
    );
}
