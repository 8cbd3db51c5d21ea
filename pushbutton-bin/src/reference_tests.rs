//! The reference pages of the book, made from the types of the configuration and the definition of the command line:
//! `docs/src/configuration.md` and `docs/src/commands.md`. `make reference` writes them.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory as _};
use pushbutton_core::serde_json::Value;

use crate::cli::Cli;
use crate::config::schema_tests::{assert_current, schema};
use crate::config::{DEFAULT, is_reloaded};

const MADE: &str = "<!-- Made by `make reference`; do not edit. -->\n";

const WIDTH: usize = 118;

fn page(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src").join(name)
}

/// Breaks a paragraph between words.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut page, mut width) = (String::new(), 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            page.push('\n');
            width = 0;
        }
        let before = if page.is_empty() {
            ""
        } else if width == 0 {
            indent
        } else {
            " "
        };
        page.push_str(before);
        page.push_str(word);
        width += before.chars().count() + length;
    }
    page
}

/// What a node stands for: behind its `$ref`, and without the alternatives of a reference (`${NAME}`) or null.
fn resolved<'s>(root: &'s Value, mut node: &'s Value) -> &'s Value {
    loop {
        let next = node["$ref"].as_str().map(|path| &root["definitions"][path.rsplit('/').next().unwrap()]);
        let one = |key: &str| {
            let all = node[key].as_array()?;
            let real: Vec<_> = all.iter().filter(|one| one["type"] != "null" && !is_reference(one)).collect();
            if let [one] = real.as_slice() { Some(*one) } else { None }
        };
        match next.or_else(|| one("allOf")).or_else(|| one("anyOf")) {
            Some(next) => node = next,
            None => return node,
        }
    }
}

fn is_reference(schema: &Value) -> bool {
    schema["type"] == "string" && schema["pattern"].as_str() == Some(r"\$\{")
}

/// The type in words, and its values with what they mean.
fn kind(root: &Value, node: &Value, key: &str) -> (String, Vec<(String, String)>) {
    let schema = resolved(root, node);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(names) = schema["oneOf"].as_array() {
        let mut values = Vec::new();
        for name in names.iter().filter(|name| !is_reference(name)) {
            if let Some(value) = name["const"].as_str() {
                values.push((format!("`{value}`"), text(&name["description"])));
            } else if let Some(list) = name["enum"].as_array() {
                values.extend(
                    list.iter().map(|value| (format!("`{}`", text(value)), text(&name["description"]))),
                );
            } else if let Some(fields) = name["properties"].as_object() {
                values.extend(fields.keys().map(|key| (format!("`{key}: ...`"), text(&name["description"]))));
            }
        }
        let is_mixed = names.iter().any(|name| name["properties"].is_object());
        return (
            if is_mixed { "a name, or a mapping with one key" } else { "one of these names" }.to_owned(),
            values,
        );
    }
    if let Some(list) = schema["enum"].as_array() {
        let values = list.iter().filter(|value| value.is_string());
        return (
            "one of these names".to_owned(),
            values.map(|value| (format!("`{}`", text(value)), String::new())).collect(),
        );
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let words: Vec<String> = choices.iter().map(|choice| kind(root, choice, key).0).collect();
        return (words.join(" or "), Vec::new());
    }
    let unit = match key.rsplit('_').next() {
        Some("mib") => ", MiB",
        Some("gb") => ", GiB",
        _ => "",
    };
    let kind = match (schema["type"].as_str().or(schema["type"][0].as_str()), schema["title"].as_str()) {
        (Some("string"), Some("duration")) => "duration".to_owned(),
        (Some("string"), Some("name")) => "name".to_owned(),
        (Some("string"), _) => "text".to_owned(),
        (Some("boolean"), _) => "true or false".to_owned(),
        (Some("integer" | "number"), _) => match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
            (Some(low), Some(high)) => format!("number from {low} to {high}{unit}"),
            (Some(low), None) => format!("number, {low} or more{unit}"),
            _ => format!("number{unit}"),
        },
        (Some("array"), _) => match self::kind(root, &schema["items"], key).0.as_str() {
            "mapping" => "list of mappings".to_owned(),
            item => format!("list of {item}"),
        },
        (Some("object"), _) if schema["properties"].is_object() => "mapping".to_owned(),
        (Some("object"), _) => "mapping of names to values".to_owned(),
        _ => "any value".to_owned(),
    };
    (kind, Vec::new())
}

