//! Stages on nodes behind a real sshd.

mod common;

use std::time::Duration;

use common::{Lab, behind, config, keys_of, sshd};
use pushbutton_core::StageStatus;

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

#[tokio::test]
async fn a_node_that_dies_in_the_midst_of_a_task_is_unreachable() {
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
        std::future::pending::<()>().await
    };
    let outcome = tokio::select! {
        outcome = lab.run("dies.yml", &nodes) => outcome.unwrap(),
        () = dying => unreachable!(),
    };
    assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}\n{}", lab.console());
    assert!(outcome.took < Duration::from_secs(30));
}
