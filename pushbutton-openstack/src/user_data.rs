//! A node's user data: the configured one, and the host key that is handed over in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pushbutton_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret as _, SecretString};
use serde_yaml::Value;

use crate::config::{HostKeys, NodeLabelConfig, UserData};
use crate::host_key::GeneratedHostKey;

/// How long user data may be, encoded (Nova's API).
const MAX_ENCODED: usize = 65_535;
/// The longest line of a part in base64.
const MIME_LINE: usize = 76;
/// What the user data of cloud-init begins with, and nobody else's.
const CLOUD_INIT: [&str; 8] = [
    "#cloud-config",
    "#!",
    "## template: jinja",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "#upstart-job",
    "#cloud-config-archive",
];

/// User data of one boot.
#[derive(Debug, Default)]
pub(crate) struct BootData {
    /// In base64, as Nova requires.
    pub(crate) encoded: Option<SecretString>,
    /// The host key in it.
    pub(crate) host_key: Option<GeneratedHostKey>,
}

impl BootData {
    /// Reads the label's user data, and adds a host key where the label says so and cloud-init will read it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent: the file cannot be read, the user data are too long for Nova, or
    /// `host_keys: generated` is not possible with them.
    pub(crate) async fn of(label: &NodeLabelConfig) -> Result<Self> {
        let user = read(label.user_data.as_ref()).await?;
        let plain = |user: Option<&Vec<u8>>| user.map(|user| encoded(user)).transpose();
        if !matches!(label.host_keys, HostKeys::Auto | HostKeys::Generated) {
            return Ok(Self { encoded: plain(user.as_ref())?, host_key: None });
        }
        let key = GeneratedHostKey::generate()?;
        match with_host_key(user.as_deref(), &key) {
            Ok(encoded) => Ok(Self { encoded: Some(encoded), host_key: Some(key) }),
            Err(why) if label.host_keys == HostKeys::Generated => {
                Err(Error::permanent(ErrorKind::Config, format!("host_keys is `generated`, but {why}")))
            }
            Err(why) => {
                tracing::info!("no host key is handed over: {why}");
                Ok(Self { encoded: plain(user.as_ref())?, host_key: None })
            }
        }
    }
}

async fn read(config: Option<&UserData>) -> Result<Option<Vec<u8>>> {
    Ok(match config {
        Some(UserData { text: Some(text), .. }) => Some(text.clone().into_bytes()),
        Some(UserData { file: Some(path), .. }) => Some(tokio::fs::read(path).await.map_err(|error| {
            let message = format!("cannot read the user data {}: {error}", path.display());
            Error::permanent(ErrorKind::Config, message).because(error)
        })?),
        _ => None,
    })
}

/// The user data as Nova takes them. It would refuse longer ones with a copy of them in its message.
fn encoded(user: &[u8]) -> Result<SecretString> {
    let encoded = STANDARD.encode(user);
    match encoded.len() {
        0..=MAX_ENCODED => Ok(encoded.into()),
        length => {
            let message = format!(
                "the user data have {length} bytes in base64, and Nova takes {MAX_ENCODED}: make them shorter, or compress \
                 them with gzip"
            );
            Err(Error::permanent(ErrorKind::Config, message))
        }
    }
}

/// Both as one MIME document, of which cloud-init reads part after part. The user's part is not touched: read and
/// written as YAML, `mode: 0644` or `yes` would become something else. Else why not, and what to do.
fn with_host_key(
    user: Option<&[u8]>,
    key: &GeneratedHostKey,
) -> std::result::Result<SecretString, &'static str> {
    let ours = key.cloud_config();
    let Some(user) = user.filter(|user| !user.trim_ascii().is_empty()) else {
        return Ok(STANDARD.encode(ours.expose_secret()).into());
    };
    let user = part_of(user)?;
    // No line of a part begins with it: it has the text of a key that did not exist when the part was written.
    let boundary: String = key.public().chars().rev().filter(char::is_ascii_alphanumeric).take(32).collect();
    let mut text = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n");
    for part in [user, plain_part("cloud-config", "us-ascii", ours.expose_secret().as_bytes())] {
        text.push_str(&format!("\n--{boundary}\n{part}"));
    }
    text.push_str(&format!("\n--{boundary}--\n"));
    let encoded = STANDARD.encode(text);
    if encoded.len() > MAX_ENCODED {
        return Err("the user data leave no room for a key: Nova takes 64 KiB, encoded; make them shorter");
    }
    Ok(encoded.into())
}

