//! How long a lease lasts for its holder, and for all others. No two clocks are compared.

use std::time::Duration;

use tokio::time::Instant;

use super::rules::{Rule, holds};

/// The length of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseTerm {
    /// How long all others wait, from when they read the last renewal.
    whole: Duration,
    /// How long the holder may go on after a renewal: it stops while the others still wait, also if its clock is slower
    /// than theirs.
    held: Duration,
}

impl LeaseTerm {
    /// The lease of a job. Operators stop a run with a margin of their own before it ends.
    pub(crate) fn of_job(whole: Duration) -> Self {
        Self { whole, held: whole * 49 / 50 }
    }

    /// The leader's lease. It is short, and nothing stops before its end.
    pub(crate) fn of_leader(whole: Duration) -> Self {
        Self { whole, held: whole * 4 / 5 }
    }

    /// The lease of a report.
    pub(crate) fn of_report(whole: Duration) -> Self {
        Self { whole, held: whole * 4 / 5 }
    }

    /// As entries have it: how long the others wait.
    pub(crate) fn ms(self) -> u64 {
        u64::try_from(self.whole.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long the holder may go on after a renewal.
    pub(crate) fn held(self) -> Duration {
        self.held
    }

    /// How much longer the others wait.
    pub(crate) fn margin(self) -> Duration {
        self.whole - self.held
    }

    /// Whether a holder that counts its part only from now on stops before the others go on. Not if its process was
    /// frozen since it wrote the entry.
    pub(crate) fn may_begin(self, written: Instant, now: Instant) -> bool {
        now <= written + self.margin()
    }

    /// The holder's lease, if the entry is accepted that it is about to write at this moment.
    pub(crate) fn written_at(self, written: Instant) -> HeldLease {
        let held = if holds(Rule::HolderStopsFirst) { self.held } else { self.whole * 2 };
        HeldLease { term: self, end: written + held }
    }
}

/// A lease as its holder sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldLease {
    term: LeaseTerm,
    end: Instant,
}

impl HeldLease {
    /// When the holder must have stopped.
    pub(crate) fn end(&self) -> Instant {
        self.end
    }

    /// By the holder's own clock, whatever the log says.
    pub(crate) fn has_ended(&self, now: Instant) -> bool {
        now >= self.end
    }

    /// The renewal was accepted that was about to be written at this moment. Renewals may end in another order.
    pub(crate) fn renewed(&mut self, written: Instant) {
        self.end = self.end.max(written + self.term.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that is frozen while it leases a report, and goes on when another one delivers it.
    #[test]
    fn a_delivery_begins_only_while_the_others_wait_for_its_whole_part_of_the_lease() {
        let (written, whole) = (Instant::now(), Duration::from_secs(300));
        let term = LeaseTerm::of_report(whole);
        for (after, may) in [(0, true), (60, true), (61, false), (300, false), (86_400, false)] {
            let now = written + Duration::from_secs(after);
            assert_eq!(term.may_begin(written, now), may, "{after} s");
            assert!(!may || now + term.held() <= written + whole);
        }
    }
}
