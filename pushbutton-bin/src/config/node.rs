//! The configuration as a tree in which every value knows its line, and the paths of its values.

use std::collections::BTreeMap;
use std::fmt;

/// A value and the line on which it begins.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(serde_yaml::Number),
    Text(String),
    /// Text from the environment or from a file: perhaps secret. `whole`: the scalar was one reference and nothing
    /// else, so it may stand for a number or a boolean too.
    Filled {
        text: String,
        whole: bool,
    },
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
    /// Fits any type. It stands in for a value that is wrong or missing, so that reading goes on to the next error.
    Placeholder,
}

/// The way from the top of the document to a value, as `jobs.tempest.stages[1].playbook`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyPath(pub(crate) Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The path of a section.
    pub(crate) fn section(name: &str) -> Self {
        Self::default().key(name)
    }

    pub(crate) fn key(&self, key: impl Into<String>) -> Self {
        self.step(Step::Key(key.into()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// The last key, not counting indices.
    pub(crate) fn last_key(&self) -> &str {
        let key = self.0.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        key.unwrap_or("")
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Node {
    fn child(&self, step: &Step) -> Option<&Self> {
        match (&self.value, step) {
            (Value::Map(map), Step::Key(key)) => map.get(key),
            (Value::List(list), Step::Index(index)) => list.get(*index),
            _ => None,
        }
    }

    pub(crate) fn get(&self, path: &[Step]) -> Option<&Self> {
        path.iter().try_fold(self, Self::child)
    }

    pub(crate) fn get_mut(&mut self, path: &[Step]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, step| match (&mut node.value, step) {
            (Value::Map(map), Step::Key(key)) => map.get_mut(key),
            (Value::List(list), Step::Index(index)) => list.get_mut(*index),
            _ => None,
        })
    }

    /// How many steps of the path lead to a value.
    pub(crate) fn depth_of(&self, path: &[Step]) -> usize {
        (0..path.len())
            .rev()
            .map(|depth| depth + 1)
            .find(|depth| self.get(&path[..*depth]).is_some())
            .unwrap_or(0)
    }

    /// The line of the value at the path, or of the nearest one above it.
    pub(crate) fn line_of(&self, path: &[Step]) -> usize {
        self.get(&path[..self.depth_of(path)]).map_or(self.line, |node| node.line)
    }

    /// The keys of a mapping; none for anything else.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let map = if let Value::Map(map) = &self.value { Some(map) } else { None };
        map.into_iter().flatten().map(|(key, _)| key.as_str())
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Filled { text, .. } => Some(text),
            _ => None,
        }
    }
}
