use super::*;
use crate::event::PatchsetKind;
use crate::event::{ChangeStatus, EventKind};
use crate::samples;

/// Upstream Zuul's own recheck pattern (peers: openstack/project-config).
const RECHECK: &str = r"(?i)^(Patch Set [0-9]+:)?( [\w\\+-]*)*(\n\n)?\s*recheck";

fn trigger(on: EventMatch) -> Trigger {
    Trigger::new("rule", on, [JobName::new("tempest").unwrap()])
        .with_projects(["openstack/cinder".into()])
        .with_branches(["master".into(), "stable/*".into()])
        .with_skip_kinds([PatchsetKind::NoCodeChange])
}

fn decide(on: EventMatch, event: &Event) -> Decision {
    Triggers::compile(vec![trigger(on)], vec!["acme-ci".into()]).unwrap().decide(event)
}

fn runs(on: EventMatch, event: &Event) -> bool {
    matches!(decide(on, event), Decision::Run(_))
}

fn recheck() -> EventMatch {
    EventMatch::Comment { pattern: RECHECK.into(), from: vec![] }
}

fn verified() -> EventMatch {
    EventMatch::Approval { label: "Verified".into(), at_least: 1, by: vec!["zuul".into()] }
}

#[test]
fn a_recheck_runs_whatever_follows_the_word() {
    for text in ["recheck", "recheck bug 1234", "Recheck job : reason", "  recheck\nthanks"] {
        assert!(runs(recheck(), &samples::comment("bob", text)), "{text:?}");
    }
    for text in ["please recheck", "> recheck", "", "re-check"] {
        assert!(!runs(recheck(), &samples::comment("bob", text)), "{text:?}");
    }
}

#[test]
fn own_comments_never_trigger() {
    let decision = decide(recheck(), &samples::comment("acme-ci", "recheck"));
    assert_eq!(decision, Decision::Ignore(vec!["own comment: acme-ci is our own account".into()]));
}

#[test]
fn a_comment_can_be_limited_to_some_accounts() {
    let on = || EventMatch::Comment { pattern: "^go".into(), from: vec!["alice".into()] };
    assert!(runs(on(), &samples::comment("alice", "go")));
    assert!(!runs(on(), &samples::comment("bob", "go")));
}

#[test]
fn an_approval_counts_only_from_the_upstream_ci_and_only_when_new() {
    let vote = |who: &str, value: i8| samples::vote(who, Approval { label: "Verified".into(), value });
    assert!(runs(verified(), &vote("zuul", 1)));
    assert!(runs(verified(), &vote("zuul", 2)));
    assert!(!runs(verified(), &vote("zuul", -1)));
    assert!(!runs(verified(), &vote("mallory", 1)));
    // A typed "Verified+1" is no vote.
    assert!(!runs(verified(), &samples::comment("zuul", "Verified+1")));
}

#[test]
fn project_and_branch_are_globs_within_a_path_segment() {
    let mut event = samples::comment("bob", "recheck");
    event.change.branch = "stable/2026.1".parse().unwrap();
    assert!(runs(recheck(), &event));
    event.change.branch = "stable/a/b".parse().unwrap();
    assert!(!runs(recheck(), &event));
    event.change.branch = "master".parse().unwrap();
    event.change.project = "openstack/cinder-specs".parse().unwrap();
    assert!(!runs(recheck(), &event));
}

#[test]
fn a_closed_change_runs_nothing() {
    let mut event = samples::comment("bob", "recheck");
    event.change.status = ChangeStatus::Merged;
    assert!(!runs(recheck(), &event));
}

#[test]
fn work_in_progress_and_message_edits_are_passed_by_unless_somebody_asks() {
    let mut event = samples::patchset_created();
    assert!(runs(EventMatch::PatchsetCreated, &event));
    event.change.wip = true;
    assert!(!runs(EventMatch::PatchsetCreated, &event));
    event.change.wip = false;
    event.patchset.kind = PatchsetKind::NoCodeChange;
    assert!(!runs(EventMatch::PatchsetCreated, &event));

    let mut asked = samples::comment("bob", "recheck");
    asked.change.wip = true;
    asked.patchset.kind = PatchsetKind::NoCodeChange;
    assert!(runs(recheck(), &asked));
}

