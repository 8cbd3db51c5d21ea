//! A cloud that refuses, hangs, and denies what it has done: nothing is lost, doubled or leaked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what helps a test is part of it")]

mod common;
mod fake;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use pushbutton_core::{ErrorKind, Journal, Provisioner, ResourceKind, RetryClass, RunId};
use serde_json::json;

use common::{Lab, config, request};
use fake::{FakeCloud, Fault, add_server};

const SERVERS: &str = "/compute/v2.1/servers";

fn lab(cloud: &FakeCloud) -> Lab {
    lab_with(cloud, "request_timeout: 1s, settle_time: 2s")
}

fn lab_with(cloud: &FakeCloud, times: &str) -> Lab {
    let rest = format!(
        "{times}, release_timeout: 20s, \
         nodes: {{lab: {{image: noble, flavor: small, ssh_port: {}, host_keys: first-contact, floating_ip: {{network: public}}}}}}",
        cloud.ssh_port
    );
    Lab::of(config(&cloud.dir.path().join("clouds.yaml"), "fake", &rest), "acme", Arc::default())
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
async fn a_busy_cloud_is_asked_again_when_it_says_so() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    cloud.fault(Method::GET, SERVERS, Fault::Refuse(503, Some(1), "busy"));
    assert_eq!(lab.provisioner.list_owned().await.unwrap(), []);
    let asked = cloud.times(&Method::GET, SERVERS);
    assert_eq!(asked.len(), 2);
    assert!(asked[1] - asked[0] >= Duration::from_secs(1), "{:?}", asked[1] - asked[0]);
}

#[tokio::test]
async fn a_create_that_was_done_and_denied_is_adopted() {
    for fault in [Fault::DoneBut(503), Fault::DoneBut(504), Fault::Garbled, Fault::Silent] {
        for path in [SERVERS, "/network/v2.0/floatingips"] {
            let cloud = FakeCloud::start().await;
            let lab = lab(&cloud);
            cloud.fault(Method::POST, path, fault.clone());
            let request = request("lab", 30);
            let node = lab.provisioner.provision(&request).await.unwrap();
            assert_eq!(cloud.world().servers.len(), 1, "{fault:?} of {path}");
            assert_eq!(cloud.world().floating_ips.len(), 1, "{fault:?} of {path}");
            let journal = lab.journal.open().await.unwrap();
            assert!(journal.iter().any(|entry| entry.id.as_ref() == Some(&node.id)), "{journal:?}");
            assert!(journal.iter().all(|entry| entry.id.is_some()), "{journal:?}");
            lab.provisioner.release(&request.run).await.unwrap();
            nothing_is_left(&cloud, &lab).await;
        }
    }
}

