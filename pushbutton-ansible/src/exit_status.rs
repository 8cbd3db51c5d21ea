//! How a stage ended, from the exit status of ansible-playbook and the events of the playbook. No I/O happens here.
//!
//! The exit code alone does not say whose fault a failure is: 4 is an unreachable host, or a playbook that does not
//! parse; 2 is a failed task, or a wrong option; 0 comes also when no play matched a host. With the events it does. The
//! first row that fits decides:
//!
//! | ended by | events | means | result |
//! |---|---|---|---|
//! | cancellation | | | `Cancelled` |
//! | not 0 | a node was unreachable | | `Unreachable` |
//! | time limit | | | `TimedOut` |
//! | signal, or a shell's exit 129 to 159 | | somebody killed it, or the kernel for lack of memory | `Local` |
//! | exit 74 | | the callback plugin could not write events: the disk is full | `Local` |
//! | exit 126, 127 | | a wrapper script did not find or could not run it | `Local` |
//! | exit 0 | no play began | the callback plugin did not work | `Local` |
//! | exit 0, 2, 8, 10 | a play matched no host | `hosts:` names another group | `Config` |
//! | exit 0 | | no failure, or a forgiven one (`meta: clear_host_errors`) | `Passed` |
//! | exit 2, 8, 10 | a play began | 2: hosts failed; 8: the play was aborted (`any_errors_fatal`) | `Failed` |
//! | exit 4, 6, 12, 14 | another host was unreachable | such as a log server that a task is delegated to | `Failed` |
//! | exit 4, 6, 12, 14 | a play began | the same, and 4: hosts were unreachable | `Unreachable` |
//! | any other | the error names a dead worker, memory, disk, handles | the operator's host is short of them | `Local` |
//! | exit 1 to 5 | no error message | it does not start: a Python or a module is missing | `Local` |
//! | exit 1 to 5 | | 1: Ansible's error; 2, 5: wrong options; 4: a parse error | `Config` |
//! | exit 99 | | interrupted | `Local` |
//! | any other exit | | 250: an exception in Ansible | `Unexpected` |
//!
//! `Config` is a permanent error; `Local` and `Unexpected` are temporary ones. None of them is a verdict on the patch.
//! Three rows more need what is left behind: a `Failed` stage is `Local` when the disk is full, a `Passed` one is `Failed`
//! when its results count failed tests, and `Failed` by a fault of the lab when its results are incomplete. The codes are
//! those of ansible-core (`executor/task_queue_manager.py`, `cli/__init__.py`).

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use pushbutton_core::{Error, ErrorKind, HumanDuration, Result, StageStatus, TestCounts};

use crate::error::config;
use crate::playbook_events::{PlaybookEvents, TaskFailure};

/// The exit status of the callback plugin when it cannot write (`callback_plugin.py`).
const EXIT_CANNOT_WRITE: i32 = 74;
/// Less free space than this is a full disk, in bytes: modules that Ansible sends to nodes need more.
const MIN_SPACE: u64 = 1 << 20;
/// Texts of Ansible's error when the operator's host lacks something, and the remedy. Dead workers are usually killed by
/// the kernel for lack of memory.
const SHORTAGES: [(&str, &str); 7] = [
    (
        "A worker was found in a dead state",
        "a process of Ansible was killed, usually by the kernel for lack of memory; lower `slots` or `ansible.forks`",
    ),
    ("Cannot allocate memory", NO_MEMORY),
    ("MemoryError", NO_MEMORY),
    (
        "Resource temporarily unavailable",
        "the operator's host has no process left; raise its limit of processes",
    ),
    ("No space left on device", NO_SPACE),
    ("Disk quota exceeded", NO_SPACE),
    ("Too many open files", "Ansible cannot open more files; raise the limit of open files of the operator"),
];
const NO_MEMORY: &str = "the operator's host has no memory left; lower `slots` or `ansible.forks`";
const NO_SPACE: &str = "the operator's disk is full; free space on it";

/// What ended ansible-playbook.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Termination {
    Exited(ExitStatus),
    TimedOut(HumanDuration),
    Cancelled,
}

/// How a stage ended.
#[derive(Debug, PartialEq)]
pub(crate) struct StageEnd {
    pub(crate) status: StageStatus,
    /// What failed, in one line.
    pub(crate) detail: Option<String>,
    /// Why a failed stage is the lab's fault, where no pattern of `retry_when` says so.
    pub(crate) lab_fault: Option<String>,
}

impl StageEnd {
    pub(crate) fn new(status: StageStatus, detail: impl Into<Option<String>>) -> Self {
        Self { status, detail: detail.into(), lab_fault: None }
    }

