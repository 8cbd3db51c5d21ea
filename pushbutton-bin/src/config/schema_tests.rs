//! The JSON Schema of the configuration, made from its types: `docs/pushbutton.schema.json`. It is made here and not by
//! the command, so that the binary has nothing of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pushbutton_core::serde_json::{self, Map, Value, json};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

use super::book_tests::{blocks, documents, env, merged, place, top};
use super::*;

/// The whole file. The sections are read one by one, so there is no such type elsewhere.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "its schema alone is used")]
struct ConfigFile {
    /// The name of this CI, such as `acme-ci`. Every cloud resource carries it.
    owner: OwnerName,
    /// A folder on a local disk for everything that must survive a restart: seen events and the queue (both without
    /// RabbitMQ), the history of runs, and the journal of cloud resources.
    state: PathBuf,
    #[serde(default)]
    #[schemars(with = "StoreSection")]
    store: (),
    #[serde(default)]
    #[schemars(with = "GerritConfig")]
    gerrit: (),
    #[serde(default)]
    #[schemars(with = "AmqpConfig")]
    rabbitmq: (),
    #[serde(default)]
    #[schemars(with = "OpenStackConfig")]
    cloud: (),
    /// A fixed list of machines, instead of `cloud`.
    #[serde(default)]
    #[schemars(with = "Vec<StaticNodeConfig>")]
    machines: (),
    #[serde(default)]
    #[schemars(with = "AnsibleConfig")]
    ansible: (),
    #[serde(default)]
    #[schemars(with = "LogLocation")]
    logs: (),
    #[serde(default)]
    #[schemars(with = "HandlerConfig")]
    handler: (),
    #[serde(default)]
    #[schemars(with = "OperatorConfig")]
    operator: (),
    #[serde(default)]
    #[schemars(with = "SupersedePolicy")]
    supersede: (),
    #[serde(default)]
    #[schemars(with = "SweepConfig")]
    sweep: (),
    #[serde(default)]
    #[schemars(with = "AlarmConfig")]
    alarm: (),
    #[serde(default)]
    #[schemars(with = "WebConfig")]
    web: (),
    /// Which events run which jobs. All conditions of a trigger must match.
    #[serde(default)]
    #[schemars(with = "Vec<Trigger>")]
    triggers: (),
    /// What runs on the machines, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<JobName, JobSpec>")]
    jobs: (),
}

/// Where the schema is kept.
pub(crate) fn schema_file() -> PathBuf {
    top().join("docs/pushbutton.schema.json")
}

/// The schema, in draft 7, which editors know best.
pub(crate) fn schema() -> Value {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<ConfigFile>();
    let mut schema = schema.to_value();
    schema["title"] = "The configuration of pushbutton".into();
    schema["description"] =
        "pushbutton-bin reads it from ./pushbutton.yml, --config or PUSHBUTTON_CONFIG.".into();
    // Keys that begin with x- are for anchors.
    schema["patternProperties"] = json!({ "^x-": true });
    for section in schema["properties"].as_object_mut().unwrap().values_mut() {
        let Value::Object(section) = section else { panic!("{section}") };
        section.remove("default");
        unwrap_all_of(section);
    }
    tidy(&mut schema);
    schema
}

/// `{allOf: [{$ref: X}]}` has no siblings left: it is `{$ref: X}`.
fn unwrap_all_of(schema: &mut Map<String, Value>) {
    if let (1, Some(Value::Array(all))) = (schema.len(), schema.get("allOf"))
        && let [Value::Object(only)] = all.as_slice()
    {
        *schema = only.clone();
    }
}

/// Text that holds a reference, as `${NAME}`: any value may be one.
const REFERENCE: &str = r"\$\{";

/// Goes through all schemas: descriptions without links of rustdoc, durations as people write them, and references
/// where other values are limited.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(tidy),
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                // Values of the configuration are no schemas.
                if !matches!(key.as_str(), "default" | "const" | "enum" | "examples" | "required") {
                    tidy(inner);
                }
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = plain(text);
            }
            if map.get("title").is_some_and(|title| title == "duration")
                && let Some(Value::String(text)) = map.get_mut("default")
            {
                *text = short(text);
            }
            allow_references(map);
        }
        _ => {}
    }
}

