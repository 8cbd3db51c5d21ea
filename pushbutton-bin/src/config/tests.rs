//! Whole files: the one that `init` writes, and files with errors.

use std::fs;
use std::path::PathBuf;

use super::*;

/// A folder with all files that the default configuration needs.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("playbooks")).unwrap();
        for name in [
            "key",
            "clouds.yaml",
            "playbooks/prepare_node.yml",
            "playbooks/install_devstack.yml",
            "playbooks/verify_devstack.yml",
            "playbooks/run_tempest.yml",
            "playbooks/gather_logs.yml",
        ] {
            fs::write(place.path(name), "").unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn parse(&self, text: &str) -> Result<Config, ConfigErrors> {
        self.parse_for(Needs::ALL, text)
    }

    fn parse_for(&self, needs: Needs, text: &str) -> Result<Config, ConfigErrors> {
        let env = |name: &str| match name {
            "GERRIT_KEY" => Some("key".to_owned()),
            "PUSHBUTTON_OWNER" => Some("acme-ci".to_owned()),
            "AMQP_URL" => Some("amqp://guest:hush@127.0.0.1".to_owned()),
            _ => None,
        };
        parse(text, &self.path("pushbutton.yml"), needs, &env)
    }

    /// The errors of a text, without the file's name.
    fn errors(&self, text: &str) -> Vec<String> {
        let errors = self.parse(text).unwrap_err();
        let line = |e: &ConfigError| format!("{}: {}: {}; {}", e.line, e.key, e.problem, e.fix);
        errors.list.iter().map(line).collect()
    }
}

#[test]
fn the_default_file_is_valid() {
    let place = Place::new();
    let config = place.parse(DEFAULT).unwrap();
    assert_eq!(config.state, place.path("state"), "paths are relative to the file");
    assert_eq!((config.triggers.len(), config.jobs.len(), config.operator.slots), (2, 1, 1));
    assert!(matches!(config.nodes(), Ok(Nodes::Cloud(_))) && config.rabbitmq.is_none());
}

/// Issue 10, part 1: an operator needs no account.
#[test]
fn a_command_without_gerrit_needs_neither_its_section_nor_its_files() {
    let place = Place::new();
    fs::remove_file(place.path("key")).unwrap();
    let with_passphrase = DEFAULT.replace("\n  # passphrase: ${file", "\n  passphrase: ${file");
    assert!(with_passphrase.contains("\n  passphrase: ${file"));
    let errors = place.errors(&with_passphrase);
    assert!(errors.len() == 2 && errors.iter().all(|error| error.contains(": gerrit.")), "{errors:?}");
    let config = place.parse_for(Needs::OPERATOR, &with_passphrase).unwrap();
    assert!(config.gerrit().is_ok());

    let section = |name: &str| format!("\n{name}:\n");
    let renamed = DEFAULT.replace(&section("gerrit"), &section("x-gerrit"));
    let without = renamed.replace(&section("triggers"), &section("x-triggers"));
    let errors = place.errors(&without);
    assert!(errors.iter().all(|error| error.contains("this section is missing")), "{errors:?}");
    assert_eq!(errors.len(), 2, "{errors:?}");
    let config = place.parse_for(Needs::OPERATOR, &without).unwrap();
    assert!(config.gerrit().is_err() && config.triggers.is_empty() && !config.jobs.is_empty());

    // What is wrong in the section itself is an error for every command.
    let typo = DEFAULT.replace("  # port: 29418", "  prot: 29418");
    assert!(
        place.parse_for(Needs::OPERATOR, &typo).unwrap_err().to_string().contains("gerrit.prot: unknown key")
    );
}

