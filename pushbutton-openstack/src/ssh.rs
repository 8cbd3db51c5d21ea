//! Waits until a node answers SSH. Nobody logs in here: that is the executor's part.

use std::io;
use std::time::Duration;

use pushbutton_core::retry::Backoff;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How long one attempt may take. An address without a machine yet swallows packets.
const ATTEMPT: Duration = Duration::from_secs(5);
/// What a server may say before its version (RFC 4253, 4.2), at most.
const MAX_GREETING: usize = 4096;

/// Tries until an SSH server says its version. Ends by success alone: put a time limit around it.
pub(crate) async fn wait_until_it_answers(address: &str, port: u16) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
    loop {
        match tokio::time::timeout(ATTEMPT, greet(address, port)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::trace!(address, port, "no SSH yet: {error}"),
            Err(_) => tracing::trace!(address, port, "no SSH yet: no answer"),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn greet(address: &str, port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect((address, port)).await?;
    let mut said = Vec::new();
    while said.len() < MAX_GREETING {
        let mut some = [0; 256];
        let read = stream.read(&mut some).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        said.extend_from_slice(&some[..read]);
        if said.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"SSH-")) {
            return Ok(());
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_answers_but_not_ssh_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            for said in ["", "HTTP/1.1 400 Bad Request\r\n", "Welcome\r\nSSH-2.0-OpenSSH_9.2\r\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(said.as_bytes()).await.unwrap();
            }
        });
        wait_until_it_answers("127.0.0.1", port).await;
        server.await.unwrap();
    }
}
