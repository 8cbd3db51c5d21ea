//! Variables of jobs and stages against the argument specifications of the roles that read them (`meta/argument_specs.yml`).
//!
//! Ansible itself compares them only when a role starts: on a node, hours later, as a failure of the stage. It never
//! reports a name that is misspelt, because any name may be somebody's. Here a name belongs to the role with the longest
//! matching prefix (`run_tempest_` of `run-tempest`). Roles without a specification are not judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pushbutton_core::{JobName, JobSpec, text};
use serde_json::Value;
use serde_yaml::Value as Yaml;

use super::document::Document;
use super::error::suggest;
use super::node::{KeyPath, Node, Value as NodeValue};

/// How deep playbooks import playbooks.
const MAX_IMPORTS: usize = 8;

/// A variable that a role reads.
#[derive(Debug, Default, Clone, PartialEq)]
struct Argument {
    kind: String,
    choices: Vec<String>,
    is_required: bool,
    description: String,
}

/// A role: its arguments by entry point (`main`, or the file that `tasks_from` names). None: no specification.
type Entries = BTreeMap<String, BTreeMap<String, Argument>>;

/// Reports unknown names, values of another type, and what a stage's roles need and nobody sets.
pub(crate) fn check(document: &mut Document, jobs: &BTreeMap<JobName, JobSpec>) {
    let at = KeyPath::section("ansible");
    let folder = document.root.get(&at.key("playbooks").0).and_then(Node::text).map(PathBuf::from);
    let Some(playbooks) = folder.filter(|_| !document.has_error(&at.key("playbooks"))) else { return };
    let mut folders = vec![playbooks.join("roles")];
    if let Some(NodeValue::List(more)) = document.root.get(&at.key("roles_path").0).map(|node| &node.value) {
        folders.extend(more.iter().filter_map(Node::text).map(PathBuf::from));
    }
    let roles = roles(&folders);
    let keys = |at: &KeyPath| -> BTreeSet<String> {
        document.root.get(&at.0).into_iter().flat_map(Node::keys).map(str::to_owned).collect()
    };
    let secrets = keys(&at.key("secrets"));
    let of_node = |label: &str| keys(&KeyPath::section("cloud").key("nodes").key(label).key("vars"));
    let of_machines: BTreeSet<String> =
        match document.root.get(&KeyPath::section("machines").0).map(|node| &node.value) {
            Some(NodeValue::List(machines)) => machines
                .iter()
                .filter_map(|one| one.get(&KeyPath::section("vars").0))
                .flat_map(Node::keys)
                .map(str::to_owned)
                .collect(),
            _ => BTreeSet::new(),
        };
    let mut words = BTreeSet::new();
    for folder in [&playbooks].into_iter().chain(folders.iter().skip(1)) {
        collect_words(folder, 0, &mut words);
    }
    let mut problems = Vec::new();
    for (name, job) in jobs {
        let at = KeyPath::section("jobs").key(name.as_str());
        problems.extend(wrong_values(&roles, &at.key("vars"), &job.vars));
        let mut set: BTreeSet<String> = job.vars.keys().cloned().chain(secrets.iter().cloned()).collect();
        set.extend(of_node(job.node.as_str()));
        let is_known = |name: &str| {
            set.contains(name)
                || of_machines.contains(name)
                || words.contains(name)
                || job.stages.iter().any(|stage| stage.vars.contains_key(name))
                || ANSIBLES_OWN.contains(&name)
                || name.starts_with("ansible_")
        };
        problems.extend(undefined(&is_known, &at.key("vars"), &job.vars));
        for (nth, stage) in job.stages.iter().enumerate() {
            let at = at.key("stages").index(nth);
            problems.extend(wrong_values(&roles, &at.key("vars"), &stage.vars));
            problems.extend(undefined(&is_known, &at.key("vars"), &stage.vars));
            let mut uses = Uses::default();
            uses.read(&playbooks, &playbooks.join(&stage.playbook), 0);
            for (role, entry) in &uses.roles {
                let arguments =
                    roles.get(role).and_then(Option::as_ref).and_then(|entries| entries.get(entry));
                for (variable, argument) in arguments.into_iter().flatten() {
                    let is_set = [&set, &uses.sets].iter().any(|names| names.contains(variable))
                        || stage.vars.contains_key(variable);
                    if argument.is_required && !is_set {
                        let problem = format!("its role {role:?} needs the variable {variable:?}");
                        let fix = format!("add it to `vars` of the job: {}", argument.description);
                        problems.push((at.key("playbook"), problem, fix));
                    }
                }
            }
        }
    }
    for (at, problem, fix) in problems {
        document.error(&at, problem, fix);
    }
}