#[test]
fn two_rules_for_the_same_job_run_it_once_and_the_first_is_named() {
    let (first, mut second) = (trigger(recheck()), trigger(recheck()));
    second.name = "other".into();
    second.jobs.push(JobName::new("unit").unwrap());
    let triggers = Triggers::compile(vec![first, second], vec![]).unwrap();
    let Decision::Run(jobs) = triggers.decide(&samples::comment("bob", "recheck")) else {
        panic!("must run")
    };
    let jobs: Vec<_> = jobs.iter().map(|job| (job.name.as_str(), job.trigger.as_str())).collect();
    assert_eq!(jobs, [("tempest", "rule"), ("unit", "other")]);
}

#[test]
fn all_faults_are_told_at_once() {
    let (mut bad_pattern, mut bad_glob, mut no_jobs) =
        (trigger(recheck()), trigger(recheck()), trigger(recheck()));
    bad_pattern.on = EventMatch::Comment { pattern: "(".into(), from: vec![] };
    bad_glob.projects = vec!["a{".into()];
    no_jobs.jobs.clear();
    let nobody = trigger(EventMatch::Approval { label: "Verified".into(), at_least: 1, by: vec![] });
    let error = Triggers::compile(vec![bad_pattern, bad_glob, no_jobs, nobody], vec![]).unwrap_err();
    for part in ["pattern \"(\"", "glob \"a{\"", "`jobs` is empty", "`by` is empty"] {
        assert!(error.message().contains(part), "{part} in {error}");
    }
}

#[test]
fn the_server_side_filter_names_what_the_rules_need() {
    let triggers = Triggers::compile(vec![trigger(verified())], vec![]).unwrap();
    assert_eq!(
        triggers.event_types(),
        ["patchset-created", "change-merged", "change-abandoned", "change-deleted", "comment-added"]
    );
    let triggers = Triggers::compile(vec![trigger(EventMatch::PatchsetCreated)], vec![]).unwrap();
    for needed in ["wip-state-changed", "private-state-changed"] {
        assert!(triggers.event_types().contains(&needed), "reports.md 12: {needed}");
    }
}

#[test]
fn what_intake_may_drop_unseen_is_what_no_rule_could_heed() {
    let triggers = Triggers::compile(vec![trigger(recheck()), trigger(verified())], vec![]).unwrap();
    assert!(triggers.matches_comment("recheck bug 1") && !triggers.matches_comment("nice work"));
    let vote = |label: &str, value| Approval { label: label.into(), value };
    assert!(triggers.matches_vote(&vote("Verified", 2)));
    assert!(!triggers.matches_vote(&vote("Verified", -1)) && !triggers.matches_vote(&vote("Code-Review", 2)));
}

#[test]
fn a_full_name_that_looks_like_a_login_starts_nothing() {
    // core.md S1-1, seen by running: a stranger whose full name is "zuul" or "alice" started jobs.
    let mallory = || Account::of("mallory").with_name("zuul".to_owned()).with_email("zuul".to_owned());
    let mut vote = samples::vote("zuul", Approval::new("Verified", 1));
    assert!(runs(verified(), &vote));
    if let EventKind::CommentAdded { author, .. } = &mut vote.kind {
        *author = mallory();
    }
    assert!(!runs(verified(), &vote));
    let on = EventMatch::Comment { pattern: "^go".into(), from: vec!["zuul".into()] };
    let mut comment = samples::comment("zuul", "go");
    if let EventKind::CommentAdded { author, .. } = &mut comment.kind {
        *author = mallory();
    }
    assert!(!runs(on, &comment));
}

#[test]
fn a_private_change_runs_only_where_the_trigger_says_so() {
    // core.md S1-5: the logs of an embargoed fix were published.
    let mut event = samples::comment("bob", "recheck");
    event.change.private = true;
    let decision = decide(recheck(), &event);
    assert_eq!(decision, Decision::Ignore(vec!["rule: change 12345 is private".into()]));
    let trigger = trigger(recheck()).with_private(true);
    let triggers = Triggers::compile(vec![trigger], vec![]).unwrap();
    assert!(matches!(triggers.decide(&event), Decision::Run(_)));
}

