//! A stock Debian 12 with systemd, which sees the testbed's servers at the addresses that they have on this machine.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use pushbutton_testbed::{Keypair, OpenStack, Server, stock_image, until};

pub(crate) struct Guest {
    cloud: &'static OpenStack,
    server: Server,
    keypair: Keypair<'static>,
    /// `ssh -R`: connections to these ports of its loopback go to those of ours.
    tunnel: Option<Child>,
}

impl Guest {
    pub(crate) fn boot(cloud: &'static OpenStack, name: &str) -> Self {
        let image = stock_image();
        let keypair = cloud.keypair(name);
        let server = cloud.boot(image, name, &keypair, &serde_json::json!({}));
        let guest = Self { cloud, server, keypair, tunnel: None };
        until("the guest admits us", Duration::from_secs(180), || {
            guest.run("cloud-init status --wait >/dev/null").status.success().then_some(())
        });
        guest
    }

    pub(crate) fn keypair(&self) -> &Keypair<'static> {
        &self.keypair
    }

    /// Makes ports of our loopback reachable at its own.
    pub(crate) fn forward(&mut self, ports: &[u16]) {
        let mut ssh = self.ssh();
        ssh.args(["-N", "-o", "ExitOnForwardFailure=yes"]);
        for port in ports {
            ssh.args(["-R", &format!("127.0.0.1:{port}:127.0.0.1:{port}")]);
        }
        self.tunnel = Some(
            self.at(&mut ssh)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let listening = |port: &u16| format!("(exec 3<>/dev/tcp/127.0.0.1/{port})");
        let all = ports.iter().map(listening).collect::<Vec<_>>().join(" && ");
        until("the ports are forwarded", Duration::from_secs(30), || {
            self.run(&all).status.success().then_some(())
        });
    }

    /// Runs a script of bash as root; returns its output. Fails with all that it said unless it ends with 0.
    #[track_caller]
    pub(crate) fn root(&self, script: &str) -> String {
        let output = self.run(script);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{script}: {}\n{out}\n{err}", output.status);
        out
    }

    /// The same, however it ends.
    pub(crate) fn run(&self, script: &str) -> Output {
        self.with_input(script, &[])
    }

    /// Writes a file that only root and a group may read.
    pub(crate) fn write(&self, path: &str, content: &[u8], group: &str) {
        let output = self.with_input(&format!("install -m 0640 -g {group} /dev/stdin {path}"), content);
        assert!(output.status.success(), "{path}: {}", text(&output.stderr));
    }

    pub(crate) fn copy(&self, file: &Path, path: &str) {
        self.write(path, &std::fs::read(file).unwrap(), "root");
    }

    fn with_input(&self, script: &str, input: &[u8]) -> Output {
        let mut ssh = self.ssh();
        let command = format!("sudo bash -c {}", quoted(script));
        let mut child = self
            .at(&mut ssh)
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A login that is refused reads nothing; how ssh ends says so.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn ssh(&self) -> Command {
        let mut ssh = Command::new("ssh");
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "ConnectTimeout=5",
            "LogLevel=ERROR",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.args(["-F", "none", "-i"]).arg(&self.keypair.private_key);
        ssh
    }

    fn at<'c>(&self, ssh: &'c mut Command) -> &'c mut Command {
        ssh.arg(format!("debian@{}", self.server.addresses.first().unwrap()))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.run("journalctl -q --no-pager -o cat -u 'pushbutton*' | tail -n 100");
            eprintln!("--- the services said:\n{}", text(&journal.stdout));
        }
        if let Some(tunnel) = &mut self.tunnel {
            let _ = tunnel.kill();
            let _ = tunnel.wait();
        }
        self.cloud.delete(&self.server);
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
