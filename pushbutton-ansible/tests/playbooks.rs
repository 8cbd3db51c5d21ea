//! The playbooks that come with pushbutton, as far as they run without a cloud: the demo job, and publishing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test support: what does not work must end the test, loudly"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Lab, behind, keys_of, local, shipped, sshd};
use pushbutton_core::check::Level;
use pushbutton_core::{PatchsetNumber, RunId, StageStatus, TestCounts};

fn git(folder: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-C", folder.to_str().unwrap(), "-c", "user.name=a", "-c", "user.email=a@example.org"]);
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A project whose patch set passes or fails, in a repository as Gerrit would serve it; the lab's job is for that patch set.
fn propose(lab: &mut Lab, expected: u32) {
    let project = lab.folder.path().join("git").join(lab.context.job.change.project.as_str());
    std::fs::create_dir_all(project.join("tests")).unwrap();
    let tests = format!(
        "import unittest\n\n\nclass Sums(unittest.TestCase):\n    def test_one(self):\n        self.assertEqual(1 + 1, {expected})\n\n    \
         def test_two(self):\n        self.assertEqual(2 + 2, 4)\n\n    @unittest.skip('later')\n    def test_three(self):\n        pass\n"
    );
    std::fs::write(project.join("tests/test_sums.py"), tests).unwrap();
    std::fs::write(project.join("tests/__init__.py"), "").unwrap();
    git(&project, &["init", "-q"]);
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "a patch"]);
    let patchset = &mut lab.context.job.patchset;
    git(&project, &["update-ref", patchset.git_ref.as_str(), "HEAD"]);
    patchset.revision = git(&project, &["rev-parse", "HEAD"]).parse().unwrap();
    let url = format!("file://{}/git", lab.folder.path().display());
    lab.context.vars.insert("checkout_patchset_url".into(), url.into());
}

#[tokio::test]
async fn the_demo_job_passes_with_a_good_patch_on_the_local_machine() {
    let mut lab = Lab::new(shipped());
    propose(&mut lab, 2);
    let on_node = lab.folder.path().join("node");
    std::fs::create_dir_all(on_node.join("service/empty")).unwrap();
    for file in ["local.conf", "service/a.log", "service/b.bin"] {
        std::fs::write(on_node.join(file), file).unwrap();
    }
    let on_node = |path: &str| on_node.join(path).to_str().unwrap().to_owned();
    lab.context.vars.insert("gather_logs_local_conf".into(), on_node("local.conf").into());
    lab.context.vars.insert("gather_logs_paths".into(), vec![on_node("service"), on_node("absent")].into());
    for playbook in ["demo/prepare.yml", "demo/test.yml", "demo/gather.yml"] {
        let outcome = lab.run(playbook, &local()).await.unwrap();
        assert_eq!(outcome.status, StageStatus::Passed, "{playbook}: {outcome:?}\n{}", lab.console());
        let tests = (playbook == "demo/test.yml").then_some(TestCounts { passed: 2, failed: 0, skipped: 1 });
        assert_eq!(outcome.tests, tests, "{playbook}");
    }
    let kept = |name: &str| std::fs::read_to_string(lab.context.log_dir.join(name)).unwrap();
    assert!(kept("patchset.txt").contains(lab.context.job.patchset.revision.as_str()));
    assert!(kept("environment.txt").contains("change 12345,2 of openstack/cinder on master"));
    assert!(kept("unit.txt").contains("test_one"));
    assert_eq!(
        (kept("local.conf").as_str(), kept("logs/service/b.bin").as_str()),
        ("local.conf", "service/b.bin")
    );
    let packed = lab.context.log_dir.join("logs/service/a.log.gz");
    let unpacked = Command::new("gzip").arg("-dc").arg(packed).output().unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    assert_eq!(unpacked.stdout, b"service/a.log");
    assert!(
        !Path::new(&format!("/var/tmp/pushbutton-{}", lab.context.run)).exists(),
        "the local machine is not clean"
    );
}

#[tokio::test]
async fn the_demo_job_fails_with_a_bad_patch_on_a_node_behind_ssh() {
    let server = sshd();
    let nodes = behind(&server, &keys_of(&server));
    let mut lab = Lab::new(shipped());
    propose(&mut lab, 3);
    assert_eq!(
        lab.run("demo/prepare.yml", &nodes).await.unwrap().status,
        StageStatus::Passed,
        "{}",
        lab.console()
    );
    let outcome = lab.run("demo/test.yml", &nodes).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed);
    assert_eq!(outcome.tests, Some(TestCounts { passed: 1, failed: 1, skipped: 1 }));
    assert_eq!(outcome.failed_tests, ["tests.test_sums.Sums.test_one"]);
    assert_eq!(
        outcome.detail.unwrap(),
        r#"task "run-unit-tests : Run the tests" on node: exit 1: 1 of 3 tests failed"#
    );
    assert_eq!(
        lab.run("demo/gather.yml", &nodes).await.unwrap().status,
        StageStatus::Passed,
        "{}",
        lab.console()
    );
}

