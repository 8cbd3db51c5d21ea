//! Which host keys are trusted: a small reader of OpenSSH's known_hosts, stricter than russh's own.
//!
//! russh's reader does not see `@revoked`, patterns or tab-separated lines, and takes a missing file for an unknown host. This one
//! refuses a revoked key, fails closed on `@cert-authority`, and says in its errors where it looked and what to do.

use std::path::{Path, PathBuf};

use pushbutton_core::{Error, ErrorKind, Result};
use russh::keys::ssh_key::known_hosts::HostPatterns;
use russh::keys::{Algorithm, HashAlg, PublicKey};

use crate::config::HostKeyPolicy;

/// What is known of one host's keys.
#[derive(Debug, Clone)]
pub(crate) struct TrustedKeys {
    host: String,
    port: u16,
    file: Option<PathBuf>,
    lines: Vec<KnownLine>,
    fingerprints: Vec<String>,
}

#[derive(Debug, Clone)]
struct KnownLine {
    number: usize,
    revoked: bool,
    key: PublicKey,
}

impl TrustedKeys {
    /// Reads what the policy names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a file that it names, or the default one, cannot be read.
    pub(crate) async fn load(policy: &HostKeyPolicy, host: &str, port: u16) -> Result<Self> {
        let file = match &policy.known_hosts {
            Some(file) => Some(file.clone()),
            None if policy.fingerprints.is_empty() => {
                std::env::home_dir().map(|home| home.join(".ssh/known_hosts"))
            }
            None => None,
        };
        let mut lines = Vec::new();
        if let Some(file) = &file {
            let text = tokio::fs::read_to_string(file).await.map_err(|error| {
                Error::permanent(
                    ErrorKind::Config,
                    format!(
                        "the host key of {host} cannot be checked: {} cannot be read; {}",
                        file.display(),
                        remedy(host, port)
                    ),
                )
                .because(error)
            })?;
            lines = matching_lines(&text, host, port);
        }
        Ok(Self { host: host.into(), port, file, lines, fingerprints: policy.fingerprints.clone() })
    }

    /// The key algorithms to ask the server for: those of which we know a key, as OpenSSH does. Else a server with several keys
    /// shows one that we have never seen. None: no preference, since a fingerprint does not tell its type.
    pub(crate) fn algorithms(&self) -> Option<Vec<Algorithm>> {
        if !self.fingerprints.is_empty() {
            return None;
        }
        let mut known = Vec::new();
        for line in self.lines.iter().filter(|line| !line.revoked) {
            let several = match line.key.algorithm() {
                Algorithm::Rsa { .. } => vec![
                    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
                    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
                ],
                other => vec![other],
            };
            for algorithm in several {
                if !known.contains(&algorithm) {
                    known.push(algorithm);
                }
            }
        }
        (!known.is_empty()).then_some(known)
    }

    /// Whether the server may be who it claims to be.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`], permanent, for an unknown, changed or revoked key: with the file, the line, the fingerprint and the remedy.
    pub(crate) fn check(&self, key: &PublicKey) -> Result<()> {
        let seen = key.fingerprint(HashAlg::Sha256).to_string();
        let place = |line: &KnownLine| {
            format!("{}:{}", self.file.as_deref().unwrap_or(Path::new("?")).display(), line.number)
        };
        let same = |line: &&KnownLine| line.key.key_data() == key.key_data();
        if let Some(line) = self.lines.iter().filter(|line| line.revoked).find(same) {
            return Err(self.refusal(format!("the key {seen} is revoked at {}", place(line)), &seen));
        }
        if self.fingerprints.contains(&seen)
            || self.lines.iter().filter(|line| !line.revoked).any(|line| same(&line))
        {
            return Ok(());
        }
        let message = match self.lines.iter().find(|line| !line.revoked) {
            Some(line) => format!(
                "the host key has changed: the server shows {} {seen}, but {} says {} {}. Either the server was set up anew, or \
                 somebody is in between; ask its administrators before you replace that line",
                key.algorithm(),
                place(line),
                line.key.algorithm(),
                line.key.fingerprint(HashAlg::Sha256),
            ),
            None if self.file.is_none() => format!(
                "the host key is none of the pinned ones: the server shows {} {seen}; ask its administrators before you pin it in \
                 `fingerprints`",
                key.algorithm()
            ),
            None => format!(
                "the host key is unknown: the server shows {} {seen}, and {} has no line for it; {}",
                key.algorithm(),
                self.file.as_deref().unwrap_or(Path::new("?")).display(),
                remedy(&self.host, self.port)
            ),
        };
        Err(self.refusal(message, &seen))
    }

    fn refusal(&self, message: String, seen: &str) -> Error {
        Error::permanent(ErrorKind::Denied, message)
            .during("gerrit::host_key")
            .with("host", format!("{}:{}", self.host, self.port))
            .with("fingerprint", seen)
    }
}

fn remedy(host: &str, port: u16) -> String {
    format!(
        "get the key with `ssh-keyscan -p {port} {host}`, compare its fingerprint with what the administrators publish, and put it \
         there, or pin it as `host_key: {{fingerprints: [SHA256:...]}}`"
    )
}

