//! Commands of people: enqueue, rerun, cancel, dead letters, mute. On the testbed's Gerrit, with real playbooks on this
//! machine.

use std::time::Duration;

use pushbutton_core::{DeadLetters as _, JobFilter, NodeLabel, Queue as _, RunHistory as _, samples};
use pushbutton_store::Store;
use pushbutton_testbed::{Change, Gerrit, MailServer, gerrit, until};

use crate::gerrit::lab;
use crate::lab::{Lab, Running};

const MINUTES: Duration = Duration::from_secs(300);

/// A lab with real playbooks, whose job waits for this many seconds.
fn lab_with_a_job_of(gerrit: &Gerrit, seconds: u32) -> Lab {
    let lab = lab(gerrit, "acme-ci").with_ansible();
    let config = lab.config().replace("acme/*", "acme/**");
    lab.configure(&config.replace("vars: {seconds: 0}", &format!("vars: {{seconds: {seconds}}}")));
    lab
}

fn our_comments(gerrit: &Gerrit, change: &Change) -> usize {
    gerrit.messages(change.number).iter().filter(|message| message.author == "acme-ci").count()
}

#[test]
fn a_dead_letter_is_listed_requeued_and_dropped() {
    let lab = Lab::new();
    assert_eq!(lab.run(&["dead", "list"]).with(0).out, "no dead letters\n");
    let id = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Store::open(lab.path("state/pushbutton.db")).await.unwrap();
        let queue = store.queue();
        queue.publish(&samples::job("wait")).await.unwrap();
        let claim = queue.claim(&JobFilter::any()).await.unwrap();
        claim.reject("the flavor m9.huge does not exist").await.unwrap();
        queue.list(1).await.unwrap().remove(0).id
    });
    let listed = lab.run(&["dead", "list"]).with(0).out;
    assert!(listed.contains(&id) && listed.contains("m9.huge"), "{listed}");

    assert_eq!(lab.run(&["dead", "requeue", &id]).with(0).out, "1 job put back on the queue\n");
    assert!(lab.run(&["status"]).with(0).out.starts_with("queue: 1 waiting, 0 leased, 0 dead"));
    let gone = lab.run(&["dead", "drop", &id]).with(6).out;
    assert!(gone.contains("no such dead letter"), "{gone}");
    lab.run(&["dead", "requeue"]).with(2);
    let actions = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Store::open(lab.path("state/pushbutton.db")).await.unwrap();
        store.history().actions(10).await.unwrap()
    });
    let [action] = &actions[..] else { panic!("what a person did is in the history, once: {actions:?}") };
    let said = action.to_string();
    assert!(said.starts_with("1 job put back on the queue by ") && said.ends_with(&id), "{said}");
}

#[test]
fn a_running_job_is_cancelled_and_nothing_is_posted() {
    let gerrit = gerrit();
    let lab = lab_with_a_job_of(&gerrit, 3600);
    let change = gerrit.push_change("acme/sandbox", "master", &[("cancel.txt", "never mind")]);
    let number = change.number.to_string();
    let mut operator = Running::start(&mut lab.command(&["run"]));
    // Without a patch set: the newest.
    let said = lab.run(&["rerun", &number]).with(0).out;
    assert!(said.contains(&format!("queued wait for {number},1")), "{said}");
    operator.says("stage wait ...");
    for _ in 0..2 {
        lab.run(&["cancel", &number]).with(0);
    }
    operator.says("ABORTED in");
    // A job that is queued afterwards runs.
    lab.run(&["rerun", &number]).with(0);
    operator.says("stage wait ...");
    lab.run(&["cancel", &format!("{number},1"), "--job", "wait"]).with(0);
    operator.says("ABORTED in");
    operator.signal("-TERM");
    assert_eq!(operator.ends().0.code(), Some(0));
    assert!(lab.run(&["status"]).with(0).out.starts_with("queue: 0 waiting, 0 leased, 0 dead"));
    assert_eq!(our_comments(&gerrit, &change), 0);
}

