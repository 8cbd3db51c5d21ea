//! One SSH connection, with a deadline on every step.
//!
//! russh has no timeout of its own for connecting, login and opening a channel, and its keepalive starts after login.
//! So each step has a deadline here.

use std::future::Future;
use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, HumanDuration, Result};
use russh::client::{self, Handle, Msg};
use russh::keys::{Algorithm, PrivateKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelStream, Preferred};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::client::auth::{load_key, log_in};
use crate::client::host_key::TrustedKeys;
use crate::config::{GerritConfig, HostKeyPolicy, JumpConfig};
use crate::error::{SshError, from_russh, from_ssh};

/// A connection that is logged in. It closes when it and all its channels are dropped.
pub(crate) struct Connection {
    handle: Handle<Client>,
    /// The connection to the jump host that carries this one.
    _jump: Option<Handle<Client>>,
    deadline: HumanDuration,
}

/// russh's callbacks: only the check of the host key is used.
pub(crate) struct Client {
    trusted: TrustedKeys,
}

impl client::Handler for Client {
    type Error = SshError;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, SshError> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                self.trusted.check(key).map(|()| true).map_err(SshError::HostKey)
            }
            // Certificates are not offered to the server, so one that sends a certificate is refused.
            PublicKeyOrCertificate::Certificate(_) => Ok(false),
        }
    }
}

impl Connection {
    /// Connects, checks the host key and logs in, through the jump host if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] and [`ErrorKind::Config`], permanent: key, login, host key. All others are temporary.
    pub(crate) async fn open(config: &GerritConfig) -> Result<Self> {
        let server = format!("{}@{}:{}", config.user, config.host, config.port);
        Self::try_open(config).await.map_err(|error| error.during("gerrit::connect").with("server", server))
    }

    async fn try_open(config: &GerritConfig) -> Result<Self> {
        let (limits, policy) = (&config.deadlines, &config.host_key);
        let key = load_key(&config.key, config.passphrase.as_ref()).await?;
        let (mut handle, jump) = match &config.jump {
            None => {
                let socket = tcp(&config.host, config.port, limits.connect).await?;
                (handshake(config, &config.host, config.port, policy, socket).await?, None)
            }
            Some(jump) => {
                let (via, tunnel) = open_tunnel(config, jump, &key).await.map_err(|error| {
                    error.with("jump", format!("{}@{}:{}", jump.user, jump.host, jump.port))
                })?;
                (handshake(config, &config.host, config.port, policy, tunnel).await?, Some(via))
            }
        };
        with_deadline(limits.auth, "login", log_in(&mut handle, &config.user, &key)).await?;
        Ok(Self { handle, _jump: jump, deadline: limits.connect })
    }

    /// Starts a command on a new channel.
    ///
    /// # Errors
    /// Temporary: the connection is lost, or the server does not answer.
    pub(crate) async fn exec(&self, command: &str) -> Result<Channel<Msg>> {
        self.start(Some(command)).await
    }

    /// Opens a shell on a new channel: Gerrit answers with a greeting and closes it.
    pub(crate) async fn shell(&self) -> Result<Channel<Msg>> {
        self.start(None).await
    }

    async fn start(&self, command: Option<&str>) -> Result<Channel<Msg>> {
        with_deadline(self.deadline, "starting a command", async {
            let channel = self.handle.channel_open_session().await.map_err(from_russh)?;
            match command {
                Some(command) => channel.exec(true, command).await.map_err(from_russh)?,
                None => channel.request_shell(true).await.map_err(from_russh)?,
            }
            Ok(channel)
        })
        .await
    }

    /// Whether it is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Waits until it is closed, and returns why. For a channel that ended without an exit status.
    pub(crate) async fn why_closed(self) -> Error {
        let lost = || Error::temporary(ErrorKind::Unreachable, "the connection was closed");
        if !self.handle.is_closed() {
            return lost();
        }
        match with_deadline(self.deadline, "closing", async { self.handle.await.map_err(from_ssh) }).await {
            Ok(()) => lost(),
            Err(error) => error,
        }
    }
}

