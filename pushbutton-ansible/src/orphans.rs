//! Stops orphans: processes of stages whose operator was killed and could not stop them itself.
//!
//! The tag of a stage's processes is `STAGE/BOOT/NAMESPACE/PID/START`: a unique id of the stage, and the identity of
//! the operator's process. When that process no longer runs, whatever still carries the tag is an orphan.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::Signal;

use crate::process_tag::{self, KILL_TIMEOUT};

/// The tag for the processes of one stage of this operator. `stage` is unique to the stage.
pub(crate) fn tag(stage: &str, operator: &ProcessIdentity) -> String {
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
    let operator = tag.split_once('/').and_then(|(_, operator)| operator.parse::<ProcessIdentity>().ok());
    operator.is_some_and(|operator| operator.has_ended())
}

/// Identifies one process of this machine for all time. A pid alone does not: the kernel reuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessIdentity {
    boot_id: String,
    /// The namespace of `pid`. A container has its own, and the host sees the container's processes.
    pid_namespace: String,
    pid: u32,
    /// In clock ticks since boot.
    start_time: u64,
}

impl ProcessIdentity {
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let pid = std::process::id();
        let stat =
            ProcStat::read(pid)?.ok_or_else(|| io::Error::other("/proc does not show this process"))?;
        Ok(Self { boot_id: boot_id()?, pid_namespace: pid_namespace()?, pid, start_time: stat.start_time })
    }

    /// Whether the process has certainly ended. Of a process of another machine, boot or container nothing is certain.
    pub(crate) fn has_ended(&self) -> bool {
        let can_tell = boot_id().is_ok_and(|id| id == self.boot_id)
            && pid_namespace().is_ok_and(|namespace| namespace == self.pid_namespace);
        can_tell
            && match ProcStat::read(self.pid) {
                Ok(Some(stat)) => stat.is_zombie || stat.start_time != self.start_time,
                Ok(None) => true,
                // For example, no free file handles.
                Err(_) => false,
            }
    }
}

/// `BOOT/NAMESPACE/PID/START`.
impl fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.boot_id, self.pid_namespace, self.pid, self.start_time)
    }
}

impl FromStr for ProcessIdentity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<&str> = text.split('/').collect();
        let [boot_id, pid_namespace, pid, start_time] = parts[..] else { return Err(()) };
        let (pid, start_time) = (pid.parse().map_err(drop)?, start_time.parse().map_err(drop)?);
        Ok(Self { boot_id: boot_id.into(), pid_namespace: pid_namespace.into(), pid, start_time })
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

    #[test]
    fn only_a_tag_whose_operator_has_ended_is_an_orphans() {
        let own = ProcessIdentity::of_this_process().unwrap();
        assert!(!is_orphan(&tag("stage", &own)));
        assert!(is_orphan(&tag("stage", &ProcessIdentity { start_time: own.start_time * 10 + 1, ..own })));
        for other in ["", "stage", "stage/", "019a7c1e"] {
            assert!(!is_orphan(other), "{other}");
        }
    }

    #[test]
    fn this_process_runs_and_its_identity_is_parsed_as_it_was_written() {
        let own = ProcessIdentity::of_this_process().unwrap();
        assert!(!own.has_ended());
        assert_eq!(own.to_string().parse(), Ok(own));
        for text in ["", "a/b/1", "a/b/x/2", "a/b/1/2/3", "019a"] {
            assert_eq!(text.parse::<ProcessIdentity>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_later_process_with_the_same_pid_is_another_process() {
        let own = ProcessIdentity::of_this_process().unwrap();
        let later = ProcessIdentity { start_time: 0, ..own };
        assert!(later.has_ended());
        let elsewhere = ProcessIdentity { boot_id: "other".into(), ..later.clone() };
        assert!(!elsewhere.has_ended(), "it may run on another machine");
        let in_a_container = ProcessIdentity { pid_namespace: "7".into(), ..later };
        assert!(!in_a_container.has_ended(), "it may run in its container");
    }

    #[test]
    fn a_killed_process_has_ended_before_and_after_its_parent_waits_for_it() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let start_time = ProcStat::read(child.id()).unwrap().unwrap().start_time;
        let killed =
            ProcessIdentity { pid: child.id(), start_time, ..ProcessIdentity::of_this_process().unwrap() };
        assert!(!killed.has_ended());
        child.kill().unwrap();
        while !killed.has_ended() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(killed.has_ended());
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
