//! How a stage ended, from its exit status and from what the callback told. Nothing here touches a process or a file.
//!
//! Ansible's exit codes alone would blame the wrong one: 4 means an unreachable host, or a playbook that does not parse; 2 means a failed task, or a
//! wrong option; 0 comes also when no play found a host.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use pushbutton_core::{Error, ErrorKind, HumanDuration, Result, StageStatus};

use crate::callback::{Told, Trouble};
use crate::error::config;

/// Bits of `ansible-playbook`'s exit code once a play runs (ansible-core, `executor/task_queue_manager.py`).
const FAILED_HOSTS: i32 = 2;
const UNREACHABLE_HOSTS: i32 = 4;
const BROKEN_OFF: i32 = 8;

/// What ended a stage.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// It did so itself.
    Exited(ExitStatus),
    /// The time limit.
    TimedOut(HumanDuration),
    /// The caller.
    Cancelled,
}

/// The status of a stage and, where it is not well, what happened. `first_error` is Ansible's own word, where it printed one.
pub(crate) fn judge(
    end: End,
    told: &Told,
    first_error: Option<&str>,
) -> Result<(StageStatus, Option<String>)> {
    let unreachable =
        told.unreachable.as_ref().map(|trouble| (StageStatus::Unreachable, Some(describe(trouble))));
    let status = match end {
        End::Cancelled => return Ok((StageStatus::Cancelled, told.task.as_deref().map(was_running))),
        // A playbook that ends well all the same has forgiven the node (meta: clear_host_errors).
        End::Exited(status) if status.success() => status,
        _ if unreachable.is_some() => return Ok(unreachable.unwrap_or((StageStatus::Unreachable, None))),
        End::TimedOut(limit) => {
            let task = told.task.as_deref().map(was_running).unwrap_or_else(|| "no task had begun".into());
            return Ok((StageStatus::TimedOut, Some(format!("no end within {limit}: {task}"))));
        }
        End::Exited(status) => status,
    };
    let said = || first_error.unwrap_or("see the console log").to_owned();
    let Some(code) = status.code() else {
        let message =
            "ansible-playbook was killed; if nobody did so, look for the kernel's out-of-memory killer";
        return Err(
            Error::temporary(ErrorKind::Local, message).with("signal", status.signal().unwrap_or_default())
        );
    };
    match code {
        0 if !told.began => {
            let message = "ansible-playbook ended well, but told nothing of any play: is ansible-core 2.14 or later installed?";
            Err(Error::temporary(ErrorKind::Unexpected, message))
        }
        0 if told.no_hosts && told.results == 0 => {
            Err(config("no play found a host; use `hosts: nodes`, which all nodes of a run are in"))
        }
        0 => Ok((StageStatus::Passed, None)),
        _ if told.began && code & !(FAILED_HOSTS | BROKEN_OFF) == 0 => {
            let trouble = told.failure.as_ref().or(told.rescued.as_ref());
            let detail = trouble
                .map(describe)
                .unwrap_or_else(|| format!("ansible-playbook ended with {code}: {}", said()));
            Ok((StageStatus::Failed, Some(detail)))
        }
        _ if told.began && code & !(FAILED_HOSTS | UNREACHABLE_HOSTS | BROKEN_OFF) == 0 => {
            Ok((StageStatus::Unreachable, Some("ansible-playbook could not reach a node".into())))
        }
        // 1: Ansible gave up; 2: a wrong option; 4: the playbook does not parse; 5: options that do not go together.
        1..=5 => Err(config(
            "ansible-playbook cannot run the playbook; mend what it says, and try `pushbutton-bin check`",
        )
        .with("exit", code)
        .with("said", said())),
        _ => Err(Error::temporary(ErrorKind::Unexpected, "ansible-playbook broke off")
            .with("exit", code)
            .with("said", said())),
    }
}

fn was_running(task: &str) -> String {
    format!("task {task:?} was running")
}

