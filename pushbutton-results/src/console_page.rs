//! The console log as a page in which each line has an anchor, and where things are in it.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use aho_corasick::{AhoCorasick, MatchKind};
use flate2::Compression;
use flate2::write::GzEncoder;
use maud::{Markup, html};
use pushbutton_core::text::cut;

use crate::files::{open_plain, write_whole};
use crate::page::{END, begin, safe};
use crate::{CONSOLE_LOG, CONSOLE_PAGE};

/// So many lines from the beginning and from the end are in the page: more make browsers slow. The rest is in the text.
const FIRST_LINES: u64 = 20_000;
const LAST_LINES: u64 = 100_000;
/// The longest line in the page, in bytes.
const MAX_LINE: usize = 4 << 10;
/// So much of a line is read: console logs have lines of 64 KiB at most.
const MAX_READ: u64 = 256 << 10;
/// So many places that name a failed test are looked at. After each the search begins anew, so that one name that begins
/// like another is read again: a log that names tests everywhere would take the time of both lengths together.
const MAX_MENTIONS: usize = 1_000_000;
/// So many stages are found, also in a log that was made to look like thousands.
const MAX_STAGES: usize = 200;

/// Where things are in a console log, as numbers of lines, from 1. Only lines that the page has.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Places {
    /// Where each stage begins.
    pub(crate) stages: BTreeMap<String, u64>,
    /// Where each stage says what failed.
    pub(crate) faults: BTreeMap<String, u64>,
    /// Where each failed test is named, the line that says so where there is one.
    pub(crate) tests: BTreeMap<String, u64>,
}

