//! The file as a tree of values: parsed, filled in, its paths made absolute, every value known by its line.
//!
//! The tree is JSON's, because `serde_json` reads an enum from a mapping (`comment: {...}`), where `serde_yaml` wants a tag.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};

use super::fault::{Fault, Faults};
use super::interpolate;
use super::key_path::{KeyPath, Step};
use super::lines::Lines;
use super::paths::{self, Must, PATHS};

/// How values are looked up outside the file: the environment, or a test's own.
pub(crate) type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A file's values.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Value,
    /// Scalars that were filled in from outside, and whether each was one reference and nothing else. Perhaps secret.
    pub(crate) filled: HashMap<KeyPath, bool>,
    lines: Lines,
    file: PathBuf,
    faults: Vec<Fault>,
}

impl Tree {
    /// Parses and fills in a text. A text that is not YAML has one fault, and nothing else can be said of it.
    pub(crate) fn read(text: &str, file: &Path, env: Env<'_>) -> Result<Self, Faults> {
        let parsed = serde_yaml::from_str::<serde_yaml::Value>(text).and_then(|mut value| {
            value.apply_merge()?;
            Ok(value)
        });
        let fatal = |line: usize, what: String, remedy: &str| Faults {
            file: file.to_owned(),
            list: vec![Fault { line, place: String::new(), what, remedy: remedy.into() }],
        };
        let value = match parsed {
            Ok(value) => value,
            Err(error) => {
                // YAML knows more line ends than editors do, and an end that is missed lies below the last line.
                let last = text.lines().count().max(1);
                let line = error.location().map_or(1, |location| location.line()).clamp(1, last);
                return Err(fatal(
                    line,
                    format!("not YAML: {error}"),
                    "check indentation, colons and quotes",
                ));
            }
        };
        let mut tree = Self {
            root: Value::Null,
            filled: HashMap::new(),
            lines: Lines::scan(text),
            file: file.to_owned(),
            faults: Vec::new(),
        };
        if !value.is_mapping() {
            return Err(fatal(
                1,
                "the file holds no mapping of keys".into(),
                "`pushbutton-bin init` writes one to start from",
            ));
        }
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        tree.root = tree.convert(value, &KeyPath::top(), &folder, env);
        tree.find_paths(&folder, env);
        Ok(tree)
    }

    /// Takes note of a fault.
    pub(crate) fn fault(&mut self, at: &KeyPath, what: impl Into<String>, remedy: impl Into<String>) {
        let fault = Fault {
            line: self.lines.of(at),
            place: at.to_string(),
            what: what.into(),
            remedy: remedy.into(),
        };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// Whether this value, or one around or inside it, has a fault already: what follows from it need not be said.
    pub(crate) fn is_faulty(&self, at: &KeyPath) -> bool {
        let place = at.to_string();
        self.faults.iter().any(|fault| fault.place == place)
    }

    /// All faults so far, in the order of the lines; `Ok` when there is none.
    pub(crate) fn verdict(&mut self) -> Result<(), Faults> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let mut list = std::mem::take(&mut self.faults);
        list.sort_by_key(|fault| fault.line);
        Err(Faults { file: self.file.clone(), list })
    }

    fn convert(&mut self, value: serde_yaml::Value, at: &KeyPath, folder: &Path, env: Env<'_>) -> Value {
        use serde_yaml::Value as Yaml;
        match value {
            Yaml::Null => Value::Null,
            Yaml::Bool(truth) => Value::Bool(truth),
            Yaml::Number(number) => number_of(&number),
            Yaml::String(text) => Value::String(self.fill(text, at, folder, env)),
            Yaml::Sequence(list) => {
                let convert = |(n, value)| self.convert(value, &at.index(n), folder, env);
                list.into_iter().enumerate().map(convert).collect()
            }
            Yaml::Mapping(mapping) => {
                let mut map = Map::new();
                for (key, value) in mapping {
                    let key = match key {
                        Yaml::String(key) => key,
                        Yaml::Number(key) => key.to_string(),
                        Yaml::Bool(key) => key.to_string(),
                        _ => {
                            self.fault(at, "a key is neither text nor a number", "use a plain word");
                            continue;
                        }
                    };
                    let value = self.convert(value, &at.key(&key), folder, env);
                    map.insert(key, value);
                }
                Value::Object(map)
            }
            Yaml::Tagged(tagged) => {
                self.fault(at, format!("the tag {} means nothing here", tagged.tag), "leave it out");
                self.convert(tagged.value, at, folder, env)
            }
        }
    }

    fn fill(&mut self, text: String, at: &KeyPath, folder: &Path, env: Env<'_>) -> String {
        match interpolate::fill(&text, folder, env) {
            Ok(None) => text,
            Ok(Some(filled)) => {
                self.filled.insert(at.clone(), filled.whole);
                filled.text
            }
            Err((what, remedy)) => {
                self.fault(at, what, remedy);
                text
            }
        }
    }

    /// Makes every path absolute and looks whether it is what it must be.
    fn find_paths(&mut self, folder: &Path, env: Env<'_>) {
        for (pattern, must) in PATHS {
            let parts: Vec<&str> = pattern.split('.').collect();
            let mut places = Vec::new();
            matching(&self.root, &parts, &KeyPath::top(), &mut places);
            for place in places {
                if self.is_faulty(&place) {
                    continue;
                }
                let Some(Value::String(text)) = place.get(&self.root) else { continue };
                let path = paths::absolute(text, folder, env);
                place.put(&mut self.root, Value::String(path.display().to_string()));
                if *must != Must::Nothing {
                    if let Some((what, remedy)) = paths::refusal(&path, *must) {
                        self.fault(&place, what, remedy);
                    }
                }
            }
        }
        // A command is a path only when it looks like one: a bare name is looked up by the system.
        let command = KeyPath::top().key("ansible").key("ansible_playbook");
        if let Some(Value::String(text)) = command.get(&self.root).filter(|_| !self.is_faulty(&command)) {
            if text.contains('/') {
                let path = paths::absolute(text, folder, env);
                command.put(&mut self.root, Value::String(path.display().to_string()));
                if let Some((what, remedy)) = paths::refusal(&path, Must::BeFile) {
                    self.fault(&command, what, remedy);
                }
            }
        }
    }
}

fn number_of(number: &serde_yaml::Number) -> Value {
    let number = number
        .as_u64()
        .map(Number::from)
        .or_else(|| number.as_i64().map(Number::from))
        .or_else(|| number.as_f64().and_then(Number::from_f64));
    // Infinity and not-a-number have no place in a configuration.
    number.map_or(Value::Null, Value::Number)
}

/// All places that a pattern such as `machines.*.key_file` means.
fn matching(value: &Value, pattern: &[&str], at: &KeyPath, found: &mut Vec<KeyPath>) {
    let Some((first, rest)) = pattern.split_first() else {
        found.push(at.clone());
        return;
    };
    match (value, *first) {
        (Value::Object(map), "*") => {
            for (key, value) in map {
                matching(value, rest, &at.key(key), found);
            }
        }
        (Value::Array(list), "*") => {
            for (index, value) in list.iter().enumerate() {
                matching(value, rest, &at.step(Step::Index(index)), found);
            }
        }
        (Value::Object(map), key) => {
            if let Some(value) = map.get(key) {
                matching(value, rest, &at.key(key), found);
            }
        }
        _ => {}
    }
}
