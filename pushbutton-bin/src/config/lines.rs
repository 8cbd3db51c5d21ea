//! On which line of the YAML text a key stands. `serde_yaml` keeps no positions in its values, so this reads the text's indentation.
//!
//! It knows block mappings and sequences. What lies inside a flow collection (`{a: b}`) or a scalar of several lines has the line on
//! which that begins: [`Lines::of`] answers with the nearest known place above.

use std::collections::HashMap;

use super::key_path::{KeyPath, Step};

/// Deeper than the YAML parser goes. What only looks deeper is text in quotes, and each level costs the length of its path.
const DEEPEST: usize = 128;

/// The line of every key and element of a text.
#[derive(Debug, Default)]
pub(crate) struct Lines(HashMap<KeyPath, usize>);

/// A collection that is open where the scan stands.
struct Frame {
    column: usize,
    path: KeyPath,
    /// The step to its entry of the moment.
    at: Step,
}

impl Frame {
    fn is_sequence(&self) -> bool {
        matches!(self.at, Step::Index(_))
    }
}

impl Lines {
    /// Reads the text once.
    pub(crate) fn scan(text: &str) -> Self {
        let mut scan = Scan::default();
        for (at, line) in text.lines().enumerate() {
            scan.line(at + 1, line);
        }
        Self(scan.found)
    }

    /// The line of a path, or of the nearest thing above it that has one; 1 for the top.
    pub(crate) fn of(&self, path: &KeyPath) -> usize {
        let mut path = Some(path.clone());
        while let Some(here) = path {
            if let Some(line) = self.0.get(&here) {
                return *line;
            }
            path = here.parent();
        }
        1
    }
}

#[derive(Default)]
struct Scan {
    found: HashMap<KeyPath, usize>,
    frames: Vec<Frame>,
    /// The column of the key or dash whose value runs on: deeper lines belong to that value.
    value_of: Option<usize>,
}

impl Scan {
    fn line(&mut self, number: usize, line: &str) {
        let content = line.trim_start_matches(' ');
        let column = line.len() - content.len();
        if content.trim().is_empty() {
            return;
        }
        if let Some(owner) = self.value_of {
            // A closing bracket may stand below the key that opened it.
            if column > owner || content.starts_with([']', '}']) {
                return;
            }
            self.value_of = None;
        }
        if content.starts_with(['#', '%']) || content.starts_with("---") || content.starts_with("...") {
            return;
        }
        self.entry(number, column, content);
    }

    /// What begins at this column: an element, a key, or a scalar.
    fn entry(&mut self, number: usize, mut column: usize, mut content: &str) {
        loop {
            let after_mark = without_marks(content);
            column += content.len() - after_mark.len();
            content = after_mark;
            if let Some(rest) =
                content.strip_prefix('-').filter(|rest| rest.is_empty() || rest.starts_with(' '))
            {
                self.element(number, column);
                let value = rest.trim_start();
                if value.is_empty() || value.starts_with('#') {
                    return;
                }
                // Until a key shows up on the same line, deeper lines belong to the element's scalar.
                self.value_of = Some(column);
                column += content.len() - value.len();
                content = value;
            } else if let Some((key, value)) = split_key(content) {
                self.mapping_key(number, column, key);
                let value = without_marks(value.trim_start());
                self.value_of = (!value.is_empty() && !value.starts_with('#')).then_some(column);
                return;
            } else {
                return;
            }
        }
    }

    fn element(&mut self, number: usize, column: usize) {
        while self.frames.last().is_some_and(|top| top.column > column) {
            self.frames.pop();
        }
        match self.frames.last_mut() {
            Some(Frame { column: same, at: Step::Index(index), .. }) if *same == column => *index += 1,
            _ => self.open(column, Step::Index(0)),
        }
        self.note(number);
    }

    fn mapping_key(&mut self, number: usize, column: usize, key: String) {
        while self
            .frames
            .last()
            .is_some_and(|top| top.column > column || (top.column == column && top.is_sequence()))
        {
            self.frames.pop();
        }
        match self.frames.last_mut() {
            Some(top) if top.column == column => top.at = Step::Key(key),
            _ => self.open(column, Step::Key(key)),
        }
        self.note(number);
    }

    fn open(&mut self, column: usize, at: Step) {
        if self.frames.len() >= DEEPEST {
            return;
        }
        let path = self.frames.last().map_or_else(KeyPath::top, |top| top.path.step(top.at.clone()));
        self.frames.push(Frame { column, path, at });
    }

