//! Finds the processes of a stage by a tag in their environment.
//!
//! All processes of a stage inherit the tag, also those that leave the process group by setsid (Ansible's async tasks,
//! daemons that a test starts): `/proc/PID/environ` still shows it. Signals go through pidfds, so that none reaches a
//! later process that got the same pid.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The environment variable that holds the tag.
pub(crate) const TAG_VARIABLE: &str = "PUSHBUTTON_PROCESS_TAG";
/// How long processes may take to vanish after KILL. The kernel needs milliseconds, unless a device hangs.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// Linux limits an environment to a quarter of the stack limit, 2 MiB by default (execve(2)).
const MAX_ENVIRONMENT: u64 = 4 << 20;

/// All running processes whose tag matches, except this process. A process that has ended shows no environment.
pub(crate) fn find(matches: impl Fn(&str) -> bool) -> Vec<OwnedFd> {
    let own_pid = i32::try_from(std::process::id()).ok();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(pid) = Pid::from_raw(number).filter(|_| own_pid != Some(number)) else { continue };
        // The pidfd is opened before the environment is read: if the pid is reused in between, the pidfd is of the
        // process that ended.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let mut environment = Vec::new();
        let read = File::open(entry.path().join("environ"))
            .and_then(|file| file.take(MAX_ENVIRONMENT).read_to_end(&mut environment));
        if read.is_ok() && tags_in(&environment).any(&matches) {
            found.push(process);
        }
    }
    found
}

fn tags_in(environment: &[u8]) -> impl Iterator<Item = &str> {
    let entries = environment.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
    entries.filter_map(|entry| entry.strip_prefix(TAG_VARIABLE)?.strip_prefix('='))
}

/// Sends a signal to all processes that [`find`] finds; returns how many there are.
pub(crate) fn signal(matches: impl Fn(&str) -> bool, signal: Signal) -> usize {
    let found = find(matches);
    for process in &found {
        let _ = pidfd_send_signal(process, signal);
    }
    found.len()
}

/// Waits until [`find`] finds no process. It looks on a thread that may block: the environment of a process whose disk
/// hangs cannot be read meanwhile. Cancel-safe.
pub(crate) async fn wait_until_gone(matches: impl Fn(&str) -> bool + Clone + Send + 'static) {
    loop {
        let matches = matches.clone();
        let left = tokio::task::spawn_blocking(move || find(matches)).await.unwrap_or_default();
        if left.is_empty() {
            return;
        }
        for process in left {
            if let Ok(process) = watch(process) {
                let _ = process.readable().await;
            }
        }
    }
}

/// A pidfd that becomes readable when its process ends.
#[allow(
    deprecated,
    reason = "the new function is unsafe, which this workspace forbids; an OwnedFd fulfils its requirement"
)]
pub(crate) fn watch(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(process, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_variable_of_exactly_that_name_is_a_tag() {
        let environment =
            b"A=PUSHBUTTON_PROCESS_TAG=x\0PUSHBUTTON_PROCESS_TAG=y\0PUSHBUTTON_PROCESS_TAGS=z\0\xff=1\0";
        assert_eq!(tags_in(environment).collect::<Vec<_>>(), ["y"]);
    }
}
