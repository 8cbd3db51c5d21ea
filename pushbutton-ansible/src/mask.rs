use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

/// What stands in a secret's place.
const MASK: &str = "********";
/// A shorter secret stays unmasked: it would be found inside of ordinary words. `check` says so.
pub(crate) const SHORTEST: usize = 4;
/// The longest piece that is looked for. [`crate::console`] reads this much beyond a line's end, so that no piece is cut in two unseen.
pub(crate) const LONGEST: usize = 4096;

/// Finds secrets in text and hides them.
pub(crate) struct Masks(Vec<String>);

impl Masks {
    pub(crate) fn new(secrets: &BTreeMap<String, SecretString>) -> Self {
        let mut needles = Vec::new();
        for secret in secrets.values() {
            let secret = secret.expose_secret();
            // A key of several lines is printed line by line. Ansible prints results as JSON, which escapes quotes and backslashes.
            for piece in std::iter::once(secret).chain(secret.lines()) {
                let escaped = serde_json::to_string(piece).unwrap_or_default();
                needles.push(escaped.trim_matches('"').to_owned());
                needles.push(piece.to_owned());
            }
        }
        needles.retain(|needle| (SHORTEST..=LONGEST).contains(&needle.len()));
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        Self(needles)
    }

    pub(crate) fn hide(&self, mut text: String) -> String {
        for needle in &self.0 {
            if text.contains(needle) {
                text = text.replace(needle, MASK);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(secrets: &[&str]) -> Masks {
        let named = secrets.iter().enumerate();
        Masks::new(&named.map(|(n, secret)| (format!("s{n}"), SecretString::from(*secret))).collect())
    }

    #[test]
    fn a_secret_is_hidden_as_it_is_as_json_and_line_by_line() {
        let masks = masks(&["pa\"ss\\word", "-----BEGIN-----\nMIIabcdef\n-----END-----"]);
        assert_eq!(masks.hide(r#"x pa"ss\word y"#.into()), "x ******** y");
        assert_eq!(masks.hide(r#"{"msg": "pa\"ss\\word"}"#.into()), r#"{"msg": "********"}"#);
        assert_eq!(masks.hide("MIIabcdef".into()), "********");
    }

    #[test]
    fn the_longer_secret_wins_over_one_inside_of_it() {
        assert_eq!(masks(&["abcd", "abcdefgh"]).hide("abcdefgh".into()), "********");
    }

    #[test]
    fn a_secret_too_short_to_tell_from_words_hides_nothing() {
        assert_eq!(masks(&["a", ""]).hide("a cat".into()), "a cat");
    }
}
