//! What happened in a playbook, as the callback plugin (`callback_plugin.py`) wrote it. The tested node can influence
//! the file, so it is read with limits, and what does not parse is skipped.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

/// The plugin. Each stage gets a copy.
pub(crate) const PLUGIN: &str = include_str!("callback_plugin.py");

/// The largest file that is read: a million results.
const MAX_BYTES: u64 = 256 << 20;
/// The longest line that the plugin writes: 64 Ki characters of output, two texts of 2,000 characters, and names, each
/// character escaped to at most 6 bytes.
const MAX_LINE: u64 = 512 << 10;

/// Messages of Ansible's SSH connection when it is lost, or when sudo on the node did not answer (ansible-core,
/// `plugins/connection/ssh.py`). Several actions, `unarchive` and `script` among them, report these as a plain failure
/// of the task.
const CONNECTION_LOST: [&str; 4] = [
    "Failed to connect to the host via ",
    "Data could not be sent to remote host",
    "Data could not be sent because of ControlPersist broken pipe",
    "waiting for privilege escalation prompt",
];

/// A summary of the events of one stage.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct PlaybookEvents {
    /// A play began, so the playbook was parsed.
    pub(crate) play_began: bool,
    /// The task that began last.
    pub(crate) current_task: Option<String>,
    /// Results of tasks, also of skipped ones, on all hosts.
    pub(crate) results: u64,
    /// The patterns of `hosts:` that matched no host.
    pub(crate) unmatched: BTreeSet<String>,
    /// The first node that could not be reached.
    pub(crate) unreachable: Option<TaskFailure>,
    /// The first host that could not be reached and is no node of the run, such as a log server.
    pub(crate) other_unreachable: Option<TaskFailure>,
    /// The first failure that was neither ignored nor rescued.
    pub(crate) failure: Option<TaskFailure>,
    /// The last failure that has a rescue. The rescue may fail without a result of its own.
    pub(crate) rescued_failure: Option<TaskFailure>,
    /// Where the playbook published the logs.
    pub(crate) log_url: Option<String>,
}

/// A task that failed on a host, or did not reach it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct TaskFailure {
    pub(crate) host: String,
    /// The host that the task ran on, where it was delegated.
    #[serde(default)]
    pub(crate) delegated_to: Option<String>,
    /// Whether `host` is in the group `nodes`.
    #[serde(default)]
    in_nodes: bool,
    pub(crate) task: String,
    /// The exit code of the task's command.
    #[serde(default)]
    pub(crate) rc: Option<i64>,
    #[serde(default)]
    pub(crate) msg: String,
    /// The line of the command's output that says why it failed.
    #[serde(default)]
    pub(crate) reason: String,
    /// What the playbook says of the whole run, where this task fails.
    #[serde(default)]
    pub(crate) verdict: String,
    /// Whether Ansible had no memory left for it on this host.
    #[serde(default)]
    pub(crate) out_of_memory: bool,
    /// The last lines that the task printed, and its message.
    #[serde(default)]
    pub(crate) output: Vec<String>,
    #[serde(default)]
    ignored: bool,
    #[serde(default)]
    rescued: bool,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    Play {},
    NoHosts {
        #[serde(default)]
        hosts: String,
    },
    Task {
        name: String,
    },
    Result {
        status: Status,
        #[serde(flatten)]
        failure: TaskFailure,
    },
    LogUrl {
        url: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    Ok,
    Skipped,
    Failed,
    Unreachable,
}

/// Reads the file of events. A missing file has none. `nodes` are the names and addresses of the run's nodes.
pub(crate) fn read(path: &Path, nodes: &BTreeSet<String>) -> PlaybookEvents {
    File::open(path).map(|file| parse(BufReader::new(file.take(MAX_BYTES)), nodes)).unwrap_or_default()
}

/// Reads events, one JSON object per line, up to the end or the first I/O error.
pub(crate) fn parse(mut from: impl BufRead, nodes: &BTreeSet<String>) -> PlaybookEvents {
    let mut events = PlaybookEvents::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return events,
            // The rest of a line that is too long is read as further lines, none of which parses.
            Ok(_) => {
                if let Ok(event) = serde_json::from_slice(&line) {
                    events.add(event, nodes);
                }
            }
        }
    }
}

