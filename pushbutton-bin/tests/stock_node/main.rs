//! A vendor's first week: the configuration that `init` writes, with what a vendor fills in, and the shipped playbooks, on a stock Debian;
//! a real Keystone from the patch set's tree, and real tempest. Only devstack is a stand-in (`devstack/stack.sh`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test's helper fails the test, and prints a log"
)]

mod lab;

use lab::Lab;

#[test]
fn the_default_configuration_tests_patches_on_a_stock_debian() {
    let lab = Lab::start();
    let regions = lab.file("keystone/api/regions.py");
    assert!(regions.contains("http.client.CREATED"), "{regions}");
    let passing = lab.push("keystone/pushbutton.py", "\"\"\"Nothing.\"\"\"\n");
    let broken_api = lab.push(
        "keystone/api/regions.py",
        &regions.replace(
            "self.wrap_member(ref), http.client.CREATED",
            "self.wrap_member(ref), http.client.ACCEPTED",
        ),
    );
    let broken_stack = lab.push("setup.cfg", "[metadata\n");
    let git_away = lab.push("keystone/pushbutton.py", "\"\"\"Nothing else.\"\"\"\n");
    for change in [&passing, &broken_api, &broken_stack] {
        lab.comment(change, "recheck");
    }
    lab.comment(&git_away, "run-git-away");

    let comment = lab.comment_on(&git_away);
    assert_has(&comment, ": RETRY_LIMIT in ");
    assert_has(&comment, "cannot clone master of git://");
    assert_eq!(lab.votes(&git_away), [0; 0], "a git server that is away is no vote");

    let comment = lab.comment_on(&passing);
    assert!(comment.starts_with("Build succeeded (check pipeline).\n\n- cinder-tempest http"), "{comment}");
    assert_has(&comment, "7 passed, 0 failed");
    assert_eq!(lab.votes(&passing), [1]);
    let log_dir = lab.log_dir(&comment);
    let text = |name: &str| std::fs::read_to_string(log_dir.join(name)).unwrap();
    assert_has(&text("patchset.txt"), &passing.revision);
    assert_has(&text("patchset.txt"), "keystone/pushbutton.py | 1 +");
    assert_has(&text("tempest.txt"), " - Passed: 7");
    assert_has(&text("local.conf"), "ADMIN_PASSWORD=********");
    assert_has(&lab::gunzip(&log_dir.join("logs/keystone.txt.gz")), "/v3/regions");
    assert_has(&lab::gunzip(&log_dir.join("logs/stack.sh.txt.gz")), "stack.sh completed in ");
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
}

fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} in:\n{text}");
}
