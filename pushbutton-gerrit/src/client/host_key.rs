//! Which host keys are trusted: OpenSSH's known_hosts and pinned fingerprints.
//!
//! russh's own check ignores `@revoked`, patterns and tab-separated lines, and treats a missing file as an unknown
//! host. This one refuses a revoked key, trusts nothing because of `@cert-authority`, and its errors name the file,
//! the line and the remedy.

use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use pushbutton_core::{Error, ErrorKind, Result};
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, HashAlg, PublicKey};

use crate::config::HostKeyPolicy;

/// The keys that are trusted for one host.
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
    /// Reads the known_hosts file of the policy.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the file cannot be read.
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

    /// The key algorithms to ask the server for: those with a known key, as OpenSSH does. Otherwise a server with
    /// several keys may show one that is not known. None: no preference, since the type of a pinned fingerprint is
    /// not known.
    pub(crate) fn algorithms(&self) -> Option<Vec<Algorithm>> {
        if !self.fingerprints.is_empty() {
            return None;
        }
        let mut algorithms = Vec::new();
        for line in self.lines.iter().filter(|line| !line.revoked) {
            let several = match line.key.algorithm() {
                Algorithm::Rsa { .. } => vec![
                    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
                    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
                ],
                other => vec![other],
            };
            for algorithm in several {
                if !algorithms.contains(&algorithm) {
                    algorithms.push(algorithm);
                }
            }
        }
        (!algorithms.is_empty()).then_some(algorithms)
    }

    /// Whether the server's key is trusted.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`], permanent, for an unknown, changed or revoked key: with the file, the line,
    /// the fingerprint and the remedy.
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
                "the host key has changed: the server shows {} {seen}, but {} says {} {}. Either the server has a new key, or \
                 somebody intercepts the connection; ask its administrators before you replace that line",
                key.algorithm(),
                place(line),
                line.key.algorithm(),
                line.key.fingerprint(HashAlg::Sha256),
            ),
            None if self.file.is_none() => format!(
                "the host key is not one of the pinned ones: the server shows {} {seen}; ask its administrators before you pin it in \
                 `fingerprints`",
                key.algorithm()
            ),
            None => format!(
                "the host key is unknown: the server shows {} {seen}, and {} has no line for this host; {}",
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
        "get the key with `ssh-keyscan -p {port} {host}`, compare its fingerprint with what the administrators publish, and add it \
         to that file, or pin it as `host_key: {{fingerprints: [SHA256:...]}}`"
    )
}

/// The lines of a known_hosts file that match this host. Lines that cannot be parsed are skipped with a warning: no
/// key is trusted because of them.
fn matching_lines(text: &str, host: &str, port: u16) -> Vec<KnownLine> {
    let name = if port == 22 { host.to_lowercase() } else { format!("[{}]:{port}", host.to_lowercase()) };
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // OpenSSH accepts tabs and several blanks between fields; `Entry` takes one blank only.
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let entry: Entry = match fields.join(" ").parse() {
            Ok(entry) => entry,
            Err(error) => {
                tracing::warn!(line = number, %error, "known_hosts: skipping a line that cannot be parsed");
                continue;
            }
        };
        if !matches_host(entry.host_patterns(), &name) {
            continue;
        }
        let revoked = match entry.marker() {
            None => false,
            Some(Marker::Revoked) => true,
            Some(Marker::CertAuthority) => {
                let text =
                    "known_hosts: @cert-authority is not supported and trusts no key; add the host's own key";
                tracing::warn!(line = number, "{text}");
                continue;
            }
        };
        found.push(KnownLine { number, revoked, key: entry.public_key().clone() });
    }
    found
}

/// Whether a host field matches the host: a hash of it, or a list of globs of which none that begins with `!` matches.
fn matches_host(patterns: &HostPatterns, host: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            ring::hmac::verify(&key, host.as_bytes(), hash).is_ok()
        }
        HostPatterns::Patterns(patterns) => {
            let excluded =
                |pattern: &String| pattern.strip_prefix('!').is_some_and(|glob| matches_glob(glob, host));
            !patterns.iter().any(excluded) && patterns.iter().any(|pattern| matches_glob(pattern, host))
        }
    }
}

/// `*` and `?`, as in sshd(8); all else is literal, brackets too.
fn matches_glob(pattern: &str, host: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return pattern.eq_ignore_ascii_case(host);
    }
    let literal = globset::escape(pattern).replace("[*]", "*").replace("[?]", "?");
    let glob = GlobBuilder::new(&literal).case_insensitive(true).backslash_escape(false).build();
    glob.is_ok_and(|glob| glob.compile_matcher().is_match(host))
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
    fn hosts_match_in_all_forms_of_openssh() {
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
            ("*.example.{org}", "review.example.org", 22, false),
            ("rev\\*", "review", 22, false),
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
    fn a_certificate_authority_trusts_no_key() {
        assert!(trusted(&format!("@cert-authority * {KEY}\n"), "h", 22).check(&key(KEY)).is_err());
    }

    #[test]
    fn a_broken_line_does_not_hide_a_good_one() {
        assert!(trusted(&format!("h ssh-ed25519 AAAA\nh\nh {KEY}\n"), "h", 22).check(&key(KEY)).is_ok());
    }

    #[test]
    fn a_changed_key_is_reported_with_file_line_and_fingerprint() {
        let error = trusted(&format!("# remark\nh {OTHER}\n"), "h", 22).check(&key(KEY)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(text.contains("has changed") && text.contains("known_hosts:2"), "{text}");
        assert!(text.contains(&key(KEY).fingerprint(HashAlg::Sha256).to_string()), "{text}");
    }

    #[test]
    fn an_unknown_key_is_reported_with_the_remedy() {
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
    fn only_algorithms_with_a_known_key_are_asked_for() {
        assert_eq!(trusted(&format!("h {KEY}"), "h", 22).algorithms(), Some(vec![Algorithm::Ed25519]));
        assert_eq!(trusted("", "h", 22).algorithms(), None);
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let policy = HostKeyPolicy::known_hosts("/nonexistent/known_hosts");
        let error = TrustedKeys::load(&policy, "h", 29418).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("/nonexistent/known_hosts"), "{error}");
    }
}