impl TaskFailure {
    /// Whether the task ran on a node of the run. Ansible reports an unreachable delegated host as the play's host.
    fn is_of_node(&self, nodes: &BTreeSet<String>) -> bool {
        match &self.delegated_to {
            Some(host) => nodes.contains(host),
            None => self.in_nodes || nodes.contains(&self.host),
        }
    }
}

/// The word in a playbook for a change that does not merge.
const MERGE_CONFLICT: &str = "merge-conflict";

impl PlaybookEvents {
    /// What does not merge, if that is why the playbook failed.
    pub(crate) fn merge_conflict(&self) -> Option<&str> {
        self.failure
            .as_ref()
            .filter(|failure| failure.verdict == MERGE_CONFLICT)
            .map(|failure| failure.msg.as_str())
    }

    /// What made the playbook fail.
    pub(crate) fn cause(&self) -> Option<&TaskFailure> {
        self.failure.as_ref().or(self.rescued_failure.as_ref())
    }

    /// Gives a command that ran tests the first failed test as its reason. The test results know it better than the
    /// command's output, which also has what the tests logged.
    pub(crate) fn blame_test(&mut self, first_failed: Option<&String>, failed: u64) {
        if let (Some(failure), Some(name)) =
            (self.failure.as_mut().or(self.rescued_failure.as_mut()), first_failed)
        {
            let more = if failed > 1 { format!(" (and {} more)", failed - 1) } else { String::new() };
            failure.reason = format!("failed test: {name}{more}");
        }
    }

    fn add(&mut self, event: Event, nodes: &BTreeSet<String>) {
        match event {
            Event::Play {} => self.play_began = true,
            Event::NoHosts { hosts } => {
                self.unmatched.insert(hosts);
            }
            Event::Task { name } => self.current_task = Some(name),
            Event::LogUrl { url } => self.log_url = Some(url).filter(|url| is_web_url(url)),
            Event::Result { status, failure } => {
                self.results += 1;
                self.add_result(status, failure, nodes);
            }
            Event::Other => {}
        }
    }

    fn add_result(&mut self, status: Status, failure: TaskFailure, nodes: &BTreeSet<String>) {
        let connection_lost = CONNECTION_LOST.iter().any(|message| failure.msg.contains(message));
        let first = match status {
            _ if failure.ignored => return,
            Status::Ok | Status::Skipped => return,
            Status::Failed if failure.rescued => {
                self.rescued_failure = Some(failure);
                return;
            }
            Status::Failed if !connection_lost => &mut self.failure,
            Status::Failed | Status::Unreachable if failure.is_of_node(nodes) => &mut self.unreachable,
            Status::Failed | Status::Unreachable => &mut self.other_unreachable,
        };
        first.get_or_insert(failure);
    }
}

