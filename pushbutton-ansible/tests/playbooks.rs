//! The playbooks that come with pushbutton, as far as they run without a cloud: the demo job, and publishing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{TestRun, host_keys_of, local_node, shipped_playbooks, ssh_node, sshd};
use pushbutton_core::check::{Check, Level};
use pushbutton_core::{Dependency, PatchsetNumber, RunId, StageStatus, TestCounts, samples};

fn git(folder: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-C", folder.to_str().unwrap(), "-c", "user.name=a", "-c", "user.email=a@example.org"]);
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes a project with a patch set whose tests pass or fail, in a repository as Gerrit serves it, and sets the run's
/// job to it.
fn propose(run: &mut TestRun, expected: u32) {
    let project = run.folder.path().join("git").join(run.context.job.change.project.as_str());
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
    let patchset = &mut run.context.job.patchset;
    git(&project, &["update-ref", patchset.git_ref.as_str(), "HEAD"]);
    patchset.revision = git(&project, &["rev-parse", "HEAD"]).parse().unwrap();
    let url = format!("file://{}/git", run.folder.path().display());
    run.context.vars.insert("checkout_patchset_url".into(), url.into());
}

#[tokio::test]
async fn the_demo_job_passes_with_a_good_patch_on_the_local_machine() {
    let mut run = TestRun::new(shipped_playbooks());
    propose(&mut run, 2);
    let on_node = run.folder.path().join("node");
    std::fs::create_dir_all(on_node.join("service/empty")).unwrap();
    for file in ["local.conf", "service/a.log", "service/b.bin"] {
        std::fs::write(on_node.join(file), file).unwrap();
    }
    let on_node = |path: &str| on_node.join(path).to_str().unwrap().to_owned();
    run.context.vars.insert("gather_logs_local_conf".into(), on_node("local.conf").into());
    run.context.vars.insert("gather_logs_paths".into(), vec![on_node("service"), on_node("absent")].into());
    for playbook in ["demo/prepare.yml", "demo/test.yml", "demo/gather.yml"] {
        let outcome = run.playbook(playbook, &local_node()).await.unwrap();
        assert_eq!(outcome.status, StageStatus::Passed, "{playbook}: {outcome:?}\n{}", run.console());
        let tests = (playbook == "demo/test.yml").then_some(TestCounts::new(2, 0, 1));
        assert_eq!(outcome.tests, tests, "{playbook}");
    }
    let kept = |name: &str| std::fs::read_to_string(run.context.log_dir.join(name)).unwrap();
    assert!(kept("patchset.txt").contains(run.context.job.patchset.revision.as_str()));
    assert!(kept("environment.txt").contains("change 12345,2 of openstack/cinder on master"));
    assert!(kept("unit.txt").contains("test_one"));
    assert_eq!(
        (kept("local.conf").as_str(), kept("logs/service/b.bin").as_str()),
        ("local.conf", "service/b.bin")
    );
    let packed = run.context.log_dir.join("logs/service/a.log.gz");
    let unpacked = Command::new("gzip").arg("-dc").arg(packed).output().unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    assert_eq!(unpacked.stdout, b"service/a.log");
    assert!(
        !Path::new(&format!("/var/tmp/pushbutton-{}", run.context.run)).exists(),
        "the local machine is not clean"
    );
}

#[tokio::test]
async fn the_demo_job_fails_with_a_bad_patch_on_a_node_behind_ssh() {
    let server = sshd();
    let nodes = ssh_node(&server, &host_keys_of(&server));
    let mut run = TestRun::new(shipped_playbooks());
    propose(&mut run, 3);
    assert_eq!(
        run.playbook("demo/prepare.yml", &nodes).await.unwrap().status,
        StageStatus::Passed,
        "{}",
        run.console()
    );
    let outcome = run.playbook("demo/test.yml", &nodes).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed);
    assert_eq!(outcome.tests, Some(TestCounts::new(1, 1, 1)));
    assert_eq!(outcome.failed_tests, ["tests.test_sums.Sums.test_one"]);
    assert_eq!(
        outcome.detail.unwrap(),
        r#"task "run-unit-tests : Run the tests" on node: exit 1: failed test: tests.test_sums.Sums.test_one"#
    );
    assert_eq!(
        run.playbook("demo/gather.yml", &nodes).await.unwrap().status,
        StageStatus::Passed,
        "{}",
        run.console()
    );
}

