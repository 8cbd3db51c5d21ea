//! The broker loses the log, as a host does that loses power; participants that know it write it again.

use pushbutton_core::samples::{AT, job_on};
use pushbutton_core::{
    ChangeNumber, DeadLetters, EventId, EventStore, JobFilter, PatchsetNumber, Position, Queue, QueueDepth,
};
use tokio::time::{Duration, timeout};

use crate::common::proxy::Proxy;
use crate::{both, common, config};

/// Waiting jobs, a lease, completed jobs, dead letters, seen events, the position and the leadership are there again,
/// and a participant that comes first after the loss cannot claim what another one still holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_lost_is_written_again() {
    for url in both() {
        let proxy = Proxy::before(&url).await;
        let config = config(&proxy.url, "restore", 300);
        let (operator, handler) = (common::connect(&config).await, common::connect(&config).await);
        for n in 0..5 {
            handler.publish(&job_on(n, "tempest")).await.unwrap();
        }
        common::complete(common::claim(&operator).await.as_ref()).await;
        common::claim(&operator).await.reject("no such job").await.unwrap();
        let held = common::claim(&operator).await;
        let events = handler.event_store();
        let event = EventId::manual(ChangeNumber(1), PatchsetNumber(1), "restore");
        assert!(events.record(&event).await.unwrap());
        events.commit(&Position::at(AT)).await.unwrap();
        let mut election = handler.leader_election();
        let mut leadership = election.lead().await.unwrap();
        let known = QueueDepth::new(2, 1, 1).with_reports(1u64);
        for queue in [&operator, &handler] {
            common::depth_until(queue, |depth| depth == known).await;
        }

        proxy.close();
        let (connection, channel) = common::channel(&url).await;
        common::delete_queue(&channel, &format!("{}.log", config.prefix)).await;
        connection.close(200, "done".into()).await.unwrap();
        proxy.open();

        let renewed = async { while held.renew().await.is_err_and(|error| error.is_temporary()) {} };
        common::soon(renewed).await;
        common::depth_until(&handler, |depth| depth == known).await;
        let late = common::connect(&config).await;
        common::depth_until(&late, |depth| depth == known).await;
        assert_eq!(late.leased_runs().await.unwrap(), std::slice::from_ref(held.run()));
        assert_eq!(late.list(10).await.unwrap()[0].why, "no such job");
        let events = late.event_store();
        assert!(events.has_seen(&event).await.unwrap());
        assert_eq!(events.position().await.unwrap(), Some(Position::at(AT)));
        let mut rival = late.leader_election();
        let second = timeout(Duration::from_secs(2), rival.lead()).await;
        assert!(second.is_err(), "the leader's lease still holds");
        assert!(timeout(Duration::from_millis(1), leadership.lost()).await.is_err());
        late.publish(&job_on(0, "tempest")).await.unwrap();
        for n in 3..5 {
            let claim = late.claim(&JobFilter::any()).await.unwrap();
            assert_eq!(claim.job().change.number.0, n, "neither the held job nor a completed one");
            common::complete(claim.as_ref()).await;
        }
        common::complete(held.as_ref()).await;
        common::depth_until(&late, |depth| depth == QueueDepth::new(0, 0, 1).with_reports(4u64)).await;
        for n in [0, 3, 4, 2] {
            let due = common::delivery(&late).await;
            assert_eq!(due.report().change.number.0, n, "the result that was lost with the log comes first");
            due.done().await.unwrap();
        }
        common::delete(&url, [&config.prefix]).await;
    }
}
