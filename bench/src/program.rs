//! pushbutton-bin as a process, followed by its log.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;

use crate::review_server::ReviewServer;

/// The program that is measured: `PUSHBUTTON_BIN`, or the one that was built beside the tests.
pub(crate) fn path() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PUSHBUTTON_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("pushbutton-bin"))
        .find(|path| path.exists());
    found.context("there is no pushbutton-bin beside this program: run `cargo build --workspace`, or set PUSHBUTTON_BIN")
}

/// A configuration of a handler and an operator with one job, `unit`, on this machine. `queue` is a section of it, or empty.
pub(crate) fn write_config(
    folder: &Path,
    server: &ReviewServer,
    queue: &str,
    ansible: &str,
) -> anyhow::Result<PathBuf> {
    let folder_name = folder.display();
    let text = format!(
        "owner: bench\nstate: {folder_name}/state\n\
         gerrit:\n  host: {host}\n  port: {port}\n  user: {user}\n  key: {key}\n  host_key: {{known_hosts: {known_hosts}}}\n\
         {queue}\
         machines:\n  - {{label: here, name: here, local: true}}\n\
         ansible:\n  playbooks: {folder_name}\n{ansible}\
         logs: {{dir: {folder_name}/logs}}\n\
         triggers:\n  - name: recheck\n    on: {{comment: {{pattern: '^recheck'}}}}\n    jobs: [unit]\n\
         jobs:\n  unit: {{node: here, stages: [{{name: test, playbook: unit.yml}}]}}\n",
        host = ReviewServer::HOST,
        port = server.port,
        user = ReviewServer::USER,
        key = server.key().display(),
        known_hosts = server.known_hosts().display(),
    );
    std::fs::create_dir_all(folder.join("state"))?;
    std::fs::write(folder.join("unit.yml"), "- hosts: all\n  gather_facts: false\n  tasks: []\n")?;
    let config = folder.join("pushbutton.yml");
    std::fs::write(&config, text)?;
    Ok(config)
}

/// A running pushbutton-bin. It is killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    pub(crate) began: Instant,
}

impl Program {
    /// Starts one half. `level` is what it logs, as JSON.
    pub(crate) fn start(half: &str, config: &Path, level: &str) -> anyhow::Result<Self> {
        let began = Instant::now();
        let mut child = Command::new(path()?)
            .args(["--log-format", "json", "--log-level", level, "--config"])
            .arg(config)
            .arg(half)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = BufReader::new(child.stderr.take().context("its log is piped")?).lines();
        Ok(Self { child, log, began })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the log up to a line with one of these texts.
    pub(crate) fn wait_for(&mut self, texts: &[&str]) -> anyhow::Result<String> {
        let mut last = String::new();
        for line in self.log.by_ref() {
            let line = line?;
            if texts.iter().any(|text| line.contains(text)) {
                return Ok(line);
            }
            last = line;
        }
        let status = self.child.wait()?;
        anyhow::bail!("pushbutton-bin ended with {status}; the last it said:\n{last}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
