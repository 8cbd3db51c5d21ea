//! What events do not say is looked up: only when it decides, once, and until there is an answer.

use std::sync::Arc;

use pushbutton_core::memory::{MemoryEventStore, MemoryLookup, MemoryQueue, MemorySource};
use pushbutton_core::{
    Account, Alerter, Approval, ChangeNumber, CurrentVote, Decider, Error, ErrorKind, Event, EventMatch,
    EventStore, Exceptions, Handler, HandlerStats, Matched, PatchsetDetails, PatchsetNumber, Queue, Result,
    Shutdown, SupersedePolicy, Trigger, Triggers, VoteCondition, async_trait, samples,
};

fn list(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn rule() -> Trigger {
    let on = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    Trigger::new("rule", on, ["tempest".parse().unwrap()])
}

fn recheck() -> Event {
    samples::comment("bob", "recheck")
}

fn target() -> (ChangeNumber, PatchsetNumber) {
    (samples::change().number, samples::patchset().number)
}

/// A look-up that knows the sample's patch set with these files.
fn lookup(files: &[&str]) -> Arc<MemoryLookup> {
    let lookup = Arc::new(MemoryLookup::default());
    lookup.add_patchset(target().0, target().1, PatchsetDetails::new(list(files)));
    lookup
}

fn decider(trigger: Trigger, lookup: &Arc<MemoryLookup>) -> Decider {
    Decider::new(Triggers::compile(vec![trigger], vec!["acme-ci".into()]).unwrap())
        .with_lookup(lookup.clone())
}

async fn runs(trigger: Trigger, lookup: &Arc<MemoryLookup>) -> bool {
    let evaluation = decider(trigger, lookup).decide(&recheck()).await;
    assert!(evaluation.is_decided() && evaluation.unanswered.is_empty(), "{evaluation:?}");
    !evaluation.jobs().is_empty()
}

/// The same as Zuul's `MatchAnyFiles` and `MatchAllFiles`.
#[tokio::test(start_paused = true)]
async fn files_and_irrelevant_files_decide_as_in_zuul() {
    let driver = || rule().with_files(list(&["^cinder/volume/drivers/acme", "requirements.txt$"]));
    let no_docs = || rule().with_irrelevant_files(list(&["^doc/.*$", r"^.*\.rst$"]));
    for (files, of_driver, of_no_docs) in [
        (&["/COMMIT_MSG", "cinder/volume/drivers/acme/iscsi.py"][..], true, true),
        (&["/COMMIT_MSG", "doc/source/index.rst"], false, false),
        (&["/COMMIT_MSG", "doc/conf.py", "README.rst"], false, false),
        (&["/COMMIT_MSG", "README.rst", "requirements.txt"], true, true),
        // From the beginning of the path, as Python's `match`.
        (&["/COMMIT_MSG", "old/cinder/volume/drivers/acme.py"], false, true),
        // Nothing is known to be irrelevant.
        (&["/COMMIT_MSG"], true, true),
        (&["/COMMIT_MSG", "/MERGE_LIST"], true, true),
        (&[], true, true),
    ] {
        let lookup = lookup(files);
        assert_eq!(runs(driver(), &lookup).await, of_driver, "files: {files:?}");
        assert_eq!(runs(no_docs(), &lookup).await, of_no_docs, "irrelevant_files: {files:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn files_that_were_not_told_count_as_relevant() {
    let lookup = Arc::new(MemoryLookup::default());
    let files = (0..PatchsetDetails::MAX_FILES + 1).map(|n| format!("doc/{n}.rst"));
    lookup.add_patchset(target().0, target().1, PatchsetDetails::new(files));
    assert!(runs(rule().with_irrelevant_files(list(&["doc/.*"])), &lookup).await);
    assert!(runs(rule().with_files(list(&["cinder/.*"])), &lookup).await);
}

#[tokio::test(start_paused = true)]
async fn gerrit_is_asked_only_if_it_decides_and_once_for_a_patch_set() {
    let lookup = lookup(&["doc/a.rst"]);
    let trigger = rule().with_irrelevant_files(list(&["doc/.*"])).with_branches(list(&["master"]));
    let decider = Arc::new(decider(trigger, &lookup));
    for (text, branch) in [("nice", "master"), ("recheck", "stable/x")] {
        let mut event = samples::comment("bob", text);
        event.change.branch = branch.parse().unwrap();
        assert!(decider.decide(&event).await.jobs().is_empty());
    }
    let mut own = samples::comment("acme-ci", "recheck");
    own.change.branch = "master".parse().unwrap();
    decider.decide(&own).await;
    assert_eq!(lookup.patchset_lookups(), 0, "another condition decided");
    let asks: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let decider = decider.clone();
                async move { decider.decide(&recheck()).await }
            })
        })
        .collect();
    for ask in asks {
        assert_eq!(ask.await.unwrap().reasons(), ["rule: all changed files match doc/.*"]);
    }
    assert_eq!(lookup.patchset_lookups(), 1, "files of a patch set never change");
    let mut next = recheck();
    next.patchset.number = PatchsetNumber(3);
    lookup.add_patchset(target().0, PatchsetNumber(3), PatchsetDetails::new(list(&["cinder/a.py"])));
    assert_eq!(decider.decide(&next).await.jobs().len(), 1);
    assert_eq!(lookup.patchset_lookups(), 2);
}

