//! One YAML file. All its faults are told at once, each with its line and its remedy; nothing starts before it is well.

// In the order in which a file is read.
mod interpolate;
mod key_path;
mod lines;
mod paths;
mod tree;
mod typed;

mod cross;
mod fault;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pushbutton_amqp::AmqpConfig;
use pushbutton_ansible::AnsibleConfig;
use pushbutton_core::memory::StaticNodeConfig;
use pushbutton_core::{JobName, JobSpec, OwnerName, Trigger};
use pushbutton_gerrit::GerritConfig;
use pushbutton_openstack::OpenStackConfig;
use serde_json::Value;

use crate::mail;

use self::fault::Fault;
pub(crate) use self::fault::{Faults, suggest};
use self::key_path::KeyPath;
use self::schema::JobConfig;
pub(crate) use self::schema::{
    AlarmConfig, BreakerConfig, LogsConfig, MailConfig, OperatorConfig, SupersedeConfig, SweepConfig,
    WebConfig,
};
use self::tree::{Env, Tree};

/// What `init` writes: every key, explained.
pub(crate) const DEFAULT: &str = include_str!("default.yml");

/// The sections, in the order in which `init` writes them, and whether each must be there.
const SECTIONS: [(&str, bool); 15] = [
    ("owner", true),
    ("state", true),
    ("gerrit", true),
    ("rabbitmq", false),
    ("cloud", false),
    ("machines", false),
    ("ansible", true),
    ("logs", true),
    ("operator", false),
    ("supersede", false),
    ("sweep", false),
    ("alarm", false),
    ("web", false),
    ("triggers", true),
    ("jobs", true),
];

/// A configuration without faults.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) owner: OwnerName,
    pub(crate) state: PathBuf,
    pub(crate) gerrit: GerritConfig,
    pub(crate) rabbitmq: Option<AmqpConfig>,
    pub(crate) nodes: Nodes,
    pub(crate) ansible: AnsibleConfig,
    pub(crate) logs: LogsConfig,
    pub(crate) operator: OperatorConfig,
    pub(crate) supersede: SupersedeConfig,
    pub(crate) sweep: SweepConfig,
    pub(crate) alarm: Option<AlarmConfig>,
    pub(crate) web: Option<WebConfig>,
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) jobs: Vec<JobSpec>,
}

/// Where nodes come from.
#[derive(Debug)]
pub(crate) enum Nodes {
    /// `cloud:`
    Cloud(Box<OpenStackConfig>),
    /// `machines:`
    Machines(Vec<StaticNodeConfig>),
}

/// Reads a file, with the process's environment.
pub(crate) fn load(file: &Path) -> Result<Config, Faults> {
    let text = std::fs::read_to_string(file).map_err(|error| Faults {
        file: file.to_owned(),
        list: vec![Fault {
            line: 1,
            place: String::new(),
            what: format!("cannot read the configuration: {error}"),
            remedy: format!(
                "name another with --config, or write one with `pushbutton-bin init {}`",
                file.display()
            ),
        }],
    })?;
    // Paths in the file are relative to it, wherever we are.
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    parse(&text, &file, &|name| std::env::var(name).ok())
}

/// Reads a text that lies, or would lie, at `file`.
pub(crate) fn parse(text: &str, file: &Path, env: Env<'_>) -> Result<Config, Faults> {
    let mut tree = Tree::read(text, file, env)?;
    let top = KeyPath::top();
    sections(&mut tree);

    let owner = required(&mut tree, "owner");
    let state = required(&mut tree, "state");
    let gerrit: Option<GerritConfig> = required(&mut tree, "gerrit");
    if let Some(gerrit) = &gerrit {
        cross::told_by_part(&mut tree, "gerrit", gerrit.faults());
    }
    let rabbitmq: Option<AmqpConfig> = optional(&mut tree, "rabbitmq");
    if let Some(Err(error)) = rabbitmq.as_ref().map(AmqpConfig::validate) {
        // It names the key as `rabbitmq.lease must be ...`.
        let told = error.message().strip_prefix("rabbitmq.").and_then(|rest| rest.split_once(' '));
        let told = told.map_or_else(|| error.message().to_owned(), |(key, what)| format!("{key}: {what}"));
        cross::told_by_part(&mut tree, "rabbitmq", vec![told]);
    }
    let ansible: Option<AnsibleConfig> = required(&mut tree, "ansible");
    let logs = required(&mut tree, "logs");
    let operator: Option<OperatorConfig> = typed::read(&mut tree, &top.key("operator"));
    let supersede = typed::read(&mut tree, &top.key("supersede"));
    let sweep = typed::read(&mut tree, &top.key("sweep"));
    let alarm: Option<AlarmConfig> = optional(&mut tree, "alarm");
    if let Some(Err((key, what))) = alarm.as_ref().map(|alarm| mail::faults(&alarm.mail)) {
        tree.fault(&top.key("alarm").key("mail").key(key), what, "`pushbutton-bin init` writes an example");
    }
    let web = optional(&mut tree, "web");
    if operator.as_ref().is_some_and(|operator| operator.slots == 0) {
        tree.fault(&top.key("operator").key("slots"), "0 slots never run anything", "write 1 or more");
    }

    let (nodes, labels) = nodes(&mut tree);
    let jobs = jobs(&mut tree);
    let names = keys(&tree, "jobs");
    let triggers = triggers(&mut tree);
    cross::triggers(&mut tree, &triggers, &names);
    let playbooks = top.key("ansible").key("playbooks");
    let folder = playbooks.get(&tree.root).and_then(Value::as_str).map(PathBuf::from);
    let folder = folder.filter(|_| !tree.is_faulty(&playbooks));
    cross::jobs(&mut tree, &jobs, labels.as_ref(), folder.as_deref());

    let jobs =
        jobs.into_iter().filter_map(|(name, job)| Some(job.into_spec(JobName::new(name).ok()?))).collect();
    let triggers = triggers.into_iter().map(|(_, trigger)| trigger).collect();
    tree.verdict()?;
    let complete = || {
        Some(Config {
            owner: owner?,
            state: state?,
            gerrit: gerrit?,
            rabbitmq,
            nodes: nodes?,
            ansible: ansible?,
            logs: logs?,
            operator: operator?,
            supersede: supersede?,
            sweep: sweep?,
            alarm,
            web,
            triggers,
            jobs,
        })
    };
    complete().ok_or_else(|| {
        // A section that is not read has said why; this is for the one that has not.
        tree.fault(&KeyPath::top(), "the file cannot be read, and no fault was found", "please report this");
        match tree.verdict() {
            Err(faults) => faults,
            Ok(()) => Faults { file: file.to_owned(), list: Vec::new() },
        }
    })
}

