//! The run history records what is reported.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pushbutton_core::{
    DeadLetter, Job, JobFilter, Queue, Reporter, RunHistory, RunId, RunResult, RunState, StageName,
    StageOutcome, StageResult, StageStatus, TestCounts, Update, UpdateKind, Verdict, samples,
};
use pushbutton_store::{Store, StoreConfig, StoreHistory};
use tempfile::TempDir;

/// A history. Each report comes a second after the one before.
struct Fixture {
    history: StoreHistory,
    folder: TempDir,
    seconds: std::cell::Cell<i64>,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let history = Store::open(folder.path().join("x.db")).await.unwrap().history();
        Self { history, folder, seconds: 0.into() }
    }

    async fn report(&self, run: &RunId, job: &Job, kind: UpdateKind) {
        self.seconds.set(self.seconds.get() + 1);
        let update = Update::new(job.clone(), kind, at(self.seconds.get())).with_run(run.clone());
        self.history.report(&update).await.unwrap();
    }

    async fn finish(&self, run: &RunId, job: &Job, verdict: Verdict) {
        let report = report(run, job, verdict);
        self.report(run, job, UpdateKind::Finished { result: Box::new(report) }).await;
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

fn report(run: &RunId, job: &Job, verdict: Verdict) -> RunResult {
    RunResult::new(run.clone(), job.clone(), verdict, at(0), Duration::from_secs(60))
        .with_stages(vec![
            StageResult::new(stage("deploy"), outcome(StageStatus::Passed)),
            StageResult::new(stage("tempest"), outcome(StageStatus::Failed)),
        ])
        .with_tests(TestCounts::new(10, 2, 1))
        .with_log_url("https://logs.example.org/1".to_owned())
        .with_reason("2 tests failed".to_owned())
}

#[tokio::test]
async fn a_run_is_known_at_every_step() {
    let (fixture, run, job) = (Fixture::new().await, RunId::generate(), samples::job("tempest"));
    let now = async || fixture.history.find_run(&run).await.unwrap().unwrap();
    assert_eq!(fixture.history.find_run(&run).await.unwrap(), None);
    fixture.report(&run, &job, UpdateKind::Started).await;
    assert_eq!(
        (now().await.state, now().await.started, now().await.job),
        (RunState::Claimed, at(1), job.clone())
    );
    fixture.report(&run, &job, UpdateKind::Provisioning).await;
    assert_eq!(now().await.state, RunState::Provisioning);
    fixture
        .report(&run, &job, UpdateKind::NodeReady { name: "node-1".into(), address: "192.0.2.1".into() })
        .await;
    fixture.report(&run, &job, UpdateKind::StageStarted { stage: stage("deploy") }).await;
    let running = now().await;
    assert_eq!((running.state, running.node.as_deref()), (RunState::Running, Some("node-1")));
    assert_eq!((running.stages[0].stage.as_str(), &running.stages[0].outcome), ("deploy", &None));
    let passed = outcome(StageStatus::Passed);
    fixture
        .report(&run, &job, UpdateKind::StageEnded { stage: stage("deploy"), outcome: passed.clone() })
        .await;
    assert_eq!(now().await.stages[0].outcome, Some(passed));
    assert_eq!(now().await.ended, None);
    let verdict = Verdict::Failure { stage: stage("tempest") };
    fixture.finish(&run, &job, verdict.clone()).await;
    let ended = now().await;
    assert_eq!((ended.state, ended.verdict, ended.ended), (RunState::Completed, Some(verdict), Some(at(6))));
    assert_eq!(ended.tests, Some(TestCounts::new(10, 2, 1)));
    assert_eq!(ended.reason.as_deref(), Some("2 tests failed"));
    assert_eq!(ended.log_url.as_deref(), Some("https://logs.example.org/1"));
    let stages: Vec<_> =
        ended.stages.iter().map(|stage| (stage.stage.as_str(), stage.outcome.is_some())).collect();
    assert_eq!(stages, [("deploy", true), ("tempest", true)], "the report's stages are not added twice");
    let file = rusqlite::Connection::open(fixture.folder.path().join("x.db")).unwrap();
    let columns = "SELECT name || ' ' || change || ' ' || state || ' ' || verdict || ' ' || reason FROM runs";
    let row: String = file.query_row(columns, [], |row| row.get(0)).unwrap();
    assert_eq!(row, format!("tempest {} completed FAILURE 2 tests failed", job.change.number));
}

#[tokio::test]
async fn a_finished_run_is_not_changed_by_later_reports_also_after_a_restart() {
    let (fixture, run, job) = (Fixture::new().await, RunId::generate(), samples::job("tempest"));
    fixture.finish(&run, &job, Verdict::Success).await;
    let before = fixture.history.find_run(&run).await.unwrap();
    let again = Store::open(fixture.folder.path().join("x.db")).await.unwrap().history();
    let fixture = Fixture { history: again, ..fixture };
    fixture.finish(&run, &job, Verdict::NodeFailure).await;
    fixture.report(&run, &job, UpdateKind::HandedBack { why: "late".into() }).await;
    assert_eq!(fixture.history.find_run(&run).await.unwrap(), before);
    assert_eq!(fixture.history.verdicts().await.unwrap(), [("SUCCESS".to_owned(), 1)]);
}

#[tokio::test]
async fn the_latest_runs_come_first_and_lines_cost_nothing() {
    let fixture = Fixture::new().await;
    let job = |n| samples::job_on(n, "tempest");
    let runs: Vec<_> = (0..5).map(|_| RunId::generate()).collect();
    for (n, run) in (0..).zip(&runs) {
        fixture.report(run, &job(n), UpdateKind::Started).await;
        fixture
            .report(run, &job(n), UpdateKind::Line { stage: stage("deploy"), line: "x".repeat(1000) })
            .await;
    }
    let latest: Vec<_> =
        fixture.history.recent(3).await.unwrap().into_iter().map(|record| record.run).collect();
    assert_eq!(latest, [runs[4].clone(), runs[3].clone(), runs[2].clone()]);
    assert!(fixture.history.recent(3).await.unwrap()[0].stages.is_empty());
}

#[tokio::test]
async fn a_run_whose_operator_died_ends_when_the_job_is_claimed_again() {
    let (fixture, job) = (Fixture::new().await, samples::job("tempest"));
    let (first, second, other) = (RunId::generate(), RunId::generate(), RunId::generate());
    fixture.report(&first, &job, UpdateKind::Started).await;
    fixture.report(&other, &samples::job("unit"), UpdateKind::Started).await;
    fixture.report(&second, &job, UpdateKind::Started).await;
    let state = async |run| {
        let record = fixture.history.find_run(run).await.unwrap().unwrap();
        (record.state, record.ended.is_some())
    };
    assert_eq!(state(&first).await, (RunState::Retrying, true));
    assert_eq!(state(&second).await, (RunState::Claimed, false));
    assert_eq!(state(&other).await, (RunState::Claimed, false), "another job's run goes on");
}

#[tokio::test]
async fn successes_are_counted_and_the_last_is_known() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.history.last_success().await.unwrap(), None);
    for (n, verdict) in (0..).zip([Verdict::Success, Verdict::Success, Verdict::NodeFailure]) {
        fixture.finish(&RunId::generate(), &samples::job_on(n, "tempest"), verdict).await;
    }
    let counts = [("NODE_FAILURE".to_owned(), 1), ("SUCCESS".to_owned(), 2)];
    assert_eq!(fixture.history.verdicts().await.unwrap(), counts);
    assert_eq!(fixture.history.last_success().await.unwrap(), Some(at(2)));
}

