//! A table of events as Gerrit 3.x writes them, and what the rules of OpenStack's third-party CI demand. Each row names the
//! rule: A for the requirements (Third Party Testing, Cinder's and Manila's driver pages), B for Gerrit's protocol, D for
//! what users complained of. Each goes the whole way: line, parser, filter, and the decider that a handler uses.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;

use pushbutton_core::memory::MemoryLookup;
use pushbutton_core::{
    Account, Approval, ChangeNumber, CurrentVote, Decider, EventMatch, EventSource, Exceptions,
    PatchsetDetails, PatchsetKind, PatchsetNumber, Preset, Trigger, Triggers, VoteCondition,
};
use pushbutton_gerrit::{EventFilter, RecordedStream};
use serde_json::{Value, json};

/// Changes whose files and votes the look-up knows.
const CODE: u64 = 950_001;
const DOCS: u64 = 950_002;
const TESTS: u64 = 950_003;
const MIXED: u64 = 950_004;
const EMPTY: u64 = 950_005;
const REJECTED: u64 = 950_006;

fn list(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// What a vendor of a Cinder driver configures.
fn triggers() -> Arc<Triggers> {
    let rule = |name: &str, on: EventMatch, job: &str| {
        Trigger::new(name, on, [job.parse().unwrap()])
            .with_projects(list(&["openstack/cinder", "openstack/os-brick"]))
    };
    let approval =
        |label: &str, by: &str| EventMatch::Approval { label: label.into(), at_least: 1, by: list(&[by]) };
    let rejected = VoteCondition::new("Verified").with_at_most(-1).with_by(list(&["zuul"]));
    let rules = vec![
        rule("recheck", EventMatch::Preset(Preset::Recheck), "tempest"),
        rule("run-ci", EventMatch::Preset(Preset::RunCiName), "tempest"),
        rule("upstream-passed", approval("Verified", "zuul"), "tempest")
            .with_irrelevant_files(list(&["^doc/.*$", "^.*\\.rst$", "^cinder/tests/unit/.*$"]))
            .with_skip_kinds(vec![PatchsetKind::NoChange, PatchsetKind::NoCodeChange])
            .with_except(
                Exceptions::default().with_hashtags(list(&["ci-skip"])).with_owners(list(&["proposal-bot"])),
            ),
        // Upstream runs again when a core reviewer approves what it had rejected.
        rule("approved", approval("Workflow", "group:cinder-core"), "gate")
            .with_branches(list(&["master", "stable/*"]))
            .with_votes(vec![rejected]),
        rule("sandbox", EventMatch::PatchsetCreated, "smoke").with_projects(list(&["opendev/sandbox"])),
        rule("sandbox-restored", EventMatch::ChangeRestored, "smoke")
            .with_projects(list(&["opendev/sandbox"])),
        rule("style", EventMatch::PatchsetCreated, "style")
            .with_projects(list(&["openstack/*"]))
            .with_except(
                Exceptions::default()
                    .with_projects(list(&["openstack/governance", "openstack/*-specs"]))
                    .with_topics(list(&["transifex/*"]))
                    .with_uploaders(list(&["proposal-bot"])),
            ),
    ];
    let own = list(&["acme-ci", "acme-ci-staging"]);
    Arc::new(Triggers::compile_named(rules, own, Some("Acme Storage CI")).unwrap())
}

fn lookup() -> Arc<MemoryLookup> {
    let lookup = MemoryLookup::default();
    let vote = |by: &str, value| CurrentVote::new(Account::of(by), Approval::new("Verified", value));
    for (change, files, votes) in [
        (CODE, &["/COMMIT_MSG", "cinder/volume/drivers/acme/iscsi.py"][..], vec![]),
        (DOCS, &["/COMMIT_MSG", "doc/source/index.rst", "README.rst"], vec![vote("zuul", 1)]),
        (TESTS, &["/COMMIT_MSG", "cinder/tests/unit/test_acme.py"], vec![vote("other-ci", -1)]),
        (MIXED, &["/COMMIT_MSG", "doc/source/index.rst", "cinder/manager.py"], vec![]),
        (EMPTY, &["/COMMIT_MSG"], vec![]),
        (REJECTED, &["/COMMIT_MSG", "cinder/manager.py"], vec![vote("zuul", -1), vote("other-ci", 1)]),
    ] {
        for patchset in 1..=3 {
            let details = PatchsetDetails::new(list(files)).with_votes(votes.clone());
            lookup.add_patchset(ChangeNumber(change), PatchsetNumber(patchset), details);
        }
    }
    lookup.add_group("cinder-core", [Account::of("alice"), Account::of("carol")]);
    Arc::new(lookup)
}

fn account(login: &str) -> Value {
    json!({"name": format!("Somebody ({login})"), "email": format!("{login}@example.org"), "username": login})
}

/// An event on patch set 2 of a change of cinder, with the fields that Gerrit 3.10 writes.
fn event(kind: &str, actor: &str, who: &str, change: u64) -> Value {
    let mut event = json!({
        "patchSet": {
            "number": 2, "revision": "6e1f1f81e647639829c5b8d1ab655e1007855928",
            "parents": ["633f1a6420c501bdc645091ebe1031bd94ba3b1c"],
            "ref": format!("refs/changes/{:02}/{change}/2", change % 100), "uploader": account("dave"),
            "createdOn": 1_795_450_000, "author": account("dave"), "kind": "REWORK",
            "sizeInsertions": 10, "sizeDeletions": -3,
        },
        "change": {
            "project": "openstack/cinder", "branch": "master", "id": "I080455645e2fc326324e4eebaa02ef628d1e014b",
            "number": change, "subject": "Acme: retry a failed attach", "owner": account("dave"),
            "url": format!("https://review.opendev.org/c/openstack/cinder/+/{change}"),
            "commitMessage": "Acme: retry a failed attach\n\nrecheck\n\nChange-Id: I080455645e2fc326324e4eebaa02ef628d1e014b\n",
            "createdOn": 1_795_440_000, "status": "NEW",
        },
        "project": "openstack/cinder", "refName": "refs/heads/master",
        "changeKey": {"id": "I080455645e2fc326324e4eebaa02ef628d1e014b"},
        "type": kind, "eventCreatedOn": 1_795_450_966,
    });
    event[actor] = account(who);
    event
}

/// A comment with the votes that its author has: label, value, and the value before if it changed.
fn comment(who: &str, text: &str, votes: &[(&str, i8, Option<i8>)]) -> Value {
    let mut event = event("comment-added", "author", who, CODE);
    event["comment"] = text.into();
    let votes = votes.iter().map(|(label, value, old)| {
        let mut vote = json!({"type": label, "description": label, "value": value.to_string()});
        if let Some(old) = old {
            vote["oldValue"] = old.to_string().into();
        }
        vote
    });
    event["approvals"] = votes.collect();
    event
}

fn says(who: &str, text: &str) -> Value {
    comment(who, &format!("Patch Set 2:\n\n{text}"), &[("Verified", 0, None), ("Code-Review", 0, None)])
}

fn verified(who: &str, value: i8, old: Option<i8>) -> Value {
    let text = format!(
        "Patch Set 2: Verified{value:+}\n\nBuild succeeded (check pipeline).\n\n- tempest https://x/y : SUCCESS in 5m 30s"
    );
    comment(who, &text, &[("Verified", value, old), ("Code-Review", 0, None), ("Workflow", 0, None)])
}

/// A comment on the patch set as a whole, from the web page.
fn web(who: &str, message: &str, comments: &[&str]) -> Value {
    let comments: Vec<Value> =
        comments.iter().map(|text| json!({"message": text, "unresolved": false})).collect();
    set(comment(who, message, &[]), "/patchSetComments", json!({"/PATCHSET_LEVEL": comments}))
}

fn uploaded(who: &str, change: u64) -> Value {
    event("patchset-created", "uploader", who, change)
}

/// Sets a field.
fn set(mut event: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    event.pointer_mut(parent).unwrap()[key] = value;
    event
}

/// Moves an event to another change.
fn on(event: Value, change: u64) -> Value {
    let event = set(event, "/change/number", change.into());
    set(event, "/patchSet/ref", format!("refs/changes/{:02}/{change}/2", change % 100).into())
}

fn in_project(event: Value, project: &str) -> Value {
    set(event, "/change/project", project.into())
}

fn without(mut event: Value, parent: &str, key: &str) -> Value {
    event.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
    event
}

struct Row {
    rule: &'static str,
    story: &'static str,
    /// The last one is judged.
    lines: Vec<Value>,
    jobs: &'static [&'static str],
}

