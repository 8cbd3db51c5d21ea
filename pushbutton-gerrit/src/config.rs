//! The section `gerrit:` of the configuration.

use std::path::PathBuf;

use pushbutton_core::HumanDuration;
use russh::keys::ssh_key::Fingerprint;
use secrecy::SecretString;
use serde::Deserialize;

use crate::client::rest::parse_url;
use crate::message::CommentConfig;

/// A Gerrit server, the account on it, and the form of comments.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GerritConfig {
    /// Host name or address, as `review.opendev.org`.
    pub host: String,
    /// SSH port. Default: 29418, Gerrit's own.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Login name of the account.
    pub user: String,
    /// Private key file of the account: OpenSSH, PEM or PKCS#8; ed25519, ECDSA or RSA.
    pub key: PathBuf,
    /// Passphrase of the key file. Default: none, the file is not encrypted.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub passphrase: Option<SecretString>,
    /// How the server's host key is checked. Default: against `~/.ssh/known_hosts`. It is always checked.
    #[serde(default)]
    pub host_key: HostKeyPolicy,
    /// A jump host. Default: none, a direct connection.
    pub jump: Option<JumpConfig>,
    /// How a dead connection is detected.
    #[serde(default)]
    pub keepalive: KeepaliveConfig,
    /// How long each step may take.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// Delays between attempts to connect.
    #[serde(default)]
    pub backoff: BackoffConfig,
    /// How missed events are found.
    #[serde(default)]
    pub backfill: BackfillConfig,
    /// More accounts of this CI beside `user`, by login name or as `email:ci@example.org`: their comments never trigger.
    /// Default: none.
    #[serde(default)]
    pub own_accounts: Vec<String>,
    /// The server's web address, as `https://review.opendev.org`. Backfill reads from it, without a login, when
    /// comments were written if a query does not say so; if it does not answer, SSH alone is used. Default: none.
    pub url: Option<String>,
    /// The form of comments.
    #[serde(default)]
    pub comment: CommentConfig,
}

/// How a host key is checked: against a known_hosts file, pinned fingerprints, or both.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HostKeyPolicy {
    /// A file in OpenSSH's known_hosts format. Default: `~/.ssh/known_hosts`, if no fingerprint is pinned either.
    pub known_hosts: Option<PathBuf>,
    /// Fingerprints that are trusted, as `SHA256:` and 43 characters (what `ssh-keygen -l` prints). Default: none.
    pub fingerprints: Vec<String>,
}

/// A jump host (OpenSSH's ProxyJump): it forwards one TCP connection and sees only encrypted data.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JumpConfig {
    /// Host name or address.
    pub host: String,
    /// SSH port. Default: 22.
    #[serde(default = "default_jump_port")]
    pub port: u16,
    /// Login name on it.
    pub user: String,
    /// Private key file. Default: the same as for Gerrit.
    pub key: Option<PathBuf>,
    /// Passphrase of `key`. Default: none, the file is not encrypted.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub passphrase: Option<SecretString>,
    /// How its host key is checked.
    #[serde(default)]
    pub host_key: HostKeyPolicy,
}

/// A connection without answers is closed after `interval` times (`count` + 1): 40 s by default.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct KeepaliveConfig {
    /// How long the server may be silent before it is asked for a sign of life. Default: 10s. 0s switches keepalive
    /// off: a dead connection is then never detected.
    pub interval: HumanDuration,
    /// How many requests in a row may stay unanswered. Default: 3.
    pub count: u32,
}

/// How long each step may take.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Deadlines {
    /// TCP connection and SSH handshake, each. Default: 20s.
    pub connect: HumanDuration,
    /// Login. Default: 20s.
    pub auth: HumanDuration,
    /// One command, such as a query or a review, connecting included; also one request to `url`. Default: 60s.
    pub command: HumanDuration,
}