/// The user's data as a part of a MIME document.
fn part_of(user: &[u8]) -> std::result::Result<String, &'static str> {
    if user.starts_with(&[0x1f, 0x8b]) {
        return Ok(format!("Content-Type: application/gzip\n{}", in_base64(user)));
    }
    let text = std::str::from_utf8(user).map_err(|_| "the user data are neither text nor compressed")?;
    let start: String = text.chars().take(20).collect::<String>().to_ascii_lowercase();
    if start.starts_with("mime-version:") || start.starts_with("content-type:") {
        return match text.lines().any(|line| line.starts_with("ssh_keys:")) {
            true => Err(OWN_KEYS),
            // A document within the document, with its own headers. Only ASCII may be in it without an encoding.
            false if text.is_ascii() => Ok(text.to_owned()),
            false => Err("the user data are a MIME document that is not ASCII: encode its parts"),
        };
    }
    if !CLOUD_INIT.iter().any(|kind| text.starts_with(kind)) {
        return Err("the user data are not cloud-init's (they begin with none of its first lines)");
    }
    let keys = serde_yaml::from_str::<Value>(text).ok().and_then(|value| value.get("ssh_keys").cloned());
    if keys.is_some() || text.lines().any(|line| line.starts_with("ssh_keys:")) {
        return Err(OWN_KEYS);
    }
    // cloud-init looks at the first line of a part of this type, as it does without a MIME document.
    Ok(plain_part("plain", "utf-8", user))
}

const OWN_KEYS: &str =
    "the user data give `ssh_keys` themselves: remove them, or set host_keys to another value";

fn plain_part(kind: &str, charset: &str, content: &[u8]) -> String {
    format!("Content-Type: text/{kind}; charset=\"{charset}\"\n{}", in_base64(content))
}

/// The header and the body of a part in base64: nothing on the way can change its lines or its characters.
fn in_base64(content: &[u8]) -> String {
    let encoded = STANDARD.encode(content);
    let mut text = "MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n".to_owned();
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(MIME_LINE));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text
}

/// What `check` says about the length of a label's user data: the problem, if there is one.
pub(crate) async fn length_problem(label: &NodeLabelConfig) -> Option<Error> {
    let user = read(label.user_data.as_ref()).await.ok()??;
    encoded(&user).err()
}

