//! Who may speak: a fold over runs and notices, without time or tasks of its own.

use std::collections::{HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::ident::ChangeNumber;
use crate::job::Job;
use crate::seam::Notice;
use crate::verdict::Verdict;

/// Notices of this kind that are remembered: people send a handful a day, and muted operators repeat theirs twice.
const REMEMBERED: usize = 1000;

/// Why nobody upstream hears of runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silence {
    /// Who found out.
    pub by: String,
    /// What it found.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

impl Silence {
    pub(super) fn notice(&self) -> Notice {
        let Self { by, why, since } = self.clone();
        Notice::Muted { by, why, at: since }
    }
}

/// What is known of silences, and what may lead to the next.
#[derive(Debug, Default)]
pub(super) struct State {
    silence: Option<Silence>,
    /// The latest unmuting, by the clock of who unmuted.
    unmuted: Option<Timestamp>,
    /// Notices heard so far: a listener that begins again hears a whole day of them once more.
    heard: VecDeque<Notice>,
    /// Changes whose runs went wrong since the last success.
    wrong: HashSet<ChangeNumber>,
}

/// What a notice meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing that changes who may speak.
    Nothing,
    /// A silence began.
    Muted,
    /// A silence ended.
    Unmuted,
}

impl State {
    pub(super) fn silence(&self) -> Option<&Silence> {
        self.silence.as_ref()
    }