fn allow_references(map: &mut Map<String, Value>) {
    if let Some(Value::String(pattern)) = map.get_mut("pattern") {
        if pattern != REFERENCE {
            *pattern = format!("{pattern}|{REFERENCE}");
        }
        return;
    }
    let reference = json!({ "type": "string", "pattern": REFERENCE });
    if let Some(Value::Array(names)) = map.get_mut("oneOf") {
        if names.iter().all(|name| name["type"] == "string") {
            names.push(reference);
        }
        return;
    }
    let kinds: Vec<&str> = match map.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let is_limited = kinds.iter().any(|kind| matches!(*kind, "integer" | "number" | "boolean"));
    if is_limited || map.contains_key("enum") {
        const OUTER: [&str; 3] = ["default", "description", "title"];
        let keys: Vec<String> = map.keys().filter(|key| !OUTER.contains(&key.as_str())).cloned().collect();
        let inner: Map<String, Value> = keys
            .into_iter()
            .map(|key| {
                let value = map.remove(&key).unwrap();
                (key, value)
            })
            .collect();
        map.insert("anyOf".into(), json!([inner, reference]));
    }
}

/// Without the links of rustdoc: ``[`a::b`](c)`` is `` `b` ``.
fn plain(text: &str) -> String {
    // Examples in Rust, or of whole sections, are for rustdoc.
    let text = text.split("```").next().unwrap_or_default().trim_end();
    let link = regex::Regex::new(r"\[(`?)(?:[A-Za-z_]+::)*([^\]`]+)(`?)\](?:\([^)]*\))?").unwrap();
    link.replace_all(text, |found: &regex::Captures<'_>| {
        let whole = &found[0];
        // `[defaults]` is a list of the configuration.
        if found[1].is_empty() && !whole.ends_with(')') {
            whole.to_owned()
        } else {
            format!("{}{}{}", &found[1], &found[2], &found[3])
        }
    })
    .replace('\n', " ")
}

/// `768h 00m 00s` as `32d`, `15m 00s` as `15m`.
fn short(text: &str) -> String {
    let duration: pushbutton_core::HumanDuration = text.parse().unwrap();
    let seconds = duration.0.as_secs();
    match seconds {
        0 => "0s".to_owned(),
        _ if seconds.is_multiple_of(86_400) && seconds > 86_400 => format!("{}d", seconds / 86_400),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// Compares a file with what it should be; `make reference` writes it.
pub(crate) fn assert_current(file: &Path, wanted: &str) {
    if std::env::var_os("PUSHBUTTON_WRITE_REFERENCE").is_some() {
        fs::write(file, wanted).unwrap();
        return;
    }
    let found = fs::read_to_string(file).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).enumerate().find(|(_, (found, wanted))| found != wanted);
    let (line, (found_line, wanted_line)) = differs.unwrap_or((found.lines().count(), ("", "")));
    let (file, line) = (file.display(), line + 1);
    assert!(
        found == wanted,
        "{file}:{line} is not current: run `make reference`\n  is:        {found_line}\n  should be: {wanted_line}"
    );
}

#[test]
fn the_schema_is_current() {
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    assert_current(&schema_file(), &text);
}

#[test]
fn the_schema_has_exactly_the_keys_that_are_read() {
    use read::known_keys;

    let schema = schema();
    let keys = |schema: &Value| -> BTreeSet<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys(&schema), SECTIONS.iter().map(ToString::to_string).collect());
    let mut known: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("AlarmConfig", known_keys::<AlarmConfig>()),
        ("AmqpConfig", known_keys::<AmqpConfig>()),
        ("AnsibleConfig", known_keys::<AnsibleConfig>()),
        ("BackfillConfig", known_keys::<pushbutton_gerrit::BackfillConfig>()),
        ("BackoffConfig", known_keys::<pushbutton_gerrit::BackoffConfig>()),
        ("BreakerPolicy", known_keys::<pushbutton_core::BreakerPolicy>()),
        ("CommentConfig", known_keys::<pushbutton_gerrit::CommentConfig>()),
        ("Deadlines", known_keys::<pushbutton_gerrit::Deadlines>()),
        ("Exceptions", known_keys::<pushbutton_core::Exceptions>()),
        ("FloatingIpConfig", known_keys::<pushbutton_openstack::FloatingIpConfig>()),
        ("GerritConfig", known_keys::<GerritConfig>()),
        ("HandlerConfig", known_keys::<HandlerConfig>()),
        ("HostKeyPolicy", known_keys::<pushbutton_gerrit::HostKeyPolicy>()),
        ("JobSpec", known_keys::<JobSpec>()),
        ("JumpConfig", known_keys::<pushbutton_gerrit::JumpConfig>()),
        ("KeepaliveConfig", known_keys::<pushbutton_gerrit::KeepaliveConfig>()),
        ("LogLocation", known_keys::<LogLocation>()),
        ("MailConfig", known_keys::<MailConfig>()),
        ("NetworkConfig", known_keys::<pushbutton_openstack::NetworkConfig>()),
        ("NoRoomPolicy", known_keys::<pushbutton_core::NoRoomPolicy>()),
        ("NodeLabelConfig", known_keys::<pushbutton_openstack::NodeLabelConfig>()),
        ("OpenStackConfig", known_keys::<OpenStackConfig>()),
        ("OperatorConfig", known_keys::<OperatorConfig>()),
        ("Stage", known_keys::<pushbutton_core::Stage>()),
        ("StaticNodeConfig", known_keys::<StaticNodeConfig>()),
        ("StoreSection", known_keys::<StoreSection>()),
        ("SupersedePolicy", known_keys::<SupersedePolicy>()),
        ("SweepConfig", known_keys::<SweepConfig>()),
        ("Trigger", known_keys::<Trigger>()),
        ("UserData", known_keys::<pushbutton_openstack::UserData>()),
        ("VolumeConfig", known_keys::<pushbutton_openstack::VolumeConfig>()),
        ("VoteCondition", known_keys::<pushbutton_core::VoteCondition>()),
        ("WebConfig", known_keys::<WebConfig>()),
    ]);
    for (name, mut definition) in schema["definitions"].as_object().unwrap() {
        if name == "NetworkConfig" {
            definition = &definition["anyOf"][1];
        }
        if definition.get("properties").is_none() {
            continue;
        }
        let read = known.remove(name.as_str()).unwrap_or_else(|| panic!("{name} is not compared"));
        assert!(!read.is_empty(), "{name}");
        assert_eq!(keys(definition), read.iter().map(ToString::to_string).collect(), "{name}");
        assert_eq!(definition["additionalProperties"], false, "{name}: unknown keys are refused");
    }
    assert!(known.is_empty(), "not in the schema: {known:?}");
}