    fn note(&mut self, number: usize) {
        if let Some(top) = self.frames.last() {
            self.found.insert(top.path.step(top.at.clone()), number);
        }
    }
}

/// The text after anchors (`&name`) and tags (`!name`).
fn without_marks(mut text: &str) -> &str {
    while text.starts_with(['&', '!']) {
        text = text.find(' ').map_or("", |end| text[end..].trim_start());
    }
    text
}

/// Splits `key: value`; none when the line is a scalar or a flow collection.
fn split_key(content: &str) -> Option<(String, &str)> {
    if let Some(quote) = content.chars().next().filter(|first| matches!(first, '"' | '\'')) {
        let end = content[1..].find(quote)? + 1;
        let value = content[end + 1..].trim_start().strip_prefix(':')?;
        return Some((content[1..end].to_owned(), value));
    }
    if content.starts_with(['{', '[', '|', '>', '*', '?', ']', '}']) {
        return None;
    }
    let end = content
        .char_indices()
        .find(|(at, c)| *c == ':' && content[at + 1..].chars().next().is_none_or(|next| next == ' '))?
        .0;
    if content.find(" #").is_some_and(|comment| comment < end) {
        return None;
    }
    Some((content[..end].trim_end().to_owned(), &content[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `path line` for everything found, in the order of the lines.
    fn found(text: &str) -> Vec<String> {
        let mut all: Vec<_> = Lines::scan(text).0.into_iter().collect();
        all.sort_by_key(|(path, line)| (*line, path.to_string().len()));
        all.into_iter().map(|(path, line)| format!("{path} {line}")).collect()
    }

    #[test]
    fn mappings_and_sequences_nest() {
        let text = "# a comment\nowner: lab\n\njobs:\n  tempest:\n    stages:\n      - name: one\n        playbook: a.yml\n      -\n        name: two\n    node: big\nlogs: {dir: x, url: y}\n";
        assert_eq!(
            found(text),
            [
                "owner 2",
                "jobs 4",
                "jobs.tempest 5",
                "jobs.tempest.stages 6",
                "jobs.tempest.stages[0] 7",
                "jobs.tempest.stages[0].name 7",
                "jobs.tempest.stages[0].playbook 8",
                "jobs.tempest.stages[1] 9",
                "jobs.tempest.stages[1].name 10",
                "jobs.tempest.node 11",
                "logs 12",
            ]
        );
    }

    #[test]
    fn a_sequence_may_stand_under_its_key() {
        let text = "triggers:\n- name: a\n  jobs:\n  - x\n  - y\n- name: b\njobs: {}\n";
        assert_eq!(
            found(text),
            [
                "triggers 1",
                "triggers[0] 2",
                "triggers[0].name 2",
                "triggers[0].jobs 3",
                "triggers[0].jobs[0] 4",
                "triggers[0].jobs[1] 5",
                "triggers[1] 6",
                "triggers[1].name 6",
                "jobs 7",
            ]
        );
    }

    #[test]
    fn what_a_scalar_holds_is_no_key() {
        let text = "a: |\n  b: 1\n  # c: 2\n\n  - d\ne: >-\n  f: 3\ng: \"h: 4\n  i: 5\"\nj: [\n  k: 6,\n]\nl: plain text\n  - still text\n\"m n\": 'o: p'\nurl: http://x:80/y # note: z\nq: # r\n  s: 7\n";
        assert_eq!(found(text), ["a 1", "e 6", "g 8", "j 10", "l 13", "m n 15", "url 16", "q 17", "q.s 18"]);
    }

    #[test]
    fn anchors_and_nested_dashes_are_passed() {
        let text = "base: &base\n  a: 1\nlist:\n  - &x k: 1\n  - - deep\n    - deeper\n";
        assert_eq!(
            found(text),
            [
                "base 1",
                "base.a 2",
                "list 3",
                "list[0] 4",
                "list[0].k 4",
                "list[1] 5",
                "list[1][0] 5",
                "list[1][1] 6"
            ]
        );
    }

    #[test]
    fn an_unknown_place_has_the_line_of_the_nearest_known_one() {
        let lines = Lines::scan("a:\n  b: {c: 1}\n");
        let path = KeyPath::top().key("a").key("b").key("c");
        assert_eq!(lines.of(&path), 2);
        assert_eq!(lines.of(&KeyPath::top().key("zzz")), 1);
    }
}
