//! Whom a provisioner trusts, and what it shows of itself, on TLS connections: backends 4.1, item 6.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what helps a test is part of it")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pushbutton_core::check::{Check, Finding, Level};

use common::{Lab, config};

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and certificates of it for the server and for the client.
fn certificates(folder: &Path) {
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(folder, &format!("req -x509 {KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority"));
    for name in ["server", "client"] {
        openssl(folder, &format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san";
        openssl(folder, &format!("x509 -req -in {name}.csr {sign} -out {name}.pem"));
    }
    let both = ["client.pem", "client.key"].map(|name| std::fs::read_to_string(folder.join(name)).unwrap());
    std::fs::write(folder.join("both.pem"), both.concat()).unwrap();
}

struct Keystone(Child, u16);

impl Keystone {
    fn start(folder: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keystone_tls.py");
        let mut child =
            Command::new("python3").arg(script).arg(folder).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self(child, port.trim().parse().unwrap())
    }
}

impl Drop for Keystone {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_verified_and_a_client_certificate_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let keystone = Keystone::start(folder.path());
    let dir = folder.path().display();
    let check = async |entry: &str| -> Vec<Finding> {
        let url = format!("https://127.0.0.1:{}", keystone.1);
        let auth = format!("auth: {{auth_url: '{url}', username: a, password: b}}");
        let file = folder.path().join("clouds.yaml");
        std::fs::write(&file, format!("clouds: {{lab: {{{auth}, {entry}}}}}")).unwrap();
        let lab =
            Lab::of(config(&file, "lab", "request_timeout: 2s, nodes: {a: {image: i, flavor: f}}"), "acme");
        lab.provisioner.check().await
    };
    let logged_in =
        |found: &[Finding]| found.iter().any(|one| one.level == Level::Ok && one.what.contains("project p1"));
    let client = format!("cert: {dir}/client.pem, key: {dir}/client.key");
    let trusted = check(&format!("cacert: {dir}/ca.pem, {client}")).await;
    assert!(logged_in(&trusted), "{trusted:?}");
    let one_file = check(&format!("cacert: {dir}/ca.pem, cert: {dir}/both.pem")).await;
    assert!(logged_in(&one_file), "{one_file:?}");
    let unknown = check(&client).await;
    assert!(!logged_in(&unknown) && unknown[0].what.contains("cannot connect"), "{unknown:?}");
    let anonymous = check(&format!("cacert: {dir}/ca.pem")).await;
    assert!(!logged_in(&anonymous), "{anonymous:?}");
    let unverified = check(&format!("verify: false, {client}")).await;
    assert!(logged_in(&unverified), "{unverified:?}");
    assert_eq!(unverified[0].level, Level::Warn);
    assert!(unverified[0].what.contains("NOT verified"), "{unverified:?}");
}
