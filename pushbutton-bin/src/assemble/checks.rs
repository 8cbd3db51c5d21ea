use async_trait::async_trait;
use pushbutton_core::check::{Check, Finding};
use pushbutton_core::{InstallationId, Result, StaticNodes};
use pushbutton_openstack::OpenStackProvisioner;

use super::{STORE_FILE, store};
use crate::config::{Config, Nodes};
use crate::log_url_check::LogUrlCheck;

/// What is checked besides the state folder and the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    /// What only a handler uses: Gerrit.
    pub(crate) gerrit: bool,
    /// What only an operator uses: machines, Ansible, the log folder.
    pub(crate) nodes: bool,
}

/// Each of these parts with its check, in the order in which people should fix them.
pub(crate) fn all(config: &Config, parts: Parts) -> Vec<(&'static str, Box<dyn Check + '_>)> {
    let queue: Box<dyn Check> = match &config.rabbitmq {
        Some(rabbitmq) => Box::new(rabbitmq.clone()),
        None => {
            let what = "no RabbitMQ is configured: jobs wait in the state folder, on this host only";
            Box::new(Known(vec![Finding::ok(what)]))
        }
    };
    let mut checks: Vec<(&'static str, Box<dyn Check + '_>)> = vec![("state", Box::new(StateCheck(config)))];
    if parts.gerrit {
        checks.push(("gerrit", part(super::gerrit(config), "fix `gerrit`")));
    }
    checks.push(("queue", queue));
    if parts.nodes {
        checks.extend([
            ("nodes", nodes(config)),
            ("ansible", part(super::ansible(config), "fix `ansible`")),
            ("logs", Box::new(LogUrlCheck(&config.logs)) as Box<dyn Check + '_>),
        ]);
    }
    checks
}

fn nodes(config: &Config) -> Box<dyn Check> {
    match &config.nodes {
        Nodes::Machines(machines) => part(StaticNodes::new(machines.clone()), "fix `machines`"),
        Nodes::Cloud(cloud) => {
            let (cloud, owner) = (cloud.as_ref().clone(), config.owner.clone());
            // A check creates nothing and looks for nothing of ours, so any id will do, and needs no queue.
            part(OpenStackProvisioner::new(cloud, owner, InstallationId::generate()), "fix `cloud`")
        }
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
