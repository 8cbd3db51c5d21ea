//! One server of the testbed, shared or private: the door to the script `testbed/testbed`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::run;

/// A running part of a testbed, with what `testbed env` says about it.
#[derive(Debug)]
pub(crate) struct Instance {
    part: &'static str,
    /// The state folder of a private instance; None: the shared testbed.
    state: Option<TempDir>,
    /// More environment for the script, as a knob of the part.
    knobs: Vec<(&'static str, String)>,
    facts: HashMap<String, String>,
}

impl Instance {
    /// Brings the shared part up, or finds it up.
    pub(crate) fn shared(part: &'static str) -> Self {
        Self::start(part, None, Vec::new())
    }

    /// Starts the part in a temporary state folder; it ends with the value, or with this process.
    pub(crate) fn private(part: &'static str, knobs: Vec<(&'static str, String)>) -> Self {
        let state = tempfile::Builder::new().prefix("testbed-").tempdir().expect("a temporary folder");
        Self::start(part, Some(state), knobs)
    }

    fn start(part: &'static str, state: Option<TempDir>, knobs: Vec<(&'static str, String)>) -> Self {
        let mut instance = Self { part, state, knobs, facts: HashMap::new() };
        instance.up();
        instance
    }

    /// Starts it where it is not up, on the ports that it had.
    pub(crate) fn up(&mut self) {
        run(&mut self.testbed(&["up", self.part]), "");
        let text = run(&mut self.testbed(&["env", self.part]), "");
        self.facts = facts(&text);
    }

    /// Ends it in an orderly way; its data stay.
    pub(crate) fn down(&self) {
        run(&mut self.testbed(&["down", self.part]), "");
    }

    /// Signals its process: `KILL` (returns when it is gone), `STOP`, `CONT`. Refused for a shared one: others use it.
    pub(crate) fn signal(&self, signal: &str) {
        self.signal_service(self.part, signal);
    }

    /// The same for one service of the part.
    pub(crate) fn signal_service(&self, service: &str, signal: &str) {
        assert!(self.state.is_some(), "{} is shared: take a private one to {signal} {service}", self.part);
        run(&mut self.testbed(&["signal", service, signal]), "");
    }

    /// Ends one service of the part in an orderly way if it is up, and starts it again.
    pub(crate) fn restart_service(&self, service: &str) {
        assert!(self.state.is_some(), "{} is shared: take a private one to restart {service}", self.part);
        run(&mut self.testbed(&["restart", service]), "");
    }

    /// One fact of `testbed env`.
    pub(crate) fn fact(&self, name: &str) -> &str {
        self.facts.get(name).unwrap_or_else(|| panic!("testbed env {} has no {name}", self.part))
    }

    /// One fact of `testbed env` that is a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> T {
        self.fact(name).parse().unwrap_or_else(|_| panic!("{name} is no such number: {}", self.fact(name)))
    }

    /// A command line of the script, in the environment of this instance.
    pub(crate) fn testbed(&self, arguments: &[&str]) -> Command {
        let mut command = script();
        command.args(arguments).envs(self.knobs.iter().map(|(name, value)| (name, value)));
        if let Some(state) = &self.state {
            command
                .env("PUSHBUTTON_TESTBED", state.path())
                .env("TESTBED_OWNER", std::process::id().to_string());
        }
        command
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.state.is_some() {
            // No panic while a failed test unwinds: what cannot be ended now ends with the process.
            let _ = crate::process::try_run(&mut self.testbed(&["signal", self.part, "KILL"]), "");
            let _ = crate::process::try_run(&mut self.testbed(&["wipe", self.part]), "");
        }
    }
}

/// The folder with `ansible-playbook`, `ansible-lint`, `stestr` and the like of the testbed's own Ansible; installed where it is missing.
pub fn ansible_bin() -> PathBuf {
    run(script().args(["install", "ansible"]), "");
    facts(&run(script().args(["env", "ansible"]), ""))["ANSIBLE_BIN"].clone().into()
}

/// The name of the image whose servers are a stock Debian 12, which is made if this machine does not have it yet (a minute or more).
pub fn stock_image() -> &'static str {
    run(script().args(["install", "stock"]), "");
    "debian-12"
}

/// A folder of Python packages for tests on a stock Debian, which its guests see at `http://HOST_ADDRESS:3128/wheels/`; with
/// `upper-constraints.txt`.
pub fn stock_wheels() -> PathBuf {
    run(script().args(["install", "stock"]), "");
    facts(&run(script().args(["env", "stock"]), ""))["STOCK_WHEELS"].clone().into()
}

/// Chromium, for `--headless`; installed where it is missing.
pub fn browser() -> PathBuf {
    run(script().args(["install", "chromium"]), "");
    facts(&run(script().args(["env", "chromium"]), ""))["CHROMIUM"].clone().into()
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../testbed"))
}

fn facts(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
