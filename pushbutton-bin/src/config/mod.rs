//! One YAML file. All its errors are reported at once, each with its line and how to fix it; nothing starts while there
//! is one.

// In the order in which a file is read.
mod document;
mod interpolate;
mod lines;
mod needs;
mod node;
mod paths;
mod read;
mod role_variables;
mod sections;

mod changes;
mod cross_checks;
mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pushbutton_amqp::AmqpConfig;
use pushbutton_ansible::AnsibleConfig;
use pushbutton_core::{
    Error, ErrorKind, JobName, JobSpec, LogLocation, OwnerName, StaticNodeConfig, StaticNodes,
    SupersedePolicy, Trigger,
};
use pushbutton_gerrit::GerritConfig;
use pushbutton_openstack::OpenStackConfig;
use serde::de::DeserializeOwned;

use crate::mail;

#[cfg(test)]
pub(crate) use self::changes::is_reloaded;
pub(crate) use self::changes::{Changes, Files, Source};
use self::document::{Document, Env};
use self::error::ConfigError;
pub(crate) use self::error::{ConfigErrors, suggest};
pub(crate) use self::needs::{Need, Needs};
use self::node::{KeyPath, Value};
use self::read::read;
pub(crate) use self::sections::{
    AlarmConfig, HandlerConfig, MailConfig, OperatorConfig, StoreSection, SweepConfig, WebConfig,
};

/// What `init` writes: every key with its explanation.
pub(crate) const DEFAULT: &str = include_str!("default.yml");

/// The sections in the order of the file that `init` writes. [`Needs`] says which of them a command requires.
const SECTIONS: [&str; 17] = [
    "owner",
    "state",
    "store",
    "gerrit",
    "rabbitmq",
    "cloud",
    "machines",
    "ansible",
    "logs",
    "handler",
    "operator",
    "supersede",
    "sweep",
    "alarm",
    "web",
    "triggers",
    "jobs",
];

/// A configuration without errors.
#[derive(Debug)]
pub(crate) struct Config {
    /// What it was read from.
    pub(crate) source: Source,
    pub(crate) owner: OwnerName,
    pub(crate) state: PathBuf,
    pub(crate) store: StoreSection,
    // These are always there for commands that [need](crate::cli::Command::needs) them.
    gerrit: Option<GerritConfig>,
    nodes: Option<Nodes>,
    ansible: Option<AnsibleConfig>,
    /// Where the logs of runs are.
    pub(crate) logs: Option<LogLocation>,
    pub(crate) rabbitmq: Option<AmqpConfig>,
    pub(crate) handler: HandlerConfig,
    pub(crate) operator: OperatorConfig,
    pub(crate) supersede: SupersedePolicy,
    pub(crate) sweep: SweepConfig,
    pub(crate) alarm: Option<AlarmConfig>,
    pub(crate) web: Option<WebConfig>,
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) jobs: BTreeMap<JobName, JobSpec>,
}

impl Config {
    /// How to reach Gerrit.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a command that does not use Gerrit.
    pub(crate) fn gerrit(&self) -> Result<&GerritConfig, Error> {
        self.gerrit.as_ref().ok_or_else(|| missing("gerrit"))
    }

    /// Where nodes come from.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a command that uses no nodes.
    pub(crate) fn nodes(&self) -> Result<&Nodes, Error> {
        self.nodes.as_ref().ok_or_else(|| missing("cloud"))
    }

    /// How to run playbooks.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a command that runs no stages.
    pub(crate) fn ansible(&self) -> Result<&AnsibleConfig, Error> {
        self.ansible.as_ref().ok_or_else(|| missing("ansible"))
    }

    /// Where operators write the logs of runs.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a command that runs no stages.
    pub(crate) fn logs(&self) -> Result<&LogLocation, Error> {
        self.logs.as_ref().ok_or_else(|| missing("logs"))
    }
}

fn missing(section: &str) -> Error {
    Error::permanent(ErrorKind::Config, format!("the section `{section}` is missing"))
}

/// Where nodes come from.
#[derive(Debug)]
pub(crate) enum Nodes {
    /// `cloud:`
    Cloud(Box<OpenStackConfig>),
    /// `machines:`
    Machines(Vec<StaticNodeConfig>),
}

/// Reads a file, with the environment of the process. Of sections that the command does not use, neither the files that
/// they name nor secrets from the environment need be there.
pub(crate) fn load(file: &Path, needs: Needs) -> Result<Config, ConfigErrors> {
    load_with_files(file, needs).0
}

