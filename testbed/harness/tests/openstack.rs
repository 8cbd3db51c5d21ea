//! The OpenStack boots servers that can be logged in to, and shows their host keys on the console.

#![expect(clippy::expect_used, reason = "test helpers")]

use std::process::Command;
use std::time::Duration;

use pushbutton_testbed::{OpenStack, Server, openstack, until};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(180);

/// Boots a server with this metadata and waits until it is ACTIVE.
fn boot(cloud: &OpenStack, name: &str, key: &str, metadata: serde_json::Value) -> Server {
    let first = |service: &str, path: &str, list: &str| {
        cloud.request("GET", service, path, None)[list][0]["id"].as_str().expect("an id").to_owned()
    };
    let body = json!({"server": {
        "name": name, "key_name": key, "metadata": metadata,
        "imageRef": first("image", "/v2/images?name=tiny", "images"),
        "flavorRef": cloud.command(&["flavor", "show", "m1.tiny", "-f", "value", "-c", "id"]).trim(),
        "networks": [{"uuid": first("network", "/v2.0/networks?name=private", "networks")}],
    }});
    cloud.request("POST", "compute", "/servers", Some(&body));
    until("the server is active", LIMIT, || {
        cloud.list_servers().into_iter().find(|server| server.name == name && server.status == "ACTIVE")
    })
}

#[test]
fn a_server_shows_its_host_keys_and_admits_its_key_pair() {
    let cloud = openstack();
    let keypair = cloud.keypair("harness-key");
    let server = boot(&cloud, "harness-good", &keypair.name, json!({}));
    let address = server.addresses.first().expect("an address");
    let console = until("the console shows host keys", LIMIT, || {
        Some(cloud.console(&server.id)).filter(|console| console.contains("END SSH HOST KEY KEYS"))
    });
    let known_hosts = keypair.folder().join("known_hosts");
    let keys = console.split("BEGIN SSH HOST KEY KEYS-----").nth(1).expect("keys").lines();
    let lines: String =
        keys.skip(1).take_while(|l| !l.starts_with('-')).map(|l| format!("{address} {l}\n")).collect();
    std::fs::write(&known_hosts, lines).expect("known_hosts");
    let output = until("ssh answers", LIMIT, || {
        let output = Command::new("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=yes",
                "-o",
                "ConnectTimeout=5",
                "-o",
            ])
            .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
            .arg("-i")
            .arg(&keypair.private_key)
            .args([&format!("debian@{address}"), "sudo -n id -u && hostname && command -v git rsync python3"])
            .output()
            .expect("ssh runs");
        output.status.success().then_some(output)
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("0\nharness-good\n"), "{said}");
    assert_eq!(said.lines().count(), 5, "git, rsync and python3 are there: {said}");
    remove(&cloud, &server);
}

#[test]
fn metadata_asks_for_trouble() {
    let cloud = openstack();
    let keypair = cloud.keypair("harness-key-none");
    let none = boot(&cloud, "harness-none", &keypair.name, json!({"testbed_guest": "none"}));
    let dies = boot(&cloud, "harness-dies", &keypair.name, json!({"testbed_guest": "dies:8"}));
    let silent = boot(&cloud, "harness-silent", &keypair.name, json!({"testbed_guest": "silent"}));
    let connects = |server: &Server| {
        let address = format!("{}:22", server.addresses.first().expect("an address"));
        std::net::TcpStream::connect_timeout(
            &address.parse().expect("an address"),
            Duration::from_millis(300),
        )
        .is_ok()
    };
    until("the other guest answers", LIMIT, || connects(&dies).then_some(()));
    until("and dies", LIMIT, || (!connects(&dies)).then_some(()));
    assert!(!connects(&none), "no guest, no answer");
    assert_eq!(cloud.console(&none.id), "");
    until("the silent guest answers", LIMIT, || connects(&silent).then_some(()));
    let console = cloud.console(&silent.id);
    assert!(console.contains("harness-silent") && !console.contains("HOST KEY"), "{console}");
    // A bridge that borrows its address from a guest loses it when that guest goes, and cuts off all others for half a minute.
    let address = silent.addresses.first().expect("an address");
    let route = Command::new("ip").args(["route", "get", address]).output().expect("ip runs");
    let route = String::from_utf8_lossy(&route.stdout).into_owned();
    let mut words = route.split_whitespace().skip_while(|word| *word != "dev");
    let bridge = words.nth(1).unwrap_or_else(|| panic!("no device in: {route}"));
    let kind = std::fs::read_to_string(format!("/sys/class/net/{bridge}/addr_assign_type"));
    assert_eq!(kind.expect("a bridge").trim(), "3", "{bridge} has an address that was set (NET_ADDR_SET)");
    remove(&cloud, &silent);
    remove(&cloud, &none);
    remove(&cloud, &dies);
}

fn remove(cloud: &OpenStack, server: &Server) {
    cloud.request("DELETE", "compute", &format!("/servers/{}", server.id), None);
    until("the server is gone", LIMIT, || {
        cloud.list_servers().iter().all(|other| other.id != server.id).then_some(())
    });
    until("its port is gone", LIMIT, || {
        cloud.list_ports().iter().all(|port| port.server != server.id).then_some(())
    });
}
