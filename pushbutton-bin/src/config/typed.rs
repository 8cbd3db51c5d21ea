//! From values to the parts' own types, collecting every fault on the way.
//!
//! serde stops at the first fault. So that a file with five faults shows all five, what is wrong is noted, mended in a copy (an unknown
//! key is dropped, a wrong value replaced by something that fits) and read again, until the copy is well or cannot be mended.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_path_to_error::Segment;

use super::fault::suggest;
use super::key_path::KeyPath;
use super::tree::Tree;

/// More faults than this in one section are not worth a person's time at once.
const MOST_FAULTS: usize = 50;

/// One complaint of serde, with its place below the section.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Complaint {
    at: KeyPath,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A key that nobody knows, and those that are known. `at` is the key itself.
    Unknown(Vec<String>),
    /// A key that must be there. `at` is the key itself.
    Missing,
    /// Anything else.
    Wrong(String),
}

/// Reads the section at `at`; none when it has a fault. A section that is not there is read as an empty one.
pub(crate) fn read<T: DeserializeOwned>(tree: &mut Tree, at: &KeyPath) -> Option<T> {
    let mut copy = at.get(&tree.root).cloned().unwrap_or_else(|| json!({}));
    let mut well = true;
    for _ in 0..MOST_FAULTS {
        let complaint = match attempt::<T>(&copy) {
            Ok(value) => return well.then_some(value),
            Err(complaint) => complaint,
        };
        if number_from_text(tree, at, &complaint, &mut copy) {
            continue;
        }
        well = false;
        note(tree, at, &complaint, &copy);
        if !mend::<T>(&complaint, &mut copy) {
            return None;
        }
    }
    None
}

/// The keys that a section may have, as serde tells them when it meets one that it does not know.
#[cfg(test)]
pub(crate) fn known_keys<T: DeserializeOwned>() -> Vec<String> {
    match attempt::<T>(&json!({ "no such key": 0 })) {
        Err(Complaint { kind: Kind::Unknown(known), .. }) => known,
        _ => Vec::new(),
    }
}

fn attempt<T: DeserializeOwned>(value: &Value) -> Result<T, Complaint> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut at = KeyPath::top();
        for segment in error.path() {
            at = match segment {
                Segment::Seq { index } => at.index(*index),
                Segment::Map { key } => at.key(key),
                Segment::Enum { variant } => at.key(variant),
                Segment::Unknown => at,
            };
        }
        // A path leads on into a variant's name where the value is just that name.
        while at.get(value).is_none()
            && at.parent().is_some_and(|above| above.get(value).is_none_or(Value::is_string))
        {
            at = at.parent().unwrap_or_default();
        }
        complaint(at, &error.inner().to_string())
    })
}

fn complaint(at: KeyPath, message: &str) -> Complaint {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut names = quoted(rest);
        let key = if names.is_empty() { String::new() } else { names.remove(0) };
        // serde's path may already end in the key, and may not.
        let at = if at.last_key() == key { at } else { at.key(key) };
        return Complaint { at, kind: Kind::Unknown(names) };
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        let key = quoted(rest).pop().unwrap_or_default();
        return Complaint { at: at.key(key), kind: Kind::Missing };
    }
    Complaint { at, kind: Kind::Wrong(message.to_owned()) }
}

/// The names between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `${PORT}` is text, but may stand where a number or a truth value belongs.
fn number_from_text(tree: &Tree, section: &KeyPath, complaint: &Complaint, copy: &mut Value) -> bool {
    if tree.filled.get(&section.join(&complaint.at)) != Some(&true) {
        return false;
    }
    let Some(Value::String(text)) = complaint.at.get(copy) else { return false };
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => complaint.at.put(copy, value),
        _ => false,
    }
}

