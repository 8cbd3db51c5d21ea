use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pushbutton_core::{Node, Result, RunId};

use crate::callback::PLUGIN;
use crate::error::local;
use crate::inventory;

/// The files of one stage, in a folder that only we can read and that goes with this value; and the run's known hosts, which stay for the
/// stages to come.
#[derive(Debug)]
pub(crate) struct StageFiles {
    folder: PathBuf,
    known_hosts: PathBuf,
}

impl StageFiles {
    /// Makes the folders. `mark` is unique to the stage.
    pub(crate) fn create(home: &Path, run: &RunId, mark: &str) -> Result<Self> {
        let run_dir = home.join(run.as_str());
        let files = Self { folder: run_dir.join(mark), known_hosts: run_dir.join("known_hosts") };
        for folder in [&files.folder, &files.plugins(), &files.temporary()] {
            private_dir(folder).map_err(|error| local(error, "cannot make the stage's folder", folder))?;
        }
        files.write(&files.plugins().join("pushbutton.py"), PLUGIN)?;
        files.write(&files.events(), "")?;
        Ok(files)
    }

    /// Writes what Ansible reads.
    pub(crate) fn fill(&self, nodes: &[Node], vars: &str, secrets: &str) -> Result<()> {
        let inventory = inventory::inventory(nodes, &self.known_hosts)?;
        self.write(&self.inventory(), &inventory.to_string())?;
        self.write(&self.vars(), vars)?;
        self.write(&self.secrets(), secrets)?;
        let known = fs::read_to_string(&self.known_hosts).unwrap_or_default();
        let mut lines: Vec<&str> = known.lines().collect();
        let pinned = inventory::pinned(nodes);
        lines.extend(
            pinned.iter().map(String::as_str).filter(|line| !known.lines().any(|known| known == *line)),
        );
        let text = lines.iter().flat_map(|line| [*line, "\n"]).collect::<String>();
        self.write(&self.known_hosts, &text)
    }

    fn write(&self, path: &Path, text: &str) -> Result<()> {
        let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        open.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| local(error, "cannot write the stage's file", path))
    }

    pub(crate) fn inventory(&self) -> PathBuf {
        self.folder.join("inventory.json")
    }

    pub(crate) fn vars(&self) -> PathBuf {
        self.folder.join("vars.yml")
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.folder.join("secrets.yml")
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.folder.join("events.jsonl")
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.join("plugins")
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }
}

impl Drop for StageFiles {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot remove a stage's files: they may hold secrets");
        }
    }
}

/// Makes a folder and what leads to it, for us alone.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn files(work_dir: &Path, mark: &str) -> StageFiles {
        StageFiles::create(work_dir, &RunId::new("run-1").unwrap(), mark).unwrap()
    }

    fn node(key: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "id": "1", "name": "n", "label": "l", "address": "192.0.2.1", "port": 22, "user": "u", "host_keys": [key]
        }))
        .unwrap()
    }

    #[test]
    fn secrets_are_ours_alone_and_go_with_the_stage() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), "a");
        files.fill(&[], "", "password: x").unwrap();
        let secrets = files.secrets();
        assert_eq!(fs::metadata(&secrets).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(secrets.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(files);
        assert!(!secrets.exists());
    }

    #[test]
    fn known_hosts_stay_for_the_next_stage_of_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let first = files(folder.path(), "a");
        fs::write(&first.known_hosts, "192.0.2.9 ssh-ed25519 LEARNT\n").unwrap();
        drop(first);
        let second = files(folder.path(), "b");
        for _ in 0..2 {
            second.fill(&[node("ssh-ed25519 AAAA")], "", "").unwrap();
        }
        let known = fs::read_to_string(&second.known_hosts).unwrap();
        assert_eq!(known, "192.0.2.9 ssh-ed25519 LEARNT\n192.0.2.1 ssh-ed25519 AAAA\n");
    }
}
