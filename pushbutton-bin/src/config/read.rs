//! Reads a section into its type, and collects all errors on the way.
//!
//! serde stops at the first error. So each error is recorded, what caused it is replaced by a placeholder in a copy of
//! the section, and the copy is read again, until no new error is found.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_path_to_error::Segment;

use super::document::Document;
use super::error::suggest;
use super::node::{KeyPath, Node, Value};

/// A file with more errors in one section is not worth reading further.
const MAX_ERRORS: usize = 50;

/// The text of a placeholder: a name, a duration and a plain text in one.
const PLACEHOLDER_TEXT: &str = "1s";

/// Reads the section at `at`; none when it has an error. A section that is not there is read as an empty one.
pub(crate) fn read<T: DeserializeOwned>(document: &mut Document, at: &KeyPath) -> Option<T> {
    let empty = || Node { line: 1, value: Value::Map(BTreeMap::new()) };
    let mut copy = document.root.get(&at.0).cloned().unwrap_or_else(empty);
    let mut is_valid = true;
    for _ in 0..MAX_ERRORS {
        let error = match serde_path_to_error::deserialize::<_, T>(&copy) {
            Ok(value) => return is_valid.then_some(value),
            Err(error) => error,
        };
        is_valid = false;
        let path = path_of(&error, &copy);
        record(document, at, &path, error.inner(), &copy);
        if !replace(&mut copy, path, error.into_inner()) {
            return None;
        }
    }
    None
}

/// The keys that a section may have.
#[cfg(test)]
pub(crate) fn known_keys<T: DeserializeOwned>() -> &'static [&'static str] {
    let null = Node { line: 1, value: Value::Null };
    let node = Node { line: 1, value: Value::Map(BTreeMap::from([("no such key".to_owned(), null)])) };
    match T::deserialize(&node) {
        Err(Problem::UnknownKey { known, .. }) => known,
        _ => &[],
    }
}

/// The place of an error, as far as there is a value.
fn path_of(error: &serde_path_to_error::Error<Problem>, copy: &Node) -> KeyPath {
    let mut path = KeyPath::default();
    for segment in error.path() {
        path = match segment {
            Segment::Seq { index } => path.index(*index),
            Segment::Map { key } => path.key(key),
            Segment::Enum { variant } => path.key(variant),
            Segment::Unknown => path,
        };
    }
    let depth = copy.depth_of(&path.0);
    path.0.truncate(depth);
    // serde reports an unknown key at its mapping or at the key itself.
    if let Problem::UnknownKey { key, .. } = error.inner() {
        let inner = path.key(key);
        if copy.get(&inner.0).is_some() {
            return inner;
        }
    }
    if let Problem::MissingKey(key) = error.inner() {
        return path.key(*key);
    }
    path
}

/// Records an error, without any value that may be a secret. An error of a placeholder is none of the file.
fn record(document: &mut Document, section: &KeyPath, path: &KeyPath, problem: &Problem, copy: &Node) {
    let at = KeyPath([section.0.as_slice(), path.0.as_slice()].concat());
    let above = &path.0[..path.0.len().saturating_sub(1)];
    let is_placeholder =
        |node: Option<&Node>| node.is_some_and(|node| matches!(node.value, Value::Placeholder));
    let node = copy.get(&path.0);
    if document.has_error(&at) || is_placeholder(node) || is_placeholder(copy.get(above)) {
        return;
    }
    match problem {
        Problem::UnknownKey { known, .. } => {
            document.error(&at, "unknown key", suggest(at.last_key(), known.iter().copied()));
        }
        Problem::MissingKey(_) => {
            let above = KeyPath([section.0.as_slice(), above].concat());
            document.error(&at, "this key is missing", format!("add it below {above}"));
        }
        Problem::UnknownName { .. } | Problem::Other(_)
            if is_secret(&at) || matches!(node, Some(Node { value: Value::Filled { .. }, .. })) =>
        {
            document.error(&at, "this value does not fit (it is not shown: it may be a secret)", "check it");
        }
        Problem::UnknownName { name, known } => {
            document.error(&at, format!("{name:?} is not known here"), suggest(name, known.iter().copied()));
        }
        Problem::WrongType { expected } => {
            let (problem, fix) = wrong_type(node, expected);
            document.error(&at, problem, fix);
        }
        Problem::Other(message) => document.error(&at, message.clone(), ""),
    }
}

fn wrong_type(node: Option<&Node>, expected: &str) -> (String, &'static str) {
    let found = match node.map(|node| &node.value) {
        None | Some(Value::Null | Value::Placeholder) => "nothing",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::Text(_) | Value::Filled { .. }) => "text",
        Some(Value::List(_)) => "a list",
        Some(Value::Map(_)) => "a mapping",
    };
    let wants_text = expected.ends_with("string") || expected == "path String";
    let expected = match expected {
        _ if wants_text => "text",
        "a sequence" => "a list",
        "a map" => "a mapping",
        "a boolean" => "true or false",
        expected if expected.starts_with("struct ") => "a mapping",
        expected if expected.starts_with(['u', 'i']) && expected[1..].parse::<u8>().is_ok() => "a number",
        expected => expected,
    };
    let fix = match expected {
        "text" if matches!(found, "a number" | "a boolean") => "put it in quotes",
        "a list" => "write it as [a, b], or one `- a` per line",
        _ => "",
    };
    (format!("{found}, where {expected} belongs"), fix)
}

