//! Starts a command and stops it together with everything that it started.
//!
//! The command leads a process group, which holds all descendants that do not leave it. Those that do are found by the
//! tag in their environment ([`crate::process_tag`]). A process that leaves the group *and* drops its environment is
//! not found: on the local machine, one that sudo started. On a node of its own this cannot leave anything behind.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, kill_process_group, pidfd_open, prlimit,
};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::process_tag::{self, KILL_TIMEOUT, TAG_VARIABLE, watch};

/// What each process of the tree may use at most, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessLimits {
    /// The largest file that it writes.
    pub(crate) file_size: Option<u64>,
    /// Its own memory, without files that are mapped.
    pub(crate) memory: Option<u64>,
}

/// A running command with all its descendants. Dropping it kills them.
pub(crate) struct ProcessTree {
    leader: Child,
    leader_pidfd: AsyncFd<OwnedFd>,
    members: Members,
}

impl ProcessTree {
    /// Starts the command. Its stdout and stderr come through one pipe, so that their order is kept.
    pub(crate) fn start(
        command: std::process::Command,
        tag: &str,
        limits: ProcessLimits,
    ) -> io::Result<(Self, pipe::Receiver)> {
        let (output, input) = io::pipe()?;
        let mut command = Command::from(command);
        command.env(TAG_VARIABLE, tag).process_group(0);
        command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
        let leader = command.spawn()?;
        // The command holds copies of the pipe's writing end, which would keep it open.
        drop(command);
        let pid = leader.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let group = pid.ok_or_else(|| io::Error::other("the process has no pid"))?;
        // Made before anything else can fail: dropping it kills the processes.
        let members = Members { target: Target { group, tag: tag.into() }, reaped: false };
        for (resource, limit) in [(Resource::Fsize, limits.file_size), (Resource::Data, limits.memory)] {
            let Some(limit) = limit else { continue };
            // This process may have a lower limit, which only root may raise.
            let inherited = getrlimit(resource).maximum;
            let limit = Some(inherited.map_or(limit, |inherited| inherited.min(limit)));
            // It cannot have used anything yet: its interpreter takes longer to start than this.
            prlimit(Some(group), resource, Rlimit { current: limit, maximum: limit })?;
        }
        let leader_pidfd = watch(pidfd_open(group, PidfdFlags::empty())?)?;
        let output = pipe::Receiver::from_owned_fd(output.into())?;
        Ok((Self { leader, leader_pidfd, members }, output))
    }

    /// Waits until the command itself has ended. It is not reaped yet, so its pid is not reused. Cancel-safe.
    pub(crate) async fn leader_ended(&self) {
        // It fails only when the runtime shuts down, and then this future is dropped too.
        let _ = self.leader_pidfd.readable().await;
    }

    /// Sends TERM to all processes, and KILL to those left after the grace time. Returns when none is left.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.on_worker(|target| target.signal(Signal::TERM)).await;
        if tokio::time::timeout(grace, self.all_ended()).await.is_err() {
            self.on_worker(|target| target.signal(Signal::KILL)).await;
            let _ = tokio::time::timeout(KILL_TIMEOUT, self.all_ended()).await;
        }
        self.on_worker(Target::kill).await;
    }

    /// Reading the environment of a process whose disk hangs takes as long as that: not on a thread that renews leases.
    async fn on_worker(&self, work: impl FnOnce(&Target) + Send + 'static) {
        let target = self.members.target.clone();
        let _ = tokio::task::spawn_blocking(move || work(&target)).await;
    }

    async fn all_ended(&self) {
        self.leader_ended().await;
        let own = Arc::clone(&self.members.target.tag);
        process_tag::wait_until_gone(move |tag| *tag == *own).await;
    }

    /// The command's exit status, after [`Self::stop`].
    pub(crate) async fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.leader.wait().await?;
        self.members.reaped = true;
        Ok(status)
    }
}

/// The processes of the group, and those that left it.
#[derive(Clone)]
struct Target {
    group: Pid,
    tag: Arc<str>,
}

/// Kills them when it is dropped.
struct Members {
    target: Target,
    reaped: bool,
}

impl Target {
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
        process_tag::signal(|tag| *tag == *self.tag, signal);
    }

    /// Kills until no process is found: one may be started while the list is read.
    fn kill(&self) {
        for _ in 0..100 {
            self.signal(Signal::KILL);
            if process_tag::find(|tag| *tag == *self.tag).is_empty() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        // After reaping no process is left, and the kernel may have reused the group's number.
        if !self.reaped {
            self.target.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::time::Instant;
    use tokio::io::AsyncReadExt;

    fn shell(script: &str, tag: &str) -> (ProcessTree, pipe::Receiver) {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", script]);
        ProcessTree::start(command, tag, ProcessLimits::default()).unwrap()
    }

    async fn read_until(output: &mut pipe::Receiver, word: &str) -> String {
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains(word) {
            assert!(output.read_buf(&mut text).await.unwrap() > 0, "ended before {word}");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn both_streams_come_in_order_and_the_exit_status_is_returned() {
        let (mut tree, mut output) = shell("echo a; echo b >&2; echo c; exit 3", "order");
        let mut text = String::new();
        output.read_to_string(&mut text).await.unwrap();
        tree.leader_ended().await;
        tree.stop(Duration::ZERO).await;
        assert_eq!((text.as_str(), tree.reap().await.unwrap().code()), ("a\nb\nc\n", Some(3)));
    }

    #[tokio::test]
    async fn a_child_that_left_the_group_is_stopped_too() {
        let (mut tree, mut output) = shell("setsid sleep 600 & echo started; wait", "setsid");
        read_until(&mut output, "started").await;
        let began = Instant::now();
        tree.stop(Duration::from_secs(20)).await;
        tree.reap().await.unwrap();
        let left = process_tag::find(|tag| tag == "setsid");
        assert!(left.is_empty() && began.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_process_that_ignores_term_is_read_during_the_grace_time_and_then_killed() {
        let script = "trap 'echo got TERM' TERM; echo ready; while :; do sleep 0.1; done";
        let (mut tree, mut output) = shell(script, "stubborn");
        read_until(&mut output, "ready").await;
        let (_, text) =
            tokio::join!(tree.stop(Duration::from_millis(800)), read_until(&mut output, "got TERM"));
        assert!(text.contains("got TERM"));
        assert_eq!(tree.reap().await.unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn dropping_the_tree_kills_all() {
        let (tree, mut output) = shell("setsid sleep 600 & echo started; wait", "dropped");
        read_until(&mut output, "started").await;
        drop(tree);
        assert!(process_tag::find(|tag| tag == "dropped").is_empty());
    }
}
