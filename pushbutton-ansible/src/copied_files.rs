//! Redacts the files that playbooks copy into the log folder, such as the output of the tests. The console log is
//! redacted as it is written, and archives of logs as they are unpacked ([`crate::gathered_logs`]).

use std::collections::HashSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use walkdir::WalkDir;

use crate::redacted_copy::{CopyError, Filters, RedactedCopy};

/// What a compressed file begins with, whatever its name.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The files that are in a log folder.
#[derive(Debug)]
pub(crate) struct KnownFiles(HashSet<FileVersion>);

/// Device, inode, and the time of the last change, which no program can set.
type FileVersion = (u64, u64, i64, i64);

fn version(file: &Metadata) -> FileVersion {
    (file.dev(), file.ino(), file.ctime(), file.ctime_nsec())
}

/// What became of the files.
#[derive(Debug, Default)]
pub(crate) struct Redacted {
    /// What people should know, for the console log.
    pub(crate) notes: Vec<String>,
    /// Why some could not be redacted on this host. They are removed.
    pub(crate) fault: Option<String>,
}

impl KnownFiles {
    /// Those that are there now. Blocks.
    pub(crate) fn of(log_dir: &Path) -> Self {
        Self(plain_files(log_dir).map(|(_, file)| version(&file)).collect())
    }

    /// Redacts those that have come or were changed since, but for `others`, up to so many bytes of all of them
    /// together. What could not be redacted is not kept. `id` is unique to the stage. Blocks.
    pub(crate) fn redact_new(
        &self,
        log_dir: &Path,
        others: &[PathBuf],
        id: &str,
        filters: Filters<'_>,
        mut left: u64,
        stop: &dyn Fn() -> bool,
    ) -> Redacted {
        let work = log_dir.join(format!(".redacting-{id}"));
        let mut redacted = Redacted::default();
        // Collected: the new files are in the same folders.
        let is_new =
            |(path, file): &(PathBuf, Metadata)| !self.0.contains(&version(file)) && !others.contains(path);
        for (path, file) in plain_files(log_dir).filter(is_new).collect::<Vec<_>>() {
            let name = path.strip_prefix(log_dir).unwrap_or(&path).display();
            match redact(&path, &file, &work, filters, &mut left, stop) {
                Ok(None) => {}
                Ok(Some(note)) => redacted.notes.push(format!("{name} {note}")),
                Err(error) => {
                    let _ = fs::remove_file(&work);
                    if let Err(error) = fs::remove_file(&path) {
                        tracing::warn!(path = %path.display(), %error, "cannot remove a file with secrets in it");
                    }
                    let why = format!("{name} cannot be redacted: {error}");
                    redacted.notes.push(format!("{why}; it was removed"));
                    redacted.fault.get_or_insert(why);
                }
            }
        }
        redacted
    }
}

fn plain_files(log_dir: &Path) -> impl Iterator<Item = (PathBuf, Metadata)> {
    WalkDir::new(log_dir).into_iter().flatten().filter_map(|entry| {
        let file = entry.metadata().ok().filter(Metadata::is_file)?;
        Some((entry.into_path(), file))
    })
}

/// Replaces the file, when there is something to redact. Returns what is wrong with it.
fn redact(
    path: &Path,
    file: &Metadata,
    work: &Path,
    filters: Filters<'_>,
    left: &mut u64,
    stop: &dyn Fn() -> bool,
) -> io::Result<Option<&'static str>> {
    let open = || File::open(path).map_err(CopyError::Read);
    let is_compressed = open().and_then(is_gzip).unwrap_or_default();
    // Most files have no secrets, and are only read.
    let mut room = *left;
    let mut look = RedactedCopy::new(filters, &mut room, stop);
    let looked = open().and_then(|from| match is_compressed {
        true => look.plain(MultiGzDecoder::new(BufReader::new(from)), io::sink()),
        false => look.plain(from, io::sink()),
    });
    if looked.is_ok() && !look.is_changed && !look.is_cut {
        *left = room;
        return Ok(None);
    }
    let modified = file.modified()?;
    let to = OpenOptions::new().write(true).create_new(true).mode(file.mode() & 0o777).open(work)?;
    let mut rewrite = RedactedCopy::new(filters, left, stop);
    let rewritten = open().and_then(|from| match is_compressed {
        true => rewrite.gzip(from, BufWriter::new(&to)),
        false => rewrite.plain(from, BufWriter::new(&to)),
    });
    let is_cut = rewrite.is_cut;
    let note = match rewritten {
        Ok(()) => is_cut.then_some("was cut: the limit of size or time was reached"),
        // What could be read of it is kept.
        Err(CopyError::Read(_)) if is_compressed => Some("is not whole"),
        Err(CopyError::Read(error) | CopyError::Write(error)) => return Err(error),
    };
    to.set_modified(modified)?;
    fs::rename(work, path)?;
    Ok(note)
}

