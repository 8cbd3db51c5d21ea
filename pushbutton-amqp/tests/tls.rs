//! An encrypted connection to a real broker, with an authority of one's own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests report by panicking"
)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pushbutton_amqp::AmqpQueue;
use pushbutton_core::check::{Check, Finding, Level};
use pushbutton_core::samples::job_on;
use pushbutton_core::{ErrorKind, Queue};
use pushbutton_testbed::{Broker, Version};
use tokio::task::block_in_place;

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a certificate of it for 127.0.0.1.
fn certificates(folder: &Path) {
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\n").expect("the folder is ours");
    openssl(
        folder,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority",
    );
    openssl(
        folder,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=broker",
    );
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem",
    );
    openssl(
        folder,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key -out client.csr -subj /CN=operator-3",
    );
    openssl(
        folder,
        "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out client.pem",
    );
}

/// Policies are not read without the management API; everything else is fine.
fn all_ok(findings: &[Finding]) {
    let (policies, others) = findings.split_last().unwrap();
    assert!(others.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
    assert!(policies.what.contains("policies: not read"), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let port = common::free_port();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let conf = format!(
        "listeners.ssl.default = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\nssl_options.verify = verify_none",
        path("ca.pem"),
        path("server.pem"),
        path("server.key"),
    );
    let _broker = block_in_place(|| Broker::private_with(Version::V3, &conf, ""));
    let url = format!("amqps://guest:guest@127.0.0.1:{port}/%2f");

    let mut config = common::config(&url, "tls", Duration::from_secs(30));
    let error = AmqpQueue::connect(config.clone()).await.map(|_| ()).unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Denied, false), "{error:?}");
    assert!(error.to_string().contains("rabbitmq.ca"), "{error}");
    assert_eq!(config.check().await.last().unwrap().level, Level::Fail);

    config.ca = Some(folder.path().join("ca.pem"));
    let queue = common::connect(&config).await;
    queue.publish(&job_on(1, "tempest")).await.unwrap();
    common::complete(common::claim(&queue).await.as_ref()).await;
    all_ok(&config.check().await);

    config.ca = Some(folder.path().join("server.key"));
    let error = AmqpQueue::connect(config.clone()).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("contains no CERTIFICATE"), "{error}");
}

/// The broker demands a client certificate and lets its common name in as a user, without any password.
async fn a_client_certificate_logs_in(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    openssl(folder.path(), "x509 -in ca.pem -outform DER -out ca.der");
    openssl(folder.path(), "x509 -in server.pem -outform DER -out cert.der");
    openssl(folder.path(), "pkey -in server.key -outform DER -out key.der");
    // RabbitMQ 4 runs in a file tree of its own and cannot read this folder, so the certificates are in its
    // configuration.
    let erlang = |name: &str| {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        let bytes: Vec<_> = bytes.iter().map(u8::to_string).collect();
        format!("<<{}>>", bytes.join(","))
    };
    let port = common::free_port();
    let conf = "ssl_cert_login_from = common_name\nauth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL";
    let advanced = format!(
        "{{rabbit, [{{ssl_listeners, [{{\"127.0.0.1\", {port}}}]}}, {{ssl_options, [{{cacerts, [{}]}}, {{cert, {}}}, \
         {{key, {{'ECPrivateKey', {}}}}}, {{verify, verify_peer}}, {{fail_if_no_peer_cert, true}}]}}]}}",
        erlang("ca.der"),
        erlang("cert.der"),
        erlang("key.der"),
    );
    let broker = block_in_place(|| Broker::private_with(version, conf, &advanced));
    block_in_place(|| {
        broker.ctl(&["rabbitmq-plugins", "enable", "rabbitmq_auth_mechanism_ssl"]);
    });
    let url = format!("amqps://127.0.0.1:{port}/%2f");
    let mut config = common::config(&url, "external", Duration::from_secs(30));
    config.ca = Some(folder.path().join("ca.pem"));
    // Without a client certificate the broker ends the TLS handshake, or the connection right after it (TLS 1.3).
    assert_eq!(config.check().await.last().unwrap().level, Level::Fail);
    config.client_cert = Some(folder.path().join("client.pem"));
    config.client_key = Some(folder.path().join("client.key"));
    let findings = config.check().await;
    let login = findings.last().unwrap();
    assert!(login.level == Level::Fail, "no user of that name: {findings:?}");
    let error = AmqpQueue::connect(config.clone()).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "no user of that name: {error:?}");

    block_in_place(|| {
        broker.ctl(&["rabbitmqctl", "add_user", "operator-3", "a password that nobody knows"]);
        broker.ctl(&["rabbitmqctl", "clear_password", "operator-3"]);
        broker.ctl(&["rabbitmqctl", "set_permissions", "operator-3", ".*", ".*", ".*"]);
    });
    let queue = common::connect(&config).await;
    queue.publish(&job_on(1, "tempest")).await.unwrap();
    common::complete(common::claim(&queue).await.as_ref()).await;
    all_ok(&config.check().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_logs_in_to_rabbitmq_3_10() {
    a_client_certificate_logs_in(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_logs_in_to_rabbitmq_4() {
    a_client_certificate_logs_in(Version::V4).await;
}
