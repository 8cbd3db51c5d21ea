//! A mail server (aiosmtpd) that delivers nothing, and keeps what it receives.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::git_server::free_port;
use crate::{ansible_bin, until};

/// Ends when it is dropped.
#[derive(Debug)]
pub struct MailServer {
    /// On 127.0.0.1, without TLS and without a login.
    pub port: u16,
    child: Child,
    folder: TempDir,
}

impl MailServer {
    /// Starts one; returns when it answers.
    pub fn start() -> Self {
        let port = free_port("127.0.0.1");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = std::fs::File::create(folder.path().join("mail")).expect("a file for mails");
        let child = Command::new(ansible_bin().join("python3"))
            .args(["-u", "-m", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Debugging", "stdout", "-l"])
            .arg(format!("127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(out)
            .spawn()
            .expect("aiosmtpd runs");
        until("the mail server answers", Duration::from_secs(300), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { port, child, folder }
    }

    /// All mails so far, as they were sent, headers included.
    pub fn received(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("mail")).expect("the file of mails")
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
