//! Waits until a node's SSH server answers. Logging in is the executor's part.

use std::io;
use std::time::Duration;

use pushbutton_core::retry::Backoff;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long one try may take: an address without a machine behind it drops packets.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
/// How much is read at most: a server may send lines before its version (RFC 4253, 4.2).
const MAX_GREETING: u64 = 4096;

/// Waits for the first of these addresses at which an SSH server answers. It has no time limit of its own.
pub(crate) async fn first_that_answers(addresses: &[String], port: u16) -> String {
    let mut all = JoinSet::new();
    for address in addresses.iter().cloned() {
        all.spawn(async move {
            wait_until_it_answers(&address, port).await;
            address
        });
    }
    match all.join_next().await {
        Some(Ok(address)) => address,
        // No address: whoever calls this has one.
        _ => std::future::pending().await,
    }
}

/// Tries until an SSH server sends its version.
async fn wait_until_it_answers(address: &str, port: u16) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
    while !matches!(timeout(TRY_TIMEOUT, answers(address, port)).await, Ok(Ok(true))) {
        sleep(backoff.next_delay()).await;
    }
}

async fn answers(address: &str, port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect((address, port)).await?.take(MAX_GREETING);
    let mut greeting = Vec::new();
    while !is_ssh(&greeting) {
        if stream.read_buf(&mut greeting).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether an SSH server has sent its version. A server that refuses with "Exceeded MaxStartups" would refuse the executor
/// too, so it is not ready yet.
fn is_ssh(greeting: &[u8]) -> bool {
    greeting.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"SSH-"))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_a_server_that_sends_an_ssh_version_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            for greeting in ["", "HTTP/1.1 400 Bad Request\r\n", "Welcome\r\nSSH-2.0-OpenSSH_9.2\r\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(greeting.as_bytes()).await.unwrap();
            }
        });
        wait_until_it_answers("127.0.0.1", port).await;
        server.await.unwrap();
    }
}
