//! One SSH session to Gerrit, with a deadline on every step.
//!
//! russh waits for ever where a peer says nothing: in connecting, in login, in opening a channel. Its keepalive watches only a
//! session that is logged in. So each step has its own deadline here.

use std::future::Future;
use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, HumanDuration, Result};
use russh::client::{self, Handle, Msg};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{Channel, Preferred};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::auth::{load_key, log_in};
use crate::config::{GerritConfig, HostKeyPolicy};
use crate::error::{SshError, from_russh, from_ssh};
use crate::host_key::TrustedKeys;

/// A session that is logged in. Dropping it, and all channels of it, ends it.
pub(crate) struct Session {
    handle: Handle<Client>,
    /// The way there, kept open as long as the session.
    _jump: Option<Handle<Client>>,
    deadline: HumanDuration,
}

/// Looks at the host key; nothing else of russh's callbacks matters to us.
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
            // Not asked for, so a server that shows one anyway is not to be trusted.
            PublicKeyOrCertificate::Certificate(_) => Ok(false),
        }
    }
}

impl Session {
    /// Connects, checks the host key and logs in, through the jump host where there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] and [`ErrorKind::Config`], permanent: key, login, host key. All others may pass.
    pub(crate) async fn open(config: &GerritConfig) -> Result<Self> {
        let place = format!("{}@{}:{}", config.user, config.host, config.port);
        Self::try_open(config).await.map_err(|error| error.during("gerrit::connect").with("server", place))
    }

    async fn try_open(config: &GerritConfig) -> Result<Self> {
        let limits = &config.deadlines;
        let key = load_key(&config.key, config.passphrase.as_ref()).await?;
        let (mut handle, jump) = match &config.jump {
            None => {
                let socket = tcp(&config.host, config.port, limits.connect).await?;
                (handshake(config, &config.host, config.port, &config.host_key, socket).await?, None)
            }
            Some(jump) => {
                let through =
                    |error: Error| error.with("jump", format!("{}@{}:{}", jump.user, jump.host, jump.port));
                let socket = tcp(&jump.host, jump.port, limits.connect).await.map_err(through)?;
                let mut way = handshake(config, &jump.host, jump.port, &jump.host_key, socket)
                    .await
                    .map_err(through)?;
                let jump_key = match &jump.key {
                    Some(file) => load_key(file, jump.passphrase.as_ref()).await.map_err(through)?,
                    None => Arc::clone(&key),
                };
                within(limits.auth, "login on the jump host", log_in(&mut way, &jump.user, &jump_key))
                    .await
                    .map_err(through)?;
                let opening =
                    way.channel_open_direct_tcpip(config.host.clone(), config.port.into(), "127.0.0.1", 0);
                let tunnel =
                    within(limits.connect, "opening the tunnel", async { opening.await.map_err(from_russh) })
                        .await
                        .map_err(through)?;
                let handle =
                    handshake(config, &config.host, config.port, &config.host_key, tunnel.into_stream())
                        .await?;
                (handle, Some(way))
            }
        };
        within(limits.auth, "login", log_in(&mut handle, &config.user, &key)).await?;
        Ok(Self { handle, _jump: jump, deadline: limits.connect })
    }

    /// Starts a command on a channel of its own.
    ///
    /// # Errors
    /// Temporary: the session is gone, or the server does not answer.
    pub(crate) async fn exec(&self, command: &str) -> Result<Channel<Msg>> {
        let start = async {
            let channel = self.handle.channel_open_session().await.map_err(from_russh)?;
            channel.exec(true, command).await.map_err(from_russh)?;
            Ok(channel)
        };
        within(self.deadline, "starting a command", start).await
    }

    /// Asks for a shell, which Gerrit answers with a greeting.
    pub(crate) async fn shell(&self) -> Result<Channel<Msg>> {
        let start = async {
            let channel = self.handle.channel_open_session().await.map_err(from_russh)?;
            channel.request_shell(true).await.map_err(from_russh)?;
            Ok(channel)
        };
        within(self.deadline, "asking for a greeting", start).await
    }

    /// Whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Why it ended; waits until it does. For after a channel has ended without an exit status.
    pub(crate) async fn why_closed(self) -> Error {
        let lost = || Error::temporary(ErrorKind::Unreachable, "the connection was closed");
        if !self.handle.is_closed() {
            return lost();
        }
        match within(self.deadline, "closing", async { self.handle.await.map_err(from_ssh) }).await {
            Ok(()) => lost(),
            Err(error) => error,
        }
    }
}

async fn tcp(host: &str, port: u16, deadline: HumanDuration) -> Result<TcpStream> {
    within(deadline, "connecting", async {
        let socket = TcpStream::connect((host, port))
            .await
            .map_err(|error| Error::temporary(ErrorKind::Unreachable, format!("cannot connect: {error}")))?;
        // Commands are small and somebody waits for each.
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
    // Boxed: the handshake is a very large future, and everything that may connect would hold it.
    let connecting = Box::pin(client::connect_stream(settings, stream, Client { trusted }));
    within(config.deadlines.connect, "the SSH handshake", async { connecting.await.map_err(from_ssh) }).await
}

fn ssh_settings(config: &GerritConfig, host_key_types: Option<Vec<Algorithm>>) -> client::Config {
    let keepalive = &config.keepalive;
    // russh takes an interval of 0 as "end the session at once".
    let interval = Some(keepalive.interval.0).filter(|interval| !interval.is_zero());
    let mut preferred = Preferred::DEFAULT;
    if let Some(types) = host_key_types {
        preferred.key = types.into();
    }
    client::Config {
        preferred,
        keepalive_interval: interval,
        keepalive_max: keepalive.count.max(1) as usize,
        // Bounds what keepalive does not watch: a stalled handshake, and a write into a full socket.
        inactivity_timeout: interval.map(|interval| {
            (interval * (keepalive.count + 2)).max(config.deadlines.connect.0 + config.deadlines.auth.0)
        }),
        nodelay: true,
        ..client::Config::default()
    }
}

/// Waits so long, and no longer.
pub(crate) async fn within<T>(
    limit: HumanDuration,
    what: &'static str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit.0, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::temporary(ErrorKind::TimedOut, format!("{what} took longer than {limit}"))),
    }
}
