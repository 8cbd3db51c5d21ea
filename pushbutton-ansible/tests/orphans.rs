//! What an operator leaves that is killed by `kill -9`: the next one ends its processes and removes its files, and touches nobody else's.
#![allow(clippy::unwrap_used, reason = "test support: what does not work must end the test, loudly")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Lab, config, local};
use pushbutton_ansible::{AnsibleConfig, AnsibleExecutor};
use pushbutton_core::HumanDuration;
use tempfile::TempDir;

/// Set for the copies of this program that play an operator: the folder to do it in.
const PLAY: &str = "PUSHBUTTON_TEST_OPERATOR";

/// Another process that runs a stage; the stage has left a daemon behind and goes on.
struct Operator {
    process: Child,
    folder: TempDir,
}

impl Operator {
    async fn start(state: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_killed_operators_processes_are_ended_and_a_living_ones_are_not"]);
        command.env(PLAY, folder.path()).env("PUSHBUTTON_TEST_STATE", state);
        // Being killed, it cannot remove its temporary files.
        command.env("TMPDIR", folder.path());
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut operator = Self { process, folder };
        while !marker(operator.folder.path()).exists() {
            assert_eq!(operator.process.try_wait().unwrap(), None, "the operator ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        operator
    }

    /// Its processes, by their command lines: the stage's have its folder in their environment, and of its own copy's the folder in `PLAY`.
    fn processes(&self) -> Vec<String> {
        let ours = self.folder.path().as_os_str().as_encoded_bytes();
        let theirs = |path: &PathBuf| {
            let environment = std::fs::read(path.join("environ")).unwrap_or_default();
            environment.windows(ours.len()).any(|part| part == ours)
        };
        let command = |path: PathBuf| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        all.filter(theirs).map(command).collect()
    }

    fn daemon_lives(&self) -> bool {
        let pid = std::fs::read_to_string(marker(self.folder.path())).unwrap();
        // One that ended and that nobody asks for still has a folder there, but no command line.
        std::fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| line.starts_with(b"sleep"))
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn marker(folder: &Path) -> PathBuf {
    folder.join("daemon")
}

fn settings(folder: &Path) -> AnsibleConfig {
    // Passed on to the stage, so that the test finds its processes.
    let env = vec![PLAY.to_owned()];
    AnsibleConfig { work_dir: Some(folder.into()), kill_grace: HumanDuration::secs(5), env, ..config() }
}

async fn play_operator(folder: &Path) {
    let state = PathBuf::from(std::env::var_os("PUSHBUTTON_TEST_STATE").unwrap());
    let mut lab = Lab::new(settings(&state));
    lab.context.vars.insert("marker".into(), marker(folder).to_str().unwrap().into());
    let outcome = lab.run("strays.yml", &local()).await;
    unreachable!("the stage ended: {outcome:?}");
}

fn homes(state: &Path) -> usize {
    std::fs::read_dir(state).unwrap().count()
}

#[tokio::test]
async fn a_killed_operators_processes_are_ended_and_a_living_ones_are_not() {
    if let Some(folder) = std::env::var_os(PLAY) {
        return play_operator(folder.as_ref()).await;
    }
    let state = tempfile::tempdir().unwrap();
    let (mut killed, mut living) = tokio::join!(Operator::start(state.path()), Operator::start(state.path()));
    assert_eq!(homes(state.path()), 2);

    killed.kill();
    assert!(killed.daemon_lives(), "it would be ended without us: the test shows nothing");
    let executor = AnsibleExecutor::new(settings(state.path()), state.path()).unwrap();
    executor.end_strays().await;
    assert_eq!(killed.processes(), [] as [&str; 0]);
    assert!(!killed.daemon_lives());
    assert!(living.daemon_lives() && living.process.try_wait().unwrap().is_none());
    assert_eq!(homes(state.path()), 2, "the living one's and our own");

    living.kill();
    executor.end_strays().await;
    assert_eq!(living.processes(), [] as [&str; 0]);
    assert_eq!(homes(state.path()), 1);
}
