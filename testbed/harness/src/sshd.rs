//! A private OpenSSH server, to stand where Gerrit's does: for recorded streams, wrong keys and broken networks.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::{family, run, signal};

/// How an [`Sshd`] is to behave.
#[derive(Debug, Clone)]
pub struct SshdOptions {
    /// A line for /bin/sh that is run in place of whatever the client asks for (that is in `$SSH_ORIGINAL_COMMAND`), as
    /// `cat FILE; sleep infinity`. None: the client's command is run.
    pub forced_command: Option<String>,
    /// Kinds of host keys, as `ssh-keygen -t` names them.
    pub host_keys: Vec<String>,
    /// The kind of the client's key, as `ssh-keygen -t` names it.
    pub client_key: String,
    /// More lines of sshd_config.
    pub config: Vec<String>,
}

impl Default for SshdOptions {
    fn default() -> Self {
        Self {
            forced_command: None,
            host_keys: vec!["ed25519".to_owned()],
            client_key: "ed25519".to_owned(),
            config: Vec::new(),
        }
    }
}

/// A running sshd on a loopback port of its own; it and all its connections end on drop.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    folder: TempDir,
    /// Always 127.0.0.1.
    pub host: String,
    /// Kept through [`restart`](Self::restart).
    pub port: u16,
    /// The user to log in as: who runs the test.
    pub user: String,
    /// The private key that it admits.
    pub key: PathBuf,
    /// A known_hosts file with its keys.
    pub known_hosts: PathBuf,
}

impl Sshd {
    /// Starts one; returns when it listens.
    pub fn start(options: &SshdOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("testbed-sshd-").tempdir().expect("a temporary folder");
        let path = folder.path();
        let key = path.join("client_key");
        keygen(&options.client_key, &key);
        std::fs::copy(path.join("client_key.pub"), path.join("authorized_keys")).expect("authorized_keys");
        let port = free_port();
        // A home of its own: bash reads the start-up file of whoever runs the tests for every command, and that may do much, and slowly.
        let mut config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nAuthorizedKeysFile {0}/authorized_keys\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nUseDNS no\nPidFile none\n\
             PermitRootLogin yes\nMaxStartups 200\nLogLevel INFO\nSubsystem sftp internal-sftp\nSetEnv HOME={0}\n",
            path.display()
        );
        let mut known_hosts = String::new();
        for kind in &options.host_keys {
            let host_key = path.join(format!("host_{kind}"));
            keygen(kind, &host_key);
            let public = std::fs::read_to_string(host_key.with_extension("pub")).expect("a host key");
            let _ = writeln!(config, "HostKey {}", host_key.display());
            let _ = writeln!(known_hosts, "[127.0.0.1]:{port} {}", public.trim());
        }
        if let Some(command) = &options.forced_command {
            let script = path.join("forced.sh");
            std::fs::write(&script, format!("{command}\n")).expect("the forced command");
            let _ = writeln!(config, "ForceCommand exec /bin/sh {}", script.display());
        }
        for line in &options.config {
            let _ = writeln!(config, "{line}");
        }
        std::fs::write(path.join("sshd_config"), config).expect("sshd_config");
        let known_hosts_file = path.join("known_hosts");
        std::fs::write(&known_hosts_file, known_hosts).expect("known_hosts");
        let child = spawn(path);
        let user = run(Command::new("id").arg("-un"), "").trim().to_owned();
        Self { child, folder, host: "127.0.0.1".to_owned(), port, user, key, known_hosts: known_hosts_file }
    }

    /// A folder that lives as long as it does.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Freezes it with all its connections: they stay, nothing answers.
    pub fn freeze(&self) {
        signal("STOP", &family(self.child.id()));
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        signal("CONT", &family(self.child.id()));
    }

    /// Kills the connections that it has, and goes on listening.
    pub fn cut(&self) {
        signal("KILL", family(self.child.id()).get(1..).unwrap_or_default());
    }

    /// Kills it with all its connections, as a crash would.
    pub fn kill9(&mut self) {
        signal("KILL", &family(self.child.id()));
        let _ = self.child.wait();
    }

    /// Starts it again on the same port with the same keys.
    pub fn restart(&mut self) {
        self.kill9();
        self.child = spawn(self.folder.path());
    }

    /// Gives it another host key, as one who sits in the middle would have, and restarts it; `known_hosts` keeps the old one.
    pub fn change_host_key(&mut self) {
        for entry in std::fs::read_dir(self.folder.path()).expect("its folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(kind) = name.strip_prefix("host_").filter(|kind| !kind.ends_with(".pub")) {
                std::fs::remove_file(entry.path()).expect("the old key goes");
                keygen(kind, &entry.path());
            }
        }
        self.restart();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn keygen(kind: &str, file: &Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-N", "", "-C", "testbed", "-t", kind, "-f"]).arg(file);
    run(&mut command, "y\n");
}

/// Starts sshd; returns when its log says that it listens. The log goes on into the folder's `log`.
fn spawn(folder: &Path) -> Child {
    // Root's sshd wants this folder, and Debian makes it only when the service starts.
    let _ = std::fs::create_dir_all("/run/sshd");
    let mut child = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(folder.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssh-server is installed: testbed/testbed install tools");
    let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut seen = String::new();
    while !seen.contains("listening") {
        let before = seen.len();
        log.read_line(&mut seen).expect("sshd's log");
        assert!(seen.len() > before, "sshd does not start: {seen}");
    }
    let mut file =
        std::fs::File::options().create(true).append(true).open(folder.join("log")).expect("a log file");
    // Ends with sshd and its connections, which hold the other end of the pipe.
    std::thread::spawn(move || std::io::copy(&mut log, &mut file));
    child
}

/// A port of 127.0.0.1 that was free just now, below the range of passing connections: one that restarts must have it again.
fn free_port() -> u16 {
    loop {
        let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux");
        let number = u16::from_str_radix(&random[..4], 16).expect("hexadecimal digits");
        let port = 18_000 + number % 14_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