#[tokio::test(start_paused = true)]
async fn votes_are_those_that_stand_now() {
    let vote =
        |by: &str, label: &str, value: i8| CurrentVote::new(Account::of(by), Approval::new(label, value));
    let with = |votes: Vec<CurrentVote>| {
        let lookup = Arc::new(MemoryLookup::default());
        lookup.add_patchset(target().0, target().1, PatchsetDetails::new([]).with_votes(votes));
        lookup
    };
    let passed = || vec![VoteCondition::new("Verified").with_at_least(1).with_by(list(&["zuul"]))];
    let failed = || vec![VoteCondition::new("Verified").with_at_most(-1).with_by(list(&["zuul"]))];
    for (votes, has_passed, has_failed) in [
        (vec![], false, false),
        (vec![vote("zuul", "Verified", 1)], true, false),
        (vec![vote("zuul", "Verified", 2)], true, false),
        (vec![vote("zuul", "Verified", -1)], false, true),
        (vec![vote("other-ci", "Verified", 1), vote("other-ci", "Verified", -2)], false, false),
        (vec![vote("zuul", "Code-Review", 2)], false, false),
    ] {
        let lookup = with(votes.clone());
        assert_eq!(runs(rule().with_votes(passed()), &lookup).await, has_passed, "{votes:?}");
        let except = Exceptions::default().with_votes(failed());
        assert_eq!(runs(rule().with_except(except), &lookup).await, !has_failed, "{votes:?}");
    }
    // They change: they are asked for each time.
    let (lookup, now) =
        (with(vec![]), PatchsetDetails::new([]).with_votes(vec![vote("zuul", "Verified", 1)]));
    let decider = decider(rule().with_votes(passed()), &lookup);
    assert!(decider.decide(&recheck()).await.jobs().is_empty());
    lookup.add_patchset(target().0, target().1, now);
    assert_eq!(decider.decide(&recheck()).await.jobs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn groups_allow_and_deny_and_are_asked_for_once() {
    let lookup = lookup(&["cinder/a.py"]);
    lookup.add_group("cinder core", [Account::of("alice"), Account::of("bob")]);
    lookup.add_group("robots", [Account::of("renovate")]);
    let allowed = || rule().with_from(list(&["carol", "group:cinder core"]));
    let denied = || rule().with_except(Exceptions::default().with_from(list(&["group:robots"])));
    let by = |who: &str| samples::comment(who, "recheck");
    let (allows, denies) = (decider(allowed(), &lookup), decider(denied(), &lookup));
    for (who, is_allowed, is_denied) in [
        ("alice", true, false),
        ("bob", true, false),
        ("carol", true, false),
        ("dave", false, false),
        ("renovate", false, true),
    ] {
        assert_eq!(!allows.decide(&by(who)).await.jobs().is_empty(), is_allowed, "{who}");
        assert_eq!(denies.decide(&by(who)).await.jobs().is_empty(), is_denied, "{who}");
    }
    assert_eq!(lookup.group_lookups(), 2, "one for each group");
    lookup.add_group("cinder core", [Account::of("dave")]);
    tokio::time::sleep(std::time::Duration::from_secs(301)).await;
    assert_eq!(allows.decide(&by("dave")).await.jobs().len(), 1, "members change");
    // A group that cannot be read lets nobody in, and keeps everybody out.
    let unknown = decider(rule().with_from(list(&["group:none"])), &lookup).decide(&recheck()).await;
    assert!(unknown.jobs().is_empty() && unknown.unanswered.len() == 1, "{unknown:?}");
    let except = Exceptions::default().with_from(list(&["group:none"]));
    let unknown = decider(rule().with_except(except), &lookup).decide(&recheck()).await;
    assert!(unknown.jobs().is_empty() && unknown.unanswered[0].contains("\"none\""), "{unknown:?}");
    // Who is allowed by name needs no group.
    let named = decider(rule().with_from(list(&["group:none", "bob"])), &lookup).decide(&recheck()).await;
    assert_eq!((named.jobs().len(), named.unanswered.len()), (1, 0));
}

#[derive(Default)]
struct People(std::sync::Mutex<Vec<String>>);

#[async_trait]
impl Alerter for People {
    async fn alert(&self, _: &str, text: &str) -> Result<()> {
        self.0.lock().unwrap().push(text.to_owned());
        Ok(())
    }
}

struct Handled {
    stats: HandlerStats,
    queue: Arc<MemoryQueue>,
    store: Arc<MemoryEventStore>,
    alerts: Vec<String>,
}

async fn handle(trigger: Trigger, lookup: &Arc<MemoryLookup>, events: Vec<Event>) -> Handled {
    let (queue, store) = (Arc::new(MemoryQueue::default()), Arc::new(MemoryEventStore::default()));
    let people = Arc::new(People::default());
    let stats = Handler::new(
        MemorySource::of(events),
        Triggers::compile(vec![trigger], vec![]).unwrap(),
        queue.clone(),
    )
    .with_event_store(store.clone())
    .with_lookup(lookup.clone())
    .with_alerter(people.clone())
    .run(&Shutdown::new())
    .await
    .unwrap();
    let alerts = people.0.lock().unwrap().clone();
    Handled { stats, queue, store, alerts }
}

#[tokio::test(start_paused = true)]
async fn a_gerrit_that_is_away_is_asked_until_it_answers_and_no_event_is_lost() {
    let lookup = lookup(&["cinder/a.py"]);
    for n in 0..30 {
        let kind = if n % 2 == 0 { ErrorKind::Unreachable } else { ErrorKind::TimedOut };
        lookup.fail_next(Error::temporary(kind, "away"));
    }
    // The account is locked for a while: it is no answer about the patch set.
    lookup.fail_next(Error::permanent(ErrorKind::Denied, "refused"));
    let handled = handle(rule().with_files(list(&["cinder/.*"])), &lookup, vec![recheck()]).await;
    assert_eq!((handled.stats.jobs, lookup.patchset_lookups()), (1, 32));
    assert_eq!(handled.queue.depth().await.unwrap().waiting, 1);
    assert!(handled.store.has_seen(&recheck().id).await.unwrap() && handled.alerts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_runs_nothing_and_people_are_told_once() {
    let lookup = lookup(&["cinder/a.py"]);
    let mut second = samples::comment("bob", "recheck again");
    second.change.number = ChangeNumber(2);
    let trigger = rule().with_from(list(&["group:gone"]));
    let handled = handle(trigger, &lookup, vec![recheck(), second.clone()]).await;
    assert_eq!(handled.stats.jobs, 0);
    assert_eq!(handled.alerts.len(), 1, "{:?}", handled.alerts);
    assert!(handled.alerts[0].contains("the group \"gone\"") && handled.alerts[0].contains("12345,2"));
    assert!(handled.store.has_seen(&second.id).await.unwrap());

    // One change whose answer can never be read must not stop all others.
    for _ in 0..5 {
        lookup.fail_next(Error::temporary(ErrorKind::Protocol, "cannot be read"));
    }
    lookup.add_patchset(ChangeNumber(2), PatchsetNumber(2), PatchsetDetails::new(list(&["cinder/b.py"])));
    let trigger = rule().with_files(list(&["cinder/.*"]));
    let handled = handle(trigger.clone(), &lookup, vec![recheck()]).await;
    assert_eq!((handled.stats.jobs, handled.alerts.len()), (0, 1), "{:?}", handled.alerts);
    assert!(handled.alerts[0].contains("12345,2 cannot be looked up"), "{:?}", handled.alerts);
    let handled = handle(trigger, &lookup, vec![second]).await;
    assert_eq!((handled.stats.jobs, handled.alerts.len()), (1, 0), "{:?}", handled.alerts);
    // A change that was deleted meanwhile is nothing to tell.
    let mut deleted = recheck();
    deleted.change.number = ChangeNumber(77);
    let handled = handle(rule().with_files(list(&["cinder/.*"])), &lookup, vec![deleted]).await;
    assert_eq!((handled.stats.jobs, handled.alerts.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_triggers_need_a_lookup_and_that_has_none_says_so_at_the_start() {
    let triggers = Triggers::compile(vec![rule().with_files(list(&["a"]))], vec![]).unwrap();
    let handler = Handler::new(MemorySource::of(vec![recheck()]), triggers, MemoryQueue::default());
    let error = handler.run(&Shutdown::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("trigger \"rule\""), "{error}");
}

fn newer(number: u32) -> Event {
    let mut event = samples::patchset_created();
    event.patchset.number = PatchsetNumber(number);
    event.patchset.revision = format!("{number:040x}").parse().unwrap();
    event.id = pushbutton_core::EventId::patchset(event.change.number, &event.patchset);
    event
}

/// Issue 11, point 6: `replay` ran a recheck on a patch set that an earlier event of the same stream had superseded.
#[tokio::test(start_paused = true)]
async fn a_recheck_on_a_superseded_patch_set_runs_nothing_unless_the_policy_keeps_it() {
    let lookup = lookup(&[]);
    let handled = handle(rule(), &lookup, vec![newer(3), recheck()]).await;
    assert_eq!(handled.stats.jobs, 0);
    assert!(handled.store.has_seen(&recheck().id).await.unwrap(), "it is handled, and counted");
    let handled = handle(rule(), &lookup, vec![recheck(), newer(3)]).await;
    assert_eq!(handled.stats.jobs, 1, "the newer one came later");
    let kept = decider(rule(), &lookup).with_supersede(SupersedePolicy::NEVER);
    kept.decide(&newer(3)).await;
    assert_eq!(kept.decide(&recheck()).await.jobs().len(), 1);
    let mut other = recheck();
    other.change.number = ChangeNumber(2);
    let strict = decider(rule(), &lookup);
    strict.decide(&newer(3)).await;
    assert_eq!(strict.decide(&other).await.jobs().len(), 1, "another change");
    let mut current = recheck();
    current.patchset.number = PatchsetNumber(3);
    assert_eq!(strict.decide(&current).await.jobs().len(), 1);
    let trace = strict.decide(&recheck()).await;
    assert_eq!(trace.rules[0].matched, Matched::No);
}
