//! Reads the tests of a stage, from the results that it left in the log folder: subunit streams (`*.subunit`) and JUnit
//! reports (`*.xml`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pushbutton_core::text::{is_unsafe, short_line};
use pushbutton_core::{TestCounts, TestTime};
use walkdir::DirEntry;

use crate::files::{open_plain, walk};
use crate::subunit::{self, Ending, Packet, Status};
use crate::{junit, test_page};

/// So many failed tests are named: more than a comment on a review shows, few enough for the history.
const MAX_NAMED: usize = 100;
/// So many slow tests are named.
const MAX_SLOWEST: usize = 10;
/// The longest name, in characters. Parametrised tests have ids of some hundred bytes.
const MAX_NAME: usize = 500;
/// Of a larger file only the beginning is read. A full tempest run, including attachments, is some 50 MiB. Of a file, one
/// packet or one part of a report is held at a time.
const MAX_FILE: u64 = 512 << 20;
/// All ids together. A full tempest run has less than 1 MiB.
const MAX_IDS: usize = 32 << 20;
/// All texts of tests that did not pass, or still run, together.
const MAX_TEXTS: usize = 32 << 20;
/// The longest text of a test, in bytes: of a longer one the end is kept, where a traceback says what failed.
const MAX_TEXT: usize = junit::MAX_TEXT;
/// So many texts of a test are kept. Tempest attaches three.
const MAX_TEXTS_OF_TEST: usize = 8;
/// The longest reason why results are incomplete, in bytes: its place and a message of the parser.
const MAX_REASON: usize = 300;
/// No test takes longer, but a clock may jump: ten days.
const MAX_TIME: Duration = Duration::from_secs(864_000);

/// What was in a log folder before a stage began.
#[derive(Debug, Clone, Default)]
pub struct KnownResults {
    /// Hashes of results: one that is only copied or touched is not counted again.
    hashes: HashSet<u64>,
    /// How many pages of tests there are.
    pages: usize,
}

impl KnownResults {
    /// What is in the folder now. Blocks.
    pub fn of(log_dir: &Path) -> Self {
        let hashes = results(log_dir).iter().filter_map(|path| content_hash(path).ok()).collect();
        Self { hashes, pages: test_page::count(log_dir) }
    }

    /// Reads the results that have come since. `redact` replaces secrets in names, and in what tests print. Blocks.
    pub fn read_new(self, log_dir: &Path, redact: &dyn Fn(&str) -> String) -> TestResults {
        let Self { mut hashes, pages } = self;
        let (mut tests, mut lacking) = (Tests::default(), Vec::new());
        for path in results(log_dir) {
            let why = match content_hash(&path) {
                Ok(hash) if !hashes.insert(hash) => None,
                Ok(_) => tests.read(&path, MAX_FILE),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                // Whatever it holds was not read.
                Err(error) => Some(format!("it cannot be read: {error}")),
            };
            if let Some(why) = why {
                tracing::warn!(path = %path.display(), why, "cannot read test results to their end");
                let name = path.strip_prefix(log_dir).unwrap_or(&path).display();
                lacking.push(format!("{name}: {why}"));
            }
        }
        let mut results = tests.results(test_page::name(pages + 1), redact);
        let more = lacking.len().saturating_sub(1);
        results.incomplete = lacking.first().map(|first| {
            // Names of files, and of elements in a message, may be the node's.
            let first = short_line(&redact(first), MAX_REASON);
            if more == 0 { first } else { format!("{first} (and {more} more)") }
        });
        results
    }
}

/// The tests of a stage.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TestResults {
    /// None when the stage left no result.
    pub counts: Option<TestCounts>,
    /// The first failed tests, sorted by name.
    pub failed: Vec<String>,
    /// The tests that took longest, the slowest first, where the results say times.
    pub slowest: Vec<TestTime>,
    /// Why tests may be missing, in one line, as `tempest.subunit: it ends in the middle of a packet`; none when all
    /// results were read. It says nothing of the patch: a full disk of the node cuts a file, or a bound was reached. A stage
    /// with such results has not passed, since a test that is missing may have failed.
    pub incomplete: Option<String>,
    /// All tests, those that failed first, then those whose result is lost or that were skipped, each sorted by name.
    pub(crate) cases: Vec<Case>,
    page: String,
}

