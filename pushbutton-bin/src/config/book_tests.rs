//! What the documents show: every configuration is accepted, every command line is understood.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use serde_yaml::Value;

use super::*;
use crate::cli::Cli;

pub(super) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The documents, each with its text.
pub(super) fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in ["", "docs/src", "deploy/kubernetes", "deploy/compose", "pushbutton-bin"] {
        let Ok(entries) = fs::read_dir(top().join(folder)) else { continue };
        let files = entries.map(|entry| entry.unwrap().path());
        found.extend(files.filter(|file| file.extension().is_some_and(|ending| ending == "md")));
    }
    found.sort();
    found.into_iter().map(|file| (file.clone(), fs::read_to_string(&file).unwrap())).collect()
}

/// The fenced blocks of a language, each with the number of its first line.
pub(super) fn blocks<'t>(text: &'t str, language: &str) -> Vec<(usize, Vec<&'t str>)> {
    let (mut found, mut inside) = (Vec::new(), None::<(usize, Vec<&str>)>);
    for (number, line) in text.lines().enumerate() {
        match &mut inside {
            Some(_) if line.trim() == "```" => found.extend(inside.take()),
            Some((_, lines)) => lines.push(line),
            None if line.trim() == format!("```{language}") => inside = Some((number + 2, Vec::new())),
            None => {}
        }
    }
    found
}

/// `changes` over `base`: mappings key by key, anything else as a whole.
pub(super) fn merged(base: Value, changes: Value) -> Value {
    match (base, changes) {
        (Value::Mapping(mut base), Value::Mapping(changes)) => {
            for (key, change) in changes {
                let before = base.remove(&key).unwrap_or(Value::Null);
                base.insert(key, merged(before, change));
            }
            Value::Mapping(base)
        }
        (_, changes) => changes,
    }
}

/// A folder with the files that documents and the default configuration name.
pub(super) fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for name in ["gerrit-key", "known_hosts", "clouds.yaml", "node-key"] {
        fs::write(place.path().join(name), "").unwrap();
    }
    std::os::unix::fs::symlink(top().join("playbooks"), place.path().join("playbooks")).unwrap();
    fs::write(place.path().join("hello.yml"), "- hosts: nodes\n").unwrap();
    place
}

pub(super) fn env(name: &str) -> Option<String> {
    match name {
        "GERRIT_KEY" => Some("./gerrit-key".to_owned()),
        "PUSHBUTTON_OWNER" => Some("acme-ci".to_owned()),
        _ => None,
    }
}

#[test]
fn configurations_in_documents_are_accepted() {
    let place = place();
    let default: Value = serde_yaml::from_str(DEFAULT).unwrap();
    let mut count = 0;
    for (file, text) in documents() {
        for (line, block) in blocks(&text, "yaml") {
            // A file for docker-compose, a playbook.
            if block
                .first()
                .is_some_and(|first| first.starts_with("services:") || first.starts_with("- hosts:"))
            {
                continue;
            }
            count += 1;
            let at = format!("{}:{line}", file.display());
            let block: Value =
                serde_yaml::from_str(&block.join("\n")).unwrap_or_else(|error| panic!("{at}: {error}"));
            // A file that has jobs of its own is a whole one; others are changes of what `init` writes.
            let is_whole = block.get("owner").is_some() && block.get("jobs").is_some();
            let base = if is_whole { Value::Null } else { default.clone() };
            let text = serde_yaml::to_string(&merged(base, block)).unwrap();
            if let Err(errors) = parse(&text, &place.path().join("pushbutton.yml"), Needs::ALL, &env) {
                panic!("{at}: {errors}");
            }
        }
    }
    assert!(count > 5, "{count} blocks were found");
}

#[test]
fn command_lines_in_documents_are_understood() {
    let mut count = 0;
    for (file, text) in documents() {
        let consoles = blocks(&text, "console").into_iter().chain(blocks(&text, "sh"));
        let lines = consoles.flat_map(|(line, block)| (line..).zip(block).collect::<Vec<_>>());
        for (number, line) in lines {
            let line = line.trim_start().replace("$ sudo -u pushbutton ", "$ ");
            let Some(command) = line.strip_prefix("$ pushbutton-bin") else { continue };
            let command = command.split(" #").next().unwrap_or_default();
            // Words as a shell has them, for the few that are quoted.
            let words = command.split('"').enumerate().flat_map(|(n, part)| {
                if n % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }
            });
            count += 1;
            if let Err(error) = Cli::try_parse_from(["pushbutton-bin"].into_iter().chain(words)) {
                panic!("{}:{number}: {line}\n{error}", file.display());
            }
        }
    }
    assert!(count > 20, "{count} command lines were found");
}

#[test]
fn the_exit_codes_of_the_book_are_those_of_the_help() {
    let text = fs::read_to_string(top().join("docs/src/troubleshoot.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?.parse::<u8>().ok()?, cells.next()?.to_owned()))
    });
    let codes: Vec<u8> = rows.map(|(code, _)| code).collect();
    let help = crate::exit::HELP.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    assert_eq!(codes, help.collect::<Vec<u8>>());
}

/// The configuration of deploy/kubernetes, with its files elsewhere, for the part that has no key of Gerrit's too.
#[test]
fn the_configuration_for_kubernetes_is_accepted() {
    let place = place();
    fs::create_dir(place.path().join("broker")).unwrap();
    fs::write(place.path().join("broker/password"), "hush").unwrap();
    let file = top().join("deploy/kubernetes/overlays/example/pushbutton.yml");
    let mut text = fs::read_to_string(file).unwrap();
    for (there, here) in [
        ("/run/secrets/gerrit/id_ed25519", "gerrit-key"),
        ("/run/secrets/gerrit/known_hosts", "known_hosts"),
        ("/run/secrets/cloud/clouds.yaml", "clouds.yaml"),
        ("/run/secrets/cloud/node_key", "node-key"),
        ("/run/secrets/broker", "broker"),
        ("/usr/share/pushbutton/playbooks", "playbooks"),
        ("/var/lib/pushbutton", "state"),
        ("/var/www/logs", "logs"),
    ] {
        assert!(text.contains(there), "{there}");
        text = text.replace(there, place.path().join(here).to_str().unwrap());
    }
    let file = place.path().join("pushbutton.yml");
    for needs in [Needs::ALL, Needs::HANDLER, Needs::OPERATOR, Needs::QUEUE] {
        if needs == Needs::OPERATOR {
            fs::remove_file(place.path().join("gerrit-key")).unwrap();
        }
        parse(&text, &file, needs, &env).unwrap_or_else(|errors| panic!("{needs:?}: {errors}"));
    }
}
