//! Checks of the contract of [`Journal`].
//!
//! Each check opens journals through `open`: the same name gives the same journal, as after a restart of the operator;
//! a new name gives an empty one.

use std::collections::HashSet;
use std::sync::Arc;

use pushbutton_core::traits::JournalEntry;
use pushbutton_core::{ErrorKind, Journal, ResourceKind, RunId};

/// Runs all checks.
pub async fn all(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let open = &open;
    an_intent_is_open_until_it_is_gone(open).await;
    open_entries_are_listed_oldest_first(open).await;
    every_kind_of_resource_can_be_recorded(open).await;
    gone_is_idempotent(open).await;
    made_without_an_intent_is_not_found(open).await;
    entry_numbers_are_not_reused(open).await;
    concurrent_intents_get_different_numbers(open).await;
    intents_survive_a_restart(open).await;
}

/// `intend`, `made`, `gone`: an entry is open from `intend` to `gone`, and has the cloud's id from `made` on.
pub async fn an_intent_is_open_until_it_is_gone(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("open").await;
    assert_eq!(listed(&*journal).await, [], "a new journal is not empty");
    let run = RunId::generate();
    let entry = journal.intend(&run, ResourceKind::Server, "node-1").await.expect("intending works");
    let [open] = &listed(&*journal).await[..] else { panic!("one intent is not one open entry") };
    assert_eq!(
        (open.entry, &open.run, open.kind, &*open.name, &open.id),
        (entry, &run, ResourceKind::Server, "node-1", &None),
        "the entry is not what was intended"
    );
    let intended = open.at;
    journal.made(entry, "7f3a").await.expect("recording that it was made works");
    let [open] = &listed(&*journal).await[..] else { panic!("what was made is no longer one open entry") };
    assert_eq!(open.id.as_deref(), Some("7f3a"), "the cloud's id was not kept");
    assert_eq!(open.at, intended, "the time of the intent changed when it was made");
    journal.gone(entry).await.expect("recording that it is gone works");
    assert_eq!(listed(&*journal).await, [], "what is gone is still listed");
}

/// `open`: lists what is not gone, oldest first, in the order of the intents.
pub async fn open_entries_are_listed_oldest_first(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("order").await;
    let mut entries = Vec::new();
    for name in ["a", "b", "c", "d"] {
        entries.push(intend(&*journal, name).await);
    }
    journal.made(entries[2], "id of c").await.expect("recording that it was made works");
    journal.made(entries[0], "id of a").await.expect("recording that it was made works");
    journal.gone(entries[1]).await.expect("recording that it is gone works");
    let names: Vec<_> = listed(&*journal).await.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["a", "c", "d"], "open entries are not listed oldest first");
}

/// `open`: returns the kind that was intended.
pub async fn every_kind_of_resource_can_be_recorded(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    use ResourceKind::{FloatingIp, Keypair, Port, Server, Volume};
    let (journal, run) = (open("kinds").await, RunId::generate());
    let kinds = [Server, FloatingIp, Port, Volume, Keypair];
    for kind in kinds {
        journal.intend(&run, kind, kind.as_str()).await.expect("every kind can be intended");
    }
    let found: Vec<_> = listed(&*journal).await.into_iter().map(|entry| entry.kind).collect();
    assert_eq!(found, kinds, "a kind has changed");
}

/// `gone`: idempotent, also for what was never made.
pub async fn gone_is_idempotent(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("gone").await;
    let never_made = intend(&*journal, "never made").await;
    intend(&*journal, "stays").await;
    for _ in 0..3 {
        journal.gone(never_made).await.expect("`gone` can be repeated");
    }
    let names: Vec<_> = listed(&*journal).await.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["stays"], "a repeated `gone` closed another entry");
}

/// `made`: for an entry without an intent it fails with a permanent [`ErrorKind::NotFound`], and records nothing.
pub async fn made_without_an_intent_is_not_found(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("unknown").await;
    let error = journal.made(4711, "x").await.expect_err("`made` worked without an intent");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert!(!error.is_temporary(), "a retry cannot help: {error:?}");
    assert_eq!(listed(&*journal).await, [], "a refused call left an entry");
}

/// `intend`: a number is not used again after its entry is gone: a late `gone` must not close another entry.
pub async fn entry_numbers_are_not_reused(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let mut numbers = HashSet::new();
    for name in ["first", "second", "third"] {
        let journal = open("numbers").await;
        let entry = intend(&*journal, name).await;
        assert!(numbers.insert(entry), "the number {entry} was used twice");
        journal.gone(entry).await.expect("recording that it is gone works");
    }
}

/// `intend`: concurrent callers get different numbers, and all entries are kept.
pub async fn concurrent_intents_get_different_numbers(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("many").await;
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move { intend(&*journal, &format!("node-{n}")).await })
        })
        .collect();
    let mut numbers = HashSet::new();
    for task in tasks {
        numbers.insert(task.await.expect("intending does not panic"));
    }
    assert_eq!(numbers.len(), 16, "concurrent callers got the same number");
    assert_eq!(listed(&*journal).await.len(), 16, "an intent was lost");
}

/// `intend` and `made`: `Ok` means durable.
pub async fn intents_survive_a_restart(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("durable").await;
    let made = intend(&*journal, "made").await;
    intend(&*journal, "half-made").await;
    journal.made(made, "7f3a").await.expect("recording that it was made works");
    let before = listed(&*journal).await;
    drop(journal);
    let journal = open("durable").await;
    assert_eq!(listed(&*journal).await, before, "open entries have changed at the restart");
    journal.gone(made).await.expect("an entry can be closed after a restart");
    assert_eq!(listed(&*journal).await.len(), 1, "an entry was not closed after a restart");
}

async fn intend(journal: &dyn Journal, name: &str) -> u64 {
    journal.intend(&RunId::generate(), ResourceKind::Server, name).await.expect("intending works")
}

async fn listed(journal: &dyn Journal) -> Vec<JournalEntry> {
    journal.open().await.expect("listing open entries works")
}
