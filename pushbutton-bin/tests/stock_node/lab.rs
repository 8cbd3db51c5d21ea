//! A lab as `init` and `run` make it, on the testbed's servers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pushbutton_core::RunId;
use pushbutton_testbed::{
    Change, Gerrit, GitServer, Keypair, MailServer, OpenStack, ansible_bin, gerrit, openstack, stock_image,
    stock_wheels, until,
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30 * 60);

pub(crate) struct Lab {
    gerrit: Gerrit,
    cloud: &'static OpenStack,
    project: String,
    /// A library of Keystone's, which is on no package index.
    library: String,
    mail: MailServer,
    owner: String,
    process: std::sync::Mutex<Child>,
    folder: TempDir,
    _git: GitServer,
    _keypair: Keypair<'static>,
}

impl Lab {
    pub(crate) fn start() -> Self {
        let image = stock_image();
        let wheels = stock_wheels();
        let gerrit = gerrit();
        let cloud: &'static OpenStack = Box::leak(Box::new(openstack()));
        let owner = format!("stock-{}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let served = folder.path().join("served/openstack");
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stock_node/devstack");
        repository(&served.join("devstack"), |into| copy_all(&stand_in, into));
        repository(&served.join("requirements"), |into| {
            let text = std::fs::read_to_string(wheels.join("upper-constraints.txt")).unwrap();
            let others: Vec<_> = text.lines().filter(|line| !line.starts_with("keystone==")).collect();
            std::fs::write(into.join("upper-constraints.txt"), others.join("\n") + "\n").unwrap();
        });
        repository(&served.join("cinder-tempest-plugin"), |_| {});
        let project = format!("{owner}/keystone");
        gerrit.create_project(&project);
        push_keystone(&gerrit, &project, &wheels);
        let library = format!("{owner}/os-marker");
        gerrit.create_project(&library);
        push_branch(&gerrit, &library, "A library", |folder| {
            std::fs::create_dir(folder.join("os_marker")).unwrap();
            std::fs::write(folder.join("os_marker/__init__.py"), "").unwrap();
            let setup = "import setuptools\n\nsetuptools.setup(name=\"os-marker\", version=\"1.0\", packages=[\"os_marker\"])\n";
            std::fs::write(folder.join("setup.py"), setup).unwrap();
        });
        let mail = MailServer::start();
        let git = GitServer::start(&cloud.host_address(), &folder.path().join("served"));
        let keypair = cloud.keypair(&owner);
        let lab_file = folder.path().join("pushbutton.yml");
        assert!(command(&lab_file).args(["init"]).arg(&lab_file).output().unwrap().status.success());
        let text = std::fs::read_to_string(&lab_file).unwrap();
        let text = fill_in(&text, &gerrit, cloud, &keypair, image, &project, &git.url);
        let text = fill_in_alarm(&text, mail.port);
        std::fs::write(&lab_file, text).unwrap();
        let environment = environment(&gerrit, cloud, &owner, folder.path());
        let checked = command(&lab_file).envs(environment.clone()).arg("check").output().unwrap();
        let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        assert!(checked.status.success(), "pushbutton-bin check:\n{said}");
        let log = std::fs::File::create(folder.path().join("run.log")).unwrap();
        let process = command(&lab_file)
            .envs(environment)
            .env("RUST_LOG", "info")
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let process = process.into();
        Self { gerrit, cloud, project, library, mail, owner, process, folder, _git: git, _keypair: keypair }
    }

    /// A file of the project, as it is on the branch.
    pub(crate) fn file(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.path().join("base").join(path)).unwrap_or_else(|_| {
            let base = self.folder.path().join("base");
            let url = format!("{}/{}", self.gerrit.http_url, self.project);
            git(self.folder.path(), &["clone", "-q", &url, base.to_str().unwrap()]);
            std::fs::read_to_string(base.join(path)).unwrap()
        })
    }

    pub(crate) fn push(&self, path: &str, content: &str) -> Change {
        self.gerrit.push_change(&self.project, "master", &[(path, content)])
    }

    pub(crate) fn push_to_library(&self, path: &str, content: &str) -> Change {
        self.gerrit.push_change(&self.library, "master", &[(path, content)])
    }

