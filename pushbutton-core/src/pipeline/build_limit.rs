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
#[derive(Debug)]
pub(super) struct BuildLimit {
    limit: usize,
    changes: HashMap<ChangeNumber, Builds>,
}

/// The builds of a change.
#[derive(Debug, Default)]
struct Builds {
    /// When each was started, oldest first. At most as many as the limit.
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
    /// Admits so many builds of a change within 24 hours.
    pub(super) fn new(limit: NonZeroU32) -> Self {
        let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
        Self { limit, changes: HashMap::new() }
    }

    /// How many builds are admitted.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Decides on a build.
    pub(super) fn admit(&mut self, change: ChangeNumber, now: Timestamp) -> Admission {
        if self.changes.len() >= MAX_CHANGES && !self.changes.contains_key(&change) {
            self.forget(now);
        }
        let builds = self.changes.entry(change).or_default();
        while builds.started.front().is_some_and(|started| is_over(*started, now)) {
            builds.started.pop_front();
        }
        match builds.started.front() {
            Some(oldest) if builds.started.len() >= self.limit => {
                let until = oldest.saturating_add(DAY).unwrap_or(Timestamp::MAX);
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

    fn limit(builds: u32) -> BuildLimit {
        BuildLimit::new(NonZeroU32::new(builds).unwrap())
    }

    #[test]
    fn builds_of_a_change_are_limited_within_any_24_hours_and_people_are_told_once() {
        let mut limit = limit(2);
        let (change, at) = (ChangeNumber(1), |hours| samples::AT + SignedDuration::from_hours(hours));
        assert_eq!(limit.admit(change, at(0)), Admission::Start);
        assert_eq!(limit.admit(change, at(5)), Admission::Start);
        for (hours, is_first) in [(6, true), (7, false), (23, false)] {
            assert_eq!(limit.admit(change, at(hours)), Admission::TooMany { until: at(24), is_first });
        }
        assert_eq!(limit.admit(ChangeNumber(2), at(6)), Admission::Start, "another change");
        assert_eq!(limit.admit(change, at(24)), Admission::Start);
        assert_eq!(limit.admit(change, at(25)), Admission::TooMany { until: at(29), is_first: true });
    }

    #[test]
    fn the_memory_is_bounded_and_recent_changes_are_kept() {
        let mut limit = limit(1);
        let count = 3 * MAX_CHANGES as u64;
        for number in 0..count {
            let now = samples::AT + SignedDuration::from_millis(i64::try_from(number).unwrap());
            assert_eq!(limit.admit(ChangeNumber(number), now), Admission::Start);
            assert!(limit.changes.len() <= MAX_CHANGES);
        }
        let last = ChangeNumber(count - 1);
        assert!(matches!(limit.admit(last, samples::AT), Admission::TooMany { .. }));
    }
}
