//! `health`: asks the process on this host whether it is healthy. An image without a shell has no other client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pushbutton_core::{Error, ErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::config::Config;
use crate::exit::Exit;
use crate::print::{print, sanitize};

/// Shorter than the timeout of the health check in `docker-compose.yml`: it says why, where that only counts a failure.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is read of the reply.
const LARGEST_REPLY: u64 = 16 * 1024;

/// Gets `/healthz`, and prints its text.
pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let web = config.web.as_ref().ok_or_else(|| {
        let message =
            "nothing can be asked: the section `web` is missing; add `web: {listen: 127.0.0.1:8080}`";
        Error::permanent(ErrorKind::Config, message)
    })?;
    let address = here(web.listen);
    let unreachable = |why: String| {
        let message = format!("nothing answers at http://{address}/healthz: {why}");
        Error::permanent(ErrorKind::Unreachable, message)
    };
    let reply = tokio::time::timeout(TIMEOUT, get(address)).await;
    let reply = reply.map_err(|_| unreachable(format!("no reply within {} s", TIMEOUT.as_secs())))?;
    let reply = reply.map_err(|error| unreachable(error.to_string()))?;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let status = head.lines().next().unwrap_or_default();
    let is_ok = status.split(' ').nth(1) == Some("200");
    print(if body.trim().is_empty() { sanitize(status) } else { sanitize(body.trim()) });
    Ok(if is_ok { Exit::Ok } else { Exit::NotOk })
}

/// Where a process that listens on this address can be reached from its own host.
fn here(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut reply = Vec::new();
    stream.take(LARGEST_REPLY).read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(here(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