#[test]
fn a_trigger_that_names_no_login_is_refused_with_its_remedy() {
    let on = EventMatch::Approval { label: "Verified".into(), at_least: 1, by: vec!["Zuul CI".into()] };
    let error = Triggers::compile(vec![trigger(on)], vec!["ci@acme.example.org".into()]).unwrap_err();
    let message = error.message();
    assert!(message.contains("\"Zuul CI\" is no login name"), "{message}");
    assert!(message.contains("email:ci@acme.example.org"), "{message}");
}

/// reports.md 1: who resolves a thread and asks for a recheck in one reply makes two comments.
#[test]
fn each_text_of_a_comment_is_tried_by_itself_and_the_job_runs_once() {
    let with_texts = |texts: &[&str]| {
        let mut event = samples::comment("bob", "");
        if let EventKind::CommentAdded { texts: all, .. } = &mut event.kind {
            *all = texts.iter().map(|text| (*text).to_owned()).collect();
        }
        event
    };
    let strict =
        || EventMatch::Comment { pattern: r"(?i)^(recheck|run-Acme Storage CI)\b".into(), from: vec![] };
    for on in [recheck, strict] {
        for texts in [&["Done", "recheck"][..], &["recheck", "Acknowledged"], &["recheck", "recheck"]] {
            let Decision::Run(jobs) = decide(on(), &with_texts(texts)) else { panic!("{texts:?}") };
            assert_eq!(jobs.len(), 1, "{texts:?}");
        }
        assert!(!runs(on(), &with_texts(&["Done\nrecheck"])), "one text that only holds the word");
        assert!(!runs(on(), &with_texts(&[])));
    }
}

/// reports.md 12: who skips patch sets in progress must run them when the change becomes ready.
#[test]
fn a_change_that_becomes_ready_or_public_runs_what_was_skipped() {
    let ready = |kind: EventKind| Event { kind, ..samples::patchset_created() };
    let wip = || EventKind::ReadyForReview { changer: Account::of("alice") };
    let private = || EventKind::MadePublic { changer: Account::of("alice") };
    let on = || EventMatch::PatchsetCreated;
    assert!(runs(on(), &ready(wip())) && runs(on(), &ready(private())));
    // The newest patch set stands for those that were skipped.
    let mut message_only = ready(wip());
    message_only.patchset.kind = PatchsetKind::NoCodeChange;
    assert!(runs(on(), &message_only));
    let mut still_wip = ready(private());
    still_wip.change.wip = true;
    assert!(!runs(on(), &still_wip), "public, but still in progress");
    let mut now_private = ready(private());
    now_private.change.private = true;
    assert!(!runs(on(), &now_private));
    // A trigger that runs such changes ran them at the upload.
    let eager = Triggers::compile(vec![trigger(on()).with_wip(true).with_private(true)], vec![]).unwrap();
    for kind in [wip(), private()] {
        assert!(matches!(eager.decide(&ready(kind)), Decision::Ignore(_)));
    }
    for other in [recheck(), verified(), EventMatch::ChangeRestored] {
        assert!(!runs(other, &ready(wip())));
    }
}

/// Issue 10, point 9: patterns from other CI systems expect the header that we remove.
#[test]
fn a_pattern_that_names_gerrits_header_works() {
    for pattern in [
        r"(?i)^Patch Set [0-9]+:( [\w\\+-]*)*(\n\n)?\s*recheck",
        r"^Patch Set \d+:\n\nrecheck",
        r"(?is)^patch\s+set \d+:.*\brecheck\b",
        r"(?s)Patch Set [0-9]+:[^\n]*\n\n(\([0-9]+ comments?\)\n\n)?recheck",
        r"^Patch Set \d+:\n\n\(\d+ comments?\)\n\nrecheck",
    ] {
        let on = || EventMatch::Comment { pattern: pattern.into(), from: vec![] };
        assert!(runs(on(), &samples::comment("bob", "recheck")), "{pattern}");
        assert!(!runs(on(), &samples::comment("bob", "nice work")), "{pattern}");
        let triggers = Triggers::compile(vec![trigger(on())], vec![]).unwrap();
        assert!(triggers.matches_comment("recheck"), "{pattern}: else the source drops the comment");
    }
}

