//! The line of every key and list element of a YAML text. serde_yaml keeps no positions, so saphyr-parser reads the
//! text as well.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

/// Deeper than any configuration, and as deep as serde_yaml reads.
const MAX_DEPTH: usize = 128;

/// A value's line, and those of the values below it. List elements are found by their index as text.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) line: usize,
    pub(crate) children: HashMap<String, Lines>,
}

/// A mapping or list that is not complete yet.
struct Open {
    /// Its key or index in the collection around it.
    name: String,
    is_list: bool,
    entries: usize,
    /// The key whose value comes next, and its line.
    key: Option<(String, usize)>,
}

impl Lines {
    /// Reads the text; `last` is its last line. Without errors of its own: serde_yaml reports what is not YAML.
    ///
    /// # Errors
    /// The line on which the text is nested too deeply. serde_yaml must not see such a text: it takes time quadratic in
    /// the depth.
    pub(crate) fn read(text: &str, last: usize) -> Result<Self, usize> {
        let mut root = Self { line: 1, ..Self::default() };
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(event) => event,
                // Its own limit for brackets, which it checks before they become events.
                Err(error) if error.info().contains("recursion limit") => {
                    return Err(error.marker().line().clamp(1, last));
                }
                Err(_) => break,
            };
            let line = span.start.line().clamp(1, last);
            // Only a scalar can be the key of a configuration: any other key has an empty name.
            let (scalar, is_list) = match event {
                Event::Scalar(text, ..) => (Some(text), None),
                Event::Alias(_) => (None, None),
                Event::MappingStart(..) => (None, Some(false)),
                Event::SequenceStart(..) => (None, Some(true)),
                Event::MappingEnd | Event::SequenceEnd => {
                    open.pop();
                    continue;
                }
                _ => continue,
            };
            let mut name = String::new();
            if let Some(parent) = open.last_mut() {
                let mut line = line;
                if parent.is_list {
                    name = parent.entries.to_string();
                    parent.entries += 1;
                } else if let Some(key) = parent.key.take() {
                    (name, line) = key;
                } else {
                    parent.key = Some((scalar.map_or_else(String::new, Into::into), line));
                    if is_list.is_none() {
                        continue;
                    }
                }
                let at =
                    open.iter().skip(1).try_fold(&mut root, |lines, open| lines.children.get_mut(&open.name));
                let Some(at) = at else { break };
                at.children.insert(name.clone(), Self { line, ..Self::default() });
            }
            if let Some(is_list) = is_list {
                if open.len() == MAX_DEPTH {
                    return Err(line);
                }
                open.push(Open { name, is_list, entries: 0, key: None });
            }
        }
        Ok(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `path line` for everything found, ordered by line.
    fn found(text: &str) -> Vec<String> {
        fn collect(lines: &Lines, path: &str, all: &mut Vec<(usize, String)>) {
            for (name, child) in &lines.children {
                let path = format!("{path}/{name}");
                collect(child, &path, all);
                all.push((child.line, path));
            }
        }
        let mut all = Vec::new();
        collect(&Lines::read(text, text.lines().count()).unwrap(), "", &mut all);
        all.sort();
        all.into_iter().map(|(line, path)| format!("{path} {line}")).collect()
    }

    #[test]
    fn mappings_and_lists_nest_in_block_and_flow_style() {
        let text = "# a comment\nowner: lab\njobs:\n  tempest:\n    stages:\n    - name: one\n      playbook: a.yml\n    - name: two\n    node: big\nlogs: {\n  dir: x,\n  url: [y]}\n";
        assert_eq!(
            found(text),
            [
                "/owner 2",
                "/jobs 3",
                "/jobs/tempest 4",
                "/jobs/tempest/stages 5",
                "/jobs/tempest/stages/0 6",
                "/jobs/tempest/stages/0/name 6",
                "/jobs/tempest/stages/0/playbook 7",
                "/jobs/tempest/stages/1 8",
                "/jobs/tempest/stages/1/name 8",
                "/jobs/tempest/node 9",
                "/logs 10",
                "/logs/dir 11",
                "/logs/url 12",
                "/logs/url/0 12",
            ]
        );
    }

    #[test]
    fn scalars_over_several_lines_anchors_and_strange_keys_move_nothing() {
        let text = "a: |\n  b: 1\n  # c: 2\n\n  - d\ne: &e\n  f: \"g: 4\n    h: 5\"\n? [x, y]\n: z\ni: *e\n? {j: k}\n: [1]\nl: m\n";
        assert_eq!(found(text), ["/a 1", "/e 6", "/e/f 7", "/i 11", "/ 12", "//0 13", "/l 14"]);
    }

    #[test]
    fn what_comes_before_an_error_is_kept() {
        assert_eq!(found("a: 1\nb:\n  c: 2\n  d: [\n"), ["/a 1", "/b 2", "/b/c 3", "/b/d 4"]);
    }
}