/// The keys of a mapping, and whether each is required.
fn fields(schema: &Value) -> Vec<(&str, &Value, bool)> {
    let required = schema["required"].as_array();
    let is_required = |key: &str| required.is_some_and(|all| all.iter().any(|one| one == key));
    let properties = schema["properties"].as_object();
    properties.into_iter().flatten().map(|(key, node)| (key.as_str(), node, is_required(key))).collect()
}

/// What is below a value: its keys, those of its elements, or those of its alternatives.
fn below<'s>(root: &'s Value, node: &'s Value, path: &str, found: &mut Vec<(String, &'s Value, bool)>) {
    let schema = resolved(root, node);
    for (key, node, is_required) in fields(schema) {
        let path = format!("{path}.{key}");
        found.push((path.clone(), node, is_required));
        below(root, node, &path, found);
    }
    if schema["items"].is_object() {
        below(root, &schema["items"], &format!("{path}[]"), found);
    }
    let others = schema["patternProperties"].as_object().and_then(|all| all.values().next());
    if let Some(values) = others.or(schema.get("additionalProperties")).filter(|values| values.is_object()) {
        below(root, values, &format!("{path}.NAME"), found);
    }
    for choice in ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten() {
        let first = found.len();
        below(root, choice, path, found);
        // What an alternative requires, another one does without.
        let alternatives = found[first..].iter_mut().filter(|(key, ..)| is_alternative(schema, path, key));
        alternatives.for_each(|(_, _, is_required)| *is_required = false);
    }
}

/// Whether a key chooses one of several mappings, as `comment` in `on: {comment: ...}`.
fn is_alternative(schema: &Value, path: &str, key: &str) -> bool {
    let name = key.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'));
    schema["oneOf"].is_array() && name.is_some_and(|name| !name.contains(['.', '[']))
}

/// What `default.yml` has for a key, commented out or not.
fn example(path: &str) -> Option<String> {
    let keys: Vec<&str> =
        path.split('.').map(|key| key.trim_end_matches("[]")).filter(|key| *key != "NAME").collect();
    let starts = |at: &str| {
        let line = at.trim_start_matches(['#', ' ']);
        line.starts_with(&format!("{}:", keys[0]))
    };
    // The section: from its line at the margin to the next heading.
    let lines: Vec<&str> = DEFAULT.lines().collect();
    let first =
        lines.iter().position(|line| !line.starts_with("  ") && !line.starts_with("#  ") && starts(line))?;
    let end = lines
        .iter()
        .skip(first + 1)
        .position(|line| line.starts_with("# ----"))
        .map_or(lines.len(), |n| first + 1 + n);
    let text = lines[first..end].join("\n");
    let mut at = 0;
    for (depth, key) in keys.iter().enumerate() {
        let wanted = format!("{key}:");
        let found = text[at..].match_indices(&wanted).find(|(place, _)| {
            let before = text[..at + place].chars().next_back();
            // Not a word of a sentence.
            let line = text[..at + place].rsplit('\n').next().unwrap_or_default();
            let is_key = line.contains('{') || line.trim_start_matches(['#', ' ', '-']).is_empty();
            let after = text[at + place + wanted.len()..].chars().next();
            is_key
                && before.is_none_or(|c| matches!(c, ' ' | '{' | '\n'))
                && after.is_none_or(|c| matches!(c, ' ' | '\n'))
        })?;
        at += found.0 + if depth + 1 == keys.len() { 0 } else { wanted.len() };
    }
    let key = keys.last()?;
    let line_start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    let is_inside = text[line_start..at].contains('{');
    let value = &text[at + key.len() + 1..];
    let mut depth = 0_i32;
    let mut quote = None;
    let mut end = value.len();
    for (n, c) in value.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') if depth == 0 => {
                end = n;
                break;
            }
            (None, '}' | ']') => depth -= 1,
            (None, ',') if depth == 0 && is_inside => {
                end = n;
                break;
            }
            (None, '\n') => {
                end = n;
                break;
            }
            (None, '#') if value[..n].ends_with("  ") => {
                end = n;
                break;
            }
            _ => {}
        }
    }
    let value = value[..end].trim();
    (!value.is_empty() && value != "|").then(|| format!("{key}: {value}"))
}