/// core.md S3-8: a host needs only the files of its role.
#[test]
fn s3_8_each_command_needs_only_the_files_of_its_role() {
    use clap::Parser as _;

    use crate::cli::Cli;

    let place = Place::new();
    let text = DEFAULT
        .replace("      # key_file: ~/", "      key_file: ./")
        .replace(
            "  # secrets: {array_password: \"${file:./array-password}\"}",
            "  secrets: {array_password: \"${ARRAY_PASSWORD}\"}",
        )
        .replace("  dir: ${PUSHBUTTON_LOGS:-./logs}", "  dir: pushbutton.yml/logs");
    fs::write(place.path("pushbutton.yml"), "").unwrap();
    for part in ["\n      key_file: ./", "{array_password: \"${ARRAY", "\n  dir: pushbutton.yml/logs"] {
        assert!(text.contains(part), "{part}");
    }
    for name in ["key", "clouds.yaml", "playbooks/run_tempest.yml"] {
        fs::remove_file(place.path(name)).unwrap();
    }
    let errors = |needs: Needs| match place.parse_for(needs, &text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.list.into_iter().map(|error| error.key).collect(),
    };
    let cloud = ["cloud.clouds_file", "cloud.nodes.devstack.key_file"];
    let stages = ["ansible.secrets.array_password", "logs.dir", "jobs.cinder-tempest.stages[3].playbook"];
    let work = [cloud.as_slice(), stages.as_slice()].concat();
    let operator = work.as_slice();
    let both: Vec<&str> = std::iter::once("gerrit.key").chain(work.iter().copied()).collect();
    let handler = ["gerrit.key"].as_slice();
    for (command, expected) in [
        ("run", both.as_slice()),
        ("run --recorded stream.jsonl", operator),
        ("check", both.as_slice()),
        ("operator", operator),
        ("check --operator", operator),
        ("handler", handler),
        ("check --handler", handler),
        ("enqueue 1,2", handler),
        ("rerun 1", handler),
        ("sweep", &cloud),
        ("replay stream.jsonl", &[]),
        ("cancel 1", &[]),
        ("dead list", &[]),
        ("dead requeue --all", &[]),
        ("reports list", &[]),
        ("reports retry --all", &[]),
        ("mute", &[]),
        ("unmute", &[]),
        ("status", &[]),
    ] {
        let arguments = std::iter::once("pushbutton-bin").chain(command.split(' '));
        let needs = Cli::try_parse_from(arguments).unwrap().command.needs();
        let mut found = errors(needs);
        found.sort();
        let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(found, expected, "{command}");
    }
}

#[test]
fn s3_8_each_command_needs_only_the_sections_of_its_role() {
    let place = Place::new();
    let minimal = "owner: lab\nstate: state\n";
    let missing = |needs: Needs, text: &str| match place.parse_for(needs, text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.list.into_iter().map(|error| error.key).collect::<Vec<_>>(),
    };
    assert_eq!(missing(Needs::QUEUE, minimal), [""; 0]);
    assert_eq!(missing(Needs::HANDLER, minimal), ["gerrit", "triggers", "jobs"]);
    assert_eq!(missing(Needs::OPERATOR, minimal), ["ansible", "logs", "jobs", ""]);
    // A variable of a section that is not used is missed only where its text does not do.
    let typed = "owner: lab\nstate: state\ncloud: {cloud: \"${CLOUD}\", parallel_boots: \"${BOOTS}\"}\n";
    let errors = place.parse_for(Needs::QUEUE, typed).unwrap_err().to_string();
    assert!(errors.contains("cloud.parallel_boots: the environment has no variable BOOTS"), "{errors}");
    assert!(!errors.contains("CLOUD"), "{errors}");
}

/// L4: with a default, two labs that share a project have the same owner.
#[test]
fn l4_the_owner_has_no_default() {
    let place = Place::new();
    let errors = |line: &str| {
        let text = DEFAULT.replace("\nowner: \"${PUSHBUTTON_OWNER:-}\"\n", line);
        assert_ne!(text, DEFAULT);
        place.errors(&text)
    };
    let at = DEFAULT.lines().position(|line| line.starts_with("owner: ")).unwrap() + 1;
    for line in ["\nowner:\n", "\nowner: ''\n", "\nowner: \"${NOT_SET:-}\"\n"] {
        let wanted =
            format!("{at}: owner: no owner is given; write the name of this CI, such as `owner: acme-ci`");
        let errors = errors(line);
        assert!(errors.len() == 1 && errors[0].starts_with(&wanted), "{line:?}: {errors:?}");
    }
    let missing = errors("\n");
    let wanted = "owner: this section is missing; write the name of this CI, such as `owner: acme-ci`";
    assert!(missing.len() == 1 && missing[0].contains(wanted), "{missing:?}");
    let malformed = errors("\nowner: a b\n");
    assert!(malformed.len() == 1 && malformed[0].contains("is not an owner name"), "{malformed:?}");
}

#[test]
fn variables_in_the_default_file_are_such_that_roles_read() {
    let jobs = &DEFAULT[DEFAULT.find("\njobs:\n").unwrap()..];
    // Those that are commented out count, too.
    let words = jobs.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
    let names: Vec<&str> = words
        .filter_map(|word| word.strip_suffix(':'))
        .filter(|name| name.contains('_') && name.to_lowercase() == *name)
        .collect();
    let roles = concat!(env!("CARGO_MANIFEST_DIR"), "/../playbooks/roles");
    let readmes: String = fs::read_dir(roles)
        .unwrap()
        .map(|role| fs::read_to_string(role.unwrap().path().join("README.md")).unwrap())
        .collect();
    let of_jobs = [read::known_keys::<JobSpec>(), read::known_keys::<pushbutton_core::Stage>()].concat();
    for name in &names {
        let known = of_jobs.contains(name) || readmes.contains(&format!("| `{name}` |"));
        assert!(known, "no role's README lists {name}");
    }
    assert!(names.contains(&"run_tempest_regex"), "{names:?}");
}

