//! What people have reported of their clouds, each on a fake cloud.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what helps a test is part of it")]

mod common;
mod fake;

use std::time::{Duration, Instant};

use axum::http::Method;
use pushbutton_core::check::Check;
use pushbutton_core::{ErrorKind, Journal, Provisioner, ResourceKind, RetryClass};
use serde_json::json;

use common::{Lab, config, request};
use fake::{FakeCloud, Fault};

const SERVERS: &str = "/compute/v2.1/servers";
const PORTS: &str = "/network/v2.0/ports";
const VOLUMES: &str = "/volume/v3/volumes";

/// A lab with one label that has these settings.
fn lab(cloud: &FakeCloud, label: &str) -> Lab {
    lab_with(cloud, "create_visibility_timeout: 2s", label)
}

fn lab_with(cloud: &FakeCloud, settings: &str, label: &str) -> Lab {
    let node = format!("image: noble, flavor: small, ssh_port: {}, host_keys: first-contact", cloud.ssh_port);
    let rest =
        format!("request_timeout: 3s, release_timeout: 20s, {settings}, nodes: {{lab: {{{node}, {label}}}}}");
    Lab::of(config(&cloud.dir.path().join("clouds.yaml"), "fake", &rest), "acme")
}

async fn nothing_is_left(cloud: &FakeCloud, lab: &Lab) {
    {
        let world = cloud.world();
        let all = [&world.servers, &world.floating_ips, &world.ports, &world.volumes];
        assert!(all.iter().all(|resources| resources.is_empty()), "{world:#?}");
    }
    assert_eq!(lab.journal.open().await.unwrap(), []);
}

/// Boots a node of the label, and returns its address.
async fn boot(cloud: &FakeCloud, label: &str) -> String {
    let lab = lab(cloud, label);
    let request = request("lab", 30);
    let node = lab.provision(&request).await.unwrap();
    lab.release(&request.run).await;
    nothing_is_left(cloud, &lab).await;
    node.address
}

#[tokio::test]
async fn report_7_v6_no_room_at_each_create_is_a_temporary_error_of_that_kind() {
    let ports = r#"{"forbidden": {"message": "Maximum number of ports exceeded", "code": 403}}"#;
    let neutron = r#"{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['port'].", "detail": ""}}"#;
    let external = r#"{"NeutronError": {"type": "ExternalIpAddressExhausted", "message": "Unable to find any IP address on external network n1.", "detail": ""}}"#;
    let cinder = r#"{"overLimit": {"code": 413, "message": "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 1G, quota is 10G and 10G has been consumed."}}"#;
    for (path, status, body) in [
        (SERVERS, 403, ports),
        (PORTS, 409, neutron),
        ("/network/v2.0/floatingips", 400, external),
        (VOLUMES, 413, cinder),
    ] {
        let cloud = FakeCloud::start().await;
        let lab = lab(
            &cloud,
            "networks: [{name: second, port_security_enabled: false}], data_volumes: [{size_gb: 1}], floating_ip: {network: public}",
        );
        cloud.fault(Method::POST, path, Fault::Refuse(status, None, body));
        let request = request("lab", 30);
        let error = lab.provision(&request).await.unwrap_err();
        let found = (error.kind(), error.retry_class());
        assert_eq!(found, (ErrorKind::Exhausted, RetryClass::Temporary), "{path}: {error:?}");
        lab.release(&request.run).await;
        nothing_is_left(&cloud, &lab).await;
    }
}

