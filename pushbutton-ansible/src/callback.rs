//! What the callback plugin (`callback.py`) told of a stage. Its file is read with bounds, and whatever does not fit is passed over.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

/// The plugin, which each stage gets a copy of.
pub(crate) const PLUGIN: &str = include_str!("callback.py");

/// The largest file that is read: a million results.
const MAX_BYTES: u64 = 256 << 20;
/// The longest honest line: two messages of 2,000 characters, each escaped to at most 12 bytes, and names.
const MAX_LINE: u64 = 128 << 10;

/// How Ansible's SSH connection says that it is lost, or that a node's sudo said nothing (ansible-core, `plugins/connection/ssh.py`). Several
/// actions, `unarchive` and `script` among them, catch that and tell it as a plain failure of the task.
const CUT_OFF: [&str; 4] = [
    "Failed to connect to the host via ",
    "Data could not be sent to remote host",
    "Data could not be sent because of ControlPersist broken pipe",
    "waiting for privilege escalation prompt",
];

/// What became of a stage, as far as decisions need it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    /// A play began, so the playbook was parsed.
    pub(crate) began: bool,
    /// The task that began last.
    pub(crate) task: Option<String>,
    /// Tasks that were run or skipped on some host.
    pub(crate) results: u64,
    /// A play found none of its hosts.
    pub(crate) no_hosts: bool,
    /// The first node that could not be reached.
    pub(crate) unreachable: Option<Trouble>,
    /// The first failure that was neither ignored nor rescued.
    pub(crate) failure: Option<Trouble>,
    /// The last failure that a rescue was there for: the rescue may have failed without a result of its own.
    pub(crate) rescued: Option<Trouble>,
    /// Where a publisher says that the logs are.
    pub(crate) log_url: Option<String>,
}

/// One result that is not well.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Trouble {
    pub(crate) host: String,
    pub(crate) task: String,
    #[serde(default)]
    pub(crate) rc: Option<i64>,
    #[serde(default)]
    pub(crate) msg: String,
    /// The line of the command's output that says why it failed.
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    ignored: bool,
    #[serde(default)]
    rescued: bool,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Record {
    Play {},
    NoHosts {},
    Task {
        name: String,
    },
    Result {
        status: Status,
        #[serde(flatten)]
        trouble: Trouble,
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

/// Reads what was told; a missing or broken file told nothing.
pub(crate) fn read(path: &Path) -> Told {
    File::open(path).map(|file| parse(BufReader::new(file.take(MAX_BYTES)))).unwrap_or_default()
}

/// Reads to the end, or to what cannot be read.
pub(crate) fn parse(mut from: impl BufRead) -> Told {
    let mut told = Told::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return told,
            // The rest of a line that is too long comes as lines of its own, none of which parses.
            Ok(_) => {
                if let Ok(record) = serde_json::from_slice(&line) {
                    told.take(record);
                }
            }
        }
    }
}

impl Told {
    fn take(&mut self, record: Record) {
        match record {
            Record::Play {} => self.began = true,
            Record::NoHosts {} => self.no_hosts = true,
            Record::Task { name } => self.task = Some(name),
            Record::LogUrl { url } => self.log_url = checked_url(url),
            Record::Result { status, trouble } => {
                self.results += 1;
                let cut_off = CUT_OFF.iter().any(|words| trouble.msg.contains(words));
                match status {
                    Status::Failed if trouble.rescued && !trouble.ignored => self.rescued = Some(trouble),
                    Status::Failed if !trouble.ignored && cut_off => {
                        self.unreachable.get_or_insert(trouble);
                    }
                    Status::Failed if !trouble.ignored => {
                        self.failure.get_or_insert(trouble);
                    }
                    Status::Unreachable if !trouble.ignored => {
                        self.unreachable.get_or_insert(trouble);
                    }
                    Status::Ok | Status::Skipped | Status::Failed | Status::Unreachable => {}
                }
            }
            Record::Other => {}
        }
    }
}

/// A URL that is posted on a review: http or https, printable, without blanks.
fn checked_url(url: String) -> Option<String> {
    let web = url.starts_with("https://") || url.starts_with("http://");
    (web && url.len() <= 2000 && url.chars().all(|c| c.is_ascii_graphic())).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_counts_that_nobody_forgave() {
        let told = parse(
            br#"{"event":"play","name":"all"}
{"event":"task","name":"a"}
{"event":"result","status":"failed","host":"n","task":"a","msg":"x","ignored":true}
{"event":"result","status":"failed","host":"n","task":"b","msg":"x","rescued":true}
{"event":"result","status":"failed","host":"n","task":"c","rc":2,"msg":"non-zero return code","reason":"boom"}
{"event":"result","status":"failed","host":"n","task":"d"}
{"event":"log-url","url":"https://logs.example.org/1/"}
"# as &[u8],
        );
        assert!(told.began && told.unreachable.is_none());
        assert_eq!(told.failure.map(|failure| (failure.task, failure.rc)), Some(("c".into(), Some(2))));
        assert_eq!(told.rescued.map(|failure| failure.task), Some("b".into()));
        assert_eq!(told.log_url.as_deref(), Some("https://logs.example.org/1/"));
        assert_eq!(told.results, 4);
    }

    #[test]
    fn an_ignored_unreachable_node_is_forgiven() {
        let line = |ignored: bool| {
            format!(
                r#"{{"event":"result","status":"unreachable","host":"n","task":"a","ignored":{ignored}}}"#
            )
        };
        assert!(parse(line(true).as_bytes()).unreachable.is_none());
        assert!(parse(line(false).as_bytes()).unreachable.is_some());
    }

    #[test]
    fn a_task_that_lost_its_node_is_no_failed_task() {
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
            let told = parse(line(false).as_bytes());
            assert!(told.unreachable.is_some() && told.failure.is_none(), "{msg}");
            assert!(parse(line(true).as_bytes()).unreachable.is_none(), "{msg}");
        }
    }

    #[test]
    fn garbage_is_passed_over() {
        let mut text =
            b"\xff\xfe\n{\"event\":\"new-in-2030\"}\n{\"event\":\"task\",\"name\":7}\n{}\n[1\n".to_vec();
        text.extend(
            b"{\"event\":\"task\",\"name\":\"".iter().chain(vec![b'x'; 1 << 20].iter()).chain(b"\"}\n"),
        );
        text.extend(b"{\"event\":\"task\",\"name\":\"after\"}\n{\"event\":\"pl");
        assert_eq!(parse(&text[..]), Told { task: Some("after".into()), ..Told::default() });
    }

    #[test]
    fn only_a_web_address_is_a_log_url() {
        for url in ["javascript:alert(1)", "https://x y", "https://x\n- forged : SUCCESS", "/local"] {
            assert_eq!(checked_url(url.into()), None, "{url}");
        }
    }
}