#[tokio::test]
async fn the_last_run_of_a_job_that_dies_of_lost_leases_ends() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig::new(folder.path().join("x.db"))
        .with_lease(Duration::from_millis(50))
        .with_max_lost_leases(2);
    let store = Store::open_with(config).await.unwrap();
    let (queue, history) = (store.queue(), store.history());
    queue.publish(&samples::job("tempest")).await.unwrap();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let claim = queue.claim(&JobFilter::any()).await.unwrap();
        let update = Update::new(claim.job().clone(), UpdateKind::Started, samples::AT);
        history.report(&update.with_run(claim.run().clone())).await.unwrap();
        runs.push(claim.run().clone());
        // Its operator dies.
        drop(claim);
    }
    let other = samples::job("unit");
    let goes_on = RunId::generate();
    let update = Update::new(other, UpdateKind::Started, samples::AT).with_run(goes_on.clone());
    history.report(&update).await.unwrap();
    let waiting = tokio::spawn(async move { queue.claim(&JobFilter::any()).await.map(|_| ()) });
    // It is a dead letter as soon as a claim has looked again after the lease's end.
    while store.queue().depth().await.unwrap().dead == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waiting.abort();
    let last = history.find_run(&runs[1]).await.unwrap().unwrap();
    assert_eq!((last.state, last.ended.is_some()), (RunState::Retrying, true));
    assert_eq!(last.reason, Some(DeadLetter::lost_leases_reason(2)));
    assert_eq!(last.verdict, None);
    assert!(history.find_run(&runs[0]).await.unwrap().unwrap().ended.is_some());
    assert_eq!(history.find_run(&goes_on).await.unwrap().unwrap().ended, None, "another job's run goes on");
}