const TEMPEST: &[&str] = &["tempest"];
const SMOKE: &[&str] = &["smoke"];
const STYLE: &[&str] = &["style"];
const GATE: &[&str] = &["gate"];
const NOTHING: &[&str] = &[];

fn row(rule: &'static str, story: &'static str, line: Value, jobs: &'static [&'static str]) -> Row {
    Row { rule, story, lines: vec![line], jobs }
}

fn comments() -> Vec<Row> {
    let both = "Done\nrecheck";
    vec![
        row("A4", "recheck", says("bob", "recheck"), TEMPEST),
        row("A4", "recheck by the author", says("dave", "recheck"), TEMPEST),
        row("A4", "recheck in capitals", says("bob", "RECHECK"), TEMPEST),
        row("A5", "blanks before it", says("bob", "  recheck"), TEMPEST),
        row(
            "A5",
            "anything may follow at once, as in upstream's own pattern",
            says("bob", "recheckthis"),
            TEMPEST,
        ),
        row(
            "A5",
            "a vote in the header",
            comment("bob", "Patch Set 2: Code-Review+1\n\nrecheck bug 12", &[("Code-Review", 1, Some(0))]),
            TEMPEST,
        ),
        row("A5", "the old form on the header's line", comment("bob", "Patch Set 2: recheck", &[]), TEMPEST),
        row("A5", "not at the beginning", says("bob", "please recheck"), NOTHING),
        row("A5", "another word", says("bob", "re-check"), NOTHING),
        row("A5", "a later line", says("bob", "Thanks.\n\nrecheck"), NOTHING),
        row("A7", "a bug", says("bob", "recheck bug 1234567"), TEMPEST),
        row("A7", "a reason", says("bob", "recheck cinder-tempest: the array was rebooted"), TEMPEST),
        row("A7", "no bug", says("bob", "recheck no bug"), TEMPEST),
        row(
            "A7",
            "a reason on lines of its own",
            says("bob", "recheck\n\nunrelated timeout\nin nova"),
            TEMPEST,
        ),
        row("A6", "this CI alone", says("bob", "run-Acme Storage CI"), TEMPEST),
        row("A6", "in any case", says("bob", "Run-acme storage ci"), TEMPEST),
        row("A6", "with hyphens", says("bob", "run-Acme-Storage-CI"), TEMPEST),
        row("A6", "with a reason", says("bob", "run-Acme Storage CI please, it timed out"), TEMPEST),
        row("A6", "another CI alone", says("bob", "run-NetApp CI"), NOTHING),
        row("A6", "a CI whose name begins like ours", says("bob", "run-Acme Storage CI2"), NOTHING),
        row("F3", "a quotation", says("bob", "> recheck\n\nWhy?"), NOTHING),
        row("F3", "a typed vote is none", says("zuul", "Verified+1"), NOTHING),
        row(
            "F3",
            "a typed header is text",
            says("bob", "Patch Set 1: Verified+1\n\nBuild succeeded"),
            NOTHING,
        ),
        row("A41", "our own recheck", says("acme-ci", "recheck"), NOTHING),
        row(
            "A41",
            "our comment, which names the phrase",
            says("acme-ci", "Build failed (check pipeline).\n\nTo run it again, comment: recheck"),
            NOTHING,
        ),
        row("A41", "our second account", says("acme-ci-staging", "run-Acme Storage CI"), NOTHING),
        row(
            "A41",
            "a stranger with our full name is a stranger",
            set(says("mallory", "recheck"), "/author/name", "acme-ci".into()),
            TEMPEST,
        ),
        row("A4", "another CI's recheck is a recheck", says("other-ci", "recheck"), TEMPEST),
        row(
            "B2",
            "from the web page: the count is in the message, the text beside it",
            web("bob", "Patch Set 2:\n\n(1 comment)", &["recheck"]),
            TEMPEST,
        ),
        row(
            "B2",
            "from the web page, with a vote",
            web("bob", "Patch Set 2: Code-Review+1\n\n(1 comment)", &["recheck bug 1"]),
            TEMPEST,
        ),
        row(
            "B2",
            "two comments, one of them a recheck",
            web("bob", "Patch Set 2:\n\n(2 comments)", &["Done", "recheck"]),
            TEMPEST,
        ),
        row(
            "B2",
            "a cover text beside comments",
            web("bob", "Patch Set 2:\n\n(1 comment)\n\nrecheck", &["Acknowledged"]),
            TEMPEST,
        ),
        row(
            "B2",
            "only a count, as servers send that publish no comments",
            says("bob", "(1 comment)"),
            NOTHING,
        ),
        row(
            "B2",
            "one comment that only holds the word",
            web("bob", "Patch Set 2:\n\n(1 comment)", &[both]),
            NOTHING,
        ),
        row(
            "B2",
            "a comment on a file",
            set(
                says("bob", "(1 comment)"),
                "/patchSetComments",
                json!({"cinder/a.py": [{"message": "recheck", "line": 3}]}),
            ),
            NOTHING,
        ),
        row(
            "B1",
            "numbers as texts, as old servers write them",
            set(
                set(says("bob", "recheck"), "/change/number", "950001".into()),
                "/patchSet/number",
                "2".into(),
            ),
            TEMPEST,
        ),
        row(
            "B1",
            "a project as an object, as the events-log plugin writes it",
            set(says("bob", "recheck"), "/change/project", json!({"name": "openstack/cinder"})),
            TEMPEST,
        ),
        row(
            "B1",
            "a full ref as the branch",
            set(says("bob", "recheck"), "/change/branch", "refs/heads/master".into()),
            TEMPEST,
        ),
        row(
            "B1",
            "unknown fields",
            set(says("bob", "recheck"), "/change/customKeyedValues", json!({"a": ["b"]})),
            TEMPEST,
        ),
        row("B1", "no time", without(says("bob", "recheck"), "", "eventCreatedOn"), TEMPEST),
        row("B1", "no author", without(says("bob", "recheck"), "", "author"), TEMPEST),
        row("D26", "a question about it", says("bob", "How do I recheck this?"), NOTHING),
        row("A4", "an empty comment", says("bob", ""), NOTHING),
    ]
}

