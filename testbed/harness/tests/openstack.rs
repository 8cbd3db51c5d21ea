//! The OpenStack boots servers that can be logged in to, and shows their host keys on the console.

use std::process::Command;
use std::time::Duration;

use pushbutton_testbed::{Server, openstack, stock_image, until};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn a_server_shows_its_host_keys_and_admits_its_key_pair() {
    let cloud = openstack();
    let keypair = cloud.keypair("harness-key");
    let server = cloud.boot("tiny", "harness-good", &keypair, &json!({"metadata": {}}));
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
    cloud.delete(&server);
}

#[test]
fn metadata_asks_for_trouble() {
    let cloud = openstack();
    let keypair = cloud.keypair("harness-key-none");
    let none = cloud.boot("tiny", "harness-none", &keypair, &json!({"metadata": {"testbed_guest": "none"}}));
    let dies =
        cloud.boot("tiny", "harness-dies", &keypair, &json!({"metadata": {"testbed_guest": "dies:8"}}));
    let silent =
        cloud.boot("tiny", "harness-silent", &keypair, &json!({"metadata": {"testbed_guest": "silent"}}));
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
    cloud.delete(&silent);
    cloud.delete(&none);
    cloud.delete(&dies);
}

#[test]
fn a_stock_debian_boots_as_on_a_cloud() {
    let cloud = openstack();
    let image = stock_image();
    let keypair = cloud.keypair("harness-key-stock");
    // "#cloud-config\nwrite_files: [{path: /etc/from-user-data, content: seen}]\n"
    let user_data =
        "I2Nsb3VkLWNvbmZpZwp3cml0ZV9maWxlczogW3twYXRoOiAvZXRjL2Zyb20tdXNlci1kYXRhLCBjb250ZW50OiBzZWVufV0K";
    let more = json!({"metadata": {"testbed_guest": "nologin:8"}, "user_data": user_data});
    let server = cloud.boot(image, "harness-stock", &keypair, &more);
    let refused = until("sshd answers before logins work", LIMIT, || {
        let tried = server.ssh(&keypair, "true");
        let refused = String::from_utf8_lossy(&tried.stderr).contains("System is booting up");
        (tried.status.success() || refused).then_some(refused)
    });
    assert!(refused, "pam_nologin lets nobody in while the system boots");
    until("a login", LIMIT, || server.ssh(&keypair, "true").status.success().then_some(()));
    let said = |command: &str| {
        let output = server.ssh(&keypair, command);
        String::from_utf8([output.stdout, output.stderr].concat()).expect("text")
    };
    let state = said(
        "cloud-init status --wait >/dev/null; hostname; cat /etc/from-user-data; echo; sudo -n id -u; id -un; \
         for program in git setfacl rsync iptables; do command -v $program; done; ps -p 1 -o comm=; \
         sudo apt-get -qq update && apt-get -s -qq install git | grep -c ^Inst; echo end",
    );
    // SSH says first that it has not known the host key.
    let lines: Vec<&str> =
        state.lines().filter(|line| !line.starts_with("Warning: Permanently added")).collect();
    assert_eq!(lines[..5], ["harness-stock", "seen", "0", "debian", "systemd"], "{state}");
    let packages: u32 = lines[5].parse().unwrap_or_else(|error| panic!("{error}: {state}"));
    assert!(packages > 1, "apt finds git and what it needs: {state}");
    let console = until("the console shows host keys", LIMIT, || {
        Some(cloud.console(&server.id)).filter(|console| console.contains("END SSH HOST KEY KEYS"))
    });
    let key = said("cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub");
    let key = key.split_whitespace().next().expect("a key");
    assert!(key.starts_with("AAAA") && console.contains(key), "{key} on the console: {console}");
    cloud.delete(&server);
    let namespace = |name: &str| {
        std::fs::read_dir(name).is_ok_and(|folder| {
            folder.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(&server.id[..8]))
        })
    };
    until("no namespace and no cgroup is left", LIMIT, || {
        let folders = ["/run/netns", "/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
        (!folders.iter().any(|folder| namespace(folder))).then_some(())
    });
}
