//! Whether a stage's nodes still answer SSH. Ansible sometimes reports the loss of a node as a failed task: when a file
//! was being copied, or when the command on the node ended before the connection. Such a failure must not count against
//! the patch.

use std::time::Duration;

use pushbutton_core::{Node, StageStatus};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::exit_status::StageEnd;

/// How long one attempt may take, including DNS. sshd sends its banner before it does any work.
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);
/// Between attempts, so that an sshd that is just being restarted is found. A silent node takes some 20 seconds in all.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];
/// A server may send other lines before its banner (RFC 4253, 4.2); so many bytes are read.
const MAX_GREETING: u64 = 4096;
/// How an SSH server's first line starts. OpenSSH refuses a connection with one of the other two when it has too many
/// (`sshd.c`: MaxStartups, PerSourcePenalties): it is busy, but it runs.
const GREETINGS: [&str; 3] = ["SSH-", "Exceeded MaxStartups", "Not allowed at this time"];
/// Variables that make Ansible reach a node in another way than directly at its address: by another connection or port,
/// or a jump host.
const OTHER_ROUTES: [&str; 9] = [
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

/// Where a node's sshd listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshEndpoint {
    node: String,
    address: String,
    port: u16,
}

/// The endpoints that can be probed: of nodes that Ansible reaches directly by SSH.
fn endpoints(nodes: &[Node]) -> impl Iterator<Item = SshEndpoint> {
    let is_direct =
        |node: &&Node| !node.local && !OTHER_ROUTES.iter().any(|name| node.vars.contains_key(*name));
    nodes.iter().filter(is_direct).map(|node| SshEndpoint {
        node: node.name.clone(),
        address: node.address.clone(),
        port: node.port,
    })
}

/// Probes each node once, and adds those that answer to `reachable`, for as long as the future is polled. Only these
/// can be missed later: ssh's own configuration may hold a route to a node that is not known here.
pub(crate) async fn probe(nodes: &[Node], reachable: &mut Vec<SshEndpoint>) {
    let mut probes = JoinSet::new();
    for endpoint in endpoints(nodes) {
        probes.spawn(async move { greets(&endpoint).await.then_some(endpoint) });
    }
    while let Some(probed) = probes.join_next().await {
        reachable.extend(probed.ok().flatten());
    }
}

/// Turns a failure or timeout into `Unreachable` when one of the nodes that were reachable does not answer any more.
pub(crate) async fn confirm(
    end: StageEnd,
    reachable: &[SshEndpoint],
    cancel: &CancellationToken,
) -> StageEnd {
    if !matches!(end.status, StageStatus::Failed | StageStatus::TimedOut) {
        return end;
    }
    match cancel.run_until_cancelled(find_lost(reachable)).await {
        None => StageEnd { status: StageStatus::Cancelled, ..end },
        Some(None) => end,
        Some(Some(SshEndpoint { node, .. })) => {
            let before = end.detail.as_deref().unwrap_or("a failure that Ansible did not explain");
            StageEnd::new(
                StageStatus::Unreachable,
                format!("{node} does not answer any more, after: {before}"),
            )
        }
    }
}

/// Probes all endpoints several times; returns one that never answers. Cancel-safe.
async fn find_lost(endpoints: &[SshEndpoint]) -> Option<SshEndpoint> {
    let mut probes = JoinSet::new();
    for endpoint in endpoints.iter().cloned() {
        probes.spawn(async move {
            let answers = async || timeout(PROBE_TIMEOUT, greets(&endpoint)).await.unwrap_or(false);
            for pause in PAUSES {
                if answers().await {
                    return None;
                }
                sleep(pause).await;
            }
            (!answers().await).then_some(endpoint)
        });
    }
    probes.join_all().await.into_iter().flatten().min_by(|a, b| a.node.cmp(&b.node))
}

async fn greets(endpoint: &SshEndpoint) -> bool {
    let Ok(stream) = TcpStream::connect((endpoint.address.as_str(), endpoint.port)).await else {
        return false;
    };
    let mut stream = stream.take(MAX_GREETING);
    let mut received = Vec::new();
    while !is_ssh_greeting(&received) {
        if !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
            return false;
        }
    }
    true
}

