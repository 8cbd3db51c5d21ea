//! What the conformance suite does not cover, on a real OpenStack.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what helps a test is part of it")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pushbutton_core::check::{Check, Level};
use pushbutton_core::memory::{MemoryJournal, MemoryQueue, MemoryReporter};
use pushbutton_core::{
    BreakerState, CancellationToken, ErrorKind, Executor, JobSpec, Journal, LineSink, LogLocation,
    NoRoomPolicy, Node, Operator, Provisioner, Queue, ResourceKind, Result, RetryClass, Shutdown, Stage,
    StageContext, StageOutcome, StageStatus, Sweeper, Update, UpdateKind, Verdict, async_trait, samples,
};
use pushbutton_testbed::openstack;
use serde_json::json;

use common::{Lab, config, owner, request};

/// A label that boots.
const TINY: &str = "image: tiny, flavor: m1.tiny, networks: [private]";

fn nodes(label: &str) -> String {
    format!("nodes: {{lab: {{{label}}}}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_every_option_of_a_label() {
    let cloud = openstack();
    let key = cloud.keypair(&owner("full"));
    let label = format!(
        "{TINY}, key_name: {}, key_file: {}, user: debian, floating_ip: {{network: public}}, security_groups: [default], \
         availability_zone: nova, user_data: {{text: '#cloud-config'}}, boot_from_volume: {{size_gb: 1}}, \
         metadata: {{team: storage}}, host_keys: console, vars: {{ansible_python_interpreter: /usr/bin/python3}}",
        key.name,
        key.private_key.display()
    );
    let lab = Lab::new(&cloud, "full", &nodes(&label));
    let request = request("lab", 120);
    let node = lab.provision(&request).await.unwrap();
    assert!(node.address.starts_with("10.98."), "a floating address: {}", node.address);
    assert!(node.host_keys.iter().any(|key| key.starts_with("ssh-ed25519 AAAA")), "{:?}", node.host_keys);
    let whoami = tokio::process::Command::new("ssh")
        .args(["-i", &key.private_key.display().to_string(), "-o", "BatchMode=yes"])
        .args(["-o", "StrictHostKeyChecking=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", known_hosts(&key, &node).display()))
        .args([&format!("{}@{}", node.user, node.address), "whoami"])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&whoami.stdout).trim(), "debian", "{whoami:?}");

    let server = cloud.list_servers().into_iter().find(|server| server.id == node.id).unwrap();
    assert_eq!((server.metadata["team"].as_str(), &server.name), ("storage", &node.name));
    let mut owned = lab.provisioner.list_owned().await.unwrap();
    owned.sort_by_key(|one| one.kind);
    let kinds: Vec<_> = owned.iter().map(|one| one.kind).collect();
    assert_eq!(
        kinds,
        [ResourceKind::Server, ResourceKind::FloatingIp, ResourceKind::Port, ResourceKind::Volume]
    );
    assert!(
        owned.iter().all(|one| one.run.as_ref() == Some(&request.run) && one.created.is_some()),
        "{owned:?}"
    );

    lab.release(&request.run).await;
    lab.has_left_nothing(&cloud).await;
}

fn known_hosts(key: &pushbutton_testbed::Keypair<'_>, node: &pushbutton_core::Node) -> std::path::PathBuf {
    let path = key.folder().join("known_hosts");
    let lines: Vec<_> = node.host_keys.iter().map(|key| format!("{} {key}\n", node.address)).collect();
    std::fs::write(&path, lines.concat()).unwrap();
    path
}

