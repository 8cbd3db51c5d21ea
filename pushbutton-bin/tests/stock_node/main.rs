//! A vendor's first week: the configuration that `init` writes, with what a vendor fills in, and the shipped playbooks, on a stock Debian;
//! a real Keystone from the patch set's tree, and real tempest. Only devstack is a stand-in (`devstack/stack.sh`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test's helper fails the test, and prints a log"
)]

mod lab;

use std::path::Path;

use lab::Lab;
use pushbutton_testbed::Change;

#[test]
fn the_default_configuration_tests_patches_on_a_stock_debian() {
    let lab = Lab::start();
    let regions = lab.file("keystone/api/regions.py");
    assert!(regions.contains("http.client.CREATED"), "{regions}");
    // It answers with what an open change of a library says, which is on no package index.
    let library = lab.push_to_library("os_marker/created.py", "STATUS = 201\n");
    let with_library = regions
        .replace("import http.client\n", "import http.client\n\nfrom os_marker import created\n")
        .replace("self.wrap_member(ref), http.client.CREATED", "self.wrap_member(ref), created.STATUS");
    let passing = lab.push_depending(
        &library,
        &[("keystone/pushbutton.py", "\"\"\"Nothing.\"\"\"\n"), ("keystone/api/regions.py", &with_library)],
    );
    let broken_api = lab.push(
        "keystone/api/regions.py",
        &regions.replace(
            "self.wrap_member(ref), http.client.CREATED",
            "self.wrap_member(ref), http.client.ACCEPTED",
        ),
    );
    let broken_stack = lab.push("setup.cfg", "[metadata\n");
    let git_away = lab.push("keystone/pushbutton.py", "\"\"\"Nothing else.\"\"\"\n");
    let conflict = lab.push("meanwhile.txt", "one\n");
    // Both branches go on: what is tested is merges.
    lab.submit(&lab.push("meanwhile.txt", "two\n"));
    lab.submit(&lab.push_to_library("meanwhile.txt", "two\n"));
    for change in [&passing, &broken_api, &broken_stack] {
        lab.comment(change, "recheck");
    }
    lab.comment(&git_away, "run-git-away");
    lab.comment(&conflict, "recheck");

    let comment = lab.comment_on(&git_away);
    assert_has(&comment, ": RETRY_LIMIT in ");
    assert_has(&comment, "cannot clone master of git://");
    assert_eq!(lab.votes(&git_away), [0; 0], "a git server that is away is no vote");

    let mail = lab.mail(&format!("merge conflict of change {},1", conflict.number));
    assert_has(&mail, "To: storage-ci@lab.example.org");
    assert_has(&mail, " does not merge with master at ");
    assert_has(&mail, ": conflict in meanwhile.txt\n");

    let comment = lab.comment_on(&passing);
    assert!(comment.starts_with("Build succeeded (check pipeline).\n\n- cinder-tempest http"), "{comment}");
    assert_has(&comment, "7 passed, 0 failed");
    assert_eq!(lab.votes(&passing), [1]);
    let log_dir = lab.log_dir(&comment);
    let text = |name: &str| std::fs::read_to_string(log_dir.join(name)).unwrap();
    assert_has(&text("patchset.txt"), &passing.revision);
    assert_has(
        &text("patchset.txt"),
        " keystone/api/regions.py | 6 ++++--\n keystone/pushbutton.py  | 1 +\n",
    );
    assert_both_trees(
        &log_dir,
        [&passing, &library],
        [&lab.branch_head(&passing), &lab.branch_head(&library)],
    );
    assert_has(&text("tempest.txt"), " - Passed: 7");
    assert_has(&text("tempest.txt"), "{0} tempest.api.identity.admin.v3.");
    assert!(!text("tempest.txt").contains("{1} "), "one worker: {}", text("tempest.txt"));
    assert_has(&text("local.conf"), "ADMIN_PASSWORD=********");
    assert_has(&lab::gunzip(&log_dir.join("logs/keystone.txt.gz")), "/v3/regions");
    assert_has(&lab::gunzip(&log_dir.join("logs/stack.sh.txt.gz")), "stack.sh completed in ");
    assert_keystones_configuration(&log_dir.join("logs/keystone"));
    assert_has(&lab::gunzip(&log_dir.join("testr_results.html.gz")), "7 passed, 0 failed");

    let comment = lab.comment_on(&broken_api);
    assert_has(&comment, " : FAILURE in ");
    assert_has(&comment, "tempest.api.identity.admin.v3.test_regions.RegionsTestJSON");
    assert_eq!(lab.votes(&broken_api), [-1]);

    let comment = lab.comment_on(&broken_stack);
    assert_has(&comment, " : FAILURE in ");
    assert_has(&comment, "stack.sh");
    assert_eq!(lab.votes(&broken_stack), [-1]);

    lab.stop();
    lab.assert_no_server_is_left();
    // All reports were delivered by now.
    assert_eq!(lab.comments(&conflict), [] as [String; 0], "a conflict is no comment");
    assert_eq!(lab.votes(&conflict), [0; 0]);
    let mail = lab.mails();
    assert_eq!(mail.matches("Subject: ").count(), 1, "the lab's people were told of nothing else: {mail}");
}

/// The trees of two projects on the node, as stack.sh found them and as they were read back afterwards: each the merge
/// of a patch set onto its branch's head.
fn assert_both_trees(log_dir: &Path, changes: [&Change; 2], branch_heads: [&str; 2]) {
    let read = |name: &str| std::fs::read_to_string(log_dir.join(name)).unwrap();
    let trees: serde_json::Value = serde_json::from_str(&read("patchset.json")).unwrap();
    let trees = trees.as_array().unwrap();
    assert_eq!(trees.len(), 2, "{trees:?}");
    let stack = lab::gunzip(&log_dir.join("logs/stack.sh.txt.gz"));
    let console = read("console.log");
    let verified = console.split_once("pushbutton: stage verify-devstack begins").unwrap().1;
    let verified = verified.split_once("pushbutton: stage verify-devstack ended: Passed").unwrap().0;
    for ((change, branch_head), (tree, name)) in
        changes.into_iter().zip(branch_heads).zip(trees.iter().zip(["keystone", "os-marker"]))
    {
        let head = tree["head"].as_str().unwrap();
        assert_eq!((tree["project"].as_str(), tree["name"].as_str()), (Some(&*change.project), Some(name)));
        assert_has(
            &stack,
            &format!("/opt/stack/{name} is at {head}, of {branch_head} {}\n", change.revision),
        );
        assert_has(
            &read("patchset.txt"),
            &format!("tested {}: {head}, branch master onto {branch_head}\n", change.project),
        );
        assert_has(verified, &format!("(item={name})"));
    }
    assert_has(&read("local.conf"), "\nLIBS_FROM_GIT=os-marker\n");
}

/// It is as stack.sh wrote it, without the keys that lie beside it.
fn assert_keystones_configuration(folder: &Path) {
    let script = include_str!("devstack/stack.sh");
    let written = script.split_once("/etc/keystone/keystone.conf <<CONF\n").unwrap().1;
    let written = written.split_once("CONF\n").unwrap().0.replace("$DEST", "/opt/stack");
    assert_eq!(lab::gunzip(&folder.join("keystone.conf.gz")), written);
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["keystone.conf.gz"], "keys are not gathered");
}

fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} in:\n{text}");
}
