//! What the provisioner does with a Keystone that accepts connections and never answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod common;

use pushbutton_testkit::conformance::time_bounded::{self, SilentServer};

use common::{Lab, config};

#[tokio::test(flavor = "multi_thread")]
async fn every_call_ends_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = SilentServer::start().await.unwrap();
    let file = folder.path().join("clouds.yaml");
    let auth = format!(
        "auth_url: 'http://{}/identity', username: a, password: b, project_name: p",
        server.address()
    );
    std::fs::write(&file, format!("clouds: {{silent: {{auth: {{{auth}}}}}}}")).unwrap();
    let rest = "connect_timeout: 2s, request_timeout: 2s, release_timeout: 10s, nodes: {plain: {image: i, flavor: f}}";
    let lab = Lab::of(config(&file, "silent", rest), "acme");
    time_bounded::provisioner(&lab.provisioner, &"plain".parse().unwrap()).await;
}
