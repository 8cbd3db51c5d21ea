//! Whether a node is still there. Ansible calls the loss of a node a failed task now and then: when a file was on its way, or when what ran on
//! the node died before the connection did. Such a failure would be blamed on the patch.

use std::time::Duration;

use pushbutton_core::{Node, StageStatus};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long one try may take, name look-up included. sshd shows its banner before it does any work.
const TRY: Duration = Duration::from_secs(4);
/// Between tries, so that a node whose sshd is just being restarted is found: some 20 seconds in all for one that is silent.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];
/// A server may print lines before its banner (RFC 4253, 4.2); so much is read.
const MAX_GREETING: u64 = 4096;

/// Variables that lead Ansible to a node on another way than straight to its address: another connection, another port, a proxy or jump host.
const WAYS: [&str; 9] = [
    "ansible_connection",
    "ansible_host",
    "ansible_port",
    "ansible_ssh_host",
    "ansible_ssh_port",
    "ansible_ssh_args",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_ssh_executable",
];

/// Where a node answers, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Door {
    name: String,
    address: String,
    port: u16,
}

/// The nodes that can be asked. A local one has no door. One that its variables say another way to, as through a jump host, is not asked either:
/// that nobody answers at its address says nothing about it then.
fn doors(nodes: &[Node]) -> Vec<Door> {
    let straight = |node: &&Node| !node.local && !WAYS.iter().any(|way| node.vars.contains_key(*way));
    let door = |node: &Node| Door { name: node.name.clone(), address: node.address.clone(), port: node.port };
    nodes.iter().filter(straight).map(door).collect()
}

/// Asks each node once and notes those that answer, for as long as the caller polls. Only these can be missed later: ssh's own configuration may
/// know a way to a node that we do not see.
pub(crate) async fn meet(nodes: &[Node], met: &mut Vec<Door>) {
    let mut asked = JoinSet::new();
    for door in doors(nodes) {
        asked.spawn(async move { greets(&door).await.then_some(door) });
    }
    while let Some(answer) = asked.join_next().await {
        met.extend(answer.ok().flatten());
    }
}

/// A stage's end as it is to be believed: what speaks against the patch counts only while the nodes are there.
pub(crate) async fn confirmed(
    (status, detail): (StageStatus, Option<String>),
    met: &[Door],
    cancel: &CancellationToken,
) -> (StageStatus, Option<String>) {
    if !matches!(status, StageStatus::Failed | StageStatus::TimedOut) {
        return (status, detail);
    }
    match cancel.run_until_cancelled(missing(met)).await {
        None => (StageStatus::Cancelled, detail),
        Some(None) => (status, detail),
        Some(Some(door)) => (StageStatus::Unreachable, Some(lost(&door.name, detail.as_deref()))),
    }
}

fn lost(node: &str, after: Option<&str>) -> String {
    format!(
        "{node} does not answer any more, after: {}",
        after.unwrap_or("a failure that Ansible did not explain")
    )
}

/// One of these that does not answer any more, asked several times. Cancel-safe.
async fn missing(doors: &[Door]) -> Option<Door> {
    let mut asked = JoinSet::new();
    for door in doors.iter().cloned() {
        asked.spawn(async move {
            for pause in PAUSES {
                if answers(&door).await {
                    return None;
                }
                sleep(pause).await;
            }
            (!answers(&door).await).then_some(door)
        });
    }
    asked.join_all().await.into_iter().flatten().min_by(|a, b| a.name.cmp(&b.name))
}

async fn answers(door: &Door) -> bool {
    timeout(TRY, greets(door)).await.unwrap_or(false)
}

async fn greets(door: &Door) -> bool {
    let Ok(stream) = TcpStream::connect((door.address.as_str(), door.port)).await else { return false };
    let mut stream = stream.take(MAX_GREETING);
    let mut heard = Vec::new();
    while !is_sshd(&heard) {
        if !matches!(stream.read_buf(&mut heard).await, Ok(1..)) {
            return false;
        }
    }
    true
}