/// Paragraphs, and the items of lists.
const INTRODUCTION: [&str; 9] = [
    "Every key of the file, with its type, its default and what it means. `pushbutton-bin init` writes a file with all of \
     them; `pushbutton-bin check` says what to fix. Editors with a YAML language server check the file while it is \
     written, by the JSON Schema `docs/pushbutton.schema.json`.",
    "- A *duration* is written as `90s`, `45m`, `2h 30m` or `32d`. A *name* has letters, digits, `-`, `_` and `.`.",
    "- Paths are relative to the file. `~/` is the home folder.",
    "- `${VAR}`, `${VAR:-default}` and `${file:PATH}` are replaced by a variable of the environment or by the content of \
     a file, in any value. `$${` is a plain `${`.",
    "- Top-level keys that begin with `x-` are ignored. Use them for YAML anchors.",
    "- In the names below, `[]` is any element of a list and `NAME` a name of your own.",
    "## Reload",
    "`run`, `handler`, `operator` and `dashboard` read the file again when it changes, when a file changes that it names \
     as `${file:PATH}`, and on SIGHUP (`systemctl reload`). Keys marked **reload** are applied to the running process. A \
     run that has begun goes on as it began; events that come later are decided by the new triggers, and jobs are \
     claimed by the new names and labels. On file systems without inotify, such as NFS, changes are not noticed: send \
     SIGHUP. Options of the command line, such as `--slots`, override the file after a reload, too.",
    "If the new file has an error, or changes a key marked **restart** that the process uses, all of it is refused: the \
     process goes on as before, and logs each reason with its line. `pushbutton-bin status` and the metric \
     `pushbutton_config_last_reload_successful` show that.",
];

fn configuration() -> String {
    let root = schema();
    let mut page = format!("# Configuration\n\n{MADE}");
    for text in INTRODUCTION {
        let is_item = text.starts_with("- ");
        if !is_item || !page.lines().last().is_some_and(|line| line.starts_with(['-', ' '])) {
            page.push('\n');
        }
        let _ = writeln!(page, "{}", wrapped(text, if is_item { "  " } else { "" }));
    }
    for (section, node, is_required) in fields(&root) {
        let schema = resolved(&root, node);
        let doc = |node: &Value| {
            let own = node["description"].as_str();
            own.or_else(|| resolved(&root, node)["description"].as_str()).unwrap_or_default().to_owned()
        };
        write_heading(&mut page, 2, section, &doc(node));
        if schema["properties"].is_null() {
            write_facts(&mut page, &root, section, node, is_required);
        }
        let mut keys = Vec::new();
        below(&root, node, section, &mut keys);
        for (path, node, is_required) in keys {
            write_heading(&mut page, 3, &path, &doc(node));
            write_facts(&mut page, &root, &path, node, is_required);
        }
    }
    page
}

fn write_heading(page: &mut String, level: usize, name: &str, text: &str) {
    let _ = write!(page, "\n{} `{name}`\n", "#".repeat(level));
    if !text.is_empty() {
        let _ = write!(page, "\n{}\n", wrapped(text, ""));
    }
}

fn write_facts(page: &mut String, root: &Value, path: &str, node: &Value, is_required: bool) {
    let key = path.rsplit('.').next().unwrap_or_default();
    let (kind, values) = kind(root, node, key);
    let default = match &node["default"] {
        Value::Null | Value::Object(_) => String::new(),
        Value::String(text) => format!(", default `{text}`"),
        Value::Array(list) if list.is_empty() => String::new(),
        value => format!(", default `{value}`"),
    };
    let needed = if is_required { ", required" } else { "" };
    let change = if is_reloaded(&path.replace("[]", "[0]")) { "reload" } else { "restart" };
    let _ = write!(page, "\n- {kind}{needed}{default}; **{change}**\n");
    for (value, meaning) in values {
        let meaning = if meaning.is_empty() { String::new() } else { format!(": {meaning}") };
        let _ = writeln!(page, "- {}", wrapped(&format!("{value}{meaning}"), "  "));
    }
    if let Some(example) = example(path) {
        let _ = writeln!(page, "- example: `{example}`");
    }
}

#[test]
fn the_reference_of_the_configuration_is_current() {
    let text = configuration();
    assert_current(&page("configuration.md"), &text);
    // Each leaf of the schema has its heading, and examples are found for most.
    let (keys, examples) = (text.matches("\n### `").count(), text.matches("\n- example: `").count());
    assert!(keys > 150 && examples > keys * 2 / 3, "{keys} keys, {examples} examples");
}

