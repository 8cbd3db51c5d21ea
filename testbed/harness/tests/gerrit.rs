//! The Gerrit does what its helpers say.

use std::process::Command;

use pushbutton_testbed::{Gerrit, Vote, gerrit};

#[test]
fn changes_comments_and_votes() {
    let gerrit = gerrit();
    let change = gerrit.push_change("acme/sandbox", "master", &[("dir/a.txt", "one\n")]);
    assert_eq!(change.patchset, 1);
    assert!(change.reference.ends_with(&format!("/{}/1", change.number)), "{change:?}");
    gerrit.comment("bob", change.number, 1, "recheck");
    gerrit.comment_in_web_ui("bob", change.number, 1, "recheck too");
    gerrit.vote("zuul", change.number, 1, "Verified", 1);
    let texts: Vec<_> = gerrit.messages(change.number).into_iter().map(|m| (m.author, m.text)).collect();
    assert!(texts.contains(&("bob".to_owned(), "Patch Set 1:\n\nrecheck".to_owned())), "{texts:?}");
    assert!(texts.contains(&("bob".to_owned(), "Patch Set 1:\n\n(1 comment)".to_owned())), "{texts:?}");
    let vote = Vote { label: "Verified".to_owned(), value: 1, user: "zuul".to_owned() };
    assert_eq!(gerrit.votes(change.number), [vote]);

    let next = gerrit.amend(&change, &[("dir/a.txt", "two\n")]);
    assert_eq!((next.number, next.patchset), (change.number, 2));
    assert_ne!(next.revision, change.revision);
    gerrit.abandon(change.number);
    let status = gerrit.rest("admin", "GET", &format!("/changes/{}", change.number), None)["status"].clone();
    assert_eq!(status, "ABANDONED");
}

#[test]
fn ssh_admits_a_user_by_key_with_the_host_keys_checked() {
    let gerrit = gerrit();
    let output = Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", gerrit.known_hosts.display()))
        .args(["-p", &gerrit.ssh_port.to_string(), "-i"])
        .arg(gerrit.key("acme-ci"))
        .args([&format!("acme-ci@{}", gerrit.ssh_host), "gerrit", "version"])
        .output()
        .expect("ssh runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "gerrit version 3.10.2\n", "{output:?}");
}

#[test]
fn a_private_gerrit_keeps_its_changes_through_a_crash() {
    let mut gerrit = Gerrit::private();
    let change = gerrit.push_change("acme/sandbox", "master", &[("a.txt", "one\n")]);
    gerrit.kill9();
    gerrit.restart();
    let found = gerrit.rest("admin", "GET", &format!("/changes/?q=change:{}", change.number), None);
    assert_eq!(found[0]["change_id"], change.change_id);
}