/// Delays between attempts to connect; they grow from `first` to `cap`, with jitter.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct BackoffConfig {
    /// The first delay. Default: 1s.
    pub first: HumanDuration,
    /// The longest delay. Default: 60s.
    pub cap: HumanDuration,
    /// After a connection that lasted this long, the delays start again with `first`. Default: 60s.
    pub healthy: HumanDuration,
}

/// How missed events are found: by a query for the changes that were updated since.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct BackfillConfig {
    /// How often to query while nothing seems to be missing. This also detects a stream that is open but sends
    /// nothing. Default: 5m.
    pub every: HumanDuration,
    /// How long there is no query after the last one has ended, whatever events come: some need a query before they can be
    /// judged, and wait for it. At most `every`. Default: 10s.
    pub pause: HumanDuration,
    /// How far out of order events may come: the saved position stays this far behind. Default: 60s.
    pub overlap: HumanDuration,
    /// Changes per page of the reply. Default: 100.
    pub page: u32,
    /// More search terms that narrow the query, as `project:openstack/cinder`, in Gerrit's own syntax with `OR` and phrases
    /// in quotes. Default: none.
    pub query: Option<String>,
}

fn default_port() -> u16 {
    29418
}

fn default_jump_port() -> u16 {
    22
}

impl Default for KeepaliveConfig {
    fn default() -> Self {
        Self { interval: HumanDuration::secs(10), count: 3 }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: HumanDuration::secs(20),
            auth: HumanDuration::secs(20),
            command: HumanDuration::secs(60),
        }
    }
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { first: HumanDuration::secs(1), cap: HumanDuration::secs(60), healthy: HumanDuration::secs(60) }
    }
}

impl Default for BackfillConfig {
    fn default() -> Self {
        Self {
            every: HumanDuration::secs(300),
            pause: HumanDuration::secs(10),
            overlap: HumanDuration::secs(60),
            page: 100,
            query: None,
        }
    }
}

impl GerritConfig {
    /// The configuration of this server and account, with all defaults.
    pub fn new(host: impl Into<String>, user: impl Into<String>, key: impl Into<PathBuf>) -> Self {
        Self {
            host: host.into(),
            port: default_port(),
            user: user.into(),
            key: key.into(),
            passphrase: None,
            host_key: HostKeyPolicy::default(),
            jump: None,
            keepalive: KeepaliveConfig::default(),
            deadlines: Deadlines::default(),
            backoff: BackoffConfig::default(),
            backfill: BackfillConfig::default(),
            own_accounts: Vec::new(),
            url: None,
            comment: CommentConfig::default(),
        }
    }

    /// All names of the account, for [`Triggers::compile`](pushbutton_core::Triggers::compile).
    pub fn own_names(&self) -> Vec<String> {
        let mut names = vec![self.user.clone()];
        names.extend(self.own_accounts.iter().filter(|name| **name != self.user).cloned());
        names
    }

    /// Everything that is wrong, each as `key: the problem and how to fix it`. Does not look at files or servers.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |is_right: bool, key: &str, problem: &str| {
            if !is_right {
                problems.push(format!("{key}: {problem}"));
            }
        };
        for (key, value) in [("host", &self.host), ("user", &self.user)] {
            let has_blank = value.chars().any(|c| c.is_whitespace() || c.is_control());
            require(!value.is_empty() && !has_blank, key, &format!("{value:?} is empty or contains a blank"));
        }
        let query = self.backfill.query.as_deref().unwrap_or_default();
        require(!query.contains(char::is_control), "backfill.query", "contains a control character");
        require(self.backfill.page > 0, "backfill.page", "must be at least 1; 100 is usual");
        for (key, value) in [
            ("deadlines.connect", self.deadlines.connect),
            ("deadlines.auth", self.deadlines.auth),
            ("deadlines.command", self.deadlines.command),
            ("backfill.every", self.backfill.every),
        ] {
            require(!value.0.is_zero(), key, "must be longer than 0s");
        }
        if let Some(Err(problem)) = self.url.as_deref().map(parse_url) {
            require(false, "url", problem);
        }
        let jump = self.jump.as_ref().map(|jump| ("jump.host_key.fingerprints", &jump.host_key));
        for (key, policy) in [("host_key.fingerprints", &self.host_key)].into_iter().chain(jump) {
            for print in &policy.fingerprints {
                let is_right = print.starts_with("SHA256:") && print.parse::<Fingerprint>().is_ok();
                let problem =
                    format!("{print:?} is not SHA256: and 43 characters, as `ssh-keygen -l` prints");
                require(is_right, key, &problem);
            }
        }
        problems.extend(self.comment.problems().into_iter().map(|problem| format!("comment.{problem}")));
        problems
    }
}

