//! What the tests with a real ansible-playbook share.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use pushbutton_ansible::{AnsibleConfig, AnsibleExecutor, CONSOLE_LOG};
use pushbutton_core::{
    CancellationToken, Executor, LineSink, Node, NodeLabel, Result, Stage, StageContext, StageOutcome,
};
use pushbutton_testbed::{Sshd, SshdOptions};
use pushbutton_testkit::conformance::execute::context_at;
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

/// An executor in a folder of its own, and one run.
pub struct TestRun {
    pub folder: TempDir,
    pub executor: AnsibleExecutor,
    pub context: StageContext,
}

/// For the playbooks of `tests/playbooks`.
pub fn config() -> AnsibleConfig {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    let bin = BIN.get_or_init(pushbutton_testbed::ansible_bin);
    let playbooks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/playbooks");
    AnsibleConfig::new(playbooks).with_ansible_playbook(bin.join("ansible-playbook"))
}

/// For the playbooks that come with pushbutton.
pub fn shipped_playbooks() -> AnsibleConfig {
    config().with_playbooks(concat!(env!("CARGO_MANIFEST_DIR"), "/../playbooks"))
}

impl TestRun {
    pub fn new(config: AnsibleConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let executor = AnsibleExecutor::new(config, folder.path()).unwrap();
        let context = context_at(folder.path().join("logs"));
        std::fs::create_dir(&context.log_dir).unwrap();
        Self { folder, executor, context }
    }

    pub async fn playbook(&self, playbook: &str, nodes: &[Node]) -> Result<StageOutcome> {
        self.playbook_with(playbook, nodes, &LineSink::bounded(2).0).await
    }

    pub async fn playbook_with(
        &self,
        playbook: &str,
        nodes: &[Node],
        sink: &LineSink,
    ) -> Result<StageOutcome> {
        self.executor.execute(&stage(playbook), nodes, &self.context, sink, &CancellationToken::new()).await
    }

    pub fn console(&self) -> String {
        std::fs::read_to_string(self.context.log_dir.join(CONSOLE_LOG)).unwrap()
    }
}

pub fn stage(playbook: &str) -> Stage {
    Stage::new("stage".parse().unwrap(), playbook).with_timeout(Duration::from_secs(240))
}

pub fn label() -> NodeLabel {
    "test".parse().unwrap()
}

pub fn local_node() -> Vec<Node> {
    vec![Node::local("node", label())]
}

/// A node's sshd.
pub fn sshd() -> Sshd {
    Sshd::start(&SshdOptions::default())
}

/// A node with this sshd, whose host keys are known to be these.
pub fn ssh_node(sshd: &Sshd, host_keys: &[String]) -> Vec<Node> {
    // The first python3 on a developer's PATH may be the shim of a version manager, and not a Python.
    let vars = [
        ("ansible_python_interpreter", "/usr/bin/python3"),
        ("ansible_remote_tmp", "/tmp/.ansible-pushbutton-test"),
    ];
    let node = Node::ssh("node", label(), &sshd.host, &sshd.user)
        .with_port(sshd.port)
        .with_key_file(Some(sshd.key.clone()))
        .with_host_keys(host_keys)
        .with_vars(vars.map(|(name, value)| (name.to_owned(), value.into())));
    vec![node]
}

/// The keys of its `known_hosts`, as a provisioner would know them.
pub fn host_keys_of(sshd: &Sshd) -> Vec<String> {
    let known = std::fs::read_to_string(&sshd.known_hosts).unwrap();
    known.lines().filter_map(|line| line.split_once(' ')).map(|(_, key)| key.to_owned()).collect()
}

pub async fn wait_for_line(lines: &mut Receiver<String>, word: &str) {
    while let Some(line) = lines.recv().await {
        if line.contains(word) {
            return;
        }
    }
    panic!("the stage ended before it printed {word:?}");
}
