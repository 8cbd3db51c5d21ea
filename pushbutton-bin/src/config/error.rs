//! The errors of a configuration file: each with its line, its key and how to fix it.

use std::fmt;
use std::path::PathBuf;

use pushbutton_core::text;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// The line in the file, from 1.
    pub(crate) line: usize,
    /// The key, as `jobs.tempest.node`; empty for the whole file.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) problem: String,
    /// How to fix it; empty when the problem already says so.
    pub(crate) fix: String,
}

/// All errors of one file, ordered by line.
#[derive(Debug)]
pub(crate) struct ConfigErrors {
    pub(crate) file: PathBuf,
    pub(crate) list: Vec<ConfigError>,
}

impl ConfigErrors {
    /// Each error on one line, which begins with its place.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|ConfigError { line, key, problem, fix }| {
            let at = if key.is_empty() { String::new() } else { format!("{key}: ") };
            let fix = if fix.is_empty() { String::new() } else { format!("; {fix}") };
            format!("{}:{line}: {at}{problem}{fix}", self.file.display())
        })
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(f, "{line}")?;
        }
        match self.list.len() {
            1 => f.write_str("1 error: nothing was started"),
            n => write!(f, "{n} errors: nothing was started"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// Says which of the known names was probably meant, as `did you mean "retries"?`, or lists them all.
pub(crate) fn suggest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match text::suggest(wrong, known.iter().copied()) {
        Some(name) => format!("did you mean {name:?}?"),
        None if known.is_empty() => "none is defined".into(),
        None => format!("known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_strange_one_is_not() {
        let known = ["host", "port", "key_file", "known_hosts"];
        assert_eq!(suggest("hsot", known), "did you mean \"host\"?");
        assert_eq!(suggest("keyfile", known), "did you mean \"key_file\"?");
        assert_eq!(suggest("Port", known), "did you mean \"port\"?");
        assert_eq!(suggest("banana", known), "known are host, port, key_file, known_hosts");
    }

    #[test]
    fn an_error_is_one_line_that_an_editor_can_jump_to() {
        let error = |line, key: &str, fix: &str| ConfigError {
            line,
            key: key.into(),
            problem: "is wrong".into(),
            fix: fix.into(),
        };
        let list = vec![error(3, "x.y", "fix it"), error(1, "", "")];
        assert_eq!(
            ConfigErrors { file: "a.yml".into(), list }.to_string(),
            "a.yml:3: x.y: is wrong; fix it\na.yml:1: is wrong\n2 errors: nothing was started"
        );
    }
}
