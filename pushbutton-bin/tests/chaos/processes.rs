//! A handler or operator process under a supervisor: when it ends by itself, it is restarted.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The supervisor's delay before a restart.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// The timeout of a graceful shutdown on a machine under load: the shutdown deadline, and the release of the node.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(180);

/// A handler or an operator.
pub(crate) struct Process {
    name: &'static str,
    half: &'static str,
    folder: PathBuf,
    child: Option<Child>,
    restart_at: Option<Instant>,
    /// The exit statuses without a request to end, or with a failure.
    pub(crate) unexpected_ends: Vec<ExitStatus>,
}

impl Process {
    /// Its configuration is in `folder`; its log is written there.
    pub(crate) fn start(name: &'static str, half: &'static str, folder: &Path) -> Self {
        let mut process = Self {
            name,
            half,
            folder: folder.to_owned(),
            child: None,
            restart_at: None,
            unexpected_ends: Vec::new(),
        };
        process.run();
        process
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log.jsonl")
    }

    /// Starts it.
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = command(&self.folder);
        command.args(["--log-format", "json", self.half, "--wait", "1m"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        (self.child, self.restart_at) = (Some(child), None);
    }

    /// Restarts it if it has ended by itself.
    pub(crate) fn supervise(&mut self) {
        if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
            self.unexpected_ends.push(status);
            (self.child, self.restart_at) = (None, Some(Instant::now() + RESTART_DELAY));
        }
        if self.restart_at.is_some_and(|at| at <= Instant::now()) {
            self.run();
        }
    }

    /// Kills it as the kernel does when memory runs out. Its child processes stay.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Removes the link to `ansible-playbook`, as a broken upgrade does.
    pub(crate) fn hide_ansible(&self) {
        let link = ansible_link(&self.folder);
        std::fs::rename(&link, link.with_extension("away")).unwrap();
    }

    /// Puts it back.
    pub(crate) fn restore_ansible(&self) {
        let link = ansible_link(&self.folder);
        std::fs::rename(link.with_extension("away"), link).unwrap();
    }

    /// Sends it a signal, if it runs.
    pub(crate) fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            // It may have ended by itself and not be reaped yet: then the signal has no effect.
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
            assert!(sent.success(), "{signal} to the {}", self.name);
        }
    }

    /// Shuts it down gracefully, and waits for its end.
    pub(crate) fn end(&mut self) {
        self.signal("-TERM");
        let Some(mut child) = self.child.take() else { return };
        let requested = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if requested.elapsed() > SHUTDOWN_TIMEOUT {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!(
                    "the {} has not ended within {SHUTDOWN_TIMEOUT:?}: see {}",
                    self.name,
                    self.log().display()
                );
            }
            std::thread::park_timeout(Duration::from_millis(100));
        };
        // It may fail because it still waited for its servers.
        if !status.success() {
            self.unexpected_ends.push(status);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The `ansible-playbook` of the process with this folder.
pub(crate) fn ansible_link(folder: &Path) -> PathBuf {
    folder.join("ansible-playbook")
}

/// `pushbutton-bin` with the configuration of this folder.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushbutton-bin"));
    let level = std::env::var("CHAOS_LOG").unwrap_or_else(|_| "info".to_owned());
    command.arg("--config").arg(folder.join("pushbutton.yml")).env("RUST_LOG", level);
    command
}
