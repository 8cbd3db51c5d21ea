//! Tries what the queue needs of the broker, and says what to mend.

use futures_util::{AsyncReadExt, AsyncWriteExt};
use lapin::options::{BasicGetOptions, QueueDeleteOptions};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::types::AMQPValue;
use pushbutton_core::check::Finding;
use pushbutton_core::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::codec::Form;
use crate::config::AmqpConfig;
use crate::connect::{authorities, connect, within};
use crate::error::from_wire;
use crate::session::{accepted, send};
use crate::topology::declare;

/// The oldest RabbitMQ that this crate was tried on.
const OLDEST: (u32, u32) = (3, 10);
/// The greeting of a broker is shorter than this.
const GREETING: usize = 4096;

/// Looks at the broker: whether it answers, its version, the login, and the rights to declare, write and read queues
/// and streams. Leaves nothing behind.
pub async fn check(config: &AmqpConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = config.validate() {
        findings.push(Finding::fail(error.to_string(), "mend the rabbitmq section of the configuration"));
        return findings;
    }
    let address = config.address();
    match within(config.timeout.0, greeting(config)).await {
        Ok(greeting) => findings.push(judge(&address, &greeting)),
        Err(error) => {
            findings.push(Finding::fail(format!("RabbitMQ: {error}"), remedy(&error)));
            return findings;
        }
    }
    match connect(config).await {
        Ok(connection) => {
            findings.push(Finding::ok(format!("RabbitMQ login: accepted by {address}")));
            let prefix = &config.prefix;
            for (kind, what) in [
                ("quorum", format!("queues (such as {prefix}.jobs, {prefix}.turn)")),
                ("stream", format!("streams (such as {prefix}.record, {prefix}.notices, {prefix}.ledger)")),
            ] {
                let tried = within(config.timeout.0, attempt(config, &connection, kind)).await;
                findings.push(match tried {
                    Ok(()) => Finding::ok(format!("RabbitMQ {what}: declared, written, deleted")),
                    Err(error) => Finding::fail(format!("RabbitMQ {what}: {error}"), remedy(&error)),
                });
            }
            if let Err(error) = connection.close(200, "done".into()).await {
                tracing::debug!("the broker did not take our goodbye: {error}");
            }
        }
        Err(error) => findings.push(Finding::fail(format!("RabbitMQ login: {error}"), remedy(&error))),
    }
    findings
}

/// The first thing a broker says: its name and version, before any login.
async fn greeting(config: &AmqpConfig) -> Result<Vec<u8>> {
    let mut uri = config.uri()?;
    uri.authority.userinfo.password.clear();
    let tls = OwnedTLSConfig { identity: None, cert_chain: authorities(config).await? };
    let runtime = lapin::runtime::default_runtime().map_err(from_wire)?;
    let wire = |error: std::io::Error| from_wire(error.into());
    let mut stream = uri.connect_with_config_async(tls.as_ref(), &runtime).await.map_err(wire)?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await.map_err(wire)?;
    stream.flush().await.map_err(wire)?;
    let mut greeting = vec![0; GREETING];
    let mut length = 0;
    // A frame ends with the octet 206 (AMQP 0-9-1, 4.2.3).
    while length < GREETING && greeting[..length].last() != Some(&206) {
        match stream.read(&mut greeting[length..]).await.map_err(wire)? {
            0 => break,
            more => length += more,
        }
    }
    greeting.truncate(length);
    Ok(greeting)
}

/// A text among the broker's properties: its key, the letter S, four bytes of length, the text.
fn property(greeting: &[u8], key: &str) -> Option<String> {
    let mut label = vec![u8::try_from(key.len()).ok()?];
    label.extend_from_slice(key.as_bytes());
    label.push(b'S');
    let at = greeting.windows(label.len()).position(|window| window == label)? + label.len();
    let length = greeting.get(at..at + 4)?.try_into().map(u32::from_be_bytes).ok()?;
    let text = greeting.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn judge(address: &str, greeting: &[u8]) -> Finding {
    let (Some(product), Some(version)) = (property(greeting, "product"), property(greeting, "version"))
    else {
        return Finding::fail(
            format!("RabbitMQ: what answers at {address} is no AMQP 0-9-1 broker"),
            "check host and port of rabbitmq.url",
        );
    };
    let found = format!("RabbitMQ: {product} {version} at {address}");
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let parsed = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if product != "RabbitMQ" {
        Finding::warn(found, "the queue was made for RabbitMQ: others may lack streams")
    } else if parsed < OLDEST {
        Finding::fail(found, format!("upgrade it to {}.{} or later", OLDEST.0, OLDEST.1))
    } else {
        Finding::ok(found)
    }
}

/// Declares a queue of that kind under a name of its own, writes to it, and deletes it.
async fn attempt(config: &AmqpConfig, connection: &lapin::Connection, kind: &str) -> Result<()> {
    let channel = connection.create_channel().await.map_err(from_wire)?;
    channel.confirm_select(Default::default()).await.map_err(from_wire)?;
    let name = format!("{}.check.{}", config.prefix, Uuid::now_v7().simple()).into();
    declare(&channel, &name, vec![("x-queue-type", AMQPValue::LongString(kind.into()))]).await?;
    let tried = async {
        accepted(send(&channel, &name, Form::First, b"{}").await?).await?;
        if kind == "quorum" {
            let got =
                channel.basic_get(name.clone(), BasicGetOptions { no_ack: true }).await.map_err(from_wire)?;
            got.ok_or_else(|| Error::temporary(ErrorKind::Remote, "what was written cannot be read"))?;
        }
        Ok(())
    };
    let tried = tried.await;
    let deleted = channel.queue_delete(name, QueueDeleteOptions::default()).await;
    tried.and(deleted.map(|_| ()).map_err(from_wire))
}

fn remedy(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Unreachable | ErrorKind::TimedOut => {
            "is the broker running, and reachable from here? check host and port of rabbitmq.url"
        }
        ErrorKind::Denied => {
            "the message above says which part of rabbitmq.url, or which permission, to mend"
        }
        _ => "see the broker's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushbutton_core::check::Level;

    fn hello(product: &str, version: &str) -> Vec<u8> {
        let mut bytes = b"\x01\0\0\0\0\x01\xf4\0\x0a\0\x0a\0\x09".to_vec();
        for (key, value) in [("product", product), ("version", version)] {
            bytes.push(key.len() as u8);
            bytes.extend_from_slice(key.as_bytes());
            bytes.push(b'S');
            bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        bytes
    }

    #[test]
    fn the_version_is_read_and_judged() {
        let level = |product, version| judge("here", &hello(product, version)).level;
        assert_eq!(level("RabbitMQ", "3.10.8"), Level::Ok);
        assert_eq!(level("RabbitMQ", "4.1.0-rc.1"), Level::Ok);
        assert_eq!(level("RabbitMQ", "3.9.27"), Level::Fail);
        assert_eq!(level("LavinMQ", "2.0.0"), Level::Warn);
        assert_eq!(judge("here", b"SSH-2.0-OpenSSH_9.2\r\n").level, Level::Fail);
        let mut cut = hello("RabbitMQ", "3.10.8");
        cut.truncate(cut.len() - 3);
        assert_eq!(judge("here", &cut).level, Level::Fail);
    }
}
