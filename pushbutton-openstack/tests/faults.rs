//! A cloud that refuses, hangs, or fails after it has acted: nothing is lost, created twice, or leaked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what helps a test is part of it")]

mod common;
mod fake;

use std::time::{Duration, Instant};

use axum::http::Method;
use pushbutton_core::check::{Check, Level};
use pushbutton_core::{ErrorKind, Journal, Provisioner, ResourceKind, RetryClass, RunId};
use serde_json::json;

use common::{Lab, config, request};
use fake::{FakeCloud, Fault, VersionDocument, add_server};

const SERVERS: &str = "/compute/v2.1/servers";

fn lab(cloud: &FakeCloud) -> Lab {
    lab_with(cloud, "request_timeout: 1s, create_visibility_timeout: 2s")
}

fn lab_with(cloud: &FakeCloud, times: &str) -> Lab {
    let rest = format!(
        "{times}, release_timeout: 20s, \
         nodes: {{lab: {{image: noble, flavor: small, key_name: ci, ssh_port: {}, host_keys: first-contact, floating_ip: {{network: public}}}}}}",
        cloud.ssh_port
    );
    Lab::of(config(&cloud.dir.path().join("clouds.yaml"), "fake", &rest), "acme")
}

/// Nothing is left on the cloud, nor open in the journal.
async fn nothing_is_left(cloud: &FakeCloud, lab: &Lab) {
    {
        let world = cloud.world();
        assert!(
            world.servers.is_empty() && world.floating_ips.is_empty() && world.ports.is_empty(),
            "{world:#?}"
        );
    }
    assert_eq!(lab.journal.open().await.unwrap(), []);
}

#[tokio::test]
async fn a_busy_cloud_gets_a_retry_after_the_delay_that_it_asks_for() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    cloud.fault(Method::GET, SERVERS, Fault::Refuse(503, Some(1), "busy"));
    assert_eq!(lab.provisioner.list_owned().await.unwrap(), []);
    let asked = cloud.times(&Method::GET, SERVERS);
    assert_eq!(asked.len(), 2);
    assert!(asked[1] - asked[0] >= Duration::from_secs(1), "{:?}", asked[1] - asked[0]);
}

#[tokio::test]
async fn a_create_that_was_carried_out_but_failed_is_found_by_its_tags() {
    for fault in [Fault::DoneBut(503), Fault::DoneBut(504), Fault::Garbled, Fault::Silent] {
        for path in [SERVERS, "/network/v2.0/floatingips"] {
            let cloud = FakeCloud::start().await;
            let lab = lab(&cloud);
            cloud.fault(Method::POST, path, fault.clone());
            let request = request("lab", 30);
            let node = lab.provision(&request).await.unwrap();
            assert_eq!(cloud.world().servers.len(), 1, "{fault:?} of {path}");
            assert_eq!(cloud.world().floating_ips.len(), 1, "{fault:?} of {path}");
            let journal = lab.journal.open().await.unwrap();
            assert!(journal.iter().any(|entry| entry.id.as_ref() == Some(&node.id)), "{journal:?}");
            assert!(journal.iter().all(|entry| entry.id.is_some()), "{journal:?}");
            lab.release(&request.run).await;
            nothing_is_left(&cloud, &lab).await;
        }
    }
}

