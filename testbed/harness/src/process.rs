//! Runs programs to their end, and signals processes that we started.

use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs `command`, feeds it `input`, and returns its stdout; panics with its stderr when it fails.
pub(crate) fn run(command: &mut Command, input: &str) -> String {
    match try_run(command, input) {
        Ok(output) => output,
        Err(why) => panic!("{why}"),
    }
}

/// As [`run`], but a failure is returned: the command, how it ended, and its stderr.
pub(crate) fn try_run(command: &mut Command, input: &str) -> Result<String, String> {
    use std::io::Write as _;
    let name = format!("{:?}", command.get_program());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    // Inputs are far smaller than a pipe's buffer or are read at once; a program that does not read is no error.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().map_err(|error| format!("cannot wait for {name}: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{name} {:?}: {}\n{stderr}", command.get_args().collect::<Vec<_>>(), output.status))
    }
}

/// Sends `signal` (`KILL`, `STOP`, ...) to processes; those that are gone are passed over. After `STOP` they stand still.
pub(crate) fn signal(signal: &str, pids: &[u32]) {
    for pid in pids {
        let _ = try_run(Command::new("sh").args(["-c", "kill \"-$0\" \"$1\"", signal, &pid.to_string()]), "");
    }
    // A signal is sent, not done: a process may run on for a moment.
    while signal == "STOP" && pids.iter().any(|pid| is_moving(*pid)) {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Whether any thread of the process is neither stopped nor dead (proc(5), field 3 of `stat`).
fn is_moving(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok()).any(|stat| {
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        state.is_some_and(|state| !matches!(state, 't' | 'T' | 'Z' | 'X'))
    })
}

/// The process and all its descendants, ancestors first.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        let children =
            std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        next += 1;
    }
    found
}