fn votes() -> Vec<Row> {
    let workflow = |who: &str, change| {
        on(
            comment(
                who,
                "Patch Set 2: Workflow+1",
                &[("Verified", 0, None), ("Code-Review", 2, None), ("Workflow", 1, Some(0))],
            ),
            change,
        )
    };
    let again = Row {
        rule: "B2",
        story: "the same vote again, after a reset",
        lines: vec![
            verified("zuul", 1, Some(0)),
            comment("zuul", "Patch Set 2: -Verified\n\nStarting check jobs.", &[("Verified", 0, Some(1))]),
            verified("zuul", 1, Some(0)),
        ],
        jobs: TEMPEST,
    };
    vec![
        row("A29", "upstream has passed", verified("zuul", 1, Some(0)), TEMPEST),
        row("A29", "upstream has failed", verified("zuul", -1, Some(0)), NOTHING),
        row("A29", "the gate has passed", verified("zuul", 2, Some(1)), TEMPEST),
        row("A29", "from failed to passed", verified("zuul", 1, Some(-1)), TEMPEST),
        row("B2", "a standing vote is repeated with a comment", verified("zuul", 1, None), NOTHING),
        row(
            "B2",
            "a standing vote beside one that is new",
            comment(
                "zuul",
                "Patch Set 2: Code-Review+1",
                &[("Verified", 1, None), ("Code-Review", 1, Some(0))],
            ),
            NOTHING,
        ),
        row(
            "B2",
            "a vote without a text",
            comment("zuul", "Patch Set 2: Verified+1", &[("Verified", 1, Some(0))]),
            TEMPEST,
        ),
        row(
            "B2",
            "a vote that was removed",
            comment("zuul", "Patch Set 2: -Verified", &[("Verified", 0, Some(1))]),
            NOTHING,
        ),
        row(
            "B2",
            "values as numbers",
            set(
                verified("zuul", 1, Some(0)),
                "/approvals",
                json!([{"type": "Verified", "value": 1, "oldValue": 0}]),
            ),
            TEMPEST,
        ),
        row(
            "B2",
            "a vote with no value",
            set(verified("zuul", 1, Some(0)), "/approvals", json!([{"type": "Verified"}])),
            NOTHING,
        ),
        again,
        row("A41", "our own vote", verified("acme-ci", 1, Some(0)), NOTHING),
        row("F3", "the vote of another CI", verified("other-ci", 1, Some(0)), NOTHING),
        row(
            "F3",
            "a stranger named zuul",
            set(
                verified("mallory", 1, Some(0)),
                "/author",
                json!({"name": "zuul", "email": "zuul", "username": "mallory"}),
            ),
            NOTHING,
        ),
        row(
            "A29",
            "a reviewer's Code-Review",
            comment("bob", "Patch Set 2: Code-Review+2", &[("Code-Review", 2, Some(0))]),
            NOTHING,
        ),
        row(
            "A30",
            "approved by a core reviewer, and upstream had rejected it",
            workflow("carol", REJECTED),
            GATE,
        ),
        row(
            "A30",
            "approved by a core reviewer, and upstream has not voted",
            workflow("carol", CODE),
            NOTHING,
        ),
        row("A30", "approved, and only another CI had rejected it", workflow("alice", TESTS), NOTHING),
        row("A30", "approved by somebody who is no core reviewer", workflow("bob", REJECTED), NOTHING),
        row(
            "A30",
            "approved on a branch that is not tested",
            set(workflow("carol", REJECTED), "/change/branch", "feature/x".into()),
            NOTHING,
        ),
        row("A33", "docs only, and upstream has passed", on(verified("zuul", 1, Some(0)), DOCS), NOTHING),
        row("A33", "unit tests only", on(verified("zuul", 1, Some(0)), TESTS), NOTHING),
        row("A33", "docs and code", on(verified("zuul", 1, Some(0)), MIXED), TEMPEST),
        row("A33", "no file but the commit message", on(verified("zuul", 1, Some(0)), EMPTY), TEMPEST),
        row("A4", "docs only, and a person asks", on(says("bob", "recheck"), DOCS), TEMPEST),
        row(
            "D24",
            "a trivial change of the message",
            set(verified("zuul", 1, Some(0)), "/patchSet/kind", "NO_CODE_CHANGE".into()),
            NOTHING,
        ),
        row(
            "D24",
            "a rebase is new code",
            set(verified("zuul", 1, Some(0)), "/patchSet/kind", "TRIVIAL_REBASE".into()),
            TEMPEST,
        ),
        row(
            "A4",
            "a change of the message, and a person asks",
            set(says("bob", "recheck"), "/patchSet/kind", "NO_CODE_CHANGE".into()),
            TEMPEST,
        ),
        row(
            "D24",
            "a change that asks for no CI",
            set(verified("zuul", 1, Some(0)), "/change/hashtags", json!(["review-priority", "ci-skip"])),
            NOTHING,
        ),
        row(
            "A4",
            "a change that asks for no CI, and a person asks",
            set(says("bob", "recheck"), "/change/hashtags", json!(["ci-skip"])),
            TEMPEST,
        ),
        row(
            "D24",
            "a robot's change",
            set(verified("zuul", 1, Some(0)), "/change/owner", account("proposal-bot")),
            NOTHING,
        ),
    ]
}

