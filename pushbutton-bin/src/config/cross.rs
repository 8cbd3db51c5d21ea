//! What no section can see alone: names that nobody defines, playbooks that are not there, values that make no sense together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pushbutton_core::{RunWhen, Trigger, Triggers};

use super::fault::suggest;
use super::key_path::KeyPath;
use super::schema::JobConfig;
use super::tree::Tree;

/// Rules: each must compile, name jobs that are defined, and have a name of its own.
pub(crate) fn triggers(tree: &mut Tree, triggers: &[(usize, Trigger)], jobs: &BTreeSet<String>) {
    let section = KeyPath::top().key("triggers");
    let mut names = BTreeSet::new();
    for (index, trigger) in triggers {
        let at = section.index(*index);
        if !names.insert(trigger.name.as_str()) {
            tree.fault(
                &at.key("name"),
                format!("two triggers are named {:?}", trigger.name),
                "give each its own name",
            );
        }
        if let Err(error) = Triggers::compile(vec![trigger.clone()], Vec::new()) {
            let message = error.message().split_once(": ").map_or(error.message(), |(_, rest)| rest);
            let key = ["pattern", "`by`", "`jobs`", "glob"].iter().find(|word| message.starts_with(**word));
            let place = match key {
                Some(&"pattern") => at.key("on").key("comment").key("pattern"),
                Some(&"`by`") => at.key("on").key("approval").key("by"),
                Some(&"`jobs`") => at.key("jobs"),
                _ => at.clone(),
            };
            // A regex error draws its place over several lines; a fault is one line.
            tree.fault(&place, message.split_whitespace().collect::<Vec<_>>().join(" "), "");
        }
        for (nth, job) in trigger.jobs.iter().enumerate() {
            if !jobs.contains(job.as_str()) {
                let remedy = suggest(job.as_str(), jobs.iter().map(String::as_str));
                tree.fault(&at.key("jobs").index(nth), format!("no job is named {:?}", job.as_str()), remedy);
            }
        }
    }
}

/// Jobs: their node must be known, their playbooks there, their stages told apart.
pub(crate) fn jobs(
    tree: &mut Tree,
    jobs: &BTreeMap<String, JobConfig>,
    labels: Option<&BTreeSet<String>>,
    playbooks: Option<&Path>,
) {
    for (name, job) in jobs {
        let at = KeyPath::top().key("jobs").key(name);
        if let Some(labels) = labels.filter(|labels| !labels.contains(job.node.as_str())) {
            let remedy = suggest(job.node.as_str(), labels.iter().map(String::as_str));
            tree.fault(&at.key("node"), format!("no node has the label {:?}", job.node.as_str()), remedy);
        }
        if job.attempts == 0 {
            tree.fault(&at.key("attempts"), "0 attempts never run anything", "write 1 or more");
        }
        if !job.stages.iter().any(|stage| stage.run == RunWhen::OnSuccess) {
            let what = "no stage runs on success, so nothing would be tested";
            tree.fault(&at.key("stages"), what, "add a stage without `run: always`");
        }
        let mut names = BTreeSet::new();
        for (nth, stage) in job.stages.iter().enumerate() {
            let at = at.key("stages").index(nth);
            if !names.insert(stage.name.as_str()) {
                tree.fault(
                    &at.key("name"),
                    format!("two stages are named {:?}", stage.name.as_str()),
                    "give each its own name",
                );
            }
            let Some(folder) = playbooks else { continue };
            if !folder.join(&stage.playbook).is_file() {
                let known = playbooks_in(folder);
                let remedy = suggest(&stage.playbook, known.iter().map(String::as_str));
                let what = format!("no playbook {:?} in {}", stage.playbook, folder.display());
                tree.fault(&at.key("playbook"), what, remedy);
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

/// What a part finds wrong with its own section: each as `key.inner: what is wrong`.
pub(crate) fn told_by_part(tree: &mut Tree, section: &str, faults: Vec<String>) {
    for fault in faults {
        let (keys, what) = fault.split_once(": ").unwrap_or(("", &fault));
        let is_path =
            !keys.is_empty() && keys.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let (keys, what) = if is_path { (keys, what) } else { ("", fault.as_str()) };
        let place = keys
            .split('.')
            .filter(|key| !key.is_empty())
            .fold(KeyPath::top().key(section), |at, key| at.key(key));
        tree.fault(&place, what.to_owned(), "");
    }
}