/// Says what is wrong, without any value that may be a secret.
fn note(tree: &mut Tree, section: &KeyPath, complaint: &Complaint, copy: &Value) {
    let place = section.join(&complaint.at);
    if tree.is_faulty(&place) {
        return;
    }
    match &complaint.kind {
        Kind::Unknown(known) => {
            let remedy = suggest(place.last_key(), known.iter().map(String::as_str));
            tree.fault(&place, "unknown key", remedy);
        }
        Kind::Missing => {
            let explain = place.parent().map_or_else(String::new, |above| above.to_string());
            let remedy = if explain.is_empty() { "add it".into() } else { format!("add it below {explain}") };
            tree.fault(&place, "this key is missing", remedy);
        }
        Kind::Wrong(message) => {
            let secret = is_secret(&place) || tree.filled.contains_key(&place);
            let (what, remedy) = describe(message, complaint.at.get(copy), secret);
            tree.fault(&place, what, remedy);
        }
    }
}

/// Keys whose values are never shown.
fn is_secret(place: &KeyPath) -> bool {
    let key = place.to_string().to_lowercase();
    ["password", "secret", "token", "credential", "passphrase", "url"].iter().any(|word| key.contains(word))
}

/// serde's words, as a person would say them.
fn describe(message: &str, value: Option<&Value>, secret: bool) -> (String, String) {
    if let Some((_, expected)) =
        message.split_once(", expected ").filter(|_| message.starts_with("invalid type: "))
    {
        let found = match value {
            None | Some(Value::Null) => "nothing",
            Some(Value::Bool(_)) => "a truth value",
            Some(Value::Number(_)) => "a number",
            Some(Value::String(_)) => "text",
            Some(Value::Array(_)) => "a list",
            Some(Value::Object(_)) => "a mapping",
        };
        let wants_text = matches!(expected, "a string" | "a borrowed string" | "path string" | "path String");
        let expected = match expected {
            _ if wants_text => "text",
            "a sequence" => "a list",
            "a map" => "a mapping",
            "a boolean" => "true or false",
            expected if expected.starts_with("struct ") => "a mapping",
            expected if expected.starts_with(['u', 'i']) && expected[1..].parse::<u8>().is_ok() => "a number",
            expected => expected,
        };
        let remedy = match value {
            Some(Value::Number(_) | Value::Bool(_)) if wants_text => "put it in quotes",
            _ if expected == "a list" => "write it as [a, b], or one `- a` a line",
            _ => "",
        };
        return (format!("{found}, where {expected} belongs"), remedy.into());
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let mut names = quoted(rest);
        let wrong = if names.is_empty() { String::new() } else { names.remove(0) };
        return (format!("{wrong:?} is not known here"), suggest(&wrong, names.iter().map(String::as_str)));
    }
    if secret {
        return ("this value does not fit (it is not shown: it may be a secret)".into(), "check it".into());
    }
    (message.to_owned(), String::new())
}

/// Makes the copy one fault better, so that the next one shows. What it then holds is never used.
fn mend<T: DeserializeOwned>(complaint: &Complaint, copy: &mut Value) -> bool {
    let at = &complaint.at;
    if matches!(complaint.kind, Kind::Unknown(_)) {
        return at.remove(copy).is_some();
    }
    // Without the key, if it may be left out.
    let mut without = copy.clone();
    if at.remove(&mut without).is_some() && is_past::<T>(&without, at) {
        *copy = without;
        return true;
    }
    let mut fillers = vec![
        json!("x"),
        json!("1s"),
        json!(1),
        json!(true),
        json!([]),
        json!({}),
        json!("127.0.0.1:1"),
        json!("http://x"),
        json!(["x"]),
        json!("refs/x"),
    ];
    if let Kind::Wrong(message) = &complaint.kind {
        // The names of an enum's variants.
        fillers.extend(quoted(message).into_iter().skip(1).map(Value::String));
    }
    for filler in fillers {
        let mut filled = copy.clone();
        if at.put(&mut filled, filler) && is_past::<T>(&filled, at) {
            *copy = filled;
            return true;
        }
    }
    false
}

/// Whether reading gets past this place.
fn is_past<T: DeserializeOwned>(value: &Value, at: &KeyPath) -> bool {
    attempt::<T>(value).map_or_else(|next| !at.contains(&next.at) && !next.at.contains(at), |_| true)
}

#[cfg(test)]
#[path = "typed_tests.rs"]
mod tests;
