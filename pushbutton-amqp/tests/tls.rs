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

use pushbutton_amqp::{AmqpQueue, check};
use pushbutton_core::check::Level;
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

/// A port that a passing connection of anybody does not take before the broker does: below those that the system gives out.
fn free_port() -> u16 {
    let start = 10_000 + std::process::id() % 5_000;
    let mut ports = (start as u16..).take(1_000);
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
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
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let port = free_port();
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
    assert_eq!(check(&config).await.last().unwrap().level, Level::Fail);

    config.ca = Some(folder.path().join("ca.pem"));
    let queue = common::connect(&config).await;
    queue.publish(&job_on(1, "tempest")).await.unwrap();
    common::claim(&queue).await.complete().await.unwrap();
    let findings = check(&config).await;
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");

    config.ca = Some(folder.path().join("server.key"));
    let error = AmqpQueue::connect(config.clone()).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("holds no certificate"), "{error}");
}
