use std::sync::Arc;

use pushbutton_ansible::AnsibleExecutor;
use pushbutton_core::Error;
use pushbutton_core::check::Finding;
use pushbutton_core::memory::StaticNodeConfig;
use pushbutton_openstack::OpenStackProvisioner;

use super::{STORE_FILE, make_state, store};
use crate::config::{Config, Nodes};

fn broken(error: &Error, remedy: &str) -> Vec<Finding> {
    vec![Finding::fail(error.to_string(), remedy)]
}

/// The state folder and its file.
pub(crate) async fn state(config: &Config) -> Vec<Finding> {
    let file = config.state.join(STORE_FILE);
    match store(config).await {
        Ok(_) => vec![Finding::ok(format!("{} can be read and written", file.display()))],
        Err(error) => broken(&error, "mend `state`, or move the file away"),
    }
}

/// Login, stream, account.
pub(crate) async fn gerrit(config: &Config) -> Vec<Finding> {
    match super::gerrit(config) {
        Ok(gerrit) => gerrit.check().await,
        Err(error) => broken(&error, "mend `gerrit`"),
    }
}

/// The broker, or the file.
pub(crate) async fn queue(config: &Config) -> Vec<Finding> {
    match &config.rabbitmq {
        Some(rabbitmq) => pushbutton_amqp::check(rabbitmq).await,
        None => {
            vec![Finding::ok("no RabbitMQ is named: jobs wait in the state folder, on this host alone")]
        }
    }
}

/// The cloud, or the list of machines.
pub(crate) async fn nodes(config: &Config) -> Vec<Finding> {
    match &config.nodes {
        Nodes::Machines(machines) => machines.iter().map(machine).collect(),
        Nodes::Cloud(cloud) => {
            let journal = Arc::new(pushbutton_core::memory::MemoryJournal::default());
            match OpenStackProvisioner::new(cloud.as_ref().clone(), config.owner.clone(), journal) {
                Ok(provisioner) => provisioner.check().await,
                Err(error) => broken(&error, "mend `cloud`"),
            }
        }
    }
}

fn machine(machine: &StaticNodeConfig) -> Finding {
    let StaticNodeConfig { name, label, address, port, user, .. } = machine;
    match address {
        _ if machine.local => Finding::warn(
            format!("{name} ({label}) is this very machine: patches run here, as this user"),
            "use it for demonstrations and for people whom you trust only",
        ),
        Some(address) if machine.host_keys.is_empty() => Finding::warn(
            format!("{name} ({label}) is {user}@{address}:{port}, its host key unknown until first contact"),
            "pin it: put the output of `ssh-keyscan` into `host_keys`, once compared with the machine's own",
        ),
        Some(address) => Finding::ok(format!("{name} ({label}) is {user}@{address}:{port}")),
        None => Finding::fail(format!("{name} ({label}) has no address"), "give it one"),
    }
}

/// The program and every playbook that a stage names.
pub(crate) async fn ansible(config: &Config) -> Vec<Finding> {
    let stages = config.jobs.iter().flat_map(|job| &job.stages);
    let mut playbooks: Vec<String> = stages.map(|stage| stage.playbook.clone()).collect();
    playbooks.sort();
    playbooks.dedup();
    if let Err(error) = make_state(config) {
        return broken(&error, "mend `state`");
    }
    match AnsibleExecutor::new(config.ansible.clone(), &config.state) {
        Ok(executor) => executor.check(&playbooks).await,
        Err(error) => broken(&error, "mend `ansible`"),
    }
}