/// Whether a URL may be posted on a review: http or https, printable, without blanks.
fn is_web_url(url: &str) -> bool {
    let web = url.starts_with("https://") || url.starts_with("http://");
    web && url.len() <= 2000 && url.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(from: &[u8]) -> PlaybookEvents {
        super::parse(from, &["n".to_owned(), "192.0.2.7".to_owned()].into())
    }

    #[test]
    fn the_first_failure_counts_that_was_not_ignored_or_rescued() {
        let events = parse(
            br#"{"event":"play","name":"all"}
{"event":"task","name":"a"}
{"event":"result","status":"failed","host":"n","task":"a","msg":"x","ignored":true}
{"event":"result","status":"failed","host":"n","task":"b","msg":"x","rescued":true}
{"event":"result","status":"failed","host":"n","task":"c","rc":2,"msg":"non-zero return code","reason":"boom"}
{"event":"result","status":"failed","host":"n","task":"d"}
{"event":"log-url","url":"https://logs.example.org/1/"}
"#,
        );
        assert!(events.play_began && events.unreachable.is_none());
        assert_eq!(events.failure.map(|failure| (failure.task, failure.rc)), Some(("c".into(), Some(2))));
        assert_eq!(events.rescued_failure.map(|failure| failure.task), Some("b".into()));
        assert_eq!(events.log_url.as_deref(), Some("https://logs.example.org/1/"));
        assert_eq!(events.results, 4);
    }

    #[test]
    fn only_the_failure_that_ended_the_playbook_says_that_there_is_a_conflict() {
        let line = |fields: &str| {
            format!(
                r#"{{"event":"result","status":"failed","host":"n","task":"a","msg":"a.py",{fields}"verdict":"merge-conflict"}}"#
            )
        };
        assert_eq!(parse(line("").as_bytes()).merge_conflict(), Some("a.py"));
        for fields in [r#""ignored":true,"#, r#""rescued":true,"#] {
            assert_eq!(parse(line(fields).as_bytes()).merge_conflict(), None, "{fields}");
        }
        let first = r#"{"event":"result","status":"failed","host":"n","task":"b","msg":"no"}"#;
        assert_eq!(parse(format!("{first}\n{}", line("")).as_bytes()).merge_conflict(), None);
        assert_eq!(parse(line("").replace("merge-conflict", "success").as_bytes()).merge_conflict(), None);
    }

    #[test]
    fn an_ignored_unreachable_node_does_not_count() {
        let line = |ignored: bool| {
            format!(
                r#"{{"event":"result","status":"unreachable","host":"n","task":"a","ignored":{ignored}}}"#
            )
        };
        assert!(parse(line(true).as_bytes()).unreachable.is_none());
        assert!(parse(line(false).as_bytes()).unreachable.is_some());
    }

    #[test]
    fn a_task_that_lost_its_connection_is_an_unreachable_node() {
        for msg in [
            r#"Failed to connect to the host via sftp: Connection refused"#,
            r#"Data could not be sent to remote host \"192.0.2.1\". Make sure this host can be reached over ssh: Connection timed out"#,
            r#"Timeout (32s) waiting for privilege escalation prompt: "#,
        ] {
            let line = |ignored: bool| {
                format!(
                    r#"{{"event":"result","status":"failed","host":"n","task":"a","msg":"{msg}","ignored":{ignored}}}"#
                )
            };
            let events = parse(line(false).as_bytes());
            assert!(events.unreachable.is_some() && events.failure.is_none(), "{msg}");
            assert!(parse(line(true).as_bytes()).unreachable.is_none(), "{msg}");
        }
    }

    #[test]
    fn only_a_node_makes_a_stage_unreachable_and_no_host_that_a_task_is_delegated_to() {
        for (hosts, is_node) in [
            (r#""host":"n""#, true),
            (r#""host":"n","delegated_to":null"#, true),
            (r#""host":"added","in_nodes":true"#, true),
            (r#""host":"localhost","delegated_to":"n""#, true),
            (r#""host":"localhost","delegated_to":"192.0.2.7""#, true),
            (r#""host":"n","in_nodes":true,"delegated_to":"logs""#, false),
            (r#""host":"array","in_nodes":false"#, false),
        ] {
            for status in [
                r#""status":"unreachable""#,
                r#""status":"failed","msg":"Failed to connect to the host via ssh: x""#,
            ] {
                let line = format!(r#"{{"event":"result",{status},{hosts},"task":"a"}}"#);
                let events = parse(line.as_bytes());
                assert_eq!(events.unreachable.is_some(), is_node, "{line}");
                assert_eq!(events.other_unreachable.is_some(), !is_node, "{line}");
                assert!(events.failure.is_none(), "{line}");
            }
        }
    }

    #[test]
    fn lines_that_do_not_parse_are_skipped() {
        let mut text =
            b"\xff\xfe\n{\"event\":\"new-in-2030\"}\n{\"event\":\"task\",\"name\":7}\n{}\n[1\n".to_vec();
        text.extend(
            b"{\"event\":\"task\",\"name\":\"".iter().chain(vec![b'x'; 1 << 20].iter()).chain(b"\"}\n"),
        );
        text.extend(b"{\"event\":\"task\",\"name\":\"after\"}\n{\"event\":\"pl");
        let expected = PlaybookEvents { current_task: Some("after".into()), ..PlaybookEvents::default() };
        assert_eq!(parse(&text[..]), expected);
    }

    #[test]
    fn only_a_web_address_is_a_log_url() {
        for url in ["javascript:alert(1)", "https://x y", "https://x\n- forged : SUCCESS", "/local"] {
            assert!(!is_web_url(url), "{url}");
        }
        assert!(is_web_url("http://logs.example.org/1/"));
    }
}
