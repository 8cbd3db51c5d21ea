//! Whether reports are muted: a pure state machine over finished runs and control messages.

use std::collections::{HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::control::ControlMessage;
use crate::names::ChangeNumber;
use crate::report::RunResult;
use crate::verdict::Verdict;

/// ControlMessages of this kind that are remembered: people send a handful a day, and muted operators repeat theirs
/// twice.
const REMEMBERED: usize = 1000;

/// Why reports are muted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Muted {
    /// Who muted them.
    pub by: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

impl Muted {
    pub(super) fn message(&self) -> ControlMessage {
        let Self { by, why, since } = self.clone();
        ControlMessage::Muted { by, why, at: since }
    }
}

/// Whether reports are muted, and how many changes have failed.
#[derive(Debug, Default)]
pub(super) struct State {
    muted: Option<Muted>,
    /// The latest unmuting, by the clock of the machine it was sent from.
    unmuted: Option<Timestamp>,
    /// Messages seen so far: a subscriber that starts again gets those of a whole day once more.
    seen: VecDeque<ControlMessage>,
    /// Changes whose runs failed since the last success.
    failed: HashSet<ChangeNumber>,
    /// When the lab was last known to work: a run began that then succeeded, or a person unmuted reports. A run that
    /// began before says nothing new, such as those whose undelivered reports a person retries.
    worked: Option<Timestamp>,
}

/// What a message changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Reports are muted from now on.
    Muted,
    /// Reports are no longer muted.
    Unmuted,
}

impl State {
    pub(super) fn muted(&self) -> Option<&Muted> {
        self.muted.as_ref()
    }

    /// Counts a finished run. Mutes reports when runs of `limit` changes have failed that began after the last success
    /// and the last unmuting.
    pub(super) fn count(
        &mut self,
        limit: usize,
        by: &str,
        RunResult { job, verdict, started, .. }: &RunResult,
        now: Timestamp,
    ) -> Option<Muted> {
        if self.worked.is_some_and(|worked| *started < worked) {
            return None;
        }
        if *verdict == Verdict::Success {
            self.worked = Some(*started);
            self.failed.clear();
        }
        // Superseded, cancelled and skipped runs say nothing about the lab, nor do changes that do not merge.
        let says_nothing = !verdict.is_reported() || *verdict == Verdict::MergeConflict;
        if *verdict == Verdict::Success || says_nothing || limit == 0 || self.muted.is_some() {
            return None;
        }
        // Several failures of one change may be the change's own fault: they count once.
        self.failed.insert(job.change.number);
        if self.failed.len() < limit {
            return None;
        }
        self.failed.clear();
        let why = format!(
            "the runs of the last {limit} changes all failed; the last was {} on {}: {verdict}",
            job.name,
            job.target()
        );
        // Always later than the last unmuting, even if the clocks differ: other operators compare these times.
        let since = self.unmuted.map_or(now, |unmuted| now.max(unmuted + SignedDuration::from_millis(1)));
        self.muted = Some(Muted { by: by.to_owned(), why, since });
        self.muted.clone()
    }