impl TestResults {
    /// Writes the page of these tests to the log folder, and returns its name; none when there are no tests. A page of
    /// this name that the stage left is replaced: a node may have made it, and it could hold scripts. Blocks.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn write_page(&self, log_dir: &Path) -> io::Result<Option<String>> {
        if self.counts.is_none() {
            return Ok(None);
        }
        test_page::write(self, log_dir, &self.page)?;
        Ok(Some(self.page.clone()))
    }
}

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) took: Option<Duration>,
    /// What it printed, where it did not pass: a title and a text.
    pub(crate) texts: Vec<(String, String)>,
}

fn results(log_dir: &Path) -> Vec<PathBuf> {
    let files = walk(log_dir).filter(|entry| entry.file_type().is_file()).map(DirEntry::into_path);
    let is_result = |path: &PathBuf| path.extension().is_some_and(|end| end == "subunit" || end == "xml");
    let mut found: Vec<_> = files.filter(is_result).collect();
    found.sort();
    found
}

/// Not a cryptographic hash: who can write a stream can write any result, and needs no collision.
fn content_hash(path: &Path) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    let mut from = open_plain(path)?.take(MAX_FILE);
    let mut block = vec![0; 64 << 10];
    loop {
        match from.read(&mut block)? {
            0 => return Ok(hasher.finish()),
            length => hasher.write(&block[..length]),
        }
    }
}

/// What is known of a test so far.
struct Known {
    status: Status,
    begun: Option<Duration>,
    took: Option<Duration>,
    texts: Vec<(String, Vec<u8>)>,
}

impl Known {
    fn size(&self) -> usize {
        self.texts.iter().map(|(title, text)| title.len() + text.len()).sum()
    }
}

impl Status {
    /// Of two files that tell of one test, the one with the higher rank is right; of two that did not fail, the later one.
    fn rank_among_files(self) -> u8 {
        match self {
            Self::Lost => 0,
            Self::Passed | Self::Skipped => 1,
            Self::InProgress => 2,
            Self::Failed => 3,
        }
    }
}

/// The last status of each test in a file, or, after [`merge`](Self::merge), in several. A test that began and never ended
/// has failed.
#[derive(Default)]
struct Tests {
    last: BTreeMap<String, Known>,
    ids: usize,
    texts: usize,
    /// Whether there was no room for a test.
    is_full: bool,
}

impl Tests {
    /// Adds the tests in the first `most` bytes of a file. Returns why some may be missing.
    fn read(&mut self, path: &Path, most: u64) -> Option<String> {
        let mut tests = Self { ids: self.ids, texts: self.texts, ..Self::default() };
        let opened = open_plain(path).and_then(|file| Ok((file.metadata()?.len() > most, file)));
        let (is_longer, file) = match opened {
            Ok((is_longer, file)) => (is_longer, BufReader::new(file.take(most))),
            Err(error) => return Some(format!("it cannot be read: {error}")),
        };
        let ending = match path.extension().is_some_and(|end| end == "xml") {
            true => junit::read(file, |case| tests.add_case(case)),
            false => subunit::read(file, |packet| tests.add(packet)),
        };
        let why = match ending {
            Ending::NoResults => return None,
            _ if is_longer => Some(format!("only its first {} MiB were read", most >> 20)),
            Ending::Incomplete(why) => Some(why),
            Ending::Whole if tests.is_full => Some("it names more tests than are kept".to_owned()),
            Ending::Whole => None,
        };
        self.merge(tests, why.is_some());
        why
    }

    /// Adds the tests of a further file. A test that failed in one file, or never ended in it, has failed, also when it
    /// passed in another: two parts of a stage may run the same tests with different settings.
    fn merge(&mut self, file: Self, is_incomplete: bool) {
        for (id, mut new) in file.last {
            if is_incomplete && new.status == Status::InProgress {
                new.status = Status::Lost;
            }
            match self.last.entry(id) {
                Entry::Vacant(entry) => {
                    self.ids += size_of_id(entry.key());
                    self.texts += new.size();
                    entry.insert(new);
                }
                Entry::Occupied(mut entry) => {
                    let old = entry.get_mut();
                    let (rank, old_rank) = (new.status.rank_among_files(), old.status.rank_among_files());
                    if rank > old_rank || rank == old_rank && rank < Status::InProgress.rank_among_files() {
                        new.took = new.took.or(old.took);
                        self.texts = (self.texts + new.size()).saturating_sub(old.size());
                        *old = new;
                    }
                }
            }
        }
    }

