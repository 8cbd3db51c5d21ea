//! What a person writes under `gerrit:` in the configuration.

use std::fmt;
use std::path::PathBuf;

use pushbutton_core::HumanDuration;
use secrecy::SecretString;
use serde::Deserialize;

use crate::message::CommentConfig;

/// A Gerrit server, our account on it, and how we speak there.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GerritConfig {
    /// Host name or address, as `review.opendev.org`.
    pub host: String,
    /// Port of its SSH. Default: 29418, Gerrit's own.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Our login name.
    pub user: String,
    /// Our private key file: OpenSSH, PEM or PKCS#8; ed25519, ECDSA or RSA.
    pub key: PathBuf,
    /// The passphrase of the key file. Default: none, the file is not encrypted.
    #[serde(default)]
    pub passphrase: Option<SecretString>,
    /// How the server's host key is known. Default: `~/.ssh/known_hosts`. There is no way to accept any key.
    #[serde(default)]
    pub host_key: HostKeyPolicy,
    /// A host to go through. Default: none, a direct connection.
    #[serde(default)]
    pub jump: Option<JumpConfig>,
    /// How a dead connection is noticed.
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
    pub recovery: RecoveryConfig,
    /// Further names of our own account, beside `user`: what they say never triggers. Default: none.
    #[serde(default)]
    pub own_accounts: Vec<String>,
    /// The server's web address, as `https://review.opendev.org`. Asked, without a login, when comments were written that a query shows without a
    /// time; where it does not answer, SSH alone must do. Default: none.
    #[serde(default)]
    pub url: Option<String>,
    /// What our comments look like.
    #[serde(default)]
    pub comment: CommentConfig,
}

/// How a host key is known: by a known_hosts file, by pinned fingerprints, or by either.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostKeyPolicy {
    /// A file in OpenSSH's known_hosts form. Default: `~/.ssh/known_hosts` when no fingerprint is pinned either.
    #[serde(default)]
    pub known_hosts: Option<PathBuf>,
    /// Fingerprints that are trusted, as `SHA256:` and 43 characters (what `ssh-keygen -l` prints). Default: none.
    #[serde(default)]
    pub fingerprints: Vec<String>,
}

/// A host to go through (OpenSSH's ProxyJump): it forwards one TCP connection and sees only ciphertext.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JumpConfig {
    /// Host name or address.
    pub host: String,
    /// Port of its SSH. Default: 22.
    #[serde(default = "default_jump_port")]
    pub port: u16,
    /// Login name there.
    pub user: String,
    /// Private key file. Default: the same as for Gerrit.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The passphrase of that file. Default: that of Gerrit's key.
    #[serde(default)]
    pub passphrase: Option<SecretString>,
    /// How its host key is known.
    #[serde(default)]
    pub host_key: HostKeyPolicy,
}

/// A silent peer is declared dead after `interval` times (`count` + 1): 40 s by default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepaliveConfig {
    /// How long nothing may come before we ask. Default: 10s. 0s switches it off: a dead peer is then never noticed.
    pub interval: HumanDuration,
    /// How many questions in a row may stay unanswered. Default: 3.
    pub count: u32,
}

/// How long each step may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// TCP connection and SSH handshake, each. Default: 20s.
    pub connect: HumanDuration,
    /// Login. Default: 20s.
    pub auth: HumanDuration,
    /// One command, such as a query or a review, connecting included; also one question to `url`. Default: 60s.
    pub command: HumanDuration,
}

/// Delays between attempts to connect; they grow from `first` to `cap`, with jitter.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffConfig {
    /// The first delay. Default: 1s.
    pub first: HumanDuration,
    /// The longest delay. Default: 60s.
    pub cap: HumanDuration,
    /// A connection that lasted so long was healthy: the delays start small again. Default: 60s.
    pub healthy: HumanDuration,
}

