//! An SSH server in Gerrit's place, in this process: a process for each command, as OpenSSH's server starts, would cost
//! more than what is measured.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use russh::keys::load_secret_key;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tempfile::TempDir;
use tokio::fs::File;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::change;

/// How much of the stream is read from its file at once.
const CHUNK: usize = 1 << 18;

/// A running server on a port of its own. It ends when it is dropped.
pub(crate) struct ReviewServer {
    folder: TempDir,
    pub(crate) port: u16,
    serving: JoinHandle<()>,
}

impl ReviewServer {
    pub(crate) const HOST: &str = "127.0.0.1";
    pub(crate) const USER: &str = "acme-ci";

    /// It says its version, shows each change that is asked for with one patch set on the tip of its branch, and streams the
    /// lines of this file; without a file there is never an event.
    pub(crate) async fn start(stream: Option<&Path>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        for key in ["host_key", "client_key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-t", "ed25519", "-f"])
                .arg(folder.path().join(key))
                .status()?;
            anyhow::ensure!(made.success(), "ssh-keygen: {made}");
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let public = std::fs::read_to_string(folder.path().join("host_key.pub"))?;
        std::fs::write(folder.path().join("known_hosts"), format!("[{}]:{port} {public}", Self::HOST))?;
        let config = Arc::new(Config {
            keys: vec![load_secret_key(folder.path().join("host_key"), None)?],
            nodelay: true,
            ..Config::default()
        });
        let stream = stream.map(Path::to_owned);
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let client = Client { stream: stream.clone(), channels: Vec::new() };
                let config = Arc::clone(&config);
                // A client that leaves ends its own connection only.
                tokio::spawn(async move {
                    if let Ok(session) = russh::server::run_stream(config, socket, client).await {
                        let _ = session.await;
                    }
                });
            }
        });
        Ok(Self { folder, port, serving })
    }

    /// The private key that a client may log in with: it is not compared.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("client_key")
    }

    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.folder.path().join("known_hosts")
    }
}

impl Drop for ReviewServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A connection.
struct Client {
    stream: Option<PathBuf>,
    /// Those that have no command yet.
    channels: Vec<Channel<Msg>>,
}

impl Handler for Client {
    type Error = anyhow::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> anyhow::Result<Auth> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> anyhow::Result<()> {
        self.channels.push(channel);
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> anyhow::Result<()> {
        let at = self.channels.iter().position(|channel| channel.id() == id).context("an open channel")?;
        let channel = self.channels.swap_remove(at);
        let command = String::from_utf8_lossy(command).into_owned();
        session.channel_success(id)?;
        if command.starts_with("gerrit stream-events") {
            let stream = self.stream.clone();
            // It ends with the connection.
            tokio::spawn(async move { stream_events(&channel, stream).await });
            return Ok(());
        }
        session.data(id, reply(&command).into_bytes())?;
        session.exit_status_request(id, 0)?;
        session.eof(id)?;
        session.close(id)?;
        Ok(())
    }
}

async fn stream_events(channel: &Channel<Msg>, file: Option<PathBuf>) -> anyhow::Result<()> {
    if let Some(file) = file {
        let mut lines = tokio::io::BufReader::with_capacity(CHUNK, File::open(file).await?);
        tokio::io::copy_buf(&mut lines, &mut channel.make_writer()).await?;
    }
    std::future::pending().await
}

/// What a command prints.
fn reply(command: &str) -> String {
    if command == "gerrit version" {
        return "gerrit version 3.10.2\n".to_owned();
    }
    // No commit is asked for but the parents of the changes, which are on the branch and under no review.
    let number = command.split_once(" change:").and_then(|(_, number)| number.trim().parse().ok());
    let rows = number.map_or_else(String::new, change::row);
    format!("{rows}{{\"type\":\"stats\",\"rowCount\":{},\"moreChanges\":false}}\n", rows.lines().count())
}
