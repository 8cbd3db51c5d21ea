//! Files of a run's log folder: everything below it, and files that are written as a whole or not at all.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use walkdir::{DirEntry, WalkDir};

/// So many files and folders are read. Devstack leaves some hundred.
const MAX_FILES: usize = 200_000;
/// In so many entries of a folder old temporary files are looked for.
const MAX_LOOKED_AT: usize = 10_000;

/// Everything below a folder. In each folder the files come first, so that a bound cuts what nodes left in `logs/` and not
/// the files at the top, and then the folders, each sorted by name. Links are not followed.
pub(crate) fn walk(root: &Path) -> impl Iterator<Item = DirEntry> {
    fn key(entry: &DirEntry) -> (bool, &OsStr) {
        (entry.file_type().is_dir(), entry.file_name())
    }
    let sorted = WalkDir::new(root).min_depth(1).sort_by(|a, b| key(a).cmp(&key(b)));
    let entries = sorted.into_iter().flatten().zip(0..);
    entries.map_while(move |(entry, seen)| {
        if seen == MAX_FILES {
            tracing::warn!(folder = %root.display(), "too many files: the rest was not read");
        }
        (seen < MAX_FILES).then_some(entry)
    })
}

/// Opens a file that must be a plain one, without waiting for the writer of a pipe and without following a link.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    Ok(file)
}

/// Writes `folder/name` as a whole: readers see the old file or the new one. What had the name is replaced, also a
/// link; it is not followed. Of several that write at once, the last one to end replaces the others' files.
pub(crate) fn write_whole<T>(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
) -> io::Result<T> {
    remove_left(folder, name);
    let temporary = Temporary::new(folder, name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary.0)?;
    let mut to = BufWriter::new(file);
    let value = write(&mut to)?;
    to.flush()?;
    fs::rename(&temporary.0, folder.join(name))?;
    Ok(value)
}

/// The temporary files that this process may be writing.
static WRITING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn writing() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a temporary file. Dropped, it removes the file.
struct Temporary(PathBuf);

impl Temporary {
    fn new(folder: &Path, name: &str) -> Self {
        // Its keys are random: no other writer has the name, and no node can guess it.
        let random = RandomState::new().build_hasher().finish();
        let path = folder.join(format!(".{name}.{random:016x}.new"));
        writing().insert(path.clone());
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is not there when it has its final name.
        let _ = fs::remove_file(&self.0);
        writing().remove(&self.0);
    }
}

/// Removes temporary files of `name` whose writers were killed.
fn remove_left(folder: &Path, name: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let begin = format!(".{name}.");
    for entry in entries.flatten().take(MAX_LOOKED_AT) {
        let entry_name = entry.file_name();
        let random = entry_name.to_str().and_then(|entry| entry.strip_prefix(&begin)?.strip_suffix("new"));
        if random.is_some_and(|random| random.is_empty() || random.ends_with('.'))
            && !writing().contains(&entry.path())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_in_the_place_of_a_page_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        symlink(&outside, run.join("index.html")).unwrap();
        symlink(&outside, run.join(".index.html.new")).unwrap();
        write_whole(&run, "index.html", |to| to.write_all(b"page")).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
        assert_eq!(fs::read_to_string(run.join("index.html")).unwrap(), "page");
        let names: Vec<_> = fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["index.html"]);
    }

    #[test]
    fn of_two_writers_of_a_page_each_publishes_its_own_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let (began, has_begun) = std::sync::mpsc::channel();
        let (ended, has_ended) = std::sync::mpsc::channel();
        let path = folder.path();
        std::thread::scope(|threads| {
            let late = threads.spawn(move || {
                write_whole(path, "page", |to| {
                    to.write_all(b"the first half")?;
                    to.flush()?;
                    began.send(()).unwrap();
                    has_ended.recv().unwrap();
                    to.write_all(b" and the second")
                })
            });
            has_begun.recv().unwrap();
            write_whole(path, "page", |to| to.write_all(b"another page")).unwrap();
            let page = fs::read_to_string(folder.path().join("page")).unwrap();
            ended.send(()).unwrap();
            assert_eq!(page, "another page");
            late.join().unwrap().unwrap();
        });
        let page = fs::read_to_string(folder.path().join("page")).unwrap();
        assert_eq!(page, "the first half and the second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(!writing().iter().any(|path| path.starts_with(folder.path())));
    }

    #[test]
    fn what_killed_writers_left_is_removed_and_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let others = [".page.txt", ".other.00.new", "page.00.new", ".pagenew"];
        for name in [".page.0123456789abcdef.new", ".page.new"].iter().chain(&others) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        write_whole(folder.path(), "page", |to| to.write_all(b"page")).unwrap();
        let names: BTreeSet<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, others.iter().chain(&["page"]).map(|name| name.into()).collect());
    }

    #[test]
    fn a_page_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("page"), "old").unwrap();
        let full = |_: &mut BufWriter<File>| Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(write_whole(folder.path(), "page", full).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(folder.path().join("page")).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_and_pipes_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", folder.path().join("link")).unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(open_plain(&folder.path().join("link")).is_err());
        assert!(open_plain(&pipe).is_err());
    }
}
