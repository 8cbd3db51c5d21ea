//! The clocks of one participant: a monotonic one that drifts, and a calendar that somebody sets.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pushbutton_core::samples::AT;
use tokio::time::Instant;

use super::super::state_machine::Arrival;

/// The largest drift, in millionths. A clock on this planet drifts by less than 500; the margins are made for this.
const MAX_DRIFT: i64 = 5_000;

#[derive(Debug)]
pub(super) struct Clock {
    /// The monotonic clock, and the true time at which its speed changed last.
    instant: Instant,
    since: Duration,
    /// How much too fast it is, in millionths.
    drift: i64,
    /// How wrong the calendar is.
    calendar: SignedDuration,
}

impl Clock {
    pub(super) fn new(start: Instant, rng: &mut fastrand::Rng) -> Self {
        let instant = start + Duration::from_secs(rng.u64(..1_000_000));
        let mut clock = Self { instant, since: Duration::ZERO, drift: 0, calendar: SignedDuration::ZERO };
        clock.disturb(Duration::ZERO, rng);
        clock
    }

    /// Changes the speed, and sets the calendar: some seconds, or hours.
    pub(super) fn disturb(&mut self, now: Duration, rng: &mut fastrand::Rng) {
        (self.instant, self.since) = (self.at(now), now);
        self.drift = match rng.u8(..4) {
            0 => -MAX_DRIFT,
            1 => MAX_DRIFT,
            _ => rng.i64(-MAX_DRIFT..=MAX_DRIFT),
        };
        let most = if rng.bool() { 5 } else { 20_000 };
        self.calendar = SignedDuration::from_secs(rng.i64(-most..=most));
    }

    fn at(&self, now: Duration) -> Instant {
        let passed = u64::try_from((now - self.since).as_micros()).unwrap();
        self.instant
            + Duration::from_micros(passed * u64::try_from(1_000_000 + self.drift).unwrap() / 1_000_000)
    }

    /// What its two clocks show at this true time.
    pub(super) fn read(&self, now: Duration) -> Arrival {
        let date: Timestamp = AT + now + self.calendar;
        Arrival { instant: self.at(now), date }
    }
}