/// One line, as `task "Run tempest" on node: exit 1: it said so`.
fn describe(trouble: &Trouble) -> String {
    let Trouble { host, task, rc, msg, reason, .. } = trouble;
    // ssh's own words fill a screen with a warning in capitals.
    if msg.contains("Host key verification failed") || msg.contains("HOST IDENTIFICATION HAS CHANGED") {
        return format!(
            "{host} shows another host key than the one pinned for this run: not the machine that was asked for"
        );
    }
    let mut text = format!("task {task:?} on {host}");
    if let Some(rc) = rc {
        text.push_str(&format!(": exit {rc}"));
    }
    let said = if msg.is_empty() || msg == "non-zero return code" { reason } else { msg };
    if !said.is_empty() {
        text.push_str(": ");
        text.push_str(said);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trouble(msg: &str) -> Trouble {
        serde_json::from_value(json!({
            "host": "node", "task": "Run tempest", "rc": 1, "msg": msg, "reason": "2 tests failed"
        }))
        .unwrap()
    }

    fn told() -> Told {
        Told { began: true, results: 3, task: Some("Stack".into()), ..Told::default() }
    }

    fn exit(code: i32) -> End {
        End::Exited(ExitStatus::from_raw(code << 8))
    }

    fn status(code: i32, told: &Told) -> Result<StageStatus> {
        judge(exit(code), told, None).map(|(status, _)| status)
    }

    #[test]
    fn exit_codes_of_a_play_that_ran() {
        for (code, expected) in [
            (0, StageStatus::Passed),
            (2, StageStatus::Failed),
            (8, StageStatus::Failed),
            (10, StageStatus::Failed),
            (4, StageStatus::Unreachable),
            (6, StageStatus::Unreachable),
        ] {
            assert_eq!(status(code, &told()).unwrap(), expected, "{code}");
        }
    }

    #[test]
    fn exit_codes_of_a_play_that_never_ran_blame_nobody_but_the_configuration() {
        for code in [1, 2, 3, 4, 5] {
            let error = judge(exit(code), &Told::default(), Some("the role 'x' was not found")).unwrap_err();
            assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Config, false), "{code}");
            assert_eq!(error.context("said"), Some("the role 'x' was not found"));
        }
        for code in [99, 250, 255] {
            assert!(status(code, &told()).unwrap_err().is_temporary(), "{code}");
        }
    }

    #[test]
    fn a_play_without_hosts_has_not_passed() {
        let nobody = Told { began: true, no_hosts: true, ..Told::default() };
        assert_eq!(status(0, &nobody).unwrap_err().kind(), ErrorKind::Config);
        assert!(status(0, &Told::default()).is_err());
        assert!(status(0, &Told { no_hosts: true, ..told() }).is_ok());
    }

    #[test]
    fn an_unreachable_node_wins_over_failure_and_time_but_not_over_a_cancellation_or_a_good_end() {
        let both = Told { unreachable: Some(trouble("timed out")), failure: Some(trouble("x")), ..told() };
        let of = |end| judge(end, &both, None).unwrap().0;
        assert_eq!(of(exit(2)), StageStatus::Unreachable);
        assert_eq!(of(End::TimedOut(HumanDuration::secs(60))), StageStatus::Unreachable);
        assert_eq!(of(End::Cancelled), StageStatus::Cancelled);
        assert_eq!(of(exit(0)), StageStatus::Passed);
    }

    #[test]
    fn a_killed_ansible_is_the_machines_fault() {
        let error = judge(End::Exited(ExitStatus::from_raw(9)), &told(), None).unwrap_err();
        assert_eq!(
            (error.kind(), error.is_temporary(), error.context("signal")),
            (ErrorKind::Local, true, Some("9"))
        );
    }

    #[test]
    fn details_say_what_and_where() {
        let detail = |msg: &str| {
            judge(exit(2), &Told { failure: Some(trouble(msg)), ..told() }, None).unwrap().1.unwrap()
        };
        assert_eq!(detail("non-zero return code"), r#"task "Run tempest" on node: exit 1: 2 tests failed"#);
        assert_eq!(detail("no such file"), r#"task "Run tempest" on node: exit 1: no such file"#);
        assert!(
            detail("Failed to connect: Host key verification failed.")
                .starts_with("node shows another host key")
        );
        let (_, detail) = judge(End::TimedOut(HumanDuration::secs(90)), &told(), None).unwrap();
        assert_eq!(detail.unwrap(), r#"no end within 1m 30s: task "Stack" was running"#);
    }
}