/// What an independent validator, Python's jsonschema, says of each value: nothing, or where and why it is refused.
fn judged(values: &[Value]) -> Vec<Option<String>> {
    const PROGRAM: &str = "\
import json, sys
from jsonschema import Draft7Validator
given = json.load(sys.stdin)
Draft7Validator.check_schema(given['schema'])
validator = Draft7Validator(given['schema'])
def place(error):
    return '.'.join(map(str, error.absolute_path)) + ': ' + error.message[:300]
print(json.dumps([next((place(e) for e in validator.iter_errors(value)), None) for value in given['values']]))
";
    let python = pushbutton_testbed::ansible_bin().join("python3");
    let mut child = Command::new(python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let given = json!({ "schema": schema(), "values": values }).to_string();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(given.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn yaml(text: &str) -> serde_yaml::Value {
    let mut yaml: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
    yaml.apply_merge().unwrap();
    yaml
}

/// The configurations that are in the tree, each with its name: files, and the blocks of documents over the default.
fn configurations() -> Vec<(String, Value)> {
    let mut found = vec![("default.yml".to_owned(), yaml(DEFAULT))];
    let tracked =
        Command::new("git").args(["-C"]).arg(top()).args(["ls-files", "*.yml", "*.yaml"]).output().unwrap();
    for name in String::from_utf8(tracked.stdout).unwrap().lines() {
        let text = fs::read_to_string(top().join(name)).unwrap_or_default();
        if text.lines().any(|line| line.starts_with("owner:"))
            && text.lines().any(|line| line.starts_with("state:"))
        {
            found.push((name.to_owned(), yaml(&text)));
        }
    }
    for (file, text) in documents() {
        for (line, block) in blocks(&text, "yaml") {
            let part = yaml(&block.join("\n"));
            // The others are a compose file, and playbooks, which are lists.
            if part.is_mapping() && part.get("services").is_none() {
                found.push((format!("{}:{line}", file.display()), merged(yaml(DEFAULT), part)));
            }
        }
    }
    found.into_iter().map(|(name, yaml)| (name, serde_json::to_value(yaml).unwrap())).collect()
}

#[test]
fn an_independent_validator_accepts_every_configuration_by_the_schema() {
    let configurations = configurations();
    assert!(configurations.len() > 8, "{}", configurations.len());
    let values: Vec<Value> = configurations.iter().map(|(_, value)| value.clone()).collect();
    let refused: Vec<_> = configurations
        .iter()
        .zip(judged(&values))
        .filter_map(|((name, _), why)| Some((name, why?)))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn planted_mistakes_are_refused_by_the_schema_as_by_the_command() {
    const MISTAKES: [(&str, &str); 30] = [
        ("unknown section", "trigers: []"),
        ("no owner", "owner: null"),
        ("owner with a blank", "owner: a b"),
        ("unknown key", "gerrit: {hsot: x}"),
        ("unknown key, deeper", "gerrit: {backfill: {evry: 5m}}"),
        ("unknown key of a job", "jobs: {cinder-tempest: {nodes: devstack}}"),
        ("port is text", "gerrit: {port: ssh}"),
        ("port too large", "gerrit: {port: 70000}"),
        ("port below zero", "gerrit: {port: -1}"),
        ("host is a number", "gerrit: {host: 5}"),
        ("host is a list", "gerrit: {host: [a]}"),
        ("list is text", "gerrit: {own_accounts: acme}"),
        ("unknown vote mode", "gerrit: {comment: {vote: always}}"),
        ("unknown notify", "gerrit: {comment: {notify: EVERYONE}}"),
        ("duration without a unit", "operator: {retry_delay: 60}"),
        ("duration in words", "operator: {shutdown_deadline: soon}"),
        ("slots below zero", "operator: {slots: -1}"),
        ("builds are 0", "handler: {max_builds_per_change_per_day: 0}"),
        ("no truth value", "supersede: {closed: 5}"),
        ("unknown address", "cloud: {nodes: {devstack: {address: ipv5}}}"),
        ("network of numbers", "cloud: {nodes: {devstack: {networks: [5]}}}"),
        ("option of a network", "cloud: {nodes: {devstack: {networks: [{name: a, mtu: 1}]}}}"),
        ("label with a blank", "cloud: {nodes: {\"a b\": {image: a, flavor: b}}}"),
        ("section is a list", "logs: []"),
        ("section is empty", "logs: null"),
        ("unknown event", "triggers: [{name: a, on: patchset-made, jobs: [cinder-tempest]}]"),
        ("event without its pattern", "triggers: [{name: a, on: {comment: {}}, jobs: [cinder-tempest]}]"),
        ("trigger without jobs", "triggers: [{name: a, on: patchset-created}]"),
        ("unknown preset", "triggers: [{name: a, on: {preset: reckeck}, jobs: [cinder-tempest]}]"),
        (
            "unknown end of a stage",
            "jobs: {cinder-tempest: {stages: [{name: a, playbook: run_tempest.yml, on_failure: ignore}]}}",
        ),
    ];
    let place = place();
    let changed: Vec<serde_yaml::Value> =
        MISTAKES.iter().map(|(_, change)| merged(yaml(DEFAULT), yaml(change))).collect();
    let values: Vec<Value> = changed.iter().map(|yaml| serde_json::to_value(yaml).unwrap()).collect();
    for (((name, _), change), why) in MISTAKES.iter().zip(&changed).zip(judged(&values)) {
        assert!(why.is_some(), "the schema accepts: {name}");
        let text = serde_yaml::to_string(change).unwrap();
        let read = parse(&text, &place.path().join("pushbutton.yml"), Needs::ALL, &env);
        assert!(read.is_err(), "the command accepts: {name}");
    }
}

#[test]
fn links_of_rustdoc_become_plain_words() {
    for (text, expected) in [
        ("as in [`Trigger::from`]; any", "as in `from`; any"),
        ("stands for\n[`DEFAULTS`](crate::x::DEFAULTS).", "stands for `DEFAULTS`."),
        ("Default: `[defaults]`.", "Default: `[defaults]`."),
        ("see [the page](https://example.org)", "see the page"),
        ("[USER:PASSWORD@]HOST", "[USER:PASSWORD@]HOST"),
    ] {
        assert_eq!(plain(text), expected);
    }
}
