//! `gather_logs.yml` copies files from a node byte for byte.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{TestRun, host_keys_of, label, shipped_playbooks, ssh_node, sshd};
use pushbutton_core::{Node, StageStatus};

/// Around what Python buffers before it writes (8 KiB), and well above any buffer.
const SIZES: [usize; 6] = [0, 1, 8 << 10, (8 << 10) + 1, 64 << 10, 5 << 20];

/// Lines of a log: gzip makes them much smaller.
fn log_lines(size: usize) -> Vec<u8> {
    let lines =
        (0..).flat_map(|n: u64| format!("DEBUG cinder.volume request {n} took 0.01 s\n").into_bytes());
    lines.take(size).collect()
}

/// Bytes of a fixed pseudo-random sequence (xorshift): gzip cannot make them smaller.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(size).collect()
}

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The content of a gathered file, unpacked where its name ends in `.gz`. `gzip -t` must find it whole.
fn unpacked(path: &Path) -> Result<Vec<u8>, String> {
    if !path.is_file() {
        return Err("it is missing".into());
    }
    if path.extension().is_none_or(|ending| ending != "gz") {
        return Ok(fs::read(path).unwrap());
    }
    let tested = Command::new("gzip").arg("-t").arg(path).output().unwrap();
    if !tested.status.success() {
        let problem = String::from_utf8_lossy(&tested.stderr);
        return Err(format!("{} bytes; gzip -t: {}", fs::metadata(path).unwrap().len(), problem.trim()));
    }
    Ok(Command::new("gzip").arg("-dc").arg(path).output().unwrap().stdout)
}

/// A service's configuration and Apache's logs, with keys among them: what must arrive, by its path below the folder.
const ARRIVING: [(&str, &str, &str); 7] = [
    (
        "keystone/keystone.conf",
        "[database]\nconnection = mysql+pymysql://root:hunter22@127.0.0.1/keystone\n[fernet_tokens]\nkey_repository = /etc/keystone/fernet-keys\n",
        "[database]\nconnection = mysql+pymysql://root:********@127.0.0.1/keystone\n[fernet_tokens]\nkey_repository = /etc/keystone/fernet-keys\n",
    ),
    ("keystone/domains/keystone.acme.conf", "[ldap]\npassword = hunter22\n", "[ldap]\npassword = ********\n"),
    // Names and contents that are only like those of keys.
    ("keystone/keys.conf", "max_active_keys = 3\n", "max_active_keys = 3\n"),
    ("keystone/monkeys/troop.log", "three of them\n", "three of them\n"),
    (
        "keystone/digest.txt",
        concat!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", " troop.log\n"),
        concat!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", " troop.log\n"),
    ),
    (
        "apache2/keystone_access.log",
        "127.0.0.1 - - \"POST /identity/v3/auth/tokens HTTP/1.1\" 201 2345\n",
        "127.0.0.1 - - \"POST /identity/v3/auth/tokens HTTP/1.1\" 201 2345\n",
    ),
    (
        "apache2/error.log",
        "AH00489: resuming\n-----BEGIN PRIVATE KEY-----\nMIIhunter22\n-----END PRIVATE KEY-----\nAH00094: Command line\n",
        "AH00489: resuming\n********\n********\n********\nAH00094: Command line\n",
    ),
];

