//! Limits how many builds of a change are started within a day: anybody can ask for one.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};

use crate::names::ChangeNumber;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Changes that are remembered. When there are more within a day, those whose last build is the longest ago are
/// forgotten.
const MAX_CHANGES: usize = 10_000;

/// Counts the builds of each change within the last 24 hours, since the start of this process.
#[derive(Debug, Default)]
pub(super) struct BuildLimit {
    changes: HashMap<ChangeNumber, Builds>,
}

/// The builds of a change.
#[derive(Debug, Default)]
struct Builds {
    /// When each was started, oldest first. At most as many as the largest limit within the last 24 hours.
    started: VecDeque<Timestamp>,
    /// People were told that there are too many, since one was last started.
    is_said: bool,
}

/// Whether a build may be started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may, and is counted.
    Start,
    /// It may not before then.
    TooMany {
        /// When the next one may be started.
        until: Timestamp,
        /// Nobody was told so yet.
        is_first: bool,
    },
}

impl BuildLimit {
    /// Decides on a build, where so many of a change are admitted within 24 hours.
    pub(super) fn admit(&mut self, limit: NonZeroU32, change: ChangeNumber, now: Timestamp) -> Admission {
        let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
        if self.changes.len() >= MAX_CHANGES && !self.changes.contains_key(&change) {
            self.forget(now);
        }
        let builds = self.changes.entry(change).or_default();
        while builds.started.front().is_some_and(|started| is_over(*started, now)) {
            builds.started.pop_front();
        }
        // There may be more than the limit, if it was larger before.
        let too_many = builds.started.len().checked_sub(limit);
        match too_many.and_then(|nth| builds.started.get(nth)) {
            Some(last) => {
                let until = last.saturating_add(DAY).unwrap_or(Timestamp::MAX);
                let is_first = !std::mem::replace(&mut builds.is_said, true);
                Admission::TooMany { until, is_first }
            }
            _ => {
                builds.started.push_back(now);
                builds.is_said = false;
                Admission::Start
            }
        }
    }

    /// Forgets changes without a build in the last day, and if there is none, the tenth with the oldest last builds.
    fn forget(&mut self, now: Timestamp) {
        let last = |builds: &Builds| builds.started.back().copied().unwrap_or(Timestamp::MIN);
        self.changes.retain(|_, builds| !is_over(last(builds), now));
        if self.changes.len() >= MAX_CHANGES {
            let mut times: Vec<Timestamp> = self.changes.values().map(last).collect();
            let (_, threshold, _) = times.select_nth_unstable(MAX_CHANGES / 10);
            let threshold = *threshold;
            self.changes.retain(|_, builds| last(builds) > threshold);
        }
    }
}

fn is_over(started: Timestamp, now: Timestamp) -> bool {
    now.duration_since(started) >= DAY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn most(builds: u32) -> NonZeroU32 {
        NonZeroU32::new(builds).unwrap()
    }

    #[test]
    fn builds_of_a_change_are_limited_within_any_24_hours_and_people_are_told_once() {
        let (mut limit, two) = (BuildLimit::default(), most(2));
        let (change, at) = (ChangeNumber(1), |hours| samples::AT + SignedDuration::from_hours(hours));
        assert_eq!(limit.admit(two, change, at(0)), Admission::Start);
        assert_eq!(limit.admit(two, change, at(5)), Admission::Start);
        for (hours, is_first) in [(6, true), (7, false), (23, false)] {
            assert_eq!(limit.admit(two, change, at(hours)), Admission::TooMany { until: at(24), is_first });
        }
        assert_eq!(limit.admit(two, ChangeNumber(2), at(6)), Admission::Start, "another change");
        assert_eq!(limit.admit(two, change, at(24)), Admission::Start);
        assert_eq!(limit.admit(two, change, at(25)), Admission::TooMany { until: at(29), is_first: true });
    }

    #[test]
    fn a_limit_that_is_changed_counts_the_builds_of_before() {
        let mut limit = BuildLimit::default();
        let (change, at) = (ChangeNumber(1), |hours| samples::AT + SignedDuration::from_hours(hours));
        for hours in 0..4 {
            assert_eq!(limit.admit(most(4), change, at(hours)), Admission::Start);
        }
        let until = |hours, is_first| Admission::TooMany { until: at(hours), is_first };
        assert_eq!(
            limit.admit(most(2), change, at(5)),
            until(26, true),
            "two of the four are still too many"
        );
        assert_eq!(limit.admit(most(2), change, at(25)), until(26, false));
        assert_eq!(limit.admit(most(2), change, at(26)), Admission::Start);
    }

    #[test]
    fn the_memory_is_bounded_and_recent_changes_are_kept() {
        let mut limit = BuildLimit::default();
        let count = 3 * MAX_CHANGES as u64;
        for number in 0..count {
            let now = samples::AT + SignedDuration::from_millis(i64::try_from(number).unwrap());
            assert_eq!(limit.admit(most(1), ChangeNumber(number), now), Admission::Start);
            assert!(limit.changes.len() <= MAX_CHANGES);
        }
        let last = ChangeNumber(count - 1);
        assert!(matches!(limit.admit(most(1), last, samples::AT), Admission::TooMany { .. }));
    }
}
