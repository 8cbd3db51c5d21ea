//! What ends as a dead letter, and what people do with it.

use std::collections::{BTreeMap, BTreeSet};

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use pushbutton_core::samples::job_on;
use pushbutton_core::{ErrorKind, HumanDuration, Queue};

use crate::{both, common, config};

/// What cannot be read goes to the dead letters, and what comes after it is run.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_blocks_nothing() {
    for url in both() {
        let config = config(&url, "malformed", 30);
        let queue = common::connect(&config).await;
        let (_connection, channel) = common::channel(&url).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let jobs = format!("{}.jobs", config.prefix);
        let mut big = vec![b'['; 200_000];
        big.extend_from_slice(b"\xff\0");
        for body in [&b"hello"[..], b"", b"{\"id\": 7}", &big] {
            let options = BasicPublishOptions::default();
            let properties = BasicProperties::default();
            let sent =
                channel.basic_publish("".into(), jobs.as_str().into(), options, body, properties).await;
            assert!(sent.unwrap().await.unwrap().is_ack());
        }
        let newer = lapin::types::FieldTable::from(BTreeMap::from([("pushbutton-format".into(), 99.into())]));
        let properties = BasicProperties::default().with_headers(newer);
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), jobs.as_str().into(), options, b"{}", properties).await;
        assert!(sent.unwrap().await.unwrap().is_ack());
        queue.publish(&job_on(1, "tempest")).await.unwrap();
        let claim = common::claim(&queue).await;
        assert_eq!(claim.job().change.number.0, 1);
        let dead = queue.dead_letters(10).await.unwrap();
        let why: Vec<_> = dead.iter().map(|letter| letter.why.as_str()).collect();
        assert_eq!(dead.len(), 5, "{why:?}");
        assert!(why[0].contains("not written by pushbutton: hello"), "{why:?}");
        assert!(why[4].contains("upgrade"), "{why:?}");
        assert!(why.iter().all(|why| why.len() < 10_000), "a dead letter is bounded");
        claim.complete().await.unwrap();

        // Such a letter has a name, so that people can drop it; a job to run it has not.
        let names: BTreeSet<_> = dead.iter().map(|letter| letter.id.clone()).collect();
        assert_eq!(names.len(), 5, "{names:?}");
        let (first, other) = (&dead[0].id, common::connect(&config).await);
        let error = other.requeue_dead_letter(first).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Invalid, false), "{error:?}");
        let left = other.dead_letters(10).await.unwrap();
        assert_eq!(left, dead, "it stays");
        let dropped = tokio::join!(queue.drop_dead_letter(first), other.drop_dead_letter(first));
        assert_ne!(dropped.0.unwrap(), dropped.1.unwrap(), "one of two drops it");
        assert_eq!(queue.dead_letters(10).await.unwrap(), dead[1..]);
        common::delete(&url, [&config.prefix]).await;
    }
}

/// A job on which operators die goes to the dead letters in the end, until somebody puts it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_operators_is_buried() {
    for url in both() {
        let mut config = config(&url, "poison", 2);
        config.lost_leases = 2;
        let queue = common::connect(&config).await;
        queue.publish(&job_on(1, "tempest")).await.unwrap();
        for _ in 0..2 {
            drop(common::claim(&queue).await);
        }
        let buried = common::depth_until(&queue, |depth| depth.dead == 1);
        tokio::select! {
            () = buried => {}
            claim = queue.claim() => panic!("claimed once more: {:?}", claim.map(|claim| claim.job().clone())),
        }
        let dead = queue.dead_letters(10).await.unwrap();
        assert!(dead[0].why.contains("its lease ran out 2 times"), "{dead:?}");
        assert_eq!(dead[0].job.as_ref().unwrap().id, job_on(1, "tempest").id);

        // Put back by a person, it has all its lives again.
        assert!(queue.requeue_dead_letter(&dead[0].id).await.unwrap());
        drop(common::claim(&queue).await);
        let mut patient = config.clone();
        patient.lease = HumanDuration::secs(60);
        let survivor = common::connect(&patient).await;
        common::claim(&survivor).await.complete().await.unwrap();
        assert_eq!(queue.dead_letters(10).await.unwrap(), []);
        common::delete(&url, [&config.prefix]).await;
    }
}