/// What templates may name although no file sets it: variables and functions of Ansible, and words of Jinja.
const ANSIBLES_OWN: &[&str] = &[
    "pushbutton",
    "inventory_hostname",
    "inventory_hostname_short",
    "inventory_dir",
    "inventory_file",
    "groups",
    "group_names",
    "hostvars",
    "vars",
    "omit",
    "play_hosts",
    "playbook_dir",
    "role_name",
    "role_path",
    "item",
    "lookup",
    "query",
    "q",
    "now",
    "undef",
    "range",
    "dict",
    "not",
    "true",
    "false",
    "none",
    "True",
    "False",
    "None",
];

/// How deep folders of playbooks are searched, and how large a file is read.
const MAX_DEPTH: usize = 8;
const MAX_FILE: u64 = 1 << 20;

/// Every word in the playbooks, roles and variables of a folder: a name that is not among them is set by none of these
/// files, in whatever way.
fn collect_words(folder: &Path, depth: usize, words: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let has_ending =
            |endings: &[&str]| path.extension().is_none_or(|ending| endings.iter().any(|one| ending == *one));
        if metadata.is_dir() && depth < MAX_DEPTH {
            collect_words(&path, depth + 1, words);
        } else if metadata.is_file()
            && metadata.len() <= MAX_FILE
            && has_ending(&["yml", "yaml", "j2", "json", "py"])
        {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            words.extend(
                text.split(|letter| !is_part(letter)).filter(|word| !word.is_empty()).map(str::to_owned),
            );
        }
    }
}

/// Templates that begin with the name of a variable that nothing sets: `{{ aray_password }}`. Ansible reports it on a
/// node, as a failure of the stage.
fn undefined(is_known: &impl Fn(&str) -> bool, at: &KeyPath, vars: &BTreeMap<String, Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (variable, value) in vars {
        let mut names = BTreeSet::new();
        template_names(value, 0, &mut names);
        for name in names.into_iter().filter(|name| !is_known(name)) {
            let problem = format!("its template names {name:?}, which is set nowhere");
            let fix =
                "add it to `vars` of the job, or, when it is a credential, to `ansible.secrets`".to_owned();
            problems.push((at.key(variable), problem, fix));
        }
    }
    problems
}

/// The first word of each `{{ ... }}` in the texts of a value, where it is the name of a variable without a default.
fn template_names(value: &Value, depth: usize, names: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            for template in text.split("{{").skip(1) {
                let Some((template, _)) = template.split_once("}}") else { continue };
                let template = template.trim_start_matches('-').trim_start();
                let end = template.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
                let (name, rest) = template.split_at(end.unwrap_or(template.len()));
                let is_name = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
                if is_name
                    && !rest.starts_with('(')
                    && !rest.contains("default")
                    && !rest.contains("is defined")
                {
                    names.insert(name.to_owned());
                }
            }
        }
        Value::Array(list) if depth < MAX_DEPTH => {
            list.iter().for_each(|value| template_names(value, depth + 1, names));
        }
        Value::Object(map) if depth < MAX_DEPTH => {
            map.values().for_each(|value| template_names(value, depth + 1, names));
        }
        _ => {}
    }
}

/// All roles below these folders, by name. The first of a name counts, as for Ansible.
fn roles(folders: &[PathBuf]) -> BTreeMap<String, Option<Entries>> {
    let mut roles = BTreeMap::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let specification = ["yml", "yaml"]
                .iter()
                .find_map(|ending| read_yaml(&entry.path().join(format!("meta/argument_specs.{ending}"))));
            roles.entry(name).or_insert_with(|| specification.map(|yaml| entries(&yaml["argument_specs"])));
        }
    }
    roles
}

