//! The main use case end to end: real Gerrit, RabbitMQ and OpenStack, the two halves as two processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test's helper fails the test, and prints a log"
)]

mod lab;

use std::time::Duration;

use lab::{Lab, NODES_UP, print};
use pushbutton_testbed::{Change, Version, until};

/// A driver whose tests pass, and one whose tests fail.
const GOOD: &str = "def attach():\n    return 'attached'\n";
const BAD: &str = "def attach():\n    return 'detached'\n";
/// One whose tests outlive the node.
const SLOW: &str = "import time\n\n\ndef attach():\n    time.sleep(600)\n";

/// One change for each kind of result, all at once.
#[test]
fn a_recheck_becomes_one_comment_and_nothing_is_left_behind() {
    let lab = Lab::start(Version::V3);
    let passing = lab.push("driver.py", GOOD);
    let failing = lab.push("driver.py", BAD);
    let no_node = lab.push("driver.py", GOOD);
    let lost_node = lab.push("driver.py", SLOW);
    lab.comment(&passing, "recheck");
    // As the web page writes it: a comment on the patch set.
    lab.gerrit.comment_in_web_ui("bob", failing.number, failing.patchset, "recheck bug 1234: flaky");
    lab.comment(&no_node, "run-no-node");
    lab.comment(&lost_node, "run-lost-node");
    lab.comment(&passing, "nice work");

    let comment = lab.comment_on(&passing);
    assert_starts(&comment, "Build succeeded (check pipeline).\n\n- acme-unit http");
    assert_has(&comment, " : SUCCESS in ");
    assert_has(&comment, "2 passed, 0 failed");
    assert_has(&comment, "https://wiki.openstack.org/wiki/ThirdPartySystems/Acme_CI");
    lab.assert_logs(&comment, &["console.log"], &passing.revision);
    assert_eq!(lab.votes(&passing), [1]);

    let comment = lab.comment_on(&failing);
    assert_starts(&comment, "Build failed (check pipeline).\n\n- acme-unit http");
    assert_has(&comment, " : FAILURE in ");
    assert_has(&comment, "1 passed, 1 failed");
    assert_has(&comment, "test_attach");
    assert_eq!(lab.votes(&failing), [-1]);

    let comment = lab.comment_on(&no_node);
    assert_has(&comment, "- acme-no-node acme-no-node : NODE_FAILURE");
    assert_has(&comment, "No valid host was found");
    assert_eq!(lab.votes(&no_node), [0; 0], "a full cloud is no vote");

    let comment = lab.comment_on(&lost_node);
    assert_has(&comment, " : RETRY_LIMIT in ");
    assert_eq!(lab.votes(&lost_node), [0; 0], "a lost node is no vote");

    lab.stop();
    lab.assert_nothing_left();
    for change in [&passing, &failing, &no_node, &lost_node] {
        assert_eq!(lab.our_comments(change).len(), 1, "change {}", change.number);
    }
}

/// The same with the newest RabbitMQ, and an operator that is shut down in the middle of a run.
#[test]
fn an_operator_that_ends_hands_its_job_to_the_next() {
    let mut lab = Lab::start(Version::V4);
    let change = lab.push("driver.py", GOOD);
    lab.comment(&change, "recheck");
    until("a node is booted", NODES_UP, || (!lab.servers().is_empty()).then_some(()));
    lab.replace_operator();
    assert_starts(&lab.comment_on(&change), "Build succeeded (check pipeline).");
    lab.stop();
    lab.assert_nothing_left();
    assert_eq!(lab.our_comments(&change).len(), 1);
}

fn assert_starts(text: &str, start: &str) {
    assert!(text.starts_with(start), "{start:?} at the start of:\n{text}");
}

fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} in:\n{text}");
}

impl Lab {
    fn comment(&self, change: &Change, text: &str) {
        self.gerrit.comment("bob", change.number, change.patchset, text);
    }

    /// Waits for our comment on a change.
    fn comment_on(&self, change: &Change) -> String {
        let what = format!("a comment on change {}", change.number);
        let comment = until(&what, Duration::from_secs(600), || self.alive().our_comments(change).pop());
        print(&format!("change {}: {comment}", change.number));
        comment
    }
}