#[tokio::test]
async fn v6_no_room_for_a_server_or_a_volume_that_was_accepted_is_of_the_same_kind() {
    let full = "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances";
    let broken = "Build of instance 9c aborted: Failed to allocate the network(s), not rescheduling.";
    for (fault, kind) in [(full, ErrorKind::Exhausted), (broken, ErrorKind::Remote)] {
        let cloud = FakeCloud::start().await;
        let lab = lab(&cloud, "user: root");
        cloud.world().status = "BUILD".into();
        let request = request("lab", 30);
        let fail = async {
            while cloud.world().servers.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            for server in cloud.world().servers.values_mut() {
                server["status"] = json!("ERROR");
                server["fault"] = json!({"message": fault, "code": 500});
            }
        };
        let (result, ()) = tokio::join!(lab.provision(&request), fail);
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary(), error.people_text()), (kind, true, Some(fault)));
        lab.release(&request.run).await;
        nothing_is_left(&cloud, &lab).await;
    }
    for (message, kind) in [
        ("schedule allocate volume:Could not find any available weighted backend.", ErrorKind::Exhausted),
        ("copy image to volume:An unknown error occurred.", ErrorKind::Remote),
    ] {
        let cloud = FakeCloud::start().await;
        let lab = lab(&cloud, "boot_from_volume: {size_gb: 1}");
        cloud.world().volume_status = "error";
        cloud.world().volume_message = message;
        let request = request("lab", 30);
        let error = lab.provision(&request).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary(), error.people_text()), (kind, true, Some(message)));
        lab.release(&request.run).await;
        nothing_is_left(&cloud, &lab).await;
    }
}

/// V6: twelve nodes with four boot slots must not run into their deadlines because others boot first.
#[tokio::test]
async fn v6_the_deadline_of_a_boot_starts_with_the_boot() {
    let cloud = FakeCloud::start().await;
    let lab = lab_with(&cloud, "parallel_boots: 1", "user: root");
    for _ in 0..3 {
        cloud.fault(Method::POST, SERVERS, Fault::Late(Duration::from_millis(1500)));
    }
    let requests = [request("lab", 3), request("lab", 3), request("lab", 3)];
    let began = Instant::now();
    let [one, two, three] = &requests;
    let (one, two, three) = tokio::join!(lab.provision(one), lab.provision(two), lab.provision(three));
    assert!(one.is_ok() && two.is_ok() && three.is_ok(), "{one:?} {two:?} {three:?}");
    assert!(began.elapsed() > Duration::from_secs(4), "one after the other");
    // A boot still has its own deadline.
    cloud.fault(Method::POST, SERVERS, Fault::Late(Duration::from_millis(1500)));
    let late = request("lab", 1);
    assert_eq!(lab.provision(&late).await.unwrap_err().kind(), ErrorKind::TimedOut);
    for request in requests.iter().chain([&late]) {
        lab.release(&request.run).await;
    }
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn v7_of_several_images_the_newest_is_booted_and_an_unfinished_one_is_a_temporary_error() {
    let cloud = FakeCloud::start().await;
    let image = |id, status, day| json!({"id": id, "name": "noble", "status": status, "created_at": format!("2026-11-{day}T02:00:00Z")});
    cloud.world().images =
        json!([image("old", "active", 24), image("new", "active", 25), image("next", "saving", 26)]);
    boot(&cloud, "user: root").await;
    assert_eq!(cloud.body(SERVERS)["server"]["imageRef"], "new");
    cloud.world().images = json!([image("next", "saving", 26)]);
    let error = lab(&cloud, "user: root").provision(&request("lab", 5)).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("still being uploaded"), "{error}");
}

#[tokio::test]
async fn report_8_the_first_of_the_regions_is_used_or_one_must_be_named() {
    let cloud = FakeCloud::start().await;
    let both = ["central-2", "central-1"];
    cloud.world().regions = vec![
        ("compute", both.to_vec()),
        ("network", vec!["central-1", "central-2"]),
        ("image", vec!["central-1", "central-2"]),
        ("volumev3", both.to_vec()),
    ];
    let error = lab(&cloud, "user: root").provision(&request("lab", 5)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Config, RetryClass::Permanent));
    assert!(error.to_string().contains("several regions (central-1, central-2)"), "{error}");
    let findings = lab(&cloud, "user: root").provisioner.check().await;
    assert!(findings.iter().any(|one| one.to_string().contains("several regions")), "{findings:?}");

    cloud.write_entry("regions: [central-1, central-2]");
    boot(&cloud, "user: root").await;
    cloud.write_entry("regions: [{name: central-9, values: {}}, central-2]");
    let error = lab(&cloud, "user: root").provision(&request("lab", 5)).await.unwrap_err();
    assert!(error.to_string().contains("region central-9, there is one in central-1, central-2"), "{error}");
    let lab = lab_with(&cloud, "region: central-2", "user: root");
    assert_eq!(lab.provisioner.list_owned().await.unwrap(), []);
}