fn entries(specification: &Yaml) -> Entries {
    let text = |yaml: &Yaml| yaml.as_str().unwrap_or_default().to_owned();
    let argument = |yaml: &Yaml| Argument {
        kind: yaml["type"].as_str().unwrap_or("str").to_owned(),
        choices: yaml["choices"].as_sequence().into_iter().flatten().map(text).collect(),
        is_required: yaml["required"].as_bool().unwrap_or(false),
        description: match &yaml["description"] {
            Yaml::Sequence(lines) => lines.first().map(text).unwrap_or_default(),
            line => text(line),
        },
    };
    let pairs = |yaml: &Yaml| -> Vec<(String, Yaml)> {
        yaml.as_mapping().into_iter().flatten().map(|(key, value)| (text(key), value.clone())).collect()
    };
    let arguments = |yaml: &Yaml| {
        pairs(&yaml["options"]).into_iter().map(|(name, value)| (name, argument(&value))).collect()
    };
    pairs(specification).into_iter().map(|(entry, value)| (entry, arguments(&value))).collect()
}

fn read_yaml(path: &Path) -> Option<Yaml> {
    let mut yaml: Yaml = serde_yaml::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    yaml.apply_merge().ok()?;
    Some(yaml)
}

type Problem = (KeyPath, String, String);

fn wrong_values(
    roles: &BTreeMap<String, Option<Entries>>,
    at: &KeyPath,
    vars: &BTreeMap<String, Value>,
) -> Vec<Problem> {
    let prefix = |role: &str| role.replace('-', "_") + "_";
    let known = |entries: &Entries| -> BTreeMap<String, Argument> {
        entries.values().flatten().map(|(name, argument)| (name.clone(), argument.clone())).collect()
    };
    let mut problems = Vec::new();
    for (name, value) in vars {
        let owners = roles.iter().filter(|(role, _)| name.starts_with(&prefix(role)));
        let at = at.key(name);
        match owners.max_by_key(|(role, _)| role.len()) {
            Some((_, None)) => {}
            Some((role, Some(entries))) => {
                let known = known(entries);
                match known.get(name) {
                    None => {
                        let fix = suggest(name, known.keys().map(String::as_str));
                        problems.push((at, format!("the role {role:?} has no variable of this name"), fix));
                    }
                    Some(argument) => {
                        problems
                            .extend(mismatch(argument, value).map(|problem| (at, problem, String::new())));
                    }
                }
            }
            // It may be a variable of the user's own; but hardly with a name that is nearly one of a role's.
            None => {
                let all: BTreeMap<_, _> = roles.values().flatten().flat_map(known).collect();
                if let Some(meant) = text::suggest(name, all.keys().map(String::as_str)) {
                    problems.push((
                        at,
                        "no role has a variable of this name".into(),
                        format!("did you mean {meant:?}?"),
                    ));
                }
            }
        }
    }
    problems
}

/// What is wrong with a value. Templates are expanded on the node: they are not judged.
fn mismatch(argument: &Argument, value: &Value) -> Option<String> {
    if value.is_null() || value.as_str().is_some_and(|text| text.contains("{{")) {
        return None;
    }
    let is_word =
        |words: &[&str]| value.as_str().is_some_and(|text| words.contains(&text.to_lowercase().as_str()));
    let (fits, wanted) = match argument.kind.as_str() {
        "list" => (value.is_array(), "a list"),
        "dict" => (value.is_object(), "a mapping"),
        "int" => (
            value.is_i64()
                || value.is_u64()
                || value.as_str().is_some_and(|text| text.trim().parse::<i64>().is_ok()),
            "a whole number",
        ),
        "bool" => {
            let words = ["yes", "no", "true", "false", "on", "off", "y", "n", "t", "f", "1", "0"];
            (value.is_boolean() || matches!(value.as_i64(), Some(0 | 1)) || is_word(&words), "true or false")
        }
        "str" | "path" => (!value.is_array() && !value.is_object(), "a text"),
        _ => (true, ""),
    };
    if !fits {
        return Some(format!("it must be {wanted}"));
    }
    let chosen =
        argument.choices.is_empty() || argument.choices.iter().any(|choice| value.as_str() == Some(choice));
    (!chosen).then(|| format!("it must be one of {}", argument.choices.join(", ")))
}

