//! A process of ours, looked after as by a supervisor: whatever ends it, it is started again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a supervisor waits before it starts again what ended by itself.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// How long an orderly end may take on a machine under load: the shutdown deadline, and the node to be released.
const ORDERLY_END: Duration = Duration::from_secs(180);

/// A handler or an operator.
pub(crate) struct Crew {
    name: &'static str,
    half: &'static str,
    folder: PathBuf,
    child: Option<Child>,
    again_at: Option<Instant>,
    /// How it ended when nobody had asked it to.
    pub(crate) ended_by_itself: Vec<ExitStatus>,
}

impl Crew {
    /// Its configuration lies in `folder` already; its log goes there.
    pub(crate) fn start(name: &'static str, half: &'static str, folder: &Path) -> Self {
        let mut crew = Self {
            name,
            half,
            folder: folder.to_owned(),
            child: None,
            again_at: None,
            ended_by_itself: Vec::new(),
        };
        crew.run();
        crew
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
        (self.child, self.again_at) = (Some(child), None);
    }

    /// Starts it again if it has ended by itself.
    pub(crate) fn look_after(&mut self) {
        if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
            self.ended_by_itself.push(status);
            (self.child, self.again_at) = (None, Some(Instant::now() + RESTART_DELAY));
        }
        if self.again_at.is_some_and(|at| at <= Instant::now()) {
            self.run();
        }
    }

    /// Kills it as the kernel does when memory runs out. What it had started stays.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends it a signal, if it is there.
    pub(crate) fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            // It may just have ended by itself, and is not reaped yet: then the signal does nothing.
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
            assert!(sent.success(), "{signal} to the {}", self.name);
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(&mut self) {
        self.signal("-TERM");
        let Some(mut child) = self.child.take() else { return };
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if asked.elapsed() > ORDERLY_END {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!(
                    "the {} has not ended within {ORDERLY_END:?}: see {}",
                    self.name,
                    self.log().display()
                );
            }
            std::thread::park_timeout(Duration::from_millis(100));
        };
        // Asked to end while it still waits for its servers, or just when it gives up on them, it may say so.
        if !status.success() {
            self.ended_by_itself.push(status);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `pushbutton-bin` with the configuration of this folder.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushbutton-bin"));
    let level = std::env::var("CHAOS_LOG").unwrap_or_else(|_| "info".to_owned());
    command.arg("--config").arg(folder.join("pushbutton.yml")).env("RUST_LOG", level);
    command
}
