//! The Debian package in a stock Debian 12 with systemd, from the installation to the purge, against the testbed's
//! servers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test's helper fails the test, and prints a log"
)]

mod guest;
mod lab;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use guest::text;
use lab::Lab;
use pushbutton_testbed::until;

const UNITS: [&str; 4] =
    ["pushbutton", "pushbutton-handler", "pushbutton-operator@1", "pushbutton-dashboard"];

#[test]
fn the_package_installs_runs_upgrades_and_leaves_behind_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (packages, lab) = std::thread::scope(|scope| {
        let made = scope.spawn(|| ["1", "2"].map(|revision| package(folder.path(), revision)));
        let lab = Lab::start();
        (made.join().unwrap(), lab)
    });

    install(&lab, &packages[0]);
    assert_idle_after_the_installation(&lab);
    assert_the_configuration_must_be_edited(&lab);
    lab.configure();
    let checked = lab.guest.root(&lab.command("check"));
    assert!(checked.contains(" 0 to fix"), "{checked}");

    lab.guest.root("systemctl start pushbutton");
    // A first start has no position to catch up from: what is commented before this is not its work.
    until("it watches Gerrit", Duration::from_secs(60), || {
        lab.journal("pushbutton").contains("the event stream runs").then_some(())
    });
    let change = lab.recheck(0);
    let comment = lab.comment_on(&change, "pushbutton");
    assert!(comment.starts_with("Build succeeded (check pipeline).\n\n- acme-unit http"), "{comment}");
    assert_console_of(&lab, &comment, &change.revision);

    let interrupted = lab.recheck(20);
    assert_a_stop_returns_the_job(&lab);

    upgrade(&lab, &packages[1]);
    lab.guest.root("systemctl start pushbutton-operator@1");
    let comment = lab.comment_on(&interrupted, "pushbutton-operator@1");
    // The job has one attempt: the interrupted run was none.
    assert!(comment.starts_with("Build succeeded (check pipeline)."), "{comment}");
    lab.guest.root("systemctl stop pushbutton-handler pushbutton-operator@1");
    assert_eq!((lab.comments(&change).len(), lab.comments(&interrupted).len(), lab.servers()), (1, 1, 0));

    assert_the_dashboard_shows(&lab, &[change.number, interrupted.number]);
    assert_a_removal_keeps_configuration_state_and_logs(&lab);
    assert_a_purge_leaves_the_keys_of_people(&lab);

    install_by_hand(&lab, &tarball(folder.path(), &packages[0]));
    let change = lab.recheck(0);
    let comment = lab.comment_on(&change, "pushbutton");
    assert!(comment.starts_with("Build succeeded (check pipeline)."), "{comment}");
    assert_console_of(&lab, &comment, &change.revision);
    lab.guest.root("systemctl stop pushbutton");
}