/// The roles that a playbook uses, each with its entry point, and the variables that it sets itself.
#[derive(Debug, Default)]
struct Uses {
    roles: BTreeSet<(String, String)>,
    sets: BTreeSet<String>,
}

impl Uses {
    fn read(&mut self, playbooks: &Path, path: &Path, depth: usize) {
        let Some(Yaml::Sequence(plays)) = read_yaml(path) else { return };
        for play in &plays {
            for key in ["import_playbook", "ansible.builtin.import_playbook"] {
                if let Some(file) = play[key].as_str().filter(|_| depth < MAX_IMPORTS) {
                    let folder = path.parent().unwrap_or(playbooks);
                    self.read(playbooks, &folder.join(file), depth + 1);
                }
            }
            self.sets_of(play);
            for role in play["roles"].as_sequence().into_iter().flatten() {
                self.sets_of(role);
                let name = role.as_str().or(role["role"].as_str()).or(role["name"].as_str());
                let entry = role["tasks_from"].as_str().unwrap_or("main");
                self.roles.extend(name.map(|name| (name.to_owned(), entry.to_owned())));
            }
            for tasks in ["pre_tasks", "tasks", "post_tasks"] {
                self.tasks(&play[tasks], 0);
            }
        }
    }

    fn tasks(&mut self, tasks: &Yaml, depth: usize) {
        for task in tasks.as_sequence().into_iter().flatten() {
            for key in ["import_role", "include_role"] {
                let used = [&task[key], &task[format!("ansible.builtin.{key}").as_str()]];
                for used in used.into_iter().filter(|used| used.is_mapping()) {
                    let entry = used["tasks_from"].as_str().unwrap_or("main").trim_end_matches(".yml");
                    self.roles.extend(used["name"].as_str().map(|name| (name.to_owned(), entry.to_owned())));
                    self.sets_of(task);
                }
            }
            for inner in ["block", "rescue", "always"].iter().filter(|_| depth < MAX_IMPORTS) {
                self.sets_of(task);
                self.tasks(&task[*inner], depth + 1);
            }
        }
    }