/// The same, with the files that were read, also where there are errors.
pub(crate) fn load_with_files(file: &Path, needs: Needs) -> (Result<Config, ConfigErrors>, Files) {
    // Paths in the file are relative to it, not to the working directory.
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut files = BTreeSet::from([whole.clone()]);
    let config = std::fs::read_to_string(file)
        .map_err(|error| {
            let fix = format!(
                "name another file with --config, or write one with `pushbutton-bin init {}`",
                file.display()
            );
            whole_file(file, format!("cannot read the configuration: {error}"), fix)
        })
        .and_then(|text| {
            let env = |name: &str| std::env::var(name).ok();
            let mut document = Document::read(&text, &whole, needs, &env)?;
            files.append(&mut document.files);
            config_of(document, &whole, needs)
        });
    let files = Files::read(files);
    let config = config.map(|mut config| {
        config.source.files = files.clone();
        config
    });
    (config, files)
}

pub(crate) fn whole_file(file: &Path, problem: String, fix: String) -> ConfigErrors {
    ConfigErrors {
        file: file.to_owned(),
        list: vec![ConfigError { line: 1, key: String::new(), problem, fix }],
    }
}

/// Reads a text that is, or would be, the content of `file`.
#[allow(dead_code, reason = "for tests, and for the fuzz target, which includes this module")]
pub(crate) fn parse(text: &str, file: &Path, needs: Needs, env: Env<'_>) -> Result<Config, ConfigErrors> {
    config_of(Document::read(text, file, needs, env)?, file, needs)
}

fn config_of(mut document: Document, file: &Path, needs: Needs) -> Result<Config, ConfigErrors> {
    check_sections(&mut document, needs);

    let owner = owner(&mut document);
    let state = section(&mut document, "state");
    let store: Option<StoreSection> = read(&mut document, &KeyPath::section("store"));
    for error in store.iter().flat_map(|store| store.of_file("").problems()) {
        cross_checks::error_of_part(&mut document, "store", &error);
    }
    let gerrit: Option<GerritConfig> = section(&mut document, "gerrit");
    for error in gerrit.iter().flat_map(GerritConfig::problems) {
        cross_checks::error_of_part(&mut document, "gerrit", &error);
    }
    let rabbitmq: Option<AmqpConfig> = section(&mut document, "rabbitmq");
    for error in rabbitmq.iter().flat_map(AmqpConfig::problems) {
        cross_checks::error_of_part(&mut document, "rabbitmq", &error);
    }
    let ansible: Option<AnsibleConfig> = section(&mut document, "ansible");
    let logs: Option<LogLocation> = section(&mut document, "logs");
    for error in logs.iter().flat_map(LogLocation::problems) {
        cross_checks::error_of_part(&mut document, "logs", &error);
    }
    let handler = read(&mut document, &KeyPath::section("handler"));
    let operator: Option<OperatorConfig> = read(&mut document, &KeyPath::section("operator"));
    if operator.as_ref().is_some_and(|operator| operator.slots == 0) {
        let slots = KeyPath::section("operator").key("slots");
        document.error(&slots, "with 0 slots no job ever runs", "write 1 or more");
    }
    let supersede = read(&mut document, &KeyPath::section("supersede"));
    let sweep = read(&mut document, &KeyPath::section("sweep"));
    let alarm: Option<AlarmConfig> = section(&mut document, "alarm");
    if let Some(Err((key, problem))) = alarm.as_ref().map(|alarm| mail::validate(&alarm.mail)) {
        let key = KeyPath::section("alarm").key("mail").key(key);
        document.error(&key, problem, "`pushbutton-bin init` writes an example");
    }
    let web = section(&mut document, "web");

    let (nodes, labels) = nodes(&mut document);
    let jobs = jobs(&mut document);
    let triggers = triggers(&mut document);
    cross_checks::triggers(&mut document, &triggers);
    cross_checks::jobs(&mut document, &jobs, labels.as_ref());
    if needs.reads_files_of("ansible") {
        cross_checks::playbooks(&mut document, &jobs);
        role_variables::check(&mut document, &jobs);
    }

    document.finish()?;
    let triggers = triggers.into_iter().map(|(_, trigger)| trigger).collect();
    let source = Source { file: file.to_owned(), needs, root: document.root, files: Files::default() };
    let complete = || {
        Some(Config {
            source,
            owner: owner?,
            state: state?,
            store: store?,
            gerrit,
            rabbitmq,
            nodes,
            ansible,
            logs,
            handler: handler?,
            operator: operator?,
            supersede: supersede?,
            sweep: sweep?,
            alarm,
            web,
            triggers,
            jobs,
        })
    };
    complete().ok_or_else(|| bug(file))
}

/// A section that cannot be read has an error of its own; this is for a bug in that rule.
fn bug(file: &Path) -> ConfigErrors {
    whole_file(file, "a section cannot be read".into(), "please report this as a bug".into())
}

