//! Jobs carry what their change depends on. Without an answer from upstream no job is made and no event is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pushbutton_core::memory::{
    FakeStage, MemoryChanges, MemoryEventStore, MemoryExecutor, MemoryProvisioner, MemoryQueue,
    MemoryReporter, MemorySource,
};
use pushbutton_core::{
    Alerter, Buildset, Change, ChangeNumber, ChangeSelector, ChangeStatus, DependencyLookup, Error,
    ErrorKind, EventMatch, EventStore, Handler, JobFilter, LinkedChange, LogLocation, Operator, Patchset,
    PatchsetCommit, PatchsetNumber, Pipeline, Queue, Result, Shutdown, StageOutcome, StageStatus, Trigger,
    Triggers, Verdict, async_trait, samples,
};

use crate::lab::tempest;

fn triggers() -> Triggers {
    let on = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    Triggers::compile(vec![Trigger::new("recheck", on, ["tempest".parse().unwrap()])], vec![]).unwrap()
}

/// The change of the samples, which depends on change 7 of openstack/nova.
fn tested() -> LinkedChange {
    let commit = PatchsetCommit::new(samples::patchset(), vec!["b".repeat(40).parse().unwrap()]);
    LinkedChange::new(samples::change(), vec![commit])
        .with_message("A change\n\nDepends-On: https://review.example.org/c/openstack/nova/+/7\n")
}

fn nova(status: ChangeStatus) -> LinkedChange {
    let dependency = samples::dependency(7);
    let change = Change::new(dependency.project, dependency.branch, ChangeNumber(7)).with_status(status);
    let patchset = Patchset::new(PatchsetNumber(1), dependency.revision, dependency.git_ref);
    LinkedChange::new(change, vec![PatchsetCommit::new(patchset, vec![])])
}

/// Upstream that fails some times in this way, and then answers.
struct Upstream {
    changes: MemoryChanges,
    failures: AtomicUsize,
    error: fn() -> Error,
}

fn upstream(status: ChangeStatus, failures: usize, error: fn() -> Error) -> Upstream {
    let changes = MemoryChanges::of([tested(), nova(status)]);
    Upstream { changes, failures: AtomicUsize::new(failures), error }
}

fn away() -> Error {
    Error::temporary(ErrorKind::Unreachable, "Gerrit is away")
}

#[async_trait]
impl DependencyLookup for Upstream {
    async fn find(&self, which: &ChangeSelector) -> Result<Vec<LinkedChange>> {
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err((self.error)()),
            Err(_) => self.changes.find(which).await,
        }
    }
}

struct Handled {
    queue: Arc<MemoryQueue>,
    store: Arc<MemoryEventStore>,
    reporter: Arc<MemoryReporter>,
    result: Result<pushbutton_core::HandlerStats>,
}

async fn handle(upstream: impl DependencyLookup + 'static) -> Handled {
    let (queue, store, reporter) = (Arc::default(), Arc::default(), Arc::default());
    let (queue, store): (Arc<MemoryQueue>, Arc<MemoryEventStore>) = (queue, store);
    let reporter: Arc<MemoryReporter> = reporter;
    let source = MemorySource::of(vec![samples::comment("bob", "recheck")]);
    let result = Handler::new(source, triggers(), queue.clone())
        .with_event_store(store.clone())
        .with_reporter(reporter.clone())
        .with_dependencies(upstream)
        .run(&Shutdown::new())
        .await;
    Handled { queue, store, reporter, result }
}

#[tokio::test(start_paused = true)]
async fn a_job_carries_what_its_change_depends_on() {
    let handled = handle(upstream(ChangeStatus::New, 0, away)).await;
    assert_eq!(handled.result.unwrap().jobs, 1);
    let claim = handled.queue.claim(&JobFilter::any()).await.unwrap();
    assert_eq!(claim.job().dependencies, [samples::dependency(7)]);
}

#[tokio::test(start_paused = true)]
async fn upstream_that_is_away_delays_the_job_and_loses_no_event() {
    let handled = handle(upstream(ChangeStatus::New, 20, away)).await;
    assert_eq!(handled.result.unwrap().jobs, 1);
    let claim = handled.queue.claim(&JobFilter::any()).await.unwrap();
    assert_eq!(claim.job().dependencies, [samples::dependency(7)]);
}