#[tokio::test]
async fn a_create_that_was_refused_is_retried() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    cloud.fault(Method::POST, SERVERS, Fault::Refuse(429, Some(1), "slow down"));
    cloud.fault(Method::POST, SERVERS, Fault::Refuse(503, None, "busy"));
    let request = request("lab", 30);
    lab.provision(&request).await.unwrap();
    assert_eq!(cloud.times(&Method::POST, SERVERS).len(), 3);
    assert_eq!(cloud.world().servers.len(), 1);
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_cloud_that_stays_down_is_a_temporary_error() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    for _ in 0..3 {
        cloud.fault(Method::POST, SERVERS, Fault::Refuse(500, None, "down"));
    }
    let request = request("lab", 30);
    let error = lab.provision(&request).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Remote, RetryClass::Temporary));
    assert_eq!(lab.journal.open().await.unwrap().len(), 1, "what may have been created stays in the journal");
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_run_dropped_during_the_create_of_its_server_leaves_nothing() {
    let cloud = FakeCloud::start().await;
    // Too short for the create to be awaited because of its journal entry.
    let lab = lab_with(&cloud, "request_timeout: 5s, create_visibility_timeout: 100ms");
    cloud.fault(Method::POST, SERVERS, Fault::Late(Duration::from_millis(700)));
    let request = request("lab", 30);
    let provision = lab.provision(&request);
    let sent = async {
        while cloud.times(&Method::POST, SERVERS).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        node = provision => panic!("too early for {node:?}"),
        () = sent => {}
    }
    assert!(cloud.world().servers.is_empty(), "the create is still under way");
    lab.release(&request.run).await;
    // A release that did not wait would have left this server behind.
    while cloud.world().made == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_server_that_appears_after_its_process_died_is_found_by_the_journal() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    let run = RunId::generate();
    lab.journal.intend(&run, ResourceKind::Server, "pb-acme-x").await.unwrap();
    let appear = async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        let metadata = json!({
            "pushbutton_owner": "acme", "pushbutton_installation": lab.installation, "pushbutton_run": run,
        });
        add_server(&mut cloud.world(), json!("pb-acme-x"), metadata);
    };
    tokio::join!(lab.release(&run), appear);
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_cloud_that_hangs_is_a_timeout() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    for _ in 0..20 {
        cloud.fault(Method::GET, SERVERS, Fault::Silent);
    }
    let began = Instant::now();
    let error = lab.provisioner.list_owned().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_class()),
        (ErrorKind::TimedOut, RetryClass::Temporary),
        "{error:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_cloud_that_cannot_be_reached_is_named_in_the_error() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    drop(cloud);
    let error = lab.provisioner.list_owned().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_class()),
        (ErrorKind::Unreachable, RetryClass::Temporary),
        "{error:?}"
    );
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_revoked_token_costs_one_login_for_all_concurrent_requests() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    lab.provisioner.list_owned().await.unwrap();
    assert_eq!(cloud.world().logins, 1);
    cloud.world().tokens.clear();
    let (one, two, _) =
        tokio::join!(lab.provisioner.list_owned(), lab.provisioner.list_owned(), lab.provisioner.check());
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(cloud.world().logins, 2);
}

#[tokio::test]
async fn a_new_token_issued_in_the_second_of_the_revocation_is_replaced_too() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    lab.provisioner.list_owned().await.unwrap();
    for _ in 0..2 {
        cloud.fault(Method::GET, SERVERS, Fault::Refuse(401, None, "{}"));
    }
    let began = Instant::now();
    assert_eq!(lab.provisioner.list_owned().await.unwrap(), []);
    assert_eq!(cloud.world().logins, 3);
    assert!(began.elapsed() >= Duration::from_secs(1), "Keystone revokes by whole seconds");
}

#[tokio::test]
async fn a_token_that_is_revoked_during_a_boot_is_replaced() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    let request = request("lab", 30);
    cloud.fault(Method::GET, "/compute/v2.1/flavors", Fault::Refuse(401, None, "{}"));
    lab.provision(&request).await.unwrap();
    assert_eq!(cloud.world().logins, 2);
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn tokens_that_live_a_minute_do_not_cost_a_login_per_request() {
    let cloud = FakeCloud::start().await;
    cloud.world().token_seconds = 60;
    let lab = lab(&cloud);
    for _ in 0..3 {
        lab.provisioner.list_owned().await.unwrap();
    }
    assert_eq!(cloud.world().logins, 1);
}

#[tokio::test]
async fn a_refused_login_is_a_permanent_error_without_retries() {
    let cloud = FakeCloud::start().await;
    cloud.world().password = "changed".into();
    let lab = lab(&cloud);
    let error = lab.provision(&request("lab", 30)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Denied, RetryClass::Permanent));
    assert_eq!(cloud.world().logins, 1, "clouds lock accounts after some wrong passwords");
}

