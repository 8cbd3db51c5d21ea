use super::*;
use crate::event::PatchsetKind;
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