impl HostKeyPolicy {
    /// Trusts the keys in this known_hosts file.
    pub fn known_hosts(file: impl Into<PathBuf>) -> Self {
        Self { known_hosts: Some(file.into()), fingerprints: Vec::new() }
    }

    /// Trusts the keys with these fingerprints.
    pub fn pinned<T: Into<String>>(fingerprints: impl IntoIterator<Item = T>) -> Self {
        Self { known_hosts: None, fingerprints: fingerprints.into_iter().map(Into::into).collect() }
    }
}

impl JumpConfig {
    /// This host and login name, with all defaults.
    pub fn new(host: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: default_jump_port(),
            user: user.into(),
            key: None,
            passphrase: None,
            host_key: HostKeyPolicy::default(),
        }
    }
}

pushbutton_core::__setters!(GerritConfig {
    port / with_port: u16, passphrase / with_passphrase: Option<SecretString>,
    host_key / with_host_key: HostKeyPolicy, jump / with_jump: Option<JumpConfig>,
    keepalive / with_keepalive: KeepaliveConfig, deadlines / with_deadlines: Deadlines,
    backoff / with_backoff: BackoffConfig, backfill / with_backfill: BackfillConfig,
    own_accounts / with_own_accounts: Vec<String>, url / with_url: Option<String>,
    comment / with_comment: CommentConfig,
});
pushbutton_core::__setters!(JumpConfig {
    port / with_port: u16, key / with_key: Option<PathBuf>,
    passphrase / with_passphrase: Option<SecretString>, host_key / with_host_key: HostKeyPolicy,
});
pushbutton_core::__setters!(KeepaliveConfig {
    interval / with_interval: HumanDuration, count / with_count: u32,
});
pushbutton_core::__setters!(Deadlines {
    connect / with_connect: HumanDuration, auth / with_auth: HumanDuration,
    command / with_command: HumanDuration,
});
pushbutton_core::__setters!(BackoffConfig {
    first / with_first: HumanDuration, cap / with_cap: HumanDuration, healthy / with_healthy: HumanDuration,
});
pushbutton_core::__setters!(BackfillConfig {
    every / with_every: HumanDuration, pause / with_pause: HumanDuration, overlap / with_overlap: HumanDuration, page / with_page: u32,
    query / with_query: Option<String>,
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_keys_are_enough_and_secrets_are_not_printed() {
        let json = r#"{"host":"review.example.org","user":"acme-ci","key":"/etc/key","passphrase":"hush"}"#;
        let config: GerritConfig = serde_json::from_str(json).unwrap();
        assert_eq!((config.port, config.problems()), (29418, vec![]));
        assert!(!format!("{config:?}").contains("hush"));
        assert_eq!(config.own_names(), ["acme-ci"]);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let json = r#"{"host":"h","user":"u","key":"k","known_host":"x"}"#;
        let error = serde_json::from_str::<GerritConfig>(json).unwrap_err().to_string();
        assert!(error.contains("known_host"), "{error}");
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let mut config = GerritConfig::new("", "a b", "k");
        config.backfill.page = 0;
        config.host_key.fingerprints = vec!["MD5:aa".into()];
        config.comment.pipeline = "third-party-check".into();
        let problems = config.problems();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert!(problems[4].starts_with("comment.pipeline:"), "{problems:#?}");
    }
}
