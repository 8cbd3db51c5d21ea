//! The contract of `Executor`, with a real ansible-playbook.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

mod common;

use std::cell::Cell;
use std::path::PathBuf;

use common::{config, label, local_node, stage};
use pushbutton_ansible::{AnsibleExecutor, CONSOLE_LOG};
use pushbutton_core::{Executor, HumanDuration, Node, Stage, StageContext};
use pushbutton_testkit::conformance::execute::{self, ExecutorHarness, StageBehavior, context_at};
use tempfile::TempDir;

struct Ansible {
    executor: AnsibleExecutor,
    folder: TempDir,
}

impl ExecutorHarness for Ansible {
    fn executor(&self) -> &dyn Executor {
        &self.executor
    }

    fn stage(&self, does: StageBehavior) -> Option<(Stage, Vec<Node>)> {
        let nobody = || vec![Node::ssh("node", label(), "127.0.0.1", "root").with_port(closed_port())];
        Some(match does {
            StageBehavior::Passes => (stage("passes.yml"), local_node()),
            StageBehavior::Fails => (stage("fails.yml"), local_node()),
            StageBehavior::FailsWithoutNameService => (stage("fails_without_name_service.yml"), local_node()),
            StageBehavior::DoesNotMerge => (stage("does_not_merge.yml"), local_node()),
            StageBehavior::Prints(50) => (stage("prints_50.yml"), local_node()),
            StageBehavior::Prints(_) => (stage("prints_300.yml"), local_node()),
            StageBehavior::RunsForMinutes => (stage("runs_for_minutes.yml"), local_node()),
            StageBehavior::NodeUnreachable => (stage("passes.yml"), nobody()),
            StageBehavior::CannotRun => (stage("no_such_playbook.yml"), local_node()),
        })
    }

    fn context(&self) -> StageContext {
        thread_local!(static COUNT: Cell<u32> = const { Cell::new(0) });
        let number = COUNT.replace(COUNT.get() + 1);
        let log_dir = self.folder.path().join(format!("logs-{number}"));
        std::fs::create_dir(&log_dir).unwrap();
        context_at(log_dir)
    }

    fn console(&self, context: &StageContext) -> Option<String> {
        std::fs::read_to_string(context.log_dir.join(CONSOLE_LOG)).ok()
    }

    /// All processes with this test's folder in their environment. The test itself is older than its folder.
    fn processes(&self) -> Vec<String> {
        let ours = self.folder.path().as_os_str().as_encoded_bytes();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let mine = |path: &PathBuf| {
            std::fs::read(path.join("environ"))
                .is_ok_and(|all| all.windows(ours.len()).any(|part| part == ours))
        };
        let command = |path: PathBuf| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        entries.map(|entry| entry.path()).filter(mine).map(command).collect()
    }
}

fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn the_executor_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let config = config().with_kill_grace(HumanDuration::secs(3));
    let executor = AnsibleExecutor::new(config, folder.path()).unwrap();
    execute::all(&Ansible { executor, folder }).await;
}
