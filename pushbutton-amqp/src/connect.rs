//! One connection to the broker, with a deadline on every step.

use std::future::Future;
use std::time::Duration;

use lapin::auth::AuthProvider;
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{LongString, ShortString};
use lapin::uri::{AMQPUri, SASLMechanism};
use lapin::{Connection, ConnectionProperties};
use pushbutton_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};

use crate::config::AmqpConfig;
use crate::error::from_wire;

/// The login. It goes to the client apart from the address, which the client's own trace output would show.
struct Login {
    answer: SecretString,
}

impl Login {
    /// Takes user and password out of the address.
    fn take(uri: &mut AMQPUri) -> Self {
        let user = std::mem::take(&mut uri.authority.userinfo.username);
        let password = std::mem::take(&mut uri.authority.userinfo.password);
        // SASL PLAIN (RFC 4616).
        Self { answer: SecretString::from(format!("\0{user}\0{password}")) }
    }
}

impl AuthProvider for Login {
    fn mechanism(&self) -> ShortString {
        SASLMechanism::Plain.name().into()
    }

    fn auth_starter(&self) -> Result<LongString, String> {
        Ok(self.answer.expose_secret().into())
    }
}

/// Connects and logs in.
pub(crate) async fn connect(config: &AmqpConfig) -> Result<Connection> {
    let mut uri = config.uri()?;
    let login = Login::take(&mut uri);
    let tls = OwnedTLSConfig { identity: None, cert_chain: authorities(config).await? };
    let name = format!("pushbutton {} {}", config.prefix, std::process::id());
    // The client's own recovery stays off: it can leave a consumer waiting for ever. What breaks is torn down and made anew.
    let properties =
        ConnectionProperties::default().with_connection_name(name.into()).with_auth_provider(login);
    let runtime = lapin::runtime::default_runtime().map_err(from_wire)?;
    let connecting =
        async { Connection::connect_uri_with_config(uri, properties, tls, runtime).await.map_err(from_wire) };
    // A peer that takes the connection and says nothing would be waited for without end.
    within(config.timeout.0, connecting)
        .await
        .map_err(|error| error.during("amqp::connect").with("broker", config.address()))
}

pub(crate) async fn authorities(config: &AmqpConfig) -> Result<Option<String>> {
    let Some(path) = &config.ca else { return Ok(None) };
    let wrong = |text: String| {
        Error::permanent(ErrorKind::Config, text).during("amqp::config").with("rabbitmq.ca", path.display())
    };
    if !config.is_encrypted() {
        return Err(wrong(
            "is of no use with amqp://: write amqps:// in rabbitmq.url, or leave it out".into(),
        ));
    }
    let text =
        tokio::fs::read_to_string(path).await.map_err(|why| wrong(format!("cannot be read: {why}")))?;
    if !text.contains("BEGIN CERTIFICATE") {
        return Err(wrong("holds no certificate in PEM form".into()));
    }
    Ok(Some(text))
}

/// Waits so long and no longer.
pub(crate) async fn within<T>(time: Duration, step: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(time, step).await {
        Ok(result) => result,
        Err(_) => Err(Error::temporary(ErrorKind::TimedOut, "the broker did not answer in time")
            .with("waited_s", time.as_secs())),
    }
}