    /// Finds a test, or enters it while there is room.
    fn entry(&mut self, id: &str) -> Option<&mut Known> {
        if !self.last.contains_key(id) {
            if self.ids + id.len() > MAX_IDS {
                self.is_full = true;
                return None;
            }
            self.ids += size_of_id(id);
            let new = Known { status: Status::InProgress, begun: None, took: None, texts: Vec::new() };
            self.last.insert(id.to_owned(), new);
        }
        self.last.get_mut(id)
    }

    fn add(&mut self, packet: Packet<'_>) {
        // A text alone says nothing of a test that has neither begun nor ended.
        if packet.status.is_none() && !self.last.contains_key(packet.test) {
            return;
        }
        let room = MAX_TEXTS.saturating_sub(self.texts);
        let Some(test) = self.entry(packet.test) else { return };
        let before = test.size();
        if let Some((title, text)) = packet.text {
            add_text(&mut test.texts, title, text, room);
        }
        if let Some(status) = packet.status {
            test.status = status;
            match status {
                Status::InProgress => {
                    // It is run again: what it said before is of the earlier try.
                    (test.begun, test.took) = (packet.at, None);
                    if packet.text.is_none() {
                        test.texts.clear();
                    }
                }
                Status::Passed => test.texts = Vec::new(),
                Status::Failed | Status::Skipped | Status::Lost => {}
            }
            if status != Status::InProgress {
                let took = packet.at.zip(test.begun).and_then(|(end, begin)| end.checked_sub(begin));
                test.took = took.filter(|took| *took <= MAX_TIME).or(test.took);
            }
        }
        let after = test.size();
        self.texts = self.texts.saturating_sub(before) + after;
    }

    fn add_case(&mut self, case: junit::Case) {
        let room = MAX_TEXTS.saturating_sub(self.texts);
        let Some(test) = self.entry(&case.name) else { return };
        // A report may name several tests alike: one failure is enough.
        if test.status == Status::Failed {
            return;
        }
        let before = test.size();
        (test.status, test.took) = (case.status, case.took.or(test.took));
        test.texts.clear();
        if case.status != Status::Passed {
            add_text(&mut test.texts, "report", case.text.as_bytes(), room);
        }
        let after = test.size();
        self.texts = self.texts.saturating_sub(before) + after;
    }

    fn results(self, page: String, redact: &dyn Fn(&str) -> String) -> TestResults {
        let mut counts = TestCounts::default();
        let mut cases: Vec<Case> =
            self.last.into_iter().map(|(id, known)| case(&id, known, redact)).collect();
        for case in &cases {
            match case.status {
                Status::Passed => counts.passed += 1,
                Status::Skipped => counts.skipped += 1,
                Status::Failed | Status::InProgress => counts.failed += 1,
                // It may have passed.
                Status::Lost => {}
            }
        }
        // Stable: within each kind they stay sorted by name.
        cases.sort_by_key(|case| case.rank());
        let failed = cases.iter().take_while(|case| case.rank() == 0).take(MAX_NAMED);
        let failed = failed.map(|case| case.name.clone()).collect();
        let mut slowest: Vec<&Case> =
            cases.iter().filter(|case| case.took.is_some_and(|took| !took.is_zero())).collect();
        slowest.sort_by_key(|case| std::cmp::Reverse(case.took));
        let named = |case: &&Case| TestTime::new(case.name.clone(), case.took.unwrap_or_default());
        let slowest = slowest.iter().take(MAX_SLOWEST).map(named).collect();
        let counts = (!cases.is_empty()).then_some(counts);
        TestResults { counts, failed, slowest, incomplete: None, cases, page }
    }
}

impl Case {
    /// Failures first.
    pub(crate) fn rank(&self) -> u8 {
        match self.status {
            Status::Failed | Status::InProgress => 0,
            Status::Lost => 1,
            Status::Skipped => 2,
            Status::Passed => 3,
        }
    }
}

/// What the id of a test takes, at least, with what is known of the test.
fn size_of_id(id: &str) -> usize {
    id.len().max(64)
}

fn case(id: &str, known: Known, redact: &dyn Fn(&str) -> String) -> Case {
    let name: String = redact(id).chars().filter(|c| !is_unsafe(*c)).take(MAX_NAME).collect();
    let text = |(title, bytes): (String, Vec<u8>)| (title, redact(&String::from_utf8_lossy(&bytes)));
    Case { name, status: known.status, took: known.took, texts: known.texts.into_iter().map(text).collect() }
}