fn states() -> Vec<Row> {
    let wip = |event| set(event, "/change/wip", true.into());
    let private = |event| set(event, "/change/private", true.into());
    let closed = |event, status: &str| set(event, "/change/status", status.into());
    let sandbox = |event| in_project(event, "opendev/sandbox");
    let newer = |event: Value| {
        let event = set(event, "/patchSet/number", 3.into());
        set(
            set(event, "/patchSet/ref", "refs/changes/01/950001/3".into()),
            "/patchSet/revision",
            "7".repeat(40).into(),
        )
    };
    let sequence = |rule, story, lines: Vec<Value>, jobs| Row { rule, story, lines, jobs };
    vec![
        row("A30", "a patch set in the sandbox", sandbox(uploaded("dave", CODE)), SMOKE),
        row("A1", "a patch set of cinder waits for upstream", uploaded("dave", CODE), STYLE),
        row(
            "A44",
            "a project that refuses CI comments",
            in_project(uploaded("dave", CODE), "openstack/governance"),
            NOTHING,
        ),
        row("A44", "specifications", in_project(uploaded("dave", CODE), "openstack/cinder-specs"), NOTHING),
        row(
            "A27",
            "os-brick is tested, too",
            in_project(says("bob", "recheck"), "openstack/os-brick"),
            TEMPEST,
        ),
        row(
            "A27",
            "a project that is not ours",
            in_project(says("bob", "recheck"), "openstack/nova"),
            NOTHING,
        ),
        row(
            "A27",
            "a project whose name begins like ours",
            in_project(says("bob", "recheck"), "openstack/cinder-tempest-plugin"),
            NOTHING,
        ),
        row(
            "A32",
            "a stable branch",
            set(says("bob", "recheck"), "/change/branch", "stable/2026.1".into()),
            TEMPEST,
        ),
        row(
            "D24",
            "a robot's translation",
            set(uploaded("dave", CODE), "/change/topic", "transifex/translations".into()),
            NOTHING,
        ),
        row("D24", "another topic", set(uploaded("dave", CODE), "/change/topic", "bp/acme".into()), STYLE),
        row("D24", "a robot's upload", uploaded("proposal-bot", CODE), NOTHING),
        row(
            "S1-5",
            "a private change is not tested: logs are public",
            private(sandbox(uploaded("dave", CODE))),
            NOTHING,
        ),
        row("S1-5", "not even if a person asks", private(says("bob", "recheck")), NOTHING),
        row(
            "S1-5",
            "it was made public",
            sandbox(event("private-state-changed", "changer", "dave", CODE)),
            SMOKE,
        ),
        row(
            "S1-5",
            "it was made private",
            private(sandbox(event("private-state-changed", "changer", "dave", CODE))),
            NOTHING,
        ),
        row("12", "work in progress", wip(sandbox(uploaded("dave", CODE))), NOTHING),
        row("12", "it is ready now", sandbox(event("wip-state-changed", "changer", "dave", CODE)), SMOKE),
        row(
            "12",
            "it is work in progress again",
            wip(sandbox(event("wip-state-changed", "changer", "dave", CODE))),
            NOTHING,
        ),
        row("12", "work in progress, and a person asks", wip(says("dave", "recheck")), TEMPEST),
        row("12", "work in progress, and upstream has passed", wip(verified("zuul", 1, Some(0))), NOTHING),
        row("A30", "restored", sandbox(event("change-restored", "restorer", "dave", CODE)), SMOKE),
        row(
            "A30",
            "restored, where no trigger asks for that",
            event("change-restored", "restorer", "dave", CODE),
            NOTHING,
        ),
        row("A30", "a merged change", closed(says("bob", "recheck"), "MERGED"), NOTHING),
        row("A30", "an abandoned change", closed(says("bob", "recheck"), "ABANDONED"), NOTHING),
        row(
            "D9",
            "it was abandoned",
            closed(event("change-abandoned", "abandoner", "dave", CODE), "ABANDONED"),
            NOTHING,
        ),
        row(
            "D9",
            "it was merged",
            closed(event("change-merged", "submitter", "zuul", CODE), "MERGED"),
            NOTHING,
        ),
        row(
            "D9",
            "it was deleted",
            without(event("change-deleted", "deleter", "dave", CODE), "", "patchSet"),
            NOTHING,
        ),
        sequence(
            "A30",
            "a recheck on the patch set before the newest",
            vec![newer(uploaded("dave", CODE)), says("bob", "recheck")],
            NOTHING,
        ),
        sequence(
            "A30",
            "a vote on the patch set before the newest",
            vec![newer(uploaded("dave", CODE)), verified("zuul", 1, Some(0))],
            NOTHING,
        ),
        sequence(
            "A30",
            "a recheck on the newest",
            vec![newer(uploaded("dave", CODE)), newer(says("bob", "recheck"))],
            TEMPEST,
        ),
        sequence(
            "A30",
            "a newer patch set of another change",
            vec![on(newer(uploaded("dave", CODE)), MIXED), says("bob", "recheck")],
            TEMPEST,
        ),
        sequence(
            "D6",
            "a patch set that comes late",
            vec![newer(says("bob", "nice")), newer(uploaded("dave", CODE)), uploaded("dave", CODE)],
            NOTHING,
        ),
        sequence(
            "A3",
            "the same recheck twice is two",
            vec![
                says("bob", "recheck"),
                set(says("bob", "recheck"), "/eventCreatedOn", 1_795_450_999.into()),
            ],
            TEMPEST,
        ),
        sequence(
            "D7",
            "the same upload twice is one",
            vec![uploaded("dave", CODE), uploaded("dave", CODE)],
            NOTHING,
        ),
    ]
}

