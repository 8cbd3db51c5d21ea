//! Where a restart goes on: the bookkeeping behind the [`Position`] of each event. Pure.
//!
//! The position is a time of Gerrit's clock. It stays a little behind the events (`backfill.overlap`), because the
//! stream does not keep their order, and behind every gap until a backfill has closed it. Its token holds the very
//! first start of this installation.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pushbutton_core::Position;

/// How long before the start of a backfill an event may lie and still be on its way in the stream.
const STREAM_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// Nanoseconds of a second.
const SERIALS: i64 = 1_000_000_000;

/// Where the serial numbers of the next tracker begin. When a source takes the place of another in one process, the last
/// commits of the old one's events must not look like commits of the new one's.
static NEXT_SERIAL: AtomicI64 = AtomicI64::new(0);

/// Between two beginnings. No source passes on so many events within one second of positions.
const SERIALS_OF_ONE: i64 = 10_000_019;

#[derive(Debug)]
pub(crate) struct PositionTracker {
    overlap: Duration,
    /// The very first start of this installation: older events are not passed on.
    first_start: Timestamp,
    /// The position at the start of this process: backfill does not ask for older events.
    start: Timestamp,
    /// Events may be missing from here on; none if nothing is missing.
    gap: Option<Timestamp>,
    /// The newest time of Gerrit's clock that is known.
    newest: Timestamp,
    /// `newest` when the last successful backfill began: it found everything up to here.
    verified: Timestamp,
    /// The newest time in the stream.
    streamed: Option<Timestamp>,
    /// The position of the last event that was passed on, and the last one that was committed.
    passed_on: Option<Position>,
    committed: Option<Position>,
    serial: i64,
}

impl PositionTracker {
    /// The position of the very first start. Gerrit's times are whole seconds, and what lies in the second of the
    /// start may be older than the start, so backfill begins with the next second.
    pub(crate) fn first(now: Timestamp) -> Position {
        let second = |second| Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
        let now = now.as_second();
        Position::at(second(now + 1)).with_token(token(second(now)))
    }

    /// Goes on from this position. Events may be missing from there on.
    pub(crate) fn new(position: &Position, overlap: Duration) -> Self {
        let newest = position.at.checked_add(overlap).unwrap_or(position.at);
        Self {
            overlap,
            first_start: parse_token(position).unwrap_or(position.at),
            start: position.at,
            gap: Some(position.at),
            newest,
            verified: newest,
            streamed: None,
            passed_on: None,
            committed: None,
            serial: NEXT_SERIAL.fetch_add(SERIALS_OF_ONE, Ordering::Relaxed) % SERIALS,
        }
    }

    pub(crate) fn first_start(&self) -> Timestamp {
        self.first_start
    }

    pub(crate) fn newest(&self) -> Timestamp {
        self.newest
    }

    /// The stream has brought a line of this time.
    pub(crate) fn stream_reached(&mut self, second: i64) {
        if let Ok(at) = Timestamp::from_second(second) {
            self.newest = self.newest.max(at);
            self.streamed = self.streamed.max(Some(at));
        }
    }

    /// From now on events may be missing.
    pub(crate) fn open_gap(&mut self) {
        let begin = self.before(self.newest);
        self.gap = Some(self.gap.map_or(begin, |gap| gap.min(begin)));
    }

    /// From when on a backfill must ask: from the gap, and at least back to the last backfill, which detects a stream
    /// that sends nothing.
    pub(crate) fn horizon(&self) -> Timestamp {
        let verified = self.before(self.verified);
        self.gap.map_or(verified, |gap| gap.min(verified)).max(self.start)
    }

    /// A backfill has found everything: up to `verified`, which was `newest` when it began. `newest` is the newest
    /// time that it saw.
    pub(crate) fn backfilled(&mut self, verified: Timestamp, newest: Option<Timestamp>, closes_gap: bool) {
        self.newest = self.newest.max(newest.unwrap_or(self.newest));
        self.verified = self.verified.max(verified);
        if closes_gap {
            self.gap = None;
        }
    }

    /// Whether the stream should have brought an event of this time, which a backfill that began then has found:
    /// there is no gap, the event is old enough, and the stream has brought nothing as new.
    pub(crate) fn is_missing_in_stream(&self, at: Timestamp, backfill_began: Timestamp) -> bool {
        self.gap.is_none()
            && self.streamed.is_some_and(|streamed| streamed < at)
            && at < backfill_began - STREAM_DELAY
    }

