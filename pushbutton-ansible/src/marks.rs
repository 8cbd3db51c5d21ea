//! Finds processes by the mark in their environment, and ends those that nobody owns any more.
//!
//! All processes of a stage inherit the mark `STAGE/OWNER`. It outlives the operator that set it: when that was killed, the mark is how the next
//! one finds what it left.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::owner::Owner;

/// The variable that holds the mark.
pub(crate) const MARK: &str = "PUSHBUTTON_MARK";
/// How long processes that got KILL may take to vanish: the kernel's work, unless a device hangs.
pub(crate) const AFTER_KILL: Duration = Duration::from_secs(5);
/// Linux limits an environment to a quarter of the stack's limit, 2 MiB by default (execve(2)).
const MAX_ENVIRONMENT: u64 = 4 << 20;

/// The mark of a stage's processes. `stage` is unique to the stage.
pub(crate) fn mark(stage: &str, owner: &Owner) -> String {
    format!("{stage}/{owner}")
}

/// Whether a mark's owner runs no more. What has another form is not ours to judge.
fn is_stray(mark: &str) -> bool {
    mark.split_once('/').and_then(|(_, owner)| owner.parse().ok()).is_some_and(|owner: Owner| owner.is_gone())
}

/// All processes with such a mark that have not ended, ourselves excepted. One that has ended shows no environment.
pub(crate) fn find(wanted: impl Fn(&str) -> bool) -> Vec<OwnedFd> {
    let own = i32::try_from(std::process::id()).ok();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(pid) = Pid::from_raw(number).filter(|_| own != Some(number)) else { continue };
        // First the handle, then the look: what we look at is what the handle means, or is gone.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let mut environment = Vec::new();
        let read = File::open(entry.path().join("environ"))
            .and_then(|file| file.take(MAX_ENVIRONMENT).read_to_end(&mut environment));
        if read.is_ok() && marks(&environment).any(&wanted) {
            found.push(process);
        }
    }
    found
}

fn marks(environment: &[u8]) -> impl Iterator<Item = &str> {
    let entries = environment.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
    entries.filter_map(|entry| entry.strip_prefix(MARK)?.strip_prefix('='))
}

/// Sends a signal to all that [`find`] finds; returns how many those are.
pub(crate) fn signal(wanted: impl Fn(&str) -> bool, signal: Signal) -> usize {
    let found = find(wanted);
    for process in &found {
        let _ = pidfd_send_signal(process, signal);
    }
    found.len()
}

/// Waits until [`find`] finds nothing. Cancel-safe.
pub(crate) async fn vanished(wanted: impl Fn(&str) -> bool) {
    loop {
        let left = find(&wanted);
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

/// Ends what operators left that run no more: TERM, and KILL after the grace time. Returns how many processes were found.
pub(crate) async fn end_strays(grace: Duration) -> usize {
    let found = signal(is_stray, Signal::TERM);
    if found > 0 && tokio::time::timeout(grace, vanished(is_stray)).await.is_err() {
        signal(is_stray, Signal::KILL);
        let _ = tokio::time::timeout(AFTER_KILL, vanished(is_stray)).await;
    }
    found
}

#[allow(
    deprecated,
    reason = "its successor is unsafe, which we forbid; an OwnedFd keeps the promise that it asks for"
)]
pub(crate) fn watch(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(process, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mark_whose_owner_is_gone_is_a_strays() {
        let me = Owner::current().unwrap();
        assert!(!is_stray(&mark("stage", &me)));
        let (head, start) =
            me.to_string().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(is_stray(&format!("stage/{head}/{start}1")));
        for other in ["", "stage", "stage/", "019a7c1e"] {
            assert!(!is_stray(other), "{other}");
        }
    }

    #[test]
    fn a_mark_is_a_whole_variable() {
        let environment = b"A=PUSHBUTTON_MARK=x\0PUSHBUTTON_MARK=y\0PUSHBUTTON_MARKS=z\0\xff=1\0";
        assert_eq!(marks(environment).collect::<Vec<_>>(), ["y"]);
    }
}