fn noise() -> Vec<Row> {
    vec![
        row(
            "D8",
            "a ref was replicated",
            json!({"type": "ref-replicated", "project": "openstack/cinder", "ref": "refs/heads/master", "eventCreatedOn": 1_795_450_966}),
            NOTHING,
        ),
        row(
            "D8",
            "notes of a change were updated",
            json!({"type": "ref-updated", "submitter": account("bob"), "refUpdate": {"oldRev": "0".repeat(40), "newRev": "1".repeat(40), "refName": "refs/changes/01/950001/meta", "project": "openstack/cinder"}, "eventCreatedOn": 1_795_450_966}),
            NOTHING,
        ),
        row("D8", "a reviewer was added", event("reviewer-added", "reviewer", "bob", CODE), NOTHING),
        row(
            "D8",
            "the topic was changed",
            set(event("topic-changed", "changer", "dave", CODE), "/oldTopic", "recheck".into()),
            NOTHING,
        ),
        row(
            "D8",
            "hashtags were changed",
            set(event("hashtags-changed", "editor", "dave", CODE), "/added", json!(["recheck"])),
            NOTHING,
        ),
        row(
            "D8",
            "a vote was deleted by somebody",
            set(event("vote-deleted", "remover", "dave", CODE), "/comment", "Removed Verified-1".into()),
            NOTHING,
        ),
        row(
            "B1",
            "a type that a later Gerrit adds",
            event("change-celebrated", "author", "bob", CODE),
            NOTHING,
        ),
        row("B1", "events were dropped", json!({"type": "dropped-output"}), NOTHING),
        row(
            "D30",
            "a change without a number",
            without(says("bob", "recheck"), "/change", "number"),
            NOTHING,
        ),
        row(
            "D30",
            "a ref that could be an option",
            set(says("bob", "recheck"), "/patchSet/ref", "--upload-pack=x".into()),
            NOTHING,
        ),
    ]
}