#[test]
fn the_default_file_names_every_key() {
    use read::known_keys;
    // serde knows the keys of a struct, so a new one cannot be forgotten here.
    let mut keys: Vec<String> = SECTIONS.into_iter().map(str::to_owned).collect();
    for known in [
        known_keys::<GerritConfig>(),
        known_keys::<pushbutton_gerrit::HostKeyPolicy>(),
        known_keys::<pushbutton_gerrit::JumpConfig>(),
        known_keys::<pushbutton_gerrit::KeepaliveConfig>(),
        known_keys::<pushbutton_gerrit::Deadlines>(),
        known_keys::<pushbutton_gerrit::BackoffConfig>(),
        known_keys::<pushbutton_gerrit::BackfillConfig>(),
        known_keys::<pushbutton_gerrit::CommentConfig>(),
        known_keys::<AmqpConfig>(),
        known_keys::<StoreSection>(),
        known_keys::<OpenStackConfig>(),
        known_keys::<pushbutton_openstack::NodeLabelConfig>(),
        known_keys::<StaticNodeConfig>(),
        known_keys::<AnsibleConfig>(),
        known_keys::<LogLocation>(),
        known_keys::<HandlerConfig>(),
        known_keys::<OperatorConfig>(),
        known_keys::<WebConfig>(),
        known_keys::<Trigger>(),
        known_keys::<pushbutton_core::Exceptions>(),
        known_keys::<pushbutton_core::VoteCondition>(),
        known_keys::<JobSpec>(),
        known_keys::<pushbutton_core::Stage>(),
    ] {
        assert!(!known.is_empty());
        keys.extend(known.iter().map(ToString::to_string));
    }
    for key in keys {
        let named = DEFAULT
            .match_indices(&format!("{key}:"))
            .any(|(at, _)| DEFAULT[..at].ends_with([' ', '\n', '{']));
        assert!(named, "default.yml does not name {key}");
    }
}

#[test]
fn all_errors_are_reported_at_once_each_with_its_line_and_a_fix() {
    let place = Place::new();
    let text = "\
owner: lab
state: state
gerrit:
  hsot: review.example.org
  host: review.example.org
  user: acme-ci
  key: missing-key
machines:
  - {label: here, name: here, local: true}
ansible:
  playbooks: playbooks
logs:
  dir: logs
operator:
  shutdown_deadline: soon
triggers:
  - name: recheck
    on:
      comment:
        pattern: ^recheck
    jobs:
      - unti
jobs:
  unit:
    node: devstack
    stages:
      - name: test
        playbook: run_tempset.yml
";
    let shown = place.path("missing-key");
    assert_eq!(
        place.errors(text),
        [
            "4: gerrit.hsot: unknown key; did you mean \"host\"?".to_owned(),
            format!(
                "7: gerrit.key: cannot read {}: No such file or directory (os error 2); check path and permissions",
                shown.display()
            ),
            "15: operator.shutdown_deadline: \"soon\" is not a duration such as 90s, 45m or 2h 30m; "
                .to_owned(),
            "22: triggers[0].jobs[0]: no job is named \"unti\"; did you mean \"unit\"?".to_owned(),
            "25: jobs.unit.node: no node has the label \"devstack\"; known are here".to_owned(),
            format!(
                "28: jobs.unit.stages[0].playbook: no playbook \"run_tempset.yml\" in {}; did you mean \"run_tempest.yml\"?",
                place.path("playbooks").display()
            ),
        ]
    );
}

/// Issue 11, point 5.
#[test]
fn a_pattern_of_retry_when_that_cannot_be_used_is_an_error_with_its_line() {
    let place = Place::new();
    let good = DEFAULT
        .replace("        # retry_when: [defaults]\n", "        retry_when: [defaults, array .* offline]\n");
    let config = place.parse(&good).unwrap();
    let stages = &config.jobs.values().next().unwrap().stages;
    assert_eq!(stages[1].retry_when, ["defaults", "array .* offline"]);
    assert_eq!(stages[0].retry_when, ["defaults"], "the default");
    let list = "        retry_when:\n          - defaults\n          - 'a|('\n          - x*\n";
    let bad = DEFAULT.replace("        # retry_when: [defaults]\n", list);
    let line = |text: &str| bad.lines().position(|line| line.trim() == text).unwrap() + 1;
    let errors = place.errors(&bad);
    assert_eq!(errors.len(), 2, "{errors:?}");
    let at = "jobs.cinder-tempest.stages[1].retry_when";
    let unclosed = format!("{}: {at}[1]: pattern \"a|(\" does not compile: unclosed group", line("- 'a|('"));
    assert!(errors[0].starts_with(&unclosed), "{errors:?}");
    let empty = format!("{}: {at}[2]: pattern \"x*\" matches the empty line", line("- x*"));
    assert!(errors[1].starts_with(&empty), "{errors:?}");
}

