//! Checks across sections: names that are defined nowhere, playbooks that do not exist, values that do not go together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pushbutton_core::{JobName, JobSpec, RetryPatterns, RunWhen, Trigger, Triggers};

use super::document::Document;
use super::error::suggest;
use super::node::KeyPath;

/// Triggers: each must compile, name jobs that are defined, and have a name of its own.
pub(crate) fn triggers(document: &mut Document, triggers: &[(usize, Trigger)]) {
    let jobs = document.root.get(&KeyPath::section("jobs").0);
    let jobs: BTreeSet<String> = jobs.into_iter().flat_map(|jobs| jobs.keys().map(str::to_owned)).collect();
    let mut names = BTreeSet::new();
    for (index, trigger) in triggers {
        let at = KeyPath::section("triggers").index(*index);
        if !names.insert(trigger.name.as_str()) {
            let problem = format!("two triggers are named {:?}", trigger.name);
            document.error(&at.key("name"), problem, "give each its own name");
        }
        // The name of this CI is that of its account, if no other is given.
        if let Err(error) = Triggers::compile_named(vec![trigger.clone()], Vec::new(), Some("CI")) {
            let message = error.message().split_once(": ").map_or(error.message(), |(_, rest)| rest);
            let place = match ["pattern", "`by`", "`jobs`"].iter().position(|key| message.starts_with(key)) {
                Some(0) => at.key("on").key("comment").key("pattern"),
                Some(1) => at.key("on").key("approval").key("by"),
                Some(_) => at.key("jobs"),
                None => at.clone(),
            };
            // The regex crate draws an error over several lines; an error of the configuration is one line.
            document.error(&place, message.split_whitespace().collect::<Vec<_>>().join(" "), "");
        }
        for (nth, job) in trigger.jobs.iter().enumerate().filter(|(_, job)| !jobs.contains(job.as_str())) {
            let fix = suggest(job.as_str(), jobs.iter().map(String::as_str));
            document.error(&at.key("jobs").index(nth), format!("no job is named {:?}", job.as_str()), fix);
        }
    }
}

/// Jobs: their node label must be known, their stages must have different names.
pub(crate) fn jobs(
    document: &mut Document,
    jobs: &BTreeMap<JobName, JobSpec>,
    labels: Option<&BTreeSet<String>>,
) {
    for (name, job) in jobs {
        let at = KeyPath::section("jobs").key(name.as_str());
        if let Some(labels) = labels.filter(|labels| !labels.contains(job.node.as_str())) {
            let fix = suggest(job.node.as_str(), labels.iter().map(String::as_str));
            document.error(&at.key("node"), format!("no node has the label {:?}", job.node.as_str()), fix);
        }
        if job.attempts == 0 {
            document.error(&at.key("attempts"), "with 0 attempts the job never runs", "write 1 or more");
        }
        if !job.stages.iter().any(|stage| stage.run == RunWhen::OnSuccess) {
            let problem = "no stage runs on success, so nothing would be tested";
            document.error(&at.key("stages"), problem, "add a stage without `run: always`");
        }
        let mut names = BTreeSet::new();
        for (nth, stage) in job.stages.iter().enumerate() {
            let at = at.key("stages").index(nth);
            if !names.insert(stage.name.as_str()) {
                let problem = format!("two stages are named {:?}", stage.name.as_str());
                document.error(&at.key("name"), problem, "give each its own name");
            }
            for (nth, pattern) in stage.retry_when.iter().enumerate() {
                if let Err(error) = RetryPatterns::check_pattern(pattern) {
                    document.error(&at.key("retry_when").index(nth), error.message(), "");
                }
            }
            if stage.retry_when.len() > RetryPatterns::MAX {
                let problem = format!("more than {} patterns", RetryPatterns::MAX);
                document.error(&at.key("retry_when"), problem, "join some with |");
            }
        }
    }
}

/// The playbook of each stage must exist.
pub(crate) fn playbooks(document: &mut Document, jobs: &BTreeMap<JobName, JobSpec>) {
    let folder = KeyPath::section("ansible").key("playbooks");
    let text = document.root.get(&folder.0).and_then(|folder| folder.text()).map(PathBuf::from);
    let Some(folder) = text.filter(|_| !document.has_error(&folder)) else { return };
    for (name, job) in jobs {
        let stages = KeyPath::section("jobs").key(name.as_str()).key("stages");
        for (nth, stage) in job.stages.iter().enumerate() {
            if !folder.join(&stage.playbook).is_file() {
                let known = playbooks_in(&folder);
                let fix = suggest(&stage.playbook, known.iter().map(String::as_str));
                let problem = format!("no playbook {:?} in {}", stage.playbook, folder.display());
                document.error(&stages.index(nth).key("playbook"), problem, fix);
            }
        }
    }
}

fn playbooks_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".yml") || name.ends_with(".yaml")).collect();
    names.sort();
    names
}

/// What a part reports about its own section, as `key.inner: problem`.
pub(crate) fn error_of_part(document: &mut Document, section: &str, error: &str) {
    let is_key = |keys: &str| keys.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let keyed = error.split_once(": ").filter(|(keys, _)| is_key(keys));
    let (keys, problem) = keyed.unwrap_or(("", error));
    let keys = keys.split('.').filter(|key| !key.is_empty());
    document.error(&keys.fold(KeyPath::section(section), |at, key| at.key(key)), problem, "");
}
