//! The `rabbitmq:` section of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use pushbutton_core::{Error, ErrorKind, HumanDuration, Result};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::log::LeaseTerm;

/// The `rabbitmq:` section of the configuration.
///
/// ```yaml
/// rabbitmq:
///   url: amqps://pushbutton:${RABBITMQ_PASSWORD}@rabbit.example.org:5671/ci
/// ```
///
/// Of a cluster all URLs are tried in turn:
///
/// ```yaml
/// rabbitmq:
///   urls: [amqps://rabbit-1.example.org/ci, amqps://rabbit-2.example.org/ci, amqps://rabbit-3.example.org/ci]
///   client_cert: ./pushbutton.pem
///   client_key: ./pushbutton.key
/// ```
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AmqpConfig {
    /// Short for `urls` with one entry.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub url: Option<SecretString>,
    /// `amqp://` or `amqps://USER:PASSWORD@HOST:PORT/VHOST` (the default vhost `/` is written `%2f`) of every node of
    /// the cluster, tried in turn. Secret: they hold the password.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub urls: Vec<SecretString>,
    /// How to log in. Default: `external` with a client certificate and a URL without password, else `password`.
    pub auth: Option<AmqpAuth>,
    /// The management API, `http://` or `https://[USER:PASSWORD@]HOST:15672`, by which `check` reads policies.
    /// Without a user, that of the first broker URL logs in. Default: none.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub management: Option<SecretString>,
    /// The prefix of the names of the queue and the log; installations that share a vhost need different ones.
    /// Default: `pushbutton`.
    pub prefix: String,
    /// How long an operator holds a job without renewing its lease before others may claim the job, and so how long
    /// the jobs of a dead operator wait. Operators renew often: an outage of four fifths of it disturbs no run. More
    /// than twice `timeout`. Default: 15m.
    pub lease: HumanDuration,
    /// How long a handler remains the leader without renewing; another one takes over after that. Default: 30s.
    pub leader_lease: HumanDuration,
    /// The interval of heartbeats; a connection that is silent for two of them is closed. Whole seconds. Default: 10s.
    pub heartbeat: HumanDuration,
    /// The timeout for connecting and for each request. Default: 15s.
    pub timeout: HumanDuration,
    /// A PEM file with certificate authorities to trust beside those of the system. Default: none.
    pub ca: Option<PathBuf>,
    /// A PEM file with the client's certificate. Default: none.
    pub client_cert: Option<PathBuf>,
    /// A PEM file with the key of `client_cert`. Default: none.
    pub client_key: Option<PathBuf>,
    /// How many leases on one job may run out before it becomes a dead letter: the job may be what kills operators.
    /// Default: 5.
    pub max_lost_leases: u32,
    /// How long the broker keeps the history of runs that all participants share. Counts when the stream is created.
    /// Default: 2160h (90 days).
    pub history_age: HumanDuration,
    /// How many MiB of it the broker keeps, at most; a run takes some 30 KiB. Counts when the stream is created.
    /// Default: 256.
    pub history_mib: u32,
}

/// The largest frame that is asked for. The client has two buffers of 32 frames for each connection, so that the
/// broker's 128 KiB would take 8 MiB of memory. A longer message takes several frames.
const FRAME_BYTES: u32 = 16 << 10;

const URL_FORM: &str = "must look like amqp://USER:PASSWORD@HOST:5672/VHOST";

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AmqpAuth {
    /// User and password of the URL (SASL PLAIN).
    Password,
    /// The client certificate (SASL EXTERNAL); the broker needs the plugin `rabbitmq_auth_mechanism_ssl`.
    External,
}

impl Default for AmqpConfig {
    fn default() -> Self {
        Self {
            url: None,
            urls: Vec::new(),
            auth: None,
            management: None,
            prefix: "pushbutton".to_owned(),
            lease: HumanDuration::secs(15 * 60),
            leader_lease: HumanDuration::secs(30),
            heartbeat: HumanDuration::secs(10),
            timeout: HumanDuration::secs(15),
            ca: None,
            client_cert: None,
            client_key: None,
            max_lost_leases: 5,
            history_age: HumanDuration::secs(90 * 24 * 3600),
            history_mib: 256,
        }
    }
}

