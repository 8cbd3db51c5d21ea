//! A cloud that is away for a while, lacks an extension, or refuses for good: what can go on goes on, and the error
//! says what a person must do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what helps a test is part of it")]

mod common;
mod fake;

use std::error::Error as _;
use std::time::{Duration, Instant};

use axum::http::Method;
use pushbutton_core::check::{Check, Level};
use pushbutton_core::{Error, ErrorKind, Provisioner, ResourceKind, RetryClass};
use serde_json::json;

use common::{Lab, config, request};
use fake::{FakeCloud, Fault};

const SERVERS: &str = "/compute/v2.1/servers";
const PORTS: &str = "/network/v2.0/ports";
const FLOATING_IPS: &str = "/network/v2.0/floatingips";
const VOLUMES: &str = "/volume/v3/volumes";
const LOGINS: &str = "/identity/v3/auth/tokens";

/// A lab with one label that has these settings.
fn lab(cloud: &FakeCloud, label: &str) -> Lab {
    lab_with(cloud, &format!("{SHORT}, release_timeout: 20s"), label)
}

fn lab_with(cloud: &FakeCloud, settings: &str, label: &str) -> Lab {
    let node = format!("image: noble, flavor: small, ssh_port: {}", cloud.ssh_port);
    let rest = format!("{settings}, nodes: {{lab: {{{node}, {label}}}}}");
    Lab::of(config(&cloud.dir.path().join("clouds.yaml"), "fake", &rest), "acme")
}

const SHORT: &str = "request_timeout: 1s, create_visibility_timeout: 1s";
const PLAIN: &str = "host_keys: first-contact";

async fn nothing_is_left(cloud: &FakeCloud, lab: &Lab) {
    {
        let world = cloud.world();
        let all = [&world.servers, &world.floating_ips, &world.ports, &world.volumes];
        assert!(all.iter().all(|resources| resources.is_empty()), "{world:#?}");
    }
    assert_eq!(lab.journal.open().await.unwrap(), []);
}

/// The error of the release of a node that was booted, and on whose cloud `change` was made then.
async fn failed_release(cloud: &FakeCloud, lab: &Lab, change: impl FnOnce(&mut fake::World)) -> Error {
    let request = request("lab", 30);
    lab.provision(&request).await.unwrap();
    change(&mut cloud.world());
    lab.provisioner.release(&request.run, &lab.journal).await.unwrap_err()
}

fn is_config(error: &Error) -> bool {
    (error.kind(), error.retry_class()) == (ErrorKind::Config, RetryClass::Permanent)
}

#[tokio::test]
async fn a_neutron_without_the_router_extension_has_no_floating_ips_and_its_nodes_are_listed_and_released() {
    let cloud = FakeCloud::start().await;
    cloud.world().no_router = true;
    let lab = lab(&cloud, PLAIN);
    let request = request("lab", 30);
    lab.provision(&request).await.unwrap();
    let owned = lab.provisioner.list_owned().await.unwrap();
    assert!(owned.iter().any(|one| one.kind == ResourceKind::Server), "{owned:?}");
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
    let lab = self::lab(&cloud, &format!("{PLAIN}, floating_ip: {{network: public}}"));
    let error = lab.provision(&request).await.unwrap_err();
    assert!(is_config(&error) && error.to_string().contains("`floating_ip`"), "{error:?}");
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn check_says_that_the_user_data_of_a_label_are_too_long() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud, &format!("{PLAIN}, user_data: {{text: {}}}", "x".repeat(50_000)));
    let found = lab.provisioner.check().await;
    let fails = found.iter().filter(|one| one.level == Level::Fail).map(ToString::to_string);
    let fails = fails.collect::<Vec<_>>();
    assert!(
        fails.iter().any(|one| one.contains("nodes.lab.user_data") && one.contains("66668 bytes")),
        "{fails:?}"
    );
}

