//! A git server: `git daemon`, with the repositories below a folder.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process::run;
use crate::until;

/// Ends when it is dropped.
#[derive(Debug)]
pub struct GitServer {
    /// As `git://10.99.0.1:9418`.
    pub url: String,
    daemon: Child,
}

impl GitServer {
    /// Serves every repository below the folder on this address.
    pub fn start(address: &str, folder: &Path) -> Self {
        let program = run(Command::new("git").arg("--exec-path"), "").trim().to_owned() + "/git-daemon";
        let port = free_port(address);
        let daemon = Command::new(program)
            .args(["--export-all", "--reuseaddr"])
            .arg(format!("--listen={address}"))
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", folder.display()))
            .arg(folder)
            // The repositories of a test may belong to another user.
            .envs([
                ("GIT_CONFIG_COUNT", "1"),
                ("GIT_CONFIG_KEY_0", "safe.directory"),
                ("GIT_CONFIG_VALUE_0", "*"),
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("git daemon runs");
        let address = format!("{address}:{port}");
        until("git daemon answers", Duration::from_secs(20), || {
            std::net::TcpStream::connect(&address).is_ok().then_some(())
        });
        Self { url: format!("git://{address}"), daemon }
    }
}

/// A port of this address that nobody listens on now.
pub(crate) fn free_port(address: &str) -> u16 {
    let listener = std::net::TcpListener::bind((address, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

impl Drop for GitServer {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
