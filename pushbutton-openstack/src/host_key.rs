//! A host key that is made here for one node, handed over in its user data, and then the only one that is trusted:
//! nobody on the network can take the node's place, not even at the first contact.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pushbutton_core::{Error, ErrorKind, Result};
use ring::rand::{SecureRandom as _, SystemRandom};
use russh::client;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::ssh_key::{LineEnding, PrivateKey, PublicKey};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

/// How long one look at a node's host key may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// An ed25519 key of one node. Its private half is shown by nothing but [`cloud_config`](Self::cloud_config).
#[derive(Debug)]
pub(crate) struct GeneratedHostKey {
    private: SecretString,
    /// As in a known_hosts file: `ssh-ed25519 AAAA...`.
    public: String,
}

impl GeneratedHostKey {
    pub(crate) fn generate() -> Result<Self> {
        let failed = |what: &'static str| Error::temporary(ErrorKind::Local, what);
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| failed("the system gives no random numbers"))?;
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        let written = PrivateKey::new(pair, "")
            .and_then(|key| Ok((key.to_openssh(LineEnding::LF)?, key.public_key().to_openssh()?)));
        let (private, public) =
            written.map_err(|error| failed("cannot write a generated host key").because(error))?;
        Ok(Self { private: private.as_str().into(), public })
    }

    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    /// The user data by which cloud-init makes this the node's only host key (its module `ssh`).
    pub(crate) fn cloud_config(&self) -> SecretString {
        let private = self.private.expose_secret().trim_end().replace('\n', "\n    ");
        let public = &self.public;
        format!("#cloud-config\nssh_keys:\n  ed25519_private: |\n    {private}\n  ed25519_public: {public}\n")
            .into()
    }
}

/// The ed25519 host key that a node presents; none when it presents none of that type.
///
/// # Errors
/// Temporary: the node does not answer as an SSH server.
pub(crate) async fn presented(address: &str, port: u16) -> Result<Option<String>> {
    let mut settings = client::Config::default();
    settings.preferred.key = vec![Algorithm::Ed25519].into();
    let seen = Seen::default();
    // Boxed: the handshake is a very large future.
    let look = Box::pin(client::connect(Arc::new(settings), (address, port), seen.clone()));
    let ended = timeout(LOOK_TIMEOUT, look).await;
    // The handshake ends with an error in any case: `Seen` accepts no key.
    if let Some(key) = seen.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Ok(Some(key));
    }
    match ended {
        Ok(Err(russh::Error::NoCommonAlgo { .. })) => Ok(None),
        Ok(Err(error)) => {
            Err(Error::temporary(ErrorKind::Unreachable, "cannot read the node's host key").because(error))
        }
        Ok(Ok(_)) | Err(_) => {
            Err(Error::temporary(ErrorKind::TimedOut, "the node does not show its host key"))
        }
    }
}

/// Keeps the key that a server shows, and ends the handshake there.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Option<String>>>);

impl client::Handler for Seen {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> std::result::Result<bool, russh::Error> {
        if let PublicKeyOrCertificate::PublicKey { key, .. } = shown {
            // Without the comment, which is not part of the key.
            let plain = PublicKey::new(key.key_data().clone(), "").to_openssh();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = plain.ok();
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h5_a_generated_key_is_one_that_openssh_reads_and_differs_each_time() {
        let (one, other) = (GeneratedHostKey::generate().unwrap(), GeneratedHostKey::generate().unwrap());
        assert_ne!(one.public(), other.public());
        let config: serde_yaml::Value = serde_yaml::from_str(one.cloud_config().expose_secret()).unwrap();
        let keys = &config["ssh_keys"];
        assert_eq!(keys["ed25519_public"].as_str(), Some(one.public()));
        assert!(one.public().starts_with("ssh-ed25519 AAAA"), "{}", one.public());
        // By OpenSSH itself.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, keys["ed25519_private"].as_str().unwrap()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        let read = std::process::Command::new("ssh-keygen").arg("-yf").arg(&path).output().unwrap();
        assert_eq!(String::from_utf8(read.stdout).unwrap().trim(), one.public(), "{:?}", read.status);
    }

    #[test]
    fn h5_a_private_key_is_in_no_debug() {
        let key = GeneratedHostKey::generate().unwrap();
        let private = key.private.expose_secret();
        let line = private.lines().nth(2).unwrap();
        let shown = format!("{key:?} {:?}", key.cloud_config());
        assert!(!shown.contains(line) && shown.contains(key.public()), "{shown}");
    }
}