/// The lines of a known_hosts file that speak of this host. Lines that cannot be understood are passed by with a warning: they
/// vouch for nothing.
fn matching_lines(text: &str, host: &str, port: u16) -> Vec<KnownLine> {
    let name = if port == 22 { host.to_lowercase() } else { format!("[{}]:{port}", host.to_lowercase()) };
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.split_ascii_whitespace().peekable();
        let marker = fields.next_if(|field| field.starts_with('@'));
        let (Some(hosts), Some(kind), Some(key)) = (fields.next(), fields.next(), fields.next()) else {
            tracing::warn!(line = number, "known_hosts: a line without host, type and key is passed by");
            continue;
        };
        if !names(hosts, &name) {
            continue;
        }
        match (marker, format!("{kind} {key}").parse::<PublicKey>()) {
            (None, Ok(key)) => found.push(KnownLine { number, revoked: false, key }),
            (Some("@revoked"), Ok(key)) => found.push(KnownLine { number, revoked: true, key }),
            (Some(marker), Ok(_)) => {
                tracing::warn!(
                    line = number,
                    marker,
                    "known_hosts: this marker vouches for nothing here; give the host's own key"
                );
            }
            (_, Err(error)) => {
                tracing::warn!(line = number, %error, "known_hosts: a key that cannot be read is passed by")
            }
        }
    }
    found
}

/// Whether a host field names the host: hashed, or a comma list of globs of which none that begins with `!` matches.
fn names(field: &str, host: &str) -> bool {
    match field.parse::<HostPatterns>() {
        Ok(HostPatterns::HashedName { salt, hash }) => {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
            ring::hmac::verify(&key, host.as_bytes(), &hash).is_ok()
        }
        Ok(HostPatterns::Patterns(patterns)) => {
            let mut named = false;
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(not) if glob(not.to_lowercase().as_bytes(), host.as_bytes()) => return false,
                    Some(_) => {}
                    None => named |= glob(pattern.to_lowercase().as_bytes(), host.as_bytes()),
                }
            }
            named
        }
        Err(_) => false,
    }
}

/// `*` and `?`, as in sshd(8). Linear in the text for each star.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || Some(&c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn key(text: &str) -> PublicKey {
        text.parse().unwrap()
    }

    fn trusted(file: &str, host: &str, port: u16) -> TrustedKeys {
        TrustedKeys {
            host: host.into(),
            port,
            file: Some("known_hosts".into()),
            lines: matching_lines(file, host, port),
            fingerprints: Vec::new(),
        }
    }

    #[test]
    fn hosts_are_named_in_all_of_opensshs_ways() {
        for (field, host, port, is_known) in [
            ("review.example.org", "review.example.org", 22, true),
            ("review.example.org", "review.example.org", 29418, false),
            ("[review.example.org]:29418", "Review.Example.org", 29418, true),
            ("a,[10.0.0.?]:29418,b", "10.0.0.7", 29418, true),
            ("*.example.org", "review.example.org", 22, true),
            ("*.example.org,!review.*", "review.example.org", 22, false),
            ("!other,*", "review.example.org", 22, true),
            ("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak=", "example.com", 22, true),
            ("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak=", "example.org", 22, false),
            ("|1|broken", "example.com", 22, false),
        ] {
            for blank in [" ", "\t", "   "] {
                let file = format!("# remark\n\n{field}{blank}{} remark\n", KEY.replace(' ', blank));
                assert_eq!(
                    trusted(&file, host, port).check(&key(KEY)).is_ok(),
                    is_known,
                    "{field:?} {host}:{port}"
                );
            }
        }
    }

    #[test]
    fn a_revoked_key_is_refused_though_another_line_trusts_it() {
        let keys = trusted(&format!("h {KEY}\n@revoked * {KEY}\n"), "h", 22);
        assert!(keys.check(&key(KEY)).unwrap_err().to_string().contains("revoked at known_hosts:2"));
    }

    #[test]
    fn an_authority_vouches_for_nothing() {
        assert!(trusted(&format!("@cert-authority * {KEY}\n"), "h", 22).check(&key(KEY)).is_err());
    }

    #[test]
    fn a_broken_line_does_not_hide_a_good_one() {
        assert!(trusted(&format!("h ssh-ed25519 AAAA\nh\nh {KEY}\n"), "h", 22).check(&key(KEY)).is_ok());
    }

    #[test]
    fn a_changed_key_is_told_with_file_line_and_fingerprint() {
        let error = trusted(&format!("# remark\nh {OTHER}\n"), "h", 22).check(&key(KEY)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(text.contains("has changed") && text.contains("known_hosts:2"), "{text}");
        assert!(text.contains(&key(KEY).fingerprint(HashAlg::Sha256).to_string()), "{text}");
    }

    #[test]
    fn an_unknown_key_is_told_with_the_remedy() {
        let text = trusted("", "h", 29418).check(&key(KEY)).unwrap_err().to_string();
        assert!(text.contains("ssh-keyscan -p 29418 h") && text.contains("unknown"), "{text}");
    }

    #[test]
    fn a_pinned_fingerprint_is_enough_and_another_is_not() {
        let mut keys = trusted("", "h", 22);
        keys.file = None;
        keys.fingerprints = vec![key(KEY).fingerprint(HashAlg::Sha256).to_string()];
        assert!(keys.check(&key(KEY)).is_ok());
        assert!(keys.check(&key(OTHER)).unwrap_err().to_string().contains("pinned"));
    }

    #[test]
    fn only_known_types_are_asked_for() {
        assert_eq!(trusted(&format!("h {KEY}"), "h", 22).algorithms(), Some(vec![Algorithm::Ed25519]));
        assert_eq!(trusted("", "h", 22).algorithms(), None);
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let policy =
            HostKeyPolicy { known_hosts: Some("/nonexistent/known_hosts".into()), fingerprints: vec![] };
        let error = TrustedKeys::load(&policy, "h", 29418).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("/nonexistent/known_hosts"), "{error}");
    }
}