fn is_ssh_greeting(received: &[u8]) -> bool {
    let mut lines = received.split(|byte| *byte == b'\n');
    lines.any(|line| GREETINGS.iter().any(|greeting| line.starts_with(greeting.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    fn node(name: &str, port: u16) -> Node {
        Node::ssh(name, "l".parse().unwrap(), "127.0.0.1", "u").with_port(port)
    }

    /// A server that sends this to each client.
    async fn server(greeting: &'static str) -> (u16, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(greeting.as_bytes()).await;
            }
        });
        (port, serving)
    }

    #[test]
    fn only_nodes_that_are_reached_directly_are_probed() {
        let with_var = |name: &str, var: &str| node(name, 22).with_vars([(var.to_owned(), json!("x"))]);
        let nodes = [
            Node::local("local", "l".parse().unwrap()),
            with_var("behind a bastion", "ansible_ssh_common_args"),
            with_var("python", "ansible_python_interpreter"),
            node("plain", 22),
        ];
        assert_eq!(endpoints(&nodes).map(|endpoint| endpoint.node).collect::<Vec<_>>(), ["python", "plain"]);
    }

    #[test]
    fn a_greeting_is_found_at_the_start_of_any_line() {
        for received in
            ["SSH-2.0-x", "Welcome\r\nSSH-2.0", "Exceeded MaxStartups\r\n", "Not allowed at this time\r\n"]
        {
            assert!(is_ssh_greeting(received.as_bytes()), "{received}");
        }
        for received in ["", "SSH", "HTTP/1.1 400 Bad Request\r\n", "no SSH-2.0 here\n"] {
            assert!(!is_ssh_greeting(received.as_bytes()), "{received}");
        }
    }

    #[tokio::test]
    async fn a_node_that_answered_and_no_longer_does_is_found_and_named() {
        let (stays, _serving) = server("Hello\r\nSSH-2.0-test\r\n").await;
        let (goes, serving) = server("SSH-2.0-test\r\n").await;
        let (mail, _serving) = server("220 mail\r\n").await;
        let nodes = [node("stays", stays), node("goes", goes), node("mail", mail)];
        let mut reachable = Vec::new();
        probe(&nodes, &mut reachable).await;
        reachable.sort_by(|a, b| a.node.cmp(&b.node));
        let names: Vec<_> = reachable.iter().map(|endpoint| endpoint.node.as_str()).collect();
        assert_eq!(names, ["goes", "stays"], "what answers otherwise is no sshd that could be lost");
        assert_eq!(find_lost(&reachable).await, None);
        serving.abort();
        let _ = serving.await;
        assert_eq!(find_lost(&reachable).await.map(|lost| lost.node).as_deref(), Some("goes"));
    }

    #[tokio::test]
    async fn only_failures_and_timeouts_are_confirmed_and_a_cancellation_ends_the_probes() {
        let lost = [SshEndpoint { node: "lost".into(), address: "127.0.0.1".into(), port: 0 }];
        let (running, cancelled) = (CancellationToken::new(), CancellationToken::new());
        cancelled.cancel();
        use StageStatus::*;
        for (status, cancel, expected) in [
            (Passed, &running, Passed),
            (Unreachable, &running, Unreachable),
            (Failed, &running, Unreachable),
            (TimedOut, &cancelled, Cancelled),
            (Failed, &cancelled, Cancelled),
        ] {
            let end = confirm(StageEnd::new(status, "task".to_owned()), &lost, cancel).await;
            assert_eq!(end.status, expected, "{status:?}");
            let is_named = end.detail.as_deref() == Some("lost does not answer any more, after: task");
            assert_eq!(is_named, status == Failed && expected == Unreachable, "{end:?}");
        }
        assert_eq!(confirm(StageEnd::new(Failed, None), &[], &cancelled).await.status, Cancelled);
        assert_eq!(confirm(StageEnd::new(Failed, None), &[], &running).await.status, Failed);
    }
}