impl AmqpConfig {
    /// All defaults, with one URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: Some(SecretString::from(url.into())), ..Self::default() }
    }

    /// The brokers' addresses, without logins.
    pub fn address(&self) -> String {
        let addresses: Vec<_> = self
            .all_urls()
            .map(|url| parse(url).map_or_else(|_| "(an invalid url)".into(), |uri| address(&uri)))
            .collect();
        addresses.join(", ")
    }

    pub(crate) fn history_bytes(&self) -> i64 {
        i64::from(self.history_mib) << 20
    }

    /// What is wrong with the values, as far as that can be said without a broker: each problem begins with its key,
    /// as `lease: must be ...`.
    pub fn problems(&self) -> Vec<String> {
        self.wrong_values().into_iter().map(|(key, problem)| format!("{key}: {problem}")).collect()
    }

    /// The same as one error.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent, naming every key that is wrong and what it should be.
    pub fn validate(&self) -> Result<()> {
        let wrong: Vec<_> = self
            .wrong_values()
            .into_iter()
            .map(|(key, problem)| format!("rabbitmq.{key} {problem}"))
            .collect();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Error::permanent(ErrorKind::Config, wrong.join("; ")).during("amqp::config")),
        }
    }

    fn wrong_values(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let mut require = |is_right: bool, key: &'static str, problem: &str| {
            if !is_right {
                wrong.push((key, problem.to_owned()));
            }
        };
        match (&self.url, self.urls.as_slice()) {
            (None, []) => require(false, "url", "is missing: amqp://USER:PASSWORD@HOST:5672/VHOST"),
            (Some(_), [_, ..]) => require(false, "url", "and rabbitmq.urls exclude each other"),
            _ => {}
        }
        let mut uris = Vec::new();
        for (key, url) in
            self.url.iter().map(|url| ("url", url)).chain(self.urls.iter().map(|url| ("urls", url)))
        {
            match url.expose_secret().parse::<AMQPUri>() {
                Ok(uri) => {
                    // A slash and nothing after it names the virtual host "", which nobody has.
                    require(
                        !uri.vhost.is_empty(),
                        key,
                        "names no virtual host after the last slash: write %2f for the default one",
                    );
                    uris.push(uri);
                }
                // The parser's message names the part that is wrong, never the password.
                Err(why) => require(false, key, &format!("{URL_FORM} ({why})")),
            }
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_prefix = (1..=100).contains(&self.prefix.len()) && self.prefix.chars().all(allowed);
        require(is_prefix, "prefix", "must be 1 to 100 letters, digits, or - _ .");
        let mut in_range = true;
        for (key, value, least, most) in [
            ("lease", self.lease, 1, 3600),
            ("leader_lease", self.leader_lease, 1, 3600),
            ("heartbeat", self.heartbeat, 1, 60),
            ("timeout", self.timeout, 1, 60),
        ] {
            let (least, most) = (HumanDuration::secs(least), HumanDuration::secs(most));
            let is_right = (least..=most).contains(&value);
            in_range &= is_right;
            require(is_right, key, &format!("must be between {least} and {most}"));
        }
        if in_range {
            // A request that times out must fail, and the connection be replaced, while the holder's lease still lasts.
            let lasts = self.lease_term().held() > self.timeout.0 * 2;
            require(
                lasts,
                "lease",
                "is too short: it must be more than twice rabbitmq.timeout, and a little longer",
            );
            let lasts = self.leader_lease_term().held() > self.timeout.0;
            require(
                lasts,
                "leader_lease",
                "is too short: four fifths of it must be more than rabbitmq.timeout",
            );
        }
        require(self.history_age.0 >= Duration::from_secs(3600), "history_age", "must be at least 1h");
        require(self.history_mib >= 32, "history_mib", "must be at least 32");
        require(self.max_lost_leases > 0, "max_lost_leases", "must be at least 1");
        let encrypted = uris.iter().all(|uri| uri.scheme == AMQPScheme::AMQPS);
        for (key, file) in [("ca", &self.ca), ("client_cert", &self.client_cert)] {
            let problem = "has no effect with amqp://: use amqps:// in rabbitmq.url, or leave it out";
            require(file.is_none() || encrypted, key, problem);
        }
        let both = self.client_cert.is_some() == self.client_key.is_some();
        require(both, "client_cert", "and rabbitmq.client_key belong together: set both, or none");
        let external = self.auth != Some(AmqpAuth::External) || self.client_cert.is_some();
        require(external, "auth", "external needs rabbitmq.client_cert and rabbitmq.client_key");
        if let Some(management) = &self.management {
            let url = management.expose_secret().parse::<reqwest::Url>();
            let is_http =
                url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
            let form = "must look like http://HOST:15672 or https://USER:PASSWORD@HOST:15671";
            require(is_http, "management", form);
        }
        wrong
    }

    fn all_urls(&self) -> impl Iterator<Item = &SecretString> {
        self.url.iter().chain(&self.urls)
    }

    /// The addresses for the client, with the heartbeat and the size of frames set.
    pub(crate) fn uris(&self) -> Result<Vec<AMQPUri>> {
        let heartbeat = u16::try_from(self.heartbeat.0.as_secs()).unwrap_or(60);
        let mut uris = self.all_urls().map(parse).collect::<Result<Vec<_>>>()?;
        for uri in &mut uris {
            uri.query.heartbeat = Some(heartbeat);
            uri.query.frame_max.get_or_insert(FRAME_BYTES);
        }
        Ok(uris)
    }

    /// Whether the client certificate logs in.
    pub(crate) fn is_external(&self) -> bool {
        let password = |url: &SecretString| {
            let url = url.expose_secret();
            let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next();
            authority
                .and_then(|authority| authority.rsplit_once('@'))
                .is_some_and(|(user, _)| user.contains(':'))
        };
        match self.auth {
            Some(auth) => auth == AmqpAuth::External,
            None => self.client_cert.is_some() && !self.all_urls().any(password),
        }
    }

    /// The lease of a job.
    pub(crate) fn lease_term(&self) -> LeaseTerm {
        LeaseTerm::of_job(self.lease.0)
    }

    /// The leader's lease.
    pub(crate) fn leader_lease_term(&self) -> LeaseTerm {
        LeaseTerm::of_leader(self.leader_lease.0)
    }
}

/// One broker's address, without login.
pub(crate) fn address(uri: &AMQPUri) -> String {
    format!("{}://{}:{}/{}", uri.scheme, uri.authority.host, uri.authority.port, uri.vhost)
}

fn parse(url: &SecretString) -> Result<AMQPUri> {
    url.expose_secret().parse().map_err(|why: String| {
        // The parser's message names the part that is wrong, never the password.
        wrong("url", URL_FORM).with("because", why)
    })
}

pub(crate) fn wrong(key: &'static str, text: impl Into<String>) -> Error {
    Error::permanent(ErrorKind::Config, format!("rabbitmq.{key} {}", text.into())).during("amqp::config")
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
