//! Rules that the simulation breaks one at a time, to show that it would notice. Outside of tests all of them hold.

/// A rule on which the guarantees of the log rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A claim is accepted only if nothing happened to the job since the claimer looked.
    ClaimUnchanged,
    /// The same for a claim of a report.
    ReportUnchanged,
    /// The others wait until a lease has ended.
    LeaseWaits,
    /// A holder stops before the others go on.
    HolderStopsFirst,
    /// Nobody becomes the leader during another one's lease.
    OneLeader,
    /// A known job is not imported again.
    KnownJobSkipped,
    /// Messages leave the inbox only after their entry was read back.
    AcknowledgeReadBack,
    /// An event is new once.
    EventNewOnce,
    /// A listener gets a message once.
    HeardOnce,
    /// A snapshot holds all of the state.
    SnapshotWhole,
    /// A participant that reconnects notices that the end of the log was lost.
    LossNoticed,
    /// It writes again what was lost.
    LossRestored,
    /// A reader notices that the broker has moved it on.
    GapNoticed,
}

/// Whether a rule holds: always.
#[cfg(not(test))]
pub(crate) const fn holds(_: Rule) -> bool {
    true
}

#[cfg(test)]
pub(crate) use broken::{holds, without};

#[cfg(test)]
mod broken {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static BROKEN: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    /// Whether a rule holds on this thread.
    pub(crate) fn holds(rule: Rule) -> bool {
        BROKEN.get() != Some(rule)
    }

    /// Runs something on this thread while one rule does not hold.
    pub(crate) fn without<T>(rule: Rule, run: impl FnOnce() -> T) -> T {
        BROKEN.set(Some(rule));
        let result = run();
        BROKEN.set(None);
        result
    }
}