    /// A change that needs one of another project, by the footer of its commit message.
    pub(crate) fn push_depending(&self, on: &Change, files: &[(&str, &str)]) -> Change {
        let url = format!("{}/c/{}/+/{}", self.gerrit.http_url, on.project, on.number);
        let id = RunId::generate().as_str().replace('-', "") + "00000000";
        let message = format!("A change that needs another\n\nDepends-On: {url}\nChange-Id: I{id}\n");
        self.gerrit.push_message(&self.project, "master", &message, files)
    }

    /// Merges a change into its branch.
    pub(crate) fn submit(&self, change: &Change) {
        let votes = serde_json::json!({"labels": {"Code-Review": 2, "Verified": 2, "Workflow": 1}});
        self.gerrit.review("admin", change.number, change.patchset, &votes);
        self.gerrit.act("admin", change.number, "submit");
    }

    /// The head of the branch of a change.
    pub(crate) fn branch_head(&self, change: &Change) -> String {
        self.gerrit.branch_head(&change.project, &change.branch)
    }

    /// Waits for a mail with this subject to the lab's people, and returns all that they were sent.
    pub(crate) fn mail(&self, subject: &str) -> String {
        let subject = format!("Subject: {subject}\n");
        until(&format!("a mail with {subject}"), LIMIT, || {
            self.is_running();
            Some(self.mails()).filter(|received| received.contains(&subject))
        })
    }

    /// All that the lab's people were sent.
    pub(crate) fn mails(&self) -> String {
        self.mail.received()
    }

    /// What we wrote on a change.
    pub(crate) fn comments(&self, change: &Change) -> Vec<String> {
        let messages = self.gerrit.messages(change.number).into_iter();
        messages.filter(|message| message.author == "acme-ci").map(|message| message.text).collect()
    }

    fn is_running(&self) {
        let ended = self.process.lock().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "it ended: {ended:?}\n{}", self.log());
    }

    pub(crate) fn comment(&self, change: &Change, text: &str) {
        self.gerrit.comment("bob", change.number, change.patchset, text);
    }

    /// Waits for our comment on a change; returns it without Gerrit's own first line.
    pub(crate) fn comment_on(&self, change: &Change) -> String {
        let comment = until(&format!("a comment on change {}", change.number), LIMIT, || {
            self.is_running();
            self.comments(change).pop()
        });
        eprintln!("change {}: {comment}", change.number);
        comment.split_once("\n\n").map_or(comment.clone(), |(_, rest)| rest.to_owned())
    }

    pub(crate) fn votes(&self, change: &Change) -> Vec<i32> {
        let votes = self.gerrit.votes(change.number);
        let ours = votes.into_iter().filter(|vote| vote.user == "acme-ci" && vote.label == "Verified");
        ours.map(|vote| vote.value).collect()
    }

    /// The folder of the run that a comment links to.
    pub(crate) fn log_dir(&self, comment: &str) -> PathBuf {
        let url =
            comment.split_whitespace().find(|word| word.starts_with("http://logs.example.org/")).unwrap();
        self.folder.path().join("logs").join(url.trim_start_matches("http://logs.example.org/"))
    }

    pub(crate) fn stop(&self) {
        let mut child = self.process.lock().unwrap();
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        let status = until("its end", Duration::from_secs(120), || child.try_wait().unwrap());
        assert!(status.success(), "it ended with {status}:\n{}", self.log());
    }

    pub(crate) fn assert_no_server_is_left(&self) {
        let mut servers = self.cloud.list_servers();
        servers.retain(|server| server.metadata.get("pushbutton_owner") == Some(&self.owner));
        assert!(servers.is_empty(), "{servers:?}");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("run.log")).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut child = self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(None)) {
            let _ = child.kill();
            let _ = child.wait();
            eprintln!("--- it said:\n{}", self.log());
            for console in walk(&self.folder.path().join("logs")) {
                eprintln!(
                    "--- {}:\n{}",
                    console.display(),
                    std::fs::read_to_string(&console).unwrap_or_default()
                );
            }
            for server in self.cloud.list_servers() {
                if server.metadata.get("pushbutton_owner") == Some(&self.owner) {
                    self.cloud.delete(&server);
                }
            }
        }
    }
}

/// All `console.log` below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(walk(&entry.path()));
        } else if entry.file_name() == "console.log" {
            found.push(entry.path());
        }
    }
    found
}

