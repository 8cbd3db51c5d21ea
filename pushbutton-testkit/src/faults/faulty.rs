use std::sync::Arc;

use pushbutton_core::{
    Alerter, ChangeStatusLookup, EventStore, Executor, Journal, Provisioner, Queue, Reporter,
};

use super::fault_plan::FaultPlan;

/// A part whose calls go wrong as a schedule says. It is the part that it wraps: a queue around a queue, a reporter around a reporter.
#[derive(Debug)]
pub struct Faulty<T: ?Sized> {
    pub(super) inner: Arc<T>,
    pub(super) schedule: FaultPlan,
}

impl<T: ?Sized> Faulty<T> {
    /// Wraps a part. Several may share a schedule, as when one cable breaks for all.
    pub fn new(inner: Arc<T>, schedule: &FaultPlan) -> Self {
        Self { inner, schedule: schedule.clone() }
    }

    /// The part itself, where nothing goes wrong.
    pub fn inner(&self) -> &Arc<T> {
        &self.inner
    }

    /// The schedule.
    pub fn schedule(&self) -> &FaultPlan {
        &self.schedule
    }
}

/// Any queue; its claims and its streams of notices go wrong too.
pub type FaultyQueue = Faulty<dyn Queue>;
/// Any provisioner. A lost answer of `provision` is a machine that nobody knows of.
pub type FaultyProvisioner = Faulty<dyn Provisioner>;
/// Any executor. A stage that hangs is deaf to its cancellation, as a defective executor's is.
pub type FaultyExecutor = Faulty<dyn Executor>;
/// Any reporter.
pub type FaultyReporter = Faulty<dyn Reporter>;
/// Any ledger.
pub type FaultyEventStore = Faulty<dyn EventStore>;
/// Any journal.
pub type FaultyJournal = Faulty<dyn Journal>;
/// Any source of answers about changes.
pub type FaultyChangeStatus = Faulty<dyn ChangeStatusLookup>;
/// Any alarm.
pub type FaultyAlerter = Faulty<dyn Alerter>;
