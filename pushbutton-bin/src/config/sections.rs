//! The sections that belong to the command itself. All others are types of the parts and of core.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use pushbutton_core::{BreakerPolicy, HumanDuration, NoRoomPolicy};
use pushbutton_store::StoreConfig;
use secrecy::SecretString;
use serde::Deserialize;

/// `handler:`, how jobs are queued and their results reported.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HandlerConfig {
    /// After this many failed changes in a row comments stop until a person unmutes them; 0 for never. Default: 10.
    pub(crate) mute_after: u32,
    /// How many builds of one change may be started within 24 hours. Default: any number.
    pub(crate) max_builds_per_change_per_day: Option<NonZeroU32>,
}

impl Default for HandlerConfig {
    fn default() -> Self {
        Self { mute_after: 10, max_builds_per_change_per_day: None }
    }
}

/// `operator:`, how jobs are run.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OperatorConfig {
    /// The number of jobs that run at once. Default: 1.
    pub(crate) slots: usize,
    /// How long a graceful shutdown waits for running jobs before it returns them to the queue. Default: a minute.
    pub(crate) shutdown_deadline: HumanDuration,
    /// The delay before the second attempt after an infrastructure failure; it doubles each time. Default: a minute.
    pub(crate) retry_delay: HumanDuration,
    /// The longest such delay. Default: 15 minutes.
    pub(crate) retry_delay_cap: HumanDuration,
    /// When to stop claiming jobs because no node can be created.
    pub(crate) breaker: BreakerPolicy,
    /// What to do while the cloud has no room for a node.
    pub(crate) no_room: NoRoomPolicy,
}

impl Default for OperatorConfig {
    fn default() -> Self {
        Self {
            slots: 1,
            shutdown_deadline: HumanDuration::secs(60),
            retry_delay: HumanDuration::secs(60),
            retry_delay_cap: HumanDuration::secs(15 * 60),
            breaker: BreakerPolicy::default(),
            no_room: NoRoomPolicy::default(),
        }
    }
}

/// `store:`, how the file in the state folder is used. The defaults are those of the store.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreSection {
    /// Of a claim, where the queue is in the store.
    pub(crate) lease: HumanDuration,
    /// The limit of lost leases, where the queue is in the store.
    pub(crate) max_lost_leases: u32,
    /// How long to wait for another process that writes.
    pub(crate) lock_wait: HumanDuration,
    /// How long runs stay in the history.
    pub(crate) keep_runs: HumanDuration,
    /// How many runs stay in the history.
    pub(crate) max_runs: u32,
}

impl Default for StoreSection {
    fn default() -> Self {
        let StoreConfig { lease, max_lost_leases, lock_wait, keep_runs, max_runs, .. } = StoreConfig::new("");
        Self { lease, max_lost_leases, lock_wait, keep_runs, max_runs }
    }
}

impl StoreSection {
    /// The configuration of the store in this file.
    pub(crate) fn of_file(&self, file: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig::new(file)
            .with_lease(self.lease.into())
            .with_max_lost_leases(self.max_lost_leases)
            .with_lock_wait(self.lock_wait.into())
            .with_keep_runs(self.keep_runs.into())
            .with_max_runs(self.max_runs)
    }
}

/// `sweep:`, how operators delete what crashes have left on the cloud.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SweepConfig {
    /// The interval. Default: 10 minutes.
    pub(crate) every: HumanDuration,
    /// Anything younger is kept. Default: 10 minutes.
    pub(crate) safety_age: HumanDuration,
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self { every: HumanDuration::secs(600), safety_age: HumanDuration::secs(600) }
    }
}

/// `alarm:`, how the lab's own people are alerted.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct AlarmConfig {
    /// By mail.
    pub(crate) mail: MailConfig,
}

/// `alarm.mail:`
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct MailConfig {
    /// The server, as `smtp://127.0.0.1:25`, or `smtps://user:password@mail.example.org` with TLS.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) server: SecretString,
    /// The sender.
    pub(crate) from: String,
    /// The recipients.
    pub(crate) to: Vec<String>,
}

/// `web:`, the dashboard.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct WebConfig {
    /// Where it listens, as `127.0.0.1:8080`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) listen: SocketAddr,
}
