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
        "[ERROR] /opt/stack/devstack/functions-common:709 git call failed: [git clone https://opendev.org/openstack/nova.git /opt/stack/nova]: fatal: unable to access 'https://opendev.org/openstack/nova.git/': Could not resolve host: opendev.org",
    ),
    (
        "git fetch of a branch that the server has not",
        TRACE,
        "2026-11-26 16:44:48.720 | + functions-common:git_timed:709           :   timeout -s SIGINT 0 git fetch origin stable/2025.1\n\
         2026-11-26 16:44:48.970 | fatal: couldn't find remote ref stable/2025.1\n\
         2026-11-26 16:44:48.980 | + functions-common:die:285                 :   local exitcode=0\n\
         2026-11-26 16:44:48.980 | [Call Trace]\n\
         2026-11-26 16:44:48.980 | /opt/stack/devstack/stack.sh:941:stack_install_service\n\
         2026-11-26 16:44:48.980 | /opt/stack/devstack/functions-common:713:die\n\
         2026-11-26 16:44:48.990 | [ERROR] /opt/stack/devstack/functions-common:713 git call failed: [git fetch origin stable/2025.1]\n\
         2026-11-26 16:44:50.010 | Error on exit\n",
        "[ERROR] /opt/stack/devstack/functions-common:713 git call failed: [git fetch origin stable/2025.1]: fatal: couldn't find remote ref stable/2025.1",
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
        "git cannot read from the server",
        "",
        "Cloning into '/opt/stack/keystone'...\n\
         ssh: connect to host review.example.org port 29418: Connection timed out\n\
         fatal: Could not read from remote repository.\n\
         \n\
         Please make sure you have the correct access rights\n\
         and the repository exists.\n\
         ",
        "fatal: Could not read from remote repository.",
    ),
    (
        "pip cannot build a wheel: its summary says nothing",
        "",
        "Collecting os-brick\n\
           error: subprocess-exited-with-error\n\
           \n\
           × python setup.py egg_info did not run successfully.\n\
           │ exit code: 1\n\
           ╰─> [6 lines of output]\n\
               Traceback (most recent call last):\n\
                 File \"<string>\", line 2, in <module>\n\
               ModuleNotFoundError: No module named 'pkg_resources'\n\
               [end of output]\n\
           \n\
           note: This error originates from a subprocess, and is likely not a problem with pip.\n\
         error: metadata-generation-failed\n\
         \n\
         × Encountered error while generating package metadata.\n\
         ╰─> See above for output.\n\
         \n\
         hint: See above for details.\n\
         ",
        "ModuleNotFoundError: No module named 'pkg_resources'",
    ),
    (
        "pip in conflict",
        "",
        "ERROR: Cannot install cinder and oslo.config>=9 because these package versions have conflicting dependencies.\n\
         \n\
         The conflict is caused by:\n\
             cinder 1.0 depends on oslo.config<9\n\
         \n\
         ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/dependency-resolution/\n\
         ",
        "ERROR: Cannot install cinder and oslo.config>=9 because these package versions have conflicting dependencies.",
    ),
    (
        "pip on a full disk",
        "",
        "Installing collected packages: numpy\n\
         ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n\
         \n\
         WARNING: You are using pip version 22.0\n\
         ",
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    ),
    (
        "apt cannot fetch: its summary says nothing",
        "",
        "Err:7 http://archive.ubuntu.com/ubuntu noble/main amd64 qemu amd64 8.2\n\
           503  Service Unavailable [IP: 192.0.2.4 80]\n\
         E: Failed to fetch http://archive.ubuntu.com/ubuntu/pool/main/q/qemu_8.2.deb  503  Service Unavailable [IP: 192.0.2.4 80]\n\
         E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?\n\
         ",
        "E: Failed to fetch http://archive.ubuntu.com/ubuntu/pool/main/q/qemu_8.2.deb  503  Service Unavailable [IP: 192.0.2.4 80]",
    ),
    (
        "dpkg cannot configure a package",
        "",
        "dpkg: error processing package rabbitmq-server (--configure):\n\
          installed rabbitmq-server package post-installation script subprocess returned error exit status 1\n\
         Errors were encountered while processing:\n\
          rabbitmq-server\n\
         E: Sub-process /usr/bin/dpkg returned an error code (1)\n\
         ",
        "dpkg: error processing package rabbitmq-server (--configure):",
    ),
    (
        "a service that does not start",
        TRACE,
        "2026-11-26 09:20:01.000 | ++ functions:wait_for_service:445 :   curl -k --noproxy * -s -o /dev/null http://10.0.0.5/volume\n\
         2026-11-26 09:21:01.000 | [ERROR] /opt/stack/devstack/lib/cinder:597 c-api did not start\n\
         2026-11-26 09:21:02.000 | [Call Trace]\n\
         2026-11-26 09:21:02.010 | ./stack.sh:1307:start_cinder\n\
         2026-11-26 09:21:03.000 | Error on exit\n\
         ",
        "[ERROR] /opt/stack/devstack/lib/cinder:597 c-api did not start",
    ),
    (
        "a patch that breaks the database's set-up",
        TRACE,
        "2026-11-26 09:20:01.000 | Traceback (most recent call last):\n\
         2026-11-26 09:20:01.000 |   File \"/opt/stack/cinder/cinder/cmd/manage.py\", line 71, in <module>\n\
         2026-11-26 09:20:01.000 |     from cinder import context\n\
         2026-11-26 09:20:01.000 | ImportError: cannot import name 'context' from 'cinder' (/opt/stack/cinder/cinder/__init__.py)\n\
         2026-11-26 09:20:01.200 | ++ lib/cinder:init_cinder:1 :   exit_trap\n\
         2026-11-26 09:20:02.000 | Error on exit\n\
         ",
        "ImportError: cannot import name 'context' from 'cinder' (/opt/stack/cinder/cinder/__init__.py)",
    ),
    (
        "a unit that systemd cannot start",
        "Job for devstack@c-vol.service failed because the control process exited with error code.\n\
         See \"systemctl status devstack@c-vol.service\" and \"journalctl -xeu devstack@c-vol.service\" for details.\n\
         ",
        "",
        "Job for devstack@c-vol.service failed because the control process exited with error code.",
    ),
    (
        "a command that is not there",
        "bash: line 3: ovs-vsctl: command not found\n\
         ++ exit 127\n\
         ",
        "",
        "bash: line 3: ovs-vsctl: command not found",
    ),
    (
        "a download that fails",
        TRACE,
        "2026-11-26 09:20:01.000 | --2026-11-26 09:20:01--  https://github.com/etcd-io/etcd/releases/download/v3.5.21/etcd.tar.gz\n\
         2026-11-26 09:20:02.000 | HTTP request sent, awaiting response... 503 Service Unavailable\n\
         2026-11-26 09:20:02.000 | 2026-11-26 09:20:02 ERROR 503: Service Unavailable.\n\
         2026-11-26 09:20:02.000 | Error on exit\n\
         ",
        "2026-11-26 09:20:02 ERROR 503: Service Unavailable.",
    ),
    (
        "curl in colour",
        "\x1b[31mcurl: (28) Connection timed out after 300100 milliseconds\x1b[0m\n\
         ",
        "",
        "curl: (28) Connection timed out after 300100 milliseconds",
    ),
    (
        "a merge conflict",
        "",
        "Auto-merging cinder/volume/api.py\n\
         CONFLICT (content): Merge conflict in cinder/volume/api.py\n\
         Automatic merge failed; fix conflicts and then commit the result.\n\
         ",
        "CONFLICT (content): Merge conflict in cinder/volume/api.py",
    ),
    (
        "a full disk",
        "",
        "tar: cinder/tests/a: Cannot write: No space left on device\n\
         tar: Exiting with failure status due to previous errors\n\
         ",
        "tar: cinder/tests/a: Cannot write: No space left on device",
    ),
    (
        "tempest names its first failing test",
        "",
        "{0} tempest.api.volume.test_volumes_get.VolumesGetTest.test_volume_create_get_update_delete [2.510s] ... ok\n\
         {1} tempest.api.volume.admin.test_volume_types.VolumeTypesTest.test_volume_crud_with_volume_type_and_extra_specs [20.104s] ... FAILED\n\
         {0} setUpClass (tempest.api.volume.test_volumes_snapshots.VolumesSnapshotTestJSON) [0.000000s] ... FAILED\n\
         \n\
         Failed 2 tests - output below:\n\
             urllib3.exceptions.MaxRetryError: Max retries exceeded with url: /volume\n\
         ",
        "failed test: tempest.api.volume.admin.test_volume_types.VolumeTypesTest.test_volume_crud_with_volume_type_and_extra_specs (and 1 more)",
    ),
    (
        "unittest names its failing test",
        "======================================================================\n\
         FAIL: test_create (tests.test_driver.DriverTest)\n\
         ----------------------------------------------------------------------\n\
         AssertionError: 1 != 2\n\
         \n\
         FAILED (failures=1)\n\
         ",
        "",
        "failed test: test_create (tests.test_driver.DriverTest)",
    ),
    (
        "pytest names its failing test",
        "",
        "=========================== short test summary info ============================\n\
         FAILED tests/test_driver.py::test_create - AssertionError: assert 1 == 2\n\
         ========================= 1 failed, 20 passed in 0.12s =========================\n\
         ",
        "failed test: tests/test_driver.py::test_create",
    ),
    (
        "sudo without a password",
        "sudo: a password is required\n\
         ",
        "",
        "sudo: a password is required",
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

/// Issue 11, point 5: what the patterns of `retry_when` are searched in.
#[tokio::test]
async fn the_output_of_the_failed_task_is_searched_and_no_other_output() {
    for (kind, expected) in [("failed", true), ("recovered", false), ("traced", false)] {
        let mut run = TestRun::new(config());
        run.context.vars.insert("kind".into(), kind.into());
        let outcome = run.playbook("infrastructure_words.yml", &local_node()).await.unwrap();
        assert_eq!(outcome.status, StageStatus::Failed, "{kind}");
        let fault = outcome.lab_fault;
        assert_eq!(fault.is_some(), expected, "{kind}: {fault:?}\n{}", run.console());
        let shown = fault
            .is_none_or(|fault| run.console().contains(&format!("recognised as infrastructure: {fault}")));
        assert!(shown, "{kind}: {}", run.console());
    }
}

/// Issue 11, point 5: the words may stand far above the end.
#[tokio::test]
async fn words_that_stand_150_lines_above_the_end_are_found_and_secrets_in_them_are_hidden() {
    let mut run = TestRun::new(config().with_secrets([("token".to_owned(), "hunter22".into())]));
    run.context.vars.insert("kind".into(), "far".into());
    let outcome = run.playbook("infrastructure_words.yml", &local_node()).await.unwrap();
    let fault = outcome.lab_fault.unwrap();
    assert!(
        fault.starts_with("name lookup: ") && fault.contains("Could not resolve host: ********"),
        "{fault}"
    );
}
