//! Authentication: reads a private key file, and logs in with it.

use std::path::Path;
use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, Result};
use russh::client::{AuthResult, Handle, Handler};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, decode_secret_key};
use secrecy::{ExposeSecret, SecretString};

use crate::error::from_russh;

/// Reads a private key: OpenSSH, PEM (PKCS#1) or PKCS#8, encrypted or not.
///
/// # Errors
/// [`ErrorKind::Config`], permanent: with the file, the problem and the remedy; never with the content.
pub(crate) async fn load_key(file: &Path, passphrase: Option<&SecretString>) -> Result<Arc<PrivateKey>> {
    let failed = |message: String| {
        Error::permanent(ErrorKind::Config, message).during("gerrit::load_key").with("key", file.display())
    };
    let text = SecretString::from(tokio::fs::read_to_string(file).await.map_err(|error| {
        failed("the key file cannot be read; `key` must name a private key that this user may read".into())
            .because(error)
    })?);
    let secret = passphrase.cloned();
    // Decryption of an OpenSSH key takes some tenths of a second (bcrypt).
    let read = move || {
        let text = text.expose_secret();
        let is_encrypted =
            text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
        let is_public = text.starts_with("ssh-") || text.starts_with("ecdsa-");
        (
            decode_secret_key(text, secret.as_ref().map(|secret| secret.expose_secret())),
            is_encrypted,
            is_public,
        )
    };
    let (key, is_encrypted, is_public) = tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| failed("reading the key file was interrupted".into()).because(error))?;
    key.map(Arc::new).map_err(|error| {
        // For PKCS#8, russh reports a missing or wrong passphrase as a decoding error.
        let needs_passphrase = is_encrypted || matches!(error, russh::keys::Error::KeyIsEncrypted);
        let message = match (passphrase.is_some(), needs_passphrase) {
            _ if is_public => {
                "the key file is a public key; `key` must name the private one, without .pub".to_owned()
            }
            (false, true) => "the key file is encrypted; give its `passphrase`".to_owned(),
            (true, _) => {
                "the key file cannot be decrypted; the `passphrase` is wrong, or the file is damaged"
                    .to_owned()
            }
            (false, false) => {
                format!("the key file cannot be parsed ({error}); OpenSSH, PEM and PKCS#8 are supported")
            }
        };
        failed(message).because(error)
    })
}

/// Logs in with this key only: servers close the connection after a few unknown keys.
///
/// # Errors
/// [`ErrorKind::Denied`], permanent, when the server refuses the key.
pub(crate) async fn log_in<H: Handler>(
    session: &mut Handle<H>,
    user: &str,
    key: &Arc<PrivateKey>,
) -> Result<()> {
    for hash in hashes(session, key).await? {
        let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
        match session.authenticate_publickey(user, key).await.map_err(from_russh)? {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { .. } if session.is_closed() => {
                return Err(Error::temporary(ErrorKind::Unreachable, "the connection broke during login"));
            }
            AuthResult::Failure { .. } => {}
        }
    }
    let print = key.public_key().fingerprint(HashAlg::Sha256);
    Err(Error::permanent(
        ErrorKind::Denied,
        format!("the server refuses this login; is `user` right, and does the account hold the public key {print}?"),
    )
    .with("user", user))
}

/// The signature hashes to try: only RSA has several. If the server does not say (an old Gerrit), both of SHA-2;
/// SHA-1 never.
async fn hashes<H: Handler>(session: &Handle<H>, key: &PrivateKey) -> Result<Vec<Option<HashAlg>>> {
    if !matches!(key.algorithm(), Algorithm::Rsa { .. }) {
        return Ok(vec![None]);
    }
    Ok(match session.best_supported_rsa_hash().await.map_err(from_russh)?.flatten() {
        Some(hash) => vec![Some(hash)],
        None => vec![Some(HashAlg::Sha512), Some(HashAlg::Sha256)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn keygen(dir: &Path, name: &str, args: &[&str]) -> std::path::PathBuf {
        let file = dir.join(name);
        let made = Command::new("ssh-keygen").args(["-q", "-f"]).arg(&file).args(args).status().unwrap();
        assert!(made.success());
        file
    }

    #[tokio::test]
    async fn keys_of_all_types_and_forms_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let hush = SecretString::from("hush-hush");
        for (name, args, passphrase) in [
            ("ed25519", vec!["-t", "ed25519", "-N", ""], None),
            ("ecdsa", vec!["-t", "ecdsa", "-b", "256", "-N", ""], None),
            ("rsa", vec!["-t", "rsa", "-b", "2048", "-N", ""], None),
            ("rsa-pem", vec!["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "hush-hush"], Some(&hush)),
            ("ed25519-encrypted", vec!["-t", "ed25519", "-N", "hush-hush"], Some(&hush)),
            ("ecdsa-pkcs8", vec!["-t", "ecdsa", "-m", "PKCS8", "-N", "hush-hush"], Some(&hush)),
        ] {
            let file = keygen(dir.path(), name, &args);
            load_key(&file, passphrase).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
    }

    #[tokio::test]
    async fn errors_say_what_to_fix() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = SecretString::from("wrong");
        let openssh = keygen(dir.path(), "openssh", &["-t", "ed25519", "-N", "hush-hush"]);
        let pkcs8 = keygen(dir.path(), "pkcs8", &["-t", "ecdsa", "-m", "PKCS8", "-N", "hush-hush"]);
        let pem = keygen(dir.path(), "pem", &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "hush-hush"]);
        let text = dir.path().join("text");
        std::fs::write(&text, "no key at all").unwrap();
        for (file, passphrase, words) in [
            (&openssh, None, "is encrypted; give its `passphrase`"),
            (&pkcs8, None, "is encrypted; give its `passphrase`"),
            (&pem, None, "is encrypted; give its `passphrase`"),
            (&openssh, Some(&wrong), "the `passphrase` is wrong"),
            (&pkcs8, Some(&wrong), "the `passphrase` is wrong"),
            (&pem, Some(&wrong), "the `passphrase` is wrong"),
            (&openssh.with_extension("pub"), None, "is a public key"),
            (&text, None, "cannot be parsed"),
            (&dir.path().join("absent"), None, "cannot be read"),
        ] {
            let error = load_key(file, passphrase).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(words), "{}: {error}", file.display());
            assert!(!format!("{error:?}").contains("wrong\""), "{error:?}");
        }
    }
}