fn command(file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushbutton-bin"));
    command.arg("--config").arg(file);
    command
}

/// What the default configuration takes from the environment.
fn environment(gerrit: &Gerrit, cloud: &OpenStack, owner: &str, folder: &Path) -> Vec<(String, String)> {
    [
        ("PUSHBUTTON_OWNER", owner.to_owned()),
        ("GERRIT_HOST", gerrit.ssh_host.clone()),
        ("GERRIT_USER", "acme-ci".to_owned()),
        ("GERRIT_KEY", gerrit.key("acme-ci").display().to_string()),
        ("CLOUDS_FILE", cloud.clouds_yaml.display().to_string()),
        ("PUSHBUTTON_LOGS", folder.join("logs").display().to_string()),
        ("PUSHBUTTON_STATE", folder.join("state").display().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// What people fill in. Each line must be in the default file, as it stands.
fn fill_in(
    text: &str,
    gerrit: &Gerrit,
    cloud: &OpenStack,
    keypair: &Keypair<'_>,
    image: &str,
    project: &str,
    git_base: &str,
) -> String {
    let playbooks = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("playbooks");
    let ansible = ansible_bin().join("ansible-playbook");
    let (host, name, key) = (cloud.host_address(), &keypair.name, keypair.private_key.display());
    let pip = format!(
        "[global]\\nno-index = true\\nfind-links = http://{host}:3128/wheels/\\ntrusted-host = {host}"
    );
    let dead = git_base.rsplit_once(':').unwrap().0.to_owned() + ":1";
    let filled = [
        ("  # port: 29418", format!("  port: {}", gerrit.ssh_port)),
        ("  host_key: {}", format!("  host_key: {{known_hosts: {}}}", gerrit.known_hosts.display())),
        ("    vote: never", "    vote: both".to_owned()),
        ("  # cloud: lab", format!("  cloud: {}", cloud.cloud)),
        ("      image: ubuntu-noble", format!("      image: {image}")),
        ("      flavor: m1.xlarge", "      flavor: m1.tiny".to_owned()),
        ("      user: ubuntu", "      user: debian".to_owned()),
        ("      key_name: pushbutton", format!("      key_name: {name}")),
        ("      # key_file: ~/.ssh/id_ed25519", format!("      key_file: {key}")),
        ("      # networks: [private]", "      networks: [private]".to_owned()),
        // The node refuses logins for its first half minute.
        ("      # metadata: {team: storage}", "      metadata: {testbed_guest: \"nologin:30\"}".to_owned()),
        ("  playbooks: ./playbooks", format!("  playbooks: {}", playbooks.display())),
        ("  # ansible_playbook: ansible-playbook", format!("  ansible_playbook: {}", ansible.display())),
        ("  # url: https://logs.example.org", "  url: http://logs.example.org".to_owned()),
        ("  slots: 1", "  slots: 4".to_owned()),
        ("  # retry_delay: 1m", "  retry_delay: 1s".to_owned()),
        ("    projects: [openstack/cinder, openstack/os-brick]", format!("    projects: [{project}]")),
        (
            "      checkout_patchset_url: https://${GERRIT_HOST:-review.opendev.org}",
            format!("      checkout_patchset_url: {}", gerrit.http_url),
        ),
        (
            "      # install_devstack_git_base: https://opendev.org",
            format!("      install_devstack_git_base: {git_base}"),
        ),
        (
            "      # prepare_node_pip_conf: \"[global]\\nindex-url = https://pypi.example.org/simple\"",
            format!("      prepare_node_pip_conf: \"{pip}\""),
        ),
        (
            "      run_tempest_regex: \"tempest.api.volume|tempest.scenario.test_volume|cinder_tempest_plugin\"",
            // What is excluded would pass, too: the counts tell whether it was left out.
            "      run_tempest_regex: tempest.api.identity.admin.v3.test_(regions|services|policies)\n      \
             run_tempest_exclude_list: [\"tempest.api.identity.admin.v3.test_policies\"]\n      run_tempest_concurrency: 1"
                .to_owned(),
        ),
        // The same job with a git server that does not answer.
        (
            "triggers:",
            format!(
                "triggers:\n  - {{name: away, on: {{comment: {{pattern: ^run-git-away}}}}, projects: [{project}], jobs: [git-away]}}"
            ),
        ),
        ("  cinder-tempest:", "  cinder-tempest: &job".to_owned()),
        ("    vars:", "    vars: &vars".to_owned()),
    ];
    let mut lines = replaced(text, filled);
    lines.push(format!(
        "  git-away:\n    <<: *job\n    attempts: 2\n    vars:\n      <<: *vars\n      install_devstack_git_base: {dead}\n      \
         install_devstack_retries: 0"
    ));
    lines.join("\n") + "\n"
}

/// The same with a mail server for alarms.
fn fill_in_alarm(text: &str, mail_port: u16) -> String {
    let filled = [
        ("# alarm:", "alarm:".to_owned()),
        ("#   mail:", "  mail:".to_owned()),
        (
            "#     server: smtps://pushbutton:${SMTP_PASSWORD}@mail.example.org     # or smtp://127.0.0.1:25",
            format!("    server: smtp://127.0.0.1:{mail_port}"),
        ),
        ("#     from: pushbutton@lab.example.org", "    from: pushbutton@lab.example.org".to_owned()),
        ("#     to: [storage-ci@lab.example.org]", "    to: [storage-ci@lab.example.org]".to_owned()),
    ];
    replaced(text, filled).join("\n") + "\n"
}

/// The lines of a text, some of which are replaced.
fn replaced<const N: usize>(text: &str, filled: [(&str, String); N]) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (from, to) in filled {
        let line = lines.iter_mut().find(|line| *line == from);
        *line.unwrap_or_else(|| panic!("the default configuration has no line {from:?}")) = to;
    }
    lines
}

fn git(folder: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "user.name=admin", "-c", "user.email=admin@example.org"]);
    let output = command.args(words).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn copy_all(from: &Path, into: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), into.join(file.file_name())).unwrap();
    }
}