/// The jobs that the last of these lines calls for.
async fn jobs_of(lines: &[Value]) -> BTreeSet<String> {
    let triggers = triggers();
    let decider = Decider::new((*triggers).clone()).with_lookup(lookup());
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    // How many events the lines before the last one hold: each row has at most one event in each line.
    let before: String = lines[..lines.len() - 1].iter().map(|line| format!("{line}\n")).collect();
    let count = async |text: String| {
        let mut source = source(text, &triggers);
        let mut count = 0;
        while source.next().await.unwrap().is_some() {
            count += 1;
        }
        count
    };
    let (skip, mut source) = (count(before).await, source(text, &triggers));
    let (mut number, mut jobs) = (0, BTreeSet::new());
    while let Some(event) = source.next().await.unwrap() {
        let evaluation = decider.decide(&event).await;
        assert!(evaluation.is_decided() && evaluation.unanswered.is_empty(), "{evaluation:#?}");
        number += 1;
        if number > skip {
            jobs.extend(evaluation.jobs().into_iter().map(|job| job.name.to_string()));
        }
    }
    jobs
}

fn source(text: String, triggers: &Arc<Triggers>) -> RecordedStream {
    RecordedStream::new(
        "table",
        Cursor::new(text.into_bytes()),
        EventFilter::for_triggers(Arc::clone(triggers)),
    )
}

#[tokio::test]
async fn every_event_of_the_table_is_decided_as_the_rules_demand() {
    let rows: Vec<Row> = [comments(), votes(), states(), noise()].into_iter().flatten().collect();
    assert!(rows.len() >= 80, "{}", rows.len());
    let mut wrong = Vec::new();
    for Row { rule, story, lines, jobs } in &rows {
        let wanted: BTreeSet<String> = jobs.iter().map(|job| (*job).to_owned()).collect();
        let found = jobs_of(lines).await;
        if found != wanted {
            wrong.push(format!("{rule} ({story}): demanded {wanted:?}, decided {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