    /// A stage that passed although its tests failed has failed: some runners exit with 0 in any case.
    pub(crate) fn with_tests(self, counts: Option<TestCounts>) -> Self {
        match counts.filter(|counts| self.status == StageStatus::Passed && counts.failed > 0) {
            None => self,
            Some(TestCounts { failed, .. }) => {
                let tests = if failed == 1 { "test" } else { "tests" };
                let detail = format!(
                    "exit status and results disagree: ansible-playbook exited with 0, but {failed} {tests} failed"
                );
                Self::new(StageStatus::Failed, detail)
            }
        }
    }

    /// A stage that passed has not passed when tests may be missing in its results. As a success it would hide a failure
    /// that is missing; as a failure it would blame a patch of which nothing is known, since a full disk or a lost
    /// connection cuts results. As a fault of the lab it is tried again, and votes in neither direction. Failed tests that
    /// the results do have come first: those are known.
    pub(crate) fn with_incomplete_tests(self, why: Option<&str>) -> Self {
        match why.filter(|_| self.status == StageStatus::Passed) {
            None => self,
            Some(why) => {
                let detail = format!("test results are incomplete: {why}");
                let lab_fault = Some("incomplete test results".to_owned());
                Self { lab_fault, ..Self::new(StageStatus::Failed, detail) }
            }
        }
    }

    /// A stage that passed has failed when the logs that it gathered are broken.
    pub(crate) fn with_fault(self, fault: Option<String>) -> Self {
        match fault {
            Some(fault) if self.status == StageStatus::Passed => Self::new(StageStatus::Failed, fault),
            _ => self,
        }
    }

    /// With a full disk on the operator any task can fail, so a failure is not the patch's. `full` is a path on such a disk.
    pub(crate) fn unless_disk_is_full(self, full: Option<&Path>) -> Result<Self> {
        match full.filter(|_| self.status == StageStatus::Failed) {
            None => Ok(self),
            Some(path) => {
                let message = "a task failed while the operator's disk is full; free space on it";
                let error = Error::temporary(ErrorKind::Local, message).with("path", path.display());
                Err(self.detail.into_iter().fold(error, |error, detail| error.with("detail", detail)))
            }
        }
    }
}

/// Applies the table. `ansible_error` is the error message that Ansible printed, if any.
pub(crate) fn evaluate(
    termination: Termination,
    events: &PlaybookEvents,
    ansible_error: Option<&str>,
    allow_no_hosts: &[String],
) -> Result<StageEnd> {
    let succeeded = matches!(termination, Termination::Exited(status) if status.success());
    let current_task = || events.current_task.as_ref().map(|task| format!("task {task:?} was running"));
    match (termination, &events.unreachable) {
        (Termination::Cancelled, _) => Ok(StageEnd::new(StageStatus::Cancelled, current_task())),
        (_, Some(node)) if !succeeded => Ok(StageEnd::new(StageStatus::Unreachable, describe(node))),
        (Termination::TimedOut(limit), _) => {
            let task = current_task().unwrap_or_else(|| "no task had begun".into());
            Ok(StageEnd::new(StageStatus::TimedOut, format!("no end within {limit}: {task}")))
        }
        (Termination::Exited(status), _) => evaluate_exit(status, events, ansible_error, allow_no_hosts),
    }
}

