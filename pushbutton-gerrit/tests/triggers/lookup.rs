//! On a real Gerrit 3.10.

use std::process::Command;

use pushbutton_core::{
    Account, Approval, ChangeNumber, CurrentVote, Decider, EventKind, EventMatch, Exceptions, PatchsetNumber,
    Trigger, TriggerLookup, Triggers,
};
use pushbutton_gerrit::{Gerrit, Recorder, Recording};
use pushbutton_testkit::conformance::trigger_lookup::{self, Known};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::common::{config, text, unique};

fn list(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_lookup_keeps_the_contract() {
    let server = pushbutton_testbed::gerrit();
    let project = unique("triggers/lookup");
    server.create_project(&project);
    let content = "one line\n".repeat(50);
    // A base with a file, which the second patch set moves.
    let base = server.push_change(&project, "master", &[("old/b.txt", &content)]);
    server.review(
        "admin",
        base.number,
        1,
        &json!({"labels": {"Code-Review": 2, "Verified": 2, "Workflow": 1}}),
    );
    server.act("admin", base.number, "submit");
    let first = server.push_change(&project, "master", &[("a.txt", "a\n")]);
    moved(&server, &first);
    server.vote("zuul", first.number, 2, "Verified", -1);
    server.vote("bob", first.number, 2, "Code-Review", 1);
    server.vote("bob", first.number, 2, "Code-Review", 0);
    let hidden = unique("hidden");
    server.rest("admin", "PUT", &format!("/groups/{hidden}"), Some(&json!({})));
    let known = Known {
        change: ChangeNumber(first.number),
        first: (PatchsetNumber(1), list(&["a.txt"])),
        newest: (PatchsetNumber(2), list(&["new/b.txt", "old/b.txt"])),
        vote: CurrentVote::new(Account::of("zuul"), Approval::new("Verified", -1)),
        no_change: ChangeNumber(999_999_999),
        group: ("Third-Party CI".into(), list(&["acme-ci", "admin"])),
        // It exists, and its only member is not shown to the account.
        silent_groups: vec![hidden, "there is none; rm -rf /".into()],
    };
    let gerrit = Gerrit::new(config(&server)).unwrap();
    trigger_lookup::all(&*gerrit, &known).await;
}

/// Pushes the second patch set, which moves a file.
fn moved(server: &pushbutton_testbed::Gerrit, change: &pushbutton_testbed::Change) {
    let folder = tempfile::tempdir().unwrap();
    let host = server.http_url.trim_start_matches("http://");
    let remote = format!("http://alice:secret@{host}/a/{}", change.project);
    let message = format!("A change\n\nChange-Id: {}\n", change.change_id);
    let git = |arguments: &[&str]| {
        let ended = Command::new("git")
            .args(["-c", "user.name=Alice Dev", "-c", "user.email=alice@example.org"])
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(ended.status.success(), "{arguments:?}: {ended:?}");
    };
    git(&["init", "-q"]);
    git(&["fetch", "-q", "--depth=1", &remote, "master"]);
    git(&["reset", "-q", "--hard", "FETCH_HEAD"]);
    std::fs::create_dir(folder.path().join("new")).unwrap();
    git(&["mv", "old/b.txt", "new/b.txt"]);
    git(&["commit", "-q", "-m", &message]);
    git(&["push", "-q", &remote, "HEAD:refs/for/master"]);
}

/// Issue 11, point 6: files, topic, hashtags and a group, judged on what a real server says and records.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn triggers_decide_on_real_events_and_a_recording_of_them_says_the_same() {
    let server = pushbutton_testbed::gerrit();
    let project = unique("triggers/decide");
    server.create_project(&project);
    let push = |files: &[(&str, &str)], options: &str| {
        server.push_change_as("alice", &project, "master", "A change", files, options)
    };
    let driver = push(&[("cinder/acme.py", "a\n"), ("doc/a.rst", "a\n")], "%topic=bp/acme");
    let docs = push(&[("doc/a.rst", "b\n")], "%topic=bp/acme");
    let tagged = push(&[("cinder/acme.py", "c\n")], "%topic=bp/acme,hashtag=ci-skip");
    let other = push(&[("cinder/acme.py", "d\n")], "%topic=other");

    let on = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let trigger = Trigger::new("rule", on, ["tempest".parse().unwrap()])
        .with_projects(vec![project.clone()])
        .with_irrelevant_files(list(&["doc/.*"]))
        .with_topics(list(&["bp/*"]))
        .with_from(list(&["group:Third-Party CI"]))
        .with_owners(list(&["alice"]))
        .with_uploaders(list(&["alice"]))
        .with_except(Exceptions::default().with_hashtags(list(&["ci-*"])));
    let triggers = || Triggers::compile(vec![trigger.clone()], vec!["acme-ci".into()]).unwrap();
    let gerrit = Gerrit::new(config(&server)).unwrap();
    let decider = || Decider::new(triggers()).with_lookup(gerrit.clone()).with_all_conditions();

    // Recorded as it happens.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stream.jsonl");
    let mut recording = Recording::open(&file).await.unwrap();
    let mut recorder = Recorder::new(gerrit.clone());
    let stop = CancellationToken::new();
    let until_recorded = async {
        let recorded = async |wanted: &str| {
            tokio::time::timeout(std::time::Duration::from_secs(60), async {
                while !std::fs::read_to_string(&file).unwrap().contains(wanted) {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            })
            .await
            .unwrap_or_else(|_| panic!("{wanted} was not recorded"));
        };
        // The recorder listens once it has written something.
        for round in 0.. {
            server.comment("bob", driver.number, 1, &format!("listening? {round}"));
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            if std::fs::read_to_string(&file).unwrap().contains("listening?") {
                break;
            }
        }
        // A reviewer of a private change sees its events.
        let reviewer = json!({"reviewer": "acme-ci"});
        server.rest("alice", "POST", &format!("/changes/{}/reviewers", other.number), Some(&reviewer));
        server.act("alice", other.number, "private");
        server.comment("alice", other.number, 1, "a secret");
        for change in [&driver, &docs, &tagged] {
            server.comment("admin", change.number, 1, "recheck please");
        }
        server.comment("bob", driver.number, 1, "recheck by nobody");
        recorded("recheck by nobody").await;
        stop.cancel();
    };
    let (run, ()) = tokio::join!(recorder.run(&mut recording, &stop), until_recorded);
    run.unwrap();
    let lines = std::fs::read_to_string(&file).unwrap();
    assert!(!lines.contains("a secret") && recorder.left_out() > 0, "private changes are not recorded");
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));

    server.rest("alice", "DELETE", &format!("/changes/{}/private", other.number), None);
    server.comment("admin", other.number, 1, "recheck please");
    for (change, is_run, reason) in [
        (&driver, true, ""),
        (&docs, false, "all changed files match doc/.*"),
        (&tagged, false, "hashtag \"ci-skip\" is an exception"),
        (&other, false, "no topic is one of bp/*"),
    ] {
        let all = gerrit.change_events(ChangeNumber(change.number), None).await.unwrap();
        let decider = decider();
        let mut judged = 0;
        for past in &all.events {
            if text(&past.event) != "recheck please" {
                continue;
            }
            judged += 1;
            let evaluation = decider.decide(&past.event).await;
            assert_eq!(!evaluation.jobs().is_empty(), is_run, "{reason}: {evaluation:#?}");
            assert!(is_run || evaluation.reasons()[0].contains(reason), "{reason}: {evaluation:#?}");
        }
        assert_eq!(judged, 1, "{:#?}", all.events);
    }

    // The recording, by the same rules, and with the same ids.
    let source = pushbutton_gerrit::RecordedStream::open(&file, pushbutton_gerrit::EventFilter::everything());
    let (mut source, decider) = (source.await.unwrap(), decider());
    let (mut ran, mut nobody) = (Vec::new(), 0);
    while let Some(event) = pushbutton_core::EventSource::next(&mut source).await.unwrap() {
        let evaluation = decider.decide(&event).await;
        if text(&event) == "recheck by nobody" {
            nobody += 1;
            assert!(
                evaluation.reasons()[0].contains("bob is not one of group:Third-Party CI"),
                "{evaluation:#?}"
            );
        }
        if !evaluation.jobs().is_empty() {
            assert!(matches!(event.kind, EventKind::CommentAdded { .. }));
            ran.push(event);
        }
    }
    assert_eq!((ran.len(), nobody), (1, 1));
    let all = gerrit.change_events(ChangeNumber(driver.number), None).await.unwrap();
    assert!(
        all.events.iter().any(|past| past.ids.contains(&ran[0].id)),
        "explain finds what a handler has recorded"
    );
    assert!(gerrit.group_members("Third-Party CI").await.is_ok());
}
