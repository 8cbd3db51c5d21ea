//! The signal to stop a run, with its reason. A more urgent reason replaces a milder one, and none is taken back.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Reasons to stop a run, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopReason {
    /// A newer patch set, a merge or an abandon made the job stale.
    Superseded,
    /// A person cancelled it.
    Cancelled,
    /// The operator shuts down: another one will run the job.
    HandBack,
    /// The lease is lost, or soon will be: another operator may run the job.
    LeaseLost,
}

impl StopReason {
    /// Whether nothing more may run on the node, not even gathering its logs.
    pub(super) fn is_urgent(self) -> bool {
        self >= Self::HandBack
    }
}

/// Shared by everything that can stop a run. A child is stopped with its parent.
#[derive(Debug, Clone)]
pub(super) struct StopSignal {
    reason: Arc<Mutex<Option<StopReason>>>,
    /// Set at any reason: ends the stages that run on success.
    any: CancellationToken,
    /// Set at an urgent reason: ends everything.
    urgent: CancellationToken,
    /// Set when no time is left to end anything gracefully: another operator may hold the job.
    over: CancellationToken,
}

impl StopSignal {
    pub(super) fn new() -> Self {
        let token = CancellationToken::new;
        Self { reason: Arc::default(), any: token(), urgent: token(), over: token() }
    }

    /// The signal of one run: set for itself alone, or with its parent.
    pub(super) fn child(&self) -> Self {
        let (any, urgent) = (self.any.child_token(), self.urgent.child_token());
        Self { reason: Arc::default(), any, urgent, over: self.over.child_token() }
    }

    pub(super) fn set(&self, reason: StopReason) {
        let mut known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        *known = (*known).max(Some(reason));
        drop(known);
        self.any.cancel();
        if reason.is_urgent() {
            self.urgent.cancel();
        }
    }

    /// The operator shuts down.
    pub(super) fn hand_back(&self) {
        self.set(StopReason::HandBack);
    }

    /// The lease has ended, or will before anything could end gracefully: what still runs is dropped.
    pub(super) fn lease_ended(&self) {
        self.set(StopReason::LeaseLost);
        self.over.cancel();
    }

    /// The most urgent reason so far. A stop that came from the parent is a hand-back.
    pub(super) fn reason(&self) -> Option<StopReason> {
        let own = *self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if self.urgent.is_cancelled() { own.max(Some(StopReason::HandBack)) } else { own }
    }

    pub(super) fn is_set(&self) -> bool {
        self.any.is_cancelled()
    }

    pub(super) fn any(&self) -> &CancellationToken {
        &self.any
    }

    pub(super) fn urgent(&self) -> &CancellationToken {
        &self.urgent
    }

    pub(super) fn over(&self) -> &CancellationToken {
        &self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_urgent_reason_stays() {
        let stop = StopSignal::new();
        stop.set(StopReason::LeaseLost);
        stop.set(StopReason::Superseded);
        assert_eq!(stop.reason(), Some(StopReason::LeaseLost));
    }

    #[test]
    fn a_mild_reason_leaves_time_to_gather_logs() {
        let stop = StopSignal::new();
        stop.set(StopReason::Superseded);
        assert!(stop.any().is_cancelled() && !stop.urgent().is_cancelled());
    }

    #[test]
    fn the_operators_end_reaches_every_run_but_a_runs_end_only_itself() {
        let operator = StopSignal::new();
        let (one, other) = (operator.child(), operator.child());
        one.set(StopReason::Cancelled);
        assert!(!other.is_set() && !operator.is_set());
        operator.hand_back();
        assert_eq!((one.reason(), other.reason()), (Some(StopReason::HandBack), Some(StopReason::HandBack)));
    }
}
