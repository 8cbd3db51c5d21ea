//! What a person does after the installation: fills in the configuration, puts keys in place, comments on changes.

use std::time::Duration;

use pushbutton_testbed::{Broker, Change, Gerrit, OpenStack, Version, gerrit, openstack, rabbitmq, until};

use crate::guest::Guest;

pub(crate) struct Lab {
    pub(crate) guest: Guest,
    pub(crate) name: String,
    gerrit: Gerrit,
    broker: Broker,
    cloud: &'static OpenStack,
    project: String,
}

impl Lab {
    /// A guest that reaches the testbed's servers. Nothing is installed in it.
    pub(crate) fn start() -> Self {
        let (gerrit, broker) = (gerrit(), rabbitmq(Version::V4));
        let cloud: &'static OpenStack = Box::leak(Box::new(openstack()));
        let name = format!("deb-{}", std::process::id());
        let project = format!("acme/{name}");
        gerrit.create_project(&project);
        let mut guest = Guest::boot(cloud, &name);
        let services = ["compute", "network", "image", "volumev3"].map(|service| cloud.endpoint(service));
        let mut ports = vec![gerrit.ssh_port, broker.port, port(&gerrit.http_url), port(&cloud.auth_url)];
        ports.extend(services.map(port));
        guest.forward(&ports);
        Self { guest, name, gerrit, broker, cloud, project }
    }

    /// Edits the installed configuration, and puts the keys where it says that they are.
    pub(crate) fn configure(&self) {
        let installed = self.guest.root("cat /etc/pushbutton/pushbutton.yml");
        let edited = self.edited(&installed);
        // As an editor that keeps owner and mode.
        self.guest.write("/root/edited.yml", edited.as_bytes(), "root");
        self.guest.root("cat /root/edited.yml >/etc/pushbutton/pushbutton.yml && rm /root/edited.yml");
        for (name, file) in [
            ("gerrit-key", self.gerrit.key("acme-ci")),
            ("known_hosts", self.gerrit.known_hosts.clone()),
            ("clouds.yaml", self.cloud.clouds_yaml.clone()),
            ("node-key", self.guest.keypair().private_key.clone()),
        ] {
            let content = std::fs::read(&file).unwrap();
            self.guest.write(&format!("/etc/pushbutton/{name}"), &content, "pushbutton");
        }
    }

    fn edited(&self, installed: &str) -> String {
        let (text, _) = installed.split_once("# ---- Triggers").unwrap();
        let (head, rest) = text.split_once("\ncloud:\n").unwrap();
        let (_, tail) = rest.split_once("# ---- Ansible").unwrap();
        let mut text = format!("{head}\n{}\n# ---- Ansible{tail}", self.nodes());
        for (from, to) in [
            ("${PUSHBUTTON_OWNER:-}", self.name.clone()),
            ("${GERRIT_HOST:-review.opendev.org}", self.gerrit.ssh_host.clone()),
            ("  # port: 29418\n", format!("  port: {}\n", self.gerrit.ssh_port)),
            ("    vote: never\n", "    vote: both\n".to_owned()),
            ("# rabbitmq:\n", format!("rabbitmq:\n  url: {}\n  prefix: {}\n", self.broker.url, self.name)),
            ("  # url: https://logs.example.org\n", "  url: http://logs.example.org\n".to_owned()),
            ("  # retry_delay: 1m\n", "  retry_delay: 1s\n".to_owned()),
            ("  # shutdown_deadline: 1m\n", "  shutdown_deadline: 1s\n".to_owned()),
            ("# web:\n#   listen: 127.0.0.1:8080\n", "web:\n  listen: 127.0.0.1:8080\n".to_owned()),
        ] {
            assert!(text.contains(from), "the installed configuration has no {from:?}");
            text = text.replacen(from, &to, 1);
        }
        text + &self.jobs()
    }

    fn nodes(&self) -> String {
        format!(
            "cloud:
  clouds_file: /etc/pushbutton/clouds.yaml
  cloud: {}
  nodes:
    small:
      image: tiny
      flavor: m1.tiny
      key_name: {}
      key_file: /etc/pushbutton/node-key
      networks: [private]
      vars: {{ansible_python_interpreter: /usr/bin/python3}}
",
            self.cloud.cloud, self.name
        )
    }

    /// One attempt: a run that a stop has interrupted would be the last one, if it counted.
    fn jobs(&self) -> String {
        format!(
            "
triggers:
  - {{name: recheck, on: {{comment: {{pattern: '^recheck'}}}}, projects: [{}], jobs: [acme-unit]}}
jobs:
  acme-unit:
    node: small
    attempts: 1
    timeout: 10m
    vars: {{checkout_patchset_url: \"{}\"}}
    stages:
      - {{name: prepare, playbook: demo/prepare.yml, on_failure: retry}}
      - {{name: unit, playbook: demo/test.yml}}
      - {{name: logs, playbook: demo/gather.yml, run: always, timeout: 5m}}
",
            self.project, self.gerrit.http_url
        )
    }

    /// The installed command, as the user of the services.
    pub(crate) fn command(&self, words: &str) -> String {
        format!("sudo -u pushbutton pushbutton-bin --config /etc/pushbutton/pushbutton.yml {words}")
    }

    /// A change whose tests take so long, with a `recheck`.
    pub(crate) fn recheck(&self, seconds: u32) -> Change {
        let tests = TESTS.replace("SECONDS", &seconds.to_string());
        let files =
            [("driver.py", "def attach():\n    return 'attached'\n"), ("test_driver.py", tests.as_str())];
        let change = self.gerrit.push_change(&self.project, "master", &files);
        self.gerrit.comment("bob", change.number, change.patchset, "recheck");
        change
    }

    /// Waits for our comment on a change; returns it without Gerrit's own first line.
    pub(crate) fn comment_on(&self, change: &Change, unit: &str) -> String {
        until(&format!("a comment on change {}", change.number), Duration::from_secs(600), || {
            assert_eq!(self.state_of(unit), "active", "{unit}");
            self.comments(change).pop()
        })
    }

    pub(crate) fn comments(&self, change: &Change) -> Vec<String> {
        let mut messages = self.gerrit.messages(change.number);
        messages.retain(|message| message.author == "acme-ci");
        let text = |text: String| text.split_once("\n\n").map_or(text.clone(), |(_, rest)| rest.to_owned());
        messages.into_iter().map(|message| text(message.text)).collect()
    }

    /// As `active`, `inactive` or `failed`.
    pub(crate) fn state_of(&self, unit: &str) -> String {
        self.guest.root(&format!("systemctl is-active {unit} || true")).trim().to_owned()
    }

    /// What a unit has written to the journal.
    pub(crate) fn journal(&self, unit: &str) -> String {
        self.guest.root(&format!("journalctl -q --no-pager -o cat -u {unit}"))
    }

    /// Our servers on the cloud.
    pub(crate) fn servers(&self) -> usize {
        let servers = self.cloud.list_servers();
        servers.iter().filter(|server| server.metadata.get("pushbutton_owner") == Some(&self.name)).count()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for server in self.cloud.list_servers() {
            if server.metadata.get("pushbutton_owner") == Some(&self.name) {
                self.cloud.delete(&server);
            }
        }
    }
}

fn port(url: impl AsRef<str>) -> u16 {
    let address = url.as_ref().split("://").nth(1).unwrap();
    address.split('/').next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

const TESTS: &str = "\
import time
import unittest

import driver


class DriverTest(unittest.TestCase):
    def test_attach(self):
        time.sleep(SECONDS)
        self.assertEqual('attached', driver.attach())
";
