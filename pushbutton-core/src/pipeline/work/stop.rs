//! Why a run must stop. A worse reason outranks a milder one, and none is taken back.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Reasons to stop a run, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// A newer patch set, a merge or an abandon made it pointless.
    Superseded,
    /// A person cancelled it.
    Cancelled,
    /// The operator must end: another one will run the job.
    HandBack,
    /// The lease is lost, or soon will be: another operator may run the job.
    LeaseLost,
}

impl Reason {
    /// Whether nothing more may be done on the node's behalf, not even gathering its logs.
    pub(super) fn is_urgent(self) -> bool {
        self >= Self::HandBack
    }
}

/// A stop sign, shared by all who watch over a run. A child is stopped with its parent.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    reason: Arc<Mutex<Option<Reason>>>,
    /// Set at any reason: ends the stages that run on success.
    any: CancellationToken,
    /// Set at an urgent reason: ends everything.
    urgent: CancellationToken,
    /// Set when there is no time left to end anything in good order: another operator may hold the job.
    over: CancellationToken,
}

impl Stop {
    pub(super) fn new() -> Self {
        let token = CancellationToken::new;
        Self { reason: Arc::default(), any: token(), urgent: token(), over: token() }
    }

    /// A stop sign of one run. Set for itself alone, or with its parent.
    pub(super) fn child(&self) -> Self {
        let (any, urgent) = (self.any.child_token(), self.urgent.child_token());
        Self { reason: Arc::default(), any, urgent, over: self.over.child_token() }
    }

    pub(super) fn set(&self, reason: Reason) {
        let mut known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        *known = (*known).max(Some(reason));
        drop(known);
        self.any.cancel();
        if reason.is_urgent() {
            self.urgent.cancel();
        }
    }

    /// The operator must end.
    pub(super) fn hand_back(&self) {
        self.set(Reason::HandBack);
    }

    /// The lease has ended, or will before anything ends in good order: what still runs is dropped.
    pub(super) fn lease_ended(&self) {
        self.set(Reason::LeaseLost);
        self.over.cancel();
    }

    /// The worst reason so far. A stop that came from the parent is a hand-back.
    pub(super) fn reason(&self) -> Option<Reason> {
        let own = *self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if self.urgent.is_cancelled() { own.max(Some(Reason::HandBack)) } else { own }
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
    fn the_worst_reason_stays() {
        let stop = Stop::new();
        stop.set(Reason::LeaseLost);
        stop.set(Reason::Superseded);
        assert_eq!(stop.reason(), Some(Reason::LeaseLost));
    }

    #[test]
    fn a_mild_reason_leaves_time_to_gather_logs() {
        let stop = Stop::new();
        stop.set(Reason::Superseded);
        assert!(stop.any().is_cancelled() && !stop.urgent().is_cancelled());
    }

    #[test]
    fn the_operators_end_reaches_every_run_but_a_runs_end_only_itself() {
        let operator = Stop::new();
        let (one, other) = (operator.child(), operator.child());
        one.set(Reason::Cancelled);
        assert!(!other.is_set() && !operator.is_set());
        operator.hand_back();
        assert_eq!((one.reason(), other.reason()), (Some(Reason::HandBack), Some(Reason::HandBack)));
    }
}
