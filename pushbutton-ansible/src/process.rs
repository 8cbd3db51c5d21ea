//! A command and everything that it starts, ended together.
//!
//! A process group holds what stays in it; a child that calls setsid leaves it (Ansible's async tasks, daemons of a test). Each process of
//! a stage therefore inherits a mark in its environment, by which /proc still shows it. Signals go through pidfds, so that none can
//! reach a later process that was given the same number. What drops its environment *and* leaves the group is not found: on nodes that are the
//! local machine, that is a process of another user (sudo), which a node of its own would have spared.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::marks::{self, AFTER_KILL, MARK, watch};

/// A running command with all its descendants. Dropped, it kills them.
pub(crate) struct Processes {
    leader: Child,
    ended: AsyncFd<OwnedFd>,
    all: Marked,
}

impl Processes {
    /// Starts the command as the leader of a group; what it prints, on either stream, comes through one pipe and so in order.
    pub(crate) fn start(command: std::process::Command, mark: &str) -> io::Result<(Self, pipe::Receiver)> {
        let (output, input) = io::pipe()?;
        let mut command = Command::from(command);
        command.env(MARK, mark).process_group(0);
        command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
        let leader = command.spawn()?;
        // The command still holds our ends of the pipe, which would keep it open.
        drop(command);
        let pid = leader.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let group = pid.ok_or_else(|| io::Error::other("the process has no number"))?;
        let all = Marked { group, mark: mark.to_owned(), reaped: false };
        let ended = watch(pidfd_open(group, PidfdFlags::empty())?)?;
        let output = pipe::Receiver::from_owned_fd(output.into())?;
        Ok((Self { leader, ended, all }, output))
    }

    /// Waits until the command itself has ended. It is not reaped yet, so that its number stays taken. Cancel-safe.
    pub(crate) async fn ended(&self) {
        // An error could only be that of the runtime shutting down, which ends us too.
        let _ = self.ended.readable().await;
    }

    /// Sends TERM to all, and KILL to what is left after the grace time; returns when none is left.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.all.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.gone()).await.is_err() {
            self.all.signal(Signal::KILL);
            let _ = tokio::time::timeout(AFTER_KILL, self.gone()).await;
        }
        self.all.kill();
    }

    /// Waits until the command and all that carries its mark have ended.
    async fn gone(&self) {
        self.ended().await;
        marks::vanished(|mark| mark == self.all.mark).await;
    }

    /// The command's status, after [`Self::stop`].
    pub(crate) async fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.leader.wait().await?;
        self.all.reaped = true;
        Ok(status)
    }
}

/// A group, and what left it.
struct Marked {
    group: Pid,
    mark: String,
    reaped: bool,
}

impl Marked {
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
        marks::signal(|mark| mark == self.mark, signal);
    }

    /// Kills until nothing is found: a process may have been started behind our back while we looked.
    fn kill(&self) {
        for _ in 0..100 {
            self.signal(Signal::KILL);
            if marks::find(|mark| mark == self.mark).is_empty() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        // Once reaped, all are gone, and the group's number may be another's.
        if !self.reaped {
            self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::io::AsyncReadExt;

    fn shell(script: &str, mark: &str) -> (Processes, pipe::Receiver) {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", script]);
        Processes::start(command, mark).unwrap()
    }

    async fn read_until(output: &mut pipe::Receiver, word: &str) -> String {
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains(word) {
            assert!(output.read_buf(&mut text).await.unwrap() > 0, "ended before {word}");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn both_streams_come_in_order_and_the_status_is_told() {
        let (mut processes, mut output) = shell("echo a; echo b >&2; echo c; exit 3", "order");
        let mut text = String::new();
        output.read_to_string(&mut text).await.unwrap();
        processes.ended().await;
        processes.stop(Duration::ZERO).await;
        assert_eq!((text.as_str(), processes.reap().await.unwrap().code()), ("a\nb\nc\n", Some(3)));
    }

    #[tokio::test]
    async fn a_child_that_left_the_group_is_ended_with_it() {
        let (mut processes, mut output) = shell("setsid sleep 600 & echo started; wait", "setsid");
        read_until(&mut output, "started").await;
        let began = Instant::now();
        processes.stop(Duration::from_secs(20)).await;
        processes.reap().await.unwrap();
        assert!(marks::find(|mark| mark == "setsid").is_empty() && began.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn what_ignores_term_gets_kill_after_the_grace_time_and_is_heard_until_then() {
        let script = "trap 'echo heard' TERM; echo ready; while :; do sleep 0.1; done";
        let (mut processes, mut output) = shell(script, "stubborn");
        read_until(&mut output, "ready").await;
        let (_, text) =
            tokio::join!(processes.stop(Duration::from_millis(800)), read_until(&mut output, "heard"));
        assert!(text.contains("heard"));
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&processes.reap().await.unwrap()), Some(9));
    }

    #[tokio::test]
    async fn a_drop_kills_all() {
        let (processes, mut output) = shell("setsid sleep 600 & echo started; wait", "dropped");
        read_until(&mut output, "started").await;
        drop(processes);
        assert!(marks::find(|mark| mark == "dropped").is_empty());
    }
}
