//! Which files are opened, which are refused, and how a locked file is handled.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use pushbutton_core::{Error, ErrorKind, JobFilter, Queue, QueueDepth, samples};
use pushbutton_store::{Store, StoreConfig};
use rusqlite::Connection;

/// Does not wait long for a lock.
fn impatient(file: &Path) -> StoreConfig {
    StoreConfig::new(file).with_lock_wait(Duration::from_millis(50))
}

async fn refusal(file: &Path) -> Error {
    Store::open_with(impatient(file)).await.expect_err("the file should be refused")
}

#[tokio::test]
async fn a_file_that_is_not_sqlite_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    for content in ["owner: acme\n".to_owned(), "x".repeat(10_000)] {
        std::fs::write(&file, &content).unwrap();
        let error = refusal(&file).await;
        assert!(error.to_string().contains("not a SQLite file"), "{error}");
        assert!(error.to_string().contains("notes.txt"), "{error}");
        assert!(!error.is_temporary());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_opened_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plain"), "").unwrap();
    for bad in ["no/such/folder/x.db", "plain/x.db", "."] {
        let error = refusal(&folder.path().join(bad)).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("its folder must exist"), "{error}");
        assert!(!error.is_temporary());
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("newer.db");
    drop(Store::open(&file).await.unwrap());
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refusal(&file).await;
    assert!(error.to_string().contains("schema version 99"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_locked_file_is_a_temporary_error_at_opening_and_at_writing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("locked.db");
    let store = Store::open_with(impatient(&file)).await.unwrap();
    let other = Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for error in [
        refusal(&file).await,
        store.queue().publish(&samples::job("tempest")).await.expect_err("the file is locked"),
    ] {
        assert!(error.is_temporary(), "{error}");
        assert!(error.to_string().contains("another process is using the file"), "{error}");
    }
    other.execute_batch("ROLLBACK").unwrap();
    store.queue().publish(&samples::job("tempest")).await.unwrap();
}

#[tokio::test]
async fn a_result_is_not_lost_and_a_hand_back_is_retried_while_the_file_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("locked.db");
    let queue = Store::open_with(impatient(&file)).await.unwrap().queue();
    for name in ["tempest", "unit"] {
        queue.publish(&samples::job(name)).await.unwrap();
    }
    let claim = queue.claim(&JobFilter::any()).await.unwrap();
    let returned = queue.claim(&JobFilter::any()).await.unwrap();
    let other = Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let result = samples::success(claim.job());
    let error = claim.complete(&result).await.expect_err("the file is locked for longer than one try waits");
    assert!(error.is_temporary(), "{error}");
    let mut returning = tokio::spawn(returned.hand_back());
    let early = tokio::time::timeout(Duration::from_millis(400), &mut returning).await;
    assert!(early.is_err(), "it is tried until the lease ends");
    other.execute_batch("ROLLBACK").unwrap();
    claim.complete(&result).await.unwrap();
    returning.await.unwrap().unwrap();
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::new(1, 0, 0).with_reports(1u64));
}

#[tokio::test]
async fn eight_processes_may_open_a_new_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.db");
    let opening: Vec<_> = (0..8).map(|_| tokio::spawn(Store::open(file.clone()))).collect();
    for opened in opening {
        opened.await.unwrap().unwrap();
    }
}
