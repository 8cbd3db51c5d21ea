//! Many stages at once on a machine that has too much to do: no stage disturbs another, and no healthy node is taken for a lost one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test support: what does not work must end the test, loudly"
)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Lab, behind, config, keys_of, sshd};
use pushbutton_core::StageStatus;

/// Stages at once; each opens some ten connections.
const STAGES: usize = 4;
/// Threads that do nothing but burn: two for each of CI's cores.
const BURNERS: usize = 4;
/// How long a node does not answer: longer than Ansible's own limit for a connection, shorter than ours.
const SILENCE: Duration = Duration::from_secs(12);

/// Ends the burning, also when the test breaks off.
struct Burning<'a>(&'a AtomicBool);

impl Drop for Burning<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_beside_each_other_pass_under_load_while_a_node_dies() {
    let burning = AtomicBool::new(true);
    std::thread::scope(|threads| {
        let _burning = Burning(&burning);
        for _ in 0..BURNERS {
            threads.spawn(|| {
                while burning.load(Ordering::Relaxed) {
                    std::hint::black_box((0..100_000u64).sum::<u64>());
                }
            });
        }
        let runs = async {
            let mut running = tokio::task::JoinSet::new();
            for _ in 0..STAGES {
                running.spawn(async {
                    let server = sshd();
                    let lab = Lab::new(config());
                    let outcome = lab.run("works.yml", &behind(&server, &keys_of(&server))).await.unwrap();
                    (outcome, lab.console())
                });
            }
            let mut dying = sshd();
            let nodes = behind(&dying, &keys_of(&dying));
            dying.kill9();
            assert_eq!(
                Lab::new(config()).run("works.yml", &nodes).await.unwrap().status,
                StageStatus::Unreachable
            );
            running.join_all().await
        };
        let outcomes = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(runs));
        for (outcome, console) in outcomes {
            assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{console}");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_silent_for_a_while_is_waited_for() {
    let server = sshd();
    let lab = Lab::new(config());
    let nodes = behind(&server, &keys_of(&server));
    server.freeze();
    let (outcome, ()) = tokio::join!(lab.run("works.yml", &nodes), async {
        tokio::time::sleep(SILENCE).await;
        server.thaw();
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", lab.console());
}