#[test]
fn examples_are_those_of_the_default_file() {
    for (path, expected) in [
        ("gerrit.port", Some("port: 29418")),
        ("gerrit.jump.host", Some("host: bastion.example.org")),
        ("gerrit.backfill.query", Some("query: \"project:openstack/cinder\"")),
        ("logs.keep", Some("keep: 32d")),
        ("triggers[].except.comment", Some("comment: \"(?i)no-?op\"")),
        ("cloud.nodes.NAME.data_volumes[].size_gb", Some("size_gb: 10")),
        ("ansible.secrets", Some("secrets: {array_password: \"${file:./array-password}\"}")),
        ("operator.breaker", Some("breaker: {failures: 5, pause: 1m, pause_cap: 30m}")),
        ("gerrit.comment", None),
    ] {
        assert_eq!(example(path).as_deref(), expected, "{path}");
    }
}

fn commands() -> String {
    let mut command = Cli::command();
    command.build();
    let mut page = format!("# Commands\n\n{MADE}\n");
    page.push_str("What `pushbutton-bin --help` and `pushbutton-bin COMMAND --help` show.\n");
    let _ = write!(page, "\n## Options of every command\n\n");
    for argument in command.get_arguments().filter(|argument| argument.is_global_set()) {
        write_argument(&mut page, argument);
    }
    let after = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    if let Some(at) = after.find("Exit codes") {
        let _ = write!(page, "\n## Exit codes\n\n```text\n{}\n```\n", after[at..].trim_end());
    }
    for subcommand in command.get_subcommands().filter(|one| one.get_name() != "help") {
        write_command(&mut page, subcommand, "pushbutton-bin", 2);
    }
    page
}

fn write_command(page: &mut String, command: &Command, above: &str, level: usize) {
    let name = format!("{above} {}", command.get_name());
    let about =
        command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ =
        write!(page, "\n{} `{}`\n", "#".repeat(level), name.strip_prefix("pushbutton-bin ").unwrap_or(&name));
    for paragraph in about.split("\n\n") {
        let _ = write!(page, "\n{}\n", wrapped(&escaped(paragraph), ""));
    }
    let usage = command.clone().render_usage().to_string();
    let usage =
        usage.trim_start_matches("Usage:").trim().lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let _ = write!(page, "\n```text\n{usage}\n```\n");
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| {
            !argument.is_global_set() && !argument.is_hide_set() && argument.get_id() != "help"
        })
        .collect();
    if !arguments.is_empty() {
        page.push('\n');
    }
    for argument in arguments {
        write_argument(page, argument);
    }
    if let Some(after) = command.get_after_long_help() {
        let _ = write!(page, "\n```text\n{}\n```\n", after.to_string().trim_end());
    }
    for subcommand in command.get_subcommands().filter(|one| one.get_name() != "help") {
        write_command(page, subcommand, &name, level + 1);
    }
}

fn write_argument(page: &mut String, argument: &Arg) {
    let values: Vec<String> =
        argument.get_value_names().into_iter().flatten().map(ToString::to_string).collect();
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let values = if takes_value { values.join(" ") } else { String::new() };
    let flags: Vec<String> = argument
        .get_short()
        .map(|short| format!("-{short}"))
        .into_iter()
        .chain(argument.get_long().map(|long| format!("--{long}")))
        .collect();
    let name = format!("{} {values}", flags.join(", "));
    let help =
        argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut text = format!("`{}`: {}", name.trim(), escaped(&help));
    if !text.ends_with(['.', ':', ']', '!', '?']) {
        text.push('.');
    }
    if argument.is_required_set() {
        text.push_str(" Required.");
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_value && !defaults.is_empty() {
        let _ = write!(text, " Default: `{}`.", defaults.join(" "));
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(text, " Environment: `{}`.", variable.to_string_lossy());
    }
    let possible: Vec<String> =
        argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if takes_value && !possible.is_empty() {
        let _ = write!(text, " Values: {}.", possible.join(", "));
    }
    let _ = writeln!(page, "- {}", wrapped(&text, "  "));
}

/// What Markdown would take for a tag.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;")
}

#[test]
fn the_reference_of_the_commands_is_current() {
    let text = commands();
    assert_current(&page("commands.md"), &text);
    let command = Cli::command();
    for subcommand in command.get_subcommands() {
        assert!(text.contains(&format!("\n## `{}`\n", subcommand.get_name())), "{}", subcommand.get_name());
        for argument in subcommand.get_arguments() {
            if let Some(long) = argument.get_long() {
                assert!(text.contains(&format!("--{long}")), "{long}");
            }
        }
    }
}