/// Keys whose values are never shown.
fn is_secret(at: &KeyPath) -> bool {
    let key = at.to_string().to_lowercase();
    ["password", "secret", "token", "credential", "passphrase", "url"].iter().any(|word| key.contains(word))
}

/// Replaces what caused the error, so that reading gets past it. What is read from the copy afterwards is never used.
fn replace(copy: &mut Node, mut path: KeyPath, problem: Problem) -> bool {
    if matches!(problem, Problem::UnknownKey { .. } | Problem::MissingKey(_)) {
        let above = &path.0[..path.0.len().saturating_sub(1)];
        let Some(above) = copy.get_mut(above) else { return false };
        if matches!(above.value, Value::Placeholder) {
            above.value = Value::Map(BTreeMap::new());
        }
        let Value::Map(map) = &mut above.value else { return false };
        let key = path.last_key().to_owned();
        return match problem {
            Problem::UnknownKey { .. } => map.remove(&key).is_some(),
            _ => map.insert(key, Node { line: above.line, value: Value::Placeholder }).is_none(),
        };
    }
    // A placeholder that does not fit moves one level up.
    while copy.get(&path.0).is_some_and(|node| matches!(node.value, Value::Placeholder)) {
        if path.0.pop().is_none() {
            return false;
        }
    }
    match copy.get_mut(&path.0) {
        Some(node) => node.value = Value::Placeholder,
        None => return false,
    }
    true
}

/// What serde has against a value.
#[derive(Debug)]
pub(crate) enum Problem {
    UnknownKey {
        key: String,
        known: &'static [&'static str],
    },
    MissingKey(&'static str),
    /// A name that is none of an enum's.
    UnknownName {
        name: String,
        known: &'static [&'static str],
    },
    WrongType {
        expected: String,
    },
    Other(String),
}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::WrongType { expected: expected.to_string() }
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownName { name: name.to_owned(), known }
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownKey { key: key.to_owned(), known }
    }

    fn missing_field(key: &'static str) -> Self {
        Self::MissingKey(key)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Problem {}

type Fields<'de> = MapDeserializer<'de, Box<dyn Iterator<Item = (&'de str, &'de Node)> + 'de>, Problem>;

fn fields(map: &BTreeMap<String, Node>) -> Fields<'_> {
    MapDeserializer::new(Box::new(map.iter().map(|(key, node)| (key.as_str(), node))))
}

impl<'de> IntoDeserializer<'de, Problem> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Node {
    fn deserialize_number<'de, V: Visitor<'de>>(&'de self, visitor: V) -> Result<V::Value, Problem> {
        match &self.value {
            Value::Placeholder => visitor.visit_u64(1),
            // `${PORT}` is text, but may stand for a number or a boolean.
            Value::Filled { text, whole: true } => match serde_yaml::from_str(text) {
                Ok(serde_yaml::Value::Bool(truth)) => visitor.visit_bool(truth),
                Ok(serde_yaml::Value::Number(number)) => visit_number(&number, visitor),
                _ => self.deserialize_any(visitor),
            },
            _ => self.deserialize_any(visitor),
        }
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: &serde_yaml::Number, visitor: V) -> Result<V::Value, Problem> {
    if let Some(number) = number.as_u64() {
        return visitor.visit_u64(number);
    }
    match (number.as_i64(), number.as_f64()) {
        (Some(number), _) => visitor.visit_i64(number),
        (None, Some(number)) => visitor.visit_f64(number),
        (None, None) => visitor.visit_unit(),
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            self.deserialize_number(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Number(number) => visit_number(number, visitor),
            Value::Text(text) | Value::Filled { text, .. } => visitor.visit_str(text),
            Value::List(list) => SeqDeserializer::new(list.iter()).deserialize_any(visitor),
            Value::Map(map) => fields(map).deserialize_any(visitor),
            Value::Placeholder => visitor.visit_str(PLACEHOLDER_TEXT),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.value {
            Value::Placeholder => visitor.visit_bool(true),
            _ => self.deserialize_number(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.value {
            Value::Null | Value::Placeholder => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.value {
            Value::Placeholder => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<&Node>())),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.value {
            Value::Placeholder => visitor.visit_map(Fields::new(Box::new(std::iter::empty()))),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_map(visitor)
    }

    /// A name, or a mapping of one name to what belongs to it.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let name = match &self.value {
            Value::Map(map) if map.len() == 1 => {
                return visitor.visit_enum(MapAccessDeserializer::new(fields(map)));
            }
            Value::Text(text) | Value::Filled { text, .. } => text.as_str(),
            Value::Placeholder => names.first().copied().unwrap_or_default(),
            _ => return Err(Problem::WrongType { expected: format!("one of {}", names.join(", ")) }),
        };
        visitor.visit_enum(StrDeserializer::new(name))
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