    /// Takes note of a finished run. Begins a silence when it is the `limit`th in a row that went wrong, each on another change.
    pub(super) fn count(
        &mut self,
        limit: usize,
        by: &str,
        job: &Job,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Option<Silence> {
        if *verdict == Verdict::Success {
            self.wrong.clear();
        }
        // What was superseded, cancelled or skipped says nothing of the lab.
        if *verdict == Verdict::Success || !verdict.is_told() || limit == 0 || self.silence.is_some() {
            return None;
        }
        // The same change again may be its own fault.
        self.wrong.insert(job.change.number);
        if self.wrong.len() < limit {
            return None;
        }
        self.wrong.clear();
        let why = format!(
            "the last {limit} changes all went wrong, without a success between; the last was {} on {}: {verdict}",
            job.name,
            job.target()
        );
        // Later than the last unmuting, whatever the clocks of people and operators say: others go by this.
        let since = self.unmuted.map_or(now, |unmuted| now.max(unmuted + SignedDuration::from_millis(1)));
        self.silence = Some(Silence { by: by.to_owned(), why, since });
        self.silence.clone()
    }

    /// Takes note of a notice. Hearing the same one again changes nothing, so that the past can be listened to as often as one likes.
    pub(super) fn hear(&mut self, notice: &Notice) -> Meaning {
        if !matches!(notice, Notice::Muted { .. } | Notice::Unmuted { .. }) {
            return Meaning::Nothing;
        }
        if self.heard.contains(notice) {
            return Meaning::Nothing;
        }
        if self.heard.len() >= REMEMBERED {
            self.heard.pop_front();
        }
        self.heard.push_back(notice.clone());
        match notice {
            Notice::Muted { by, why, at } => {
                // An operator that was cut off may tell of a silence that a person has ended since.
                let ended = self.unmuted.is_some_and(|unmuted| *at <= unmuted);
                if ended || self.silence.is_some() {
                    return Meaning::Nothing;
                }
                self.silence = Some(Silence { by: by.clone(), why: why.clone(), since: *at });
                Meaning::Muted
            }
            Notice::Unmuted { at, .. } => {
                self.unmuted = self.unmuted.max(Some(*at));
                // One of ours that nobody has heard of yet began after this, if its time says so.
                let untold =
                    |silence: &Silence| silence.since > *at && !self.heard.contains(&silence.notice());
                if self.silence.as_ref().is_none_or(untold) {
                    return Meaning::Nothing;
                }
                self.silence = None;
                self.wrong.clear();
                Meaning::Unmuted
            }
            _ => Meaning::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::StageName;
    use crate::memory::sample::{self, AT};

    fn at(minutes: i64) -> Timestamp {
        AT + SignedDuration::from_mins(minutes)
    }

    fn muted(minutes: i64) -> Notice {
        Notice::Muted { by: "host-3".into(), why: "ten in a row".into(), at: at(minutes) }
    }

    fn unmuted(minutes: i64) -> Notice {
        Notice::Unmuted { by: "ops".into(), at: at(minutes) }
    }

    fn failure() -> Verdict {
        Verdict::Failure { stage: StageName::new("tempest").unwrap() }
    }

    /// Counts one run for each change, and says whether a silence began.
    fn count(state: &mut State, changes: &[u64], verdict: &Verdict) -> bool {
        let count = |change: &u64| {
            let job = sample::job_on(*change, "tempest");
            state.count(3, "host-1", &job, verdict, at(0)).is_some()
        };
        changes.iter().map(count).filter(|began| *began).count() > 0
    }

    #[test]
    fn a_row_is_of_different_changes_and_ends_with_a_success() {
        let mut state = State::default();
        assert!(!count(&mut state, &[1, 2, 2, 1, 2], &failure()), "two changes, however often");
        assert!(!count(&mut state, &[3], &Verdict::Superseded), "that says nothing of the lab");
        assert!(!count(&mut state, &[3], &Verdict::Success));
        assert!(!count(&mut state, &[4, 5], &Verdict::NodeFailure));
        assert!(count(&mut state, &[6], &failure()));
        let silence = state.silence().unwrap();
        assert_eq!(
            silence.why,
            "the last 3 changes all went wrong, without a success between; the last was tempest on 6,2: FAILURE in stage tempest"
        );
        assert!(!count(&mut state, &[7, 8, 9], &failure()), "it is silent already");
    }

    #[test]
    fn a_limit_of_none_never_mutes() {
        let mut state = State::default();
        for change in 0..50 {
            let job = sample::job_on(change, "tempest");
            assert_eq!(state.count(0, "host-1", &job, &failure(), at(0)), None);
        }
    }

    #[test]
    fn an_old_silence_that_is_told_after_its_end_mutes_nobody() {
        let mut state = State::default();
        for notice in [muted(0), unmuted(5)] {
            state.hear(&notice);
        }
        assert_eq!(state.hear(&muted(0)), Meaning::Nothing, "heard before");
        assert_eq!(state.hear(&muted(4)), Meaning::Nothing, "older than the unmuting");
        assert_eq!(state.hear(&muted(6)), Meaning::Muted);
    }

    #[test]
    fn the_past_can_be_heard_again_in_any_state() {
        let past = [muted(0), unmuted(5), muted(10)];
        let mut state = State::default();
        for notice in &past {
            state.hear(notice);
        }
        let meanings: Vec<_> = past.iter().map(|notice| state.hear(notice)).collect();
        assert_eq!(meanings, [Meaning::Nothing; 3]);
        assert_eq!(state.silence().unwrap().since, at(10));
    }

    #[test]
    fn a_person_is_obeyed_also_when_their_clock_is_behind() {
        let mut state = State::default();
        state.hear(&muted(10));
        assert_eq!(state.hear(&unmuted(3)), Meaning::Unmuted);
        assert_eq!(state.hear(&muted(10)), Meaning::Nothing, "told again by one who was cut off");
    }

    #[test]
    fn a_silence_of_ours_is_later_than_an_unmuting_by_a_clock_that_is_ahead() {
        let mut state = State::default();
        state.hear(&unmuted(60));
        assert!(count(&mut state, &[1, 2, 3], &failure()));
        assert!(state.silence().unwrap().since > at(60));
    }

    #[test]
    fn an_old_unmuting_does_not_end_a_silence_that_nobody_has_heard_of_yet() {
        let mut state = State::default();
        assert!(count(&mut state, &[1, 2, 3], &failure()));
        let ours = state.silence().unwrap().notice();
        // The broker was away: only now we hear what was said before.
        assert_eq!(state.hear(&unmuted(-30)), Meaning::Nothing);
        assert_eq!(state.hear(&ours), Meaning::Nothing);
        assert_eq!(state.hear(&unmuted(-1)), Meaning::Unmuted, "a person, after all: their clock is behind");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut state = State::default();
        for n in 0..2 * REMEMBERED as i64 {
            state.hear(&unmuted(n));
        }
        assert_eq!(state.heard.len(), REMEMBERED);
    }
}
