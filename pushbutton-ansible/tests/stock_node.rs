//! The shipped playbooks on a machine as people have it: a stock Debian, which has nothing that they need.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{TestRun, label, shipped_playbooks, stage};
use pushbutton_core::{
    CancellationToken, Change, ChangeNumber, Dependency, DependencyKind, Executor as _, LineSink, Node,
    Patchset, PatchsetNumber, RunId, StageOutcome, StageStatus,
};
use pushbutton_testbed::{GitServer, Keypair, OpenStack, Server, openstack, stock_image};
use serde_json::json;

fn git(folder: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with these files, on the branch `master`.
fn repository(folder: PathBuf, files: &Path) -> PathBuf {
    std::fs::create_dir_all(&folder).unwrap();
    git(&folder, &["init", "-q", "-b", "master"]);
    for file in std::fs::read_dir(files).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    git(&folder, &["add", "."]);
    git(&folder, &["commit", "-q", "--allow-empty", "-m", "first"]);
    folder
}

fn gunzip(file: &Path) -> String {
    let output = Command::new("gzip").arg("-dc").arg(file).output().unwrap();
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A stock server of the cloud, and one run on it.
struct Lab<'a> {
    cloud: &'a OpenStack,
    keypair: &'a Keypair<'a>,
    server: Server,
    run: TestRun,
    project: PathBuf,
    _git: GitServer,
}

impl<'a> Lab<'a> {
    fn boot(cloud: &'a OpenStack, keypair: &'a Keypair<'a>) -> Self {
        let server = cloud.boot(stock_image(), &keypair.name, keypair, &json!({}));
        let mut run = TestRun::new(shipped_playbooks());
        let served = run.folder.path().join("served");
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stock_node");
        repository(served.join("openstack/devstack"), &files);
        let empty = tempfile::tempdir().unwrap();
        repository(served.join("openstack/cinder-tempest-plugin"), empty.path());
        let requirements = tempfile::tempdir().unwrap();
        std::fs::write(requirements.path().join("upper-constraints.txt"), "tempest===42.0.0\n").unwrap();
        repository(served.join("openstack/requirements"), requirements.path());
        let project = repository(run.folder.path().join("gerrit/openstack/cinder"), empty.path());
        git(&project, &["tag", "-a", "-m", "a release", "26.0.0"]);
        let git_server = GitServer::start(&cloud.host_address(), &served);
        let dead = git_server.url.rsplit_once(':').unwrap().0.to_owned() + ":1";
        let proxy = format!("http://{}:3128", cloud.host_address());
        let vars = json!({
            "checkout_patchset_url": "file:///nowhere",
            "checkout_patchset_mirrors": [format!("file://{}/gerrit", run.folder.path().display())],
            "checkout_patchset_retries": 0, "checkout_patchset_delay": 0, "checkout_patchset_depth": 0,
            "prepare_node_apt_proxy": proxy, "prepare_node_names": ["localhost"],
            "prepare_node_pip_conf": "[global]\nproxy = http://192.0.2.1:8080",
            "install_devstack_git_base": dead, "install_devstack_mirrors": [git_server.url, dead.replace(":1", ":2")],
            "install_devstack_retries": 0, "install_devstack_delay": 0,
            "install_devstack_tempest_plugins": ["cinder-tempest-plugin"],
            "install_devstack_tempest_constraints": "master",
            "install_devstack_proxy": proxy,
            "install_devstack_local_conf": "[[post-config|$CINDER_CONF]]\n[acme]\nsan_password = {{ array_password }}",
            "array_password": "hunter22",
        });
        let vars = vars.as_object().unwrap().clone();
        run.context.vars.extend(vars);
        Self { cloud, keypair, server, run, project, _git: git_server }
    }

    fn set(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.run.context.vars.insert(name.to_owned(), value.into());
    }

    /// The next patch set, tested by another run.
    fn propose(&mut self) -> String {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(self.project.join("kept.py")).unwrap();
        writeln!(file, "1").unwrap();
        git(&self.project, &["add", "."]);
        git(&self.project, &["commit", "-q", "-m", "a patch"]);
        let patchset = &mut self.run.context.job.patchset;
        git(&self.project, &["update-ref", patchset.git_ref.as_str(), "HEAD"]);
        let revision = git(&self.project, &["rev-parse", "HEAD"]);
        patchset.revision = revision.parse().unwrap();
        self.run.context.run = RunId::generate();
        revision
    }

    /// Makes the change depend on an open one of another project. Returns the commit that its tree must have.
    fn depend_on(&mut self, name: &str) -> String {
        let empty = tempfile::tempdir().unwrap();
        let other = repository(self.run.folder.path().join("gerrit/openstack").join(name), empty.path());
        let reference = "refs/changes/77/77/1";
        git(&other, &["commit", "-q", "--allow-empty", "-m", "needed"]);
        git(&other, &["update-ref", reference, "HEAD"]);
        git(&other, &["reset", "-q", "--hard", "HEAD^"]);
        let revision = git(&other, &["rev-parse", reference]);
        let project = format!("openstack/{name}").parse().unwrap();
        let change = Change::new(project, "master".parse().unwrap(), ChangeNumber(77));
        let patchset =
            Patchset::new(PatchsetNumber(1), revision.parse().unwrap(), reference.parse().unwrap());
        let dependency = Dependency::new(&change, &patchset, DependencyKind::DependsOn);
        self.run.context.job.dependencies = vec![dependency];
        revision
    }

    async fn playbook(&self, name: &str) -> StageOutcome {
        let address = self.server.addresses.first().unwrap();
        let key = Some(self.keypair.private_key.clone());
        let nodes = [Node::ssh("node", label(), address, "debian").with_key_file(key)];
        // Packages come over the network, and the machine may be busy.
        let stage = stage(name).with_timeout(Duration::from_secs(1200));
        let (context, cancel) = (&self.run.context, CancellationToken::new());
        self.run.executor.execute(&stage, &nodes, context, &LineSink::bounded(2).0, &cancel).await.unwrap()
    }

    async fn passes(&self, name: &str) {
        let outcome = self.playbook(name).await;
        assert_eq!(outcome.status, StageStatus::Passed, "{name}: {outcome:?}\n{}", self.run.console());
    }

    /// Runs the playbook, which must fail, and returns why.
    async fn fails(&self, name: &str) -> String {
        let outcome = self.playbook(name).await;
        assert_eq!(outcome.status, StageStatus::Failed, "{name}: {outcome:?}\n{}", self.run.console());
        outcome.detail.unwrap()
    }

    /// What a command prints on the node.
    fn on_node(&self, command: &str) -> String {
        let output = self.server.ssh(self.keypair, command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        self.cloud.delete(&self.server);
    }
}

#[tokio::test]
async fn a_stock_debian_is_prepared_tested_and_used_again() {
    let cloud = openstack();
    let keypair = cloud.keypair(&format!("playbooks-stock-{}", std::process::id()));
    let mut lab = Lab::boot(&cloud, &keypair);

    let first = lab.propose();
    let library = lab.depend_on("os-brick");
    lab.passes("prepare_node.yml").await;
    let refused =
        |port: &str| lab.run.console().lines().any(|line| line.contains("fatal: ") && line.contains(port));
    assert!(refused(":1/openstack/") && !refused(":2/openstack/"), "servers are tried until one has it");
    assert_eq!(lab.on_node("sudo stat -c '%U %a' /opt/stack/devstack/local.conf"), "stack 600");
    let local_conf = lab.on_node("sudo cat /opt/stack/devstack/local.conf");
    for line in [
        "san_password = hunter22",
        "TEMPEST_PLUGINS=\"/opt/stack/cinder-tempest-plugin\"",
        &format!("http_proxy=http://{}:3128", cloud.host_address()),
        "TEMPEST_VENV_UPPER_CONSTRAINTS=/opt/stack/tempest-constraints/upper-constraints.txt",
        "LIBS_FROM_GIT=os-brick",
    ] {
        assert!(local_conf.lines().any(|other| other == line), "{line} in\n{local_conf}");
    }
    let constraints = lab.on_node("cat /opt/stack/tempest-constraints/upper-constraints.txt");
    assert_eq!(constraints, "tempest===42.0.0");
    // Devstack sources this part of the file. A proxy cannot reach the services of the node.
    let no_proxy =
        lab.on_node("eval \"$(sudo grep ^no_proxy= /opt/stack/devstack/local.conf)\"; echo $no_proxy");
    assert_eq!(no_proxy, format!("127.0.0.1,localhost,{}", lab.server.addresses.first().unwrap()));
    assert_eq!(lab.on_node("LC_ALL=en_US.utf8 bash -c true 2>&1"), "", "devstack's locale is there");
    let expected = "DPkg::Lock::Timeout \"300\";";
    assert!(lab.on_node("cat /etc/apt/apt.conf.d/95pushbutton").contains(expected));
    assert_eq!(lab.on_node("cat /etc/pip.conf"), "[global]\nproxy = http://192.0.2.1:8080");
    lab.passes("install_devstack.yml").await;
    let output = lab.on_node("cat /var/tmp/pushbutton-*/stack.sh.txt");
    assert!(output.contains("stack.sh completed with http://"), "{output}");
    lab.passes("verify_devstack.yml").await;
    let described = lab.on_node("sudo -u stack git -C /opt/stack/cinder describe --tags");
    assert!(described.starts_with("26.0.0-"), "pbr finds the tag: {described}");
    assert_eq!(lab.on_node("sudo -u stack git -C /opt/stack/os-brick rev-parse HEAD"), library);
    lab.passes("gather_logs.yml").await;
    for (gathered, on_node) in [
        ("keystone/keystone.conf", "/etc/keystone/keystone.conf"),
        ("apache2/keystone_access.log", "/var/log/apache2/keystone_access.log"),
    ] {
        let content = lab.on_node(&format!("sudo cat {on_node}")) + "\n";
        assert_eq!(
            gunzip(&lab.run.context.log_dir.join(format!("logs/{gathered}.gz"))),
            content,
            "{gathered}"
        );
    }
    let names = std::fs::read_dir(lab.run.context.log_dir.join("logs/keystone")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["keystone.conf.gz"], "keys are not gathered");
    let local_conf = std::fs::read_to_string(lab.run.context.log_dir.join("local.conf")).unwrap();
    assert!(!local_conf.contains("hunter22") && local_conf.contains("san_password"), "{local_conf}");

    // The same machine again. Its service runs, its database is there, its trees belong to another user.
    let second = lab.propose();
    assert_ne!(first, second);
    lab.passes("prepare_node.yml").await;
    assert_eq!(lab.on_node("sudo -u stack git -C /opt/stack/cinder rev-parse HEAD"), second);
    assert_eq!(lab.on_node("systemctl is-active devstack@c-api || true"), "inactive");
    assert_eq!(lab.on_node("ls -d /var/lib/mysql 2>/dev/null || true"), "");
    let folder = format!("/var/tmp/pushbutton-{}", lab.run.context.run);
    assert_eq!(lab.on_node("ls -d /var/tmp/pushbutton-*"), folder, "that of the earlier run is gone");
    lab.set("install_devstack_local_conf", "RECLONE=True");
    lab.passes("prepare_node.yml").await;
    lab.passes("install_devstack.yml").await;
    let why = lab.fails("verify_devstack.yml").await;
    assert!(why.contains(&format!("not {second}")) && why.contains("RECLONE"), "{why}");
    // Another commit only of what it depends on.
    lab.on_node(&format!("sudo -u stack git -C /opt/stack/cinder reset -q --hard {second}"));
    let why = lab.fails("verify_devstack.yml").await;
    assert!(why.contains(&format!("from /opt/stack/os-brick, not {library}")), "{why}");

    // Nothing says that pushbutton has put this there.
    lab.on_node("sudo rm /opt/stack/.pushbutton");
    let why = lab.fails("prepare_node.yml").await;
    for part in ["node is not clean: there is the service devstack@c-api.service, /opt/stack/", "clean.sh"] {
        assert!(why.contains(part), "{part:?} in {why}");
    }
    assert_eq!(lab.on_node("systemctl is-active devstack@c-api"), "active", "nothing of it was removed");

    // An image with trees: those of devstack and of the project are replaced, the others stay.
    lab.on_node("sudo touch /opt/stack/cinder/stale.py /opt/stack/devstack/stale.sh /opt/stack/of-the-image");
    lab.set("install_devstack_existing", "keep");
    let third = lab.propose();
    lab.passes("prepare_node.yml").await;
    let on_tree = |words: &str| lab.on_node(&format!("sudo -u stack git -C /opt/stack/cinder {words}"));
    assert_eq!(on_tree("rev-parse HEAD"), third);
    assert_eq!(on_tree("status --porcelain --ignored"), "", "nothing but the patch set");
    let devstack = "clean.sh\nlocal.conf\nstack.sh\nunstack.sh";
    assert_eq!(lab.on_node("ls /opt/stack/devstack"), devstack);
    assert_eq!(lab.on_node("ls /opt/stack/of-the-image"), "/opt/stack/of-the-image");
    let patchset = std::fs::read_to_string(lab.run.context.log_dir.join("patchset.txt")).unwrap();
    assert!(patchset.ends_with("\n\n kept.py | 1 +\n 1 file changed, 1 insertion(+)\n"), "{patchset}");
}

/// Issue 11, point 2: the pair of an active/active test.
#[tokio::test]
async fn of_two_nodes_the_second_runs_its_own_services_with_the_first_ones_database() {
    let cloud = openstack();
    let keypair = cloud.keypair(&format!("playbooks-pair-{}", std::process::id()));
    let mut first = Lab::boot(&cloud, &keypair);
    let second = Lab::boot(&cloud, &keypair);
    // What people write for the first; it must not reach the second.
    first.set(
        "install_devstack_local_conf",
        "ENABLED_SERVICES=key,c-api\n[[post-config|$CINDER_CONF]]\n[acme]\na = b",
    );
    let revision = first.propose();
    let address = |lab: &Lab<'_>| lab.server.addresses.first().unwrap().clone();
    let node = |name: &str, lab: &Lab<'_>| {
        Node::ssh(name, label(), address(lab), "debian").with_key_file(Some(keypair.private_key.clone()))
    };
    let nodes = [node("first", &first), node("second", &second)];
    for name in ["prepare_two_nodes.yml", "install_two_nodes.yml", "verify_devstack.yml", "gather_logs.yml"] {
        let stage = stage(name).with_timeout(Duration::from_secs(1200));
        let (run, cancel) = (&first.run, CancellationToken::new());
        let lines = LineSink::bounded(2).0;
        let outcome = run.executor.execute(&stage, &nodes, &run.context, &lines, &cancel).await.unwrap();
        assert_eq!(outcome.status, StageStatus::Passed, "{name}: {outcome:?}\n{}", run.console());
    }
    let settings = "sudo cat /opt/stack/devstack/.localrc >/tmp/localrc; . /tmp/localrc; \
         echo \"$ENABLED_SERVICES|${SERVICE_HOST:-}|${RABBIT_HOST:-}|${HOST_IP:-}\"";
    let of_first = address(&first);
    assert_eq!(first.on_node(settings), format!("key,c-api|||{of_first}"));
    assert_eq!(second.on_node(settings), format!("c-vol|{of_first}|{of_first}|"));
    for lab in [&first, &second] {
        assert_eq!(lab.on_node("sudo -u stack git -C /opt/stack/cinder rev-parse HEAD"), revision);
        assert!(lab.on_node("cat /var/tmp/pushbutton-*/stack.sh.txt").contains("stack.sh completed with "));
    }
    let log_dir = &first.run.context.log_dir;
    for name in ["environment-first.txt", "environment-second.txt"] {
        assert!(std::fs::read_to_string(log_dir.join(name)).unwrap().contains(&revision), "{name}");
    }
    for (name, line) in [("first", "HOST_IP="), ("second", "ENABLED_SERVICES=c-vol\n")] {
        let local_conf = std::fs::read_to_string(log_dir.join(name).join("local.conf")).unwrap();
        assert!(local_conf.contains(line), "{line} in {name}:\n{local_conf}");
    }
}

#[tokio::test]
async fn another_interface_is_configured_and_the_device_under_test_is_cleaned() {
    let cloud = openstack();
    let keypair = cloud.keypair(&format!("playbooks-nic-{}", std::process::id()));
    let mut lab = Lab::boot(&cloud, &keypair);
    lab.set("add_nic_address", "192.0.2.20/24");
    // The other interfaces of the node have addresses.
    let why = lab.fails("add_nic.yml").await;
    assert!(why.contains("0 interfaces of node are without an address: lo, eth0 are there"), "{why}");
    lab.on_node(
        "sudo ip link add storage0 type veth peer name storage1 && sudo ip address add 192.0.2.10/24 dev storage1 && \
         sudo ip link set storage1 up",
    );
    lab.set("add_nic_mtu", 9000);
    lab.set("add_nic_reach", vec!["192.0.2.10:22"]);
    lab.passes("add_nic.yml").await;
    let shown = lab.on_node("ip -o address show dev storage0; ip -o link show dev storage0");
    assert!(shown.contains("inet 192.0.2.20/24") && shown.contains("mtu 9000"), "{shown}");
    // The same machine again; and with no address but the one that an interface makes itself.
    lab.passes("add_nic.yml").await;
    lab.on_node("sudo ip address del 192.0.2.20/24 dev storage0");
    assert!(lab.on_node("ip -o -6 address show dev storage0").contains("fe80:"));
    lab.passes("add_nic.yml").await;
    assert_eq!(lab.on_node("ip -o -4 address show dev storage0 | wc -l"), "1");

    let program = lab.run.folder.path().join("clean-array");
    let seen = lab.run.folder.path().join("seen");
    let text = format!("#!/bin/sh\n[ -e {0} ] || {{ touch {0}; exit 1; }}\nenv >{0}\n", seen.display());
    std::fs::write(&program, text).unwrap();
    Command::new("chmod").arg("+x").arg(&program).status().unwrap();
    lab.set("clean_array_command", vec![program.to_str().unwrap()]);
    lab.set("clean_array_environment", json!({"ARRAY_PASSWORD": "{{ array_password }}"}));
    lab.set("clean_array_delay", 0);
    lab.passes("clean_array.yml").await;
    let seen = std::fs::read_to_string(seen).unwrap();
    for line in [
        &format!("PUSHBUTTON_RUN={}", lab.run.context.run),
        "PUSHBUTTON_CHANGE=12345",
        &format!("PUSHBUTTON_NODES={}", lab.server.addresses.first().unwrap()),
        "ARRAY_PASSWORD=hunter22",
    ] {
        assert!(seen.lines().any(|other| other == line), "{line} in\n{seen}");
    }
}