#[test]
fn a_lab_that_fails_too_often_is_muted_and_mails_its_people_until_one_unmutes() {
    let gerrit = gerrit();
    let mail = MailServer::start();
    let lab = lab_with_a_job_of(&gerrit, 0);
    let alarm = format!(
        "alarm:\n  mail: {{server: \"smtp://127.0.0.1:{}\", from: ci@lab.test, to: [ops@lab.test]}}\n",
        mail.port
    );
    let config = lab.config().replace("operator:\n", "handler: {mute_after: 1}\noperator:\n");
    lab.configure(&(config.replace("seconds: 0", "seconds: not-a-time") + &alarm));
    let change =
        |name| gerrit.push_change("acme/sandbox", "master", &[(name, "fails, like all others here")]);
    let (first, second) = (change("first.txt"), change("second.txt"));

    let mut operator = Running::start(&mut lab.command(&["run"]));
    lab.run(&["rerun", &first.number.to_string()]).with(0);
    operator.says("FAILURE in");
    let text = until("a mail", MINUTES, || {
        let text = mail.received();
        text.contains("unmute").then_some(text)
    });
    assert!(text.contains("To: ops@lab.test") && text.contains("has muted its reports"), "{text}");
    assert_eq!(our_comments(&gerrit, &first), 1, "the one that showed it was still reported");
    let status = lab.run(&["status"]).with(0).out;
    assert!(status.contains("muted by handler ") && status.contains("0 undelivered"), "{status}");

    lab.run(&["rerun", &second.number.to_string()]).with(0);
    operator.says("FAILURE in");
    let listed = until("the report is kept", MINUTES, || {
        let listed = lab.run(&["reports", "list"]).with(0).out;
        listed.contains("wait FAILURE in stage wait").then_some(listed)
    });
    assert!(listed.contains("gerrit: reports are muted by handler "), "{listed}");
    operator.signal("-TERM");
    assert_eq!(operator.ends().0.code(), Some(0));
    assert_eq!(our_comments(&gerrit, &second), 0, "withheld");
    let json = lab.run(&["reports", "list", "--json"]).with(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let id = json["report"]["id"].as_str().unwrap().to_owned();
    assert!(listed.starts_with(&id), "{listed}");

    // A person fixes the lab and unmutes it; an operator that starts later knows both.
    lab.configure(&lab.config().replace("seconds: not-a-time", "seconds: 0"));
    lab.run(&["unmute"]).with(0);
    let mut operator = Running::start(&mut lab.command(&["run"]));
    lab.run(&["rerun", &second.number.to_string()]).with(0);
    operator.says("SUCCESS in");
    until("the comment", MINUTES, || (our_comments(&gerrit, &second) == 1).then_some(()));

    // What was withheld is delivered when a person wants it.
    assert_eq!(lab.run(&["reports", "retry", &id]).with(0).out, "1 report will be delivered again\n");
    until("the withheld comment", MINUTES, || (our_comments(&gerrit, &second) == 2).then_some(()));
    lab.run(&["reports", "drop", &id]).with(6);
    assert_eq!(lab.run(&["reports", "drop", "--all"]).with(0).out, "0 reports dropped\n");
    operator.signal("-TERM");
    assert_eq!(operator.ends().0.code(), Some(0));
}

/// core.md S2-8, backends.md V7: operators with other jobs and nodes may share the queue.
#[test]
fn a_job_or_a_node_of_another_operator_waits_and_is_no_dead_letter() {
    let lab = Lab::new().with_ansible();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        std::fs::create_dir_all(lab.path("state")).unwrap();
        let queue = Store::open(lab.path("state/pushbutton.db")).await.unwrap().queue();
        let elsewhere = NodeLabel::new("elsewhere").unwrap();
        queue.publish(&samples::job_on(1, "unknown-here")).await.unwrap();
        queue.publish(&samples::job_on(2, "wait").with_label(elsewhere)).await.unwrap();
        queue.publish(&samples::job_on(3, "wait")).await.unwrap();
    });
    let mut operator = Running::start(&mut lab.command(&["operator"]));
    operator.says("3,2/wait SUCCESS in");
    operator.signal("-TERM");
    let (status, said) = operator.ends();
    assert_eq!(status.code(), Some(0), "{said}");
    let status = lab.run(&["status"]).with(0).out;
    assert!(status.starts_with("queue: 2 waiting, 0 leased, 0 dead\n"), "{status}");
    for line in [
        "nobody here can run unknown-here: 1 job,",
        "nobody here can run wait on elsewhere: 1 job,",
        "reports: 1 due",
    ] {
        assert!(status.contains(&format!("\n{line}")), "{line}: {status}");
    }
}
