//! The sections that belong to the command itself. All others are the parts' own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use pushbutton_core::{HumanDuration, JobName, JobSpec, NodeLabel, OnFailure, RunWhen, Stage, StageName};
use secrecy::SecretString;
use serde::Deserialize;

/// `logs:`, where runs leave what people will read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogsConfig {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// The URL under which a web server shows it. Default: none, and reports name no logs.
    #[serde(default)]
    pub(crate) url: Option<String>,
}

/// `operator:`, how jobs are worked off.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OperatorConfig {
    /// Jobs at once. Default: 1.
    pub(crate) slots: usize,
    /// How long a graceful stop waits for running jobs before it hands them back. Default: a minute.
    pub(crate) shutdown_deadline: HumanDuration,
    /// Wait before the second attempt after an infrastructure failure; doubles each time. Default: a minute.
    pub(crate) retry_delay: HumanDuration,
    /// The longest such wait. Default: 15 minutes.
    pub(crate) retry_delay_cap: HumanDuration,
    /// When the cloud makes no machines, this stops taking jobs until it does.
    pub(crate) breaker: BreakerConfig,
    /// So many changes in a row may go wrong before comments stop until a person has looked; 0 for any number. Default: 10.
    pub(crate) mute_after: u32,
}

/// `operator.breaker:`, what happens when no machine can be had.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BreakerConfig {
    /// After so many failures in a row no job is taken for a while; 0 for never. Default: 5.
    pub(crate) failures: u32,
    /// For how long at first; it doubles as long as a single job that then tries fails too. Default: a minute.
    pub(crate) pause: HumanDuration,
    /// The longest such pause. Default: half an hour.
    pub(crate) pause_cap: HumanDuration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, pause: HumanDuration::secs(60), pause_cap: HumanDuration::secs(30 * 60) }
    }
}

/// `supersede:`, what makes jobs pointless.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SupersedeConfig {
    /// A newer patch set ends the jobs of older ones. Default: true.
    pub(crate) newer_patchset: bool,
    /// A merge or an abandon ends the jobs of the change. Default: true.
    pub(crate) closed: bool,
}

impl Default for SupersedeConfig {
    fn default() -> Self {
        Self { newer_patchset: true, closed: true }
    }
}

/// `sweep:`, how operators look for what crashes have left on the cloud.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SweepConfig {
    /// How often. Default: 10 minutes.
    pub(crate) every: HumanDuration,
    /// What is younger is left alone. Default: 10 minutes.
    pub(crate) safety_age: HumanDuration,
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self { every: HumanDuration::secs(600), safety_age: HumanDuration::secs(600) }
    }
}

/// `alarm:`, how the lab's own people are called.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlarmConfig {
    /// By mail.
    pub(crate) mail: MailConfig,
}

/// `alarm.mail:`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MailConfig {
    /// The server, as `smtp://127.0.0.1:25`, or `smtps://user:password@mail.example.org` with TLS.
    pub(crate) server: SecretString,
    /// The sender.
    pub(crate) from: String,
    /// Who is called.
    pub(crate) to: Vec<String>,
}

impl Default for OperatorConfig {
    fn default() -> Self {
        Self {
            slots: 1,
            shutdown_deadline: HumanDuration::secs(60),
            retry_delay: HumanDuration::secs(60),
            retry_delay_cap: HumanDuration::secs(15 * 60),
            breaker: BreakerConfig::default(),
            mute_after: 10,
        }
    }
}

/// `web:`, the dashboard.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebConfig {
    /// Where it listens, as `127.0.0.1:8080`.
    pub(crate) listen: SocketAddr,
}

/// An entry of `jobs:`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobConfig {
    /// The label of the node that it needs.
    pub(crate) node: NodeLabel,
    /// Its stages, in order.
    pub(crate) stages: Vec<StageConfig>,
    /// Variables for every stage. Default: none.
    #[serde(default)]
    vars: BTreeMap<String, serde_json::Value>,
    /// Attempts in all when the infrastructure fails. Default: 3, as Zuul's.
    #[serde(default = "three")]
    pub(crate) attempts: u32,
    /// How long the node may take until it answers SSH. Default: 10 minutes.
    #[serde(default = "ten_minutes")]
    boot_timeout: HumanDuration,
    /// How long all stages that do not run `always` may take together. Default: 3 hours.
    #[serde(default = "three_hours")]
    timeout: HumanDuration,
}

/// An element of a job's `stages:`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StageConfig {
    /// Its name, as reports show it.
    pub(crate) name: StageName,
    /// The playbook, below the folder of `ansible.playbooks`.
    pub(crate) playbook: String,
    /// `fail` blames the patch, `retry` blames the lab and tries again. Default: `fail`.
    #[serde(default)]
    on_failure: OnFailure,
    /// `on-success`, or `always`: also after failure and timeout. Default: `on-success`.
    #[serde(default)]
    pub(crate) run: RunWhen,
    /// How long it may take. Default: an hour.
    #[serde(default = "an_hour")]
    timeout: HumanDuration,
    /// Variables for this stage alone; they win over the job's. Default: none.
    #[serde(default)]
    vars: BTreeMap<String, serde_json::Value>,
}

fn three() -> u32 {
    3
}

fn ten_minutes() -> HumanDuration {
    HumanDuration::secs(10 * 60)
}

fn an_hour() -> HumanDuration {
    HumanDuration::secs(60 * 60)
}

fn three_hours() -> HumanDuration {
    HumanDuration::secs(3 * 60 * 60)
}

impl JobConfig {
    /// What the pipeline makes of it.
    pub(crate) fn into_spec(self, name: JobName) -> JobSpec {
        let stage = |stage: StageConfig| Stage {
            name: stage.name,
            playbook: stage.playbook,
            on_failure: stage.on_failure,
            run: stage.run,
            timeout: stage.timeout.into(),
            vars: stage.vars,
        };
        JobSpec {
            name,
            node: self.node,
            stages: self.stages.into_iter().map(stage).collect(),
            vars: self.vars,
            attempts: self.attempts,
            boot_timeout: self.boot_timeout.into(),
            timeout: self.timeout.into(),
        }
    }
}
