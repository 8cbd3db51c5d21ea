//! The module `pushbutton_command`, by which a playbook runs a long command on a node while people read its output.
//!
//! ```text
//! operator                                            node
//! action plugin ── module: start ───────────────────▶ supervisor (a daemon) ──▶ command
//!      │                                                   │ output with times, exit status
//!      │ ◀─ reader: what is new after OFFSET ◀──────── folder in /tmp
//!      ▼
//! lines with MARK, time and host ──▶ ansible-playbook's stdout ──▶ console
//! ```
//!
//! - The reader is a short call through Ansible's connection. It waits up to 10 s for output and returns at most
//!   512 KiB. The next call's offset confirms what came through, so that a lost connection loses or doubles no line.
//! - The calls share one SSH connection (`ControlMaster`), whose process has the stage's tag like all others.
//! - The supervisor is a subreaper: it finds and ends everything that the command started, when the task is cancelled,
//!   or when nobody has asked for output for some minutes.
//! - On the node at most 64 MiB of output wait for the reader; then the command waits when it prints.

use jiff::Timestamp;

/// The file name of the plugin and of the module, which Ansible looks for.
pub(crate) const FILE: &str = "pushbutton_command.py";
/// The module.
pub(crate) const MODULE: &str = include_str!("library/pushbutton_command.py");
/// The action plugin. It looks for [`READER`] in the folder above its own.
pub(crate) const ACTION: &str = include_str!("action/pushbutton_command.py");
/// What each of the action plugin's calls runs on the node.
pub(crate) const READER: &str = include_str!("reader.py");
/// The file name of [`READER`].
pub(crate) const READER_FILE: &str = "reader.py";

/// A line of a command on a node: when it was written there, and the line with the name of the host.
///
/// `MARK MILLISECONDS HOST TEXT`, where the mark is a secret of the stage: a task that prints such a line cannot choose
/// its time.
pub(crate) fn parse_line<'a>(mark: &str, line: &'a str) -> Option<(Timestamp, &'a str, &'a str)> {
    let rest = line.strip_prefix(mark)?.strip_prefix(' ')?;
    let (time, rest) = rest.split_once(' ')?;
    let (host, text) = rest.split_once(' ')?;
    Some((Timestamp::from_millisecond(time.parse().ok()?).ok()?, host, text))
}
