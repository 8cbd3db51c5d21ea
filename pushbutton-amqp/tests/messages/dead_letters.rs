//! Dead letters.

use std::collections::BTreeSet;

use pushbutton_core::samples::job_on;
use pushbutton_core::{DeadLetters, ErrorKind, HumanDuration, JobFilter, Queue};

use crate::{both, common, config};

/// An unreadable message becomes a dead letter, and the jobs after it are run.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_blocks_nothing() {
    for url in both() {
        let config = config(&url, "malformed", 30);
        let queue = common::connect(&config).await;
        let (_connection, channel) = common::channel(&url).await;
        let inbox = format!("{}.jobs", config.prefix);
        let mut big = vec![b'['; 200_000];
        big.extend_from_slice(b"\xff\0");
        for body in [&b"hello"[..], b"", b"{\"id\": 7}", &big] {
            common::publish_raw(&channel, &inbox, None, body).await;
        }
        common::publish_raw(&channel, &inbox, Some(99), b"{}").await;
        queue.publish(&job_on(1, "tempest")).await.unwrap();
        let claim = common::claim(&queue).await;
        assert_eq!(claim.job().change.number.0, 1);
        let dead = queue.list(10).await.unwrap();
        let why: Vec<_> = dead.iter().map(|letter| letter.why.as_str()).collect();
        assert_eq!(dead.len(), 5, "{why:?}");
        assert!(why[0].contains("not written by pushbutton: hello"), "{why:?}");
        assert!(why[4].contains("upgrade"), "{why:?}");
        assert!(why.iter().all(|why| why.len() < 10_000), "a dead letter is bounded");
        common::complete(claim.as_ref()).await;

        // Such a letter has an id, so that people can remove it, but no job to run.
        let names: BTreeSet<_> = dead.iter().map(|letter| letter.id.clone()).collect();
        assert_eq!(names.len(), 5, "{names:?}");
        let (first, other) = (&dead[0].id, common::connect(&config).await);
        let error = other.requeue(first).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Invalid, false), "{error:?}");
        let left = other.list(10).await.unwrap();
        assert_eq!(left, dead, "it stays");
        let dropped = tokio::join!(queue.remove(first), other.remove(first));
        assert_ne!(dropped.0.unwrap(), dropped.1.unwrap(), "one of two drops it");
        assert_eq!(queue.list(10).await.unwrap(), dead[1..]);
        common::delete(&url, [&config.prefix]).await;
    }
}

/// A job whose leases run out too often becomes a dead letter, until somebody requeues it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_operators_becomes_a_dead_letter() {
    for url in both() {
        let mut config = config(&url, "poison", 5);
        config.max_lost_leases = 2;
        let queue = common::connect(&config).await;
        queue.publish(&job_on(1, "tempest")).await.unwrap();
        for _ in 0..2 {
            drop(common::claim(&queue).await);
        }
        let any = JobFilter::any();
        let buried = common::depth_until(&queue, |depth| depth.dead == 1);
        tokio::select! {
            () = buried => {}
            claim = queue.claim(&any) => panic!("claimed once more: {:?}", claim.map(|claim| claim.job().clone())),
        }
        let dead = queue.list(10).await.unwrap();
        assert!(dead[0].why.contains("its lease ran out 2 times"), "{dead:?}");
        assert_eq!(dead[0].job.as_ref().unwrap().id, job_on(1, "tempest").id);

        // Requeued by a person, it is as new.
        assert!(queue.requeue(&dead[0].id).await.unwrap());
        drop(common::claim(&queue).await);
        let mut patient = config.clone();
        patient.lease = HumanDuration::secs(60);
        let survivor = common::connect(&patient).await;
        common::complete(common::claim(&survivor).await.as_ref()).await;
        assert_eq!(queue.list(10).await.unwrap(), []);
        common::delete(&url, [&config.prefix]).await;
    }
}
