//! Stops orphans: processes of stages whose operator was killed and could not stop them itself.
//!
//! The tag of a stage's processes is `STAGE/BOOT/NAMESPACE/PID/START`: a unique id of the stage, and the identity of
//! the operator's process. When that process no longer runs, whatever still carries the tag is an orphan.

use std::io;
use std::time::Duration;

use rustix::process::Signal;

use crate::process_tag::{self, KILL_TIMEOUT};

/// The tag for the processes of one stage. `stage` is unique to the stage; `operator` is a [`process_identity`].
pub(crate) fn tag(stage: &str, operator: &str) -> String {
    format!("{stage}/{operator}")
}

/// Stops the orphans on this machine: TERM, and KILL after the grace time. Returns how many processes were found.
pub(crate) async fn stop_orphans(grace: Duration) -> usize {
    let found = process_tag::signal(is_orphan, Signal::TERM);
    if found > 0 && tokio::time::timeout(grace, process_tag::wait_until_gone(is_orphan)).await.is_err() {
        process_tag::signal(is_orphan, Signal::KILL);
        let _ = tokio::time::timeout(KILL_TIMEOUT, process_tag::wait_until_gone(is_orphan)).await;
    }
    found
}

/// Whether the operator of this tag no longer runs. A tag of another form is not from pushbutton.
fn is_orphan(tag: &str) -> bool {
    tag.split_once('/').is_some_and(|(_, operator)| has_ended(operator))
}

/// Identifies this process for all time, as `BOOT/NAMESPACE/PID/START`. A pid alone does not: the kernel reuses it, and
/// a container has its own, while the host sees the container's processes. `START` is in clock ticks since boot.
pub(crate) fn process_identity() -> io::Result<String> {
    let pid = std::process::id();
    let stat = ProcStat::read(pid)?.ok_or_else(|| io::Error::other("/proc does not show this process"))?;
    Ok(format!("{}/{}/{pid}/{}", boot_id()?, pid_namespace()?, stat.start_time))
}

/// Whether the process has certainly ended. Of a process of another machine, boot or container nothing is certain.
fn has_ended(identity: &str) -> bool {
    let parts: Vec<&str> = identity.split('/').collect();
    let [boot, namespace, pid, start_time] = parts[..] else { return false };
    let (Ok(pid), Ok(start_time)) = (pid.parse(), start_time.parse::<u64>()) else { return false };
    let can_tell = boot_id().is_ok_and(|id| id == boot) && pid_namespace().is_ok_and(|id| id == namespace);
    can_tell
        && match ProcStat::read(pid) {
            Ok(Some(stat)) => stat.is_zombie || stat.start_time != start_time,
            Ok(None) => true,
            // For example, no free file handles.
            Err(_) => false,
        }
}

fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn pid_namespace() -> io::Result<String> {
    let link = std::fs::read_link("/proc/self/ns/pid")?;
    Ok(link.to_string_lossy().chars().filter(char::is_ascii_digit).collect())
}

/// What is needed of `/proc/PID/stat` (proc_pid_stat(5)).
struct ProcStat {
    /// It has ended, and its parent has not read its exit status.
    is_zombie: bool,
    start_time: u64,
}

impl ProcStat {
    /// None when there is no such process.
    fn read(pid: u32) -> io::Result<Option<Self>> {
        match std::fs::read(format!("/proc/{pid}/stat")) {
            Ok(text) => {
                Self::parse(&text).map(Some).ok_or_else(|| io::Error::other("cannot parse /proc/PID/stat"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // The process ended after the file was opened and before it was read.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The second field is the program's name in parentheses. The program chooses it, so it may hold blanks and
    /// parentheses: fields are counted from the last `)`.
    fn parse(text: &[u8]) -> Option<Self> {
        let after_name = text.rsplit(|byte| *byte == b')').next()?;
        let mut fields = std::str::from_utf8(after_name).ok()?.split_ascii_whitespace();
        let state = fields.next()?;
        // The start time is field 22; the state was field 3.
        let start_time = fields.nth(22 - 3 - 1)?.parse().ok()?;
        Some(Self { is_zombie: matches!(state, "Z" | "X"), start_time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The identity of this process, with one of its four parts replaced.
    fn identity_with(part: usize, value: &str) -> String {
        let own = process_identity().unwrap();
        let mut parts: Vec<&str> = own.split('/').collect();
        parts[part] = value;
        parts.join("/")
    }

    #[test]
    fn only_a_tag_whose_operator_has_ended_is_an_orphans() {
        assert!(!is_orphan(&tag("stage", &process_identity().unwrap())));
        assert!(is_orphan(&tag("stage", &identity_with(3, "0"))));
        for other in ["", "stage", "stage/", "019a7c1e", "s/a/b/1", "s/a/b/x/2", "s/a/b/1/2/3"] {
            assert!(!is_orphan(other), "{other}");
        }
    }

    #[test]
    fn a_later_process_with_the_same_pid_is_another_process() {
        assert!(!has_ended(&process_identity().unwrap()));
        assert!(has_ended(&identity_with(3, "0")));
        assert!(has_ended(&identity_with(2, &u32::MAX.to_string())), "no process has this pid");
    }

    #[test]
    fn a_process_of_another_boot_or_container_may_still_run() {
        let elsewhere = identity_with(3, "0");
        let (boot, rest) = elsewhere.split_once('/').unwrap();
        assert!(!has_ended(&format!("other/{rest}")));
        let (_, pid_and_start) = rest.split_once('/').unwrap();
        assert!(!has_ended(&format!("{boot}/7/{pid_and_start}")));
    }

    #[test]
    fn a_killed_process_has_ended_before_and_after_its_parent_waits_for_it() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let start_time = ProcStat::read(child.id()).unwrap().unwrap().start_time;
        let (boot, namespace) = (boot_id().unwrap(), pid_namespace().unwrap());
        let killed = format!("{boot}/{namespace}/{}/{start_time}", child.id());
        assert!(!has_ended(&killed));
        child.kill().unwrap();
        while !has_ended(&killed) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(has_ended(&killed));
    }

    #[test]
    fn a_program_name_that_looks_like_fields_is_skipped() {
        let text =
            b"7 (a) S 1) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1000 10 18446744073709551615\n";
        let stat = ProcStat::parse(text).unwrap();
        assert_eq!((stat.is_zombie, stat.start_time), (true, 4711));
        assert!(ProcStat::parse(b"7 (sh").is_none());
    }
}