#[tokio::test(start_paused = true)]
async fn a_change_on_an_abandoned_one_is_not_run_and_people_are_told_once() {
    let handled = handle(upstream(ChangeStatus::Abandoned, 0, away)).await;
    assert_eq!(handled.result.unwrap().jobs, 0);
    let told = handled.reporter.delivered();
    assert_eq!(told.len(), 1);
    let report = told.first().unwrap();
    assert_eq!((report.results.len(), report.vote()), (0, None));
    let missing = report.missing.first().unwrap();
    assert_eq!(missing.why, "it depends on change 7, which is abandoned");
    let event = samples::comment("bob", "recheck").id;
    assert!(handled.store.has_seen(&event).await.unwrap());
    // If its jobs run after all, after a restart, their report must not count as posted.
    let installation = handled.queue.installation().await.unwrap();
    let buildset = Buildset::of(&event, ["tempest".parse().unwrap()]).in_installation(installation.as_str());
    assert_ne!(report.id, buildset.id);
}

/// What an author wrote must not stop the intake; a login that is refused must, or the event would be lost.
#[tokio::test(start_paused = true)]
async fn a_refused_question_is_said_and_a_refused_login_ends_the_handler_without_recording_the_event() {
    let refused = || Error::permanent(ErrorKind::Invalid, "gerrit answered: no");
    let handled = handle(upstream(ChangeStatus::New, 99, refused)).await;
    assert_eq!(handled.result.unwrap().jobs, 0);
    let told = handled.reporter.delivered();
    let why = &told.first().unwrap().missing.first().unwrap().why;
    assert_eq!(why, "what it depends on cannot be found out (gerrit answered: no)");

    let denied = || Error::permanent(ErrorKind::Denied, "the key was refused");
    let handled = handle(upstream(ChangeStatus::New, 99, denied)).await;
    assert_eq!(handled.result.unwrap_err().kind(), ErrorKind::Denied);
    assert!(!handled.store.has_seen(&samples::comment("bob", "recheck").id).await.unwrap());
}

/// Collects alerts, after some failures.
#[derive(Default)]
struct Mail {
    sent: std::sync::Mutex<Vec<String>>,
    failures: AtomicUsize,
}

#[async_trait]
impl Alerter for Mail {
    async fn alert(&self, subject: &str, text: &str) -> Result<()> {
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(Error::temporary(ErrorKind::Unreachable, "the mail server is away"));
        }
        self.sent.lock().unwrap().push(format!("{subject}\n{text}"));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_merge_conflict_is_neither_retried_nor_a_vote_and_the_labs_people_are_told_once() {
    let (queue, reporter) = (Arc::new(MemoryQueue::default()), Arc::new(MemoryReporter::default()));
    let mail = Arc::new(Mail { failures: AtomicUsize::new(3), ..Mail::default() });
    let source = MemorySource::of(vec![samples::comment("bob", "recheck")]);
    let handler = Handler::new(source, triggers(), queue.clone())
        .with_reporter(reporter.clone())
        .with_alerter(mail.clone());
    let executor = MemoryExecutor::new(|stage, _| {
        let conflict = StageOutcome::new(StageStatus::Failed, Duration::ZERO)
            .with_merge_conflict("12345,2 of openstack/cinder does not merge: conflict in a.py".to_owned());
        match stage.name.as_str() {
            // Its failure is the lab's, otherwise.
            "install" => FakeStage::ends(StageStatus::Failed).with_outcome(conflict),
            _ => FakeStage::ends(StageStatus::Passed),
        }
    });
    let jobs = [("tempest".parse().unwrap(), tempest())];
    let cloud = MemoryProvisioner::default();
    let operator = Operator::new(queue, cloud, executor, jobs, LogLocation::new("logs"));
    Pipeline::new(handler, operator).unwrap().run(&Shutdown::new()).await.unwrap();

    let reports = reporter.delivered();
    let report = reports.first().unwrap();
    assert_eq!((reports.len(), report.vote()), (1, None));
    let result = report.results.first().unwrap();
    assert_eq!((&result.verdict, result.attempts), (&Verdict::MergeConflict, 1));
    let stages: Vec<&str> = result.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(stages, ["install", "logs"], "logs are gathered, tests are not run");
    let sent = mail.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1, "{sent:?}");
    for part in ["merge conflict of change 12345,2", "conflict in a.py", "/c/openstack/cinder/+/12345"] {
        assert!(sent[0].contains(part), "{part:?} in {sent:?}");
    }
}
