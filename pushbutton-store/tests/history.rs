//! The run history writes down what reporters are told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pushbutton_core::samples;
use pushbutton_core::{
    Job, JobState, Report, Reporter, RunId, StageName, StageOutcome, StageStatus, TestCounts, Update,
    UpdateKind, Verdict,
};
use pushbutton_store::{Store, StoreHistory};
use tempfile::TempDir;

/// A history, and a run that it is told of, a second a step.
struct World {
    history: StoreHistory,
    folder: TempDir,
    seconds: std::cell::Cell<i64>,
}

impl Harness {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let history = Store::open(folder.path().join("x.db")).await.unwrap().history();
        Self { history, folder, seconds: 0.into() }
    }

    async fn tell(&self, run: &RunId, job: &Job, kind: UpdateKind) {
        self.seconds.set(self.seconds.get() + 1);
        let update =
            Update { run: Some(run.clone()), job: job.clone(), attempt: 1, at: at(self.seconds.get()), kind };
        self.history.report(&update).await.unwrap();
    }

    async fn finish(&self, run: &RunId, job: &Job, verdict: Verdict) {
        let report = report(run, job, verdict);
        self.tell(run, job, UpdateKind::Finished { report: Box::new(report) }).await;
    }
}

fn at(seconds: i64) -> Timestamp {
    samples::AT + SignedDuration::from_secs(seconds)
}

fn stage(name: &str) -> StageName {
    StageName::new(name).unwrap()
}

fn outcome(status: StageStatus) -> StageOutcome {
    StageOutcome::new(status, Duration::from_millis(1500))
}

fn report(run: &RunId, job: &Job, verdict: Verdict) -> Report {
    Report {
        run: run.clone(),
        job: job.clone(),
        verdict,
        attempts: 1,
        started: at(0),
        took: Duration::from_secs(60),
        stages: vec![
            (stage("deploy"), outcome(StageStatus::Passed)),
            (stage("tempest"), outcome(StageStatus::Failed)),
        ],
        tests: Some(TestCounts { passed: 10, failed: 2, skipped: 1 }),
        log_url: Some("https://logs.example.org/1".into()),
        reason: Some("2 tests failed".into()),
    }
}

#[tokio::test]
async fn a_run_is_known_at_every_step() {
    let (world, run, job) = (World::new().await, RunId::generate(), samples::job("tempest"));
    let now = async || world.history.run(&run).await.unwrap().unwrap();
    assert_eq!(world.history.run(&run).await.unwrap(), None);
    world.tell(&run, &job, UpdateKind::Started).await;
    assert_eq!(
        (now().await.state, now().await.started, now().await.job),
        (JobState::Claimed, at(1), job.clone())
    );
    world.tell(&run, &job, UpdateKind::Provisioning).await;
    assert_eq!(now().await.state, JobState::Provisioning);
    world
        .tell(&run, &job, UpdateKind::NodeReady { name: "node-1".into(), address: "192.0.2.1".into() })
        .await;
    world.tell(&run, &job, UpdateKind::StageStarted { stage: stage("deploy") }).await;
    let running = now().await;
    assert_eq!((running.state, running.node.as_deref()), (JobState::Running, Some("node-1")));
    assert_eq!((running.stages[0].stage.as_str(), &running.stages[0].outcome), ("deploy", &None));
    let passed = outcome(StageStatus::Passed);
    world.tell(&run, &job, UpdateKind::StageEnded { stage: stage("deploy"), outcome: passed.clone() }).await;
    assert_eq!(now().await.stages[0].outcome, Some(passed));
    assert_eq!(now().await.ended, None);
    let verdict = Verdict::Failure { stage: stage("tempest") };
    world.finish(&run, &job, verdict.clone()).await;
    let ended = now().await;
    assert_eq!((ended.state, ended.verdict, ended.ended), (JobState::Completed, Some(verdict), Some(at(6))));
    assert_eq!(ended.tests, Some(TestCounts { passed: 10, failed: 2, skipped: 1 }));
    assert_eq!(ended.reason.as_deref(), Some("2 tests failed"));
    assert_eq!(ended.log_url.as_deref(), Some("https://logs.example.org/1"));
    let stages: Vec<_> =
        ended.stages.iter().map(|stage| (stage.stage.as_str(), stage.outcome.is_some())).collect();
    assert_eq!(stages, [("deploy", true), ("tempest", true)], "the report's stages are not added twice");
}