fn evaluate_exit(
    status: ExitStatus,
    events: &PlaybookEvents,
    ansible_error: Option<&str>,
    allow_no_hosts: &[String],
) -> Result<StageEnd> {
    // A shell that runs Ansible exits with 128 and the signal.
    let of_shell = |code: i32| (129..160).contains(&code).then_some(code - 128);
    if let Some(signal) = status.signal().or_else(|| status.code().and_then(of_shell)) {
        let message =
            "ansible-playbook was killed; if nobody did it, the kernel was out of memory: see its log";
        return Err(Error::temporary(ErrorKind::Local, message).with("signal", signal));
    }
    let code = status.code().unwrap_or_default();
    let error_text = ansible_error.unwrap_or("see the console log");
    let fail = |error: Error| Err(error.with("exit", code).with("error", error_text));
    let local = |message: &'static str| fail(Error::temporary(ErrorKind::Local, message));
    let unmatched = events.unmatched.iter().find(|hosts| !allow_no_hosts.contains(hosts));
    match (code, events.play_began) {
        (EXIT_CANNOT_WRITE, _) => local(
            "the events of the playbook could not be written; free space on the disk of `ansible.work_dir`",
        ),
        (126 | 127, _) => local(
            "ansible-playbook could not be run; install ansible-core, or fix `ansible.ansible_playbook`",
        ),
        (0, false) => {
            local("ansible-playbook exited with 0 without a play; install ansible-core 2.14 or later")
        }
        (0 | 2 | 8 | 10, true) if let Some(hosts) = unmatched => {
            let message = "a play matched no host; use `hosts: nodes`, the group of all nodes of a run, or name the pattern in `ansible.allow_no_hosts`";
            Err(config(message).with("hosts", hosts))
        }
        (0, true) => Ok(StageEnd::new(StageStatus::Passed, None)),
        (2 | 8 | 10, true) => {
            let failure = events.cause();
            let unknown = || format!("ansible-playbook exited with {code}: {error_text}");
            Ok(StageEnd::new(StageStatus::Failed, failure.map_or_else(unknown, describe)))
        }
        (4 | 6 | 12 | 14, true) => match events.failure.as_ref().or(events.other_unreachable.as_ref()) {
            Some(failure) if events.other_unreachable.is_some() => {
                Ok(StageEnd::new(StageStatus::Failed, describe(failure)))
            }
            _ => {
                let detail = "ansible-playbook could not reach a node".to_owned();
                Ok(StageEnd::new(StageStatus::Unreachable, detail))
            }
        },
        _ if let Some((_, remedy)) = SHORTAGES.iter().find(|(text, _)| error_text.contains(text)) => {
            local(remedy)
        }
        (1..=5, _) if ansible_error.is_none() => local(
            "ansible-playbook does not work on this host; reinstall ansible-core, and try `pushbutton-bin check`",
        ),
        (1..=5, _) => fail(config(
            "ansible-playbook cannot run the playbook; fix what it reports, and try `pushbutton-bin check`",
        )),
        (99, _) => local(
            "ansible-playbook was interrupted; end the operator by SIGTERM, so that it stops its runs first",
        ),
        _ => fail(Error::temporary(ErrorKind::Unexpected, "ansible-playbook ended unexpectedly")),
    }
}

/// Blocks. Whether a file system has no room for another file of any size. Some virtual file systems have no size at all.
pub(crate) fn is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .is_ok_and(|stat| has_no_room(stat.f_blocks, stat.f_bavail.saturating_mul(stat.f_frsize)))
}

fn has_no_room(blocks: u64, available: u64) -> bool {
    blocks > 0 && available < MIN_SPACE
}

/// Why a task failed that says nothing about the patch: of a small host, or of what the node sent.
pub(crate) fn out_of_memory() -> &'static str {
    "Ansible has no memory left on the operator's host, or needs more than `ansible.memory_limit_mib`"
}

