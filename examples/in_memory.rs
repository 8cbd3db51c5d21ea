//! A whole CI in one process without any server: two comments go in, one of them is a recheck, and one report comes out.
//! Run it with `cargo run -p pushbutton-core --example in_memory`. It needs no other crate but tokio.

#![expect(clippy::print_stdout, reason = "an example has something to show")]

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::memory::{
    FakeStage, MemoryExecutor, MemoryProvisioner, MemoryQueue, MemoryReporter, MemorySource,
};
use pushbutton_core::{
    Account, Change, ChangeNumber, Event, EventId, EventKind, EventMatch, Handler, JobSpec, LogLocation,
    Operator, Patchset, PatchsetNumber, Pipeline, Position, Result, Shutdown, Stage, StageStatus, TestCounts,
    Timestamp, Trigger, Triggers,
};

/// A comment on patch set 2 of change 12345, as pushbutton-gerrit would yield it.
fn comment(author: &str, text: &str) -> Result<Event> {
    let (number, author) = (ChangeNumber(12345), Account::of(author));
    let change = Change::new("openstack/cinder".parse()?, "master".parse()?, number);
    let revision = "0123456789abcdef0123456789abcdef01234567".parse()?;
    let patchset = Patchset::new(PatchsetNumber(2), revision, "refs/changes/45/12345/2".parse()?);
    let id = EventId::comment(number, patchset.number, &author, text, 1);
    let kind = EventKind::CommentAdded { author, texts: vec![text.into()], approvals: vec![] };
    Ok(Event::new(id, Position::at(Timestamp::now()), kind, change, patchset))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // Whoever comments "recheck" on a change of OpenStack gets a run of the job "unit".
    let recheck = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let trigger = Trigger::new("recheck", recheck, ["unit".parse()?]).with_projects(["openstack/*".into()]);
    let triggers = Triggers::compile(vec![trigger], vec!["acme-ci".into()])?;
    // The job: one stage on a small node.
    let unit = JobSpec::new("small".parse()?).stage(Stage::new("test".parse()?, "test.yml"));
    // A finite source: the pipeline ends once its jobs are done. A live one would be pushbutton-gerrit's.
    let source = MemorySource::of(vec![comment("alice", "looks good")?, comment("bob", "recheck")?]);
    // An executor that starts no process: this function says what each stage does.
    let executor = MemoryExecutor::new(|_stage, context| {
        let mut fake = FakeStage::ends(StageStatus::Passed).after(Duration::from_millis(20));
        fake.lines = vec![format!("testing {} at {}", context.job.target(), context.job.patchset.revision)];
        fake.outcome.tests = Some(TestCounts::new(212, 0, 3));
        fake
    });

    let (queue, reporter) = (MemoryQueue::default(), Arc::new(MemoryReporter::default()));
    // The handler reports: an operator, which runs strangers' code, needs no account on the review.
    let handler = Handler::new(source, triggers, queue.clone()).with_reporter(reporter.clone());
    let (cloud, logs) = (MemoryProvisioner::default(), LogLocation::new(std::env::temp_dir()));
    let operator = Operator::new(queue, cloud, executor, [("unit".parse()?, unit)], logs);
    let (handled, worked) = Pipeline::new(handler, operator)?.run(&Shutdown::new()).await?;

    println!("{} events called for {} job; {} run finished", handled.events, handled.jobs, worked.finished);
    for report in reporter.delivered() {
        let passed: u64 =
            report.results.iter().filter_map(|result| result.tests).map(|tests| tests.passed).sum();
        println!("{}: {}, {passed} tests passed", report.target(), report.summary());
    }
    assert_eq!((handled.events, handled.jobs, worked.finished, reporter.delivered().len()), (2, 1, 1, 1));
    Ok(())
}
