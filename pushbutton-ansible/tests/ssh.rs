//! Stages on nodes behind a real sshd.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test support: what does not work must end the test, loudly"
)]

mod common;

use std::time::Duration;

use common::{Lab, behind, config, keys_of, sshd};
use pushbutton_core::{StageOutcome, StageStatus};

#[tokio::test]
async fn a_node_with_the_pinned_key_is_used_and_one_with_another_is_not() {
    let mut server = sshd();
    let nodes = behind(&server, &keys_of(&server));
    let lab = Lab::new(config());
    let outcome = lab.run("passes.yml", &nodes).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", lab.console());
    server.change_host_key();
    let outcome = lab.run("passes.yml", &nodes).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}");
    assert!(
        outcome.detail.as_deref().is_some_and(|detail| detail.contains("another host key")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_key_accepted_at_first_contact_is_pinned_for_the_run() {
    let mut server = sshd();
    let nodes = behind(&server, &[]);
    let lab = Lab::new(config());
    assert_eq!(lab.run("passes.yml", &nodes).await.unwrap().status, StageStatus::Passed, "{}", lab.console());
    server.change_host_key();
    let outcome = lab.run("passes.yml", &nodes).await.unwrap();
    assert!(
        outcome.detail.as_deref().is_some_and(|detail| detail.contains("another host key")),
        "{outcome:?}"
    );
}

/// Runs the playbook and kills the node's sshd, with all its connections, once a task has made the marker.
async fn dying(playbook: &str) -> (StageOutcome, Lab) {
    let mut server = sshd();
    let nodes = behind(&server, &keys_of(&server));
    let mut lab = Lab::new(config());
    let marker = lab.folder.path().join("marker");
    lab.context.vars.insert("marker".into(), marker.to_str().unwrap().into());
    let dying = async {
        while !marker.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.kill9();
        std::fs::write(marker.with_extension("dead"), "").unwrap();
        std::future::pending::<()>().await
    };
    let outcome = tokio::select! {
        outcome = lab.run(playbook, &nodes) => outcome.unwrap(),
        () = dying => unreachable!(),
    };
    (outcome, lab)
}

#[tokio::test]
async fn a_node_that_dies_in_the_midst_of_a_task_is_unreachable() {
    let (outcome, lab) = dying("dies.yml").await;
    assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}\n{}", lab.console());
}

#[tokio::test]
async fn a_task_that_fails_beside_a_dead_node_is_not_blamed_on_the_patch() {
    let (outcome, lab) = dying("loses.yml").await;
    assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}\n{}", lab.console());
    assert_eq!(
        outcome.detail.as_deref(),
        Some(r#"node does not answer any more, after: task "Run the tests" on node: exit 3"#)
    );
}

#[tokio::test]
async fn a_task_that_fails_on_a_node_that_is_there_has_failed() {
    let server = sshd();
    let lab = Lab::new(config());
    let outcome = lab.run("fails.yml", &behind(&server, &keys_of(&server))).await.unwrap();
    assert_eq!(outcome.status, StageStatus::Failed, "{outcome:?}\n{}", lab.console());
    assert_eq!(outcome.detail.as_deref(), Some(r#"task "Run the tests" on node: exit 3: two tests failed"#));
}
