//! The dashboard with made-up runs, to look at in a browser: `cargo run --example dashboard -- ADDRESS LOG_FOLDER`.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "an example")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use pushbutton_core::memory::{MemoryQueue, sample};
use pushbutton_core::*;
use pushbutton_web::{RunHistory, RunView, StageView, WebState, router};

struct Runs(Vec<RunView>);

#[async_trait]
impl RunHistory for Runs {
    async fn recent(&self, limit: usize) -> Result<Vec<RunView>> {
        Ok(self.0.iter().take(limit).cloned().collect())
    }
    async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }
    async fn last_success(&self) -> Result<Option<Timestamp>> {
        Ok(Some(Timestamp::now() - SignedDuration::from_hours(3)))
    }
}

fn run(n: i64, verdict: Option<Verdict>, reason: Option<&str>, state: JobState) -> RunView {
    let started = Timestamp::now() - SignedDuration::from_mins(n * 97 + 3);
    let ended = (!matches!(state, JobState::Running | JobState::Provisioning)).then(|| started + SignedDuration::from_secs(5000 + n * 777));
    let mut job = sample::job_on(912_345 - n as u64 * 17, "acme-tempest-iscsi");
    job.change.subject = ["Fix volume detach on multipath hosts", "Add replication support to the Acme driver and document how failover works in practice", "[WIP] debug"][n as usize % 3].into();
    job.change.url = Some("https://review.example.org/c/1".into());
    let stage = |name: &str, status: Option<StageStatus>| StageView {
        stage: StageName::new(name).unwrap(),
        started,
        outcome: status.map(|s| StageOutcome::of(s, Duration::from_secs(930))),
    };
    let mut stages = vec![stage("install-devstack", Some(StageStatus::Passed))];
    stages.push(stage("run-tempest", match &verdict {
        Some(Verdict::Success) => Some(StageStatus::Passed),
        Some(Verdict::Failure { .. }) => Some(StageStatus::Failed),
        Some(_) => Some(StageStatus::Unreachable),
        None => None,
    }));
    RunView {
        run: RunId::generate(),
        job,
        attempt: 1 + (n as u32 % 2),
        state,
        started,
        ended,
        node: Some("pb-node-1".into()),
        tests: matches!(verdict, Some(Verdict::Success | Verdict::Failure { .. })).then_some(TestCounts { passed: 1310, failed: n as u64 % 3, skipped: 42 }),
        verdict,
        reason: reason.map(Into::into),
        log_url: Some("https://logs.example.org/1".into()),
        stages,
    }
}

#[tokio::main]
async fn main() {
    let args: Vec<_> = std::env::args().collect();
    let queue = MemoryQueue::with_lease(Duration::from_secs(600));
    for n in 0..7 {
        queue.publish(&sample::job_on(n, "acme-tempest-iscsi")).await.unwrap();
    }
    for _ in 0..2 {
        queue.claim().await.unwrap().reject("no such job here: acme-old").await.unwrap();
    }
    let _held = queue.claim().await.unwrap();
    let tempest = StageName::new("run-tempest").unwrap();
    let runs = vec![
        run(0, None, None, JobState::Running),
        run(1, Some(Verdict::Success), None, JobState::Completed),
        run(2, Some(Verdict::Failure { stage: tempest }), Some("2 of 1354 tests failed: tempest.api.volume.test_volumes_snapshots.VolumesSnapshotTestJSON.test_snapshot_create_get_list_update_delete"), JobState::Completed),
        run(3, Some(Verdict::NodeFailure), Some("no machine: Quota exceeded for cores: Requested 8, but already used 60 of 64 cores"), JobState::Completed),
        run(4, None, Some("its operator ended without a word; the job was taken again"), JobState::Retrying),
        run(5, Some(Verdict::TimedOut { stage: StageName::new("run-tempest").unwrap() }), Some("longer than 4h"), JobState::Completed),
        run(6, Some(Verdict::Success), None, JobState::Completed),
        run(7, Some(Verdict::Superseded), Some("patch set 4 was uploaded"), JobState::Completed),
    ];
    let state = WebState::new(Arc::new(queue), Arc::new(Runs(runs))).titled("Acme Storage CI").with_logs(&args[2]);
    let listener = tokio::net::TcpListener::bind(&args[1]).await.unwrap();
    axum::serve(listener, router(state)).await.unwrap();
}