#[tokio::test]
async fn a_finished_run_is_written_once_also_after_a_restart() {
    let (world, run, job) = (World::new().await, RunId::generate(), samples::job("tempest"));
    world.finish(&run, &job, Verdict::Success).await;
    let before = world.history.run(&run).await.unwrap();
    let again = Store::open(world.folder.path().join("x.db")).await.unwrap().history();
    let world = World { history: again, ..world };
    world.finish(&run, &job, Verdict::NodeFailure).await;
    world.tell(&run, &job, UpdateKind::HandedBack { why: "late".into() }).await;
    assert_eq!(world.history.run(&run).await.unwrap(), before);
    assert_eq!(world.history.verdicts().await.unwrap(), [("SUCCESS".to_owned(), 1)]);
}

#[tokio::test]
async fn the_latest_runs_come_first_and_lines_cost_nothing() {
    let world = World::new().await;
    let job = |n| samples::job_on(n, "tempest");
    let runs: Vec<_> = (0..5).map(|_| RunId::generate()).collect();
    for (n, run) in (0..).zip(&runs) {
        world.tell(run, &job(n), UpdateKind::Started).await;
        world.tell(run, &job(n), UpdateKind::Line { stage: stage("deploy"), line: "x".repeat(1000) }).await;
    }
    let latest: Vec<_> =
        world.history.recent(3).await.unwrap().into_iter().map(|record| record.run).collect();
    assert_eq!(latest, [runs[4].clone(), runs[3].clone(), runs[2].clone()]);
    assert!(world.history.recent(3).await.unwrap()[0].stages.is_empty());
}

#[tokio::test]
async fn a_run_whose_operator_vanished_ends_when_the_job_is_taken_again() {
    let (world, job) = (World::new().await, samples::job("tempest"));
    let (first, second, other) = (RunId::generate(), RunId::generate(), RunId::generate());
    world.tell(&first, &job, UpdateKind::Started).await;
    world.tell(&other, &samples::job("unit"), UpdateKind::Started).await;
    world.tell(&second, &job, UpdateKind::Started).await;
    let state = async |run| {
        let record = world.history.run(run).await.unwrap().unwrap();
        (record.state, record.ended.is_some())
    };
    assert_eq!(state(&first).await, (JobState::Retrying, true));
    assert_eq!(state(&second).await, (JobState::Claimed, false));
    assert_eq!(state(&other).await, (JobState::Claimed, false), "another job's run goes on");
}

#[tokio::test]
async fn successes_are_counted_and_the_last_is_known() {
    let world = World::new().await;
    assert_eq!(world.history.last_success().await.unwrap(), None);
    for (n, verdict) in (0..).zip([Verdict::Success, Verdict::Success, Verdict::NodeFailure]) {
        world.finish(&RunId::generate(), &samples::job_on(n, "tempest"), verdict).await;
    }
    let counts = [("NODE_FAILURE".to_owned(), 1), ("SUCCESS".to_owned(), 2)];
    assert_eq!(world.history.verdicts().await.unwrap(), counts);
    assert_eq!(world.history.last_success().await.unwrap(), Some(at(2)));
}

#[tokio::test]
async fn pruning_takes_old_runs_and_their_stages() {
    let (world, job) = (World::new().await, samples::job("tempest"));
    let (old, young) = (RunId::generate(), RunId::generate());
    world.tell(&old, &job, UpdateKind::StageStarted { stage: stage("deploy") }).await;
    world.tell(&young, &samples::job("unit"), UpdateKind::StageStarted { stage: stage("deploy") }).await;
    assert_eq!(world.history.prune(at(2)).await.unwrap(), 1);
    let left: Vec<_> = world.history.recent(9).await.unwrap().into_iter().map(|record| record.run).collect();
    assert_eq!(left, [young]);
    let file = rusqlite::Connection::open(world.folder.path().join("x.db")).unwrap();
    let stages: i64 = file.query_row("SELECT count(*) FROM stages", [], |row| row.get(0)).unwrap();
    assert_eq!(stages, 1);
}
