//! The files that Ansible reads, in a folder that only this user can read.
//!
//! ```text
//! WORK_DIR/op-0123cdef/            one executor; locked while it lives, removed with it
//!     RUN/known_hosts              the run's host keys; kept between its stages
//!     RUN/STAGE/                   one stage: inventory, variables, secrets, events, plugin; removed when it ends
//! ```
//!
//! The kernel releases a lock when its process ends, also in a container. So an executor that can lock another one's
//! folder knows that the other has ended, and removes it.

use std::fs::{self, DirEntry, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pushbutton_core::{Node, Result, RunId};

use crate::error::local;
use crate::inventory;
use crate::live;
use crate::playbook_events::PLUGIN;

/// Known hosts of a run are kept this long after its last stage: the next stage follows within seconds.
const RUN_RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Where folders cannot be locked, as on some network file systems, another executor's folder is kept this long after
/// its last change.
const UNLOCKED_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// An executor's folder is named by this and random hexadecimal digits. The name is short because sockets may be made
/// below the folder, and a socket's path has room for 107 bytes (unix(7)).
const PREFIX: &str = "op-";
const DIGITS: usize = 8;

// What is in a stage's folder.
pub(crate) const INVENTORY: &str = "inventory.json";
pub(crate) const VARS: &str = "vars.yml";
pub(crate) const SECRETS: &str = "secrets.yml";
pub(crate) const EVENTS: &str = "events.jsonl";
pub(crate) const PLUGINS: &str = "plugins";
pub(crate) const TEMPORARY: &str = "tmp";
pub(crate) const ACTIONS: &str = "action";
pub(crate) const LIBRARY: &str = "library";

/// One executor's folder. Dropping it removes the folder.
#[derive(Debug)]
pub(crate) struct Workspace {
    work_dir: PathBuf,
    path: PathBuf,
    _lock: Option<File>,
}

impl Workspace {
    /// Makes the folder, and removes those of executors that have ended.
    pub(crate) fn create(work_dir: &Path) -> io::Result<Self> {
        loop {
            let id = RunId::generate();
            // The end of a UUID is random.
            let digits = id.as_str().get(id.as_str().len() - DIGITS..).unwrap_or_default();
            let path = work_dir.join(format!("{PREFIX}{digits}"));
            if path.exists() {
                continue;
            }
            create_private_dir(&path)?;
            // Until it is locked, another executor may remove it.
            let folder = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let lock = match folder.lock() {
                Ok(()) if !path.exists() => continue,
                Ok(()) => Some(folder),
                Err(error) => {
                    tracing::debug!(%error, "cannot lock folders here: those of killed operators are kept for a week");
                    None
                }
            };
            let workspace = Self { work_dir: work_dir.to_owned(), path, _lock: lock };
            workspace.remove_orphaned();
            return Ok(workspace);
        }
    }

    /// Where sockets of shared SSH connections are made: a socket's path must be short.
    pub(crate) fn sockets(&self) -> &Path {
        &self.path
    }

    /// Makes the folder of one stage. `id` is unique to the stage.
    pub(crate) fn create_stage(&self, run: &RunId, id: &str) -> Result<StageFiles> {
        let run_dir = self.path.join(run.as_str());
        if !run_dir.exists() {
            self.remove_ended_runs();
        }
        StageFiles::create(&run_dir, id)
    }

    fn remove_ended_runs(&self) {
        for run in folders_in(&self.path).filter(|run| is_older(run, RUN_RETENTION)) {
            // A stage that is still running has a folder in it, named by an id of ours.
            let is_stage = |folder: DirEntry| {
                let id = folder.file_name().to_str().and_then(|name| RunId::new(name).ok());
                id.is_some_and(|id| id.made_at().is_some())
            };
            if !folders_in(&run.path()).any(is_stage) {
                remove(&run.path());
            }
        }
    }

    /// Removes the folders of executors that have ended. Leaves alone what is not named as such a folder.
    pub(crate) fn remove_orphaned(&self) {
        for other in
            folders_in(&self.work_dir).filter(|entry| is_workspace(entry) && entry.path() != self.path)
        {
            let Ok(folder) = File::open(other.path()) else { continue };
            match folder.try_lock() {
                Ok(()) => remove(&other.path()),
                Err(fs::TryLockError::Error(_)) if is_older(&other, UNLOCKED_RETENTION) => {
                    remove(&other.path())
                }
                Err(fs::TryLockError::WouldBlock | fs::TryLockError::Error(_)) => {}
            }
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The files of one stage. Dropping this removes them, but not the known hosts, which the run's next stages use.
#[derive(Debug)]
pub(crate) struct StageFiles {
    folder: PathBuf,
    known_hosts: PathBuf,
    mark: RunId,
}

impl StageFiles {
    fn create(run_dir: &Path, id: &str) -> Result<Self> {
        let files = Self {
            folder: run_dir.join(id),
            known_hosts: run_dir.join("known_hosts"),
            mark: RunId::generate(),
        };
        for folder in [PLUGINS, ACTIONS, LIBRARY, TEMPORARY].map(|name| files.path(name)) {
            create_private_dir(&folder)
                .map_err(|error| local(error, "cannot make the stage's folder", &folder))?;
        }
        write(&files.path(ACTIONS).join(live::FILE), live::ACTION)?;
        write(&files.path(live::READER_FILE), live::READER)?;
        write(&files.path(LIBRARY).join(live::FILE), live::MODULE)?;
        write(&files.path(PLUGINS).join("pushbutton.py"), PLUGIN)?;
        write(&files.path(EVENTS), "")?;
        Ok(files)
    }

    /// Writes inventory, variables and secrets, and adds the nodes' known keys to the run's known hosts.
    pub(crate) fn write(&self, nodes: &[Node], vars: &str, secrets: &str) -> Result<()> {
        let inventory = inventory::inventory(nodes, &self.known_hosts)?;
        write(&self.path(INVENTORY), &inventory.to_string())?;
        write(&self.path(VARS), vars)?;
        write(&self.path(SECRETS), secrets)?;
        let mut known = fs::read_to_string(&self.known_hosts).unwrap_or_default();
        for line in inventory::known_hosts(nodes) {
            if !known.lines().any(|known| known == line) {
                known.extend([&line, "\n"]);
            }
        }
        write(&self.known_hosts, &known)
    }

    /// A secret of the stage: what lines of commands on nodes begin with.
    pub(crate) fn mark(&self) -> &str {
        self.mark.as_str()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for StageFiles {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Makes a folder and its parents, readable by this user only.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| local(error, "cannot write the stage's file", path))
}

fn folders_in(folder: &Path) -> impl Iterator<Item = DirEntry> {
    let is_folder = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    fs::read_dir(folder).into_iter().flatten().flatten().filter(is_folder)
}

fn is_workspace(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    name.to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
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
    use std::os::unix::fs::PermissionsExt;

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    fn make_old(folder: &Path) {
        let old = SystemTime::now() - 2 * RUN_RETENTION;
        File::open(folder).unwrap().set_modified(old).unwrap();
    }

    #[test]
    fn the_folder_of_an_ended_executor_is_removed_and_that_of_a_running_one_is_kept() {
        let work = tempfile::tempdir().unwrap();
        let running = Workspace::create(work.path()).unwrap();
        let ended = work.path().join("op-0123cdef");
        fs::create_dir_all(ended.join("run/stage")).unwrap();
        fs::write(ended.join("run/stage/secrets.yml"), "password: x").unwrap();
        let others = ["somebody", "op-", "op-mine", "op-0123cdefa"].map(|name| work.path().join(name));
        others.iter().for_each(|other| fs::create_dir(other).unwrap());
        fs::write(running.path.join("in-use"), "kept").unwrap();
        others.iter().for_each(|other| fs::write(other.join("file"), "not ours").unwrap());
        let new = Workspace::create(work.path()).unwrap();
        assert!(ended.symlink_metadata().is_err());
        assert_eq!(fs::read_to_string(running.path.join("in-use")).unwrap(), "kept");
        drop((running, new));
        assert_eq!(count(work.path()), others.len());
        for other in others {
            assert_eq!(fs::read_to_string(other.join("file")).unwrap(), "not ours", "{}", other.display());
        }
    }

    #[test]
    fn an_old_run_without_a_running_stage_is_removed_when_the_next_run_begins() {
        let work = tempfile::tempdir().unwrap();
        let workspace = Workspace::create(work.path()).unwrap();
        let stage = |run: &str| {
            workspace.create_stage(&RunId::new(run).unwrap(), RunId::generate().as_str()).unwrap()
        };
        drop(stage("ended"));
        let _running = stage("running");
        drop(stage("between-stages"));
        make_old(&workspace.path.join("ended"));
        make_old(&workspace.path.join("running"));
        let _next = stage("next");
        assert_eq!(count(&workspace.path), 3);
        assert!(!workspace.path.join("ended").exists());
    }

    #[test]
    fn secrets_are_readable_by_this_user_only_and_removed_with_the_stage() {
        let folder = tempfile::tempdir().unwrap();
        let files = StageFiles::create(&folder.path().join("run"), "a").unwrap();
        files.write(&[], "", "password: x").unwrap();
        let secrets = files.path(SECRETS);
        assert_eq!(fs::metadata(&secrets).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(secrets.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(files);
        assert!(!secrets.exists());
    }

    #[test]
    fn known_hosts_are_kept_for_the_next_stage_of_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::ssh("1", "l".parse().unwrap(), "192.0.2.1", "u")
            .with_host_keys(["ssh-ed25519 AAAA".into()]);
        let first = StageFiles::create(folder.path(), "a").unwrap();
        fs::write(&first.known_hosts, "192.0.2.9 ssh-ed25519 LEARNT\n").unwrap();
        drop(first);
        let second = StageFiles::create(folder.path(), "b").unwrap();
        for _ in 0..2 {
            second.write(std::slice::from_ref(&node), "", "").unwrap();
        }
        let known = fs::read_to_string(&second.known_hosts).unwrap();
        assert_eq!(known, "192.0.2.9 ssh-ed25519 LEARNT\n192.0.2.1 ssh-ed25519 AAAA\n");
    }
}