/// Makes the package of the binary under test.
fn package(folder: &Path, revision: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let made = Command::new(root.join("scripts/package"))
        .arg(env!("CARGO_BIN_EXE_pushbutton-bin"))
        .arg(folder)
        .args(["--fast", &format!("--deb-revision={revision}")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(made.status.success(), "scripts/package:\n{}", text(&made.stderr));
    PathBuf::from(text(&made.stdout).lines().last().unwrap())
}

/// Makes the tarball of a release that holds the binary under test.
fn tarball(folder: &Path, package: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let made = Command::new(root.join("scripts/release"))
        .arg("--tarball")
        .arg(package)
        .arg(env!("CARGO_BIN_EXE_pushbutton-bin"))
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(made.status.success(), "scripts/release:\n{}", text(&made.stderr));
    let is_tarball = |path: &PathBuf| path.to_string_lossy().ends_with(".tar.gz");
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find(is_tarball).unwrap()
}

/// By the words of the unit in the tarball, as a person types them.
fn install_by_hand(lab: &Lab, tarball: &Path) {
    lab.guest.copy(tarball, "/var/tmp/pushbutton.tar.gz");
    lab.guest.root("cd /root && tar xzf /var/tmp/pushbutton.tar.gz && mv pushbutton-*/ release");
    let unit = lab.guest.root("cat /root/release/systemd/pushbutton.service");
    let words = unit.lines().map_while(|line| line.strip_prefix('#'));
    let typed = words.filter_map(|line| line.strip_prefix("     ")).collect::<Vec<_>>().join("\n");
    let (first, last) = typed.split_once("$EDITOR /etc/pushbutton/pushbutton.yml").unwrap();
    lab.guest.root(&format!("set -e; cd /root/release\n{first}"));
    lab.configure();
    let watches = || lab.journal("pushbutton").matches("the event stream runs").count();
    let before = watches();
    lab.guest.root(&format!("set -e; cd /root/release\n: {last}"));
    let version = lab.guest.root("readlink /proc/$(systemctl show -P MainPID pushbutton)/exe");
    assert_eq!(version, "/usr/local/bin/pushbutton-bin\n");
    until("it watches Gerrit", Duration::from_secs(60), || (watches() > before).then_some(()));
}

/// Installs it with what it recommends, but without what that recommends: Ansible has hundreds of MB of collections.
fn install(lab: &Lab, package: &Path) {
    lab.guest.copy(package, "/var/tmp/pushbutton.deb");
    let recommended = lab.guest.root("dpkg-deb --field /var/tmp/pushbutton.deb Recommends");
    let recommended =
        recommended.split(',').filter_map(|one| one.split_whitespace().next()).collect::<Vec<_>>();
    assert!(recommended.contains(&"ansible-core"), "{recommended:?}");
    lab.guest.root(&format!(
        "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && \
         apt-get -qq -y --no-install-recommends install /var/tmp/pushbutton.deb {} && rm /var/tmp/pushbutton.deb",
        recommended.join(" ")
    ));
}

fn assert_idle_after_the_installation(lab: &Lab) {
    for unit in UNITS {
        assert_eq!(lab.state_of(unit), "inactive", "{unit}");
        let enabled = lab.guest.run(&format!("systemctl is-enabled {unit}"));
        assert_eq!(text(&enabled.stdout).trim(), "disabled", "{unit}");
    }
    let owners = lab.guest.root(
        "stat -c '%a %U:%G %n' /etc/pushbutton /etc/pushbutton/pushbutton.yml /etc/default/pushbutton \
         /var/lib/pushbutton /var/log/pushbutton",
    );
    assert_eq!(
        owners.lines().collect::<Vec<_>>(),
        [
            "750 root:pushbutton /etc/pushbutton",
            "640 root:pushbutton /etc/pushbutton/pushbutton.yml",
            "640 root:root /etc/default/pushbutton",
            "750 pushbutton:pushbutton /var/lib/pushbutton",
            "750 pushbutton:pushbutton /var/log/pushbutton",
        ]
    );
    let example = "cmp /usr/share/doc/pushbutton/examples/pushbutton.yml /etc/pushbutton/pushbutton.yml && dpkg --verify pushbutton";
    assert_eq!(lab.guest.root(example), "");
    let schema = lab.guest.root("cat /usr/share/pushbutton/pushbutton.schema.json");
    assert_eq!(schema, include_str!("../../../docs/pushbutton.schema.json"));
    let completed = lab.guest.root(
        "source /usr/share/bash-completion/completions/pushbutton-bin; COMP_WORDS=(pushbutton-bin hand); COMP_CWORD=1; \
         _pushbutton__bin pushbutton-bin hand pushbutton-bin; echo ${COMPREPLY[@]}",
    );
    assert_eq!(completed, "handler\n");
}

/// A start with the file as it was installed fails at once, says why, and is not tried again.
fn assert_the_configuration_must_be_edited(lab: &Lab) {
    lab.guest.root("systemctl start pushbutton");
    until("the start has failed", Duration::from_secs(30), || {
        (lab.state_of("pushbutton") == "failed").then_some(())
    });
    let ended =
        lab.guest.root("systemctl show -P ExecMainStatus pushbutton; systemctl reset-failed pushbutton");
    let said = lab.journal("pushbutton");
    assert_eq!(ended, "2\n", "{said}");
    assert!(said.contains("/etc/pushbutton/pushbutton.yml:") && said.contains("owner"), "{said}");
}

/// The logs are where the configuration says, and from this change.
fn assert_console_of(lab: &Lab, comment: &str, revision: &str) {
    let url =
        comment.split_whitespace().find_map(|word| word.strip_prefix("http://logs.example.org/")).unwrap();
    let console = lab.guest.root(&format!("cat '/var/log/pushbutton/{url}/console.log'"));
    assert!(console.contains(revision), "{console}");
}

/// `systemctl stop` while a playbook runs: no node is left, and the job waits.
fn assert_a_stop_returns_the_job(lab: &Lab) {
    until("a playbook runs", Duration::from_secs(300), || {
        lab.guest.run("pgrep -u pushbutton ansible-playboo").status.success().then_some(())
    });
    lab.guest.root("systemctl stop pushbutton");
    let ended = lab.guest.root("systemctl show -P ExecMainStatus -P Result pushbutton");
    assert_eq!(ended.split_whitespace().collect::<Vec<_>>(), ["success", "0"]);
    assert_eq!(lab.servers(), 0);
    let status = lab.guest.root(&lab.command("status --json"));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["depth"]["waiting"], &status["depth"]["leased"]), (&1.into(), &0.into()), "{status}");
    assert_eq!(status["runs"][0]["state"], "retrying", "{status}");
}

