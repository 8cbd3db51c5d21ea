//! The line of every key and list element of a YAML text. serde_yaml keeps no positions, so saphyr-parser reads the text as well.

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
    /// Its key or index in the collection around it; none when it is itself a key, which a configuration cannot have.
    name: Option<String>,
    is_list: bool,
    lines: Lines,
    /// The key whose value comes next, and its line.
    key: Option<(String, usize)>,
}

impl Open {
    /// The name and line of the next value. None when the next node is a key.
    fn next_name(&mut self, line: usize) -> Option<(String, usize)> {
        if self.is_list { Some((self.lines.children.len().to_string(), line)) } else { self.key.take() }
    }
}

impl Lines {
    /// Reads the text; `last` is its last line. What cannot be read has no lines.
    ///
    /// # Errors
    /// The line on which the text is nested too deeply. serde_yaml must not see such a text: it takes time quadratic in the depth.
    pub(crate) fn read(text: &str, last: usize) -> Result<Self, usize> {
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(event) => event,
                // Its own limit for brackets, which it looks at before they become events.
                Err(error) if error.info().contains("recursion limit") => {
                    return Err(error.marker().line().clamp(1, last));
                }
                Err(_) => break,
            };
            let line = span.start.line().clamp(1, last);
            let is_list = matches!(event, Event::SequenceStart(..));
            match event {
                Event::Scalar(..) | Event::Alias(_) => {
                    let Some(top) = open.last_mut() else { break };
                    match top.next_name(line) {
                        Some((name, line)) => {
                            top.lines.children.insert(name, Self { line, children: HashMap::new() });
                        }
                        None => {
                            let key =
                                if let Event::Scalar(key, ..) = event { key.into() } else { String::new() };
                            top.key = Some((key, line));
                        }
                    }
                }
                Event::MappingStart(..) | Event::SequenceStart(..) if open.len() < MAX_DEPTH => {
                    let place = match open.last_mut() {
                        Some(top) => top.next_name(line),
                        None => Some((String::new(), line)),
                    };
                    let (name, line) = place.map_or((None, line), |(name, line)| (Some(name), line));
                    let lines = Self { line, children: HashMap::new() };
                    open.push(Open { name, is_list, lines, key: None });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    let Some(Open { name, lines, .. }) = open.pop() else { break };
                    let Some(top) = open.last_mut() else { return Ok(lines) };
                    match name {
                        Some(name) => drop(top.lines.children.insert(name, lines)),
                        None => top.key = Some((String::new(), lines.line)),
                    }
                }
                Event::MappingStart(..) | Event::SequenceStart(..) => return Err(line),
                _ => {}
            }
        }
        // The rest is lost when serde_yaml accepts what saphyr-parser refuses; what was read stays.
        let mut inner: Option<(Option<String>, Self)> = None;
        while let Some(Open { name, mut lines, .. }) = open.pop() {
            if let Some((Some(name), inner)) = inner.take() {
                lines.children.insert(name, inner);
            }
            inner = Some((name, lines));
        }
        Ok(inner.map_or_else(|| Self { line: 1, ..Self::default() }, |(_, lines)| lines))
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