#[tokio::test]
async fn a_neutron_without_security_groups_is_a_configuration_error_of_a_label_that_names_one() {
    let cloud = FakeCloud::start().await;
    cloud.world().refuses.push((Method::GET, "/network/v2.0/security-groups", 404, ""));
    let lab = lab(
        &cloud,
        &format!("{PLAIN}, security_groups: [open], networks: [{{name: second, fixed_ips: [10.0.0.9]}}]"),
    );
    let error = lab.provision(&request("lab", 30)).await.unwrap_err();
    assert!(is_config(&error) && error.to_string().contains("no security group"), "{error:?}");
}

#[tokio::test]
async fn a_release_outlasts_an_outage_that_is_longer_than_the_retries_of_a_request() {
    for service in ["/compute", "/network", "/volume"] {
        let cloud = FakeCloud::start().await;
        let lab = lab(
            &cloud,
            &format!("{PLAIN}, data_volumes: [{{size_gb: 1}}], floating_ip: {{network: public}}"),
        );
        let request = request("lab", 30);
        lab.provision(&request).await.unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        cloud.world().down = Some((service, end));
        lab.release(&request.run).await;
        assert!(Instant::now() > end, "{service}");
        nothing_is_left(&cloud, &lab).await;
    }
}

#[tokio::test]
async fn a_release_that_runs_out_of_time_in_an_outage_names_the_last_error() {
    let cloud = FakeCloud::start().await;
    let lab = lab_with(&cloud, &format!("{SHORT}, release_timeout: 4s"), PLAIN);
    let began = Instant::now();
    let error = failed_release(&cloud, &lab, |world| {
        world.down = Some(("/compute", Instant::now() + Duration::from_secs(600)));
    })
    .await;
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::TimedOut, true), "{error:?}");
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("503 Service Unavailable"), "{cause}");
    assert!(error.to_string().contains("503 Service Unavailable"), "a log shows this line alone: {error}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_fails_while_its_host_keys_are_awaited_ends_the_boot() {
    let cloud = FakeCloud::start().await;
    // Its console never has keys.
    let lab = lab(&cloud, "host_keys: console");
    let request = request("lab", 30);
    let fail = async {
        while cloud.times(&Method::POST, "/compute/v2.1/servers/").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for server in cloud.world().servers.values_mut() {
            server["status"] = json!("ERROR");
            server["fault"] = json!({"message": "the hypervisor died", "code": 500});
        }
    };
    let (result, ()) = tokio::join!(lab.provision(&request), fail);
    let error = result.unwrap_err();
    assert_eq!(
        (error.kind(), error.people_text()),
        (ErrorKind::Remote, Some("the hypervisor died")),
        "{error:?}"
    );
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn an_outage_while_a_host_key_is_awaited_does_not_end_the_boot() {
    let cloud = FakeCloud::start().await;
    // The node's SSH server shows no key, so each look at it fails.
    let lab = lab(&cloud, "host_keys: generated");
    let request = request("lab", 12);
    let outage = async {
        while cloud.times(&Method::GET, PORTS).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cloud.world().down = Some(("/compute", Instant::now() + Duration::from_secs(600)));
    };
    let (result, ()) = tokio::join!(lab.provision(&request), outage);
    let error = result.unwrap_err();
    let waited_for = error.context("waited_for").unwrap_or_default();
    assert!(waited_for.contains("to present the host key"), "it went on until its deadline: {error:?}");
    cloud.world().down = None;
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn what_the_cloud_refuses_to_delete_is_shown_with_its_state_and_the_refusal() {
    let in_error = "Invalid volume: Volume status must be available or error or error_restoring.";
    let body = r#"{"badRequest": {"code": 400, "message": "Invalid volume: Volume status must be available or error or error_restoring."}}"#;
    let cloud = FakeCloud::start().await;
    let lab = lab_with(
        &cloud,
        &format!("{SHORT}, release_timeout: 2s"),
        &format!("{PLAIN}, data_volumes: [{{size_gb: 1}}]"),
    );
    let error = failed_release(&cloud, &lab, |world| {
        world.volumes.values_mut().for_each(|volume| volume["status"] = json!("error_deleting"));
        world.refuses.push((Method::DELETE, VOLUMES, 400, body));
    })
    .await;
    let text = error.to_string();
    assert!(error.context("left").unwrap_or_default().contains("(error_deleting)"), "{text}");
    assert!(text.contains("an administrator must reset its state or force-delete it"), "{text}");
    assert!(text.contains(in_error) && error.source().unwrap().to_string().contains(in_error), "{error:?}");

    // Beside a volume whose deletion is accepted, and takes long.
    let cloud = FakeCloud::start().await;
    let volumes = "data_volumes: [{size_gb: 1}, {size_gb: 1}]";
    let lab = lab_with(&cloud, &format!("{SHORT}, release_timeout: 2s"), &format!("{PLAIN}, {volumes}"));
    let error = failed_release(&cloud, &lab, |world| {
        world.refuses.push((Method::DELETE, "/volume/v3/volumes/volume-1", 400, body));
        world.refuses.push((Method::DELETE, "/volume/v3/volumes/volume-2", 202, ""));
    })
    .await;
    assert!(error.to_string().contains(in_error), "{error}");

    let locked = r#"{"conflictingRequest": {"code": 409, "message": "Instance server-1 is locked"}}"#;
    let cloud = FakeCloud::start().await;
    let lab = lab_with(&cloud, &format!("{SHORT}, release_timeout: 2s"), PLAIN);
    let error =
        failed_release(&cloud, &lab, |world| world.refuses.push((Method::DELETE, SERVERS, 409, locked)))
            .await;
    let text = error.to_string();
    assert!(error.context("left").unwrap_or_default().contains("(ACTIVE)"), "{text}");
    assert!(text.contains("Instance server-1 is locked") && !text.contains("administrator"), "{text}");
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::TimedOut, true));
}

