//! Files of a run's log folder: everything below it, and files that are written as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

/// So many files and folders are read. Devstack leaves some hundred.
const MAX_FILES: usize = 200_000;

/// Everything below a folder, sorted by name. Links are not followed.
pub(crate) fn walk(root: &Path) -> impl Iterator<Item = DirEntry> {
    let entries = WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter().flatten().zip(0..);
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
/// link; it is not followed.
pub(crate) fn write_whole<T>(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
) -> io::Result<T> {
    let temporary = folder.join(format!(".{name}.new"));
    // What an operator left that was killed.
    let _ = fs::remove_file(&temporary);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    let mut to = BufWriter::new(file);
    let written = write(&mut to).and_then(|value| {
        to.flush()?;
        fs::rename(&temporary, folder.join(name))?;
        Ok(value)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
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