#[tokio::test]
async fn patchset_txt_lists_the_files_that_the_patch_set_changes_and_no_others() {
    let mut lab = Lab::new(shipped());
    propose(&mut lab, 2);
    let project = lab.folder.path().join("git").join(lab.context.job.change.project.as_str());
    std::fs::write(project.join("setup.cfg"), "[metadata]\n").unwrap();
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "the second patch\n\nChange-Id: I1"]);
    let patchset = &mut lab.context.job.patchset;
    git(&project, &["update-ref", patchset.git_ref.as_str(), "HEAD"]);
    patchset.revision = git(&project, &["rev-parse", "HEAD"]).parse().unwrap();
    lab.context.vars.insert("checkout_patchset_dest".into(), lab.folder.path().join("src").to_str().into());
    let outcome = lab.run("demo/prepare.yml", &local()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", lab.console());
    let text = std::fs::read_to_string(lab.context.log_dir.join("patchset.txt")).unwrap();
    assert!(text.starts_with(&format!("commit {}\n", lab.context.job.patchset.revision)), "{text}");
    let end = "    the second patch\n    \n    Change-Id: I1\n\n setup.cfg | 1 +\n 1 file changed, 1 insertion(+)\n";
    assert!(text.ends_with(end), "{text}");
}

#[tokio::test]
async fn another_commit_than_the_jobs_is_not_tested() {
    let mut lab = Lab::new(shipped());
    propose(&mut lab, 2);
    lab.context.job.patchset.revision = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let outcome = lab.run("demo/prepare.yml", &local()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed);
    assert!(
        outcome.detail.as_deref().is_some_and(|detail| detail.contains("not 0123456789abcdef")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn each_run_is_published_in_a_place_of_its_own() {
    let mut lab = Lab::new(shipped());
    let root = lab.folder.path().join("www");
    lab.context.vars.insert("publish_logs_root".into(), root.to_str().unwrap().into());
    lab.context.vars.insert("publish_logs_url".into(), "https://logs.example.org/".into());
    let old = root.join("45/12345/1/conformance/old-run");
    let bystander = root.join("keep/this/folder/of/somebody");
    for folder in [&old, &bystander] {
        std::fs::create_dir_all(folder).unwrap();
        let touched = Command::new("touch").args(["-d", "40 days ago"]).arg(folder).status().unwrap();
        assert!(touched.success());
    }
    std::fs::write(lab.context.log_dir.join("a.txt"), "a").unwrap();
    let mut published: Vec<PathBuf> = Vec::new();
    // Patch set 1 must not touch what patch sets 10 to 19 left; told twice, it copies once.
    for patchset in [10, 1, 1] {
        lab.context.job.patchset.number = PatchsetNumber(patchset);
        if published.len() < 2 {
            lab.context.run = RunId::generate();
        }
        let outcome = lab.run("publish.yml", &local()).await.unwrap();
        assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", lab.console());
        let path = format!("45/12345/{patchset}/conformance/{}", lab.context.run);
        assert_eq!(outcome.log_url.unwrap(), format!("https://logs.example.org/{path}/"));
        published.push(root.join(path));
    }
    let console = lab.console();
    for run in &published {
        assert_eq!(std::fs::read_to_string(run.join("a.txt")).unwrap(), "a");
        // What was written until the copy: the stage that publishes goes on writing.
        let copied = std::fs::read_to_string(run.join("console.log")).unwrap();
        assert!(
            copied.contains("stage stage begins: publish.yml") && console.starts_with(&copied),
            "{copied}"
        );
    }
    assert!(!old.exists() && bystander.exists(), "only runs older than a month go");
}

#[tokio::test]
async fn all_shipped_playbooks_parse() {
    let names = [
        "prepare_node",
        "install_devstack",
        "run_tempest",
        "gather_logs",
        "publish",
        "demo/prepare",
        "demo/test",
        "demo/gather",
    ];
    let lab = Lab::new(shipped());
    let findings = lab.executor.check(&names.map(|name| format!("{name}.yml"))).await;
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
    assert_eq!(findings.len(), names.len() + 2);
}