/// What `check` says about a label's host keys: the problem, if there is one.
pub(crate) async fn host_key_problem(label: &NodeLabelConfig) -> Option<&'static str> {
    let user = read(label.user_data.as_ref()).await.ok()?;
    with_host_key(user.as_deref(), &GeneratedHostKey::generate().ok()?).err()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn label(text: &str) -> NodeLabelConfig {
        NodeLabelConfig::new("noble", "small").with_user_data(UserData::text(text))
    }

    async fn error(label: NodeLabelConfig) -> Error {
        BootData::of(&label.with_host_keys(HostKeys::Generated)).await.unwrap_err()
    }

    /// The type and the content of each part, by Python's `email`, which cloud-init uses.
    fn parts(data: &BootData) -> Vec<(String, String)> {
        const SCRIPT: &str = "
import email, json, sys
message = email.message_from_string(sys.stdin.read())
parts = [part for part in message.walk() if part.get_content_maintype() != 'multipart']
print(json.dumps([(part.get_content_type(), part.get_payload(decode=True).decode('latin-1')) for part in parts]))
";
        let text = STANDARD.decode(data.encoded.as_ref().unwrap().expose_secret()).unwrap();
        let mut python = Command::new("python3")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(&text).unwrap();
        serde_json::from_slice(&python.wait_with_output().unwrap().stdout).unwrap()
    }

    #[tokio::test]
    async fn h5_user_data_and_a_host_key_are_parts_of_one_document() {
        for (text, kind) in [
            (
                "#cloud-config\nwrite_files: [{path: /x, permissions: 0644}]\npackage_update: yes\n",
                "text/plain",
            ),
            ("#!/bin/sh\necho --\necho \u{fc}\r\n", "text/plain"),
            ("Content-Type: text/x-shellscript\nMIME-Version: 1.0\n\n#!/bin/sh\n", "text/x-shellscript"),
            (
                "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n--b\nContent-Type: text/cloud-config\n\n\
                 #cloud-config\n\n--b--\n",
                "text/cloud-config",
            ),
        ] {
            let data = BootData::of(&label(text)).await.unwrap();
            let parts = parts(&data);
            assert_eq!(parts.len(), 2, "{text:?}: {parts:?}");
            assert_eq!(parts[0].0, kind, "{text:?}");
            if kind == "text/plain" {
                let latin1: String = text.bytes().map(char::from).collect();
                assert_eq!(parts[0].1, latin1, "the user's part is as it was");
            }
            let ours: Value = serde_yaml::from_str(&parts[1].1).unwrap();
            let public = data.host_key.unwrap().public().to_owned();
            assert_eq!(parts[1].0, "text/cloud-config");
            assert_eq!(ours["ssh_keys"]["ed25519_public"].as_str(), Some(public.as_str()));
        }
        let alone = BootData::of(&NodeLabelConfig::new("noble", "small")).await.unwrap();
        let text = STANDARD.decode(alone.encoded.unwrap().expose_secret()).unwrap();
        assert!(text.starts_with(b"#cloud-config\nssh_keys:\n"), "without user data it is no MIME document");
    }

    #[tokio::test]
    async fn h5_where_no_key_can_be_handed_over_the_user_data_stay_and_generated_is_refused() {
        // Nova takes it, but not with a key.
        let long = format!("#cloud-config\n# {}\n", "x".repeat(49_000));
        for (text, why) in [
            ("{\"ignition\": {\"version\": \"3.4.0\"}}", "not cloud-init's"),
            ("#cloud-config\nssh_keys: {rsa_private: x}\n", "give `ssh_keys` themselves"),
            (long.as_str(), "leave no room"),
        ] {
            let data = BootData::of(&label(text)).await.unwrap();
            let sent = STANDARD.decode(data.encoded.unwrap().expose_secret()).unwrap();
            assert!(data.host_key.is_none() && sent == text.as_bytes(), "{why}");
            let error = error(label(text)).await;
            assert!(!error.is_temporary() && error.to_string().contains(why), "{error}");
        }
        let label = label("#cloud-config\n").with_host_keys(HostKeys::Console);
        assert!(BootData::of(&label).await.unwrap().host_key.is_none());
    }

    #[tokio::test]
    async fn user_data_that_are_too_long_for_nova_are_refused_without_a_copy_of_them() {
        let long = format!("#cloud-config\n# {}\n", "x".repeat(50_000));
        for host_keys in [HostKeys::Auto, HostKeys::Generated, HostKeys::Console, HostKeys::FirstContact] {
            let error = BootData::of(&label(&long).with_host_keys(host_keys)).await.unwrap_err();
            let found = (error.kind(), error.is_temporary(), error.message().len() < 200);
            assert_eq!(found, (ErrorKind::Config, false, true), "{host_keys:?}: {error}");
        }
        let just = "x".repeat(MAX_ENCODED / 4 * 3);
        assert!(BootData::of(&label(&just).with_host_keys(HostKeys::Console)).await.is_ok());
        assert!(BootData::of(&label(&format!("{just}x")).with_host_keys(HostKeys::Console)).await.is_err());
    }

    #[tokio::test]
    async fn h5_a_key_in_user_data_is_in_no_debug() {
        let data = BootData::of(&label("#!/bin/sh\n")).await.unwrap();
        let shown = format!("{data:?}");
        let encoded = data.encoded.unwrap();
        assert!(!shown.contains(&encoded.expose_secret()[..40]), "{shown}");
    }
}
