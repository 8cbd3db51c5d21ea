//! Tries what the configuration says about Gerrit, and says what to fix.

use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::check::{Check, Finding};
use pushbutton_core::{Error, HumanDuration, Result, Timestamp};
use russh::ChannelMsg;

use crate::client::Gerrit;
use crate::client::connection::{Excerpt, with_deadline};
use crate::error::{from_command, from_russh};

/// All of it ends within this time: a part's check must end within a minute.
const CHECK_TIMEOUT: Duration = Duration::from_secs(55);

/// A stream that is refused says so within this time. One that is granted says nothing.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

fn failed(what: &str, error: &Error, remedy: &str) -> Finding {
    Finding::fail(format!("{what}: {error}"), remedy)
}

#[async_trait]
impl Check for Gerrit {
    /// Logs in, reads the version, opens the event stream for a moment, and looks at the account's name and at REST.
    /// Tries the query of the backfill. Changes nothing on the server.
    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if tokio::time::timeout(CHECK_TIMEOUT, self.try_all(&mut findings)).await.is_err() {
            let what = format!("the check of Gerrit took longer than {}", HumanDuration(CHECK_TIMEOUT));
            findings.push(Finding::fail(what, "look at the load of the server, and at `gerrit.deadlines`"));
        }
        findings
    }
}

impl Gerrit {
    async fn try_all(&self, findings: &mut Vec<Finding>) {
        let config = self.config();
        match self.version().await {
            Ok(version) => {
                let server = format!("{}@{}:{}", config.user, config.host, config.port);
                findings.push(Finding::ok(format!("login: {server} runs Gerrit {version}")));
            }
            Err(error) => {
                // Nothing else can be tried.
                findings.push(failed(
                    "login",
                    &error,
                    "correct `gerrit`: host, port, user, key and host_key",
                ));
                return;
            }
        }
        findings.push(match self.try_stream().await {
            Ok(()) => Finding::ok("event stream: granted"),
            Err(error) => {
                let remedy =
                    "ask the administrators for the global capability Stream Events for this account";
                failed("event stream", &error, remedy)
            }
        });
        let rename = "ask for a full name that ends in \" CI\": OpenStack's result tables recognize CI accounts by that";
        findings.push(match self.full_name().await {
            Ok(Some(name)) if name.ends_with(" CI") => Finding::ok(format!("account name: {name}")),
            Ok(Some(name)) => {
                Finding::warn(format!("account name: {name:?} does not end in \" CI\""), rename)
            }
            Ok(None) => Finding::warn("account name: the server's greeting does not contain it", rename),
            Err(error) => failed("account name", &error, "try again, or look at the server's log"),
        });
        if let Some(rest) = self.rest() {
            let url = config.url.as_deref().unwrap_or_default();
            findings.push(match rest.probe().await {
                Ok(()) => Finding::ok(format!("REST: {url} answers")),
                Err(error) => Finding::warn(
                    format!("REST: {error}"),
                    "correct `gerrit.url`, or remove it: without it, missed comments are dated by SSH alone",
                ),
            });
        }
        if let Some(query) = &config.backfill.query {
            findings.push(match self.updated_since(Timestamp::now(), 0, &mut |_, _| {}).await {
                Ok(_) => Finding::ok(format!("backfill query: {query} is accepted")),
                Err(error) => failed(
                    "backfill query",
                    &error,
                    "correct `gerrit.backfill.query`: until then no missed event is found",
                ),
            });
        }
        if config.comment.wiki.is_none() {
            let remedy = "set `gerrit.comment.wiki`: OpenStack's third-party CI requirements ask for the link in every comment";
            findings.push(Finding::warn("wiki: comments have no link to a page about this CI", remedy));
        }
    }

    /// Opens the event stream and closes it.
    async fn try_stream(&self) -> Result<()> {
        let connection = self.connection().await?;
        let mut channel = connection.exec("gerrit stream-events -s patchset-created").await?;
        let (mut stderr, mut status) = (Excerpt::default(), None);
        let refusal = async {
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::ExtendedData { data, .. } => stderr.push(&data),
                    ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                    _ => {}
                }
            }
        };
        if tokio::time::timeout(REFUSAL_TIMEOUT, refusal).await.is_ok() {
            return Err(from_command(status.unwrap_or(1), &stderr.text()));
        }
        // The command runs on until its channel is closed.
        channel.close().await.map_err(from_russh)
    }

    /// The account's full name, from the greeting: `Hi Acme Storage CI, you have successfully connected over SSH.`
    async fn full_name(&self) -> Result<Option<String>> {
        let connection = self.connection().await?;
        let greeting = async {
            let (mut channel, mut text) = (connection.shell().await?, Excerpt::default());
            while let Some(message) = channel.wait().await {
                if let ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } = message {
                    text.push(&data);
                }
                if text.is_full() {
                    break;
                }
            }
            Ok(text.text())
        };
        let greeting = with_deadline(self.config().deadlines.command, "the greeting", greeting).await?;
        Ok(greeting.lines().find_map(|line| {
            let (name, _) =
                line.trim().strip_prefix("Hi ")?.split_once(", you have successfully connected")?;
            Some(name.chars().filter(|c| !c.is_control()).take(200).collect())
        }))
    }
}
