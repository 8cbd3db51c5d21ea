use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::check::{Check, Finding};
use pushbutton_core::{ErrorKind, InstallationId, Result, StaticNodes, TriggerLookup, Triggers};
use pushbutton_gerrit::Gerrit;
use pushbutton_openstack::OpenStackProvisioner;

use super::{STORE_FILE, store};
use crate::config::{Config, Need, Needs, Nodes};
use crate::log_url_check::LogUrlCheck;

/// The parts that are needed, each with its check, in the order in which people should fix them.
pub(crate) fn needed(config: &Config, needs: Needs) -> Vec<(&'static str, Box<dyn Check + '_>)> {
    let queue: Box<dyn Check> = match &config.rabbitmq {
        Some(rabbitmq) => Box::new(rabbitmq.clone()),
        None => {
            let what = "no RabbitMQ is configured: jobs wait in the state folder, on this host only";
            Box::new(Known(vec![Finding::ok(what)]))
        }
    };
    let mut checks: Vec<(&'static str, Box<dyn Check + '_>)> = vec![("state", Box::new(StateCheck(config)))];
    if needs.gerrit == Need::Files {
        checks.push(("gerrit", part(super::gerrit(config), "fix `gerrit`")));
        let triggers = super::triggers(config).and_then(|triggers| {
            let gerrit = super::gerrit(config)?;
            Ok(TriggersCheck { triggers, gerrit })
        });
        checks.push(("triggers", part(triggers, "fix `triggers`")));
    }
    checks.push(("queue", queue));
    if needs.nodes == Need::Files {
        checks.push(("nodes", nodes(config)));
    }
    if needs.stages == Need::Files {
        checks.push(("ansible", part(super::ansible(config), "fix `ansible`")));
        checks.extend(
            config.logs.iter().map(|logs| ("logs", Box::new(LogUrlCheck(logs)) as Box<dyn Check + '_>)),
        );
    }
    checks
}

fn nodes(config: &Config) -> Box<dyn Check> {
    match config.nodes() {
        Ok(Nodes::Machines(machines)) => part(StaticNodes::new(machines.clone()), "fix `machines`"),
        Ok(Nodes::Cloud(cloud)) => {
            let (cloud, owner) = (cloud.as_ref().clone(), config.owner.clone());
            // A check creates nothing and looks for nothing of ours, so any id will do, and needs no queue.
            part(OpenStackProvisioner::new(cloud, owner, InstallationId::generate()), "fix `cloud`")
        }
        Err(error) => Box::new(Known(vec![Finding::fail(error.to_string(), "add `cloud` or `machines`")])),
    }
}

/// A part's check; a part that cannot be made is itself a finding.
fn part(part: Result<impl Check + 'static>, fix: &str) -> Box<dyn Check> {
    match part {
        Ok(part) => Box::new(part),
        Err(error) => Box::new(Known(vec![Finding::fail(error.to_string(), fix)])),
    }
}

/// Findings that are known already.
struct Known(Vec<Finding>);

#[async_trait]
impl Check for Known {
    async fn check(&self) -> Vec<Finding> {
        self.0.clone()
    }
}

/// All look-ups of groups end within this time: a part's check must end within a minute.
const GROUPS_TIMEOUT: Duration = Duration::from_secs(50);

/// Conditions that can never hold: by the configuration, or because Gerrit shows no such group.
struct TriggersCheck {
    triggers: Triggers,
    gerrit: Arc<Gerrit>,
}

#[async_trait]
impl Check for TriggersCheck {
    async fn check(&self) -> Vec<Finding> {
        let mut findings = self.triggers.warnings();
        let groups = async {
            for (group, trigger) in self.triggers.groups() {
                findings.push(self.group(&group, &trigger).await);
            }
        };
        if tokio::time::timeout(GROUPS_TIMEOUT, groups).await.is_err() {
            let what = "groups: Gerrit did not list their members in time";
            findings.push(Finding::warn(what, "try again, and look at the load of the server"));
        }
        if findings.is_empty() {
            findings.push(Finding::ok("no condition was found that can never hold"));
        }
        findings
    }
}

impl TriggersCheck {
    async fn group(&self, group: &str, trigger: &str) -> Finding {
        match self.gerrit.group_members(group).await {
            Ok(members) => Finding::ok(format!("{trigger}: group {group:?} has {} members", members.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Finding::fail(
                format!("{trigger}: group {group:?}: {}", error.message()),
                "write its exact name, and ask the group's owner to make it visible to all; or name the accounts one by one",
            ),
            Err(error) => Finding::warn(format!("{trigger}: group {group:?}: {error}"), "fix `gerrit` first"),
        }
    }
}

struct StateCheck<'c>(&'c Config);

#[async_trait]
impl Check for StateCheck<'_> {
    async fn check(&self) -> Vec<Finding> {
        let file = self.0.state.join(STORE_FILE);
        vec![match store(self.0).await {
            Ok(_) => Finding::ok(format!("{} can be read and written", file.display())),
            Err(error) => Finding::fail(error.to_string(), "fix `state`, or move the file away"),
        }]
    }
}
