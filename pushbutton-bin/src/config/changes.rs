//! What differs between the configuration that a process runs with and the file's, and whether that can be applied
//! while it runs.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::error::{ConfigError, ConfigErrors};
use super::needs::{Need, Needs};
use super::node::{KeyPath, Node, Value};

/// The keys that a reload applies, with all below them. A change of any other key needs a restart: a new key need not
/// be named here.
pub(crate) const RELOADED: [&str; 10] = [
    "cloud.nodes",
    "gerrit.comment",
    "gerrit.own_accounts",
    "handler",
    "jobs",
    "logs.keep",
    "machines",
    "operator",
    "supersede",
    "triggers",
];

/// Whether a reload applies this key.
pub(crate) fn is_reloaded(key: &str) -> bool {
    RELOADED.iter().any(|reloaded| is_at_or_below(key, reloaded))
}

fn is_at_or_below(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether a process with these needs uses a key at all. What it does not use may change.
fn is_used(needs: Needs, key: &str) -> bool {
    let section = key.split(['.', '[']).next().unwrap_or_default();
    let (handles, works) = (needs.gerrit != Need::Nothing, needs.stages != Need::Nothing);
    match section {
        "gerrit" | "triggers" | "handler" => handles,
        "cloud" | "machines" | "ansible" | "operator" | "sweep" => works,
        "jobs" | "supersede" => handles || works,
        // Who serves a dashboard shows the folder.
        "logs" if key == "logs.url" || key == "logs.keep" => works,
        _ => true,
    }
}

/// Where a configuration is from, and its values after references were filled in.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) needs: Needs,
    pub(crate) root: Node,
    pub(crate) files: Files,
}

impl fmt::Debug for Source {
    /// Without the values: some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// The files that a configuration was read from: the file itself, and those of `${file:PATH}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) paths: BTreeSet<PathBuf>,
    /// Of their content.
    digest: u64,
}

/// Larger files are not read to their end.
const LARGEST_FILE: usize = 4 << 20;

impl Files {
    /// These files as they are now.
    pub(crate) fn read(paths: BTreeSet<PathBuf>) -> Self {
        let mut hash = DefaultHasher::new();
        for path in &paths {
            let content = std::fs::read(path).map_err(|error| error.kind());
            content
                .map(|mut bytes| {
                    bytes.truncate(LARGEST_FILE);
                    bytes
                })
                .hash(&mut hash);
        }
        Self { paths, digest: hash.finish() }
    }

    /// The same files, as they are now.
    pub(crate) fn reread(&self) -> Self {
        Self::read(self.paths.clone())
    }
}

/// The keys whose values differ, each with its line in the new file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes(Vec<(String, usize)>);

impl Changes {
    /// What differs.
    pub(crate) fn between(old: &Source, new: &Source) -> Self {
        let mut changed = Vec::new();
        compare(&old.root, &new.root, &KeyPath::default(), &mut changed);
        let line = |at: &KeyPath| new.root.line_of(&at.0);
        // Keys that begin with x- are for anchors.
        let shown =
            changed.iter().map(|at| (at.to_string(), line(at))).filter(|(key, _)| !key.starts_with("x-"));
        Self(shown.collect())
    }

    /// Whether a key, one below it or a section above it differs.
    pub(crate) fn touch(&self, key: &str) -> bool {
        self.0.iter().any(|(changed, _)| is_at_or_below(changed, key) || is_at_or_below(key, changed))
    }

    /// The keys, of those that a process with these needs uses.
    pub(crate) fn keys(&self, needs: Needs) -> Vec<&str> {
        self.0.iter().map(|(key, _)| key.as_str()).filter(|key| is_used(needs, key)).collect()
    }

    /// Refuses changes that a process with these needs cannot apply while it runs.
    ///
    /// # Errors
    /// Each of them, with its line.
    pub(crate) fn check(&self, needs: Needs, file: &Path) -> Result<(), ConfigErrors> {
        let refused = self.0.iter().filter(|(key, _)| is_used(needs, key) && !is_reloaded(key));
        let mut list: Vec<ConfigError> = refused
            .map(|(key, line)| ConfigError {
                line: *line,
                key: key.clone(),
                problem: "this has changed, and a running process cannot apply it".into(),
                fix: "restart the process, or undo the change".into(),
            })
            .collect();
        list.sort_by_key(|error| error.line);
        if list.is_empty() { Ok(()) } else { Err(ConfigErrors { file: file.to_owned(), list }) }
    }
}

