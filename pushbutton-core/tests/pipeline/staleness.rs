//! Before a node is booted, the operator looks up whether the patch set is still current.

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

/// An upstream with this response; none: it never responds.
struct Upstream {
    response: fn() -> Option<Result<PatchsetStatus>>,
    lookups: AtomicUsize,
}

#[async_trait]
impl ChangeStatusLookup for Upstream {
    async fn status(&self, _: &Job) -> Result<PatchsetStatus> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        match (self.response)() {
            Some(response) => response,
            None => std::future::pending().await,
        }
    }
}

/// Runs a job with this response of upstream. Returns the verdict, the number of requested nodes and the number of
/// lookups.
async fn run(
    job: &Job,
    policy: SupersedePolicy,
    response: fn() -> Option<Result<PatchsetStatus>>,
) -> (Verdict, usize, usize) {
    let upstream = Arc::new(Upstream { response, lookups: AtomicUsize::new(0) });
    let lab = Lab::where_stage("-", StageStatus::Passed);
    let operator = lab.operator().with_change_status(upstream.clone()).with_supersede(policy);
    lab.run_on(operator, vec![job.clone()]).await;
    (lab.report().verdict, lab.cloud.request_count(), upstream.lookups.load(Ordering::Relaxed))
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
async fn each_part_of_the_policy_applies_to_its_own_status() {
    let job = samples::job("tempest");
    let newer = SupersedePolicy::default().with_closed(false);
    let closed = SupersedePolicy::default().with_newer_patchset(false);
    assert_eq!(run(&job, newer, || Some(Ok(PatchsetStatus::Closed))).await.0, Verdict::Success);
    assert_eq!(run(&job, newer, || Some(Ok(NEWER))).await.0, Verdict::Superseded);
    assert_eq!(run(&job, closed, || Some(Ok(NEWER))).await.0, Verdict::Success);
    let (verdict, _, lookups) = run(&job, SupersedePolicy::NEVER, || Some(Ok(NEWER))).await;
    assert_eq!((verdict, lookups), (Verdict::Success, 0), "no lookup when the policy ignores its result");
}

#[tokio::test(start_paused = true)]
async fn a_manual_job_for_an_old_patch_set_runs() {
    let mut job = samples::job("tempest");
    job.cause.kind = Cause::MANUAL.into();
    assert_eq!(run(&job, all(), || Some(Ok(NEWER))).await, (Verdict::Success, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_job_runs_when_the_lookup_fails_or_times_out() {
    let job = samples::job("tempest");
    let unreachable = || Some(Err(Error::temporary(ErrorKind::Unreachable, "connection refused")));
    assert_eq!(run(&job, all(), unreachable).await, (Verdict::Success, 1, 1));
    let began = tokio::time::Instant::now();
    assert_eq!(run(&job, all(), || None).await, (Verdict::Success, 1, 1));
    assert!(began.elapsed() >= Duration::from_secs(30));
}

/// The changes of which a handler with this policy broadcasts a newer patch set (change 1) and a merge (change 2).
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
    // reports.md 12: a deleted change is closed, too.
    let (merged, deleted) = (event(2, EventKind::ChangeMerged), event(3, EventKind::ChangeDeleted));
    let on = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let trigger =
        Trigger::new("recheck", on, ["tempest".parse().unwrap()]).with_projects(["openstack/*".into()]);
    let queue = Arc::new(MemoryQueue::default());
    let triggers = Triggers::compile(vec![trigger], vec![]).unwrap();
    Handler::new(MemorySource::of(vec![newer, merged, deleted]), triggers, queue.clone())
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
    let (newer, closed, deleted) = (ChangeNumber(1), ChangeNumber(2), ChangeNumber(3));
    assert_eq!(broadcast_by(all()).await, [newer, closed, deleted]);
    assert_eq!(broadcast_by(all().with_closed(false)).await, [newer]);
    assert_eq!(broadcast_by(all().with_newer_patchset(false)).await, [closed, deleted]);
    assert_eq!(broadcast_by(SupersedePolicy::NEVER).await, []);
}