/// A banner at a line's beginning, or one of the two words by which OpenSSH's server turns a caller away unheard (`sshd.c`: MaxStartups and
/// PerSourcePenalties): busy, but there.
fn is_sshd(heard: &[u8]) -> bool {
    heard.split(|byte| *byte == b'\n').any(|line| {
        ["SSH-", "Exceeded MaxStartups", "Not allowed at this time"]
            .iter()
            .any(|word| line.starts_with(word.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    fn node(name: &str, port: u16) -> Node {
        serde_json::from_value(json!({
            "id": name, "name": name, "label": "l", "address": "127.0.0.1", "port": port, "user": "u"
        }))
        .unwrap()
    }

    /// A server that says this to each caller.
    async fn server(words: &'static str) -> (u16, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(words.as_bytes()).await;
            }
        });
        (port, serving)
    }

    #[test]
    fn only_nodes_whose_address_is_the_way_to_them_are_asked() {
        let local = Node { local: true, ..node("local", 22) };
        let vars = |name: &str| [(name.to_owned(), json!("-J bastion"))].into();
        let behind = Node { vars: vars("ansible_ssh_common_args"), ..node("behind", 22) };
        let other = Node { vars: vars("ansible_python_interpreter"), ..node("other", 22) };
        let names: Vec<_> =
            doors(&[local, behind, other, node("plain", 22)]).into_iter().map(|door| door.name).collect();
        assert_eq!(names, ["other", "plain"]);
    }

    #[test]
    fn a_banner_is_known_wherever_it_stands() {
        for heard in
            ["SSH-2.0-x", "Welcome\r\nSSH-2.0", "Exceeded MaxStartups\r\n", "Not allowed at this time\r\n"]
        {
            assert!(is_sshd(heard.as_bytes()), "{heard}");
        }
        for heard in ["", "SSH", "HTTP/1.1 400 Bad Request\r\n", "no SSH-2.0 here\n"] {
            assert!(!is_sshd(heard.as_bytes()), "{heard}");
        }
    }

    #[tokio::test]
    async fn a_node_that_answered_and_does_so_no_more_is_missed_and_named() {
        let (stays, _serving) = server("Hello\r\nSSH-2.0-test\r\n").await;
        let (goes, serving) = server("SSH-2.0-test\r\n").await;
        let (strange, _serving) = server("220 mail\r\n").await;
        let nodes = [node("stays", stays), node("goes", goes), node("strange", strange)];
        let mut met = Vec::new();
        meet(&nodes, &mut met).await;
        met.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = met.iter().map(|door| door.name.as_str()).collect();
        assert_eq!(names, ["goes", "stays"], "what answered otherwise is no sshd that could be missed");
        assert_eq!(missing(&met).await, None);
        serving.abort();
        let _ = serving.await;
        assert_eq!(missing(&met).await.map(|door| door.name).as_deref(), Some("goes"));
    }

    #[tokio::test]
    async fn only_what_speaks_against_the_patch_is_doubted_and_a_cancel_ends_the_asking() {
        let gone = [Door { name: "gone".into(), address: "127.0.0.1".into(), port: 0 }];
        let (go, stop) = (CancellationToken::new(), CancellationToken::new());
        stop.cancel();
        use StageStatus::*;
        for (status, cancel, becomes) in [
            (Passed, &go, Passed),
            (Unreachable, &go, Unreachable),
            (Failed, &go, Unreachable),
            (TimedOut, &stop, Cancelled),
            (Failed, &stop, Cancelled),
        ] {
            let (found, detail) = confirmed((status, Some("task".into())), &gone, cancel).await;
            assert_eq!(found, becomes, "{status:?}");
            let named = detail.as_deref() == Some("gone does not answer any more, after: task");
            assert_eq!(named, status == Failed && becomes == Unreachable, "{detail:?}");
        }
        assert_eq!(confirmed((Failed, None), &[], &stop).await.0, Cancelled);
        assert_eq!(confirmed((Failed, None), &[], &go).await.0, Failed);
    }
}
