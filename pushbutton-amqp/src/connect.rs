//! One connection to the broker, with a deadline on every step.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use lapin::auth::AuthProvider;
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::{LongString, ShortString};
use lapin::uri::{AMQPUri, SASLMechanism};
use lapin::{Connection, ConnectionProperties};
use pushbutton_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};

use crate::config::{AmqpConfig, address, wrong};
use crate::error::from_lapin;

/// The login. It goes to the client apart from the address, which the client's own trace output would show.
enum Login {
    /// SASL PLAIN (RFC 4616).
    Plain(SecretString),
    /// SASL EXTERNAL: the certificate of the TLS connection is the login.
    External,
}

impl Login {
    /// Takes user and password out of the address.
    fn take(config: &AmqpConfig, uri: &mut AMQPUri) -> Self {
        let user = std::mem::take(&mut uri.authority.userinfo.username);
        let password = std::mem::take(&mut uri.authority.userinfo.password);
        match config.is_external() {
            true => Self::External,
            false => Self::Plain(SecretString::from(format!("\0{user}\0{password}"))),
        }
    }
}

impl AuthProvider for Login {
    fn mechanism(&self) -> ShortString {
        match self {
            Self::Plain(_) => SASLMechanism::Plain.name().into(),
            Self::External => SASLMechanism::External.name().into(),
        }
    }

    fn auth_starter(&self) -> Result<LongString, String> {
        Ok(match self {
            Self::Plain(login) => login.expose_secret().into(),
            Self::External => "".into(),
        })
    }
}

/// Connects to one of the brokers and logs in: tries each once, beginning with the `first`, modulo their number.
///
/// # Errors
/// A permanent one only if every broker refuses; else the last temporary one.
pub(crate) async fn connect(config: &AmqpConfig, first: usize) -> Result<Connection> {
    let mut uris = config.uris()?;
    let first = first % uris.len();
    uris.rotate_left(first);
    let mut failed = None;
    for uri in uris {
        let error = match connect_to(config, uri).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if failed.as_ref().is_none_or(|failed: &Error| error.is_temporary() || !failed.is_temporary()) {
            failed = Some(error);
        }
    }
    Err(failed.unwrap_or_else(|| wrong("urls", "must not be empty")))
}

/// Connects to this broker and logs in.
pub(crate) async fn connect_to(config: &AmqpConfig, mut uri: AMQPUri) -> Result<Connection> {
    let address = address(&uri);
    let login = Login::take(config, &mut uri);
    let tls = tls(config).await?;
    let name = format!("pushbutton {} {}", config.prefix, std::process::id());
    // The client's own recovery stays off: it can leave a consumer pending without an error. A broken connection is
    // replaced.
    let properties =
        ConnectionProperties::default().with_connection_name(name.into()).with_auth_provider(login);
    let runtime = lapin::runtime::default_runtime().map_err(from_lapin)?;
    let connecting = Connection::connect_uri_with_config(uri, properties, tls, runtime);
    // A server that accepts the connection and never answers has no timeout in the client.
    within(config.timeout.0, async { connecting.await.map_err(from_lapin) })
        .await
        .map_err(|error| error.during("amqp::connect").with("broker", address))
}

/// Reads the authorities and the client's certificate.
pub(crate) async fn tls(config: &AmqpConfig) -> Result<OwnedTLSConfig> {
    let cert_chain = match &config.ca {
        Some(path) => Some(pem("ca", path, "CERTIFICATE").await?),
        None => None,
    };
    let identity = match (&config.client_cert, &config.client_key) {
        (Some(cert), Some(key)) => Some(OwnedIdentity::PKCS8 {
            pem: pem("client_cert", cert, "CERTIFICATE").await?.into_bytes(),
            key: pem("client_key", key, "PRIVATE KEY").await?.into_bytes(),
        }),
        _ => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}

async fn pem(key: &'static str, path: &Path, what: &str) -> Result<String> {
    let wrong = |text: String| wrong(key, text).with("file", path.display());
    let text =
        tokio::fs::read_to_string(path).await.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let is_there = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(what));
    if is_there { Ok(text) } else { Err(wrong(format!("contains no {what} in PEM format"))) }
}

/// Runs a step with a timeout.
pub(crate) async fn within<T>(time: Duration, step: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(time, step).await.unwrap_or_else(|_| {
        Err(Error::temporary(ErrorKind::TimedOut, "the broker did not answer in time")
            .with("waited_s", time.as_secs()))
    })
}
