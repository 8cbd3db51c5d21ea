//! How long the folders of runs are kept.
//!
//! Folders are found by their layout, `NN/CHANGE/PATCHSET/JOB/RUN`, each level opened below the one before it and
//! without following links, so that nothing outside the root is ever reached. An old folder is first renamed to a hidden
//! name in the root, on the same file system: from then on no page shows half of it. Then it is deleted.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use pushbutton_core::{Current, RunId};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::{CONSOLE_LOG, INDEX_PAGE, RunPages};

/// How often old folders are looked for.
const INTERVAL: Duration = Duration::from_secs(3600);
/// So many folders are deleted in one pass: a lab that shortens `keep` gets its disk back in a few hours.
const MAX_DELETED: usize = 500;
/// So many entries are looked at in one pass.
const MAX_LOOKED_AT: usize = 1_000_000;
/// The pause after deleting a folder, as a multiple of the time that it took: the disk is the running runs' first.
const PAUSE: u32 = 2;
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Empty folders above runs are removed when nothing has changed in them for so long: a run that begins makes them.
const EMPTY_FOR: Duration = Duration::from_secs(24 * 3600);
/// What the hidden names of folders begin with that are being deleted.
const TRASH: &str = ".pushbutton-deleted-";

/// Deletes the folders of runs that ended long ago.
#[derive(Debug)]
pub struct Retention {
    root: PathBuf,
    keep: Current<Duration>,
    pages: RunPages,
}

/// What a pass did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pass {
    /// Folders of runs that were deleted.
    pub deleted: usize,
    /// Folders that could not be deleted; the log says why.
    pub failed: usize,
    /// Whether the bound of a pass was reached: more may be old.
    pub has_more: bool,
}

impl Retention {
    /// Below `root`, folders of runs in which nothing has changed for `keep`. Those that `pages` knows as running are left
    /// alone.
    pub fn new(root: impl Into<PathBuf>, keep: Duration, pages: RunPages) -> Self {
        Self::following(root, Current::new(keep), pages)
    }

    /// The same for a time that may be replaced meanwhile. While it is zero nothing is deleted.
    pub fn following(root: impl Into<PathBuf>, keep: Current<Duration>, pages: RunPages) -> Self {
        Self { root: root.into(), keep, pages }
    }

    /// Deletes old folders now, every hour, and when the time is replaced, until the future is dropped.
    pub async fn run(self) {
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut replaced = self.keep.watch();
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                // Its sender lives as long as this.
                _ = replaced.changed() => {}
            }
            match self.pass().await {
                Ok(Pass { deleted: 0, failed: 0, .. }) => {}
                Ok(Pass { deleted, failed, has_more }) => {
                    tracing::info!(deleted, failed, has_more, folder = %self.root.display(), "deleted old results");
                }
                Err(error) => {
                    tracing::warn!(folder = %self.root.display(), %error, "cannot look for old results, will retry in an hour");
                }
            }
        }
    }

    /// One pass. Bounded, with a pause after each folder.
    ///
    /// # Errors
    /// When the root cannot be read. A folder below it that cannot is passed over.
    pub async fn pass(&self) -> io::Result<Pass> {
        let (mut pass, keep) = (Pass::default(), *self.keep.get());
        if keep.is_zero() {
            return Ok(pass);
        }
        let root = self.root.clone();
        let Some((root, trash)) = blocking(move || {
            let root = match open_root(&root) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                root => root?,
            };
            // What an operator left that was killed while it deleted.
            let trash: Vec<_> = names(root.as_fd(), |name| name.starts_with(TRASH))?;
            Ok(Some((root, trash)))
        })
        .await?
        else {
            return Ok(pass);
        };
        let root = std::sync::Arc::new(root);
        for name in trash.into_iter().take(MAX_DELETED) {
            self.delete(name, &mut pass, false).await?;
        }
        let (running, from) = (self.pages.running(), root.clone());
        let old = blocking(move || find_old(from.as_fd(), keep, &running, SystemTime::now())).await?;
        pass.has_more = old.has_more;
        for (folder, run) in old.folders {
            // It may have begun meanwhile: an operator can run a job again, but never under an old id. Asked all the same.
            if self.pages.running().iter().any(|running| running.as_str() == run) {
                continue;
            }
            let (from, trash) = (root.clone(), format!("{TRASH}{run}"));
            let to = trash.clone();
            let renamed =
                blocking(move || Ok(renameat(folder.as_fd(), run.as_str(), from.as_fd(), to.as_str())))
                    .await?;
            match renamed {
                Ok(()) => self.delete(trash, &mut pass, true).await?,
                // Another operator with the same folder was first.
                Err(Errno::NOENT) => {}
                Err(error) => {
                    tracing::warn!(name = %trash, %error, "cannot rename an old folder of results");
                    pass.failed += 1;
                }
            }
        }
        blocking(move || {
            remove_empty(root.as_fd(), 0, SystemTime::now());
            Ok(())
        })
        .await?;
        Ok(pass)
    }

    /// Deletes a folder that has its hidden name.
    async fn delete(&self, name: String, pass: &mut Pass, counts: bool) -> io::Result<()> {
        let path = self.root.join(&name);
        let began = Instant::now();
        // The standard library deletes through descriptors of folders, and removes a link instead of following it.
        let deleted = blocking(move || Ok(remove(&path))).await?;
        match deleted {
            Ok(()) => pass.deleted += usize::from(counts),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(name, %error, "cannot delete old results");
                pass.failed += 1;
            }
        }
        tokio::time::sleep((began.elapsed() * PAUSE).min(MAX_PAUSE)).await;
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata()?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The root itself may be a link: its owner chose it.
fn open_root(root: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(root, flags, Mode::empty())?)
}