/// Reports unknown and missing sections.
fn check_sections(document: &mut Document, needs: Needs) {
    let present: BTreeSet<String> = document.root.keys().map(str::to_owned).collect();
    let is_known = |key: &str| SECTIONS.contains(&key);
    // Keys that begin with `x-` are reserved for YAML anchors, as in compose files.
    for key in present.iter().filter(|key| !key.starts_with("x-") && !is_known(key)) {
        let fix = suggest(key, SECTIONS);
        document.error(&KeyPath::section(key), "unknown section", fix);
    }
    for name in SECTIONS.into_iter().filter(|name| needs.requires(name) && !present.contains(*name)) {
        let fix = if name == "owner" { OWNER_FIX } else { "`pushbutton-bin init` writes an example of it" };
        document.error(&KeyPath::section(name), "this section is missing", fix);
    }
    match (present.contains("cloud"), present.contains("machines")) {
        (false, false) if needs.nodes != Need::Nothing => {
            let problem = "neither `cloud` nor `machines` is there, so no job has a node";
            document.error(&KeyPath::default(), problem, "add one; `pushbutton-bin init` writes an example");
        }
        (true, true) => {
            let problem = "both `cloud` and `machines` are there";
            document.error(&KeyPath::section("machines"), problem, "remove one of them");
        }
        _ => {}
    }
}

/// What to write as the owner.
const OWNER_FIX: &str =
    "write the name of this CI, such as `owner: acme-ci`: every cloud resource carries it";

/// The owner. There is no default: people who share a cloud tell by it whose resources these are.
fn owner(document: &mut Document) -> Option<OwnerName> {
    let at = KeyPath::section("owner");
    let is_empty = match &document.root.get(&at.0)?.value {
        Value::Null => true,
        Value::Text(text) | Value::Filled { text, .. } => text.trim().is_empty(),
        _ => false,
    };
    if is_empty {
        document.error(&at, "no owner is given", OWNER_FIX);
        return None;
    }
    read(document, &at)
}

/// A section, if it is there and without errors.
fn section<T: DeserializeOwned>(document: &mut Document, name: &str) -> Option<T> {
    let at = KeyPath::section(name);
    document.root.get(&at.0)?;
    read(document, &at)
}

/// Where nodes come from, and which labels exist; no labels when they cannot be read.
fn nodes(document: &mut Document) -> (Option<Nodes>, Option<BTreeSet<String>>) {
    let at = KeyPath::section("machines");
    if document.root.get(&at.0).is_some() {
        let machines: Option<Vec<StaticNodeConfig>> = read(document, &at);
        if let Some(Err(error)) = machines.clone().map(StaticNodes::new) {
            document.error(&at, error.message(), "");
        }
        let labels = machines.as_ref().map(|list| list.iter().map(|node| node.label.to_string()).collect());
        return (machines.map(Nodes::Machines), labels);
    }
    let cloud: Option<OpenStackConfig> = section(document, "cloud");
    if let Some(Err(error)) = cloud.as_ref().map(OpenStackConfig::validate) {
        cross_checks::error_of_part(document, "cloud", error.message());
    }
    let cloud = cloud.map(|cloud| Nodes::Cloud(Box::new(cloud)));
    let labels = document.root.get(&KeyPath::section("cloud").key("nodes").0);
    let labels = labels.map(|labels| labels.keys().map(str::to_owned).collect());
    (cloud, labels)
}

/// Reads each job by itself: a job with an error hides none of another.
fn jobs(document: &mut Document) -> BTreeMap<JobName, JobSpec> {
    let section = KeyPath::section("jobs");
    let Some(node) = document.root.get(&section.0) else { return BTreeMap::new() };
    if !matches!(node.value, Value::Map(_)) {
        let problem = "this is not a mapping of names to jobs";
        document.error(&section, problem, "`pushbutton-bin init` writes an example");
        return BTreeMap::new();
    }
    let names: Vec<String> = node.keys().map(str::to_owned).collect();
    let mut jobs = BTreeMap::new();
    for name in names {
        let at = section.key(&name);
        let job = read(document, &at);
        match (JobName::new(name), job) {
            (Ok(name), Some(job)) => drop(jobs.insert(name, job)),
            (Err(error), _) => document.error(&at, error.message(), "rename it"),
            (Ok(_), None) => {}
        }
    }
    jobs
}

/// Reads each trigger by itself. With its index in the list.
fn triggers(document: &mut Document) -> Vec<(usize, Trigger)> {
    let section = KeyPath::section("triggers");
    let count = match document.root.get(&section.0).map(|node| &node.value) {
        Some(Value::List(list)) => list.len(),
        Some(_) => {
            document.error(&section, "this is not a list of triggers", "write one `- name: ...` for each");
            0
        }
        None => 0,
    };
    (0..count).filter_map(|index| Some((index, read(document, &section.index(index))?))).collect()
}

#[cfg(test)]
mod book_tests;
#[cfg(test)]
mod default_job_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
pub(crate) mod schema_tests;
#[cfg(test)]
mod tests;
