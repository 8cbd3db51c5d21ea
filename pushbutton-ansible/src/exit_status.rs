//! How a stage ended, from the exit status of ansible-playbook and the events of the playbook. No I/O happens here.
//!
//! The exit code alone does not say whose fault a failure is: 4 is an unreachable host, or a playbook that does not
//! parse; 2 is a failed task, or a wrong option; 0 comes also when no play matched a host. With the events it does. The
//! first row that fits decides:
//!
//! | ended by | events | means | result |
//! |---|---|---|---|
//! | cancellation | | | `Cancelled` |
//! | exit 0 | no play began | the callback plugin did not work | temporary error |
//! | exit 0 | no host matched, no result | `hosts:` names another group | permanent error, `Config` |
//! | exit 0 | | no failure, or a forgiven one (`meta: clear_host_errors`) | `Passed` |
//! | any other | a node was unreachable | | `Unreachable` |
//! | time limit | | | `TimedOut` |
//! | signal | | somebody killed it, or the kernel for lack of memory | temporary error, `Local` |
//! | exit 2, 8, 10 | a play began | 2: hosts failed; 8: the play was aborted (`any_errors_fatal`) | `Failed` |
//! | exit 4, 6, 12, 14 | a play began | the same, and 4: hosts were unreachable | `Unreachable` |
//! | exit 1 to 5 | | 1: Ansible's error; 2, 5: wrong options; 4: a parse error | permanent error, `Config` |
//! | any other exit | | 99: interrupted; 250: an exception in Ansible | temporary error |
//!
//! The codes are those of ansible-core (`executor/task_queue_manager.py`, `cli/__init__.py`).

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use pushbutton_core::{Error, ErrorKind, HumanDuration, Result, StageStatus};

use crate::error::config;
use crate::playbook_events::{PlaybookEvents, TaskFailure};

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
}

impl StageEnd {
    pub(crate) fn new(status: StageStatus, detail: impl Into<Option<String>>) -> Self {
        Self { status, detail: detail.into() }
    }
}

/// Applies the table. `ansible_error` is the error message that Ansible printed, if any.
pub(crate) fn evaluate(
    termination: Termination,
    events: &PlaybookEvents,
    ansible_error: Option<&str>,
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
        (Termination::Exited(status), _) => {
            evaluate_exit(status, events, ansible_error.unwrap_or("see the console log"))
        }
    }
}

fn evaluate_exit(status: ExitStatus, events: &PlaybookEvents, ansible_error: &str) -> Result<StageEnd> {
    let Some(code) = status.code() else {
        let message =
            "ansible-playbook was killed; if nobody did it, the kernel was out of memory: see its log";
        let signal = status.signal().unwrap_or_default();
        return Err(Error::temporary(ErrorKind::Local, message).with("signal", signal));
    };
    let with_exit = |error: Error| Err(error.with("exit", code).with("error", ansible_error));
    match (code, events.play_began) {
        (0, false) => {
            let message = "ansible-playbook exited with 0 without a play; install ansible-core 2.14 or later";
            Err(Error::temporary(ErrorKind::Unexpected, message))
        }
        (0, true) if events.no_hosts_matched && events.results == 0 => {
            Err(config("no play matched a host; use `hosts: nodes`, the group of all nodes of a run"))
        }
        (0, true) => Ok(StageEnd::new(StageStatus::Passed, None)),
        (2 | 8 | 10, true) => {
            let failure = events.failure.as_ref().or(events.rescued_failure.as_ref());
            let unknown = || format!("ansible-playbook exited with {code}: {ansible_error}");
            Ok(StageEnd::new(StageStatus::Failed, failure.map_or_else(unknown, describe)))
        }
        (4 | 6 | 12 | 14, true) => {
            Ok(StageEnd::new(StageStatus::Unreachable, "ansible-playbook could not reach a node".to_owned()))
        }
        (1..=5, _) => {
            let fix = "fix what it reports, and try `pushbutton-bin check`";
            with_exit(config(format!("ansible-playbook cannot run the playbook; {fix}")))
        }
        _ => with_exit(Error::temporary(ErrorKind::Unexpected, "ansible-playbook ended unexpectedly")),
    }
}

/// One line, as `task "Run tempest" on node: exit 1: the reason`.
fn describe(failure: &TaskFailure) -> String {
    let TaskFailure { host, task, rc, msg, reason, .. } = failure;
    // ssh's own message is a screen of text, mostly a warning in capitals.
    if msg.contains("Host key verification failed") || msg.contains("HOST IDENTIFICATION HAS CHANGED") {
        return format!(
            "{host} has another host key than the one pinned for this run: it is not the requested machine"
        );
    }
    let exit = rc.map(|rc| format!(": exit {rc}")).unwrap_or_default();
    let text = if msg.is_empty() || msg == "non-zero return code" { reason } else { msg };
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
        evaluate(exit(code), events, None).map(|end| end.status)
    }

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
            (99, ErrorKind::Unexpected, true),
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

    #[test]
    fn a_playbook_that_matched_no_host_has_not_passed() {
        let no_hosts = PlaybookEvents { results: 0, no_hosts_matched: true, ..events() };
        assert_eq!(status(0, &no_hosts).unwrap_err().kind(), ErrorKind::Config);
        assert!(status(0, &PlaybookEvents::default()).unwrap_err().is_temporary());
        assert!(status(0, &PlaybookEvents { no_hosts_matched: true, ..events() }).is_ok());
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