/// What must not arrive: keys by the names of their folders, by their endings, and by what they hold.
const KEYS: [(&str, &str); 9] = [
    ("keystone/fernet-keys/0", "a key"),
    ("keystone/credential-keys/1", "a key"),
    ("keystone/jws-keys/public/acme", "a key"),
    ("keystone/keys/2", "a key"),
    ("keystone/tls/private/acme.txt", "a key"),
    ("keystone/tls/acme.key", "a key"),
    ("keystone/tls/acme.PEM", "a key"),
    ("keystone/tokens/0", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"),
    (
        "keystone/ssh/id_ed25519",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nMIIhunter22\n-----END OPENSSH PRIVATE KEY-----\n",
    ),
];

/// Makes files and journals on a node that is this machine's, gathers them, and compares all that arrived.
async fn gather_and_compare(node: Node) {
    let mut run = TestRun::new(shipped_playbooks());
    let on_node = run.folder.path().join("node");
    let (service, journals, bin) = (on_node.join("service"), on_node.join("journals"), on_node.join("bin"));
    for folder in [&service, &journals, &bin] {
        fs::create_dir_all(folder).unwrap();
    }
    let mut expected: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for size in SIZES {
        for (kind, content) in [("lines", log_lines(size)), ("noise", noise(size))] {
            // Text by its name is compressed, everything else is not.
            for (ending, arrives) in [(".log", ".log.gz"), ("", ".gz"), (".bin", ".bin")] {
                fs::write(service.join(format!("{kind}-{size}{ending}")), &content).unwrap();
                expected.insert(format!("logs/service/{kind}-{size}{arrives}"), content.clone());
            }
            fs::write(journals.join(format!("devstack@{kind}-{size}.service")), &content).unwrap();
            expected.insert(format!("logs/{kind}-{size}.txt.gz"), content);
        }
    }
    // As devstack leaves its log: one file of it arrives.
    fs::write(service.join("stack.sh.txt.2026-11-26-162909"), log_lines(100)).unwrap();
    std::os::unix::fs::symlink("stack.sh.txt.2026-11-26-162909", service.join("stack.sh.txt")).unwrap();
    expected.insert("logs/service/stack.sh.txt.gz".into(), log_lines(100));
    fs::write(service.join("worlddump-2026-11-26-164451.txt"), log_lines(50)).unwrap();
    fs::hard_link(service.join("worlddump-2026-11-26-164451.txt"), service.join("worlddump-latest.txt"))
        .unwrap();
    expected.insert("logs/service/worlddump-latest.txt.gz".into(), log_lines(50));
    let contents = ARRIVING.iter().map(|(path, content, _)| (path, content));
    for (path, content) in contents.chain(KEYS.iter().map(|(path, content)| (path, content))) {
        let path = on_node.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    for (path, _, arrives) in ARRIVING {
        expected.insert(format!("logs/{path}.gz"), arrives.into());
    }
    let local_conf = b"[[local|localrc]]\nADMIN_PASSWORD=secret\n".to_vec();
    fs::write(on_node.join("local.conf"), &local_conf).unwrap();
    let redacted = b"[[local|localrc]]\nADMIN_PASSWORD=********\n".to_vec();
    expected.insert("local.conf".into(), redacted);

    // When this run began on the node: earlier ones had units of these names.
    let (marker, asked) = (on_node.join("marker"), on_node.join("asked"));
    fs::write(&marker, "").unwrap();
    let began = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    fs::File::options().write(true).open(&marker).unwrap().set_modified(began).unwrap();
    run.context.vars.insert("gather_logs_marker".into(), marker.to_str().unwrap().into());

    // Fake systemd commands with known journals: the last argument of journalctl is the unit.
    let journals = journals.display();
    program(
        &bin.join("systemctl"),
        &format!(
            "#!/bin/sh\nfor unit in $(ls '{journals}'); do echo \"$unit loaded active running a\"; done\n"
        ),
    );
    program(
        &bin.join("journalctl"),
        &format!(
            "#!/bin/sh\necho \"$*\" >>'{}'\nfor unit; do :; done\nexec cat '{journals}'/\"$unit\"\n",
            asked.display()
        ),
    );
    // The node's python3 finds it first.
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let python = on_node.join("python3");
    program(&python, &format!("#!/bin/sh\nPATH='{}':$PATH exec /usr/bin/python3 \"$@\"\n", bin.display()));
    let vars = [("ansible_python_interpreter".to_owned(), path(&python).into())];
    let vars: BTreeMap<_, _> = node.vars.clone().into_iter().chain(vars).collect();
    let node = node.with_vars(vars);

    run.context.vars.insert("gather_logs_become".into(), false.into());
    run.context.vars.insert("gather_logs_local_conf".into(), path(&on_node.join("local.conf")).into());
    run.context.vars.insert(
        "gather_logs_paths".into(),
        vec![path(&service), path(&on_node.join("keystone")), path(&on_node.join("apache2"))].into(),
    );
    let outcome = run.playbook("gather_logs.yml", &[node]).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());

    let asked = fs::read_to_string(asked).unwrap();
    assert!(asked.lines().all(|words| words.contains(" --since=@1700000000 --unit ")), "{asked}");

    let mut wrong = Vec::new();
    for (name, content) in &expected {
        match unpacked(&run.context.log_dir.join(name)) {
            Ok(arrived) if arrived == *content => {}
            Ok(arrived) => wrong.push(format!("{name}: {} bytes of {}", arrived.len(), content.len())),
            Err(problem) => wrong.push(format!("{name} ({} bytes): {problem}", content.len())),
        }
    }
    // And nothing else: what is not asked for is not published.
    for name in gathered(&run.context.log_dir) {
        if !expected.contains_key(&name) {
            wrong.push(format!("{name}: it is not on the node"));
        }
    }
    for twice in ["stack.sh.txt.2026-11-26-162909", "worlddump-2026-11-26-164451.txt.gz"] {
        if run.context.log_dir.join("logs/service").join(twice).exists() {
            wrong.push(format!("{twice}: it is there under a shorter name"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} files are not as on the node:\n{}",
        wrong.len(),
        expected.len(),
        wrong.join("\n")
    );
}

/// The files that came from the node.
fn gathered(log_dir: &Path) -> Vec<String> {
    let files = walkdir::WalkDir::new(log_dir).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| !entry.file_type().is_dir());
    let names = files.map(|entry| entry.path().strip_prefix(log_dir).unwrap().to_str().unwrap().to_owned());
    names.filter(|name| name != "console.log").collect()
}

#[tokio::test]
async fn files_and_journals_arrive_as_they_are_on_the_node() {
    gather_and_compare(Node::local("node", label())).await;
}

#[tokio::test]
async fn files_and_journals_arrive_through_ssh_as_they_are_on_the_node() {
    let server = sshd();
    let node = ssh_node(&server, &host_keys_of(&server)).remove(0);
    gather_and_compare(node).await;
}