/// Unknown and missing sections.
fn sections(tree: &mut Tree) {
    let top = KeyPath::top();
    let known = SECTIONS.iter().map(|(name, _)| *name);
    let there: BTreeSet<String> =
        tree.root.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect();
    // Keys that begin with `x-` are the place for YAML anchors, as in compose files.
    for key in
        there.iter().filter(|key| !key.starts_with("x-") && !known.clone().any(|name| name == key.as_str()))
    {
        tree.fault(&top.key(key), "unknown section", suggest(key, known.clone()));
    }
    for (name, needed) in SECTIONS {
        if needed && !there.contains(name) {
            tree.fault(
                &top.key(name),
                "this section is missing",
                "`pushbutton-bin init` writes an example of it",
            );
        }
    }
    match (there.contains("cloud"), there.contains("machines")) {
        (false, false) => {
            let what = "neither `cloud` nor `machines` is there, so no job has a node";
            tree.fault(&top, what, "add one of them; `pushbutton-bin init` writes an example");
        }
        (true, true) => {
            tree.fault(
                &top.key("machines"),
                "both `cloud` and `machines` are there",
                "leave one of them out",
            );
        }
        _ => {}
    }
}

fn required<T: serde::de::DeserializeOwned>(tree: &mut Tree, key: &str) -> Option<T> {
    optional(tree, key)
}

/// A section, if it is there and well.
fn optional<T: serde::de::DeserializeOwned>(tree: &mut Tree, key: &str) -> Option<T> {
    let at = KeyPath::top().key(key);
    at.get(&tree.root)?;
    typed::read(tree, &at)
}

/// Where nodes come from, and which labels there are; no labels when that section cannot be read.
fn nodes(tree: &mut Tree) -> (Option<Nodes>, Option<BTreeSet<String>>) {
    let top = KeyPath::top();
    if top.key("machines").get(&tree.root).is_some() {
        let machines: Option<Vec<StaticNodeConfig>> = optional(tree, "machines");
        if let Some(Err(error)) = machines.clone().map(pushbutton_core::memory::StaticNodes::new) {
            tree.fault(&top.key("machines"), error.message().to_owned(), "");
        }
        let labels = machines.iter().flatten().map(|machine| machine.label.to_string()).collect();
        return match machines {
            Some(machines) => (Some(Nodes::Machines(machines)), Some(labels)),
            None => (None, None),
        };
    }
    let cloud = optional::<OpenStackConfig>(tree, "cloud").map(|cloud| Nodes::Cloud(Box::new(cloud)));
    let at = top.key("cloud").key("nodes");
    let labels = at.get(&tree.root).and_then(Value::as_object).map(|map| map.keys().cloned().collect());
    (cloud, labels)
}

/// Entry by entry, so that a fault in one job hides none in another.
fn jobs(tree: &mut Tree) -> BTreeMap<String, JobConfig> {
    let section = KeyPath::top().key("jobs");
    let mut jobs = BTreeMap::new();
    if section.get(&tree.root).is_some_and(|value| !value.is_object()) {
        tree.fault(
            &section,
            "this is no mapping of names to jobs",
            "`pushbutton-bin init` writes an example",
        );
    }
    for name in keys(tree, "jobs") {
        let at = section.key(&name);
        if let Err(error) = JobName::new(name.as_str()) {
            tree.fault(&at, error.message().to_owned(), "rename it");
        }
        if let Some(job) = typed::read(tree, &at) {
            jobs.insert(name, job);
        }
    }
    jobs
}

/// Element by element, each with its place in the list.
fn triggers(tree: &mut Tree) -> Vec<(usize, Trigger)> {
    let section = KeyPath::top().key("triggers");
    let count = match section.get(&tree.root) {
        Some(Value::Array(list)) => list.len(),
        Some(_) => {
            tree.fault(&section, "this is no list of triggers", "write one `- name: ...` for each");
            0
        }
        None => 0,
    };
    (0..count).filter_map(|index| Some((index, typed::read(tree, &section.index(index))?))).collect()
}

fn keys(tree: &Tree, section: &str) -> BTreeSet<String> {
    let section = tree.root.get(section).and_then(Value::as_object);
    section.into_iter().flat_map(|map| map.keys().cloned()).collect()
}

#[cfg(test)]
mod default_job_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
