//! Rows that cannot be read, since the file is damaged or was edited, hide no others and lose nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pushbutton_core::{
    ChangeNumber, FailureQuery, HistoryEntry, HistoryLog, HistoryReplica, Job, JobFilter, Queue, Reporter,
    RunHistory, RunId, RunRecord, RunResult, RunState, StageName, StageOutcome, StageResult, StageStatus,
    TestCounts, UndeliveredReports, Update, UpdateKind, Verdict, samples,
};
use pushbutton_store::{Store, StoreQueue};
use rusqlite::{Connection, params};
use tempfile::TempDir;
use tokio::time::timeout;

/// One that is not JSON, and one that is nothing that is known.
const DAMAGED: [&str; 2] = ["{\"run\": ", "{}"];

struct File {
    store: Store,
    edited: Connection,
    _folder: TempDir,
}

impl File {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("x.db")).await.unwrap();
        let edited = Connection::open(folder.path().join("x.db")).unwrap();
        edited.busy_timeout(Duration::from_secs(5)).unwrap();
        Self { store, edited, _folder: folder }
    }

    async fn report(&self, run: &RunId, job: &Job, kind: UpdateKind, at: Timestamp) {
        let update = Update::new(job.clone(), kind, at).with_run(run.clone());
        self.store.history().report(&update).await.unwrap();
    }

    /// A run in which `volumes` failed.
    async fn failed(&self, nth: u64) -> RunId {
        let (run, job, at) = (RunId::generate(), samples::job_on(nth, "tempest"), after(nth));
        let outcome = StageOutcome::new(StageStatus::Failed, Duration::ZERO)
            .with_failed_tests(vec!["volumes".to_owned()]);
        let verdict = Verdict::Failure { stage: stage() };
        let result = RunResult::new(run.clone(), job.clone(), verdict, at, Duration::ZERO)
            .with_stages(vec![StageResult::new(stage(), outcome)])
            .with_tests(TestCounts::new(10, 1, 0));
        self.report(&run, &job, UpdateKind::Finished { result: Box::new(result) }, at).await;
        run
    }

    /// Only with JSON: SQLite refuses other records, since the virtual columns cannot be made of them.
    fn damage(&self, run: &RunId, record: &str) {
        let sql = "UPDATE runs SET record = ? WHERE run = ?";
        assert_eq!(self.edited.execute(sql, params![record, run.as_str()]).unwrap(), 1);
    }
}

fn stage() -> StageName {
    StageName::new("tempest").unwrap()
}

fn after(seconds: u64) -> Timestamp {
    samples::AT + SignedDuration::from_secs(i64::try_from(seconds).unwrap())
}

#[tokio::test]
async fn runs_that_cannot_be_read_hide_no_others() {
    let file = File::new().await;
    let mut runs = Vec::new();
    for nth in 0..5 {
        runs.push(file.failed(nth).await);
    }
    for (run, record) in [(&runs[4], "{}"), (&runs[2], "{\"run\": 7}")] {
        file.damage(run, record);
    }
    let history = file.store.history();
    let recent = history.recent(2).await.unwrap();
    assert_eq!(recent.iter().map(|record| &record.run).collect::<Vec<_>>(), [&runs[3], &runs[1]]);
    assert_eq!(history.recent(10).await.unwrap().len(), 3);
    let name = samples::job("tempest").name;
    for (not_on, counted) in [(99, 3), (1, 2)] {
        let query = FailureQuery::new(name.clone(), ChangeNumber(not_on), vec!["volumes".into()]);
        let counts = history.failure_counts(&query).await.unwrap();
        assert_eq!((counts[0].failed, counts[0].runs), (counted, counted), "{query:?}");
    }
    // One that still says of which job it is.
    file.damage(&runs[0], "{\"job\": {\"name\": \"tempest\"}}");
    let query = FailureQuery::new(name, ChangeNumber(99), vec!["volumes".into()]);
    assert_eq!(history.failure_counts(&query).await.unwrap()[0].runs, 2);
}