/// Opens a folder below another; a link is an error.
fn open_below(parent: rustix::fd::BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// The names in a folder that a test accepts, sorted.
fn names(folder: rustix::fd::BorrowedFd<'_>, accepts: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)?.take(MAX_LOOKED_AT) {
        let entry = entry?;
        names.extend(plain_name(entry.file_name()).filter(|name| accepts(name)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn plain_name(name: &CStr) -> Option<&str> {
    name.to_str().ok().filter(|name| !matches!(*name, "." | ".."))
}

/// The levels above the folder of a run: two or more digits, the change, the patch set, the job.
const LEVELS: usize = 4;

/// Whether a name may stand at a level, so that nobody else's folders are entered.
fn fits(level: usize, name: &str) -> bool {
    let is_number = |least: usize| name.len() >= least && name.bytes().all(|byte| byte.is_ascii_digit());
    match level {
        0 => is_number(2),
        1 | 2 => is_number(1),
        3 => !name.starts_with('.'),
        // Only ids that this program makes: a folder of any other name is a person's.
        _ => RunId::new(name).is_ok_and(|run| run.made_at().is_some()),
    }
}

#[derive(Default)]
struct Old {
    /// The folder of the job, and the name of the run's folder in it.
    folders: Vec<(std::sync::Arc<OwnedFd>, String)>,
    looked_at: usize,
    has_more: bool,
}

fn find_old(
    root: rustix::fd::BorrowedFd<'_>,
    keep: Duration,
    running: &HashSet<RunId>,
    now: SystemTime,
) -> io::Result<Old> {
    let mut old = Old::default();
    for name in names(root, |name| fits(0, name))? {
        search(root, &name, 0, keep, running, now, &mut old);
    }
    Ok(old)
}

/// Enters the folder `name` of this level.
fn search(
    parent: rustix::fd::BorrowedFd<'_>,
    name: &str,
    level: usize,
    keep: Duration,
    running: &HashSet<RunId>,
    now: SystemTime,
    old: &mut Old,
) {
    let Ok(folder) = open_below(parent, name) else { return };
    let Ok(found) = names(folder.as_fd(), |name| fits(level + 1, name)) else { return };
    let folder = std::sync::Arc::new(folder);
    for name in found {
        old.looked_at += 1;
        if old.looked_at > MAX_LOOKED_AT || old.folders.len() >= MAX_DELETED {
            old.has_more = true;
            return;
        }
        if level + 1 < LEVELS {
            search(folder.as_fd(), &name, level + 1, keep, running, now, old);
        } else if !running.iter().any(|run| run.as_str() == name) && is_old(folder.as_fd(), &name, keep, now)
        {
            old.folders.push((folder.clone(), name));
        }
    }
}

/// Whether nothing has changed in a run's folder for so long. A time that lies in the future, as after a clock was
/// wrong, does not count; then the time in the run's id does.
fn is_old(job: rustix::fd::BorrowedFd<'_>, name: &str, keep: Duration, now: SystemTime) -> bool {
    let Ok(folder) = open_below(job, name) else { return false };
    let own = statat(job, name, AtFlags::SYMLINK_NOFOLLOW).ok();
    let inner =
        [CONSOLE_LOG, INDEX_PAGE, "logs"].map(|file| statat(&folder, file, AtFlags::SYMLINK_NOFOLLOW).ok());
    let made = RunId::new(name).ok().and_then(|run| run.made_at()).map(SystemTime::from);
    let times = std::iter::once(own).chain(inner).flatten().filter_map(|stat| modified(&stat)).chain(made);
    let newest = times.filter(|time| *time <= now).max();
    newest.and_then(|newest| now.duration_since(newest).ok()).is_some_and(|age| age > keep)
}

fn modified(stat: &rustix::fs::Stat) -> Option<SystemTime> {
    let seconds = u64::try_from(stat.st_mtime).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Removes empty folders above runs, which are long unchanged. Removing fails for one that is not empty.
fn remove_empty(parent: rustix::fd::BorrowedFd<'_>, level: usize, now: SystemTime) {
    let Ok(found) = names(parent, |name| fits(level, name)) else { return };
    for name in found {
        let Ok(stat) = statat(parent, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        if level + 1 < LEVELS
            && let Ok(folder) = open_below(parent, &name)
        {
            remove_empty(folder.as_fd(), level + 1, now);
        }
        let unchanged = modified(&stat).and_then(|changed| now.duration_since(changed).ok());
        if unchanged.is_some_and(|unchanged| unchanged > EMPTY_FOR) {
            let _ = unlinkat(parent, name.as_str(), AtFlags::REMOVEDIR);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use pushbutton_core::{LogLocation, Reporter, Update, UpdateKind, samples};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const KEEP: Duration = Duration::from_secs(32 * 24 * 3600);

    /// A run id of this age.
    fn id(age: Duration) -> String {
        let made =
            SystemTime::now().checked_sub(age).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let millis = made.as_millis() as u64;
        let random = RunId::generate();
        format!("{:08x}-{:04x}-{}", millis >> 16, millis & 0xffff, &random.as_str()[14..])
    }

    fn set_age(path: &Path, age: Duration) {
        let time = SystemTime::now().checked_sub(age).unwrap();
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }

    /// Makes the folder of a run in which nothing has changed for so long.
    fn run_folder(root: &Path, age: Duration) -> PathBuf {
        let folder = root.join("45/12345/2/tempest").join(id(age));
        fs::create_dir_all(folder.join("logs")).unwrap();
        fs::write(folder.join(CONSOLE_LOG), "output").unwrap();
        fs::write(folder.join("logs/c-vol.txt"), "log").unwrap();
        for path in [folder.join(CONSOLE_LOG), folder.join("logs"), folder.clone()] {
            set_age(&path, age);
        }
        folder
    }

    fn retention(root: &Path) -> Retention {
        Retention::new(root, KEEP, RunPages::new(LogLocation::new(root)))
    }

    /// Everything below a folder, with the content of files.
    fn tree(root: &Path) -> Vec<(PathBuf, Option<String>)> {
        let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(Result::unwrap);
        entries
            .map(|entry| {
                let content = entry.file_type().is_file().then(|| fs::read_to_string(entry.path()).unwrap());
                (entry.path().strip_prefix(root).unwrap().to_owned(), content)
            })
            .collect()
    }

    #[tokio::test]
    async fn old_runs_are_deleted_and_young_ones_are_kept_whole() {
        let root = tempfile::tempdir().unwrap();
        let young = run_folder(root.path(), 31 * DAY);
        let before = tree(&young);
        let old = run_folder(root.path(), 33 * DAY);
        let pass = retention(root.path()).pass().await.unwrap();
        assert_eq!(pass, Pass { deleted: 1, failed: 0, has_more: false });
        assert!(old.symlink_metadata().is_err());
        assert_eq!(tree(&young), before);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing hidden is left in the root");
    }

    #[tokio::test]
    async fn a_run_whose_console_is_still_written_is_kept_however_old_its_folder_is() {
        let root = tempfile::tempdir().unwrap();
        let folder = run_folder(root.path(), 40 * DAY);
        set_age(&folder.join(CONSOLE_LOG), Duration::ZERO);
        let before = tree(root.path());
        assert_eq!(retention(root.path()).pass().await.unwrap(), Pass::default());
        assert_eq!(tree(root.path()), before);
    }

    #[tokio::test]
    async fn a_run_that_runs_here_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = run_folder(root.path(), 40 * DAY);
        let run = RunId::new(folder.file_name().unwrap().to_str().unwrap()).unwrap();
        let pages = RunPages::new(LogLocation::new(root.path()));
        let update = Update::new(samples::job("tempest"), UpdateKind::Started, samples::AT).with_run(run);
        pages.report(&update).await.unwrap();
        let before = tree(root.path());
        assert_eq!(Retention::new(root.path(), KEEP, pages).pass().await.unwrap(), Pass::default());
        assert_eq!(tree(root.path()), before);
    }

    #[tokio::test]
    async fn a_time_in_the_future_keeps_nothing_for_ever() {
        let root = tempfile::tempdir().unwrap();
        let folder = run_folder(root.path(), 40 * DAY);
        let future = SystemTime::now() + 400 * DAY;
        fs::File::open(folder.join(CONSOLE_LOG)).unwrap().set_modified(future).unwrap();
        assert_eq!(retention(root.path()).pass().await.unwrap().deleted, 1);
    }

    #[tokio::test]
    async fn links_are_never_followed_out_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        // A whole tree with the right names, outside.
        let precious = run_folder(outside.path(), 40 * DAY);
        let before = tree(outside.path());
        let job = root.path().join("45/12345/2/tempest");
        fs::create_dir_all(&job).unwrap();
        // At each level, and in the place of a run.
        symlink(outside.path().join("45"), root.path().join("46")).unwrap();
        symlink(outside.path().join("45/12345"), root.path().join("45/999")).unwrap();
        symlink(outside.path().join("45/12345/2"), root.path().join("45/12345/3")).unwrap();
        symlink(outside.path().join("45/12345/2/tempest"), root.path().join("45/12345/2/link")).unwrap();
        symlink(&precious, job.join(id(41 * DAY))).unwrap();
        // And within an old run: the link goes, what it leads to stays.
        let old = run_folder(root.path(), 42 * DAY);
        symlink(&precious, old.join("logs/link")).unwrap();
        for path in [old.join("logs"), old.clone()] {
            set_age(&path, 42 * DAY);
        }
        let pass = retention(root.path()).pass().await.unwrap();
        assert_eq!(pass, Pass { deleted: 1, failed: 0, has_more: false });
        assert!(old.symlink_metadata().is_err());
        assert_eq!(tree(outside.path()), before);
    }

    #[tokio::test]
    async fn folders_of_other_names_are_not_entered() {
        let root = tempfile::tempdir().unwrap();
        let old = run_folder(root.path(), 40 * DAY);
        let run = old.file_name().unwrap();
        for elsewhere in
            ["backup/12345/2/tempest", "45/abc/2/tempest", "45/12345/x/tempest", "45/12345/2/.hidden"]
        {
            let folder = root.path().join(elsewhere).join(run);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), "mine").unwrap();
            set_age(&folder, 40 * DAY);
        }
        let notes = root.path().join("45/12345/2/tempest/notes-of-a-person");
        fs::create_dir_all(&notes).unwrap();
        set_age(&notes, 40 * DAY);
        fs::rename(&old, root.path().join("old")).unwrap();
        let before = tree(root.path());
        assert_eq!(retention(root.path()).pass().await.unwrap(), Pass::default());
        assert_eq!(tree(root.path()), before);
    }

    #[tokio::test]
    async fn what_a_killed_operator_left_half_deleted_is_deleted() {
        let root = tempfile::tempdir().unwrap();
        let trash = root.path().join(format!("{TRASH}{}", id(DAY)));
        fs::create_dir_all(trash.join("logs")).unwrap();
        fs::write(trash.join("logs/x"), "x").unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "kept").unwrap();
        symlink(outside.path(), root.path().join(format!("{TRASH}link"))).unwrap();
        retention(root.path()).pass().await.unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(outside.path().join("file")).unwrap(), "kept");
    }

    #[tokio::test]
    async fn empty_folders_above_runs_go_a_day_later() {
        let root = tempfile::tempdir().unwrap();
        run_folder(root.path(), 40 * DAY);
        let levels = ["45", "45/12345", "45/12345/2", "45/12345/2/tempest"];
        assert_eq!(retention(root.path()).pass().await.unwrap().deleted, 1);
        // A run that begins now may be making its folder there.
        assert_eq!(tree(root.path()).len(), 1 + levels.len());
        for _ in levels {
            for level in levels.iter().rev().map(|level| root.path().join(level)) {
                if level.symlink_metadata().is_ok() {
                    set_age(&level, 2 * DAY);
                }
            }
            retention(root.path()).pass().await.unwrap();
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_pass_is_bounded() {
        let root = tempfile::tempdir().unwrap();
        for _ in 0..MAX_DELETED + 3 {
            let folder = root.path().join("45/12345/2/tempest").join(id(40 * DAY));
            fs::create_dir_all(&folder).unwrap();
            set_age(&folder, 40 * DAY);
        }
        let retention = retention(root.path());
        let pass = retention.pass().await.unwrap();
        assert_eq!((pass.deleted, pass.has_more), (MAX_DELETED, true));
        assert_eq!(retention.pass().await.unwrap(), Pass { deleted: 3, failed: 0, has_more: false });
    }

    #[tokio::test]
    async fn a_root_that_is_not_there_is_nothing_to_do() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(retention(&root.path().join("absent")).pass().await.unwrap(), Pass::default());
    }
}
