//! Counts the tests of a stage, from the subunit streams (`*.subunit`) that it left in the log folder.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use pushbutton_core::TestCounts;
use walkdir::DirEntry;

use crate::artifacts::walk;
use crate::subunit::{self, Status};

/// So many failed tests are named: a comment on a review has no room for more.
const MAX_NAMED: usize = 20;
/// The longest name, in characters. Parametrised tests have ids of some hundred bytes.
const MAX_NAME: usize = 500;
/// Of a larger stream only the beginning is read. A full tempest run, including attachments, is some 50 MiB.
const MAX_STREAM: u64 = 512 << 20;
/// All ids together. A full tempest run has less than 1 MiB.
const MAX_IDS: usize = 32 << 20;

/// The tests of a stage.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct TestResults {
    /// None when the stage left no result.
    pub(crate) counts: Option<TestCounts>,
    /// The first failed tests, sorted by name.
    pub(crate) failed: Vec<String>,
}

/// Hashes of the streams that are in the folder now: a stream that is only copied or touched is not counted again.
/// Blocks.
pub(crate) fn known_streams(log_dir: &Path) -> HashSet<u64> {
    streams(log_dir).iter().filter_map(|path| content_hash(path).ok()).collect()
}

/// Counts the tests of the streams that are not known. Blocks.
pub(crate) fn count_new(mut known: HashSet<u64>, log_dir: &Path) -> TestResults {
    let mut tests = Tests::default();
    for path in streams(log_dir) {
        let counted = content_hash(&path).and_then(|hash| {
            if known.insert(hash) {
                subunit::read(BufReader::new(open(&path)?), |id, status| tests.add(id, status))?;
            }
            Ok(())
        });
        if let Err(error) = counted {
            tracing::warn!(path = %path.display(), %error, "cannot read a stream of test results");
        }
    }
    tests.results()
}

fn streams(log_dir: &Path) -> Vec<PathBuf> {
    let files = walk(log_dir).filter(|entry| entry.file_type().is_file()).map(DirEntry::into_path);
    let mut streams: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == "subunit")).collect();
    streams.sort();
    streams
}

fn open(path: &Path) -> io::Result<impl Read> {
    Ok(File::open(path)?.take(MAX_STREAM))
}

/// Not a cryptographic hash: who can write a stream can write any result, and needs no collision.
fn content_hash(path: &Path) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    let mut from = open(path)?;
    let mut block = vec![0; 64 << 10];
    loop {
        match from.read(&mut block)? {
            0 => return Ok(hasher.finish()),
            length => hasher.write(&block[..length]),
        }
    }
}

/// The last status of each test. A test that began and never ended has failed.
#[derive(Default)]
struct Tests {
    last: BTreeMap<String, Status>,
    size: usize,
}

impl Tests {
    fn add(&mut self, id: &str, status: Status) {
        if let Some(last) = self.last.get_mut(id) {
            *last = status;
        } else if self.size + id.len() <= MAX_IDS {
            self.size += id.len().max(64);
            self.last.insert(id.to_owned(), status);
        }
    }

    fn results(self) -> TestResults {
        let mut counts = TestCounts::default();
        let mut failed = Vec::new();
        for (id, status) in &self.last {
            match status {
                Status::Passed => counts.passed += 1,
                Status::Skipped => counts.skipped += 1,
                Status::Failed | Status::InProgress => {
                    counts.failed += 1;
                    if failed.len() < MAX_NAMED {
                        failed.push(id.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect());
                    }
                }
            }
        }
        TestResults { counts: (!self.last.is_empty()).then_some(counts), failed }
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

    #[test]
    fn the_last_status_of_a_test_counts_and_one_that_never_ended_failed() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = known_streams(folder.path());
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
        let results = count_new(nothing, folder.path());
        assert_eq!(results.counts, Some(TestCounts::new(2, 1, 1)));
        assert_eq!(results.failed, ["c"]);
    }

    #[test]
    fn a_stream_counts_once_however_often_it_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let text = stream(&[("a", TestStatus::Success)]);
        fs::write(folder.path().join("one.subunit"), &text).unwrap();
        let known = known_streams(folder.path());
        fs::write(folder.path().join("two.subunit"), &text).unwrap();
        assert_eq!(count_new(known, folder.path()), TestResults::default());
        assert_eq!(count_new(HashSet::new(), folder.path()).counts.unwrap().passed, 1);
    }

    #[test]
    fn a_stream_without_packets_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("empty.subunit"), "no packet\n").unwrap();
        assert_eq!(count_new(HashSet::new(), folder.path()), TestResults::default());
    }

    #[test]
    fn names_of_failed_tests_are_few_short_and_one_line() {
        let mut tests = Tests::default();
        for n in 0..1000 {
            tests.add(&format!("t{n:04}\n{}", "x".repeat(1000)), Status::Failed);
        }
        let results = tests.results();
        assert_eq!((results.counts.unwrap().failed, results.failed.len()), (1000, MAX_NAMED));
        assert!(results.failed.iter().all(|name| name.len() == MAX_NAME && !name.contains('\n')));
    }
}
