//! A lab of two processes on the testbed's servers.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pushbutton_testbed::{
    Broker, Change, Gerrit, Keypair, OpenStack, Server, Version, ansible_bin, gerrit, openstack, rabbitmq,
    until,
};
use tempfile::TempDir;

/// The timeout of the testbed's Nova for a server, under load.
pub(crate) const NODES_UP: Duration = Duration::from_secs(120);

/// Tests that count what is on the one cloud take turns.
static CLOUD: Mutex<()> = Mutex::new(());

pub(crate) struct Lab {
    pub(crate) gerrit: Gerrit,
    cloud: &'static OpenStack,
    broker: Broker,
    project: String,
    owner: String,
    handler: Process,
    operator: Process,
    folder: TempDir,
    _keypair: Keypair<'static>,
    _turn: MutexGuard<'static, ()>,
}

/// A half of pushbutton as a process; killed on drop, should a test fail.
struct Process {
    child: Mutex<Child>,
    name: &'static str,
    log: PathBuf,
}

impl Lab {
    /// Writes the configuration, checks it with `pushbutton-bin check`, and starts the two halves.
    pub(crate) fn start(version: Version) -> Self {
        let turn = CLOUD.lock().unwrap_or_else(PoisonError::into_inner);
        let (gerrit, broker) = (gerrit(), rabbitmq(version));
        // One cloud for all tests of this process; a key pair lives no longer than it.
        let cloud: &'static OpenStack = Box::leak(Box::new(openstack()));
        let owner = format!("e2e-{}-{}", std::process::id(), if version == Version::V3 { 3 } else { 4 });
        let project = format!("openstack/{owner}");
        gerrit.create_project(&project);
        let keypair = cloud.keypair(&owner);
        let folder = tempfile::tempdir().unwrap();
        let text = configuration(&gerrit, cloud, &broker, &keypair, &owner, &project, folder.path());
        std::fs::write(folder.path().join("pushbutton.yml"), text).unwrap();
        check(folder.path());
        print(&format!(
            "Gerrit {}, {version:?} of RabbitMQ at {}, OpenStack {}",
            gerrit.http_url, broker.port, cloud.auth_url
        ));
        let (handler, operator) = (Process::start("handler", &[], folder.path()), operator(folder.path()));
        Self {
            gerrit,
            cloud,
            broker,
            project,
            owner,
            handler,
            operator,
            folder,
            _keypair: keypair,
            _turn: turn,
        }
    }

    /// Pushes a change of one file.
    pub(crate) fn push(&self, file: &str, content: &str) -> Change {
        self.gerrit.push_change(&self.project, "master", &[(file, content), ("test_driver.py", TESTS)])
    }

    /// Our comments on a change, without Gerrit's own first line.
    pub(crate) fn our_comments(&self, change: &Change) -> Vec<String> {
        let mut messages = self.gerrit.messages(change.number);
        messages.retain(|message| message.author == "acme-ci");
        messages.iter().map(|message| assert_tagged(&message.text, message.tag.as_deref())).collect()
    }

    /// The values of our votes on a change.
    pub(crate) fn votes(&self, change: &Change) -> Vec<i32> {
        let mut votes = self.gerrit.votes(change.number);
        votes.retain(|vote| vote.user == "acme-ci" && vote.label == "Verified");
        votes.into_iter().map(|vote| vote.value).collect()
    }

    /// Our servers on the cloud.
    pub(crate) fn servers(&self) -> Vec<Server> {
        let mut servers = self.cloud.list_servers();
        servers.retain(|server| server.metadata.get("pushbutton_owner") == Some(&self.owner));
        servers
    }

    /// Both halves must run: a dead process never does what the test waits for.
    pub(crate) fn alive(&self) -> &Self {
        self.handler.assert_alive();
        self.operator.assert_alive();
        self
    }

    /// The logs behind a comment's link hold these files with something in them, and `patchset.txt` and the console
    /// show that this was tested.
    pub(crate) fn assert_logs(&self, comment: &str, files: &[&str], revision: &str) {
        let url = comment.split_whitespace().find(|word| word.starts_with("http")).unwrap();
        let path = url.strip_prefix("http://127.0.0.1:8000/").unwrap_or_else(|| panic!("{url} is not ours"));
        let dir = self.folder.path().join("logs").join(path);
        for file in files {
            let content = std::fs::read(dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(!content.is_empty(), "{file} in {} is empty", dir.display());
        }
        for name in ["console.log", "patchset.txt"] {
            let text = std::fs::read_to_string(dir.join(name)).unwrap();
            assert!(text.contains(revision), "the revision in {name}:\n{text}");
        }
    }

    /// Replaces the operator as a rolling restart does.
    pub(crate) fn replace_operator(&mut self) {
        let next = operator(self.folder.path());
        std::mem::replace(&mut self.operator, next).end();
    }

    /// Shuts both halves down gracefully.
    pub(crate) fn stop(&self) {
        self.operator.end();
        self.handler.end();
    }

    /// No server, floating IP, port or volume of ours, and no job.
    pub(crate) fn assert_nothing_left(&self) {
        assert!(self.servers().is_empty(), "servers: {:?}", self.servers());
        let ours = |text: &str| text.contains(&self.owner);
        let addresses: Vec<_> =
            self.cloud.list_floating_ips().into_iter().filter(|ip| ours(&ip.description)).collect();
        assert!(addresses.is_empty(), "floating IPs: {addresses:?}");
        let volumes = self
            .cloud
            .list_volumes()
            .into_iter()
            .filter(|volume| volume.metadata.values().any(|value| ours(value)));
        assert_eq!(volumes.count(), 0, "volumes");
        // A port does not name its owner. One without a server is a leak; Nova deletes ports a moment after the server.
        until("no port is left without its server", Duration::from_secs(30), || {
            let ports = self.cloud.list_ports();
            let servers = self.cloud.list_servers();
            ports.iter().all(|port| servers.iter().any(|server| server.id == port.server)).then_some(())
        });
        let status = command(self.folder.path()).arg("status").output().unwrap();
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(
            status.contains("0 waiting") && status.contains("0 leased"),
            "on {}: {status}",
            self.broker.port
        );
    }
}

impl Process {
    fn start(name: &'static str, arguments: &[&str], folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = command(folder)
            .args(["--log-format", "json", name])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child: Mutex::new(child), name, log }
    }

