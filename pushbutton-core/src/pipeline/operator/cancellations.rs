//! What the control messages of the last day cancel: superseded patch sets, closed changes, cancelled jobs.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::stop_signal::StopReason;
use crate::control::ControlMessage;
use crate::job::Job;
use crate::names::{ChangeNumber, JobId, JobName, PatchsetNumber};

/// Entries of each kind that are kept. A day of the busiest Gerrit has fewer; beyond it the oldest go.
const KEPT: usize = 20_000;

/// Which jobs must not run, or must stop.
#[derive(Debug, Default)]
pub(super) struct Cancellations {
    entries: Mutex<Entries>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    newest: Recent<ChangeNumber, PatchsetNumber>,
    closed: Recent<ChangeNumber, Timestamp>,
    cancelled: Recent<JobId, ()>,
    cancelled_all: Recent<CancelScope, Timestamp>,
}

/// What a person cancelled: all jobs of a change, or of one patch set, or of one name.
type CancelScope = (ChangeNumber, Option<PatchsetNumber>, Option<JobName>);

/// A map that keeps the greatest value of each key, and drops its oldest keys.
#[derive(Debug)]
struct Recent<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Copy + Ord> Recent<K, V> {
    fn raise(&mut self, key: &K, value: V) {
        if let Some(known) = self.values.get_mut(key) {
            *known = (*known).max(value);
            return;
        }
        self.values.insert(key.clone(), value);
        self.order.push_back(key.clone());
        if self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
    }
}

impl Cancellations {
    pub(super) fn apply(&self, message: &ControlMessage) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match message {
            ControlMessage::Superseded { change, by, .. } => entries.newest.raise(change, *by),
            ControlMessage::Closed { change, at } => entries.closed.raise(change, *at),
            ControlMessage::Cancel { job, .. } => entries.cancelled.raise(job, ()),
            ControlMessage::CancelAll { change, patchset, name, at, .. } => {
                entries.cancelled_all.raise(&(*change, *patchset, name.clone()), *at);
            }
            // These are for the report guard.
            ControlMessage::Muted { .. }
            | ControlMessage::Unmuted { .. }
            | ControlMessage::Operator(_)
            | ControlMessage::Settled { .. } => {
                return;
            }
        }
        drop(entries);
        self.changed.notify_waiters();
    }

    /// Why a job must not run, or must stop; none when it may run.
    pub(super) fn reason_for(&self, job: &Job) -> Option<StopReason> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let change = &job.change.number;
        let cancelled = [None, Some(job.patchset.number)].into_iter().any(|patchset| {
            [None, Some(job.name.clone())].into_iter().any(|name| {
                let at = entries.cancelled_all.values.get(&(*change, patchset, name));
                at.is_some_and(|at| job.created <= *at)
            })
        });
        if cancelled || entries.cancelled.values.contains_key(&job.id) {
            return Some(StopReason::Cancelled);
        }
        // A person who starts a job for an older patch set does so on purpose.
        let newer = entries.newest.values.get(change).is_some_and(|newest| job.patchset.number < *newest)
            && !job.is_manual();
        let closed = entries.closed.values.get(change).is_some_and(|at| job.created <= *at);
        (newer || closed).then_some(StopReason::Superseded)
    }

    /// Waits until a job must stop. Without a limit: most jobs never must.
    pub(super) async fn wait_for(&self, job: &Job) -> StopReason {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(reason) = self.reason_for(job) {
                return reason;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::samples;

    fn superseded(by: u32) -> ControlMessage {
        ControlMessage::Superseded {
            change: samples::change().number,
            by: PatchsetNumber(by),
            at: samples::AT,
        }
    }

    #[test]
    fn only_jobs_of_older_patch_sets_are_superseded() {
        let (cancellations, job) = (Cancellations::default(), samples::job("tempest"));
        for (by, expected) in
            [(2, None), (3, Some(StopReason::Superseded)), (1, Some(StopReason::Superseded))]
        {
            cancellations.apply(&superseded(by));
            assert_eq!(cancellations.reason_for(&job), expected, "patch set 2 after {by}");
        }
    }

    #[test]
    fn a_closed_change_ends_jobs_from_before_but_not_a_recheck_after_a_restore() {
        let (cancellations, mut job) = (Cancellations::default(), samples::job("tempest"));
        cancellations.apply(&ControlMessage::Closed { change: job.change.number, at: samples::AT });
        assert_eq!(cancellations.reason_for(&job), Some(StopReason::Superseded));
        job.created = samples::AT + jiff::SignedDuration::from_secs(1);
        assert_eq!(cancellations.reason_for(&job), None);
    }

    #[test]
    fn a_person_cancels_what_was_asked_for_until_now() {
        let job = samples::job("tempest");
        let (change, newer) = (
            job.change.number,
            Job { created: samples::AT + jiff::SignedDuration::from_secs(1), ..job.clone() },
        );
        let (this, other) = (Some(job.patchset.number), Some(PatchsetNumber(99)));
        let name = |name: &str| Some(JobName::new(name).unwrap());
        for (patchset, name, expected) in [
            (None, None, true),
            (this, None, true),
            (this, name("tempest"), true),
            (None, name("tempest"), true),
            (other, None, false),
            (None, name("unit"), false),
        ] {
            let message =
                ControlMessage::CancelAll { change, patchset, name, by: "ops".into(), at: samples::AT };
            let cancellations = Cancellations::default();
            cancellations.apply(&message);
            assert_eq!(
                cancellations.reason_for(&job),
                expected.then_some(StopReason::Cancelled),
                "{message:?}"
            );
            assert_eq!(message.affects(&job), expected, "{message:?}");
            assert_eq!(
                (cancellations.reason_for(&newer), message.affects(&newer)),
                (None, false),
                "created afterwards"
            );
        }
    }

    #[test]
    fn an_older_patch_set_that_a_person_asked_for_is_run() {
        let (cancellations, mut job) = (Cancellations::default(), samples::job("tempest"));
        job.cause.kind = crate::job::Cause::MANUAL.to_owned();
        cancellations.apply(&superseded(99));
        assert_eq!((cancellations.reason_for(&job), superseded(99).affects(&job)), (None, false));
    }

    #[test]
    fn memory_is_bounded() {
        let cancellations = Cancellations::default();
        for n in 0..(KEPT as u64 + 100) {
            cancellations.apply(&ControlMessage::Closed { change: ChangeNumber(n), at: samples::AT });
        }
        let entries = cancellations.entries.lock().unwrap();
        assert_eq!((entries.closed.values.len(), entries.closed.order.len()), (KEPT, KEPT));
    }

    #[tokio::test]
    async fn a_waiting_run_hears_of_its_cancellation() {
        let (cancellations, job) = (Arc::new(Cancellations::default()), samples::job("tempest"));
        let waiting = tokio::spawn({
            let (cancellations, job) = (Arc::clone(&cancellations), job.clone());
            async move { cancellations.wait_for(&job).await }
        });
        cancellations.apply(&ControlMessage::Cancel {
            job: job.id.clone(),
            by: "ops".into(),
            at: samples::AT,
        });
        assert_eq!(waiting.await.unwrap(), StopReason::Cancelled);
    }
}