    fn sets_of(&mut self, yaml: &Yaml) {
        let names = yaml["vars"].as_mapping().into_iter().flatten().filter_map(|(name, _)| name.as_str());
        self.sets.extend(names.map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    /// The configuration that `init` writes, with the shipped playbooks and some text replaced.
    fn errors(replaced: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for name in ["key", "clouds.yaml"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let playbooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../playbooks");
        std::os::unix::fs::symlink(playbooks, folder.path().join("playbooks")).unwrap();
        let mut text = DEFAULT.to_owned();
        for (from, to) in replaced {
            assert!(text.contains(from), "{from} in default.yml");
            text = text.replacen(from, to, 1);
        }
        let env = |name: &str| match name {
            "GERRIT_KEY" => Some("key".to_owned()),
            "PUSHBUTTON_OWNER" => Some("acme-ci".to_owned()),
            _ => None,
        };
        let Err(errors) = parse(&text, &folder.path().join("pushbutton.yml"), Needs::ALL, &env) else {
            return Vec::new();
        };
        errors.list.iter().map(|e| format!("{}: {}; {}", e.key, e.problem, e.fix)).collect()
    }

    const VARS: &str = "      # checkout_patchset_mode: merge\n";

    #[test]
    fn the_default_variables_are_those_of_the_shipped_roles() {
        assert_eq!(errors(&[]), [""; 0]);
    }

    #[test]
    fn a_misspelt_variable_is_named_with_what_was_meant() {
        let found = errors(&[(
            VARS,
            "      checkout_patchset_dept: 0\n      run_tempst_regex: x\n      my_own: 1\n      install_devstack_git_bass: x\n",
        )]);
        assert_eq!(
            found,
            [
                "jobs.cinder-tempest.vars.checkout_patchset_dept: the role \"checkout-patchset\" has no variable of this name; did you mean \"checkout_patchset_depth\"?",
                "jobs.cinder-tempest.vars.run_tempst_regex: no role has a variable of this name; did you mean \"run_tempest_regex\"?",
                "jobs.cinder-tempest.vars.install_devstack_git_bass: the role \"install-devstack\" has no variable of this name; did you mean \"install_devstack_git_base\"?",
            ]
        );
    }

    #[test]
    fn a_value_of_another_type_is_reported_and_a_template_is_not() {
        let found = errors(&[(
            VARS,
            "      checkout_patchset_depth: all\n      checkout_patchset_mirrors: a\n      prepare_node_become: maybe\n      \
             install_devstack_existing: wipe\n      run_tempest_concurrency: \"{{ 1 + 1 }}\"\n",
        )]);
        let vars = "jobs.cinder-tempest.vars";
        assert_eq!(
            found,
            [
                format!("{vars}.checkout_patchset_depth: it must be a whole number; "),
                format!("{vars}.checkout_patchset_mirrors: it must be a list; "),
                format!("{vars}.prepare_node_become: it must be true or false; "),
                format!("{vars}.install_devstack_existing: it must be one of clean, keep, refuse; "),
            ]
        );
    }

    /// The commented example of the default file is used, but not the line with its password.
    #[test]
    fn a_template_with_a_variable_that_nothing_sets_is_reported() {
        let with = |text: &str| format!("{VARS}      install_devstack_local_conf: |\n        {text}\n");
        let found = errors(&[(VARS, &with("san_password = {{ array_password }} {{ pushbutton.run }}"))]);
        assert_eq!(
            found,
            [
                "jobs.cinder-tempest.vars.install_devstack_local_conf: its template names \"array_password\", which is set nowhere; \
                 add it to `vars` of the job, or, when it is a credential, to `ansible.secrets`"
            ]
        );
        let stage = "      - name: run-tempest\n        playbook: run_tempest.yml\n";
        let list = format!("{stage}        vars: {{run_tempest_arguments: [--a, \"{{{{ b.c }}}}\"]}}\n");
        let found = errors(&[(stage, &list)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("stages[3].vars.run_tempest_arguments: its template names \"b\""),
            "{found:?}"
        );

        let secret = "  # secrets: {array_password: \"${file:./array-password}\"}\n";
        let set = (secret, "  secrets: {array_password: hunter22}\n");
        assert_eq!(errors(&[(VARS, &with("{{ array_password }}")), set]), [""; 0], "a secret");
        for known in [
            "{{ own }}\n      own: 1",
            "{{ own | default('x') }}",
            "{{ ansible_host }}",
            "{{ hostvars[inventory_hostname].ansible_host }}",
            "{{ lookup('env', 'HOME') }}",
            "{{ install_devstack_dest }}",
            "{{ 1 + 1 }} {{ 'text' }} {{ unclosed",
        ] {
            assert_eq!(errors(&[(VARS, &with(known))]), [""; 0], "{known}");
        }
    }

    #[test]
    fn what_a_role_needs_and_nobody_sets_is_reported_at_the_stage() {
        let line = "      checkout_patchset_url: https://${GERRIT_HOST:-review.opendev.org}\n";
        assert_eq!(
            errors(&[(line, "")]),
            [
                "jobs.cinder-tempest.stages[0].playbook: its role \"checkout-patchset\" needs the variable \"checkout_patchset_url\"; add it to `vars` of the job: The base URL of the git repositories; the project's name is added."
            ]
        );
        let secret = (
            "  # secrets: {array_password: \"${file:./array-password}\"}\n",
            "  secrets: {checkout_patchset_url: \"https://git:token@git.example.org\"}\n",
        );
        assert_eq!(errors(&[(line, ""), secret]), [""; 0], "a secret is a variable, too");
    }
}