#[tokio::test]
async fn a_run_that_cannot_be_read_stops_no_run_of_its_job() {
    let file = File::new().await;
    let job = samples::job("tempest");
    let [lost, older, run] = [(); 3].map(|()| RunId::generate());
    file.report(&older, &job, UpdateKind::Started, after(0)).await;
    // Two open runs of one job: the second one began elsewhere, and was read late.
    let record = RunRecord::new(lost.clone(), job.clone(), 1, after(0) - SignedDuration::from_secs(9));
    file.store.history().append(HistoryEntry::Run { record: Box::new(record) }).await.unwrap();
    file.damage(&lost, "{}");
    file.report(&run, &job, UpdateKind::Started, after(2)).await;
    let state = async |run| file.store.history().find_run(run).await.unwrap().unwrap().state;
    assert_eq!(state(&older).await, RunState::Retrying);
    assert_eq!(state(&run).await, RunState::Claimed);
    // Its own record is written anew by what comes next.
    file.damage(&run, "{}");
    file.report(&run, &job, UpdateKind::Provisioning, after(3)).await;
    assert_eq!(state(&run).await, RunState::Provisioning);
}

#[tokio::test]
async fn a_run_that_cannot_be_read_does_not_hold_up_a_feed() {
    let file = File::new().await;
    let run = RunRecord::new(RunId::generate(), samples::job("tempest"), 1, samples::AT);
    let entry = HistoryEntry::Run { record: Box::new(run.clone()) };
    let history = file.store.history();
    history.apply("feed", vec![entry.clone()], "1").await.unwrap();
    file.damage(&run.run, "{}");
    history.apply("feed", vec![entry], "2").await.unwrap();
    assert_eq!(history.find_run(&run.run).await.unwrap(), Some(run));
    assert_eq!(history.feed_position("feed").await.unwrap().as_deref(), Some("2"));
}

/// Two reports that are due, of changes 1 and 2; this column of the first one is damaged.
async fn reports(column: &str, damaged: &str) -> (File, StoreQueue) {
    let file = File::new().await;
    let queue = file.store.queue();
    for change in [1, 2] {
        queue.publish(&samples::job_on(change, "tempest")).await.unwrap();
        let claim = queue.claim(&JobFilter::any()).await.unwrap();
        claim.complete(&samples::success(claim.job())).await.unwrap();
    }
    let sql = format!("UPDATE reports SET {column} = ? WHERE seq = 1");
    assert_eq!(file.edited.execute(&sql, params![damaged]).unwrap(), 1);
    (file, queue)
}

#[tokio::test]
async fn a_report_that_cannot_be_read_is_kept_as_undelivered_and_hides_no_other() {
    for damaged in DAMAGED {
        let (file, queue) = reports("report", damaged).await;
        let ended = samples::AT + SignedDuration::from_secs(600);
        assert_eq!(queue.ages().await.unwrap().report, Some(ended), "of the second one");
        let claimed = timeout(Duration::from_secs(20), queue.claim_report()).await;
        let due = claimed.expect("the first one blocks nobody").unwrap();
        assert_eq!(due.report().change.number, ChangeNumber(2));
        due.give_up("the label is not permitted", &Default::default()).await.unwrap();
        assert_eq!(queue.depth().await.unwrap().undelivered, 2);
        let listed = queue.list_undelivered(1).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].report.change.number, ChangeNumber(2));
        let kept: (String, String, String, Option<i64>) = file
            .edited
            .query_row("SELECT state, report, why, ended_at FROM reports WHERE seq = 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .unwrap();
        assert_eq!((kept.0.as_str(), kept.1.as_str()), ("undelivered", damaged));
        assert!(kept.2.starts_with("cannot be read: ") && kept.3.is_some(), "{kept:?}");
        // A person can drop it.
        let id = samples::job_on(1, "tempest").buildset.id;
        assert!(queue.drop_undelivered(&id).await.unwrap());
        assert_eq!(queue.depth().await.unwrap().undelivered, 1);
    }
}

#[tokio::test]
async fn a_report_whose_deliveries_cannot_be_read_waits_for_a_person_who_may_deliver_it_again() {
    for damaged in DAMAGED {
        let (_file, queue) = reports("delivered", damaged).await;
        let other =
            timeout(Duration::from_secs(20), queue.claim_report()).await.expect("not blocked").unwrap();
        assert_eq!(other.report().change.number, ChangeNumber(2));
        other.done().await.unwrap();
        let listed = queue.list_undelivered(10).await.unwrap();
        assert_eq!(listed.len(), 1, "it is whole, so it is listed");
        assert!(listed[0].why.starts_with("cannot be read: "), "{}", listed[0].why);
        assert!(queue.retry_undelivered(&listed[0].report.id).await.unwrap());
        let again = timeout(Duration::from_secs(20), queue.claim_report()).await.expect("it is due").unwrap();
        assert_eq!((again.report().change.number, again.delivered().len()), (ChangeNumber(1), 0));
        again.done().await.unwrap();
    }
}