/// Report 13, and backends 4.1, item 7: what a label can ask of Nova, Neutron and Cinder is what they then have.
#[tokio::test(flavor = "multi_thread")]
async fn report_13_config_drive_ports_data_volumes_and_a_server_group() {
    let cloud = openstack();
    let group = owner("apart");
    let body = json!({"server_group": {"name": group, "policies": ["anti-affinity"]}});
    let created = cloud.request("POST", "compute", "/os-server-groups", Some(&body));
    let group_id = created["server_group"]["id"].as_str().unwrap().to_owned();
    let label = format!(
        "image: tiny, flavor: m1.tiny, config_drive: true, server_group: {group}, scheduler_hints: {{reservation: none}}, \
         security_groups: [default], data_volumes: [{{size_gb: 1}}, {{size_gb: 2}}], \
         networks: [{{name: private, allowed_address_pairs: [10.77.0.0/24]}}], floating_ip: {{network: public}}"
    );
    let lab = Lab::new(&cloud, "options", &nodes(&label));
    let findings = lab.provisioner.check().await;
    let group_found = findings.iter().find(|one| one.what.starts_with("nodes.lab.server_group: "));
    assert_eq!(group_found.map(|one| one.level), Some(Level::Ok), "{findings:?}");
    assert!(findings.iter().any(|one| one.what.starts_with("quota of GiB of volumes: ")), "{findings:?}");
    let request = request("lab", 120);
    let node = lab.provision(&request).await.unwrap();

    let server = cloud.request("GET", "compute", &format!("/servers/{}", node.id), None);
    assert_eq!(server["server"]["config_drive"], "True");
    let attached = server["server"]["os-extended-volumes:volumes_attached"].as_array().unwrap();
    assert_eq!(attached.len(), 2, "{server}");
    let members = cloud.request("GET", "compute", &format!("/os-server-groups/{group_id}"), None);
    assert_eq!(members["server_group"]["members"], json!([node.id]));
    let ports = cloud.request("GET", "network", &format!("/v2.0/ports?device_id={}", node.id), None);
    let port = &ports["ports"][0];
    assert_eq!(port["allowed_address_pairs"][0]["ip_address"], "10.77.0.0/24", "{port}");
    assert!(port["description"].as_str().unwrap().starts_with("pushbutton owner="), "{port}");

    let owned = lab.provisioner.list_owned().await.unwrap();
    let count =
        |kind| owned.iter().filter(|one| one.kind == kind && one.run.as_ref() == Some(&request.run)).count();
    assert_eq!((count(ResourceKind::Port), count(ResourceKind::Volume), owned.len()), (1, 2, 5), "{owned:?}");
    // Another process, without the journal.
    let config = config(&cloud.clouds_yaml, &cloud.cloud, &nodes(TINY));
    let other = Lab::in_installation(config, &lab.owner, lab.installation.clone());
    other.release(&request.run).await;
    assert_eq!(other.provisioner.list_owned().await.unwrap(), []);
    let left =
        cloud.request("GET", "network", &format!("/v2.0/ports?id={}", port["id"].as_str().unwrap()), None);
    assert_eq!(left["ports"], json!([]), "Nova leaves the ports that it did not create");
    lab.release(&request.run).await;
    lab.has_left_nothing(&cloud).await;
    cloud.request("DELETE", "compute", &format!("/os-server-groups/{group_id}"), None);
}

/// A fixed address that another node has is no room, not a fault of the configuration.
#[tokio::test(flavor = "multi_thread")]
async fn v6_a_fixed_address_is_used_by_one_node_at_a_time() {
    let cloud = openstack();
    let subnets = cloud.request("GET", "network", "/v2.0/subnets?name=private", None);
    let subnets = match subnets["subnets"].as_array() {
        Some(list) if !list.is_empty() => subnets,
        _ => cloud.request("GET", "network", "/v2.0/subnets", None),
    };
    let networks = cloud.request("GET", "network", "/v2.0/networks?name=private", None);
    let private = &networks["networks"][0]["id"];
    let subnet =
        subnets["subnets"].as_array().unwrap().iter().find(|one| one["network_id"] == *private).unwrap();
    // The last of the pool: Neutron gives the first ones to others.
    let address = subnet["allocation_pools"][0]["end"].as_str().unwrap();
    let label =
        format!("image: tiny, flavor: m1.tiny, networks: [{{name: private, fixed_ips: [{address}]}}]");
    let (one, other) = (Lab::new(&cloud, "fixed", &nodes(&label)), Lab::new(&cloud, "fixed", &nodes(&label)));
    let (mine, theirs) = (request("lab", 120), request("lab", 120));
    assert_eq!(one.provision(&mine).await.unwrap().address, address);
    let error = other.provision(&theirs).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_class()),
        (ErrorKind::Exhausted, RetryClass::Temporary),
        "{error:?}"
    );
    other.release(&theirs.run).await;
    other.has_left_nothing(&cloud).await;
    one.release(&mine.run).await;
    one.has_left_nothing(&cloud).await;
}

