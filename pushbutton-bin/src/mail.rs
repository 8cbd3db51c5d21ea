//! Alerts the lab's people by mail.

use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use pushbutton_core::{Alerter, Error, ErrorKind, Result};
use secrecy::ExposeSecret as _;

use crate::config::MailConfig;

/// The timeout of the mail server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends mail through a server of the lab.
pub(crate) struct MailAlerter {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl MailAlerter {
    /// Connects when it is first used.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid address.
    pub(crate) fn new(config: &MailConfig) -> Result<Self> {
        let wrong = |(key, problem): (&str, String)| {
            Error::permanent(ErrorKind::Config, format!("alarm.mail.{key}: {problem}"))
        };
        let (from, to) = mailboxes(config).map_err(wrong)?;
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(config.server.expose_secret())
            .map_err(|_| wrong(("server", NOT_A_SERVER.to_owned())))?
            .timeout(Some(TIMEOUT))
            .build();
        Ok(Self { transport, from, to })
    }
}

const NOT_A_SERVER: &str =
    "this is not a mail server such as smtp://127.0.0.1:25 or smtps://user:password@mail.example.org";

/// What is wrong with a configuration: the key and the problem.
pub(crate) fn validate(config: &MailConfig) -> std::result::Result<(), (&'static str, String)> {
    mailboxes(config)?;
    // The text may hold a password: it is not shown.
    AsyncSmtpTransport::<Tokio1Executor>::from_url(config.server.expose_secret())
        .map(drop)
        .map_err(|_| ("server", NOT_A_SERVER.to_owned()))
}

fn mailboxes(config: &MailConfig) -> std::result::Result<(Mailbox, Vec<Mailbox>), (&'static str, String)> {
    let read = |key, text: &str| text.parse().map_err(|_| (key, format!("{text:?} is not a mail address")));
    let to: Vec<Mailbox> =
        config.to.iter().map(|to| read("to", to)).collect::<std::result::Result<_, _>>()?;
    if to.is_empty() {
        return Err(("to", "there is no recipient".to_owned()));
    }
    Ok((read("from", &config.from)?, to))
}

#[async_trait]
impl Alerter for MailAlerter {
    async fn alert(&self, subject: &str, text: &str) -> Result<()> {
        let mut message = Message::builder().from(self.from.clone()).subject(subject);
        for to in &self.to {
            message = message.to(to.clone());
        }
        let message = message.body(text.to_owned()).map_err(|error| {
            Error::permanent(ErrorKind::Unexpected, "cannot write the mail").because(error)
        })?;
        self.transport.send(message).await.map(drop).map_err(|error| {
            let (kind, what) = if error.is_timeout() {
                (ErrorKind::TimedOut, "the mail server does not answer")
            } else if error.is_permanent() {
                (ErrorKind::Denied, "the mail server refuses the mail; fix `alarm.mail`")
            } else {
                (ErrorKind::Unreachable, "cannot send the mail")
            };
            let error_of = if error.is_permanent() { Error::permanent } else { Error::temporary };
            error_of(kind, what).because(error)
        })
    }
}
