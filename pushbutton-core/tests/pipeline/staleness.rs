//! Before a node is booted, upstream is asked whether the patch set is still current.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use pushbutton_core::clock::FixedClock;
use pushbutton_core::memory::{MemoryQueue, MemorySource};
use pushbutton_core::samples;
use pushbutton_core::{
    Cause, ChangeNumber, ChangeStatusLookup, ControlMessage, Error, ErrorKind, Event, EventId, EventKind,
    EventMatch, Handler, Job, PatchsetNumber, PatchsetStatus, Position, Queue, Result, Shutdown, StageStatus,
    SupersedePolicy, Trigger, Triggers, Verdict, async_trait,
};

use crate::lab::Lab;

const NEWER: PatchsetStatus = PatchsetStatus::Superseded { by: PatchsetNumber(3) };

/// An upstream that gives this answer, or fails, or never answers.
struct Upstream {
    answer: fn() -> Option<Result<PatchsetStatus>>,
    asked: AtomicUsize,
}

#[async_trait]
impl ChangeStatusLookup for Upstream {
    async fn status(&self, _: &Job) -> Result<PatchsetStatus> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match (self.answer)() {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// Runs a job where upstream answers so, and says how it ended, how many nodes were booted, and how often upstream
/// was asked.
async fn run(
    job: &Job,
    policy: SupersedePolicy,
    answer: fn() -> Option<Result<PatchsetStatus>>,
) -> (Verdict, usize, usize) {
    let upstream = Arc::new(Upstream { answer, asked: AtomicUsize::new(0) });
    let lab = Lab::where_stage("-", StageStatus::Passed);
    let operator = lab.operator().with_change_status(upstream.clone()).with_supersede(policy);
    lab.run_on(operator, vec![job.clone()]).await;
    (lab.report().verdict, lab.cloud.asked(), upstream.asked.load(Ordering::Relaxed))
}

fn all() -> SupersedePolicy {
    SupersedePolicy::default()
}

#[tokio::test(start_paused = true)]
async fn only_a_current_patch_set_gets_a_node() {
    let job = samples::job("tempest");
    assert_eq!(run(&job, all(), || Some(Ok(PatchsetStatus::Current))).await, (Verdict::Success, 1, 1));
    assert_eq!(run(&job, all(), || Some(Ok(NEWER))).await, (Verdict::Superseded, 0, 1));
    assert_eq!(run(&job, all(), || Some(Ok(PatchsetStatus::Closed))).await, (Verdict::Superseded, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn each_half_of_the_policy_decides_on_its_own_answer() {
    let job = samples::job("tempest");
    let newer = SupersedePolicy::default().with_closed(false);
    let closed = SupersedePolicy::default().with_newer_patchset(false);
    assert_eq!(run(&job, newer, || Some(Ok(PatchsetStatus::Closed))).await.0, Verdict::Success);
    assert_eq!(run(&job, newer, || Some(Ok(NEWER))).await.0, Verdict::Superseded);
    assert_eq!(run(&job, closed, || Some(Ok(NEWER))).await.0, Verdict::Success);
    let (verdict, _, asked) = run(&job, SupersedePolicy::NEVER, || Some(Ok(NEWER))).await;
    assert_eq!((verdict, asked), (Verdict::Success, 0), "nothing depends on the answer");
}

#[tokio::test(start_paused = true)]
async fn a_manual_job_for_an_old_patch_set_runs() {
    let mut job = samples::job("tempest");
    job.cause.kind = Cause::MANUAL.into();
    assert_eq!(run(&job, all(), || Some(Ok(NEWER))).await, (Verdict::Success, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_the_job_runs() {
    let job = samples::job("tempest");
    let away = || Some(Err(Error::temporary(ErrorKind::Unreachable, "connection refused")));
    assert_eq!(run(&job, all(), away).await, (Verdict::Success, 1, 1));
    let began = tokio::time::Instant::now();
    assert_eq!(run(&job, all(), || None).await, (Verdict::Success, 1, 1));
    assert!(began.elapsed() >= Duration::from_secs(30));
}

/// What a handler with this policy broadcasts about a newer patch set of change 1 and of a merge of change 2.
async fn broadcast_by(policy: SupersedePolicy) -> Vec<ChangeNumber> {
    let event = |change: u64, kind| {
        let mut event: Event = samples::patchset_created();
        event.change.number = ChangeNumber(change);
        event.id = EventId::manual(event.change.number, event.patchset.number, "x");
        event.position = Position::at(samples::AT);
        event.kind = kind;
        event
    };
    let newer = event(1, samples::patchset_created().kind);
    let merged = event(2, EventKind::ChangeMerged);
    let on = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let trigger =
        Trigger::new("recheck", on, ["tempest".parse().unwrap()]).with_projects(["openstack/*".into()]);
    let queue = Arc::new(MemoryQueue::default());
    let triggers = Triggers::compile(vec![trigger], vec![]).unwrap();
    Handler::new(MemorySource::of(vec![newer, merged]), triggers, queue.clone())
        .with_clock(FixedClock::at(samples::AT))
        .with_supersede(policy)
        .run(&Shutdown::new())
        .await
        .unwrap();
    let end = ControlMessage::Unmuted { by: "the end".into(), at: samples::AT };
    queue.broadcast(&end).await.unwrap();
    let (mut messages, mut changes) = (queue.control_messages().await.unwrap(), Vec::new());
    loop {
        match messages.next().await.unwrap().unwrap() {
            ControlMessage::Superseded { change, .. } | ControlMessage::Closed { change, .. } => {
                changes.push(change)
            }
            _ => return changes,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_broadcasts_what_its_policy_says() {
    let (newer, closed) = (ChangeNumber(1), ChangeNumber(2));
    assert_eq!(broadcast_by(all()).await, [newer, closed]);
    assert_eq!(broadcast_by(all().with_closed(false)).await, [newer]);
    assert_eq!(broadcast_by(all().with_newer_patchset(false)).await, [closed]);
    assert_eq!(broadcast_by(SupersedePolicy::NEVER).await, []);
}
