//! What is wrong with a configuration: every fault with its place and its remedy.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The line in the file; from 1.
    pub(crate) line: usize,
    /// The key, as `jobs.tempest.node`; empty for the whole file.
    pub(crate) place: String,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do; empty when the first part says it all.
    pub(crate) remedy: String,
}

/// All that is wrong with one file, in the order of its lines.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) file: PathBuf,
    pub(crate) list: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.list {
            write!(f, "{}:{}: ", self.file.display(), fault.line)?;
            if !fault.place.is_empty() {
                write!(f, "{}: ", fault.place)?;
            }
            f.write_str(&fault.what)?;
            if !fault.remedy.is_empty() {
                write!(f, "; {}", fault.remedy)?;
            }
            f.write_str("\n")?;
        }
        match self.list.len() {
            1 => f.write_str("1 fault: nothing was started"),
            n => write!(f, "{n} faults: nothing was started"),
        }
    }
}

impl std::error::Error for Faults {}

/// Names that are longer are not compared letter by letter: that takes a table of all letters by all letters.
const LONGEST_NAME: usize = 100;

/// Says which of the known names was meant: `did you mean "retries"?`, or lists them all.
pub(crate) fn suggest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let short = |name: &&&str| wrong.len().max(name.len()) <= LONGEST_NAME;
    let nearest = known.iter().filter(short).map(|name| (distance(wrong, name), *name)).min();
    match nearest {
        // A third of the letters may be wrong: more is another word.
        Some((errors, name)) if errors <= 1 + wrong.len().min(name.len()) / 4 => {
            format!("did you mean {name:?}?")
        }
        None if known.is_empty() => "none is defined".into(),
        _ => format!("known are {}", known.join(", ")),
    }
}

/// How many letters must be added, dropped, changed or swapped with their neighbour (the restricted Damerau-Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let above = &rows[i - 1];
            let changed = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
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
    fn a_fault_is_one_line_that_an_editor_can_jump_to() {
        let fault = |line, place: &str, remedy: &str| Fault {
            line,
            place: place.into(),
            what: "is wrong".into(),
            remedy: remedy.into(),
        };
        let faults =
            Faults { file: "a.yml".into(), list: vec![fault(3, "x.y", "mend it"), fault(1, "", "")] };
        assert_eq!(
            faults.to_string(),
            "a.yml:3: x.y: is wrong; mend it\na.yml:1: is wrong\n2 faults: nothing was started"
        );
    }
}