/// A repository with what `fill` puts into it, on the branch `master`.
fn repository(folder: &Path, fill: impl FnOnce(&Path)) {
    std::fs::create_dir_all(folder).unwrap();
    git(folder, &["init", "-q", "-b", "master"]);
    fill(folder);
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "--allow-empty", "-m", "first"]);
}

/// Keystone's source as the project's branch, with a tag, from which pbr makes the version.
fn push_keystone(gerrit: &Gerrit, project: &str, wheels: &Path) {
    let names = std::fs::read_dir(wheels).unwrap().map(|entry| entry.unwrap().path());
    let source = names
        .filter(|path| path.extension().is_some_and(|ending| ending == "gz"))
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("keystone-"))
        .unwrap();
    let head = push_branch(gerrit, project, "Keystone", |folder| {
        let mut tar = Command::new("tar");
        tar.args([
            "-xz",
            "--strip-components=1",
            "--no-same-owner",
            "--exclude=*/tests/*",
            "--exclude=*/releasenotes/*",
        ]);
        tar.args(["--exclude=*/doc/*", "--exclude=*/PKG-INFO", "--exclude=*.egg-info", "-f"]).arg(source);
        assert!(tar.arg("-C").arg(folder).status().unwrap().success());
    });
    let tag = serde_json::json!({"revision": head, "message": "a release"});
    let path = format!("/projects/{}/tags/27.1.0", project.replace('/', "%2F"));
    gerrit.rest("admin", "PUT", &path, Some(&tag));
}

/// Puts a commit with what `fill` makes on the branch of a project, and returns it.
fn push_branch(gerrit: &Gerrit, project: &str, title: &str, fill: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let host = gerrit.http_url.trim_start_matches("http://");
    let remote = format!("http://admin:secret@{host}/a/{project}");
    git(folder.path(), &["init", "-q"]);
    git(folder.path(), &["fetch", "-q", &remote, "master"]);
    git(folder.path(), &["reset", "-q", "--hard", "FETCH_HEAD"]);
    fill(folder.path());
    git(folder.path(), &["add", "-A"]);
    git(folder.path(), &["commit", "-q", "-m", title]);
    git(folder.path(), &["push", "-q", &remote, "HEAD:refs/heads/master"]);
    git(folder.path(), &["rev-parse", "HEAD"])
}

pub(crate) fn gunzip(path: &Path) -> String {
    let output = Command::new("gzip").arg("-dc").arg(path).output().unwrap();
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