#[test]
fn missing_and_unknown_sections_are_named() {
    let errors = Place::new().errors("owner: lab\ntrigers: []\n").join("\n");
    for part in [
        "2: trigers: unknown section; did you mean \"triggers\"?",
        "state: this section is missing",
        "gerrit: this section is missing",
        "neither `cloud` nor `machines`",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
}

#[test]
fn what_a_part_itself_finds_wrong_has_its_line_too() {
    let place = Place::new();
    let text = DEFAULT.replace("    # pipeline: check\n", "    pipeline: third-party-check\n");
    let line = text.lines().position(|line| line.trim_start().starts_with("pipeline:")).unwrap() + 1;
    let errors = place.errors(&text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with(&format!("{line}: gerrit.comment.pipeline: ")), "{errors:?}");
}

#[test]
fn a_text_that_is_not_yaml_says_where() {
    let errors = Place::new().errors("owner: lab\ngerrit: [\nstate: x\n");
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("not YAML"), "{errors:?}");
}

#[test]
fn secrets_are_in_no_message_and_no_debug() {
    let place = Place::new();
    let broken =
        DEFAULT.replace("# ---- RabbitMQ", "rabbitmq: {url: \"${AMQP_URL}\", prefix: 5, timeout: soon}\n#");
    let shown = place.parse(&broken).unwrap_err().to_string();
    assert!(shown.contains("rabbitmq.prefix") && !shown.contains("hush"), "{shown}");
    let valid = DEFAULT.replace("# ---- RabbitMQ", "rabbitmq: {url: \"${AMQP_URL}\"}\n#");
    assert!(!format!("{:?}", place.parse(&valid).unwrap()).contains("hush"));
}

#[test]
fn the_store_has_a_section_and_every_wrong_value_of_a_part_is_named_at_once() {
    let text = |store: &str| DEFAULT.replace("# ---- Store:", &format!("store: {store}\n#"));
    let place = Place::new();
    assert_eq!(place.parse(DEFAULT).unwrap().store.of_file("x"), pushbutton_store::StoreConfig::new("x"));
    let config =
        place.parse(&text("{lease: 20m, keep_runs: 24h, lock_wait: 1s, max_lost_leases: 3}")).unwrap();
    let store = config.store.of_file("x");
    assert_eq!((store.lease, store.max_lost_leases), (pushbutton_core::HumanDuration::secs(1200), 3));
    let errors = text("{lease: 0s, max_lost_leases: 0}")
        .replace("# ---- RabbitMQ", "rabbitmq: {url: \"amqp://x\", prefix: \"a b\", lease: 0s}\n#");
    let shown = place.parse(&errors).unwrap_err().to_string();
    for key in ["store.lease", "store.max_lost_leases", "rabbitmq.prefix", "rabbitmq.lease"] {
        assert!(shown.contains(key), "{key}: {shown}");
    }
}

#[test]
fn a_dashboard_needs_nothing_but_an_owner_a_state_folder_and_a_broker() {
    let place = Place::new();
    let small =
        "owner: lab\nstate: state\nweb: {listen: \"127.0.0.1:8080\"}\nrabbitmq: {url: \"amqp://x\"}\n";
    let parse = |text: &str| place.parse_for(Needs::QUEUE, text);
    let config = parse(small).unwrap();
    assert!(config.web.is_some() && config.rabbitmq.is_some() && config.gerrit().is_err());
    // The file of the whole installation will do, without its keys, variables and files.
    let shared = "gerrit: {host: x, user: x, key: \"${NO_SUCH_KEY}\"}\n\
                  ansible: {playbooks: /no/such/folder}\nlogs: {dir: logs}\n";
    assert!(parse(&format!("{small}{shared}")).unwrap().logs.is_some());
    // What it does use is checked.
    let wrong =
        parse(&small.replace("amqp://x", "http://x").replace("web:", "wep:")).unwrap_err().to_string();
    assert!(wrong.contains("rabbitmq.url") && wrong.contains("wep"), "{wrong}");
}