/// Report 10: 127.0.0.2 stands for an IPv4 address that is not routed.
#[tokio::test]
async fn report_10_the_address_that_can_be_reached_is_used() {
    let (dead, alive) = ("127.0.0.2", "::ffff:127.0.0.1");
    let cloud = FakeCloud::start().await;
    cloud.world().addresses = vec![dead, alive];
    let network = |flags: &str| format!("networks: [{{name: public, {flags}}}]");
    cloud.write_entry(&network("routes_externally: false, routes_ipv6_externally: true"));
    assert_eq!(boot(&cloud, "networks: [public]").await, alive, "by its flags");
    cloud.write_entry("interface: public");
    assert_eq!(boot(&cloud, "networks: [public]").await, alive, "the first that answers");
    assert_eq!(boot(&cloud, "networks: [public], address: ipv6").await, alive, "by the label");
    cloud.write_entry(&network("routes_externally: true, routes_ipv6_externally: false"));
    let lab = lab(&cloud, "networks: [public]");
    let request = request("lab", 2);
    let error = lab.provision(&request).await.unwrap_err();
    assert_eq!(error.context("waited_for"), Some("the node to answer SSH"), "the flags are obeyed: {error}");
    lab.release(&request.run).await;
    cloud.write_entry("interface: public");
    let fixed = boot(&cloud, "networks: [public], floating_ip: {network: public}, address: ipv6").await;
    assert_eq!(fixed, alive, "beside a floating IP");
}

#[tokio::test]
async fn report_10_default_interface_is_the_network_of_a_label_without_networks() {
    let cloud = FakeCloud::start().await;
    cloud.write_entry(
        "networks: [{name: gone, default_interface: false}, {name: second, default_interface: true}]",
    );
    boot(&cloud, "user: root").await;
    assert_eq!(cloud.body(SERVERS)["server"]["networks"], json!([{"uuid": "n2"}]));
    boot(&cloud, "networks: [third, second]").await;
}

#[tokio::test]
async fn report_13_config_drive_hints_and_groups_are_sent() {
    let cloud = FakeCloud::start().await;
    boot(&cloud, "config_drive: true, server_group: apart, scheduler_hints: {different_host: [a, b], build_near_host_ip: 10.0.0.1}").await;
    let body = cloud.body(SERVERS);
    assert_eq!(body["server"]["config_drive"], true);
    let hints = json!({"group": "sg1", "different_host": ["a", "b"], "build_near_host_ip": "10.0.0.1"});
    assert_eq!(body["os:scheduler_hints"], hints);
    let cloud = FakeCloud::start().await;
    boot(&cloud, "user: root").await;
    let body = cloud.body(SERVERS);
    assert!(body["server"].get("config_drive").is_none() && body.get("os:scheduler_hints").is_none());
}