fn compare(old: &Node, new: &Node, at: &KeyPath, changed: &mut Vec<KeyPath>) {
    match (&old.value, &new.value) {
        (Value::Map(old), Value::Map(new)) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                let at = at.key(key);
                match (old.get(key), new.get(key)) {
                    (Some(old), Some(new)) => compare(old, new, &at, changed),
                    _ => changed.push(at),
                }
            }
        }
        (Value::List(old), Value::List(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(old, new, &at.index(index), changed);
            }
        }
        (Value::Null, Value::Null) | (Value::Placeholder, Value::Placeholder) => {}
        (Value::Bool(old), Value::Bool(new)) if old == new => {}
        (Value::Number(old), Value::Number(new)) if old == new => {}
        _ if old.text().is_some() && old.text() == new.text() => {}
        _ => changed.push(at.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::Document;

    fn source(text: &str) -> Source {
        let file = Path::new("/etc/pushbutton.yml");
        let env = |name: &str| (name == "SECRET").then(|| "hush".to_owned());
        let document = Document::read(text, file, Needs::ALL, &env).unwrap();
        Source { file: file.to_owned(), needs: Needs::ALL, root: document.root, files: Files::default() }
    }

    fn between(old: &str, new: &str) -> Changes {
        Changes::between(&source(old), &source(new))
    }

    #[test]
    fn values_count_and_not_how_they_are_written() {
        let old = "owner: lab\nweb: {listen: \"127.0.0.1:1\"}\nx-a: &a {b: 1}\nlist: [1, {c: hush}]\n";
        let new = "# new\nlist:\n- 1\n- c: ${SECRET}\nx-a: 7\nweb:\n  listen: 127.0.0.1:1\nowner: 'lab'\n";
        assert_eq!(between(old, new), Changes::default());
    }

    #[test]
    fn each_key_that_differs_has_its_line_in_the_new_file() {
        let old = "a: {b: 1, c: 2}\nlist: [1, 2]\nsame: [x]\ngone: 1\n";
        let new = "a:\n  b: 1\n  c: 3\nsame: [y]\nlist: [1]\nnew: 1\n";
        let expected = [("a.c", 3), ("gone", 1), ("list", 5), ("same[0]", 4), ("new", 6)];
        assert_eq!(between(old, new).0, expected.map(|(key, line)| (key.to_owned(), line)));
    }

    #[test]
    fn what_a_role_does_not_use_may_change() {
        let changes = between(
            "gerrit: {host: a}\ncloud: {cloud: a, nodes: {x: 1}}\nrabbitmq: {url: a}\n",
            "gerrit: {host: b}\ncloud: {cloud: b, nodes: {x: 2}}\nrabbitmq:\n  url: b\n",
        );
        let refused = |needs| {
            let errors = changes.check(needs, Path::new("a.yml")).unwrap_err();
            errors.list.into_iter().map(|error| (error.key, error.line)).collect::<Vec<_>>()
        };
        let (gerrit, cloud, broker) =
            (("gerrit.host".into(), 1), ("cloud.cloud".into(), 2), ("rabbitmq.url".into(), 4));
        assert_eq!(refused(Needs::ALL), [gerrit, cloud, broker]);
        assert_eq!(refused(Needs::HANDLER).len(), 2);
        assert_eq!(refused(Needs::OPERATOR)[0].0, "cloud.cloud");
        assert_eq!(refused(Needs::QUEUE)[0].0, "rabbitmq.url");
        assert_eq!(changes.keys(Needs::OPERATOR), ["cloud.cloud", "cloud.nodes.x", "rabbitmq.url"]);
    }

    #[test]
    fn a_section_that_comes_or_goes_touches_what_is_in_it() {
        let changes = between("gerrit: {host: a}\n", "gerrit: {host: a, comment: {name: CI}}\n");
        assert!(
            changes.touch("gerrit.comment.name") && changes.touch("gerrit") && !changes.touch("gerrit.host")
        );
        assert!(changes.check(Needs::ALL, Path::new("a.yml")).is_ok());
        // A cloud in the place of machines is no change of labels alone.
        let moved = between("machines: [{label: a}]\n", "cloud: {nodes: {a: 1}}\n");
        assert!(moved.check(Needs::ALL, Path::new("a.yml")).is_err());
    }

    #[test]
    fn every_reloaded_key_is_one_of_the_configuration() {
        for key in RELOADED {
            assert!(crate::config::SECTIONS.contains(&key.split('.').next().unwrap()), "{key}");
        }
        assert!(is_reloaded("jobs.a.stages[0].playbook") && !is_reloaded("jobsx") && !is_reloaded("cloud"));
    }
}
