//! Many stages at once on an overloaded machine: no stage disturbs another, and no healthy node counts as lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{TestRun, config, host_keys_of, ssh_node, sshd};
use pushbutton_core::StageStatus;

/// Stages at once; each opens some ten connections.
const STAGES: usize = 4;
/// Threads that only use CPU: two for each of CI's cores.
const BUSY_THREADS: usize = 4;
/// How long a node does not answer: longer than Ansible's own limit for a connection, shorter than ours.
const SILENCE: Duration = Duration::from_secs(12);

/// Stops the threads, also when the test panics.
struct StopThreads<'a>(&'a AtomicBool);

impl Drop for StopThreads<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_stages_pass_under_load_while_a_node_dies() {
    let busy = AtomicBool::new(true);
    std::thread::scope(|threads| {
        let _stop = StopThreads(&busy);
        for _ in 0..BUSY_THREADS {
            threads.spawn(|| {
                while busy.load(Ordering::Relaxed) {
                    std::hint::black_box((0..100_000u64).sum::<u64>());
                }
            });
        }
        let runs = async {
            let mut running = tokio::task::JoinSet::new();
            for _ in 0..STAGES {
                running.spawn(async {
                    let server = sshd();
                    let run = TestRun::new(config());
                    let outcome = run
                        .playbook("typical_job.yml", &ssh_node(&server, &host_keys_of(&server)))
                        .await
                        .unwrap();
                    (outcome, run.console())
                });
            }
            let mut dying = sshd();
            let nodes = ssh_node(&dying, &host_keys_of(&dying));
            dying.kill9();
            assert_eq!(
                TestRun::new(config()).playbook("typical_job.yml", &nodes).await.unwrap().status,
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
    let run = TestRun::new(config());
    let nodes = ssh_node(&server, &host_keys_of(&server));
    server.freeze();
    let (outcome, ()) = tokio::join!(run.playbook("typical_job.yml", &nodes), async {
        tokio::time::sleep(SILENCE).await;
        server.thaw();
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", run.console());
}
