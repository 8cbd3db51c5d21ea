//! The configuration file as a tree of values: parsed, references filled in, paths made absolute, each value with its
//! line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_yaml::Value as Yaml;

use super::error::{ConfigError, ConfigErrors};
use super::interpolate;
use super::lines::Lines;
use super::needs::Needs;
use super::node::{KeyPath, Node, Step, Value};
use super::paths::{self, PATHS, PathCheck};

/// How variables of the environment are looked up; tests have their own.
pub(crate) type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A file's values, and the errors found in it so far.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    file: PathBuf,
    /// What the command uses. Files and variables of other sections need not be there.
    needs: Needs,
    errors: Vec<ConfigError>,
    /// The files of `${file:PATH}`.
    pub(crate) files: BTreeSet<PathBuf>,
    /// References in sections that are not used which could not be filled in. Such a value is its own text; its error
    /// is reported where that does not do, as for a number.
    unresolved: Vec<ConfigError>,
}

impl Document {
    /// Parses a text. A text that is not YAML, or not a mapping, has that one error.
    pub(crate) fn read(text: &str, file: &Path, needs: Needs, env: Env<'_>) -> Result<Self, ConfigErrors> {
        let fatal = |line: usize, problem: String, fix: &str| ConfigErrors {
            file: file.to_owned(),
            list: vec![ConfigError { line, key: String::new(), problem, fix: fix.into() }],
        };
        // YAML knows more line ends than editors do, and an error at the end lies below the last line.
        let last = text.lines().count().max(1);
        let lines = Lines::read(text, last)
            .map_err(|line| fatal(line, "not a configuration: it is nested too deeply".into(), ""))?;
        let parsed = serde_yaml::from_str::<Yaml>(text).and_then(|mut yaml| {
            yaml.apply_merge()?;
            Ok(yaml)
        });
        let yaml = parsed.map_err(|error| {
            let line = error.location().map_or(1, |location| location.line()).clamp(1, last);
            fatal(line, format!("not YAML: {error}"), "check indentation, colons and quotes")
        })?;
        if !yaml.is_mapping() {
            let fix = "`pushbutton-bin init` writes a file to start from";
            return Err(fatal(1, "the file is not a mapping of keys to values".into(), fix));
        }
        let root = Node { line: 1, value: Value::Null };
        let mut document = Self {
            root,
            file: file.to_owned(),
            needs,
            errors: Vec::new(),
            files: BTreeSet::new(),
            unresolved: Vec::new(),
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        document.root = document.convert(yaml, Some(&lines), 1, &mut KeyPath::default(), folder, env);
        document.resolve_paths(folder, env);
        Ok(document)
    }

    fn is_unused(&self, at: &KeyPath) -> bool {
        matches!(at.0.first(), Some(Step::Key(section)) if !self.needs.reads_files_of(section))
    }

    /// Adds an error.
    pub(crate) fn error(&mut self, at: &KeyPath, problem: impl Into<String>, fix: impl Into<String>) {
        let error = ConfigError {
            line: self.root.line_of(&at.0),
            key: at.to_string(),
            problem: problem.into(),
            fix: fix.into(),
        };
        let cause = self.unresolved.iter().find(|unresolved| unresolved.key == error.key);
        let error = cause.cloned().unwrap_or(error);
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Whether this value has an error already: its consequences are not reported too.
    pub(crate) fn has_error(&self, at: &KeyPath) -> bool {
        let key = at.to_string();
        self.errors.iter().any(|error| error.key == key)
    }

    /// All errors, ordered by line; `Ok` when there is none.
    pub(crate) fn finish(&mut self) -> Result<(), ConfigErrors> {
        let mut list = std::mem::take(&mut self.errors);
        if list.is_empty() {
            return Ok(());
        }
        list.sort_by_key(|error| error.line);
        Err(ConfigErrors { file: self.file.clone(), list })
    }

    /// Joins serde_yaml's values and saphyr-parser's lines. A value without a line of its own (the target of an alias,
    /// a merged key) has the line of the nearest value above it.
    fn convert(
        &mut self,
        yaml: Yaml,
        lines: Option<&Lines>,
        above: usize,
        at: &mut KeyPath,
        folder: &Path,
        env: Env<'_>,
    ) -> Node {
        let line = lines.map_or(above, |lines| lines.line);
        let child = |document: &mut Self, at: &mut KeyPath, yaml, name: &str, step| {
            at.0.push(step);
            let lines = lines.and_then(|lines| lines.children.get(name));
            let node = document.convert(yaml, lines, line, at, folder, env);
            at.0.pop();
            node
        };
        let value = match yaml {
            Yaml::Null => Value::Null,
            Yaml::Bool(truth) => Value::Bool(truth),
            Yaml::Number(number) => Value::Number(number),
            Yaml::String(text) => {
                self.files.extend(interpolate::files(&text, folder, env));
                match interpolate::fill(&text, folder, env) {
                    Ok(None) => Value::Text(text),
                    Ok(Some(filled)) => Value::Filled { text: filled.text, whole: filled.whole },
                    Err((problem, fix)) if self.is_unused(at) => {
                        self.unresolved.push(ConfigError { line, key: at.to_string(), problem, fix });
                        Value::Text(text)
                    }
                    Err((problem, fix)) => {
                        self.error_on(line, at, problem, fix);
                        Value::Text(text)
                    }
                }
            }
            Yaml::Sequence(list) => Value::List(
                (0..)
                    .zip(list)
                    .map(|(n, yaml)| child(self, at, yaml, &n.to_string(), Step::Index(n)))
                    .collect(),
            ),
            Yaml::Mapping(mapping) => {
                let mut map = BTreeMap::new();
                for (key, yaml) in mapping {
                    let key = match key {
                        Yaml::String(key) => key,
                        Yaml::Number(key) => key.to_string(),
                        Yaml::Bool(key) => key.to_string(),
                        _ => {
                            let problem = "a key is neither text nor a number";
                            self.error_on(line, at, problem.into(), "use plain text".into());
                            continue;
                        }
                    };
                    let node = child(self, at, yaml, &key, Step::Key(key.clone()));
                    map.insert(key, node);
                }
                Value::Map(map)
            }
            Yaml::Tagged(tagged) => {
                let problem = format!("the tag {} is not supported", tagged.tag);
                self.error_on(line, at, problem, "leave it out".into());
                return self.convert(tagged.value, lines, line, at, folder, env);
            }
        };
        Node { line, value }
    }

    fn error_on(&mut self, line: usize, at: &KeyPath, problem: String, fix: String) {
        self.errors.push(ConfigError { line, key: at.to_string(), problem, fix });
    }

    /// Makes every path absolute, and checks it.
    fn resolve_paths(&mut self, folder: &Path, env: Env<'_>) {
        for (pattern, check) in PATHS {
            let pattern: Vec<&str> = pattern.split('.').collect();
            let mut found = Vec::new();
            matching(&self.root, &pattern, &KeyPath::default(), &mut found);
            for at in found {
                if self.has_error(&at) {
                    continue;
                }
                let Some(node) = self.root.get_mut(&at.0) else { continue };
                let Some(text) = node.text() else { continue };
                // A command without a slash is looked up in PATH by the system.
                if *check == PathCheck::Program && !text.contains('/') {
                    continue;
                }
                let path = paths::absolute(text, folder, env);
                node.value = Value::Text(path.display().to_string());
                if self.is_unused(&at) {
                    continue;
                }
                if let Some((problem, fix)) = check.problem(&path) {
                    self.error(&at, problem, fix);
                }
            }
        }
    }
}

/// All places that a pattern such as `machines.*.key_file` stands for.
fn matching(node: &Node, pattern: &[&str], at: &KeyPath, found: &mut Vec<KeyPath>) {
    let Some((first, rest)) = pattern.split_first() else {
        found.push(at.clone());
        return;
    };
    match &node.value {
        Value::Map(map) => {
            for (key, node) in map.iter().filter(|(key, _)| *first == "*" || first == key) {
                matching(node, rest, &at.key(key), found);
            }
        }
        Value::List(list) if *first == "*" => {
            for (index, node) in list.iter().enumerate() {
                matching(node, rest, &at.index(index), found);
            }
        }
        _ => {}
    }
}