/// V6, as Neutron and Cinder themselves say it.
#[tokio::test(flavor = "multi_thread")]
async fn v6_full_quotas_of_ports_volumes_and_back_ends_are_no_room() {
    let cloud = openstack();
    let tenant = Tenant::new(&cloud, "full");
    let network = tenant.name.as_str();
    tenant.admin(&["network", "create", "--project", &tenant.name, network]);
    tenant.admin(&[
        "subnet",
        "create",
        "--project",
        &tenant.name,
        "--network",
        network,
        "--subnet-range",
        "10.66.0.0/24",
        network,
    ]);
    tenant.admin(&["quota", "set", "--ports", "0", "--volumes", "1", "--gigabytes", "1000", &tenant.name]);
    let ports = format!("networks: [{{name: {network}, allowed_address_pairs: [10.77.0.0/24]}}]");
    for (label, says) in [
        (ports.as_str(), "Quota exceeded for resources: ['port']"),
        ("data_volumes: [{size_gb: 1}, {size_gb: 1}]", "Maximum number of volumes allowed"),
        ("data_volumes: [{size_gb: 1001}]", "exceeds allowed gigabytes quota"),
        // The quota allows it, the back end has less.
        ("boot_from_volume: {size_gb: 900}", "the cloud has no room for the volume"),
    ] {
        let lab = tenant.lab(&format!("image: tiny, flavor: m1.tiny, {label}"));
        let request = request("lab", 60);
        let error = lab.provision(&request).await.unwrap_err();
        let found = (error.kind(), error.retry_class());
        assert_eq!(found, (ErrorKind::Exhausted, RetryClass::Temporary), "{label}: {error:?}");
        assert!(error.to_string().contains(says), "{label}: {error}");
        lab.release(&request.run).await;
        assert_eq!(lab.provisioner.list_owned().await.unwrap(), []);
    }
    tenant.admin(&["network", "delete", network]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flavor_that_fits_no_host_fails_fast_with_novas_message() {
    let cloud = openstack();
    let lab = Lab::new(&cloud, "huge", &nodes("image: tiny, flavor: m1.huge, networks: [private]"));
    let request = request("lab", 120);
    let began = Instant::now();
    let error = lab.provision(&request).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Exhausted, RetryClass::Temporary));
    assert!(error.people_text().unwrap().starts_with("No valid host was found"), "{error}");
    assert_ne!(lab.on(&cloud), [""; 0], "the server in ERROR is there until the release");
    lab.release(&request.run).await;
    lab.has_left_nothing(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_are_permanent_errors_with_a_suggestion() {
    let cloud = openstack();
    for (label, says) in [
        ("image: tinny, flavor: m1.tiny", "no image \"tinny\": did you mean tiny?"),
        ("image: tiny, flavor: gpu", "no flavor \"gpu\": there are m1."),
        ("image: tiny, flavor: m1.tiny, networks: [privat]", "did you mean private?"),
        ("image: tiny, flavor: m1.tiny, key_name: nobodys", "no key pair \"nobodys\""),
        (
            "image: tiny, flavor: m1.tiny, networks: [private], availability_zone: mars",
            "no availability zone \"mars\": there are ",
        ),
    ] {
        let lab = Lab::new(&cloud, "unknown", &nodes(label));
        let request = request("lab", 60);
        let error = lab.provision(&request).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry_class()),
            (ErrorKind::Config, RetryClass::Permanent),
            "{error:?}"
        );
        assert!(error.to_string().contains(says), "{error}");
        lab.release(&request.run).await;
        lab.has_left_nothing(&cloud).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_answers_fails_at_the_deadline_and_its_console_is_kept() {
    let cloud = openstack();
    let key = cloud.keypair(&owner("mute"));
    let consoles = tempfile::tempdir().unwrap();
    // The testbed ignores security groups; a port without a listener looks like a blocked one.
    let label = format!("{TINY}, key_name: {}, ssh_port: 2222", key.name);
    let rest = format!("console_dir: {}, {}", consoles.path().display(), nodes(&label));
    let lab = Lab::new(&cloud, "mute", &rest);
    let request = request("lab", 15);
    let error = lab.provision(&request).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::TimedOut, RetryClass::Temporary));
    assert_eq!(error.context("waited_for"), Some("the node to answer SSH"));
    let kept = std::fs::read_to_string(error.context("console").unwrap()).unwrap();
    assert!(kept.contains("BEGIN SSH HOST KEY"), "{kept}");
    assert!(format!("{error:?}").contains("the console's last lines"), "{error:?}");
    lab.release(&request.run).await;
    lab.has_left_nothing(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_deleted_during_the_boot_fails_it() {
    let cloud = openstack();
    let lab = Lab::new(&cloud, "vanish", &nodes(&format!("{TINY}, metadata: {{testbed_guest: none}}")));
    let request = request("lab", 120);
    let began = Instant::now();
    let delete = async {
        let id = loop {
            let servers = cloud.list_servers();
            let mine = |server: &&pushbutton_testbed::Server| {
                server.metadata.get("pushbutton_run").map(String::as_str) == Some(request.run.as_str())
                    && server.status == "ACTIVE"
            };
            match servers.iter().find(mine) {
                Some(server) => break server.id.clone(),
                None => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        cloud.request("DELETE", "compute", &format!("/servers/{id}"), None);
    };
    let (result, ()) = tokio::join!(lab.provision(&request), delete);
    let error = result.unwrap_err();
    assert!(error.to_string().contains("somebody else deleted it") && error.is_temporary(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(90), "noticed before the deadline");
    lab.release(&request.run).await;
    lab.has_left_nothing(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_share_a_project_and_see_only_their_own() {
    let cloud = openstack();
    // One name is a prefix of the other.
    let name = owner("share");
    let of = |owner: &str| {
        let rest =
            format!("{}, parallel_boots: 2", nodes(&format!("{TINY}, metadata: {{testbed_guest: none}}")));
        Lab::of(config(&cloud.clouds_yaml, &cloud.cloud, &rest), owner)
    };
    let (one, other) = (of(&name), of(&format!("{name}-b")));
    let (mine, theirs) = (request("lab", 15), request("lab", 15));
    let (first, second) = tokio::join!(one.provision(&mine), other.provision(&theirs));
    // Neither has a guest that could answer SSH; the resources exist all the same.
    assert!(first.is_err() && second.is_err());
    for (lab, run, not) in [(&one, &mine.run, &theirs.run), (&other, &theirs.run, &mine.run)] {
        let owned = lab.provisioner.list_owned().await.unwrap();
        assert!(owned.iter().any(|thing| thing.run.as_ref() == Some(run)), "{owned:?}");
        assert!(owned.iter().all(|thing| thing.run.as_ref() != Some(not)), "{owned:?}");
    }
    // A release of another owner's run finds nothing.
    one.release(&theirs.run).await;
    assert_ne!(other.on(&cloud), [""; 0]);
    one.release(&mine.run).await;
    one.has_left_nothing(&cloud).await;
    other.release(&theirs.run).await;
    other.has_left_nothing(&cloud).await;
}

/// H5: a key on the console comes late in a boot, and at first contact the network can forge it.
#[tokio::test(flavor = "multi_thread")]
async fn h5_a_node_presents_the_host_key_that_was_handed_over_in_its_user_data() {
    let cloud = openstack();
    let key = cloud.keypair(&owner("handed"));
    let script = "user_data: {text: \"#!/bin/sh\\nexit 0\\n\"}";
    let config_text = "user_data: {text: \"#cloud-config\\nhostname: x\\n\"}, host_keys: generated";
    for more in ["host_keys: generated", config_text, script] {
        let label = format!(
            "{TINY}, key_name: {}, metadata: {{testbed_guest: silent}}, floating_ip: {{network: public}}, {more}",
            key.name
        );
        let lab = Lab::new(&cloud, "handed", &nodes(&label));
        let request = request("lab", 120);
        let node = lab.provision(&request).await.unwrap();
        let [only] = &node.host_keys[..] else { panic!("{more}: {:?}", node.host_keys) };
        assert!(only.starts_with("ssh-ed25519 AAAA"), "{more}: {only}");
        // Only with that key, and the node has no other.
        let known = known_hosts(&key, &node);
        let login = ssh(&key, &node, &known).await;
        assert_eq!(login, "in", "{more}");
        lab.release(&request.run).await;
        lab.has_left_nothing(&cloud).await;
    }
}

/// The output of a command on the node, by OpenSSH's client.
async fn ssh(
    key: &pushbutton_testbed::Keypair<'_>,
    node: &pushbutton_core::Node,
    known: &std::path::Path,
) -> String {
    let output = tokio::process::Command::new("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "ConnectTimeout=10",
        ])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .arg("-i")
        .arg(&key.private_key)
        .arg(format!("root@{}", node.address))
        .args(["echo", "in"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_an_image_without_cloud_init_shows_its_own_keys_and_generated_refuses_them() {
    let cloud = openstack();
    let label = |host_keys: &str| {
        nodes(&format!("{TINY}, metadata: {{testbed_guest: plain}}, host_keys: {host_keys}"))
    };
    let lab = Lab::new(&cloud, "plain", &label("auto"));
    let request = request("lab", 120);
    let node = lab.provision(&request).await.unwrap();
    assert_eq!(node.host_keys.len(), 2, "those on the console: {:?}", node.host_keys);
    lab.release(&request.run).await;
    lab.has_left_nothing(&cloud).await;

    let lab = Lab::new(&cloud, "plain", &label("generated"));
    let request = common::request("lab", 20);
    let error = lab.provision(&request).await.unwrap_err();
    let text = error.to_string();
    assert!(error.kind() == ErrorKind::TimedOut && error.is_temporary(), "{error:?}");
    assert!(text.contains("to present the host key that was handed over in its user data"), "{text}");
    lab.release(&request.run).await;
    lab.has_left_nothing(&cloud).await;
}

/// L4: a staging copy, or a laptop with the same file and an empty state folder.
#[tokio::test(flavor = "multi_thread")]
async fn l4_two_installations_with_the_same_owner_never_touch_each_others_resources() {
    let cloud = openstack();
    let name = owner("same");
    let label = "image: tiny, flavor: m1.tiny, networks: [{name: private, allowed_address_pairs: [10.99.0.0/24]}], \
                 boot_from_volume: {size_gb: 1}, data_volumes: [{size_gb: 1}], floating_ip: {network: public}";
    let of = || Lab::of(config(&cloud.clouds_yaml, &cloud.cloud, &nodes(label)), &name);
    let (one, other) = (of(), of());
    assert_ne!(one.installation, other.installation);
    let (mine, theirs) = (request("lab", 120), request("lab", 120));
    let (first, second) = tokio::join!(one.provision(&mine), other.provision(&theirs));
    first.unwrap();
    second.unwrap();
    let of_theirs = other.on(&cloud);
    assert_eq!(of_theirs.len(), 5, "server, two volumes, port, floating IP: {of_theirs:?}");
    // By the lists that a sweep works through.
    let listed = one.provisioner.list_owned().await.unwrap();
    assert_eq!(listed.len(), 5, "{listed:?}");
    assert!(listed.iter().all(|resource| resource.run.as_ref() == Some(&mine.run)), "{listed:?}");
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::default());
    let provisioner = Arc::new(one.provisioner);
    let sweeper = Sweeper::new(Arc::clone(&provisioner), queue).with_safety_age(Duration::ZERO);
    let swept = sweeper.sweep().await.unwrap();
    assert_eq!((swept.released.len(), swept.left.len()), (1, 0), "{swept:?}");
    assert_eq!(other.on(&cloud), of_theirs, "after a sweep without any lease");
    // By their run's id, with an empty journal, and with a copy of their journal.
    provisioner.release(&theirs.run, &one.journal).await.unwrap();
    assert_eq!(other.on(&cloud), of_theirs, "after a release of their run");
    let copy: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    for entry in other.journal.open().await.unwrap() {
        let copied = copy.intend(&entry.run, entry.kind, &entry.name).await.unwrap();
        copy.made(copied, entry.id.as_deref().unwrap()).await.unwrap();
    }
    provisioner.release(&theirs.run, &copy).await.unwrap();
    assert_eq!(other.on(&cloud), of_theirs, "after a release with a copy of their journal");
    other.release(&theirs.run).await;
    other.has_left_nothing(&cloud).await;
}

/// What was made by a version that wrote no installation may belong to anybody with the same owner.
#[tokio::test(flavor = "multi_thread")]
async fn l4_what_names_no_installation_is_not_touched() {
    let cloud = openstack();
    let lab = Lab::new(&cloud, "old", &nodes(TINY));
    let run = request("lab", 60).run;
    let metadata = json!({"pushbutton_owner": lab.owner, "pushbutton_run": run, "pushbutton_job": "j"});
    let name = format!("pb-{}-old", lab.owner);
    let body = json!({"volume": {"name": name, "size": 1, "metadata": metadata}});
    let made = cloud.request("POST", "volumev3", "/volumes", Some(&body));
    let path = format!("/volumes/{}", made["volume"]["id"].as_str().unwrap());
    assert_eq!(lab.provisioner.list_owned().await.unwrap(), []);
    lab.release(&run).await;
    let kept = cloud.request("GET", "volumev3", &path, None);
    assert_eq!(kept["volume"]["name"], json!(name));
    cloud.request("DELETE", "volumev3", &path, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_an_empty_journal_releases_by_the_ownership_tags() {
    let cloud = openstack();
    let rest = nodes(&format!("{TINY}, boot_from_volume: {{size_gb: 1}}, floating_ip: {{network: public}}"));
    let before = Lab::new(&cloud, "restart", &rest);
    let request = request("lab", 120);
    before.provision(&request).await.unwrap();
    let config = config(&cloud.clouds_yaml, &cloud.cloud, &rest);
    let after = Lab::in_installation(config, &before.owner, before.installation.clone());
    assert_eq!(after.on(&cloud).len(), 4, "server, port, floating IP, volume: {:?}", after.on(&cloud));
    after.release(&request.run).await;
    after.has_left_nothing(&cloud).await;
    // The other process still has the entries in its journal; its release closes them.
    before.release(&request.run).await;
    before.has_left_nothing(&cloud).await;
}

/// In Nova's and Cinder's own states and words.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_says_what_the_cloud_refuses_to_delete_and_ends_once_it_does_not() {
    let cloud = openstack();
    let lab = Lab::new(&cloud, "refuses", &format!("release_timeout: 10s, {}", nodes(TINY)));
    let admin = |arguments: &[&str]| {
        cloud.command(&[&["--os-cloud", cloud.admin_cloud.as_str()], arguments].concat())
    };
    let server = request("lab", 120);
    let node = lab.provision(&server).await.unwrap();
    admin(&["server", "lock", &node.id]);
    let error = lab.provisioner.release(&server.run, &lab.journal).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.context("left"), Some(format!("server {} (ACTIVE)", node.id).as_str()), "{text}");
    assert!(text.contains("is locked") && error.is_temporary(), "{text}");
    admin(&["server", "unlock", &node.id]);
    lab.release(&server.run).await;

    let (run, name) = (request("lab", 120).run, owner("refuses"));
    let entry = lab.journal.intend(&run, ResourceKind::Volume, &name).await.unwrap();
    let body = json!({"volume": {"name": name, "size": 1}});
    let made = cloud.request("POST", "volumev3", "/volumes", Some(&body));
    let volume = made["volume"]["id"].as_str().unwrap();
    lab.journal.made(entry, volume).await.unwrap();
    let state =
        || cloud.request("GET", "volumev3", &format!("/volumes/{volume}"), None)["volume"]["status"].clone();
    while state() != "available" {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    admin(&["volume", "set", "--state", "error_deleting", volume]);
    let error = lab.provisioner.release(&run, &lab.journal).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.context("left"), Some(format!("volume {volume} (error_deleting)").as_str()), "{text}");
    assert!(
        text.contains("an administrator must reset its state") && text.contains("Volume status must be"),
        "{text}"
    );
    admin(&["volume", "set", "--state", "available", volume]);
    lab.release(&run).await;
    lab.has_left_nothing(&cloud).await;
}

/// Nova's message has the value twice, and would be shown on the review.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_nova_refuses_is_not_in_the_error() {
    let cloud = openstack();
    let secret = "hush. ".repeat(60);
    let lab = Lab::new(&cloud, "value", &nodes(&format!("{TINY}, metadata: {{password: '{secret}'}}")));
    let request = request("lab", 60);
    let error = lab.provision(&request).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert_eq!(error.kind(), ErrorKind::Config, "{text}");
    assert!(
        text.contains("attribute password") && text.contains("is too long") && !text.contains("hush"),
        "{text}"
    );
    lab.release(&request.run).await;
    lab.has_left_nothing(&cloud).await;
}

/// As Neutron itself says it: the network has no port security, so its ports can have no address pairs.
#[tokio::test(flavor = "multi_thread")]
async fn address_pairs_on_a_network_without_port_security_are_a_configuration_error() {
    let cloud = openstack();
    let tenant = Tenant::new(&cloud, "pairs");
    let network = tenant.name.as_str();
    tenant.admin(&["network", "create", "--disable-port-security", "--project", network, network]);
    let lab = tenant.lab(&format!(
        "image: tiny, flavor: m1.tiny, networks: [{{name: {network}, allowed_address_pairs: [10.77.0.0/24]}}]"
    ));
    let request = request("lab", 60);
    let error = lab.provision(&request).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Config, RetryClass::Permanent), "{error:?}");
    assert!(error.to_string().contains("Port Security must be enabled"), "{error}");
    lab.release(&request.run).await;
    tenant.admin(&["network", "delete", network]);
}

/// A user and a project for one test, created by the administrator and deleted on drop.
struct Tenant<'a> {
    cloud: &'a pushbutton_testbed::OpenStack,
    name: String,
    clouds: tempfile::TempDir,
}

impl<'a> Tenant<'a> {
    fn new(cloud: &'a pushbutton_testbed::OpenStack, test: &str) -> Self {
        let tenant = Self { cloud, name: owner(test), clouds: tempfile::tempdir().unwrap() };
        let name = tenant.name.as_str();
        tenant.admin(&["project", "create", name]);
        tenant.admin(&["user", "create", "--password", "hush", name]);
        tenant.admin(&["role", "add", "--project", name, "--user", name, "member"]);
        let auth = format!(
            "auth_url: '{}', username: {name}, project_name: {name}, user_domain_name: Default",
            cloud.auth_url
        );
        let yaml = format!("clouds: {{own: {{auth_type: v3password, auth: {{{auth}}}}}}}");
        std::fs::write(tenant.clouds.path().join("clouds.yaml"), yaml).unwrap();
        let secret = "clouds: {own: {auth: {password: hush}}}";
        std::fs::write(tenant.clouds.path().join("secure.yaml"), secret).unwrap();
        tenant
    }

    fn admin(&self, arguments: &[&str]) -> String {
        self.cloud.command(&[&["--os-cloud", self.cloud.admin_cloud.as_str()], arguments].concat())
    }

    fn lab(&self, label: &str) -> Lab {
        let file = self.clouds.path().join("clouds.yaml");
        Lab::of(config(&file, "own", &nodes(label)), &self.name)
    }
}

impl Drop for Tenant<'_> {
    fn drop(&mut self) {
        self.admin(&["user", "delete", &self.name]);
        self.admin(&["project", "delete", &self.name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_is_a_temporary_error_with_novas_message() {
    let cloud = openstack();
    let tenant = Tenant::new(&cloud, "quota");
    tenant.admin(&["quota", "set", "--instances", "0", &tenant.name]);
    let lab = tenant.lab("image: tiny, flavor: m1.tiny");
    let request = request("lab", 60);
    let error = lab.provision(&request).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_class()),
        (ErrorKind::Exhausted, RetryClass::Temporary),
        "{error:?}"
    );
    assert!(error.message().starts_with("Quota exceeded for instances"), "{error}");
    lab.release(&request.run).await;
    assert_eq!(lab.provisioner.list_owned().await.unwrap(), []);

    let findings = lab.provisioner.check().await;
    let servers = findings.iter().find(|one| one.what.starts_with("quota of servers: ")).unwrap();
    assert_eq!(
        (servers.level, servers.what.as_str()),
        (Level::Warn, "quota of servers: 0 of 0 in use: none is left")
    );
}

/// V6: two slots and a quota of one. The second job waits for the first one's node to go, and no attempt is counted.
#[tokio::test(flavor = "multi_thread")]
async fn v6_a_job_beyond_the_quota_waits_uncounted_and_runs_when_there_is_room() {
    let cloud = openstack();
    let tenant = Tenant::new(&cloud, "quota-of-one");
    tenant.admin(&["quota", "set", "--instances", "1", &tenant.name]);
    let private = ["--action", "access_as_shared", "--type", "network", "-f", "value", "-c", "id", "private"];
    let shared = [&["network", "rbac", "create", "--target-project", &tenant.name], &private[..]].concat();
    let shared = tenant.admin(&shared);
    let lab = tenant.lab(TINY);
    let (queue, reporter) = (Arc::new(MemoryQueue::default()), Arc::new(MemoryReporter::default()));
    // The first run keeps its node until the second job has met the full quota.
    let met = Arc::new(tokio::sync::Semaphore::new(0));
    let executor = Arc::new(UntilTold(Arc::clone(&met)));
    let spec = JobSpec::new("lab".parse().unwrap()).stage(Stage::new("test".parse().unwrap(), "test.yml"));
    let jobs = [("tempest".parse().unwrap(), spec)];
    let provisioner = Arc::new(lab.provisioner);
    // The pause is longer than this test may take: the end of the first run ends it.
    let policy = NoRoomPolicy::default()
        .with_pause(Duration::from_secs(3600))
        .with_pause_cap(Duration::from_secs(3600));
    let operator =
        Operator::new(Arc::clone(&queue), Arc::clone(&provisioner), executor, jobs, LogLocation::new("logs"))
            .with_slots(2)
            .with_no_room(policy)
            .with_reporter(Arc::clone(&reporter));
    let mut health = operator.health();
    let shutdown = Shutdown::new();
    let steps = async {
        // One after the other: of two that ask Nova at the same moment, both may be refused.
        queue.publish(&samples::job_on(0, "tempest")).await.unwrap();
        let has_node = |update: &Update| matches!(update.kind, UpdateKind::NodeReady { .. });
        while !reporter.updates().iter().any(has_node) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        queue.publish(&samples::job_on(1, "tempest")).await.unwrap();
        let full = health.wait_for(|health| !health.no_room.is_empty()).await.unwrap().clone();
        assert!(full.no_room[0].last.contains("Quota exceeded for instances"), "{full:?}");
        assert_eq!(full.breaker, BreakerState::Closed);
        health.wait_for(|health| health.running == 1).await.unwrap();
        assert_eq!(queue.depth().await.unwrap().waiting, 1);
        met.add_permits(2);
        while reporter.results().len() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        shutdown.begin();
    };
    let both = async { tokio::join!(operator.run(&shutdown), steps) };
    let (ended, ()) = tokio::time::timeout(Duration::from_secs(180), both).await.unwrap();
    ended.unwrap();
    for report in reporter.results() {
        assert_eq!((&report.verdict, report.attempts), (&Verdict::Success, 1), "{report:#?}");
    }
    assert!(health.borrow().no_room.is_empty());
    assert_eq!(provisioner.list_owned().await.unwrap(), []);
    tenant.admin(&["network", "rbac", "delete", shared.trim()]);
}

/// Ends each stage when it is told to.
struct UntilTold(Arc<tokio::sync::Semaphore>);

#[async_trait]
impl Executor for UntilTold {
    async fn execute(
        &self,
        _: &Stage,
        _: &[Node],
        _: &StageContext,
        _: &LineSink,
        _: &CancellationToken,
    ) -> Result<StageOutcome> {
        self.0.acquire().await.unwrap().forget();
        Ok(StageOutcome::new(StageStatus::Passed, Duration::ZERO))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_revoked_is_replaced() {
    let cloud = openstack();
    let tenant = Tenant::new(&cloud, "revoked");
    let lab = tenant.lab("image: none, flavor: m1.tiny");
    // This sends a request to Glance only. The other services have not cached the token, and will ask Keystone about
    // it.
    lab.provision(&request("lab", 60)).await.unwrap_err();
    tenant.admin(&["user", "set", "--password", "hush", &tenant.name]);
    assert_eq!(lab.provisioner.list_owned().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_every_name_and_says_what_to_fix() {
    let cloud = openstack();
    let label = "image: tiny, flavor: m1.smal, networks: [private], floating_ip: {network: public}, key_file: /nowhere/id";
    let findings = Lab::new(&cloud, "check", &nodes(label)).provisioner.check().await;
    let of = |subject: &str| findings.iter().find(|one| one.what.starts_with(&format!("{subject}: ")));
    let level = |subject: &str| of(subject).map(|one| one.level);
    assert_eq!(level("nodes.lab.image"), Some(Level::Ok), "{findings:?}");
    assert_eq!(level("nodes.lab.networks"), Some(Level::Ok));
    assert_eq!(level("nodes.lab.floating_ip"), Some(Level::Ok));
    assert_eq!(level("nodes.lab.key_file"), Some(Level::Fail));
    assert_eq!(level("nodes.lab"), Some(Level::Warn), "nobody can log in");
    assert_eq!(level("quota of servers"), Some(Level::Ok));
    assert_eq!(level("quota of floating IPs"), Some(Level::Ok));
    let flavor = of("nodes.lab.flavor").unwrap().to_string();
    assert!(flavor.contains("did you mean m1.small?") && flavor.contains("-> "), "{flavor}");

    let dir = tempfile::tempdir().unwrap();
    let yaml = format!(
        "clouds: {{x: {{auth: {{auth_url: '{}', username: demo, password: wrong, project_name: demo}}}}}}",
        cloud.auth_url
    );
    std::fs::write(dir.path().join("clouds.yaml"), yaml).unwrap();
    let lab = Lab::of(config(&dir.path().join("clouds.yaml"), "x", &nodes(TINY)), "check");
    let findings = lab.provisioner.check().await;
    assert_eq!((findings.len(), findings[0].level), (1, Level::Fail));
    assert!(findings[0].to_string().contains("see the user, the password"), "{}", findings[0]);
    assert!(!findings[0].to_string().contains("wrong"));
}

/// Found by the chaos run: Nova's API was frozen while it created a server, and later knew no such server, but Cinder
/// still had an attachment to it. The volume could never be deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_attached_to_a_server_that_is_gone_is_released() {
    const SCRIPT: &str = "
import sys, uuid, openstack
cloud = openstack.connect()
volume = cloud.create_volume(size=1, name=sys.argv[1], wait=True)
attachment = {'attachment': {'volume_uuid': volume.id, 'instance_uuid': str(uuid.uuid4())}}
reply = cloud.block_storage.post('/attachments', json=attachment, microversion='3.27')
assert reply.status_code == 200, reply.text
print(volume.id)
";
    let cloud = openstack();
    let lab = Lab::new(&cloud, "attached", &nodes(TINY));
    let (run, name) = (request("lab", 60).run, owner("attached"));
    let entry = lab.journal.intend(&run, ResourceKind::Volume, &name).await.unwrap();
    let made = tokio::process::Command::new(cloud.python())
        .args(["-c", SCRIPT, &name])
        .env("OS_CLIENT_CONFIG_FILE", &cloud.clouds_yaml)
        .env("OS_CLOUD", &cloud.cloud)
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let id = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    lab.journal.made(entry, &id).await.unwrap();
    let refused = cloud.try_request("DELETE", "volumev3", &format!("/volumes/{id}"), None).unwrap_err();
    assert_eq!(refused.0, 400, "it is attached: {refused:?}");
    lab.release(&run).await;
    let gone = cloud.try_request("GET", "volumev3", &format!("/volumes/{id}"), None).unwrap_err();
    assert_eq!(gone.0, 404);
    lab.has_left_nothing(&cloud).await;
}