#[tokio::test]
async fn a_create_that_was_refused_is_sent_again() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    cloud.fault(Method::POST, SERVERS, Fault::Refuse(429, Some(1), "slow down"));
    cloud.fault(Method::POST, SERVERS, Fault::Refuse(503, None, "busy"));
    let request = request("lab", 30);
    lab.provisioner.provision(&request).await.unwrap();
    assert_eq!(cloud.times(&Method::POST, SERVERS).len(), 3);
    assert_eq!(cloud.world().servers.len(), 1);
    lab.provisioner.release(&request.run).await.unwrap();
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_cloud_that_stays_down_is_given_up_for_now() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    for _ in 0..3 {
        cloud.fault(Method::POST, SERVERS, Fault::Refuse(500, None, "down"));
    }
    let request = request("lab", 30);
    let error = lab.provisioner.provision(&request).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Remote, RetryClass::Temporary));
    assert_eq!(lab.journal.open().await.unwrap().len(), 1, "what may have been made is remembered");
    lab.provisioner.release(&request.run).await.unwrap();
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_run_dropped_while_its_server_is_being_made_leaves_nothing() {
    let cloud = FakeCloud::start().await;
    // Nobody would wait that long for what the journal alone knows of.
    let lab = lab_with(&cloud, "request_timeout: 5s, settle_time: 100ms");
    cloud.fault(Method::POST, SERVERS, Fault::Late(Duration::from_millis(700)));
    let request = request("lab", 30);
    let provision = lab.provisioner.provision(&request);
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
    lab.provisioner.release(&request.run).await.unwrap();
    // Released before the server came to be, it would stand there now.
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
        let metadata = json!({"pushbutton_owner": "acme", "pushbutton_run": run});
        add_server(&mut cloud.world(), json!("pb-acme-x"), metadata);
    };
    let (released, ()) = tokio::join!(lab.provisioner.release(&run), appear);
    released.unwrap();
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_cloud_that_hangs_holds_nobody_for_long() {
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
async fn a_cloud_that_is_away_says_so() {
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
async fn a_revoked_token_costs_one_login_however_many_ask() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    lab.provisioner.list_owned().await.unwrap();
    assert_eq!(cloud.world().logins, 1);
    cloud.world().tokens.clear();
    let calls = (lab.provisioner.list_owned(), lab.provisioner.list_owned(), lab.provisioner.check());
    let (one, two, _) = tokio::join!(calls.0, calls.1, calls.2);
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(cloud.world().logins, 2);
}

#[tokio::test]
async fn a_new_token_from_the_second_of_the_revocation_is_replaced_too() {
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
async fn the_openstack_crates_own_calls_survive_a_revoked_token_too() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    // Images are asked for by us, flavors through the crate: the token goes in between.
    let wrong = common::request("lab", 30);
    cloud.fault(Method::GET, "/compute/v2.1/flavors", Fault::Refuse(401, None, "{}"));
    lab.provisioner.provision(&wrong).await.unwrap();
    assert_eq!(cloud.world().logins, 2);
    lab.provisioner.release(&wrong.run).await.unwrap();
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
async fn a_refused_login_is_a_permanent_error_and_not_tried_in_a_row() {
    let cloud = FakeCloud::start().await;
    cloud.world().password = "changed".into();
    let lab = lab(&cloud);
    let error = lab.provisioner.provision(&request("lab", 30)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Denied, RetryClass::Permanent));
    assert_eq!(cloud.world().logins, 1, "accounts are locked after some wrong passwords");
}

#[tokio::test]
async fn a_release_goes_on_through_odd_states_refusals_and_left_ports() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    let request = request("lab", 30);
    lab.provisioner.provision(&request).await.unwrap();
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
    lab.provisioner.release(&request.run).await.unwrap();
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn no_floating_ip_left_is_a_temporary_matter() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    let words = r#"{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['floatingip'].", "detail": ""}}"#;
    cloud.fault(Method::POST, "/network/v2.0/floatingips", Fault::Refuse(409, None, words));
    let request = request("lab", 30);
    let error = lab.provisioner.provision(&request).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_class()),
        (ErrorKind::Exhausted, RetryClass::Temporary),
        "{error:?}"
    );
    lab.provisioner.release(&request.run).await.unwrap();
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_server_that_goes_before_its_address_is_known_fails_at_once() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    cloud.world().status = "BUILD".into();
    let request = request("lab", 60);
    let vanish = async {
        while cloud.world().servers.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        {
            // Its port goes first: the boot sees an ACTIVE server that has none, and then no server.
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
    let (result, ()) = tokio::join!(lab.provisioner.provision(&request), vanish);
    let error = result.unwrap_err();
    assert!(error.to_string().contains("somebody else deleted it") && error.is_temporary(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "long before the deadline");
    lab.provisioner.release(&request.run).await.unwrap();
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_cloud_that_keeps_deleted_servers_does_not_hold_up_a_release() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud);
    let request = request("lab", 30);
    lab.provisioner.provision(&request).await.unwrap();
    cloud.world().servers.values_mut().for_each(|server| server["status"] = json!("SOFT_DELETED"));
    lab.provisioner.release(&request.run).await.unwrap();
    let forced = cloud.world().requests.iter().any(|(_, _, path)| path.ends_with("/action"));
    assert!(forced, "it is deleted for good");
    assert_eq!(lab.journal.open().await.unwrap(), []);
}