fn is_gzip(mut file: File) -> Result<bool, CopyError> {
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start).map_err(CopyError::Read)?;
    Ok(start == GZIP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::CredentialFilter;
    use crate::redact::Redactor;
    use std::io::Write;

    const SECRET: &str = "configured-secret";

    fn redact_new(known: &KnownFiles, log_dir: &Path, others: &[PathBuf], room: u64) -> Redacted {
        let secrets = [("s".to_owned(), SECRET.into())];
        let (secrets, credentials) =
            (Redactor::new(&secrets.into()).unwrap(), CredentialFilter::new().unwrap());
        let filters = Filters { secrets: &secrets, credentials: &credentials };
        known.redact_new(log_dir, others, "1", filters, room, &|| false)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(text.as_bytes()).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn new_and_changed_files_are_redacted_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["old", "grown"] {
            fs::write(path(name), SECRET).unwrap();
        }
        let known = KnownFiles::of(folder.path());
        OpenOptions::new().append(true).open(path("grown")).unwrap().write_all(b"\n").unwrap();
        fs::create_dir(path("unit")).unwrap();
        fs::write(path("unit/tests.txt"), format!("login with {SECRET}\npassword = hunter2\n")).unwrap();
        fs::write(path("tests.txt.gz"), gzip(&format!("a {SECRET}\n"))).unwrap();
        fs::write(path("console.log"), SECRET).unwrap();
        fs::write(path("not-compressed.gz"), format!("{SECRET}\n")).unwrap();
        fs::write(path("clean"), "nothing").unwrap();
        let clean = path("clean").metadata().unwrap().ino();

        let redacted = redact_new(&known, folder.path(), &[path("console.log")], 1 << 20);
        assert!(redacted.notes.is_empty() && redacted.fault.is_none(), "{redacted:?}");
        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        assert_eq!((read("old").as_str(), read("console.log").as_str()), (SECRET, SECRET));
        assert_eq!(read("grown"), "********\n");
        assert_eq!(read("unit/tests.txt"), "login with ********\npassword = ********\n");
        assert_eq!(read("not-compressed.gz"), "********\n");
        let mut text = String::new();
        MultiGzDecoder::new(File::open(path("tests.txt.gz")).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "a ********\n");
        assert_eq!(path("clean").metadata().unwrap().ino(), clean, "it was not written again");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 7);
    }

    #[test]
    fn a_file_keeps_its_mode_and_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownFiles::of(folder.path());
        let path = folder.path().join("tests.txt");
        fs::write(&path, SECRET).unwrap();
        let file = File::open(&path).unwrap();
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        file.set_modified(time).unwrap();
        assert!(redact_new(&known, folder.path(), &[], 1 << 20).fault.is_none());
        let after = path.metadata().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "********");
        assert_eq!((after.mode() & 0o777, after.modified().unwrap()), (0o600, time));
    }

    #[test]
    fn what_is_beyond_the_limit_is_cut_and_never_kept_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownFiles::of(folder.path());
        for name in ["a", "b"] {
            fs::write(folder.path().join(name), format!("{SECRET}\n").repeat(10)).unwrap();
        }
        let redacted = redact_new(&known, folder.path(), &[], 30);
        assert_eq!(redacted.notes.len(), 2, "{redacted:?}");
        for name in ["a", "b"] {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.ends_with("[cut by pushbutton]\n") && !text.contains(SECRET), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_redacted_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownFiles::of(folder.path());
        fs::write(folder.path().join("tests.txt"), SECRET).unwrap();
        // What a program of the stage can leave in the place of the new file.
        fs::create_dir(folder.path().join(".redacting-1")).unwrap();
        let redacted = redact_new(&known, folder.path(), &[], 1 << 20);
        assert!(redacted.fault.unwrap().starts_with("tests.txt cannot be redacted: "));
        assert!(!folder.path().join("tests.txt").exists());
    }
}