#[tokio::test]
async fn patchset_txt_lists_the_files_that_the_patch_set_changes_and_no_others() {
    let mut run = TestRun::new(shipped_playbooks());
    propose(&mut run, 2);
    let project = run.folder.path().join("git").join(run.context.job.change.project.as_str());
    std::fs::write(project.join("setup.cfg"), "[metadata]\n").unwrap();
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "the second patch\n\nChange-Id: I1"]);
    let patchset = &mut run.context.job.patchset;
    git(&project, &["update-ref", patchset.git_ref.as_str(), "HEAD"]);
    patchset.revision = git(&project, &["rev-parse", "HEAD"]).parse().unwrap();
    run.context.vars.insert("checkout_patchset_dest".into(), run.folder.path().join("src").to_str().into());
    let outcome = run.playbook("demo/prepare.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());
    let text = std::fs::read_to_string(run.context.log_dir.join("patchset.txt")).unwrap();
    assert!(text.starts_with(&format!("commit {}\n", run.context.job.patchset.revision)), "{text}");
    let end = "    the second patch\n    \n    Change-Id: I1\n\n setup.cfg | 1 +\n 1 file changed, 1 insertion(+)\n";
    assert!(text.ends_with(end), "{text}");
}

#[tokio::test]
async fn a_commit_other_than_the_jobs_is_not_tested() {
    let mut run = TestRun::new(shipped_playbooks());
    propose(&mut run, 2);
    run.context.job.patchset.revision = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let outcome = run.playbook("demo/prepare.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed);
    assert!(
        outcome.detail.as_deref().is_some_and(|detail| detail.contains("not 0123456789abcdef")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn each_run_is_published_in_a_folder_of_its_own() {
    let mut run = TestRun::new(shipped_playbooks());
    let root = run.folder.path().join("www");
    run.context.vars.insert("publish_logs_root".into(), format!("{}/", root.display()).into());
    run.context.vars.insert("publish_logs_url".into(), "https://logs.example.org/".into());
    let old = root.join("45/12345/1/conformance/old-run");
    let bystander = root.join("keep/this/folder/of/somebody");
    for folder in [&old, &bystander] {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("file"), "somebody's").unwrap();
        let touched = Command::new("touch").args(["-d", "40 days ago"]).arg(folder).status().unwrap();
        assert!(touched.success());
    }
    std::fs::write(run.context.log_dir.join("a.txt"), "a").unwrap();
    let mut published: Vec<PathBuf> = Vec::new();
    // Patch set 1 must not touch the logs of patch sets 10 to 19. Run twice, it copies once.
    for patchset in [10, 1, 1] {
        run.context.job.patchset.number = PatchsetNumber(patchset);
        if published.len() < 2 {
            run.context.run = RunId::generate();
        }
        let outcome = run.playbook("publish.yml", &local_node()).await.unwrap();
        assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());
        let path = format!("45/12345/{patchset}/conformance/{}", run.context.run);
        assert_eq!(outcome.log_url.unwrap(), format!("https://logs.example.org/{path}/"));
        published.push(root.join(path));
    }
    let console = run.console();
    for run in &published {
        assert_eq!(std::fs::read_to_string(run.join("a.txt")).unwrap(), "a");
        // What was written until the copy: the stage that publishes goes on writing.
        let copied = std::fs::read_to_string(run.join("console.log")).unwrap();
        assert!(
            copied.contains("stage stage begins: publish.yml") && console.starts_with(&copied),
            "{copied}"
        );
    }
    assert!(old.symlink_metadata().is_err(), "a run older than a month goes");
    let kept = std::fs::read_to_string(bystander.join("file")).unwrap();
    assert_eq!(kept, "somebody's", "nothing else goes");
}

#[tokio::test]
async fn all_shipped_playbooks_parse() {
    let names = [
        "add_nic",
        "clean_array",
        "install_two_nodes",
        "prepare_node",
        "prepare_two_nodes",
        "verify_devstack",
        "install_devstack",
        "run_tempest",
        "gather_logs",
        "publish",
        "demo/prepare",
        "demo/test",
        "demo/gather",
    ];
    let run = TestRun::new(shipped_playbooks());
    let findings = run.executor.with_checked_playbooks(names.map(|name| format!("{name}.yml"))).check().await;
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
    assert_eq!(findings.len(), names.len() + 2);
}

/// The branch goes on after the patch set was made: this file, with this content.
fn move_branch(run: &TestRun, file: &str, content: &str) -> String {
    let project = run.folder.path().join("git").join(run.context.job.change.project.as_str());
    git(&project, &["checkout", "-q", "-B", "master", "HEAD~1"]);
    std::fs::write(project.join(file), content).unwrap();
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "meanwhile"]);
    git(&project, &["rev-parse", "HEAD"])
}

/// A patch set on a first commit, as `propose` makes the first.
fn propose_on_top(run: &mut TestRun, file: &str, content: &str) {
    propose(run, 2);
    let project = run.folder.path().join("git").join(run.context.job.change.project.as_str());
    std::fs::write(project.join(file), content).unwrap();
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "the patch"]);
    let patchset = &mut run.context.job.patchset;
    git(&project, &["update-ref", patchset.git_ref.as_str(), "HEAD"]);
    patchset.revision = git(&project, &["rev-parse", "HEAD"]).parse().unwrap();
    let dest = run.folder.path().join("src");
    run.context.vars.insert("checkout_patchset_dest".into(), dest.to_str().into());
}