    /// Applies a message. The same message again changes nothing, so that a subscriber may get the past as often as
    /// it likes.
    pub(super) fn observe(&mut self, message: &ControlMessage, now: Timestamp) -> Effect {
        if !matches!(message, ControlMessage::Muted { .. } | ControlMessage::Unmuted { .. }) {
            return Effect::None;
        }
        if self.seen.contains(message) {
            return Effect::None;
        }
        if self.seen.len() >= REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(message.clone());
        match message {
            ControlMessage::Muted { by, why, at } => {
                // An operator that was disconnected may send a muting that a person has ended since.
                let ended = self.unmuted.is_some_and(|unmuted| *at <= unmuted);
                if ended || self.muted.is_some() {
                    return Effect::None;
                }
                self.muted = Some(Muted { by: by.clone(), why: why.clone(), since: *at });
                Effect::Muted
            }
            ControlMessage::Unmuted { at, .. } => {
                self.unmuted = self.unmuted.max(Some(*at));
                // Their clock may be ahead of this one.
                self.worked = self.worked.max(Some(*at.min(&now)));
                // A muting of this operator that was not broadcast yet, with a later time, began after the unmuting:
                // it stays.
                let not_broadcast =
                    |muted: &Muted| muted.since > *at && !self.seen.contains(&muted.message());
                if self.muted.as_ref().is_none_or(not_broadcast) {
                    return Effect::None;
                }
                self.muted = None;
                self.failed.clear();
                Effect::Unmuted
            }
            _ => Effect::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::names::{RunId, StageName};
    use crate::samples::{self, AT};

    fn at(minutes: i64) -> Timestamp {
        AT + SignedDuration::from_mins(minutes)
    }

    fn muted(minutes: i64) -> ControlMessage {
        ControlMessage::Muted { by: "host-3".into(), why: "ten in a row".into(), at: at(minutes) }
    }

    fn unmuted(minutes: i64) -> ControlMessage {
        ControlMessage::Unmuted { by: "ops".into(), at: at(minutes) }
    }

    fn failure() -> Verdict {
        Verdict::Failure { stage: StageName::new("tempest").unwrap() }
    }

    /// A run on a change, which began then.
    fn result(change: u64, verdict: &Verdict, minutes: i64) -> RunResult {
        let job = samples::job_on(change, "tempest");
        RunResult::new(RunId::generate(), job, verdict.clone(), at(minutes), Duration::ZERO)
    }

    /// Counts one run for each change, and returns whether that muted reports.
    fn count(state: &mut State, changes: &[u64], verdict: &Verdict) -> bool {
        let count = |change: &u64| state.count(3, "host-1", &result(*change, verdict, 0), at(0)).is_some();
        changes.iter().map(count).filter(|began| *began).count() > 0
    }

    #[test]
    fn failures_count_once_per_change_and_until_a_success() {
        let mut state = State::default();
        assert!(!count(&mut state, &[1, 2, 2, 1, 2], &failure()), "two changes, however often");
        assert!(!count(&mut state, &[3], &Verdict::Superseded), "that says nothing about the lab");
        assert!(!count(&mut state, &[3], &Verdict::Success));
        assert!(!count(&mut state, &[4, 5], &Verdict::NodeFailure));
        assert!(count(&mut state, &[6], &failure()));
        let muted = state.muted().unwrap();
        assert_eq!(
            muted.why,
            "the runs of the last 3 changes all failed; the last was tempest on 6,2: FAILURE in stage tempest"
        );
        assert!(!count(&mut state, &[7, 8, 9], &failure()), "muted already");
    }

    #[test]
    fn a_limit_of_none_never_mutes() {
        let mut state = State::default();
        for change in 0..50 {
            assert_eq!(state.count(0, "host-1", &result(change, &failure(), 0), at(0)), None);
        }
    }

    /// Issue 10: `reports retry --all` after an unmuting delivers what failed before it.
    #[test]
    fn runs_that_began_before_the_lab_was_known_to_work_do_not_count() {
        let mut state = State::default();
        assert!(count(&mut state, &[1, 2, 3], &failure()));
        state.observe(&unmuted(5), at(5));
        let mut mutes = |change, verdict: &Verdict, began| {
            state.count(3, "host-1", &result(change, verdict, began), at(90)).is_some()
        };
        for change in 4..40 {
            assert!(!mutes(change, &failure(), 4), "the person who unmuted knows of it");
        }
        // What begins afterwards counts, and older runs between them change nothing.
        assert!(!mutes(40, &failure(), 5) && !mutes(41, &failure(), 6));
        assert!(!mutes(42, &failure(), 4) && !mutes(43, &Verdict::Success, 4));
        assert!(mutes(44, &failure(), 7));
        state.observe(&unmuted(100), at(10));
        // A success says the same as an unmuting.
        let mut mutes = |change, verdict: &Verdict, began| {
            state.count(3, "host-1", &result(change, verdict, began), at(90)).is_some()
        };
        assert!(!mutes(50, &Verdict::Success, 60));
        assert!((51..70).all(|change| !mutes(change, &failure(), 59)));
        assert!(!mutes(70, &failure(), 61) && !mutes(71, &failure(), 62) && mutes(72, &failure(), 63));
    }

    #[test]
    fn an_old_muting_that_arrives_after_its_end_changes_nothing() {
        let mut state = State::default();
        for message in [muted(0), unmuted(5)] {
            state.observe(&message, at(0));
        }
        assert_eq!(state.observe(&muted(0), at(0)), Effect::None, "seen before");
        assert_eq!(state.observe(&muted(4), at(0)), Effect::None, "older than the unmuting");
        assert_eq!(state.observe(&muted(6), at(0)), Effect::Muted);
    }

    #[test]
    fn past_messages_may_arrive_again_in_any_state() {
        let past = [muted(0), unmuted(5), muted(10)];
        let mut state = State::default();
        for message in &past {
            state.observe(message, at(0));
        }
        let effects: Vec<_> = past.iter().map(|message| state.observe(message, at(0))).collect();
        assert_eq!(effects, [Effect::None; 3]);
        assert_eq!(state.muted().unwrap().since, at(10));
    }

    #[test]
    fn a_person_is_obeyed_also_when_their_clock_is_behind() {
        let mut state = State::default();
        state.observe(&muted(10), at(0));
        assert_eq!(state.observe(&unmuted(3), at(0)), Effect::Unmuted);
        assert_eq!(
            state.observe(&muted(10), at(0)),
            Effect::None,
            "repeated by an operator that was disconnected"
        );
    }

    #[test]
    fn a_muting_here_is_later_than_an_unmuting_by_a_clock_that_is_ahead() {
        let mut state = State::default();
        state.observe(&unmuted(60), at(0));
        assert!(count(&mut state, &[1, 2, 3], &failure()));
        assert!(state.muted().unwrap().since > at(60));
    }

    #[test]
    fn an_old_unmuting_does_not_end_a_muting_that_was_not_broadcast_yet() {
        let mut state = State::default();
        assert!(count(&mut state, &[1, 2, 3], &failure()));
        let ours = state.muted().unwrap().message();
        // The broker was away: only now the older messages arrive.
        assert_eq!(state.observe(&unmuted(-30), at(0)), Effect::None);
        assert_eq!(state.observe(&ours, at(0)), Effect::None);
        assert_eq!(
            state.observe(&unmuted(-1), at(0)),
            Effect::Unmuted,
            "a person, after all: their clock is behind"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut state = State::default();
        for n in 0..2 * REMEMBERED as i64 {
            state.observe(&unmuted(n), at(0));
        }
        assert_eq!(state.seen.len(), REMEMBERED);
    }
}
