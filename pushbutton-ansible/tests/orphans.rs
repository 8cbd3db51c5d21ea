//! Orphans of an operator that was killed by `kill -9`: the next operator stops them and removes their files, and
//! leaves others alone.
#![allow(clippy::unwrap_used, reason = "in tests a failed step must fail the test")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{TestRun, config, local_node};
use pushbutton_ansible::{AnsibleConfig, AnsibleExecutor};
use pushbutton_core::HumanDuration;
use tempfile::TempDir;

/// Set in copies of this program that act as an operator: the folder to use.
const OPERATOR_FOLDER: &str = "PUSHBUTTON_TEST_OPERATOR";

/// Another process that runs a stage; the stage has left a daemon behind and goes on.
struct Operator {
    process: Child,
    folder: TempDir,
}

impl Operator {
    async fn start(state: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "processes_of_a_killed_operator_are_stopped_and_those_of_a_running_one_are_not",
        ]);
        command.env(OPERATOR_FOLDER, folder.path()).env("PUSHBUTTON_TEST_STATE", state);
        // It will be killed, and cannot remove its temporary files itself.
        command.env("TMPDIR", folder.path());
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut operator = Self { process, folder };
        while !marker(operator.folder.path()).exists() {
            assert_eq!(operator.process.try_wait().unwrap(), None, "the operator ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        operator
    }

    /// Its processes, by their command lines: the stage's have its folder in their environment, and of its own copy's
    /// the folder in `OPERATOR_FOLDER`.
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

    fn daemon_runs(&self) -> bool {
        let pid = std::fs::read_to_string(marker(self.folder.path())).unwrap();
        // A zombie still has a folder there, but no command line.
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
    // The stage inherits it, so that the test finds its processes.
    let env = vec![OPERATOR_FOLDER.to_owned()];
    config().with_work_dir(folder.to_owned()).with_kill_grace(HumanDuration::secs(5)).with_env(env)
}

async fn act_as_operator(folder: &Path) {
    let state = PathBuf::from(std::env::var_os("PUSHBUTTON_TEST_STATE").unwrap());
    let mut run = TestRun::new(settings(&state));
    run.context.vars.insert("marker".into(), marker(folder).to_str().unwrap().into());
    let outcome = run.playbook("leaves_a_daemon.yml", &local_node()).await;
    unreachable!("the stage ended: {outcome:?}");
}

fn workspaces(state: &Path) -> usize {
    std::fs::read_dir(state).unwrap().count()
}

#[tokio::test]
async fn processes_of_a_killed_operator_are_stopped_and_those_of_a_running_one_are_not() {
    if let Some(folder) = std::env::var_os(OPERATOR_FOLDER) {
        return act_as_operator(folder.as_ref()).await;
    }
    let state = tempfile::tempdir().unwrap();
    let (mut killed, mut running) =
        tokio::join!(Operator::start(state.path()), Operator::start(state.path()));
    assert_eq!(workspaces(state.path()), 2);

    killed.kill();
    assert!(killed.daemon_runs(), "it must still run, or the test shows nothing");
    let executor = AnsibleExecutor::new(settings(state.path()), state.path()).unwrap();
    executor.stop_orphans().await;
    assert_eq!(killed.processes(), [] as [&str; 0]);
    assert!(!killed.daemon_runs());
    assert!(running.daemon_runs() && running.process.try_wait().unwrap().is_none());
    assert_eq!(workspaces(state.path()), 2, "the running operator's and this test's");

    running.kill();
    executor.stop_orphans().await;
    assert_eq!(running.processes(), [] as [&str; 0]);
    assert_eq!(workspaces(state.path()), 1);
}