/// How missed events are found: by asking the server what happened since.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecoveryConfig {
    /// How often to ask while all seems well. It also finds a stream that has gone deaf. Default: 5m.
    pub every: HumanDuration,
    /// Events within so long of each other may come in any order: the kept position stays so far behind. Default: 60s.
    pub overlap: HumanDuration,
    /// Changes per page of the reply. Default: 100.
    pub page: u32,
    /// Further terms of Gerrit's search that narrow the question, as `project:openstack/cinder`. Default: none.
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

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self { every: HumanDuration::secs(300), overlap: HumanDuration::secs(60), page: 100, query: None }
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
            recovery: RecoveryConfig::default(),
            own_accounts: Vec::new(),
            url: None,
            comment: CommentConfig::default(),
        }
    }

    /// All names of our own account, for [`Triggers::compile`](pushbutton_core::Triggers::compile).
    pub fn own_names(&self) -> Vec<String> {
        let mut names = vec![self.user.clone()];
        names.extend(self.own_accounts.iter().filter(|name| **name != self.user).cloned());
        names
    }

    /// What cannot work as it stands, all of it, each as `key: what is wrong and how to mend it`. Looks at no file and no server.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, value) in [("host", &self.host), ("user", &self.user)] {
            if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
                faults.push(format!("{key}: {value:?} is empty or holds a blank"));
            }
        }
        if let Some(query) = &self.recovery.query {
            if query.chars().any(char::is_control) {
                faults.push("recovery.query: holds a control character".into());
            }
        }
        if self.recovery.page == 0 {
            faults.push("recovery.page: 0 changes a page finds nothing; 100 is usual".into());
        }
        for (key, value) in [
            ("deadlines.connect", self.deadlines.connect),
            ("deadlines.auth", self.deadlines.auth),
            ("deadlines.command", self.deadlines.command),
            ("recovery.every", self.recovery.every),
        ] {
            if value.0.is_zero() {
                faults.push(format!("{key}: must be longer than 0s"));
            }
        }
        if let Some(Err(fault)) = self.url.as_deref().map(crate::web::base) {
            faults.push(format!("url: {fault}"));
        }
        let jump = self.jump.as_ref().map(|jump| ("jump.host_key", &jump.host_key));
        for (key, policy) in [("host_key", &self.host_key)].into_iter().chain(jump) {
            for print in &policy.fingerprints {
                if print.parse::<russh::keys::ssh_key::Fingerprint>().is_err()
                    || !print.starts_with("SHA256:")
                {
                    faults.push(format!(
                        "{key}.fingerprints: {print:?} is not SHA256: and 43 characters, as `ssh-keygen -l` prints"
                    ));
                }
            }
        }
        faults.extend(self.comment.faults().into_iter().map(|fault| format!("comment.{fault}")));
        faults
    }
}

impl fmt::Debug for GerritConfig {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GerritConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("key", &self.key)
            .field("host_key", &self.host_key)
            .field("jump", &self.jump)
            .field("keepalive", &self.keepalive)
            .field("deadlines", &self.deadlines)
            .field("recovery", &self.recovery)
            .field("url", &self.url)
            .field("own_accounts", &self.own_accounts)
            .field("comment", &self.comment)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JumpConfig {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_keys_are_enough_and_secrets_stay_hidden() {
        let json = r#"{"host":"review.example.org","user":"acme-ci","key":"/etc/key","passphrase":"hush"}"#;
        let config: GerritConfig = serde_json::from_str(json).unwrap();
        assert_eq!((config.port, config.faults()), (29418, vec![]));
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
    fn all_faults_come_at_once() {
        let mut config = GerritConfig::new("", "a b", "k");
        config.recovery.page = 0;
        config.host_key.fingerprints = vec!["MD5:aa".into()];
        config.comment.pipeline = "third-party-check".into();
        let faults = config.faults();
        assert_eq!(faults.len(), 5, "{faults:#?}");
        assert!(faults[4].starts_with("comment.pipeline:"), "{faults:#?}");
    }
}
