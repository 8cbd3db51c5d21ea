//! What the tests with a real ansible-playbook share.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test support: what does not work must end the test, loudly"
)]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use pushbutton_ansible::{AnsibleConfig, AnsibleExecutor, CONSOLE_LOG};
use pushbutton_core::LineSink;
use pushbutton_core::{Executor, Node, OnFailure, Result, RunWhen, Stage, StageContext, StageOutcome};
use pushbutton_testbed::{Sshd, SshdOptions};
use pushbutton_testkit::conformance::execute::context_at;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

/// An executor on the playbooks of `tests/playbooks`, in a folder of its own, with one run.
pub struct Lab {
    pub folder: TempDir,
    pub executor: AnsibleExecutor,
    pub context: StageContext,
}

pub fn config() -> AnsibleConfig {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    let bin = BIN.get_or_init(pushbutton_testbed::ansible_bin);
    let playbooks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/playbooks");
    AnsibleConfig { ansible_playbook: bin.join("ansible-playbook"), ..AnsibleConfig::at(playbooks) }
}

/// The same on the playbooks that come with pushbutton.
pub fn shipped() -> AnsibleConfig {
    let playbooks = concat!(env!("CARGO_MANIFEST_DIR"), "/../playbooks").into();
    AnsibleConfig { playbooks, ..config() }
}

impl Lab {
    pub fn new(config: AnsibleConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let executor = AnsibleExecutor::new(config, folder.path()).unwrap();
        let context = context_at(folder.path().join("logs"));
        std::fs::create_dir(&context.log_dir).unwrap();
        Self { folder, executor, context }
    }

    pub async fn run(&self, playbook: &str, nodes: &[Node]) -> Result<StageOutcome> {
        self.run_with(playbook, nodes, &LineSink::bounded(2).0).await
    }

    pub async fn run_with(&self, playbook: &str, nodes: &[Node], sink: &LineSink) -> Result<StageOutcome> {
        self.executor.execute(&stage(playbook), nodes, &self.context, sink, &CancellationToken::new()).await
    }

    pub fn console(&self) -> String {
        std::fs::read_to_string(self.context.log_dir.join(CONSOLE_LOG)).unwrap()
    }
}

pub fn stage(playbook: &str) -> Stage {
    Stage {
        name: "stage".parse().unwrap(),
        playbook: playbook.into(),
        on_failure: OnFailure::Fail,
        run: RunWhen::OnSuccess,
        timeout: Duration::from_secs(240),
        vars: Default::default(),
    }
}

pub fn local() -> Vec<Node> {
    vec![node(json!({"local": true, "address": "localhost", "port": 22, "user": "nobody"}))]
}

/// A node's sshd.
pub fn sshd() -> Sshd {
    Sshd::start(&SshdOptions::default())
}

/// The machine behind this sshd, with these host keys known.
pub fn behind(sshd: &Sshd, host_keys: &[String]) -> Vec<Node> {
    // The first python3 on a developer's PATH may be a version manager's shim.
    let vars = json!({"ansible_python_interpreter": "/usr/bin/python3", "ansible_remote_tmp": "/tmp/.ansible-pushbutton-test"});
    vec![node(json!({
        "address": sshd.host, "port": sshd.port, "user": sshd.user, "key_file": sshd.key, "host_keys": host_keys,
        "vars": vars
    }))]
}

/// The keys of its `known_hosts`, as a provisioner would have learnt them.
pub fn keys_of(sshd: &Sshd) -> Vec<String> {
    let known = std::fs::read_to_string(&sshd.known_hosts).unwrap();
    known.lines().filter_map(|line| line.split_once(' ')).map(|(_, key)| key.to_owned()).collect()
}

pub fn node(fields: serde_json::Value) -> Node {
    let mut whole = json!({"id": "1", "name": "node", "label": "test"});
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

pub async fn hear(lines: &mut Receiver<String>, word: &str) {
    while let Some(line) = lines.recv().await {
        if line.contains(word) {
            return;
        }
    }
    panic!("the stage ended before it said {word:?}");
}
