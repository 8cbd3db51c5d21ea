//! Which line of a command's output is reported as the reason of its failure.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

mod common;

use std::process::{Command, Stdio};

use common::{TestRun, config, local_node};
use pushbutton_core::StageStatus;

/// Reads cases from stdin and prints what the callback plugin picks of each.
const PICK: &str = "
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location('plugin', sys.argv[1])
plugin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plugin)
json.dump([plugin.reason(stderr, stdout) for stderr, stdout in json.load(sys.stdin)], sys.stdout)
";

/// The end of stack.sh's stderr: what it traced before both of its streams went through a filter to stdout.
const TRACE: &str = "+ unset GREP_OPTIONS\n\
    ++ stack.sh:main:489                        :   /opt/stack/devstack/tools/outfilter.py -v -o /opt/stack/logs/stack.sh.txt\n";

/// Name, stderr, stdout, and the line that is reported.
const CASES: &[(&str, &str, &str, &str)] = &[
    (
        "git clone failed",
        TRACE,
        "2026-11-26 09:12:01.001 | ++ functions-common:git_timed:654          :   timeout -s SIGINT 0 git clone\n\
         2026-11-26 09:12:31.220 | fatal: unable to access 'https://opendev.org/openstack/nova.git/': Could not resolve host: opendev.org\n\
         2026-11-26 09:12:31.301 | [ERROR] /opt/stack/devstack/functions-common:709 git call failed: [git clone https://opendev.org/openstack/nova.git /opt/stack/nova]\n\
         2026-11-26 09:12:32.410 | Error on exit\n\
         2026-11-26 09:12:33.554 | World dumping... see /opt/stack/logs/worlddump-2026-11-26-091232.txt for details\n\
         2026-11-26 09:12:34.001 | nova-compute: no process found\n",
        "[ERROR] /opt/stack/devstack/functions-common:709 git call failed: [git clone https://opendev.org/openstack/nova.git /opt/stack/nova]",
    ),
    (
        "a branch that is not there",
        TRACE,
        "2026-11-26 09:15:10.100 | + lib/tempest:install_tempest:719          :   git -C /opt/stack/requirements show origin/master:upper-constraints.txt\n\
         2026-11-26 09:15:10.120 | fatal: invalid object name 'origin/master'.\n\
         2026-11-26 09:15:10.130 | ++ lib/tempest:install_tempest:1           :   exit_trap\n\
         2026-11-26 09:15:11.000 | Error on exit\n",
        "fatal: invalid object name 'origin/master'.",
    ),
    (
        "pip finds no version",
        TRACE,
        "2026-11-26 09:16:01.000 | WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError': /simple/os-brick/\n\
         2026-11-26 09:16:02.000 | ERROR: Could not find a version that satisfies the requirement os-brick>=6.11.0 (from cinder) (from versions: none)\n\
         2026-11-26 09:16:02.100 | + inc/python:pip_install:1                  :   exit_trap\n",
        "ERROR: Could not find a version that satisfies the requirement os-brick>=6.11.0 (from cinder) (from versions: none)",
    ),
    (
        "pip cannot reach a server",
        TRACE,
        "2026-11-26 09:17:01.000 | Traceback (most recent call last):\n\
         2026-11-26 09:17:01.001 | requests.exceptions.ConnectionError: HTTPSConnectionPool(host='releases.openstack.org', port=443): Max retries exceeded with url: /constraints/upper/master\n\
         2026-11-26 09:17:02.000 | Error on exit\n",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='releases.openstack.org', port=443): Max retries exceeded with url: /constraints/upper/master",
    ),
    (
        "apt knows no such package",
        TRACE,
        "2026-11-26 09:18:01.000 | Reading package lists...\n\
         2026-11-26 09:18:02.000 | E: Unable to locate package qemu-kvm\n\
         2026-11-26 09:18:02.100 | + functions-common:apt_get:1206             :   result=100\n",
        "E: Unable to locate package qemu-kvm",
    ),
    (
        "an error message in a shell trace is no error",
        "+ functions-common:die:200 :   echo '[ERROR] x'\n",
        "2026-11-26 09:19:01.000 | + functions-common:die:200                  :   echo 'fatal: x'\nstopped early\n",
        "stopped early",
    ),
    (
        "a command that says why at its end",
        "warning: x\n2 tests failed\n",
        "ERROR: test_a (tests.A)\n",
        "2 tests failed",
    ),
    (
        "an error before the end",
        "fatal: not a git repository\nsee the manual\n",
        "",
        "fatal: not a git repository",
    ),
    ("an error on stdout alone", "", "error: no space left\nTotals\n", "error: no space left"),
    ("a summary on stdout alone", "", "Ran: 12 tests\n - Worker 0 (1 tests)\n", ""),
    ("a trace alone", "+ false\n", "", ""),
    ("nothing", "", "", ""),
];

#[test]
fn the_reason_is_the_line_that_says_why() {
    let input: Vec<_> = CASES.iter().map(|(_, stderr, stdout, _)| [stderr, stdout]).collect();
    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/src/callback_plugin.py");
    let python = pushbutton_testbed::ansible_bin().join("python");
    let mut command = Command::new(python);
    command.args(["-B", "-c", PICK, plugin]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), &input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let picked: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(picked.len(), CASES.len());
    for ((name, .., expected), picked) in CASES.iter().zip(&picked) {
        assert_eq!(picked, expected, "{name}");
    }
}

#[tokio::test]
async fn devstacks_own_error_is_reported_and_not_the_shell_trace() {
    let run = TestRun::new(config());
    let outcome = run.playbook("shell_trace.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed);
    assert_eq!(
        outcome.detail.unwrap(),
        r#"task "Run stack.sh" on node: exit 1: [ERROR] /opt/stack/devstack/functions-common:709 git call failed"#
    );
}