fn list(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// The reasons why a trigger does not apply; none: it runs.
fn reasons(trigger: Trigger, event: &Event) -> Option<Vec<String>> {
    match Triggers::compile_named(vec![trigger], vec!["acme-ci".into()], Some("Acme Storage CI"))
        .unwrap()
        .decide(event)
    {
        Decision::Run(_) => None,
        Decision::Ignore(reasons) | Decision::LookUp(reasons) => Some(reasons),
    }
}

fn asked() -> Trigger {
    Trigger::new("rule", recheck(), [JobName::new("tempest").unwrap()])
}

#[test]
fn topics_and_hashtags_are_globs_and_exceptions_win() {
    let mut event = samples::comment("bob", "recheck");
    event.change.topic = Some("bp/acme".into());
    event.change.hashtags = list(&["review-priority", "ci-skip"]);
    assert_eq!(reasons(asked().with_topics(list(&["bp/*"])), &event), None);
    assert_eq!(reasons(asked().with_hashtags(list(&["review-*"])), &event), None);
    let not = |except: Exceptions| reasons(asked().with_except(except), &event);
    assert_eq!(not(Exceptions::default().with_topics(list(&["other"]))), None);
    let excepted = not(Exceptions::default().with_hashtags(list(&["ci-*"]))).unwrap();
    assert_eq!(excepted, ["rule: hashtag \"ci-skip\" is an exception"]);
    assert!(not(Exceptions::default().with_topics(list(&["bp/*"]))).is_some());
    assert!(not(Exceptions::default().with_projects(list(&["openstack/*"]))).is_some());
    assert!(not(Exceptions::default().with_branches(list(&["master"]))).is_some());
    assert!(not(Exceptions::default().with_comment("recheck".to_owned())).is_some());
    let without = samples::comment("bob", "recheck");
    assert_eq!(reasons(asked().with_topics(list(&["*"])), &without).unwrap(), ["rule: no topic is one of *"]);
    assert!(reasons(asked().with_hashtags(list(&["x"])), &event).is_some());
}

#[test]
fn owner_uploader_and_actor_are_three_people() {
    let mut event = samples::comment("bob", "recheck");
    event.change.owner = Some(Account::of("alice"));
    event.patchset.uploader = Some(Account::of("carol"));
    assert_eq!(reasons(asked().with_from(list(&["bob"])), &event), None);
    assert_eq!(reasons(asked().with_owners(list(&["alice", "x"])), &event), None);
    assert_eq!(reasons(asked().with_uploaders(list(&["carol"])), &event), None);
    for trigger in [
        asked().with_from(list(&["alice"])),
        asked().with_owners(list(&["bob"])),
        asked().with_uploaders(list(&["alice"])),
        asked().with_except(Exceptions::default().with_from(list(&["bob"]))),
        asked().with_except(Exceptions::default().with_owners(list(&["alice"]))),
        asked().with_except(Exceptions::default().with_uploaders(list(&["carol"]))),
    ] {
        assert!(reasons(trigger.clone(), &event).is_some(), "{trigger:?}");
    }
    // An event that does not say who it was is never taken for one of the allowed, nor for none of the excepted.
    let nameless = samples::comment("bob", "recheck");
    assert!(reasons(asked().with_owners(list(&["alice"])), &nameless).is_some());
    assert!(
        reasons(asked().with_except(Exceptions::default().with_owners(list(&["alice"]))), &nameless)
            .is_some()
    );
}

#[test]
fn upstreams_recheck_is_a_preset() {
    let preset = || trigger(EventMatch::Preset(Preset::Recheck));
    for (text, is_recheck) in [
        ("recheck", true),
        ("Recheck bug 1234", true),
        ("recheckthis", true),
        ("  recheck no bug", true),
        ("please recheck", false),
        ("Build failed\n\nrecheck", false),
    ] {
        let ran = reasons(preset(), &samples::comment("bob", text)).is_none();
        assert_eq!(ran, is_recheck, "peers.md A5: {text:?}");
    }
}

#[test]
fn run_and_the_name_of_the_ci_is_a_preset() {
    let preset = || trigger(EventMatch::Preset(Preset::RunCiName));
    for (text, is_ours) in [
        ("run-Acme Storage CI", true),
        ("run-acme storage ci", true),
        ("run-Acme_Storage_CI please", true),
        ("run Acme-Storage-CI", true),
        ("run-Acme Storage CIs", false),
        ("run-Acme Storage", false),
        ("run-Other CI", false),
        ("recheck", false),
        ("please run-Acme Storage CI", false),
    ] {
        let ran = reasons(preset(), &samples::comment("bob", text)).is_none();
        assert_eq!(ran, is_ours, "peers.md A6: {text:?}");
    }
    let nameless = Triggers::compile(vec![preset()], vec![]).unwrap_err();
    assert!(nameless.message().contains("needs the name of this CI"), "{nameless}");
}

#[test]
fn what_must_be_looked_up_is_neither_run_nor_ignored() {
    let event = samples::comment("bob", "recheck");
    for (trigger, part) in [
        (asked().with_files(list(&["cinder/.*"])), "the files of the patch set"),
        (asked().with_irrelevant_files(list(&["doc/.*"])), "the files of the patch set"),
        (
            asked().with_votes(vec![VoteCondition::new("Verified").with_at_least(1)]),
            "the votes on the patch set",
        ),
        (asked().with_from(list(&["group:cinder core"])), "the members of cinder core"),
    ] {
        let triggers = Triggers::compile(vec![trigger], vec![]).unwrap();
        assert!(triggers.lookups().unwrap().contains("\"rule\""));
        let Decision::LookUp(reasons) = triggers.decide(&event) else { panic!("{part}") };
        assert!(reasons[0].contains(part), "{reasons:?}");
        // What does not apply for another reason asks nobody.
        assert!(matches!(triggers.decide(&samples::comment("bob", "nice")), Decision::Ignore(_)), "{part}");
    }
    assert_eq!(Triggers::compile(vec![asked()], vec![]).unwrap().lookups(), None);
}

#[test]
fn a_condition_that_cannot_be_meant_is_refused_with_its_place() {
    let refused =
        |trigger: Trigger| Triggers::compile(vec![trigger], vec![]).unwrap_err().message().to_owned();
    for (trigger, part) in [
        (asked().with_files(list(&["*.py"])), "this looks like a glob: write \".*\\\\.py$\""),
        (asked().with_files(list(&["("])), "file pattern \"(\" does not compile"),
        (asked().with_topics(list(&["a{"])), "glob \"a{\""),
        (asked().with_owners(list(&["Alice Dev"])), "is no login name"),
        (asked().with_owners(list(&["group: "])), "names no group"),
        (asked().with_votes(vec![VoteCondition::new("Verified")]), "give `at_least` or `at_most`"),
        (
            asked().with_votes(vec![VoteCondition::new("Verified").with_at_least(2).with_at_most(1)]),
            "does not exist",
        ),
        (asked().with_except(Exceptions::default().with_comment("(".to_owned())), "pattern \"(\""),
    ] {
        let message = refused(trigger);
        assert!(message.contains("trigger \"rule\"") && message.contains(part), "{part}: {message}");
    }
    let own = Triggers::compile(vec![asked()], vec!["group:ci".into()]).unwrap_err();
    assert!(own.message().contains("is a group"), "{own}");
}

#[test]
fn a_full_trace_has_every_condition_with_what_it_saw() {
    let mut event = samples::comment("bob", "nice");
    event.change.branch = "stable/x".parse().unwrap();
    let trigger = trigger(recheck()).with_files(list(&["cinder/.*"]));
    let triggers = Triggers::compile(vec![trigger], vec![]).unwrap();
    let full = triggers.evaluate(&event, &Facts::default(), Detail::Full);
    let brief = triggers.evaluate(&event, &Facts::default(), Detail::Brief);
    assert_eq!(full.reasons(), brief.reasons(), "one implementation, in two depths");
    let rule = &full.rules[0];
    let seen: Vec<_> = rule
        .predicates
        .iter()
        .map(|predicate| (predicate.name, predicate.matched, predicate.saw.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("on", Matched::Yes, "comment-added"),
            ("on.comment", Matched::No, "\"nice\""),
            ("projects", Matched::Yes, "openstack/cinder"),
            ("branches", Matched::Yes, "stable/x"),
            ("open", Matched::Yes, "NEW"),
            ("private", Matched::Yes, "public"),
            ("wip", Matched::Yes, "ready"),
            ("files", Matched::Unknown, "not asked"),
        ]
    );
    assert!(
        rule.predicates[7].why.as_deref().unwrap().contains("another condition does not hold"),
        "{rule:?}"
    );
    assert_eq!(brief.rules[0].predicates.len(), 1);
}