#[tokio::test]
async fn a_release_that_waits_for_a_create_has_one_time_limit_for_both() {
    let cloud = FakeCloud::start().await;
    let times = "request_timeout: 9s, create_visibility_timeout: 100ms, release_timeout: 3s";
    let lab = lab_with(&cloud, times, PLAIN);
    for _ in 0..20 {
        cloud.fault(Method::GET, SERVERS, Fault::Silent);
    }
    cloud.fault(Method::POST, SERVERS, Fault::Late(Duration::from_secs(2)));
    let request = request("lab", 30);
    let sent = async {
        while cloud.times(&Method::POST, SERVERS).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        node = lab.provision(&request) => panic!("too early for {node:?}"),
        () = sent => {}
    }
    let began = Instant::now();
    let error = lab.provisioner.release(&request.run, &lab.journal).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_cloud_that_accepts_the_rotated_credentials_of_clouds_yaml_needs_no_restart() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud, PLAIN);
    lab.provisioner.list_owned().await.unwrap();
    cloud.world().password = "rotated".into();
    cloud.world().tokens.clear();
    let error = lab.provisioner.list_owned().await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Denied, RetryClass::Permanent));
    assert!(error.affects_all_jobs());
    cloud.write_password("rotated");
    assert_eq!(lab.provisioner.list_owned().await.unwrap(), []);
}

#[tokio::test]
async fn a_clouds_yaml_that_cannot_be_read_does_not_end_a_login_that_works() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud, PLAIN);
    lab.provisioner.list_owned().await.unwrap();
    cloud.world().tokens.clear();
    std::fs::write(cloud.dir.path().join("clouds.yaml"), "clouds: {").unwrap();
    assert_eq!(lab.provisioner.list_owned().await.unwrap(), []);
    assert_eq!(cloud.world().logins, 2);
}

/// In another project nothing of this installation would be found, and everything would count as deleted.
#[tokio::test]
async fn a_login_to_another_project_than_at_first_is_refused() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud, PLAIN);
    let request = request("lab", 30);
    lab.provision(&request).await.unwrap();
    {
        let mut world = cloud.world();
        world.tokens.clear();
        world.project = "p2".into();
    }
    let error = lab.provisioner.release(&request.run, &lab.journal).await.unwrap_err();
    assert!(is_config(&error) && error.to_string().contains("p2") && error.affects_all_jobs(), "{error:?}");
    assert_eq!(cloud.world().servers.len(), 1);
}