/// One line, as `task "Run tempest" on node: exit 1: the reason`.
fn describe(failure: &TaskFailure) -> String {
    let TaskFailure { host, task, rc, msg, reason, delegated_to, .. } = failure;
    let host = match delegated_to.as_ref().filter(|other| *other != host) {
        Some(other) => format!("{other} (for {host})"),
        None => host.clone(),
    };
    // ssh's own message is a screen of text, mostly a warning in capitals.
    if msg.contains("Host key verification failed") || msg.contains("HOST IDENTIFICATION HAS CHANGED") {
        return format!(
            "{host} has another host key than the one pinned for this run: it is not the requested machine"
        );
    }
    let exit = rc.map(|rc| format!(": exit {rc}")).unwrap_or_default();
    let text = match msg.as_str() {
        _ if failure.out_of_memory => out_of_memory(),
        "" | "non-zero return code" => reason,
        msg => msg,
    };
    let separator = if text.is_empty() { "" } else { ": " };
    format!("task {task:?} on {host}{exit}{separator}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn failure(msg: &str) -> TaskFailure {
        serde_json::from_value(json!({
            "host": "node", "task": "Run tempest", "rc": 1, "msg": msg, "reason": "2 tests failed"
        }))
        .unwrap()
    }

    fn evaluate(
        termination: Termination,
        events: &PlaybookEvents,
        ansible_error: Option<&str>,
    ) -> Result<StageEnd> {
        super::evaluate(termination, events, ansible_error, &["label_optional".to_owned()])
    }

    fn events() -> PlaybookEvents {
        PlaybookEvents {
            play_began: true,
            results: 3,
            current_task: Some("Stack".into()),
            ..PlaybookEvents::default()
        }
    }

    fn exit(code: i32) -> Termination {
        Termination::Exited(ExitStatus::from_raw(code << 8))
    }

    fn status(code: i32, events: &PlaybookEvents) -> Result<StageStatus> {
        evaluate(exit(code), events, Some("x")).map(|end| end.status)
    }

    /// The kind of the error, and whether it is temporary, of an exit with this message of Ansible.
    fn fault(code: i32, events: &PlaybookEvents, ansible_error: Option<&str>) -> (ErrorKind, bool) {
        let error = evaluate(exit(code), events, ansible_error).unwrap_err();
        (error.kind(), error.is_temporary())
    }

    const LOCAL: (ErrorKind, bool) = (ErrorKind::Local, true);

    #[test]
    fn exit_codes_after_a_play_began() {
        for (code, expected) in [
            (0, StageStatus::Passed),
            (2, StageStatus::Failed),
            (8, StageStatus::Failed),
            (10, StageStatus::Failed),
            (4, StageStatus::Unreachable),
            (6, StageStatus::Unreachable),
            (12, StageStatus::Unreachable),
            (14, StageStatus::Unreachable),
        ] {
            assert_eq!(status(code, &events()).unwrap(), expected, "{code}");
        }
        for (code, kind, is_temporary) in [
            (1, ErrorKind::Config, false),
            (3, ErrorKind::Config, false),
            (5, ErrorKind::Config, false),
            (99, ErrorKind::Local, true),
            (250, ErrorKind::Unexpected, true),
        ] {
            let error = status(code, &events()).unwrap_err();
            assert_eq!((error.kind(), error.is_temporary()), (kind, is_temporary), "{code}");
        }
    }

    #[test]
    fn exit_codes_before_any_play_are_errors_of_the_configuration_or_of_ansible() {
        for code in [1, 2, 3, 4, 5] {
            let error = evaluate(exit(code), &PlaybookEvents::default(), Some("the role 'x' was not found"))
                .unwrap_err();
            assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Config, false), "{code}");
            assert_eq!(error.context("error"), Some("the role 'x' was not found"));
        }
        for code in [8, 99, 250, 255] {
            assert!(status(code, &PlaybookEvents::default()).unwrap_err().is_temporary(), "{code}");
        }
    }

    /// Issue 10, V5.
    #[test]
    fn a_play_that_matched_no_host_is_an_error_of_the_configuration_unless_it_may() {
        let unmatched = |hosts: &str| PlaybookEvents { unmatched: [hosts.to_owned()].into(), ..events() };
        for code in [0, 2, 8] {
            let error = evaluate(exit(code), &unmatched("noeds"), None).unwrap_err();
            assert_eq!((error.kind(), error.context("hosts")), (ErrorKind::Config, Some("noeds")), "{code}");
        }
        assert_eq!(status(0, &unmatched("label_optional")).unwrap(), StageStatus::Passed);
        assert_eq!(status(2, &unmatched("label_optional")).unwrap(), StageStatus::Failed);
    }

    /// Issue 10, V4.
    #[test]
    fn an_unreachable_host_that_is_no_node_is_a_failure() {
        let mut other = failure("Connection refused");
        other.delegated_to = Some("logs".into());
        let other = PlaybookEvents { other_unreachable: Some(other), ..events() };
        for code in [4, 6, 12] {
            let end = evaluate(exit(code), &other, None).unwrap();
            assert_eq!(end.status, StageStatus::Failed, "{code}");
            assert!(end.detail.unwrap().contains("on logs (for node): exit 1: Connection refused"));
        }
    }

    /// Issue 10, V5 and report 3.
    #[test]
    fn a_stage_that_passed_with_failed_tests_has_failed() {
        let end =
            |status, failed| StageEnd::new(status, None).with_tests(Some(TestCounts::new(1, failed, 0)));
        let failed = end(StageStatus::Passed, 2);
        assert_eq!(failed.status, StageStatus::Failed);
        assert!(failed.detail.unwrap().contains("exit status and results disagree"));
        assert_eq!(end(StageStatus::Passed, 0).status, StageStatus::Passed);
        assert_eq!(end(StageStatus::Unreachable, 2).status, StageStatus::Unreachable);
    }

    #[test]
    fn a_stage_that_passed_with_incomplete_results_is_a_fault_of_the_lab_unless_tests_failed() {
        let end = |status, failed| {
            let end = StageEnd::new(status, None).with_tests(Some(TestCounts::new(1, failed, 0)));
            end.with_incomplete_tests(Some("a.subunit: it ends")).with_fault(Some("broken logs".to_owned()))
        };
        let cut = end(StageStatus::Passed, 0);
        assert_eq!(cut.status, StageStatus::Failed);
        assert_eq!(cut.detail.as_deref(), Some("test results are incomplete: a.subunit: it ends"));
        assert_eq!(cut.lab_fault.as_deref(), Some("incomplete test results"));
        for (status, failed) in
            [(StageStatus::Passed, 2), (StageStatus::Failed, 0), (StageStatus::TimedOut, 0)]
        {
            assert_eq!(end(status, failed).lab_fault, None, "{status:?}");
        }
        assert_eq!(end(StageStatus::TimedOut, 0).status, StageStatus::TimedOut);
        assert_eq!(
            StageEnd::new(StageStatus::Passed, None).with_incomplete_tests(None).status,
            StageStatus::Passed
        );
    }

    /// Issue 10, V7: a row of the table for each fault of the operator's host.
    #[test]
    fn a_fault_of_the_operators_host_is_a_local_error() {
        let nothing = PlaybookEvents::default();
        for (code, message) in [
            (1, "A worker was found in a dead state"),
            (250, "Unexpected Exception, this is probably a bug: [Errno 12] Cannot allocate memory"),
            (250, "Unexpected Exception, this is probably a bug: [Errno 28] No space left on device"),
            (250, "Unexpected Exception, this is probably a bug: [Errno 122] Disk quota exceeded"),
            (250, "Unexpected Exception, this is probably a bug: [Errno 24] Too many open files: '/x'"),
            (
                250,
                "Unexpected Exception, this is probably a bug: [Errno 11] Resource temporarily unavailable",
            ),
            (74, "cannot write the events of the playbook: [Errno 28] No space left on device"),
            (99, "User interrupted execution"),
            (126, ""),
            (127, ""),
            (137, ""),
            (143, ""),
        ] {
            assert_eq!(fault(code, &events(), Some(message)), LOCAL, "{code} {message}");
            assert_eq!(fault(code, &nothing, Some(message)), LOCAL, "{code} {message}");
        }
        for code in 1..=5 {
            assert_eq!(fault(code, &nothing, None), LOCAL, "{code}: Python did not even start Ansible");
        }
        assert_eq!(fault(0, &nothing, None), LOCAL);
    }

    #[test]
    fn a_failure_with_a_full_disk_is_a_local_error() {
        assert!(has_no_room(1000, 0) && has_no_room(1000, MIN_SPACE - 1));
        assert!(!has_no_room(1000, MIN_SPACE) && !has_no_room(0, 0));
        let failed = || StageEnd::new(StageStatus::Failed, "task".to_owned());
        assert!(!is_full(Path::new("/")) && !is_full(Path::new("/nowhere")));
        assert_eq!(failed().unless_disk_is_full(None).unwrap(), failed());
        let full = failed().unless_disk_is_full(Some(Path::new("/full"))).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Local, "{full}");
        let passed = || StageEnd::new(StageStatus::Passed, None);
        assert_eq!(passed().unless_disk_is_full(Some(Path::new("/full"))).unwrap(), passed());
    }

    #[test]
    fn an_unreachable_node_outranks_failure_and_timeout_but_not_cancellation_or_success() {
        let both = PlaybookEvents {
            unreachable: Some(failure("timed out")),
            failure: Some(failure("x")),
            ..events()
        };
        let status = |termination| evaluate(termination, &both, None).unwrap().status;
        assert_eq!(status(exit(2)), StageStatus::Unreachable);
        assert_eq!(status(exit(1)), StageStatus::Unreachable);
        assert_eq!(status(Termination::TimedOut(HumanDuration::secs(60))), StageStatus::Unreachable);
        assert_eq!(status(Termination::Cancelled), StageStatus::Cancelled);
        assert_eq!(status(exit(0)), StageStatus::Passed);
    }

    #[test]
    fn a_killed_ansible_is_a_temporary_error_of_the_local_machine() {
        let killed = Termination::Exited(ExitStatus::from_raw(9));
        let error = evaluate(killed, &events(), None).unwrap_err();
        assert_eq!(
            (error.kind(), error.is_temporary(), error.context("signal")),
            (ErrorKind::Local, true, Some("9"))
        );
    }

    #[test]
    fn details_say_what_failed_and_where() {
        let detail = |msg: &str| {
            let failed = PlaybookEvents { failure: Some(failure(msg)), ..events() };
            evaluate(exit(2), &failed, None).unwrap().detail.unwrap()
        };
        assert_eq!(detail("non-zero return code"), r#"task "Run tempest" on node: exit 1: 2 tests failed"#);
        assert_eq!(detail("no such file"), r#"task "Run tempest" on node: exit 1: no such file"#);
        assert!(
            detail("Failed to connect: Host key verification failed.")
                .starts_with("node has another host key")
        );
        let timed_out = evaluate(Termination::TimedOut(HumanDuration::secs(90)), &events(), None).unwrap();
        assert_eq!(timed_out.detail.unwrap(), r#"no end within 1m 30s: task "Stack" was running"#);
    }
}