/// Backends 4.1, item 7.
#[tokio::test]
async fn ports_with_options_and_data_volumes_are_created_tagged_and_released() {
    let cloud = FakeCloud::start().await;
    let lab = lab(
        &cloud,
        "security_groups: [open], data_volumes: [{size_gb: 1}, {size_gb: 2, type: fast}], networks: [public, \
         {name: second, fixed_ips: [10.0.0.9], allowed_address_pairs: [10.1.0.0/16]}, {name: third, port_security_enabled: false}]",
    );
    let request = request("lab", 30);
    lab.provision(&request).await.unwrap();
    let owned = lab.provisioner.list_owned().await.unwrap();
    let of =
        |kind| owned.iter().filter(|one| one.kind == kind && one.run.as_ref() == Some(&request.run)).count();
    assert_eq!((of(ResourceKind::Port), of(ResourceKind::Volume)), (3, 2), "{owned:?}");
    {
        let world = cloud.world();
        let made: Vec<_> =
            world.bodies.iter().filter(|(path, _)| path == PORTS).map(|(_, body)| &body["port"]).collect();
        assert_eq!(made[0]["fixed_ips"], json!([{"ip_address": "10.0.0.9"}]));
        assert_eq!(made[0]["allowed_address_pairs"], json!([{"ip_address": "10.1.0.0/16"}]));
        assert_eq!((&made[0]["network_id"], &made[0]["security_groups"]), (&json!("n2"), &json!(["g1"])));
        assert_eq!(
            (&made[1]["port_security_enabled"], &made[1]["security_groups"]),
            (&json!(false), &json!([]))
        );
    }
    let server = cloud.body(SERVERS)["server"].clone();
    let networks = server["networks"].as_array().unwrap();
    assert!(
        networks[0]["uuid"] == "n1" && networks[1]["port"].is_string() && networks[2]["port"].is_string()
    );
    let devices = server["block_device_mapping_v2"].as_array().unwrap();
    let of_devices: Vec<_> = devices
        .iter()
        .map(|one| (one["boot_index"].as_i64().unwrap(), one["source_type"].as_str().unwrap()))
        .collect();
    assert_eq!(of_devices, [(0, "image"), (-1, "volume"), (-1, "volume")]);
    let other = Lab::in_installation(
        config(&cloud.dir.path().join("clouds.yaml"), "fake", "nodes: {a: {image: i, flavor: f}}"),
        "acme",
        lab.installation.clone(),
    );
    other.release(&request.run).await;
    assert!(cloud.world().ports.is_empty(), "by their tags alone");
    assert!(cloud.world().volumes.is_empty(), "by their tags alone");
    lab.release(&request.run).await;
    nothing_is_left(&cloud, &lab).await;
}

/// Of two volumes of a run, a lost reply must not be taken for the other.
#[tokio::test]
async fn a_lost_reply_for_one_of_several_ports_and_volumes_is_found_by_its_name() {
    for path in [PORTS, VOLUMES] {
        for fault in [Fault::DoneBut(503), Fault::Garbled] {
            let cloud = FakeCloud::start().await;
            let lab = lab(
                &cloud,
                "data_volumes: [{size_gb: 1}, {size_gb: 2}], networks: [{name: public, port_security_enabled: false}, {name: second, port_security_enabled: false}]",
            );
            // The first is created, and the reply to the second is lost.
            cloud.fault(Method::POST, path, Fault::Late(Duration::ZERO));
            cloud.fault(Method::POST, path, fault.clone());
            let request = request("lab", 30);
            lab.provision(&request).await.unwrap();
            let count = |world: &fake::World| (world.ports.len(), world.volumes.len());
            let there = count(&cloud.world());
            assert_eq!(there, (2, 2), "{fault:?} of {path}");
            lab.release(&request.run).await;
            nothing_is_left(&cloud, &lab).await;
        }
    }
}

/// The journal of a process that died between two volumes: the second may still appear although the first is deleted.
#[tokio::test]
async fn a_second_volume_that_appears_after_its_process_died_is_found_by_the_journal() {
    let cloud = FakeCloud::start().await;
    let lab = lab(&cloud, "data_volumes: [{size_gb: 1}, {size_gb: 1}]");
    let run = pushbutton_core::RunId::generate();
    let metadata = json!({
        "pushbutton_owner": "acme", "pushbutton_installation": lab.installation, "pushbutton_run": run,
    });
    let volume =
        |name: &str| json!({"id": name, "name": name, "status": "available", "metadata": metadata.clone()});
    for name in ["pb-data0", "pb-data1"] {
        lab.journal.intend(&run, ResourceKind::Volume, name).await.unwrap();
    }
    cloud.world().volumes.insert("pb-data0".into(), volume("pb-data0"));
    let appear = async {
        while !cloud.world().volumes.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cloud.world().volumes.insert("pb-data1".into(), volume("pb-data1"));
    };
    tokio::join!(lab.release(&run), appear);
    nothing_is_left(&cloud, &lab).await;
}

#[tokio::test]
async fn a_services_own_endpoint_is_used_with_the_project_in_it() {
    let cloud = FakeCloud::start().await;
    let base = cloud.base.clone();
    cloud.write_entry(&format!("compute_endpoint_override: '{base}/nova/v2.1/%(project_id)s'"));
    lab(&cloud, "user: root").provisioner.list_owned().await.unwrap_err();
    assert_eq!(cloud.times(&Method::GET, "/nova/v2.1/p1/servers/detail").len(), 1);
}