/// The handler runs and is enabled, the rest is not: the upgrade restarts the handler, and starts nothing else.
fn upgrade(lab: &Lab, package: &Path) {
    lab.guest
        .root("echo RUST_LOG=debug >>/etc/default/pushbutton; systemctl -q enable --now pushbutton-handler");
    let sums =
        "sha256sum /etc/default/pushbutton /etc/pushbutton/*; systemctl show -P MainPID pushbutton-handler";
    let before = lab.guest.root(sums);
    install(lab, package);
    assert!(lab.guest.root("dpkg-query -W -f '${Version}' pushbutton").ends_with("-2"));
    let after = lab.guest.root(sums);
    let (files, process) = before.trim().rsplit_once('\n').unwrap();
    let (files_after, process_after) = after.trim().rsplit_once('\n').unwrap();
    assert_eq!(files, files_after);
    assert_ne!(process, process_after, "it is the process of the version before");
    assert_eq!(UNITS.map(|unit| lab.state_of(unit)), ["inactive", "active", "inactive", "inactive"]);
}

fn assert_the_dashboard_shows(lab: &Lab, changes: &[u64]) {
    lab.guest.root("systemctl start pushbutton-dashboard");
    until("the dashboard answers", Duration::from_secs(60), || {
        lab.guest.run(&lab.command("health")).status.success().then_some(())
    });
    until("it shows the runs", Duration::from_secs(60), || {
        let runs = lab.guest.root("curl -s http://127.0.0.1:8080/api/runs");
        changes
            .iter()
            .all(|change| runs.contains(&format!("{change},1")) || runs.contains(&format!(":{change},")))
            .then_some(())
    });
}

fn assert_a_removal_keeps_configuration_state_and_logs(lab: &Lab) {
    lab.guest.root("DEBIAN_FRONTEND=noninteractive apt-get -qq -y remove pushbutton");
    assert_eq!(text(&lab.guest.run("pgrep -u pushbutton").stdout), "", "the dashboard ran");
    assert_eq!(
        left(lab),
        [
            "/etc/default/pushbutton",
            "/etc/pushbutton",
            "/etc/systemd/system/multi-user.target.wants/pushbutton-handler.service",
            "/var/lib/dpkg/info/pushbutton.list",
            "/var/lib/dpkg/info/pushbutton.postrm",
            "/var/lib/pushbutton",
            "/var/log/pushbutton",
        ]
    );
}

fn assert_a_purge_leaves_the_keys_of_people(lab: &Lab) {
    lab.guest.root("DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge pushbutton");
    assert_eq!(left(lab), ["/etc/pushbutton"]);
    let keys = lab.guest.root("ls /etc/pushbutton; getent passwd pushbutton | cut -d: -f6");
    let keys = keys.split_whitespace().collect::<Vec<_>>();
    assert_eq!(keys, ["clouds.yaml", "gerrit-key", "known_hosts", "node-key", "/var/lib/pushbutton"]);
}

/// What has our name or belongs to our user, anywhere; of a folder, nothing below it.
fn left(lab: &Lab) -> Vec<String> {
    let found = lab.guest.root(
        "find / -xdev \\( -name '*pushbutton*' -o -user pushbutton -o -group pushbutton \\) -prune -print | sort",
    );
    found.lines().map(str::to_owned).collect()
}
