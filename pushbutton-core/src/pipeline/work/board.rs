//! The notices of the last day, folded: which patch sets are out of date, which changes are closed, which jobs are cancelled.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::stop::Reason;
use crate::ident::{ChangeNumber, JobId, JobName, PatchsetNumber};
use crate::job::Job;
use crate::pipeline::mute::Mute;
use crate::retry::Backoff;
use crate::seam::{Notice, Queue};

/// Entries of each kind that are kept. A day of the busiest Gerrit has fewer; beyond it the oldest go.
const KEPT: usize = 20_000;

/// What is known to be pointless.
#[derive(Debug, Default)]
pub(super) struct Board {
    entries: Mutex<Entries>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    newest: Recent<ChangeNumber, PatchsetNumber>,
    closed: Recent<ChangeNumber, Timestamp>,
    cancelled: Recent<JobId, ()>,
    cancelled_all: Recent<Meant, Timestamp>,
}

/// What a person meant: all of a change, or of one patch set, or of one name.
type Meant = (ChangeNumber, Option<PatchsetNumber>, Option<JobName>);

/// A map that keeps the greatest value of each key, and forgets its oldest keys.
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

impl Board {
    pub(super) fn post(&self, notice: &Notice) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Notice::Superseded { change, by, .. } => entries.newest.raise(change, *by),
            Notice::Closed { change, at } => entries.closed.raise(change, *at),
            Notice::Cancel { job, .. } => entries.cancelled.raise(job, ()),
            Notice::CancelAll { change, patchset, name, at, .. } => {
                entries.cancelled_all.raise(&(*change, *patchset, name.clone()), *at);
            }
            // Who may speak is not the board's affair.
            Notice::Muted { .. } | Notice::Unmuted { .. } => return,
        }
        drop(entries);
        self.changed.notify_waiters();
    }

    /// Why a job is pointless, if it is.
    pub(super) fn verdict_on(&self, job: &Job) -> Option<Reason> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let change = &job.change.number;
        let meant = [None, Some(job.patchset.number)].into_iter().any(|patchset| {
            [None, Some(job.name.clone())].into_iter().any(|name| {
                let at = entries.cancelled_all.values.get(&(*change, patchset, name));
                at.is_some_and(|at| job.created <= *at)
            })
        });
        if meant || entries.cancelled.values.contains_key(&job.id) {
            return Some(Reason::Cancelled);
        }
        // A person who asks for an older patch set means it.
        let newer = entries.newest.values.get(change).is_some_and(|newest| job.patchset.number < *newest)
            && !job.is_by_hand();
        let closed = entries.closed.values.get(change).is_some_and(|at| job.created <= *at);
        (newer || closed).then_some(Reason::Superseded)
    }

    /// Waits until a job is pointless; for ever if it never is.
    pub(super) async fn concerns(&self, job: &Job) -> Reason {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(reason) = self.verdict_on(job) {
                return reason;
            }
            changed.await;
        }
    }
}

/// Posts every notice on the board, and passes it on to who decides on silences, for ever.
pub(super) async fn listen(queue: Arc<dyn Queue>, board: Arc<Board>, mute: Option<Arc<Mute>>) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        let error = match queue.notices().await {
            Ok(mut notices) => loop {
                match notices.next().await {
                    Ok(notice) => {
                        backoff.reset();
                        board.post(&notice);
                        if let Some(mute) = &mute {
                            mute.hear(&notice);
                        }
                    }
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        tracing::warn!("cannot hear notices, pointless runs may go on: {error}");
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sample;

    fn superseded(by: u32) -> Notice {
        Notice::Superseded { change: sample::change().number, by: PatchsetNumber(by), at: sample::AT }
    }

    #[test]
    fn only_jobs_of_older_patch_sets_are_superseded() {
        let (board, job) = (Board::default(), sample::job("tempest"));
        for (by, expected) in [(2, None), (3, Some(Reason::Superseded)), (1, Some(Reason::Superseded))] {
            board.post(&superseded(by));
            assert_eq!(board.verdict_on(&job), expected, "patch set 2 after {by}");
        }
    }

    #[test]
    fn a_closed_change_ends_jobs_from_before_but_not_a_recheck_after_a_restore() {
        let (board, mut job) = (Board::default(), sample::job("tempest"));
        board.post(&Notice::Closed { change: job.change.number, at: sample::AT });
        assert_eq!(board.verdict_on(&job), Some(Reason::Superseded));
        job.created = sample::AT + jiff::SignedDuration::from_secs(1);
        assert_eq!(board.verdict_on(&job), None);
    }

    #[test]
    fn a_person_cancels_what_was_asked_for_until_now() {
        let job = sample::job("tempest");
        let (change, newer) = (
            job.change.number,
            Job { created: sample::AT + jiff::SignedDuration::from_secs(1), ..job.clone() },
        );
        let (this, other) = (Some(job.patchset.number), Some(PatchsetNumber(99)));
        let name = |name: &str| Some(JobName::new(name).unwrap());
        for (patchset, name, meant) in [
            (None, None, true),
            (this, None, true),
            (this, name("tempest"), true),
            (None, name("tempest"), true),
            (other, None, false),
            (None, name("unit"), false),
        ] {
            let notice = Notice::CancelAll { change, patchset, name, by: "ops".into(), at: sample::AT };
            let board = Board::default();
            board.post(&notice);
            assert_eq!(board.verdict_on(&job), meant.then_some(Reason::Cancelled), "{notice:?}");
            assert_eq!(notice.concerns(&job), meant, "{notice:?}");
            assert_eq!(
                (board.verdict_on(&newer), notice.concerns(&newer)),
                (None, false),
                "asked for afterwards"
            );
        }
    }

    #[test]
    fn an_older_patch_set_that_a_person_asked_for_is_run() {
        let (board, mut job) = (Board::default(), sample::job("tempest"));
        job.cause.kind = crate::job::Cause::BY_HAND.to_owned();
        board.post(&superseded(99));
        assert_eq!((board.verdict_on(&job), superseded(99).concerns(&job)), (None, false));
    }

    #[test]
    fn memory_is_bounded() {
        let board = Board::default();
        for n in 0..(KEPT as u64 + 100) {
            board.post(&Notice::Closed { change: ChangeNumber(n), at: sample::AT });
        }
        let entries = board.entries.lock().unwrap();
        assert_eq!((entries.closed.values.len(), entries.closed.order.len()), (KEPT, KEPT));
    }

    #[tokio::test]
    async fn a_waiting_run_hears_of_its_cancellation() {
        let (board, job) = (Arc::new(Board::default()), sample::job("tempest"));
        let waiting = tokio::spawn({
            let (board, job) = (Arc::clone(&board), job.clone());
            async move { board.concerns(&job).await }
        });
        board.post(&Notice::Cancel { job: job.id.clone(), by: "ops".into(), at: sample::AT });
        assert_eq!(waiting.await.unwrap(), Reason::Cancelled);
    }
}
