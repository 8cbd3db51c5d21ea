use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{BreakerPolicy, NoRoomPolicy};
use crate::job::JobFilter;
use crate::names::JobName;
use crate::pipeline::supersede::SupersedePolicy;
use crate::run::JobSpec;
use crate::setters::setters;

/// What an operator runs, and how. All of it can be replaced while the operator runs
/// ([`Operator::settings`](crate::Operator::settings)): runs that have begun go on with their jobs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OperatorSettings {
    /// Its jobs.
    pub jobs: BTreeMap<JobName, Arc<JobSpec>>,
    /// Which jobs it claims. One that is not among its jobs becomes a dead letter. Default: every job.
    pub filter: JobFilter,
    /// How many jobs run at once; at least 1. If it becomes less, runs end by themselves. Default: 1.
    pub slots: usize,
    /// How long a graceful shutdown waits for runs. Default: a minute.
    pub shutdown_deadline: Duration,
    /// The delay before the second attempt after an infrastructure failure; it doubles each time. Default: a minute.
    pub retry_delay: Duration,
    /// The longest such delay. Default: 15 minutes.
    pub retry_delay_cap: Duration,
    /// When to stop claiming because no node comes up.
    pub breaker: BreakerPolicy,
    /// What to do while the cloud has no room for a node.
    pub no_room: NoRoomPolicy,
    /// Which answers of a look-up of the change end a job.
    pub supersede: SupersedePolicy,
}

impl OperatorSettings {
    /// These jobs, with the default of everything else.
    pub fn new(jobs: impl IntoIterator<Item = (JobName, JobSpec)>) -> Self {
        Self {
            jobs: jobs.into_iter().map(|(name, spec)| (name, Arc::new(spec))).collect(),
            filter: JobFilter::any(),
            slots: 1,
            shutdown_deadline: Duration::from_secs(60),
            retry_delay: Duration::from_secs(60),
            retry_delay_cap: Duration::from_secs(15 * 60),
            breaker: BreakerPolicy::default(),
            no_room: NoRoomPolicy::default(),
            supersede: SupersedePolicy::default(),
        }
    }

    /// At least one: with none no job would ever run.
    pub(super) fn slots_to_use(&self) -> usize {
        self.slots.max(1)
    }
}

setters!(OperatorSettings {
    filter / with_filter: JobFilter,
    slots / with_slots: usize,
    shutdown_deadline / with_shutdown_deadline: Duration,
    retry_delay / with_retry_delay: Duration,
    retry_delay_cap / with_retry_delay_cap: Duration,
    breaker / with_breaker: BreakerPolicy,
    no_room / with_no_room: NoRoomPolicy,
    supersede / with_supersede: SupersedePolicy,
});
