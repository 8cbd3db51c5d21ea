//! Where the broker is, and the few numbers that may be tuned.

use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use pushbutton_core::{Error, ErrorKind, HumanDuration, Result};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// The `rabbitmq:` section of the configuration.
///
/// ```yaml
/// rabbitmq:
///   url: amqps://pushbutton:${RABBITMQ_PASSWORD}@rabbit.example.org:5671/ci
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AmqpConfig {
    /// `amqp://` or `amqps://USER:PASSWORD@HOST:PORT/VHOST` (the default vhost `/` is written `%2f`). A secret: it holds the password.
    pub url: SecretString,
    /// What the names of the queues begin with; installations that share a vhost have different ones. Default: `pushbutton`.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// How long after its last sign of life an operator counts as dead and its jobs go to others. Default: 2m.
    ///
    /// The holder itself stops a run that it could not renew for four fifths of this. Two minutes outlast a restart of a
    /// broker (3 to 9 s measured) ten times over, and are little beside a run of hours.
    #[serde(default = "default_lease")]
    pub lease: HumanDuration,
    /// How often client and broker show that they live; after two such times of silence the connection is given up. Whole seconds. Default: 10s.
    #[serde(default = "default_heartbeat")]
    pub heartbeat: HumanDuration,
    /// How long connecting, or any one question to the broker, may take. Default: 15s.
    #[serde(default = "default_timeout")]
    pub timeout: HumanDuration,
    /// A PEM file with the certificate authorities that may have signed the broker's certificate, beside those of the system. Default: none.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// How often operators may die on one job before it goes to the dead letters: it may be what kills them. Default: 5.
    #[serde(default = "default_lost_leases")]
    pub lost_leases: u32,
}

fn default_prefix() -> String {
    "pushbutton".into()
}
fn default_lease() -> HumanDuration {
    HumanDuration::secs(120)
}
fn default_heartbeat() -> HumanDuration {
    HumanDuration::secs(10)
}
fn default_timeout() -> HumanDuration {
    HumanDuration::secs(15)
}
fn default_lost_leases() -> u32 {
    5
}

impl AmqpConfig {
    /// All defaults, on this broker.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            prefix: default_prefix(),
            lease: default_lease(),
            heartbeat: default_heartbeat(),
            timeout: default_timeout(),
            ca: None,
            lost_leases: default_lost_leases(),
        }
    }

    /// The broker's address as it may be shown: without login.
    pub fn address(&self) -> String {
        match self.url.expose_secret().parse::<AMQPUri>() {
            Ok(uri) => {
                format!("{}://{}:{}/{}", uri.scheme, uri.authority.host, uri.authority.port, uri.vhost)
            }
            Err(_) => "(an unreadable url)".into(),
        }
    }

    /// Checks everything that can be checked without a broker.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent, naming the key and what it should be.
    pub fn validate(&self) -> Result<()> {
        self.uri()?;
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.prefix.is_empty() || self.prefix.len() > 100 || !self.prefix.chars().all(word) {
            return Err(wrong("prefix", "must be 1 to 100 letters, digits, or - _ ."));
        }
        let within = |key, value: HumanDuration, least, most| {
            if value.0 < Duration::from_secs(least) || value.0 > Duration::from_secs(most) {
                let text = format!(
                    "must be between {} and {}",
                    HumanDuration::secs(least),
                    HumanDuration::secs(most)
                );
                return Err(wrong(key, text));
            }
            Ok(())
        };
        within("lease", self.lease, 1, 3600)?;
        within("heartbeat", self.heartbeat, 1, 60)?;
        within("timeout", self.timeout, 1, 60)?;
        if self.lost_leases == 0 {
            return Err(wrong("lost_leases", "must be at least 1"));
        }
        Ok(())
    }

    /// The address for the client, with the heartbeat set.
    pub(crate) fn uri(&self) -> Result<AMQPUri> {
        let mut uri: AMQPUri = self.url.expose_secret().parse().map_err(|why: String| {
            // The parser's words name the part that is wrong, never the password.
            wrong("url", "must look like amqp://USER:PASSWORD@HOST:5672/VHOST").with("because", why)
        })?;
        uri.query.heartbeat = Some(u16::try_from(self.heartbeat.0.as_secs()).unwrap_or(60));
        Ok(uri)
    }

    /// Whether the connection is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.uri().is_ok_and(|uri| uri.scheme == AMQPScheme::AMQPS)
    }

    /// How long RabbitMQ's word on whose turn it is counts. The broker itself gives up on a silent client after two or three
    /// heartbeats; who has had the turn knows by then.
    pub(crate) fn certainty(&self) -> Duration {
        self.heartbeat.0
    }

    /// What a holder is told: it stops while others still wait.
    pub(crate) fn holder_lease(&self) -> Duration {
        self.lease.0 * 4 / 5
    }
}

fn wrong(key: &'static str, text: impl Into<String>) -> Error {
    Error::permanent(ErrorKind::Config, format!("rabbitmq.{key} {}", text.into())).during("amqp::config")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AmqpConfig, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn the_url_is_enough() {
        let config = parse(r#"{"url": "amqp://ci:s3cret@rabbit:5672/%2f"}"#).unwrap();
        assert_eq!((config.prefix.as_str(), config.lease), ("pushbutton", HumanDuration::secs(120)));
        assert_eq!(config.holder_lease(), Duration::from_secs(96));
        config.validate().unwrap();
        assert_eq!(config.uri().unwrap().query.heartbeat, Some(10));
    }

    #[test]
    fn the_password_is_never_shown() {
        let config = AmqpConfig::new("amqps://ci:s3cret@rabbit:5671/ci");
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(config.address(), "amqps://rabbit:5671/ci");
        assert!(config.is_encrypted());
        let broken = AmqpConfig::new("amqp://ci:s3cret@rabbit:port/ci");
        assert!(!format!("{:?} {}", broken.validate().unwrap_err(), broken.address()).contains("s3cret"));
    }

    #[test]
    fn wrong_values_are_named() {
        let with = |change: fn(&mut AmqpConfig)| {
            let mut config = AmqpConfig::new("amqp://guest:guest@localhost");
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(
            with(|c| c.url = SecretString::from("http://x")).contains("rabbitmq.url must look like amqp://")
        );
        assert!(with(|c| c.prefix = "a b".into()).contains("rabbitmq.prefix must be"));
        assert!(
            with(|c| c.lease = HumanDuration::secs(0)).contains("rabbitmq.lease must be between 1s and 1h")
        );
        assert!(with(|c| c.heartbeat = HumanDuration::secs(61)).contains("rabbitmq.heartbeat"));
        assert!(with(|c| c.timeout = HumanDuration::secs(0)).contains("rabbitmq.timeout"));
        assert!(with(|c| c.lost_leases = 0).contains("rabbitmq.lost_leases"));
        assert!(parse(r#"{"url": "amqp://x", "leese": "1m"}"#).unwrap_err().to_string().contains("leese"));
    }
}
