//! Checks of the brokers: whether they answer, their version, the login, the permissions, and the policies.

use async_trait::async_trait;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use lapin::options::{BasicGetOptions, QueueDeleteOptions};
use lapin::tcp::AMQPUriTcpExt;
use lapin::uri::AMQPUri;
use pushbutton_core::check::{Check, Finding};
use pushbutton_core::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::config::{AmqpConfig, address};
use crate::connect::{connect_to, tls, within};
use crate::error::from_lapin;
use crate::policies;
use crate::session::{channel, confirmed, send};
use crate::topology::{declare, text};

/// The oldest RabbitMQ on which this crate was tested.
const OLDEST: (u32, u32) = (3, 10);
/// The first frame of a broker is shorter than this.
const MAX_START_FRAME: usize = 4096;

#[async_trait]
impl Check for AmqpConfig {
    /// Checks every broker of the list: whether it answers, its version, and the login. On the first that works: the
    /// permissions to declare, write and read queues and streams, and the policies. Leaves nothing behind.
    async fn check(&self) -> Vec<Finding> {
        let uris = match self.validate().and_then(|()| self.uris()) {
            Ok(uris) => uris,
            Err(error) => {
                return vec![Finding::fail(
                    error.to_string(),
                    "fix the rabbitmq section of the configuration",
                )];
            }
        };
        let mut findings = Vec::new();
        let mut first = None;
        for uri in uris {
            let connected = login(self, &uri, &mut findings).await;
            first = first.or(connected.map(|connection| (connection, uri)));
        }
        if let Some((connection, uri)) = first {
            let prefix = &self.prefix;
            for (kind, what) in [
                ("quorum", format!("queues (such as {prefix}.jobs)")),
                ("stream", format!("streams (such as {prefix}.log)")),
            ] {
                let tried = within(self.timeout.0, try_queue(self, &connection, kind)).await;
                findings.push(match tried {
                    Ok(()) => Finding::ok(format!("RabbitMQ {what}: declared, written, deleted")),
                    Err(error) => Finding::fail(format!("RabbitMQ {what}: {error}"), remedy(&error)),
                });
            }
            findings.extend(policies::check(self, &uri).await);
        }
        findings
    }
}

/// Connects to one broker.
async fn login(config: &AmqpConfig, uri: &AMQPUri, findings: &mut Vec<Finding>) -> Option<lapin::Connection> {
    let address = address(uri);
    match within(config.timeout.0, start_frame(config, uri.clone())).await {
        Ok(frame) => findings.push(judge(&address, &frame)),
        Err(error) => {
            let remedy = remedy(&error);
            findings.push(Finding::fail(format!("RabbitMQ: {}", error.with("broker", address)), remedy));
            return None;
        }
    }
    match connect_to(config, uri.clone()).await {
        Ok(connection) => {
            findings.push(Finding::ok(format!("RabbitMQ login: accepted by {address}")));
            Some(connection)
        }
        Err(error) => {
            findings.push(Finding::fail(format!("RabbitMQ login: {error}"), remedy(&error)));
            None
        }
    }
}

/// The first frame that a broker sends: its name and version, before any login.
async fn start_frame(config: &AmqpConfig, mut uri: AMQPUri) -> Result<Vec<u8>> {
    uri.authority.userinfo.password.clear();
    let tls = tls(config).await?;
    let runtime = lapin::runtime::default_runtime().map_err(from_lapin)?;
    let failed = |error: std::io::Error| from_lapin(error.into());
    let mut stream = uri.connect_with_config_async(tls.as_ref(), &runtime).await.map_err(failed)?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    let mut frame = vec![0; MAX_START_FRAME];
    let mut length = 0;
    // A frame ends with the octet 206 (AMQP 0-9-1, 4.2.3).
    while length < MAX_START_FRAME && frame[..length].last() != Some(&206) {
        match stream.read(&mut frame[length..]).await.map_err(failed)? {
            0 => break,
            more => length += more,
        }
    }
    frame.truncate(length);
    Ok(frame)
}

/// A text property of the broker: its key, the letter S, four bytes of length, the text.
fn property(frame: &[u8], key: &str) -> Option<String> {
    let mut label = vec![u8::try_from(key.len()).ok()?];
    label.extend_from_slice(key.as_bytes());
    label.push(b'S');
    let at = frame.windows(label.len()).position(|window| window == label)? + label.len();
    let length = frame.get(at..at + 4)?.try_into().map(u32::from_be_bytes).ok()?;
    let text = frame.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn judge(address: &str, frame: &[u8]) -> Finding {
    let (Some(product), Some(version)) = (property(frame, "product"), property(frame, "version")) else {
        return Finding::fail(
            format!("RabbitMQ: the server at {address} is not an AMQP 0-9-1 broker"),
            "check host and port of rabbitmq.url",
        );
    };
    let found = format!("RabbitMQ: {product} {version} at {address}");
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let parsed = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if product != "RabbitMQ" {
        Finding::warn(found, "pushbutton is tested with RabbitMQ; other brokers may lack streams")
    } else if parsed < OLDEST {
        Finding::fail(found, format!("upgrade it to {}.{} or later", OLDEST.0, OLDEST.1))
    } else {
        Finding::ok(found)
    }
}

/// Declares a queue of that kind under a name of its own, writes to it, and deletes it.
async fn try_queue(config: &AmqpConfig, connection: &lapin::Connection, kind: &str) -> Result<()> {
    let channel = channel(connection).await?;
    channel.confirm_select(Default::default()).await.map_err(from_lapin)?;
    let name = format!("{}.check.{}", config.prefix, Uuid::now_v7().simple()).into();
    declare(&channel, &name, vec![("x-queue-type", text(kind))]).await?;
    let trying = async {
        confirmed(send(&channel, &name, b"{}").await?).await?;
        if kind == "quorum" {
            let got = channel.basic_get(name.clone(), BasicGetOptions { no_ack: true }).await;
            got.map_err(from_lapin)?
                .ok_or_else(|| Error::temporary(ErrorKind::Remote, "a written message cannot be read"))?;
        }
        Ok(())
    };
    let tried = trying.await;
    let deleted = channel.queue_delete(name, QueueDeleteOptions::default()).await;
    tried.and(deleted.map(|_| ()).map_err(from_lapin))
}

fn remedy(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Unreachable | ErrorKind::TimedOut => {
            "is the broker running, and reachable from here? check host and port of rabbitmq.url"
        }
        ErrorKind::Denied => "the message above says which part of rabbitmq.url, or which permission, to fix",
        _ => "see the broker's log",
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