/// Logs in on the jump host, and opens a TCP connection from there to Gerrit.
async fn open_tunnel(
    config: &GerritConfig,
    jump: &JumpConfig,
    gerrit_key: &Arc<PrivateKey>,
) -> Result<(Handle<Client>, ChannelStream<Msg>)> {
    let limits = &config.deadlines;
    let socket = tcp(&jump.host, jump.port, limits.connect).await?;
    let mut via = handshake(config, &jump.host, jump.port, &jump.host_key, socket).await?;
    let key = match &jump.key {
        Some(file) => load_key(file, jump.passphrase.as_ref()).await?,
        None => Arc::clone(gerrit_key),
    };
    with_deadline(limits.auth, "login on the jump host", log_in(&mut via, &jump.user, &key)).await?;
    let opening = via.channel_open_direct_tcpip(config.host.clone(), config.port.into(), "127.0.0.1", 0);
    let opening = async { opening.await.map_err(from_russh) };
    let tunnel = with_deadline(limits.connect, "opening the tunnel", opening).await?;
    Ok((via, tunnel.into_stream()))
}

async fn tcp(host: &str, port: u16, deadline: HumanDuration) -> Result<TcpStream> {
    with_deadline(deadline, "connecting", async {
        let socket = TcpStream::connect((host, port))
            .await
            .map_err(|error| Error::temporary(ErrorKind::Unreachable, format!("cannot connect: {error}")))?;
        // Commands are small and each is waited for.
        socket
            .set_nodelay(true)
            .map_err(|error| Error::temporary(ErrorKind::Local, "cannot set up the socket").because(error))?;
        Ok(socket)
    })
    .await
}

async fn handshake<R>(
    config: &GerritConfig,
    host: &str,
    port: u16,
    policy: &HostKeyPolicy,
    stream: R,
) -> Result<Handle<Client>>
where
    R: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let trusted = TrustedKeys::load(policy, host, port).await?;
    let settings = Arc::new(ssh_settings(config, trusted.algorithms()));
    // Boxed: the handshake is a very large future, which every caller's future would contain.
    let connecting = Box::pin(client::connect_stream(settings, stream, Client { trusted }));
    with_deadline(config.deadlines.connect, "the SSH handshake", async { connecting.await.map_err(from_ssh) })
        .await
}

fn ssh_settings(config: &GerritConfig, host_key_types: Option<Vec<Algorithm>>) -> client::Config {
    let keepalive = &config.keepalive;
    // russh takes an interval of 0 as "close the connection at once".
    let interval = Some(keepalive.interval.0).filter(|interval| !interval.is_zero());
    let mut preferred = Preferred::DEFAULT;
    if let Some(types) = host_key_types {
        preferred.key = types.into();
    }
    client::Config {
        preferred,
        keepalive_interval: interval,
        keepalive_max: keepalive.count.max(1) as usize,
        // For what keepalive does not cover: a stalled handshake, and a write into a full socket.
        inactivity_timeout: interval.map(|interval| {
            interval
                .saturating_mul(keepalive.count.saturating_add(2))
                .max(config.deadlines.connect.0.saturating_add(config.deadlines.auth.0))
        }),
        nodelay: true,
        ..client::Config::default()
    }
}

/// Runs `work`, at most for `limit`; `what` names it in the error.
pub(crate) async fn with_deadline<T>(
    limit: HumanDuration,
    what: &'static str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit.0, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::temporary(ErrorKind::TimedOut, format!("{what} took longer than {limit}"))),
    }
}

/// The beginning of an output, such as stderr.
#[derive(Debug, Default)]
pub(crate) struct Excerpt(Vec<u8>);

impl Excerpt {
    const MAX: usize = 16 << 10;

    pub(crate) fn push(&mut self, data: &[u8]) {
        self.0.extend_from_slice(&data[..data.len().min(Self::MAX.saturating_sub(self.0.len()))]);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= Self::MAX
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // core.md S3-13
    #[test]
    fn s3_13_the_largest_values_of_a_configuration_do_not_overflow() {
        let mut config = GerritConfig::new("review.example.org", "acme-ci", "key");
        config.keepalive.count = u32::MAX;
        config.keepalive.interval = HumanDuration(std::time::Duration::MAX);
        config.deadlines.connect = HumanDuration(std::time::Duration::MAX);
        config.deadlines.auth = HumanDuration(std::time::Duration::MAX);
        let settings = ssh_settings(&config, None);
        assert_eq!(settings.inactivity_timeout, Some(std::time::Duration::MAX));
        assert_eq!(settings.keepalive_max, u32::MAX as usize);
    }
}
