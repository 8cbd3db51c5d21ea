//! Tries everything that the configuration says about Gerrit, and says what to mend.

use std::time::Duration;

use pushbutton_core::check::Finding;
use pushbutton_core::{Error, Result};
use russh::ChannelMsg;

use crate::client::Gerrit;
use crate::error::from_command;

/// How long a stream that will be refused takes to say so; one that is granted says nothing.
const REFUSAL_COMES_WITHIN: Duration = Duration::from_secs(2);

fn refused(what: &str, error: &Error, remedy: &str) -> Finding {
    Finding::fail(format!("{what}: {error}"), remedy)
}

impl Gerrit {
    /// Logs in, asks for the version, opens the event stream for a moment, and looks at the account's name. Changes nothing on the server.
    pub async fn check(&self) -> Vec<Finding> {
        let config = self.config();
        let mut findings = Vec::new();
        match self.version().await {
            Ok(version) => {
                let server = format!("{}@{}:{}", config.user, config.host, config.port);
                findings.push(Finding::ok(format!("login: {server} runs Gerrit {version}")));
            }
            Err(error) => {
                // Nothing else can be tried.
                findings.push(refused("login", &error, "mend `gerrit`: host, port, user, key and host_key"));
                return findings;
            }
        }
        findings.push(match self.may_stream().await {
            Ok(()) => Finding::ok("event stream: granted"),
            Err(error) => {
                let remedy =
                    "ask the administrators for the global capability Stream Events for this account";
                refused("event stream", &error, remedy)
            }
        });
        // OpenStack's result tables know CI accounts by the end of their names.
        let rename =
            "ask for a full name that ends in \" CI\": OpenStack's result tables know CI accounts by that";
        findings.push(match self.full_name().await {
            Ok(Some(name)) if name.ends_with(" CI") => Finding::ok(format!("account name: {name}")),
            Ok(Some(name)) => {
                Finding::warn(format!("account name: {name:?} does not end in \" CI\""), rename)
            }
            Ok(None) => Finding::warn("account name: the server's greeting does not tell it", rename),
            Err(error) => refused("account name", &error, "try again, or look at the server's log"),
        });
        if let Some(web) = self.web() {
            let url = config.url.as_deref().unwrap_or_default();
            findings.push(match web.probe().await {
                Ok(()) => Finding::ok(format!("web side: {url} answers")),
                Err(error) => Finding::warn(
                    format!("web side: {error}"),
                    "mend `gerrit.url`, or leave it out: without it, comments that were missed are dated by SSH alone",
                ),
            });
        }
        if config.comment.wiki.is_none() {
            let remedy = "set `gerrit.comment.wiki`: OpenStack's third-party CI requirements ask for the link in every comment";
            findings.push(Finding::warn("wiki: comments link to no page about this CI", remedy));
        }
        findings
    }

    async fn may_stream(&self) -> Result<()> {
        let session = self.session().await?;
        let mut channel = session.exec("gerrit stream-events -s patchset-created").await?;
        let (mut stderr, mut status) = (Vec::new(), None);
        let refusal = async {
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::ExtendedData { data, .. } => {
                        stderr.extend_from_slice(&data[..data.len().min(4096 - stderr.len().min(4096))])
                    }
                    ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                    _ => {}
                }
            }
        };
        let open = tokio::time::timeout(REFUSAL_COMES_WITHIN, refusal).await.is_err();
        if open {
            // The command goes on until its channel is closed.
            channel.close().await.map_err(crate::error::from_russh)?;
            return Ok(());
        }
        Err(from_command(status.unwrap_or(1), &String::from_utf8_lossy(&stderr)))
    }

    /// Our account's full name, from the greeting: `Hi Acme Storage CI, you have successfully connected over SSH.`
    async fn full_name(&self) -> Result<Option<String>> {
        let session = self.session().await?;
        let greeting = async {
            let mut channel = session.shell().await?;
            let mut text = Vec::new();
            while let Some(message) = channel.wait().await {
                if let ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } = message {
                    text.extend_from_slice(&data[..data.len().min(4096)]);
                }
                if text.len() > 64 << 10 {
                    break;
                }
            }
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let greeting =
            crate::connect::within(self.config().deadlines.command, "the greeting", greeting).await?;
        Ok(greeting.lines().find_map(|line| {
            let (name, _) =
                line.trim().strip_prefix("Hi ")?.split_once(", you have successfully connected")?;
            Some(name.chars().filter(|c| !c.is_control()).take(200).collect())
        }))
    }
}
