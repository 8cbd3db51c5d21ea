//! The contract of [`Journal`], as checks.
//!
//! Each check opens journals through `open`: the same name gives the same journal, as an operator that was started again would
//! have it; a name that was not used before gives an empty one.

use std::collections::HashSet;
use std::sync::Arc;

use pushbutton_core::traits::JournalEntry;
use pushbutton_core::{ErrorKind, Journal, ResourceKind, RunId};

/// Runs every check.
pub async fn all(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let open = &open;
    an_intent_is_open_until_it_is_gone(open).await;
    open_entries_are_listed_oldest_first(open).await;
    every_kind_of_resource_can_be_written_down(open).await;
    gone_is_idempotent(open).await;
    what_was_never_intended_cannot_be_made(open).await;
    numbers_are_not_used_again(open).await;
    many_intents_at_once_get_numbers_of_their_own(open).await;
    intents_outlive_the_handle(open).await;
}

/// `intend`, `made`, `gone`: an entry is open from the first to the last, with the id from the second on.
pub async fn an_intent_is_open_until_it_is_gone(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("life").await;
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
    journal.made(entry, "7f3a").await.expect("saying that it was made works");
    let [open] = &listed(&*journal).await[..] else { panic!("what was made is no longer one open entry") };
    assert_eq!(open.id.as_deref(), Some("7f3a"), "the cloud's id was not kept");
    assert_eq!(open.at, intended, "the time of the intent changed when it was made");
    journal.gone(entry).await.expect("saying that it is gone works");
    assert_eq!(listed(&*journal).await, [], "what is gone is still listed");
}

/// `open`: lists what is not gone, oldest first, whatever was made meanwhile.
pub async fn open_entries_are_listed_oldest_first(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("order").await;
    let mut entries = Vec::new();
    for name in ["a", "b", "c", "d"] {
        entries.push(intend(&*journal, name).await);
    }
    journal.made(entries[2], "id of c").await.expect("saying that it was made works");
    journal.made(entries[0], "id of a").await.expect("saying that it was made works");
    journal.gone(entries[1]).await.expect("saying that it is gone works");
    let names: Vec<_> = listed(&*journal).await.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["a", "c", "d"], "open entries are not listed oldest first");
}

/// `open`: gives back each kind as it was intended.
pub async fn every_kind_of_resource_can_be_written_down(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    use ResourceKind::{FloatingIp, Keypair, Port, Server, Volume};
    let (journal, run) = (open("kinds").await, RunId::generate());
    let kinds = [Server, FloatingIp, Port, Volume, Keypair];
    for kind in kinds {
        journal.intend(&run, kind, kind.as_str()).await.expect("every kind can be intended");
    }
    let found: Vec<_> = listed(&*journal).await.into_iter().map(|entry| entry.kind).collect();
    assert_eq!(found, kinds, "a kind came back as another");
}

/// `gone`: idempotent, also for what was never made.
pub async fn gone_is_idempotent(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("gone").await;
    let never_made = intend(&*journal, "never made").await;
    intend(&*journal, "stays").await;
    for _ in 0..3 {
        journal.gone(never_made).await.expect("gone can be said again");
    }
    let names: Vec<_> = listed(&*journal).await.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["stays"], "saying gone again took more than its entry");
}

/// `made`: an entry that was never intended is [`ErrorKind::NotFound`], permanent, and writes nothing.
pub async fn what_was_never_intended_cannot_be_made(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("unknown").await;
    let error = journal.made(4711, "x").await.expect_err("an entry that nobody intended was made");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert!(!error.is_temporary(), "trying again cannot help: {error:?}");
    assert_eq!(listed(&*journal).await, [], "a refused call left an entry");
}

/// `intend`: a number is never given twice, also after its entry is gone: a late `gone` must not hit another's entry.
pub async fn numbers_are_not_used_again(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let mut numbers = HashSet::new();
    for name in ["first", "second", "third"] {
        let journal = open("numbers").await;
        let entry = intend(&*journal, name).await;
        assert!(numbers.insert(entry), "the number {entry} was given twice");
        journal.gone(entry).await.expect("saying that it is gone works");
    }
}

/// `intend`: callers at once get numbers of their own, and all their entries are kept.
pub async fn many_intents_at_once_get_numbers_of_their_own(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
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
    assert_eq!(numbers.len(), 16, "callers at once share numbers");
    assert_eq!(listed(&*journal).await.len(), 16, "an intent was lost");
}

/// `intend` and `made`: `Ok` means durable.
pub async fn intents_outlive_the_handle(open: impl AsyncFn(&str) -> Arc<dyn Journal>) {
    let journal = open("durable").await;
    let made = intend(&*journal, "made").await;
    intend(&*journal, "half-made").await;
    journal.made(made, "7f3a").await.expect("saying that it was made works");
    let before = listed(&*journal).await;
    drop(journal);
    let journal = open("durable").await;
    assert_eq!(listed(&*journal).await, before, "open entries changed with the handle");
    journal.gone(made).await.expect("the next handle can say that it is gone");
    assert_eq!(listed(&*journal).await.len(), 1, "the next handle cannot end an entry");
}

async fn intend(journal: &dyn Journal, name: &str) -> u64 {
    journal.intend(&RunId::generate(), ResourceKind::Server, name).await.expect("intending works")
}

async fn listed(journal: &dyn Journal) -> Vec<JournalEntry> {
    journal.open().await.expect("listing open entries works")
}
