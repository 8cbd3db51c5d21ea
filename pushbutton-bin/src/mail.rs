//! Calling the lab's people by mail.

use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use pushbutton_core::{Alerter, Error, ErrorKind, Result};
use secrecy::ExposeSecret as _;

use crate::config::MailConfig;

/// How long a mail server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends mail by a server of the lab.
pub(crate) struct MailAlarm {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl MailAlarm {
    /// Connects when first needed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an address that is none.
    pub(crate) fn new(config: &MailConfig) -> Result<Self> {
        let wrong = |(key, what): (&str, String)| {
            Error::permanent(ErrorKind::Config, format!("alarm.mail.{key}: {what}"))
        };
        let (from, to) = mailboxes(config).map_err(wrong)?;
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(config.server.expose_secret())
            .map_err(|_| wrong(("server", NO_SERVER.to_owned())))?
            .timeout(Some(PATIENCE))
            .build();
        Ok(Self { transport, from, to })
    }
}

const NO_SERVER: &str =
    "this is no mail server such as smtp://127.0.0.1:25 or smtps://user:password@mail.example.org";

/// What is wrong with a configuration: the key, and what.
pub(crate) fn faults(config: &MailConfig) -> std::result::Result<(), (&'static str, String)> {
    mailboxes(config)?;
    // The text may hold a password: it is not shown.
    AsyncSmtpTransport::<Tokio1Executor>::from_url(config.server.expose_secret())
        .map(drop)
        .map_err(|_| ("server", NO_SERVER.to_owned()))
}

fn mailboxes(config: &MailConfig) -> std::result::Result<(Mailbox, Vec<Mailbox>), (&'static str, String)> {
    let read = |key, text: &str| text.parse().map_err(|_| (key, format!("{text:?} is no mail address")));
    let to: Vec<Mailbox> =
        config.to.iter().map(|to| read("to", to)).collect::<std::result::Result<_, _>>()?;
    if to.is_empty() {
        return Err(("to", "nobody would be called".to_owned()));
    }
    Ok((read("from", &config.from)?, to))
}

#[async_trait]
impl Alerter for MailAlarm {
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
                (ErrorKind::Denied, "the mail server refuses the mail; mend `alarm.mail`")
            } else {
                (ErrorKind::Unreachable, "cannot send a mail")
            };
            let error_of = if error.is_permanent() { Error::permanent } else { Error::temporary };
            error_of(kind, what).because(error)
        })
    }
}
