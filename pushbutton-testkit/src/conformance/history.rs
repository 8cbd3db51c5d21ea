//! Checks of the contract of [`RunHistory`], on histories that record as a [`Reporter`].

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::jiff::SignedDuration;
use pushbutton_core::{
    ChangeNumber, FailureCount, FailureQuery, Job, Reporter, RunHistory, RunId, RunResult, StageName,
    StageOutcome, StageResult, StageStatus, TestCounts, Update, UpdateKind, Verdict, samples,
};

/// A history that records runs, and answers questions about them.
pub trait RecordingHistory: Reporter + RunHistory {}

impl<T: Reporter + RunHistory> RecordingHistory for T {}

/// Runs all checks. `open` opens an empty history for each name.
pub async fn all(open: impl AsyncFn(&str) -> Arc<dyn RecordingHistory>) {
    let open = &open;
    failures_of_other_changes_are_counted_in_the_order_of_the_query(open).await;
    only_the_newest_runs_count(open).await;
    only_runs_of_the_job_with_a_verdict_and_tests_count(open).await;
    a_run_that_does_not_name_all_failed_tests_says_nothing_about_the_others(open).await;
    names_of_failed_tests_are_bounded(open).await;
}

/// Records a run that ended, `nth` seconds after the first.
async fn record(
    history: &dyn RecordingHistory,
    nth: i64,
    job: &Job,
    verdict: Verdict,
    failed: &[String],
    counts: Option<TestCounts>,
) {
    let at = samples::AT + SignedDuration::from_secs(nth);
    let status = if failed.is_empty() { StageStatus::Passed } else { StageStatus::Failed };
    let outcome = StageOutcome::new(status, Duration::ZERO).with_failed_tests(failed.to_vec());
    let run = RunId::generate();
    let result = RunResult::new(run.clone(), job.clone(), verdict, at, Duration::ZERO)
        .with_stages(vec![StageResult::new(stage(), outcome)])
        .with_tests(counts);
    let update =
        Update::new(job.clone(), UpdateKind::Finished { result: Box::new(result) }, at).with_run(run);
    history.report(&update).await.expect("a history records the end of a run");
}

fn stage() -> StageName {
    StageName::new("tempest").expect("a valid name")
}

fn failure() -> Verdict {
    Verdict::Failure { stage: stage() }
}

fn names(tests: &[&str]) -> Vec<String> {
    tests.iter().map(ToString::to_string).collect()
}

/// Records a run of `tempest` on this change, in which these tests failed and ten passed.
async fn failed(history: &dyn RecordingHistory, nth: i64, change: u64, tests: &[&str]) {
    let verdict = if tests.is_empty() { Verdict::Success } else { failure() };
    let counts = TestCounts::new(10, tests.len() as u64, 0);
    record(history, nth, &samples::job_on(change, "tempest"), verdict, &names(tests), Some(counts)).await;
}

fn query(tests: &[&str]) -> FailureQuery {
    FailureQuery::new("tempest".parse().expect("a valid name"), ChangeNumber(1), names(tests))
}

async fn counts(history: &dyn RecordingHistory, query: &FailureQuery) -> Vec<(u32, u32)> {
    let counts = history.failure_counts(query).await.expect("a history answers");
    counts.into_iter().map(|FailureCount { failed, runs, .. }| (failed, runs)).collect()
}

/// `failure_counts`: one count for each test, in the order of the query; the change itself does not count.
pub async fn failures_of_other_changes_are_counted_in_the_order_of_the_query(
    open: impl AsyncFn(&str) -> Arc<dyn RecordingHistory>,
) {
    let history = open("order").await;
    let asked = query(&["a", "b", "never"]);
    assert_eq!(counts(&*history, &asked).await, [(0, 0); 3], "an empty history has counted runs");
    for (nth, change, tests) in
        [(1, 2, &["a", "b"][..]), (2, 3, &["b"]), (3, 4, &[]), (4, 1, &["a", "b", "never"])]
    {
        failed(&*history, nth, change, tests).await;
    }
    assert_eq!(counts(&*history, &asked).await, [(1, 3), (2, 3), (0, 3)], "the failures are counted wrong");
}

