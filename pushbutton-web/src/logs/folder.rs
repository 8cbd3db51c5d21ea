//! Finds files in the log folder, and nothing outside of it. Blocking.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use pushbutton_results::{CONSOLE_PAGE, INDEX_PAGE, is_page_name};

/// Entries of a folder that are listed, at most: it bounds the page.
pub(super) const MAX_ENTRIES: usize = 2_000;

/// How much of a file is read to tell text from binary data.
const SNIFF: u64 = 1024;

/// Extensions before `.gz` of files that are not text: they are sent as they are.
const ARCHIVES: [&str; 5] = ["tar", "cpio", "img", "qcow2", "db"];

#[derive(Debug)]
pub(super) enum Entry {
    File(LogFile),
    Folder(Vec<Listed>),
}

/// A file that may be sent.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) file: File,
    pub(super) length: u64,
    pub(super) content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Text,
    GzippedText,
    /// A page of the run that the operator wrote; it is compressed or not.
    Page {
        compressed: bool,
    },
    Bytes,
}

/// An entry of a folder.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    /// Folders come first.
    pub(super) is_file: bool,
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) modified: Option<SystemTime>,
}

/// Finds what a URL's path names. A text that exists only as `.gz` is found by its plain name, too.
pub(super) fn find(root: &Path, path: &str) -> io::Result<Entry> {
    let root = root.canonicalize()?;
    let mut wanted = root.clone();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        // Each segment is one visible name, no `..`. A name of a volume may have a colon, and one of systemd a backslash.
        if segment.starts_with('.') || segment.contains('\0') {
            return Err(ErrorKind::NotFound.into());
        }
        wanted.push(segment);
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    // A run's folder is shown by its page, once it has one.
    let index = wanted.join(INDEX_PAGE);
    if path.ends_with('/')
        && segments.len() == RUN_DEPTH
        && index.symlink_metadata().is_ok_and(|meta| meta.is_file())
    {
        return open(&root, &index).map(|entry| as_page(entry, false));
    }
    match open(&root, &wanted) {
        Ok(entry) if is_page(&segments) => Ok(as_page(entry, wanted.extension() == Some(OsStr::new("gz")))),
        Err(error) if error.kind() == ErrorKind::NotFound && wanted != root && !path.ends_with('/') => {
            let mut name = wanted.into_os_string();
            name.push(".gz");
            open(&root, Path::new(&name))
        }
        found => found,
    }
}

/// The depth of a run's folder: `NN/CHANGE/PATCHSET/JOB/RUN`.
const RUN_DEPTH: usize = 5;

/// Whether a path is that of a page of a run: in its folder, or a page of tests in its folder `logs`. Anything else of
/// such a name is a node's, and text.
fn is_page(segments: &[&str]) -> bool {
    match segments.get(RUN_DEPTH..) {
        Some([name]) => is_page_name(name),
        Some(["logs", name]) => is_page_name(name) && *name != INDEX_PAGE && *name != CONSOLE_PAGE,
        _ => false,
    }
}

/// Shows a file as a page, where it is what its name says.
fn as_page(entry: Entry, compressed: bool) -> Entry {
    match entry {
        Entry::File(LogFile { file, length, content: Content::Text }) if !compressed => {
            Entry::File(LogFile { file, length, content: Content::Page { compressed } })
        }
        Entry::File(LogFile { file, length, content: Content::GzippedText }) if compressed => {
            Entry::File(LogFile { file, length, content: Content::Page { compressed } })
        }
        other => other,
    }
}

fn open(root: &Path, wanted: &Path) -> io::Result<Entry> {
    let real = wanted.canonicalize().map_err(|error| match error.kind() {
        // A file where the path needs a folder.
        ErrorKind::NotADirectory => ErrorKind::NotFound.into(),
        _ => error,
    })?;
    is_within(root, &real)?;
    // Before opening: opening a named pipe waits for its writer.
    let kind = real.metadata()?.file_type();
    if kind.is_dir() {
        return Ok(Entry::Folder(list(&real)?));
    }
    if !kind.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let mut file = File::open(&real)?;
    still_within(root, &file)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let content = sniff(&mut file, &real)?;
    Ok(Entry::File(LogFile { length: metadata.len(), file, content }))
}

/// Symbolic links may point to places within the folder, but not out of it and not to hidden files.
fn is_within(root: &Path, real: &Path) -> io::Result<()> {
    let hidden = |part: Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
    match real.strip_prefix(root) {
        Ok(inner) if !inner.components().any(hidden) => Ok(()),
        _ => Err(ErrorKind::NotFound.into()),
    }
}

/// The same check of the opened file, in case a link was replaced between the check and the opening.
#[cfg(target_os = "linux")]
fn still_within(root: &Path, file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let opened: PathBuf = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    is_within(root, &opened)
}

#[cfg(not(target_os = "linux"))]
fn still_within(_root: &Path, _file: &File) -> io::Result<()> {
    Ok(())
}

/// Text or binary, by the first bytes. The name decides only what a compressed file contains.
fn sniff(file: &mut File, path: &Path) -> io::Result<Content> {
    let mut start = Vec::new();
    file.by_ref().take(SNIFF).read_to_end(&mut start)?;
    file.rewind()?;
    let inner = path.file_stem().map(Path::new).and_then(Path::extension).and_then(OsStr::to_str);
    Ok(match start.as_slice() {
        [0x1f, 0x8b, ..] if path.extension() == Some(OsStr::new("gz")) => match inner {
            Some(ending) if ARCHIVES.contains(&ending) => Content::Bytes,
            _ => Content::GzippedText,
        },
        bytes if bytes.contains(&0) => Content::Bytes,
        [0x1f, 0x8b, ..] => Content::Bytes,
        _ => Content::Text,
    })
}

fn list(folder: &Path) -> io::Result<Vec<Listed>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A URL cannot name what is not UTF-8.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if name.starts_with('.') || !(metadata.is_file() || metadata.is_dir()) {
            continue;
        }
        let (is_file, modified) = (metadata.is_file(), metadata.modified().ok());
        entries.push(Listed { is_file, name, length: metadata.len(), modified });
        if entries.len() > MAX_ENTRIES {
            break;
        }
    }
    entries.sort();
    Ok(entries)
}