    fn assert_alive(&self) {
        let ended = self.child.lock().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "the {} ended: {ended:?}\n{}", self.name, self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end(&self) {
        let mut child = self.child.lock().unwrap();
        let term = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(term.success(), "the {} had ended before the test shut it down:\n{}", self.name, self.log());
        let what = format!("the end of the {}", self.name);
        let status = until(&what, Duration::from_secs(90), || child.try_wait().unwrap());
        assert!(status.success(), "the {} ended with {status}:\n{}", self.name, self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(None)) {
            let _ = child.kill();
            let _ = child.wait();
            eprintln!("--- the {} said:\n{}", self.name, self.log());
        }
    }
}

/// Prints even when the test passes: people read this as the proof.
pub(crate) fn print(text: &str) {
    let mut stderr = std::io::stderr().lock();
    for line in text.lines() {
        let _ = writeln!(stderr, "    | {line}");
    }
}

fn operator(folder: &Path) -> Process {
    Process::start("operator", &["--slots", "4"], folder)
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushbutton-bin"));
    command.arg("--config").arg(folder.join("pushbutton.yml")).env("RUST_LOG", "info");
    command
}

/// Checks every connection before anything starts, as a user would.
fn check(folder: &Path) {
    let output = command(folder).arg("check").output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pushbutton-bin check:\n{text}");
}

fn assert_tagged(text: &str, tag: Option<&str>) -> String {
    assert_eq!(tag, Some("autogenerated:acme-ci"), "{text}");
    text.split_once("\n\n").map_or(text, |(_, rest)| rest).to_owned()
}

const TESTS: &str = "\
import unittest

import driver


class DriverTest(unittest.TestCase):
    def test_attach(self):
        self.assertEqual('attached', driver.attach())

    def test_import(self):
        self.assertTrue(callable(driver.attach))
";

fn configuration(
    gerrit: &Gerrit,
    cloud: &OpenStack,
    broker: &Broker,
    keypair: &Keypair<'_>,
    owner: &str,
    project: &str,
    folder: &Path,
) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    format!(
        r#"
owner: {owner}
state: {folder}/state
gerrit:
  host: {host}
  port: {port}
  user: acme-ci
  key: {key}
  host_key: {{known_hosts: {known_hosts}}}
  comment:
    wiki: https://wiki.openstack.org/wiki/ThirdPartySystems/Acme_CI
    vote: both
rabbitmq:
  url: {broker}
  prefix: {owner}
  lease: 20s
  timeout: 7s
cloud:
  clouds_file: {clouds}
  cloud: {cloud_name}
  nodes:
    good: &node
      image: tiny
      flavor: m1.tiny
      key_name: {owner}
      key_file: {private_key}
      networks: [private]
      floating_ip: {{network: public}}
      vars: {{ansible_python_interpreter: /usr/bin/python3}}
    huge:
      <<: *node
      flavor: m1.huge
    lost:
      <<: *node
      # The testbed kills this server so many seconds after its boot.
      metadata: {{testbed_guest: "dies:12"}}
ansible:
  ansible_playbook: {ansible}/ansible-playbook
  playbooks: {playbooks}
logs:
  dir: {folder}/logs
  url: http://127.0.0.1:8000
operator:
  retry_delay: 1s
  no_room: {{pause: 1s, pause_cap: 2s, count_after: 5s}}
  shutdown_deadline: 1s
triggers:
  - name: recheck
    on: {{comment: {{pattern: '(?i)^\s*recheck'}}}}
    projects: [{project}]
    jobs: [acme-unit]
  - name: no-node
    on: {{comment: {{pattern: '^run-no-node'}}}}
    projects: [{project}]
    jobs: [acme-no-node]
  - name: lost-node
    on: {{comment: {{pattern: '^run-lost-node'}}}}
    projects: [{project}]
    jobs: [acme-lost-node]
jobs:
  acme-unit: &job
    node: good
    attempts: 2
    boot_timeout: 5m
    timeout: 10m
    vars:
      checkout_patchset_url: {git_url}
    stages:
      - {{name: prepare, playbook: demo/prepare.yml, on_failure: retry}}
      - {{name: unit, playbook: demo/test.yml}}
      - {{name: logs, playbook: demo/gather.yml, run: always, timeout: 5m}}
  acme-no-node:
    <<: *job
    node: huge
  acme-lost-node:
    <<: *job
    node: lost
"#,
        folder = folder.display(),
        host = gerrit.ssh_host,
        port = gerrit.ssh_port,
        key = gerrit.key("acme-ci").display(),
        known_hosts = gerrit.known_hosts.display(),
        broker = broker.url,
        clouds = cloud.clouds_yaml.display(),
        cloud_name = cloud.cloud,
        private_key = keypair.private_key.display(),
        ansible = ansible_bin().display(),
        playbooks = root.join("playbooks").display(),
        git_url = gerrit.http_url,
    )
}