/// A change of openstack/nova that the run's change depends on.
fn depend_on_nova(run: &mut TestRun) -> Dependency {
    let nova = run.folder.path().join("git/openstack/nova");
    std::fs::create_dir_all(&nova).unwrap();
    git(&nova, &["init", "-q", "-b", "master"]);
    git(&nova, &["commit", "-q", "--allow-empty", "-m", "first"]);
    git(&nova, &["checkout", "-q", "--detach"]);
    std::fs::write(nova.join("needed.py"), "1\n").unwrap();
    git(&nova, &["add", "."]);
    git(&nova, &["commit", "-q", "-m", "needed"]);
    let mut dependency = samples::dependency(7);
    git(&nova, &["update-ref", dependency.git_ref.as_str(), "HEAD"]);
    dependency.revision = git(&nova, &["rev-parse", "HEAD"]).parse().unwrap();
    run.context.job.dependencies = vec![dependency.clone()];
    dependency
}

#[tokio::test]
async fn the_patch_set_is_merged_onto_the_head_of_its_branch_with_what_it_depends_on_beside_it() {
    let mut run = TestRun::new(shipped_playbooks());
    propose_on_top(&mut run, "patch.py", "1\n");
    let head = move_branch(&run, "meanwhile.py", "1\n");
    let dependency = depend_on_nova(&mut run);
    let outcome = run.playbook("demo/prepare.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());

    let (tree, revision) = (run.folder.path().join("src"), run.context.job.patchset.revision.clone());
    assert_eq!(git(&tree, &["log", "-1", "--format=%P"]), format!("{head} {revision}"));
    assert_eq!(
        git(&tree, &["log", "-1", "--format=%an %cn %s"]),
        "pushbutton pushbutton Merge change 12345,2 into master"
    );
    for file in ["patch.py", "meanwhile.py"] {
        assert_eq!(std::fs::read_to_string(tree.join(file)).unwrap(), "1\n", "{file}");
    }
    assert_eq!(git(&tree, &["status", "--porcelain"]), "");
    let nova = run.folder.path().join("src.others/nova");
    assert_eq!(git(&nova, &["rev-parse", "HEAD"]), dependency.revision.as_str());

    let merged = git(&tree, &["rev-parse", "HEAD"]);
    let text = std::fs::read_to_string(run.context.log_dir.join("patchset.txt")).unwrap();
    for line in [
        format!("commit {revision}"),
        format!("tested openstack/cinder: {merged}, branch master onto {head}"),
        format!("    change 12345,2 (change) {revision}: merged"),
        format!("    change 7,1 (depends-on) {}: fast-forward", dependency.revision),
    ] {
        assert!(text.lines().any(|other| other == line), "{line:?} in\n{text}");
    }
    let end = "    the patch\n\n patch.py | 1 +\n 1 file changed, 1 insertion(+)\n";
    assert!(text.ends_with(end), "only the files of the patch set:\n{text}");

    // Another run of the same job, with a shallow fetch, tests the same commit.
    run.context.vars.insert("checkout_patchset_depth".into(), 1.into());
    let outcome = run.playbook("demo/prepare.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());
    assert_eq!(git(&tree, &["rev-parse", "HEAD"]), merged);
    // Where the configuration says so, the patch set is tested as it is.
    run.context.vars.insert("checkout_patchset_mode".into(), "checkout".into());
    let outcome = run.playbook("demo/prepare.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());
    assert_eq!(git(&tree, &["rev-parse", "HEAD"]), revision.as_str());
}

#[tokio::test]
async fn a_patch_set_that_does_not_merge_is_a_merge_conflict_and_leaves_nothing_behind() {
    let mut run = TestRun::new(shipped_playbooks());
    run.context.job.change.project = "openstack/conflicting".parse().unwrap();
    propose_on_top(&mut run, "tests/__init__.py", "# patch\n");
    move_branch(&run, "tests/__init__.py", "# meanwhile\n");
    let outcome = run.playbook("demo/prepare.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed, "{outcome:?}\n{}", run.console());
    let why = outcome.merge_conflict.unwrap();
    assert!(why.starts_with("12345,2 of openstack/conflicting does not merge with master at "), "{why}");
    assert!(why.ends_with(": conflict in tests/__init__.py"), "{why}");
    let folders = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let left = folders.map(|entry| entry.path().join("conflicting.git")).find(|path| path.exists());
    assert_eq!(left, None, "the operator's disk would fill");
}

/// Only a playbook can say that there is a conflict, and nothing that ran on a node.
#[tokio::test]
async fn a_failure_on_the_node_is_no_merge_conflict_whatever_it_prints() {
    let run = TestRun::new(common::config());
    let outcome = run.playbook("claims_conflict.yml", &local_node()).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed, "{outcome:?}\n{}", run.console());
    assert_eq!(outcome.merge_conflict, None);
    let detail = outcome.detail.unwrap();
    assert!(detail.contains("Claim a conflict"), "{detail}");
}