/// Writes the page next to the log; none when there is no log. Blocks.
pub(crate) fn write(log_dir: &Path, failed_tests: &[&str]) -> io::Result<Option<Places>> {
    let path = log_dir.join(CONSOLE_LOG);
    let file = match open_plain(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // The log may grow meanwhile: both passes read the same part.
    let length = file.metadata()?.len();
    let (places, lines) = survey(BufReader::new(file.take(length)), failed_tests)?;
    let from = BufReader::new(open_plain(&path)?.take(length));
    write_whole(log_dir, CONSOLE_PAGE, |to| {
        let mut to = GzEncoder::new(to, Compression::default());
        render(from, lines, &places, &mut to)?;
        to.finish().map(drop)
    })?;
    Ok(Some(places.only_shown(lines)))
}

/// Whether the page has a line of a log with so many lines.
fn is_shown(line: u64, lines: u64) -> bool {
    line <= FIRST_LINES || line > lines.saturating_sub(LAST_LINES)
}

impl Places {
    fn only_shown(mut self, lines: u64) -> Self {
        for map in [&mut self.stages, &mut self.faults, &mut self.tests] {
            map.retain(|_, line| is_shown(*line, lines));
        }
        self
    }
}

/// Reads a log to its end: where things are in it, and how many lines it has.
fn survey(mut from: impl BufRead, failed_tests: &[&str]) -> io::Result<(Places, u64)> {
    // Runners leave out what follows the name in brackets.
    let stems: Vec<&str> =
        failed_tests.iter().map(|test| test.split('[').next().unwrap_or(test).trim()).collect();
    let searched: Vec<(usize, &str)> =
        stems.into_iter().enumerate().filter(|(_, stem)| stem.len() >= 4).collect();
    let search = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(searched.iter().map(|(_, stem)| stem))
        .map_err(io::Error::other)?;
    let mut places = Places::default();
    // By the index of a test: the line, and whether it says that the test failed.
    let mut named: BTreeMap<usize, (u64, bool)> = BTreeMap::new();
    let (mut stage, mut fault) = (None::<String>, None::<u64>);
    let (mut line, mut number, mut mentions) = (Vec::new(), 0, 0);
    while next_line(&mut from, &mut line)? {
        number += 1;
        let text = String::from_utf8_lossy(&line);
        let text = after_time(&text);
        if let Some((name, what)) = step(text) {
            match what {
                Step::Begins if places.stages.len() < MAX_STAGES => {
                    // A stage that has no end: the operator was killed.
                    (stage, fault) = (Some(name.to_owned()), None);
                    places.stages.insert(name.to_owned(), number);
                }
                Step::Begins => {}
                Step::Ended => {
                    if stage.take().is_some_and(|stage| stage == name) {
                        places.faults.insert(name.to_owned(), fault.unwrap_or(number));
                    }
                    fault = None;
                }
            }
        } else if is_fault(text) {
            fault = Some(number);
        } else if text.starts_with("...ignoring") {
            fault = None;
        }
        // Found once for a line, when it names a test.
        let mut words = None;
        for found in search.find_iter(text).take(MAX_MENTIONS.saturating_sub(mentions)) {
            mentions += 1;
            let Some((test, stem)) = searched.get(found.pattern().as_usize()) else { continue };
            // `test_a` is not `test_ab`.
            let goes_on = text[found.end()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
            if goes_on || stem.is_empty() {
                continue;
            }
            let words = words.get_or_insert_with(|| FailureWords::of(text));
            let says_so = words.are_outside(found.start(), found.end());
            let place = named.entry(*test).or_insert((number, says_so));
            if says_so && !place.1 {
                *place = (number, true);
            }
        }
    }
    // Tests that differ only in brackets share a place.
    for (index, stem) in &searched {
        let place = named
            .iter()
            .find(|(other, _)| searched.iter().any(|(known, text)| known == *other && text == stem));
        if let (Some((_, (line, _))), Some(test)) = (place, failed_tests.get(*index)) {
            places.tests.insert((*test).to_owned(), *line);
        }
    }
    Ok((places, number))
}

fn render(mut from: impl BufRead, lines: u64, places: &Places, to: &mut impl Write) -> io::Result<()> {
    let head = html! {
        p { a href="./" { "Run" } " / console (" a href={ "./" (CONSOLE_LOG) } { "as text" } ")" }
    };
    to.write_all(begin("Console", true).as_bytes())?;
    to.write_all(head.into_string().as_bytes())?;
    to.write_all(b"<pre class=\"console\">")?;
    let faults: HashSet<u64> = places.faults.values().chain(places.tests.values()).copied().collect();
    let (mut line, mut number, mut left_out) = (Vec::new(), 0, false);
    while next_line(&mut from, &mut line)? {
        number += 1;
        if is_shown(number, lines) {
            let text = safe(&String::from_utf8_lossy(&line));
            let class = match step(after_time(&text)) {
                Some(_) => "step",
                None if faults.contains(&number) => "fault",
                None => "",
            };
            to.write_all(row(number, &text, class).into_string().as_bytes())?;
        } else if !left_out {
            left_out = true;
            let from_here = lines.saturating_sub(LAST_LINES);
            let note =
                html! { span.step { "lines " (number) " to " (from_here) " are in " (CONSOLE_LOG) " only" } };
            to.write_all(note.into_string().as_bytes())?;
        }
    }
    to.write_all(b"</pre>")?;
    to.write_all(END.as_bytes())
}

fn row(number: u64, text: &str, class: &str) -> Markup {
    let short = cut(text, MAX_LINE);
    let more = text.len() - short.len();
    html! {
        span id={ "L" (number) } class=[Some(class).filter(|class| !class.is_empty())] {
            a href={ "#L" (number) } { (number) }
            (short)
            @if more > 0 { "… [" (more) " bytes more in " (CONSOLE_LOG) "]" }
        }
    }
}

/// Reads a line without its end; its rest is skipped when it is too long. False at the end.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if from.by_ref().take(MAX_READ).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() != Some(&b'\n') && line.len() as u64 == MAX_READ {
        from.skip_until(b'\n')?;
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(true)
}

/// A line of the console log without its time.
fn after_time(line: &str) -> &str {
    let is_time = |time: &str| time.len() == 23 && time.starts_with(|c: char| c.is_ascii_digit());
    line.split_once(" | ").filter(|(time, _)| is_time(time)).map_or(line, |(_, text)| text)
}

enum Step {
    Begins,
    Ended,
}

/// A line of pushbutton itself that begins or ends a stage.
fn step(text: &str) -> Option<(&str, Step)> {
    let (name, rest) = text.strip_prefix("pushbutton: stage ")?.split_once(' ')?;
    match rest {
        rest if rest.starts_with("begins: ") => Some((name, Step::Begins)),
        rest if rest.starts_with("ended: ") => Some((name, Step::Ended)),
        _ => None,
    }
}

/// A line with which Ansible says that a task failed.
fn is_fault(text: &str) -> bool {
    text.starts_with("fatal: [")
        || text.starts_with("failed: [")
        || text.starts_with("[ERROR]: ")
        || text.starts_with("ERROR! ")
}

/// Where in a line the words are that runners of tests print beside the name of a test that failed.
struct FailureWords {
    first_end: Option<usize>,
    last_start: Option<usize>,
}

impl FailureWords {
    fn of(line: &str) -> Self {
        // The first one stands for `FAILED` too.
        let words = ["FAIL", "ERROR"];
        let ends = words.iter().filter_map(|word| Some(line.find(word)? + word.len()));
        Self { first_end: ends.min(), last_start: words.iter().filter_map(|word| line.rfind(word)).max() }
    }

    /// Whether one ends before this part of the line, or begins after it.
    fn are_outside(&self, start: usize, end: usize) -> bool {
        self.first_end.is_some_and(|first| first <= start) || self.last_start.is_some_and(|last| last >= end)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use flate2::read::GzDecoder;

    use super::*;

    fn log(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("2026-11-26 16:00:00.000 | {line}\n")).collect()
    }

    fn written(text: &str, failed: &[&str]) -> (Places, String) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CONSOLE_LOG), text).unwrap();
        let places = write(folder.path(), failed).unwrap().unwrap();
        let mut page = String::new();
        GzDecoder::new(fs::File::open(folder.path().join(CONSOLE_PAGE)).unwrap())
            .read_to_string(&mut page)
            .unwrap();
        (places, page)
    }

    #[test]
    fn stages_faults_and_failed_tests_have_their_lines() {
        let text = log(&[
            "pushbutton: stage install begins: a.yml of job j",
            "fatal: [node]: FAILED! => no matter",
            "...ignoring",
            "fatal: [node]: FAILED! => stack.sh",
            "pushbutton: stage install ended: Failed in 3s",
            "pushbutton: stage tempest begins: b.yml of job j",
            "node | {0} tempest.api.volume.test_get [0.1s] ... ok",
            "node | tempest.api.volume.test_create begins",
            "node | {0} tempest.api.volume.test_create_many [0.1s] ... FAILED",
            "node | {0} tempest.api.volume.test_create [2.1s] ... FAILED",
            "pushbutton: stage tempest ended: Passed in 3s",
        ]);
        let failed = [
            "tempest.api.volume.test_create[id-1]",
            "tempest.api.volume.test_create[id-2]",
            "tempest.api.absent",
        ];
        let (places, page) = written(&text, &failed);
        assert_eq!(places.stages, BTreeMap::from([("install".into(), 1), ("tempest".into(), 6)]));
        assert_eq!(places.faults, BTreeMap::from([("install".into(), 4), ("tempest".into(), 11)]));
        assert_eq!(places.tests, BTreeMap::from([(failed[0].into(), 10), (failed[1].into(), 10)]));
        assert_eq!(page.matches("<span id=\"L").count(), 11);
        assert!(
            page.contains("<span id=\"L10\" class=\"fault\"><a href=\"#L10\">10</a>2026-11-26"),
            "{page}"
        );
        assert!(page.contains("<span id=\"L1\" class=\"step\">") && page.ends_with(END));
    }

    #[test]
    fn only_words_beside_the_name_say_that_a_test_failed() {
        for (line, says_so) in [
            ("api.test_FAIL_ERROR ok", false),
            ("FAILED: api.test_FAIL_ERROR", true),
            ("ERROR api.test_FAIL_ERROR", true),
            ("api.test_FAIL_ERROR ... FAIL", true),
            ("{0} api.test_FAIL_ERROR ... ERROR", true),
            ("api.test_FAIL_ERROR, then api.test_FAIL_ERROR", true),
        ] {
            let text = log(&[line, "api.test_FAIL_ERROR ... FAILED"]);
            let (places, _) = written(&text, &["api.test_FAIL_ERROR"]);
            let expected = if says_so { 1 } else { 2 };
            assert_eq!(places.tests, BTreeMap::from([("api.test_FAIL_ERROR".into(), expected)]), "{line}");
        }
    }

    /// With a search for the words at each name, this takes minutes.
    #[test]
    fn long_lines_that_name_a_failed_test_everywhere_take_time_in_proportion_to_their_length() {
        let line = "aaaa ".repeat((64 << 10) / 5) + "\n";
        let count = MAX_MENTIONS / line.matches("aaaa").count() + 1;
        let failed = "aaaa FAILED\n";
        let place = |log: String| survey(log.as_bytes(), &["aaaa"]).unwrap().0.tests["aaaa"];
        assert_eq!(place(line.repeat(count - 1) + failed), count as u64);
        // So many names are bounded too.
        assert_eq!(place(line.repeat(count) + failed), 1);
    }

    #[test]
    fn hostile_lines_are_text() {
        let (_, page) =
            written("</pre><script>alert(1)</script>\n<a href='javascript:x'>\u{202e}\x1b[31m\n", &[]);
        assert!(page.contains("&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        assert!(
            !page.contains("<script") && !page.contains("<a href='") && !page.contains(['\u{202e}', '\x1b'])
        );
    }

    #[test]
    fn a_node_cannot_move_the_place_of_a_stage() {
        // What a node prints has the node's name before it.
        let text = log(&["pushbutton: stage a begins: x", "node | pushbutton: stage a begins: forged"]);
        assert_eq!(written(&text, &[]).0.stages, BTreeMap::from([("a".into(), 1)]));
    }

    #[test]
    fn of_a_huge_log_the_beginning_and_the_end_are_shown_with_their_numbers() {
        let total = FIRST_LINES + LAST_LINES + 10;
        let mut text = String::new();
        for n in 1..=total {
            text += &format!("line {n}\n");
        }
        text.insert_str(0, &"x".repeat(MAX_READ as usize + 10));
        let (places, page) = written(&text, &["line 20005", "line 20011"]);
        assert_eq!(page.matches("<span id=\"L").count() as u64, FIRST_LINES + LAST_LINES);
        assert!(page.contains("lines 20001 to 20010 are in console.log only"));
        assert!(page.contains(&format!(
            "<span id=\"L{total}\"><a href=\"#L{total}\">{total}</a>line {total}</span>"
        )));
        // A link to a line that the page lacks would lead nowhere.
        assert_eq!(places.tests, BTreeMap::from([("line 20011".into(), 20011)]));
    }

    #[test]
    fn without_a_log_there_is_no_page() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write(folder.path(), &[]).unwrap(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
