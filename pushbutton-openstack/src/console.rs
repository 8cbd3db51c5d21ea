//! Reads a node's console: its SSH host keys, and its last lines.

use std::fmt;

use pushbutton_core::text::short_line;

/// How many lines of a console an error keeps.
const TAIL_LINES: usize = 20;
/// The longest line that is kept, in bytes: kernels print progress bars and dumps.
const MAX_LINE: usize = 200;

const BEGIN: &str = "-----BEGIN SSH HOST KEY KEYS-----";
const END: &str = "-----END SSH HOST KEY KEYS-----";

/// Types of host keys, by OpenSSH's names.
const KEY_TYPES: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/// The host keys that cloud-init prints at the end of a boot, as `ssh-ed25519 AAAA...`.
///
/// Only complete blocks count, and of several the last: a node that rebooted may have printed other keys before.
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

/// The key in a line. A console may put a time or a unit's name before it.
fn key_in(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip_while(|word| !KEY_TYPES.contains(word));
    let (kind, key) = (words.next()?, words.next()?);
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    // A key begins with the length of its type's name in four bytes, the first three of them zero (RFC 4253, 6.6).
    (key.starts_with("AAAA") && key.len() <= 8192 && key.chars().all(is_base64))
        .then(|| format!("{kind} {key}"))
}

/// A console's last lines, as the source of an error.
#[derive(Debug)]
pub(crate) struct ConsoleTail(String);

impl ConsoleTail {
    /// The tail; none if the console is empty.
    pub(crate) fn of(console: &str) -> Option<Self> {
        let lines = console.lines().map(|line| short_line(line, MAX_LINE));
        let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        (!tail.is_empty()).then_some(Self(tail))
    }
}

impl fmt::Display for ConsoleTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the console's last lines:\n{}", self.0)
    }
}

impl std::error::Error for ConsoleTail {}

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
    fn the_keys_that_cloud_init_prints_are_found() {
        assert_eq!(host_keys(CONSOLE), ["ecdsa-sha2-nistp256 AAAAE2VjZHNh", "ssh-ed25519 AAAAC3NzaC1l"]);
    }

    #[test]
    fn an_incomplete_block_does_not_count() {
        let half = CONSOLE.split(END).next().unwrap();
        assert!(host_keys(half).is_empty());
        let rebooted = CONSOLE.replace("AAAAC3NzaC1l", "AAAAolder") + CONSOLE;
        assert!(host_keys(&rebooted).contains(&"ssh-ed25519 AAAAC3NzaC1l".into()));
    }

    #[test]
    fn the_tail_is_short_and_printable() {
        let console = format!("{}\n\u{1b}[31mpanic\u{7}\n\n", "line\n".repeat(500));
        let ConsoleTail(tail) = ConsoleTail::of(&console).unwrap();
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("[31mpanic"), "{tail}");
        assert!(ConsoleTail::of("\n \n").is_none());
    }
}
