//! Reads a node's console: its SSH host keys, and its last words.

use std::fmt;

/// Lines that an error keeps of a console.
const TAIL: usize = 20;
/// The longest line that is kept, in characters: kernels draw bars and dump registers.
const MAX_LINE: usize = 200;

const BEGIN: &str = "-----BEGIN SSH HOST KEY KEYS-----";
const END: &str = "-----END SSH HOST KEY KEYS-----";

/// Kinds of host keys (OpenSSH's names).
const KINDS: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/// The host keys that cloud-init prints at the end of a boot, as `ssh-ed25519 AAAA...`; none before that.
///
/// The last whole block counts: a node that rebooted may have printed others before.
pub(crate) fn host_keys(console: &str) -> Vec<String> {
    let mut last = Vec::new();
    let mut block: Option<Vec<String>> = None;
    for line in console.lines() {
        if line.contains(BEGIN) {
            block = Some(Vec::new());
        } else if line.contains(END) {
            last = block.take().unwrap_or(last);
        } else if let Some(keys) = &mut block {
            keys.extend(key_in(line));
        }
    }
    last
}

/// The key in a line, which a console may begin with a time or a unit's name.
fn key_in(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip_while(|word| !KINDS.contains(word));
    let (kind, key) = (words.next()?, words.next()?);
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    // A key's first field is its kind's name with a length before it, so it begins with three zero bytes (RFC 4253, 6.6).
    (key.starts_with("AAAA") && key.len() <= 8192 && key.chars().all(is_base64))
        .then(|| format!("{kind} {key}"))
}

/// A console's last lines, as the cause of an error.
#[derive(Debug)]
pub(crate) struct LastWords(pub(crate) String);

impl LastWords {
    /// Of a console that says anything.
    pub(crate) fn of(console: &str) -> Option<Self> {
        let printable = |c: &char| !c.is_control() || *c == '\t';
        let lines: Vec<String> = console
            .lines()
            .map(|line| line.chars().filter(printable).take(MAX_LINE).collect::<String>())
            .filter(|line| !line.trim().is_empty())
            .collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        (!tail.is_empty()).then_some(Self(tail))
    }
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the console's last lines:\n{}", self.0)
    }
}

impl std::error::Error for LastWords {}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
[    1.0] booting\r
<14>Nov 23 16:00:00 cloud-init: -----BEGIN SSH HOST KEY FINGERPRINTS-----\r
<14>Nov 23 16:00:00 cloud-init: 256 SHA256:abc root@node (ED25519)\r
<14>Nov 23 16:00:00 cloud-init: -----END SSH HOST KEY FINGERPRINTS-----\r
-----BEGIN SSH HOST KEY KEYS-----\r
ecdsa-sha2-nistp256 AAAAE2VjZHNh root@node\r
[   12.3] cloud-init[7]: ssh-ed25519 AAAAC3NzaC1l root@node\r
ssh-ed25519 not;base64 root@node\r
-----END SSH HOST KEY KEYS-----\r
login: ";

    #[test]
    fn the_keys_that_cloud_init_prints() {
        assert_eq!(host_keys(CONSOLE), ["ecdsa-sha2-nistp256 AAAAE2VjZHNh", "ssh-ed25519 AAAAC3NzaC1l"]);
    }

    #[test]
    fn a_block_that_is_still_being_printed_does_not_count() {
        let half = CONSOLE.split(END).next().unwrap();
        assert!(host_keys(half).is_empty());
        let rebooted = CONSOLE.replace("AAAAC3NzaC1l", "AAAAolder") + CONSOLE;
        assert!(host_keys(&rebooted).contains(&"ssh-ed25519 AAAAC3NzaC1l".into()));
    }

    #[test]
    fn last_words_are_few_and_printable() {
        let console = format!("{}\n\u{1b}[31mpanic\u{7}\n\n", "line\n".repeat(500));
        let LastWords(tail) = LastWords::of(&console).unwrap();
        assert_eq!(tail.lines().count(), TAIL);
        assert!(tail.ends_with("[31mpanic"), "{tail}");
        assert!(LastWords::of("\n \n").is_none());
    }
}