#[tokio::test]
async fn a_cloud_whose_endpoint_is_missing_affects_all_jobs() {
    let cloud = FakeCloud::start().await;
    cloud.world().regions = vec![("compute", vec![])];
    let error = lab(&cloud, PLAIN).provision(&request("lab", 30)).await.unwrap_err();
    assert!(is_config(&error) && error.affects_all_jobs(), "{error:?}");
    cloud.world().regions = vec![("volumev3", vec![])];
    let lab = lab(&cloud, &format!("{PLAIN}, data_volumes: [{size}]", size = "{size_gb: 1}"));
    let error = lab.provision(&request("lab", 30)).await.unwrap_err();
    assert!(is_config(&error) && !error.affects_all_jobs(), "labels without volumes have nodes: {error:?}");
}

#[tokio::test]
async fn a_request_that_is_forbidden_does_not_affect_all_jobs() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud, PLAIN);
    let forbidden = r#"{"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:servers:create to be performed."}}"#;
    cloud.world().refuses.push((Method::POST, SERVERS, 403, forbidden));
    let error = lab.provision(&request("lab", 30)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Denied, RetryClass::Permanent), "{error:?}");
    assert!(!error.affects_all_jobs());
}

#[tokio::test]
async fn the_availability_zone_of_a_volume_is_sent_as_it_is() {
    let cloud = FakeCloud::start().await;
    let lab = lab(
        &cloud,
        &format!(
            "{PLAIN}, boot_from_volume: {{size_gb: 1, availability_zone: rack 7}}, data_volumes: [{{size_gb: 1}}, {{size_gb: 1, availability_zone: nova}}]"
        ),
    );
    lab.provision(&request("lab", 30)).await.unwrap();
    let world = cloud.world();
    let zone = |size: usize| {
        world.bodies.iter().filter(|(path, _)| path == VOLUMES).nth(size).unwrap().1["volume"]["availability_zone"].clone()
    };
    assert_eq!([zone(0), zone(1), zone(2)], [json!(null), json!("nova"), json!("rack 7")]);
}

#[tokio::test]
async fn a_floating_ip_for_a_node_without_an_ipv4_address_is_a_configuration_error() {
    let cloud = FakeCloud::start().await;
    cloud.world().addresses = vec!["2001:db8::7"];
    let lab = lab(&cloud, &format!("{PLAIN}, floating_ip: {{network: public}}"));
    let request = request("lab", 20);
    let error = lab.provision(&request).await.unwrap_err();
    assert!(is_config(&error) && error.to_string().contains("2001:db8::7"), "{error:?}");
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_floating_ip_names_the_fixed_address_where_the_port_has_several() {
    for (addresses, sent) in [
        (vec!["2001:db8::7", "127.0.0.1", "127.0.0.2"], json!("127.0.0.1")),
        (vec!["2001:db8::7", "127.0.0.1"], json!(null)),
    ] {
        let cloud = FakeCloud::start().await;
        cloud.world().addresses = addresses;
        let lab = lab(&cloud, &format!("{PLAIN}, floating_ip: {{network: public}}"));
        lab.provision(&request("lab", 20)).await.unwrap();
        assert_eq!(cloud.body(FLOATING_IPS)["floatingip"]["fixed_ip_address"], sent);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_error_names_the_key_to_fix() {
    for (method, path, key) in
        [(Method::GET, SERVERS, "compute_endpoint_override"), (Method::POST, LOGINS, "auth.auth_url")]
    {
        let cloud = FakeCloud::start().await;
        let lab = lab(&cloud, PLAIN);
        let location = format!("{}/elsewhere?secret=hush", cloud.base);
        cloud.fault(method, path, Fault::Redirect(302, location));
        let error = lab.provisioner.list_owned().await.unwrap_err();
        let text = error.to_string();
        assert!(is_config(&error) && error.affects_all_jobs(), "{path}: {error:?}");
        assert!(
            text.contains("/elsewhere") && text.contains(key) && !text.contains("hush"),
            "{path}: {text}"
        );
        let followed = cloud.world().requests.iter().any(|(_, _, path)| path == "/elsewhere");
        assert!(!followed, "{path}: the token would go to another host");
    }
}