/// Adds a piece of a text. Of a long one the end is kept.
fn add_text(texts: &mut Vec<(String, Vec<u8>)>, title: &str, piece: &[u8], room: usize) {
    let piece = &piece[piece.len().saturating_sub(MAX_TEXT)..];
    if piece.is_empty() || piece.len() + title.len() > room {
        return;
    }
    if let Some((_, text)) = texts.iter_mut().find(|(known, _)| known == title) {
        text.extend_from_slice(piece);
        let surplus = text.len().saturating_sub(MAX_TEXT);
        text.drain(..surplus);
    } else if texts.len() < MAX_TEXTS_OF_TEST {
        let title = short_line(title, 100);
        texts.push((title, piece.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::subunit::types::{event::Event, teststatus::TestStatus};
    use std::fs;

    fn stream(tests: &[(&str, TestStatus)]) -> Vec<u8> {
        tests
            .iter()
            .flat_map(|(id, status)| Event::new(*status).test_id(id).build().to_vec().unwrap())
            .collect()
    }

    fn packet(test: &str, status: Status, at: u64) -> Packet<'_> {
        Packet { test, status: Some(status), at: Some(Duration::from_secs(at)), text: None }
    }

    fn text<'a>(test: &'a str, title: &'a str, text: &'a [u8]) -> Packet<'a> {
        Packet { test, status: None, at: None, text: Some((title, text)) }
    }

    #[test]
    fn the_last_status_of_a_test_counts_and_one_that_never_ended_failed() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = KnownResults::of(folder.path());
        use TestStatus::*;
        let tests = [
            ("a", InProgress),
            ("a", Success),
            ("b", Failed),
            ("b", Success),
            ("c", InProgress),
            ("d", Skipped),
        ];
        fs::create_dir(folder.path().join("logs")).unwrap();
        fs::write(folder.path().join("logs/tempest.subunit"), stream(&tests)).unwrap();
        let results = nothing.read_new(folder.path(), &str::to_owned);
        assert_eq!(results.counts, Some(TestCounts::new(2, 1, 1)));
        assert_eq!(results.failed, ["c"]);
    }

    #[test]
    fn a_stream_counts_once_however_often_it_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let text = stream(&[("a", TestStatus::Success)]);
        fs::write(folder.path().join("one.subunit"), &text).unwrap();
        let known = KnownResults::of(folder.path());
        fs::write(folder.path().join("two.subunit"), &text).unwrap();
        assert_eq!(known.read_new(folder.path(), &str::to_owned).counts, None);
        assert_eq!(KnownResults::default().read_new(folder.path(), &str::to_owned).counts.unwrap().passed, 1);
    }

    #[test]
    fn a_stream_without_packets_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("empty.subunit"), "no packet\n").unwrap();
        fs::write(folder.path().join("domain.xml"), "<domain/>").unwrap();
        let results = KnownResults::default().read_new(folder.path(), &str::to_owned);
        assert_eq!((results.counts, results.failed.len(), results.cases.len()), (None, 0, 0));
        assert_eq!(results.write_page(folder.path()).unwrap(), None);
    }

    /// What is read of these files, which lie in a folder alone.
    fn results_of(files: &[(&str, &[u8])]) -> TestResults {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        KnownResults::default().read_new(folder.path(), &str::to_owned)
    }

    #[test]
    fn a_test_that_failed_in_one_file_has_failed_also_when_it_passed_in_another() {
        use TestStatus::*;
        let bad = stream(&[("a", Failed), ("b", InProgress), ("c", Success), ("d", Failed), ("d", Success)]);
        let good = stream(&["a", "b", "c", "d"].map(|id| (id, Success)));
        let names = ["fc.subunit", "iscsi.subunit"];
        for files in [[&bad, &good], [&good, &bad]] {
            let results = results_of(&[(names[0], files[0]), (names[1], files[1])]);
            assert_eq!(results.counts, Some(TestCounts::new(2, 2, 0)));
            assert_eq!((results.failed, results.incomplete), (vec!["a".to_owned(), "b".to_owned()], None));
        }
        let report = "<testsuite><testcase name='a'/><testcase name='b'><failure>boom</failure></testcase></testsuite>";
        let results = results_of(&[("all.subunit", &bad), ("junit.xml", report.as_bytes())]);
        assert_eq!(results.counts, Some(TestCounts::new(2, 2, 0)));
        // A failure says more than a test that never ended.
        assert_eq!(results.cases[1].texts, [("report".to_owned(), "boom".to_owned())]);
    }

    #[test]
    fn a_stream_that_is_cut_is_incomplete_and_blames_no_test_that_was_running() {
        use TestStatus::*;
        let whole = stream(&[("a", Success), ("b", InProgress), ("c", InProgress), ("b", Success)]);
        let cut = &whole[..whole.len() - 1];
        let results = results_of(&[("tempest.subunit", cut)]);
        let why = "tempest.subunit: it ends in the middle of a packet";
        assert_eq!(results.incomplete.as_deref(), Some(why));
        assert_eq!((results.counts, results.failed.len()), (Some(TestCounts::new(1, 0, 0)), 0));
        let statuses: Vec<_> = results.cases.iter().map(|case| (case.name.as_str(), case.status)).collect();
        assert_eq!(statuses, [("b", Status::Lost), ("c", Status::Lost), ("a", Status::Passed)]);
        // Another file may say how they ended.
        let other = stream(&[("b", Success), ("c", Failed)]);
        for name in ["a.subunit", "z.subunit"] {
            let results = results_of(&[("tempest.subunit", cut), (name, &other)]);
            assert_eq!(results.counts, Some(TestCounts::new(2, 1, 0)), "{name}");
            assert_eq!(results.incomplete.as_deref(), Some(why));
        }
    }

    #[test]
    fn a_report_that_is_cut_is_incomplete_and_keeps_a_failure_that_has_begun() {
        let report = b"<testsuite><testcase name='a'/><testcase name='b'><failure>Traceback (most";
        let other = stream(&[("c", TestStatus::Success)]);
        let results = results_of(&[("junit.xml", report), ("c.subunit", &other), ("x.xml", b"<domain><a>")]);
        let why = results.incomplete.unwrap();
        assert_eq!(why, "junit.xml: it ends in the middle of an element");
        assert_eq!((results.counts, results.failed), (Some(TestCounts::new(2, 1, 0)), vec!["b".to_owned()]));
        assert_eq!(results_of(&[("c.subunit", &other), ("x.xml", b"<domain><a>")]).incomplete, None);
        // Nothing but its beginning.
        let results = results_of(&[("junit.xml", b"<testsuites>"), ("y.xml", b"<testsuite>")]);
        assert_eq!((results.counts, results.cases.len()), (None, 0));
        assert!(results.incomplete.unwrap().ends_with("(and 1 more)"));
    }

    #[test]
    fn results_that_exceed_a_bound_are_incomplete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.subunit");
        fs::write(&path, stream(&[("one", TestStatus::Success), ("two", TestStatus::Success)])).unwrap();
        let length = path.metadata().unwrap().len();
        let read = |mut tests: Tests, most| (tests.read(&path, most), tests.last.len());
        assert_eq!(read(Tests::default(), length), (None, 2));
        assert_eq!(read(Tests::default(), length / 2), (Some("only its first 0 MiB were read".into()), 1));
        let full = Tests { ids: MAX_IDS - 64, ..Tests::default() };
        assert_eq!(read(full, length), (Some("it names more tests than are kept".into()), 1));
    }

    #[test]
    fn why_results_are_incomplete_is_one_short_line_without_secrets() {
        let report = format!("<testsuite>s3cret\n</s3cret{}>", "x".repeat(10_000));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("s3cret\n.xml"), report).unwrap();
        let redact = |text: &str| text.replace("s3cret", "***");
        let why = KnownResults::default().read_new(folder.path(), &redact).incomplete.unwrap();
        assert!(why.starts_with("*** .xml: ") && why.len() < 2 * MAX_REASON, "{why}");
        assert!(!why.contains("s3cret") && !why.contains('\n'), "{why}");
    }

    #[test]
    fn names_of_failed_tests_are_few_short_and_one_line() {
        let mut tests = Tests::default();
        for n in 0..1000 {
            tests.add(packet(&format!("t{n:04}\n{}", "x".repeat(1000)), Status::Failed, 0));
        }
        let results = tests.results(String::new(), &str::to_owned);
        assert_eq!((results.counts.unwrap().failed, results.failed.len()), (1000, MAX_NAMED));
        assert!(results.failed.iter().all(|name| name.len() == MAX_NAME && !name.contains('\n')));
    }

    #[test]
    fn subunit_and_junit_of_the_same_tests_count_once() {
        let folder = tempfile::tempdir().unwrap();
        let tests = [("mod.Class.a", TestStatus::Success), ("mod.Class.b", TestStatus::Failed)];
        fs::write(folder.path().join("all.subunit"), stream(&tests)).unwrap();
        let report = "<testsuite><testcase classname='mod.Class' name='a'/><testcase classname='mod.Class' name='b'>\
                      <failure>boom</failure></testcase><testcase classname='mod.Class' name='c' time='2'/></testsuite>";
        fs::write(folder.path().join("all.xml"), report).unwrap();
        let results = KnownResults::default().read_new(folder.path(), &str::to_owned);
        assert_eq!(results.counts, Some(TestCounts::new(2, 1, 0)));
        assert_eq!(results.failed, ["mod.Class.b"]);
        assert_eq!(results.slowest, [TestTime::new("mod.Class.c", Duration::from_secs(2))]);
    }

    #[test]
    fn tests_that_a_report_names_alike_failed_if_one_of_them_did() {
        let folder = tempfile::tempdir().unwrap();
        let report = "<testsuite><testcase name='a'><failure>boom</failure></testcase><testcase name='a'/></testsuite>";
        fs::write(folder.path().join("junit.xml"), report).unwrap();
        let results = KnownResults::default().read_new(folder.path(), &str::to_owned);
        assert_eq!((results.counts, results.failed), (Some(TestCounts::new(0, 1, 0)), vec!["a".to_owned()]));
        assert_eq!(results.cases[0].texts, [("report".to_owned(), "boom".to_owned())]);
    }

    #[test]
    fn the_slowest_tests_are_few_and_sorted_and_clocks_that_jump_are_no_times() {
        let mut tests = Tests::default();
        for n in 1..=30 {
            let name = format!("t{n:02}");
            tests.add(packet(&name, Status::InProgress, 1000));
            tests.add(packet(&name, Status::Passed, 1000 + n));
        }
        for (name, end) in [("back", 900), ("far", 2_000_000)] {
            tests.add(packet(name, Status::InProgress, 1000));
            tests.add(packet(name, Status::Passed, end));
        }
        let results = tests.results(String::new(), &str::to_owned);
        let expected: Vec<_> =
            (21..=30).rev().map(|n| TestTime::new(format!("t{n}"), Duration::from_secs(n))).collect();
        assert_eq!(results.slowest, expected);
    }

    #[test]
    fn failures_come_first_with_the_end_of_what_they_said() {
        let mut tests = Tests::default();
        for (name, status) in
            [("a", Status::Passed), ("b", Status::Failed), ("c", Status::Skipped), ("d", Status::Failed)]
        {
            tests.add(packet(name, Status::InProgress, 0));
            tests.add(text(name, "traceback", &[b'x'; MAX_TEXT]));
            tests.add(text(name, "traceback", b"the end"));
            tests.add(packet(name, status, 1));
        }
        let results = tests.results(String::new(), &str::to_owned);
        let order: Vec<_> = results.cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(order, ["b", "d", "c", "a"]);
        let said = &results.cases[0].texts[0].1;
        assert!(said.len() == MAX_TEXT && said.ends_with("xthe end"), "{}", said.len());
        assert!(results.cases[3].texts.is_empty());
    }

    #[test]
    fn what_a_test_said_in_an_earlier_try_is_dropped() {
        let mut tests = Tests::default();
        tests.add(packet("a", Status::InProgress, 0));
        tests.add(text("a", "traceback", b"first"));
        tests.add(packet("a", Status::Failed, 1));
        tests.add(packet("a", Status::InProgress, 2));
        tests.add(text("a", "traceback", b"second"));
        tests.add(packet("a", Status::Failed, 5));
        let results = tests.results(String::new(), &str::to_owned);
        assert_eq!(results.cases[0].texts, [("traceback".to_owned(), "second".to_owned())]);
        assert_eq!(results.cases[0].took, Some(Duration::from_secs(3)));
    }

    #[test]
    fn all_texts_together_are_bounded() {
        let mut tests = Tests::default();
        for n in 0..10_000 {
            let name = format!("t{n}");
            tests.add(packet(&name, Status::InProgress, 0));
            for title in ["a", "b", "c"] {
                tests.add(text(&name, title, &[b'x'; 4096]));
            }
        }
        assert!(tests.texts <= MAX_TEXTS && tests.texts > MAX_TEXTS - 4100, "{}", tests.texts);
        assert_eq!(tests.texts, tests.last.values().map(Known::size).sum::<usize>());
    }
}
