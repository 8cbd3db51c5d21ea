//! A folder with a configuration, and the command run on it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use pushbutton_testbed::{ansible_bin, until};
use tempfile::TempDir;

pub(crate) struct Lab {
    folder: TempDir,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Fails, and prints its output, unless it ended with this code.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// The top of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The command, without variables of the environment that it reads.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushbutton-bin"));
    for name in ["RUST_LOG", "PUSHBUTTON_CONFIG"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

impl Lab {
    /// One job on this machine, whose playbook waits for `seconds`, and a Gerrit that cannot be reached.
    pub(crate) fn new() -> Self {
        Self::with_gerrit("host: 127.0.0.1\n  port: 1\n  user: acme-ci\n  key: key")
    }

    /// The same, with these lines below `gerrit:`.
    pub(crate) fn with_gerrit(gerrit: &str) -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(lab.path("playbooks")).unwrap();
        lab.write("playbooks/wait.yml", WAIT);
        lab.write("key", "no key");
        lab.write("stream.jsonl", include_str!("../../../examples/demo/stream.jsonl"));
        lab.configure(&CONFIG.replace("@GERRIT@", gerrit));
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn configure(&self, text: &str) {
        self.write("pushbutton.yml", text);
    }

    pub(crate) fn config(&self) -> String {
        std::fs::read_to_string(self.path("pushbutton.yml")).unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command();
        command
            .arg("--config")
            .arg(self.path("pushbutton.yml"))
            .args(arguments)
            .current_dir(self.folder.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }

    /// Uses the real ansible-playbook.
    pub(crate) fn with_ansible(self) -> Self {
        let program = ansible_bin().join("ansible-playbook");
        self.configure(&self.config().replace(
            "playbooks: playbooks",
            &format!("playbooks: playbooks\n  ansible_playbook: {}", program.display()),
        ));
        self
    }
}

/// The timeout of an output line, also on a busy machine.
const LINE_TIMEOUT: Duration = Duration::from_secs(300);

/// The command while it runs. Killed on drop, should a test fail.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        // Ends with the command's output, or when the receiver is gone.
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Reads on until a line holds the text.
    pub(crate) fn says(&mut self, text: &str) {
        let mut seen = String::new();
        loop {
            let line = self.lines.recv_timeout(LINE_TIMEOUT);
            let line = line.unwrap_or_else(|why| panic!("{text:?} was not said ({why}):\n{seen}"));
            seen = seen + &line + "\n";
            if line.contains(text) {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn ends(mut self) -> (ExitStatus, String) {
        let status =
            until("the end of the command", Duration::from_secs(60), || self.child.try_wait().unwrap());
        (status, self.lines.iter().map(|line| line + "\n").collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

const WAIT: &str = "\
- hosts: nodes
  gather_facts: false
  tasks:
    - name: Wait
      ansible.builtin.command: sleep {{ seconds }}
";

const CONFIG: &str = "\
owner: lab
state: state
gerrit:
  @GERRIT@
machines:
  - {label: here, name: here, local: true, vars: {ansible_python_interpreter: /usr/bin/python3}}
ansible:
  playbooks: playbooks
logs:
  dir: logs
  url: https://logs.example.org
operator:
  shutdown_deadline: 1s
triggers:
  - name: recheck
    on:
      comment:
        pattern: ^recheck
    projects: [acme/*]
    jobs:
      - wait
jobs:
  wait:
    node: here
    vars: {seconds: 0}
    stages:
      - name: wait
        playbook: wait.yml
";