    /// The position of an event of this time. Each differs from the one before by some nanoseconds, so that a commit
    /// identifies it.
    pub(crate) fn pass_on(&mut self, at: Timestamp) -> Position {
        let floor = at.checked_sub(self.overlap).unwrap_or(at);
        let floor = self.gap.map_or(floor, |gap| gap.min(floor)).max(self.start);
        self.serial = (self.serial + 1) % SERIALS;
        let second = Timestamp::from_second(floor.as_second()).unwrap_or(floor);
        let at = second.checked_add(SignedDuration::from_nanos(self.serial)).unwrap_or(second);
        let position = self.position(at);
        self.passed_on = Some(position.clone());
        position
    }

    pub(crate) fn committed(&mut self, position: &Position) {
        self.committed = Some(position.clone());
    }

    /// The position to save while there are no events, so that a restart need not ask back to the last one. None
    /// while something is missing, or passed on and not committed.
    pub(crate) fn idle(&self) -> Option<Position> {
        let is_idle = self.passed_on == self.committed && self.gap.is_none();
        is_idle.then(|| self.position(self.before(self.verified)))
    }

    fn before(&self, at: Timestamp) -> Timestamp {
        at.checked_sub(self.overlap).unwrap_or(at).max(self.start)
    }

    fn position(&self, at: Timestamp) -> Position {
        Position::at(at).with_token(token(self.first_start))
    }
}

fn token(first_start: Timestamp) -> String {
    format!("first-start={first_start}")
}

fn parse_token(position: &Position) -> Option<Timestamp> {
    position.token.as_deref()?.strip_prefix("first-start=")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tracker() -> PositionTracker {
        let mut tracker = PositionTracker::new(&PositionTracker::first(at(1_000)), Duration::from_secs(60));
        tracker.backfilled(at(5_000), Some(at(5_000)), true);
        tracker
    }

    #[test]
    fn a_position_stays_behind_its_event_and_behind_a_gap() {
        let mut tracker = tracker();
        assert_eq!(tracker.pass_on(at(5_100)).at.as_second(), 5_040);
        tracker.stream_reached(5_200);
        tracker.open_gap();
        assert_eq!(tracker.pass_on(at(5_900)).at.as_second(), 5_140, "not past the gap");
        assert_eq!(tracker.horizon(), at(4_940), "back to the last backfill");
        tracker.backfilled(at(5_900), None, true);
        assert_eq!(tracker.pass_on(at(5_900)).at.as_second(), 5_840);
    }

    #[test]
    fn nothing_is_older_than_the_first_start() {
        let first = PositionTracker::first(at(1_000));
        let mut tracker = PositionTracker::new(&first, Duration::from_secs(60));
        assert_eq!((tracker.first_start(), tracker.horizon()), (at(1_000), at(1_001)));
        assert_eq!(tracker.pass_on(at(1_001)).at.as_second(), 1_001);
        let restarted = PositionTracker::new(&tracker.pass_on(at(9_000)), Duration::from_secs(60));
        assert_eq!(restarted.first_start(), at(1_000), "a restart keeps it");
    }

    #[test]
    fn the_idle_position_waits_for_commits_and_gaps() {
        let mut tracker = tracker();
        assert_eq!(tracker.idle().unwrap().at, at(4_940));
        let (first, second) = (tracker.pass_on(at(5_100)), tracker.pass_on(at(5_100)));
        assert_ne!(first, second, "a commit identifies its event");
        tracker.committed(&first);
        assert_eq!(tracker.idle(), None);
        tracker.committed(&second);
        assert!(tracker.idle().is_some());
        tracker.open_gap();
        assert_eq!(tracker.idle(), None);
    }

    #[test]
    fn an_old_event_that_only_a_query_found_is_missing_in_the_stream() {
        let mut tracker = tracker();
        assert!(!tracker.is_missing_in_stream(at(5_100), at(9_000)), "the stream has not begun");
        tracker.stream_reached(5_050);
        assert!(tracker.is_missing_in_stream(at(5_100), at(9_000)));
        assert!(!tracker.is_missing_in_stream(at(5_100), at(5_110)), "it may be on its way");
        tracker.stream_reached(5_200);
        assert!(!tracker.is_missing_in_stream(at(5_100), at(9_000)), "the stream is past it");
    }

    #[test]
    fn a_commit_of_an_earlier_source_is_none_of_this_one() {
        let position = PositionTracker::first(at(1_000));
        let (mut old, mut new) = (
            PositionTracker::new(&position, Duration::from_secs(60)),
            PositionTracker::new(&position, Duration::from_secs(60)),
        );
        let before = old.pass_on(at(1_500));
        assert_ne!(before, new.pass_on(at(1_500)));
        new.backfilled(at(2_000), None, true);
        new.committed(&before);
        assert_eq!(new.idle(), None, "the event is not durable yet");
    }
}
