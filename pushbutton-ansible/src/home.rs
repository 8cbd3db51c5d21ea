//! The folder below the work folder in which one executor keeps its runs' files.
//!
//! It is locked for as long as the executor lives. The kernel undoes a dead process's locks, after a reboot and in containers too; so whoever can
//! lock a folder may remove it.

use std::fs::{self, DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pushbutton_core::{Result, RunId};

use crate::stage_files::{StageFiles, private_dir};

/// Known hosts of a run are kept this long after its last stage: its next one follows within seconds.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// Where folders cannot be locked, as on some network file systems, another executor's is left alone for so long after its last run.
const KEEP_UNLOCKED: Duration = Duration::from_secs(7 * 24 * 3600);
/// What the folder's name begins with.
const PREFIX: &str = "op-";
/// So many hexadecimal digits follow. Few: below it a socket may be made, whose path has room for 107 bytes (unix(7)).
const DIGITS: usize = 8;

/// An executor's folder, which goes with it.
#[derive(Debug)]
pub(crate) struct Home {
    work_dir: PathBuf,
    path: PathBuf,
    _lock: Option<File>,
}

impl Home {
    /// Makes a folder, and removes those that dead executors left.
    pub(crate) fn make(work_dir: &Path) -> io::Result<Self> {
        loop {
            let id = RunId::generate();
            // The end of a UUID is random.
            let digits = id.as_str().get(id.as_str().len() - DIGITS..).unwrap_or_default();
            let path = work_dir.join(format!("{PREFIX}{digits}"));
            if path.exists() {
                continue;
            }
            private_dir(&path)?;
            // Another executor may find it before we lock it, and remove it.
            let folder = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let lock = match folder.lock() {
                Ok(()) if !path.exists() => continue,
                Ok(()) => Some(folder),
                Err(error) => {
                    tracing::debug!(%error, "folders cannot be locked here: what a dead operator leaves stays for a week");
                    None
                }
            };
            let home = Self { work_dir: work_dir.to_owned(), path, _lock: lock };
            home.clear_abandoned();
            return Ok(home);
        }
    }

    /// Makes the files of one stage. `id` is unique to the stage.
    pub(crate) fn stage(&self, run: &RunId, id: &str) -> Result<StageFiles> {
        if !self.path.join(run.as_str()).exists() {
            self.clear_ended();
        }
        StageFiles::create(&self.path, run, id)
    }

    /// Removes what runs of ours left that have had no stage for long.
    fn clear_ended(&self) {
        for run in folders_in(&self.path).filter(|run| is_older(run, KEEP)) {
            // A stage that runs has a folder in there.
            if !folders_in(&run.path()).any(|folder| is_stage(&folder)) {
                remove(&run.path());
            }
        }
    }

    /// Removes the folders of executors that are no more.
    pub(crate) fn clear_abandoned(&self) {
        // Nothing but what has the form of our names, should somebody keep other things there.
        let is_executors = |entry: &DirEntry| is_home(entry) && entry.path() != self.path;
        for other in folders_in(&self.work_dir).filter(is_executors) {
            let Ok(folder) = File::open(other.path()) else { continue };
            match folder.try_lock() {
                Ok(()) => remove(&other.path()),
                Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(_)) if is_older(&other, KEEP_UNLOCKED) => remove(&other.path()),
                Err(fs::TryLockError::Error(_)) => {}
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn folders_in(folder: &Path) -> impl Iterator<Item = DirEntry> {
    let is_folder = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    fs::read_dir(folder).into_iter().flatten().flatten().filter(is_folder)
}

fn is_home(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    name.to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A stage's folder is named by an id of ours.
fn is_stage(entry: &DirEntry) -> bool {
    let id = entry.file_name().to_str().and_then(|name| RunId::new(name).ok());
    id.is_some_and(|id| id.made_at().is_some())
}

fn is_older(entry: &DirEntry, limit: Duration) -> bool {
    let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
    modified.and_then(|then| SystemTime::now().duration_since(then).ok()).is_some_and(|age| age > limit)
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove files of stages: they may hold secrets");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    fn age(folder: &Path) {
        let old = SystemTime::now() - 2 * KEEP;
        File::open(folder).unwrap().set_modified(old).unwrap();
    }

    #[test]
    fn a_dead_executors_folder_goes_and_a_living_ones_stays() {
        let work = tempfile::tempdir().unwrap();
        let living = Home::make(work.path()).unwrap();
        let dead = work.path().join("op-0123cdef");
        fs::create_dir_all(dead.join("run/stage")).unwrap();
        fs::write(dead.join("run/stage/secrets.yml"), "password: x").unwrap();
        let others = ["somebody", "op-", "op-mine", "op-0123cdefa"].map(|name| work.path().join(name));
        others.iter().for_each(|other| fs::create_dir(other).unwrap());
        let new = Home::make(work.path()).unwrap();
        assert!(!dead.exists() && living.path.exists());
        drop((living, new));
        assert_eq!(names(work.path()), others.len());
        assert!(others.iter().all(|other| other.exists()));
    }

    #[test]
    fn a_run_without_a_stage_for_long_goes_when_the_next_run_begins() {
        let work = tempfile::tempdir().unwrap();
        let home = Home::make(work.path()).unwrap();
        let run = |name: &str| RunId::new(name).unwrap();
        let stage = |name: &str| home.stage(&run(name), RunId::generate().as_str()).unwrap();
        drop(stage("ended"));
        let _running = stage("running");
        drop(stage("between-stages"));
        age(&home.path.join("ended"));
        age(&home.path.join("running"));
        let _next = stage("next");
        assert_eq!(names(&home.path), 3);
        assert!(!home.path.join("ended").exists());
    }
}