/// `failure_counts`: the newest runs count, by their starts, and no more than were asked for.
pub async fn only_the_newest_runs_count(open: impl AsyncFn(&str) -> Arc<dyn RecordingHistory>) {
    let history = open("newest").await;
    // Recorded in another order than they began.
    for nth in [5, 1, 4, 2, 3, 6] {
        failed(&*history, nth, 100, if nth <= 3 { &["a"] } else { &[] }).await;
    }
    for (runs, expected) in [(0_u32, (0, 0)), (3, (0, 3)), (4, (1, 4)), (20, (3, 6))] {
        let asked = query(&["a"]).with_runs(runs);
        assert_eq!(counts(&*history, &asked).await, [expected], "of the newest {runs} runs");
    }
}

/// `failure_counts`: runs of other jobs, without a verdict or without tests do not count, nor hide those that do.
pub async fn only_runs_of_the_job_with_a_verdict_and_tests_count(
    open: impl AsyncFn(&str) -> Arc<dyn RecordingHistory>,
) {
    let history = open("which").await;
    failed(&*history, 1, 2, &["a"]).await;
    let (a, counted) = (names(&["a"]), Some(TestCounts::new(1, 1, 0)));
    record(&*history, 2, &samples::job_on(3, "unit"), failure(), &a, counted).await;
    record(&*history, 3, &samples::job_on(4, "tempest"), Verdict::NodeFailure, &[], None).await;
    record(&*history, 4, &samples::job_on(5, "tempest"), failure(), &[], None).await;
    let job = samples::job_on(6, "tempest");
    let outcome = StageOutcome::new(StageStatus::Failed, Duration::ZERO)
        .with_failed_tests(a.clone())
        .with_tests(counted);
    let (at, run) = (samples::AT + SignedDuration::from_secs(5), RunId::generate());
    for kind in [
        UpdateKind::Started,
        UpdateKind::StageEnded { stage: stage(), outcome },
        UpdateKind::Retrying { why: "no route to host".into(), after: Duration::ZERO },
    ] {
        let update = Update::new(job.clone(), kind, at).with_run(run.clone());
        history.report(&update).await.expect("a history records a step");
    }
    assert_eq!(counts(&*history, &query(&["a"]).with_runs(1_u32)).await, [(1, 1)], "another run was counted");
}

/// `failure_counts`: where more tests failed than are named, nothing is known about the tests that are not named.
pub async fn a_run_that_does_not_name_all_failed_tests_says_nothing_about_the_others(
    open: impl AsyncFn(&str) -> Arc<dyn RecordingHistory>,
) {
    let history = open("unnamed").await;
    failed(&*history, 1, 2, &[]).await;
    let counted = Some(TestCounts::new(0, 300, 0));
    record(&*history, 2, &samples::job_on(3, "tempest"), failure(), &names(&["a"]), counted).await;
    assert_eq!(
        counts(&*history, &query(&["a", "z"])).await,
        [(1, 2), (0, 1)],
        "a test that may have failed was counted as one that did not"
    );
}

/// A record does not grow with what a run reports.
pub async fn names_of_failed_tests_are_bounded(open: impl AsyncFn(&str) -> Arc<dyn RecordingHistory>) {
    let history = open("bounded").await;
    let many: Vec<String> = (0..100_000).map(|nth| format!("test_{nth}")).collect();
    let counted = Some(TestCounts::new(0, 100_000, 0));
    record(&*history, 1, &samples::job_on(2, "tempest"), failure(), &many, counted).await;
    let kept = history.recent(1).await.expect("a history answers");
    let named = kept[0].failed_tests().count();
    assert!((20..1000).contains(&named), "{named} names were kept of one run");
    assert_eq!(counts(&*history, &query(&["test_0", "test_99999"])).await, [(1, 1), (0, 0)]);
}