#[tokio::test]
async fn a_release_handles_unknown_states_refusals_and_leftover_ports() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    let request = request("lab", 30);
    lab.provision(&request).await.unwrap();
    {
        let mut world = cloud.world();
        world.leaves_ports = true;
        let server = world.servers.values_mut().next().unwrap();
        server["status"] = json!("FROBBED");
        server["OS-EXT-STS:power_state"] = json!(99);
    }
    cloud.fault(
        Method::DELETE,
        SERVERS,
        Fault::Refuse(409, None, r#"{"conflictingRequest": {"message": "task_state spawning"}}"#),
    );
    cloud.fault(Method::DELETE, "/network/v2.0/ports", Fault::Refuse(503, None, "busy"));
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_full_quota_of_floating_ips_is_a_temporary_error() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    let body = r#"{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['floatingip'].", "detail": ""}}"#;
    cloud.fault(Method::POST, "/network/v2.0/floatingips", Fault::Refuse(409, None, body));
    let request = request("lab", 30);
    let error = lab.provision(&request).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_class()),
        (ErrorKind::Exhausted, RetryClass::Temporary),
        "{error:?}"
    );
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_server_that_is_deleted_before_its_address_is_known_fails_at_once() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    cloud.world().status = "BUILD".into();
    let request = request("lab", 60);
    let vanish = async {
        while cloud.world().servers.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        {
            // The port goes first: the boot sees an ACTIVE server without a port, and then no server.
            let mut world = cloud.world();
            world.ports.clear();
            world.servers.values_mut().for_each(|server| server["status"] = json!("ACTIVE"));
        }
        while cloud.times(&Method::GET, "/network/v2.0/ports").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cloud.world().servers.clear();
    };
    let began = Instant::now();
    let (result, ()) = tokio::join!(lab.provision(&request), vanish);
    let error = result.unwrap_err();
    assert!(error.to_string().contains("somebody else deleted it") && error.is_temporary(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "long before the deadline");
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_cloud_that_keeps_deleted_servers_does_not_delay_a_release() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    let request = request("lab", 30);
    lab.provision(&request).await.unwrap();
    cloud.world().servers.values_mut().for_each(|server| server["status"] = json!("SOFT_DELETED"));
    lab.release(&request.run).await;
    let forced = cloud.world().requests.iter().any(|(_, _, path)| path.ends_with("/action"));
    assert!(forced, "it is deleted for good");
    assert_eq!(lab.journal.open().await.unwrap(), []);
}

#[tokio::test]
async fn the_catalogues_url_is_used_whatever_novas_version_document_says() {
    for document in [VersionDocument::HtmlPage, VersionDocument::UnreachableHost] {
        let cloud = FakeCloud::start().await;
        cloud.world().version_document = document;
        let lab = lab(&cloud);
        let findings = lab.provisioner.check().await;
        // This cloud has no nodes that could present a generated host key.
        let mut about_the_cloud = findings.iter().filter(|one| !one.what.contains("host_keys"));
        assert!(about_the_cloud.all(|one| one.level == Level::Ok), "{document:?}: {findings:?}");
        let request = request("lab", 30);
        lab.provision(&request).await.unwrap();
        lab.release(&request.run).await;
        nothing_is_left(&cloud, &lab).await;
        assert_eq!(cloud.times(&Method::GET, "/compute/v2.1/flavors").len(), 1, "at the first attempt");
        assert_eq!(cloud.times(&Method::GET, "/compute/v2.1/os-keypairs").len(), 1, "at the first attempt");
        let world = cloud.world();
        let discovery =
            world.requests.iter().find(|(_, _, path)| path == "/compute/v2.1" || path == "/compute");
        assert!(discovery.is_none(), "{document:?}: {discovery:?}");
    }
}

#[tokio::test]
async fn a_catalogue_url_without_a_version_gets_the_one_that_is_used() {
    let cloud = FakeCloud::start().await;
    cloud.world().versions_in_catalog = false;
    assert_eq!(lab(&cloud).provisioner.list_owned().await.unwrap(), []);
}

#[tokio::test]
async fn a_list_that_never_ends_is_read_for_a_bounded_number_of_pages() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    cloud.world().ignores_marker = true;
    lab.provisioner.check().await;
    assert!(cloud.times(&Method::GET, "/compute/v2.1/flavors").len() <= 2);
}
