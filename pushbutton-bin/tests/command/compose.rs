use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::lab::{command, ended, root};

fn init(folder: &Path) -> crate::lab::Ended {
    ended(command().args(["init", "--compose"]).arg(folder))
}

fn modes(folder: &Path) -> BTreeMap<String, u32> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            (entry.file_name().into_string().unwrap(), mode)
        })
        .collect()
}

#[test]
fn a_folder_for_compose_is_whole_and_its_secrets_are_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("lab");
    let said = init(&lab).with(0).out;
    assert!(said.contains("docker-compose up -d"), "{said}");
    let names = |folder: &Path| modes(folder).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&lab), [".env", "docker-compose.yml", "pushbutton.yml", "secrets"]);
    assert_eq!(modes(&lab)["secrets"], 0o700, "others on the host see no secret");
    let secrets = modes(&lab.join("secrets"));
    // The user of a container, which is nobody on the host, reads them by their own mode.
    assert!(secrets.values().all(|mode| *mode == 0o644), "{secrets:?}");
    let compose = fs::read_to_string(lab.join("docker-compose.yml")).unwrap();
    for name in secrets.keys() {
        assert!(compose.contains(&format!("  {name}: {{file: ./secrets/{name}}}\n")), "{name}");
    }
    let read = |name: &str| fs::read_to_string(lab.join("secrets").join(name)).unwrap();
    let password = read("rabbitmq-password");
    assert_eq!(read("rabbitmq.conf"), format!("default_user = pushbutton\ndefault_pass = {password}"));
    let other = folder.path().join("other");
    init(&other).with(0);
    assert_ne!(fs::read_to_string(other.join("secrets/rabbitmq-password")).unwrap(), password);
}

#[test]
fn a_folder_for_compose_is_never_written_over_another() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pushbutton.yml"), "mine").unwrap();
    let refused = init(folder.path()).with(2);
    assert!(
        refused.err.contains("pushbutton.yml") && refused.err.contains("nothing was written"),
        "{}",
        refused.err
    );
    assert_eq!(modes(folder.path()).into_keys().collect::<Vec<_>>(), ["pushbutton.yml"]);
}

/// The configuration in the place that it has in a container; each half has the files that compose gives it.
#[test]
fn the_configuration_for_compose_is_right_for_each_half() {
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("lab");
    init(&lab).with(0);
    let written = fs::read_to_string(lab.join("pushbutton.yml")).unwrap();
    let here = |text: &str, place: &Path| {
        text.replace("owner: \"\"", "owner: acme")
            .replace("/run/secrets", &place.join("secrets").display().to_string())
            .replace("/usr/share/pushbutton", &place.display().to_string())
            .replace("/var/l", &format!("{}/l", place.display()))
    };
    for (half, files) in [
        ("handler", &["rabbitmq-password", "gerrit-key", "gerrit-known-hosts"][..]),
        ("operator", &["rabbitmq-password", "clouds.yaml", "node-key"]),
        ("dashboard", &["rabbitmq-password"]),
        ("health", &["rabbitmq-password"]),
    ] {
        let place = folder.path().join(half);
        fs::create_dir_all(place.join("secrets")).unwrap();
        for file in files {
            fs::copy(lab.join("secrets").join(file), place.join("secrets").join(file)).unwrap();
        }
        if half == "operator" {
            std::os::unix::fs::symlink(root().join("playbooks"), place.join("playbooks")).unwrap();
        }
        let config = place.join("pushbutton.yml");
        let text = here(&written, &place);
        // An address where nothing listens.
        let text = text
            .replace("@rabbitmq:5672", "@127.0.0.1:1")
            .replace("listen: 0.0.0.0:8080", "listen: 127.0.0.1:1");
        fs::write(&config, text).unwrap();
        let mut command = command();
        command.arg("--config").arg(&config).arg(half);
        if half != "health" {
            command.args(["--wait", "1s"]);
        }
        // 3: the configuration is good, and a server cannot be reached.
        ended(&mut command).with(3);
    }
}
