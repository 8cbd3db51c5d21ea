//! Replaces secrets in text by asterisks.

use std::collections::BTreeMap;

use aho_corasick::AhoCorasick;
use secrecy::{ExposeSecret, SecretString};

use crate::error::config;

pub(crate) const MASK: &str = "********";
/// A shorter secret is not redacted: it would be found inside ordinary words. `check` warns about it.
pub(crate) const MIN_SECRET: usize = 4;
/// The longest pattern. [`crate::console`] keeps this much beyond a line's limit, so that a secret at the limit is
/// redacted before it is cut.
pub(crate) const MAX_SECRET: usize = 4096;

/// Finds secrets in text.
#[derive(Debug, Clone)]
pub(crate) struct Redactor(AhoCorasick);

impl Redactor {
    pub(crate) fn new(secrets: &BTreeMap<String, SecretString>) -> pushbutton_core::Result<Self> {
        let mut patterns = Vec::new();
        for secret in secrets.values() {
            let secret = secret.expose_secret();
            // A secret of several lines is printed line by line. Ansible prints results as JSON, which escapes quotes
            // and backslashes.
            for part in std::iter::once(secret).chain(secret.lines()) {
                let json = serde_json::Value::from(part).to_string();
                patterns.extend(json.get(1..json.len() - 1).map(str::to_owned));
                patterns.push(part.to_owned());
            }
        }
        patterns.retain(|pattern| (MIN_SECRET..=MAX_SECRET).contains(&pattern.len()));
        let automaton = AhoCorasick::new(patterns);
        automaton.map(Self).map_err(|error| config("too many secrets in `ansible.secrets`").because(error))
    }

    /// The text with each secret replaced by asterisks. Where secrets overlap, all of what they cover is replaced.
    pub(crate) fn redact(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.redact_bytes(text.as_bytes())).into_owned()
    }

    /// [`redact`](Self::redact) for text that may not be UTF-8.
    pub(crate) fn redact_bytes(&self, text: &[u8]) -> Vec<u8> {
        let mut covered: Vec<(usize, usize)> = Vec::new();
        for found in self.0.find_overlapping_iter(text) {
            // Matches come in the order of their ends.
            let (mut start, end) = (found.start(), found.end());
            while let Some((before, _)) = covered.pop_if(|(_, before_end)| start < *before_end) {
                start = start.min(before);
            }
            covered.push((start, end));
        }
        let mut redacted = Vec::with_capacity(text.len());
        let mut copied = 0;
        for (start, end) in covered {
            redacted.extend_from_slice(text.get(copied..start).unwrap_or_default());
            redacted.extend_from_slice(MASK.as_bytes());
            copied = end;
        }
        redacted.extend_from_slice(text.get(copied..).unwrap_or_default());
        redacted
    }

    /// The bytes with each secret replaced by as many asterisks.
    pub(crate) fn mask_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut masked = bytes.to_vec();
        for found in self.0.find_overlapping_iter(bytes) {
            masked.get_mut(found.range()).unwrap_or_default().fill(b'*');
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(secrets: &[&str], text: &str) -> String {
        let named = secrets.iter().enumerate();
        let secrets = named.map(|(n, secret)| (format!("s{n}"), SecretString::from(*secret))).collect();
        Redactor::new(&secrets).unwrap().redact(text)
    }

    #[test]
    fn a_secret_is_redacted_as_it_is_as_json_and_line_by_line() {
        let secrets = ["pa\"ss\\word", "-----BEGIN-----\nMIIabcdef\n-----END-----"];
        assert_eq!(redacted(&secrets, r#"x pa"ss\word y"#), "x ******** y");
        assert_eq!(redacted(&secrets, r#"{"msg": "pa\"ss\\word"}"#), r#"{"msg": "********"}"#);
        assert_eq!(redacted(&secrets, "MIIabcdef"), "********");
        assert_eq!(redacted(&["\"quoted\""], r#"{"msg": "\"quoted\""}"#), r#"{"msg": "********"}"#);
    }

    #[test]
    fn the_longer_secret_wins_over_one_inside_it() {
        assert_eq!(redacted(&["abcd", "abcdefgh"], "abcdefgh"), "********");
        assert_eq!(redacted(&["efgh", "abcdefghij", "bcde"], "xabcdefghijx"), "x********x");
    }

    #[test]
    fn of_overlapping_secrets_no_part_is_shown() {
        assert_eq!(
            redacted(&["abcdef", "defghi"], "<abcdefghi> <abcdef> <abcdefabcdef>"),
            "<********> <********> <****************>"
        );
    }

    #[test]
    fn a_secret_as_short_as_a_word_is_not_redacted() {
        assert_eq!(redacted(&["a", ""], "a cat"), "a cat");
    }
}
