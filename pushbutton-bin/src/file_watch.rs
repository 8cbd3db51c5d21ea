//! Learns from the kernel (inotify) that files may have changed.
//!
//! Folders are watched, because editors and `mv` put another file in the place of the old one. Kubernetes replaces a
//! symbolic link on the way to the file (`..data`), so each link on the way is watched as well. A single file that is
//! mounted into a container has its folder elsewhere, so the file itself is watched, too.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

/// As the kernel's own limit: more links are a loop.
const MAX_LINKS: usize = 40;

/// A change is over when nothing has happened for so long, ...
const QUIET: Duration = Duration::from_millis(250);
/// ... or after this time.
const LONGEST: Duration = Duration::from_secs(2);

/// Watches files, those that are not there yet included.
#[derive(Debug)]
pub(crate) struct FileWatch {
    inotify: AsyncFd<OwnedFd>,
    /// Of the files and links, in whichever of the folders.
    names: BTreeSet<OsString>,
}

impl FileWatch {
    /// Watches from now on. Where links on the way lead is looked up once: after a change it needs to be made anew.
    ///
    /// # Errors
    /// When the system gives no more watches, or no folder can be watched.
    pub(crate) fn new(files: &BTreeSet<PathBuf>) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let (mut names, mut folders) = (BTreeSet::new(), BTreeSet::new());
        for (folder, name) in files.iter().flat_map(|file| entries(file)) {
            names.insert(name);
            folders.insert(folder);
        }
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for file in files {
            // It need not be there.
            let _ = inotify::add_watch(&inotify, file, WatchFlags::CLOSE_WRITE);
        }
        let mut result = Ok(());
        let mut watched = 0;
        for folder in folders {
            match inotify::add_watch(&inotify, &folder, flags) {
                Ok(_) => watched += 1,
                Err(error) => result = Err(error),
            }
        }
        // A folder of a secret may be missing; the one of the configuration is not.
        if watched == 0 {
            result?;
        }
        #[expect(
            deprecated,
            reason = "`register` is unsafe, for types whose descriptor may change: an OwnedFd's does not"
        )]
        let inotify = AsyncFd::new(inotify)?;
        Ok(Self { inotify, names })
    }

    /// Waits until one of the files may have changed, and nothing more has happened for a moment.
    ///
    /// # Errors
    /// When the kernel's events cannot be read.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        self.next().await?;
        let latest = Instant::now() + LONGEST;
        loop {
            match timeout_at((Instant::now() + QUIET).min(latest), self.next()).await {
                Ok(next) => next?,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Waits for an event of one of the files.
    async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            if self.read()? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Reads all events that are there. Returns whether one is of the files.
    fn read(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
        let mut is_ours = false;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(is_ours),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            // Without a name it is a file or a folder itself; after an overflow it may have been anything.
            is_ours |= match event.file_name() {
                Some(name) => self.names.contains(OsStr::from_bytes(name.to_bytes())),
                None => !event.events().contains(ReadFlags::IGNORED),
            };
        }
    }
}

/// The folder and name of the file, and of each symbolic link on the way to it.
fn entries(path: &Path) -> Vec<(PathBuf, OsString)> {
    let mut found = Vec::new();
    let (mut at, mut rest) = (PathBuf::new(), path.to_owned());
    'links: for _ in 0..MAX_LINKS {
        let parts: Vec<Component<'_>> = rest.components().collect();
        for (nth, part) in parts.iter().enumerate() {
            let below = at.join(part);
            let is_last = nth + 1 == parts.len();
            let link = std::fs::read_link(&below).ok();
            if let (Component::Normal(name), true) = (part, is_last || link.is_some()) {
                let folder = if at.as_os_str().is_empty() { Path::new(".") } else { &at };
                found.push((folder.to_owned(), (*name).to_owned()));
            }
            if let Some(target) = link {
                // An absolute target replaces what is before it.
                let target = at.join(target);
                let left: PathBuf = parts[nth + 1..].iter().collect();
                (at, rest) = (PathBuf::new(), if is_last { target } else { target.join(left) });
                continue 'links;
            }
            at = below;
        }
        break;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Does something while the file is watched; fails if nothing is noticed.
    async fn notices(file: &Path, what: &str, action: impl FnOnce()) {
        let watch = FileWatch::new(&BTreeSet::from([file.to_owned()])).unwrap();
        action();
        let noticed = tokio::time::timeout(LONG, watch.changed()).await;
        noticed.unwrap_or_else(|_| panic!("{what} was not noticed")).unwrap();
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = path("a.yml");
        notices(&file, "a new file", || fs::write(&file, "1").unwrap()).await;
        notices(&file, "a write", || fs::write(&file, "2").unwrap()).await;
        fs::write(path("b.yml"), "3").unwrap();
        notices(&file, "a rename", || fs::rename(path("b.yml"), &file).unwrap()).await;
        notices(&file, "a deletion", || fs::remove_file(&file).unwrap()).await;
        fs::write(path("b.yml"), "4").unwrap();
        notices(&file, "a link", || symlink("b.yml", &file).unwrap()).await;
        notices(&file, "a write to what the link names", || fs::write(path("b.yml"), "5").unwrap()).await;
    }

    /// As where a single file is mounted into a container: nothing happens in the folder that is watched.
    #[tokio::test]
    async fn a_write_by_another_name_of_the_file_is_noticed() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (file, other) = (here.path().join("a.yml"), there.path().join("b.yml"));
        fs::write(&file, "1").unwrap();
        fs::hard_link(&file, &other).unwrap();
        notices(&file, "a write", || fs::write(&other, "2").unwrap()).await;
    }

    /// As Kubernetes updates a volume of a ConfigMap.
    #[tokio::test]
    async fn a_link_on_the_way_that_is_replaced_is_noticed_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["..1", "..2", "..3"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("a.yml"), name).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/a.yml", path("a.yml")).unwrap();
        for name in ["..2", "..3"] {
            let swap = || {
                symlink(name, path("..tmp")).unwrap();
                fs::rename(path("..tmp"), path("..data")).unwrap();
            };
            notices(&path("a.yml"), name, swap).await;
            assert_eq!(fs::read_to_string(path("a.yml")).unwrap(), name);
        }
    }

    #[tokio::test]
    async fn other_files_of_the_folder_are_none_of_its_business() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yml");
        let watch = FileWatch::new(&BTreeSet::from([file.clone()])).unwrap();
        fs::write(folder.path().join("other"), "").unwrap();
        assert!(!watch.read().unwrap());
        fs::write(&file, "").unwrap();
        assert!(watch.read().unwrap());
    }

    #[test]
    fn links_in_a_circle_end() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(entries(&folder.path().join("a")).len() >= MAX_LINKS);
    }
}
