//! What goes over the queue: hostile messages, floods, cut connections, and a record that is longer than the broker keeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests report by panicking"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::proxy::Proxy;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use pushbutton_amqp::{AmqpConfig, AmqpQueue, check};
use pushbutton_core::check::Level;
use pushbutton_core::memory::sample::job_on;
use pushbutton_core::{ErrorKind, HumanDuration, Queue, QueueDepth};
use pushbutton_testbed::{Version, rabbitmq};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::Instant;

fn both() -> [String; 2] {
    block_in_place(|| [rabbitmq(Version::V3).url.clone(), rabbitmq(Version::V4).url.clone()])
}

fn config(url: &str, test: &str, seconds: u64) -> AmqpConfig {
    common::config(url, &common::prefix(test), Duration::from_secs(seconds))
}

/// What cannot be read goes to the dead letters, and what comes after it is run.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_blocks_nothing() {
    for url in both() {
        let config = config(&url, "malformed", 30);
        let queue = common::connect(&config).await;
        let (_connection, channel) = common::channel(&url).await;
        let jobs = format!("{}.jobs", config.prefix);
        let mut big = vec![b'['; 200_000];
        big.extend_from_slice(b"\xff\0");
        for body in [&b"hello"[..], b"", b"{\"id\": 7}", &big] {
            let options = BasicPublishOptions::default();
            let properties = BasicProperties::default();
            channel.basic_publish("".into(), jobs.as_str().into(), options, body, properties).await.unwrap();
        }
        let newer = lapin::types::FieldTable::from(BTreeMap::from([("pushbutton-format".into(), 99.into())]));
        let properties = BasicProperties::default().with_headers(newer);
        channel
            .basic_publish("".into(), jobs.as_str().into(), BasicPublishOptions::default(), b"{}", properties)
            .await
            .unwrap();
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
        common::delete(&url, [&config.prefix]).await;
    }
}

/// Many calls in flight keep their order, and each hears of its own job.
#[tokio::test(flavor = "multi_thread")]
async fn publishing_is_pipelined_in_order() {
    const JOBS: u64 = 2_000;
    for url in both() {
        let config = config(&url, "pipeline", 60);
        let (queue, other) = (common::connect(&config).await, common::connect(&config).await);
        let jobs: Vec<_> = (0..JOBS).map(|n| job_on(n, "tempest")).collect();
        let started = Instant::now();
        let published: Vec<_> =
            stream::iter(&jobs).map(|job| queue.publish(job)).buffered(64).collect().await;
        assert!(published.iter().all(Result::is_ok), "{published:?}");
        eprintln!("{:.0} jobs/s published in a window of 64", JOBS as f64 / started.elapsed().as_secs_f64());
        let depth = other.depth().await.unwrap();
        assert_eq!(depth, QueueDepth { waiting: JOBS, leased: 0, dead: 0 });
        let started = Instant::now();
        for n in 0..100 {
            let claim = common::claim(&other).await;
            assert_eq!(claim.job().change.number.0, n);
            claim.complete().await.unwrap();
        }
        eprintln!(
            "{:.0} jobs/s claimed and completed, one after another",
            100.0 / started.elapsed().as_secs_f64()
        );
        common::delete(&url, [&config.prefix]).await;
    }
}

/// A job on which operators die goes to the dead letters in the end.
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
        common::nothing_for(&queue, Duration::from_secs(4)).await;
        let dead = queue.dead_letters(10).await.unwrap();
        assert_eq!(dead.len(), 1);
        assert!(dead[0].why.contains("its lease ran out 2 times"), "{dead:?}");
        assert_eq!(dead[0].job.as_ref().unwrap().id, job_on(1, "tempest").id);
        common::delete(&url, [&config.prefix]).await;
    }
}

/// The record is cut at its beginning by the broker; what it said is still known, to old readers and new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_longer_than_the_broker_keeps_forgets_nothing() {
    for url in both() {
        let config = config(&url, "long", 120);
        let queue = common::connect(&config).await;
        for n in 0..3 {
            queue.publish(&job_on(n, "tempest")).await.unwrap();
        }
        common::claim(&queue).await.complete().await.unwrap();
        common::claim(&queue).await.reject("no such job").await.unwrap();
        let held = common::claim(&queue).await;

        let (_connection, channel) = common::channel(&url).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let record = format!("{}.record", config.prefix);
        let header = lapin::types::FieldTable::from(BTreeMap::from([("pushbutton-format".into(), 1.into())]));
        let properties = BasicProperties::default().with_headers(header);
        // Entries that do nothing but take space, 2 MiB at a time; then one of ours.
        let padding = "x".repeat(64 << 10);
        for round in 0..24 {
            let mut confirms = Vec::new();
            for n in 0..33 {
                let body = format!(
                    r#"{{"mark":"{:032x}","op":{{"op":"hello"}},"padding":"{padding}"}}"#,
                    0x7000_0000_0000_u64 + round * 100 + n
                );
                let options = BasicPublishOptions::default();
                let sent = channel.basic_publish(
                    "".into(),
                    record.as_str().into(),
                    options,
                    body.as_bytes(),
                    properties.clone(),
                );
                confirms.push(sent.await.unwrap());
            }
            for confirmed in join_all(confirms).await {
                assert!(confirmed.unwrap().is_ack());
            }
            held.renew().await.unwrap();
        }
        assert!(common::first_offset(&url, &record).await > 0, "the broker has dropped the beginning");

        let later = common::connect(&config).await;
        let known = QueueDepth { waiting: 0, leased: 1, dead: 1 };
        assert_eq!((later.depth().await.unwrap(), queue.depth().await.unwrap()), (known, known));
        later.publish(&job_on(0, "tempest")).await.unwrap();
        common::nothing_for(&later, Duration::from_secs(1)).await;
        held.complete().await.unwrap();
        common::delete(&url, [&config.prefix]).await;
    }
}

/// Connections cut at any moment lose no job, run none twice at once, and complete none twice.
#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_lose_and_double_nothing() {
    const JOBS: u64 = 60;
    for url in both() {
        let config = config(&url, "cut", 4);
        let handler = common::connect(&config).await;
        let shifts = Arc::new(Shifts::default());
        let mut proxies = Vec::new();
        let mut working = JoinSet::new();
        for _ in 0..2 {
            let proxy = Proxy::before(&url).await;
            let mut config = config.clone();
            config.url = proxy.url.clone().into();
            let operator = common::connect(&config).await;
            for _ in 0..2 {
                working.spawn(Arc::clone(&shifts).work(Arc::clone(&operator)));
            }
            proxies.push(proxy);
        }
        // Moments that fall into every step of a claim.
        let cutting = async {
            for n in 0u64.. {
                tokio::time::sleep(Duration::from_millis(150 + n * 37 % 500)).await;
                proxies[(n % 2) as usize].cut();
            }
        };
        let settled = async {
            for n in 0..JOBS {
                handler.publish(&job_on(n, "tempest")).await.unwrap();
            }
            while handler.depth().await.unwrap() != QueueDepth::default() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = cutting => {}
            settled = tokio::time::timeout(Duration::from_secs(100), settled) => if settled.is_err() {
                let (depth, dead) = (handler.depth().await, handler.dead_letters(10).await);
                panic!("not every job ended: {depth:?}, {} claims, dead {dead:?}", shifts.claimed());
            },
            ended = working.join_next() => panic!("an operator ended: {ended:?}"),
        }
        // All are known as completed: published again, none is run.
        let before = shifts.claimed();
        for n in 0..JOBS {
            handler.publish(&job_on(n, "tempest")).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((shifts.claimed(), handler.depth().await.unwrap()), (before, QueueDepth::default()));
        assert!(handler.dead_letters(1).await.unwrap().is_empty());
        let cuts: u32 = proxies.iter().map(Proxy::cuts).sum();
        assert!(cuts > 10, "connections were cut {cuts} times only");
        eprintln!("{JOBS} jobs in {before} claims, {cuts} connections cut");
        working.shutdown().await;
        common::delete(&url, [&config.prefix]).await;
    }
}

/// Who works on what.
#[derive(Default)]
struct Shifts {
    running: Mutex<BTreeSet<u64>>,
    completed: Mutex<BTreeSet<u64>>,
    claimed: AtomicU32,
}

impl Shifts {
    fn claimed(&self) -> u32 {
        self.claimed.load(Ordering::SeqCst)
    }

    async fn work(self: Arc<Self>, queue: Arc<AmqpQueue>) {
        loop {
            let claim = queue.claim().await.expect("waiting for a job ends in no error");
            let job = claim.job().change.number.0;
            self.claimed.fetch_add(1, Ordering::SeqCst);
            assert!(self.running.lock().unwrap().insert(job), "job {job} is run twice at once");
            tokio::time::sleep(Duration::from_millis(30)).await;
            let renewed = claim.renew().await;
            self.running.lock().unwrap().remove(&job);
            if renewed.is_err_and(|error| error.kind() == ErrorKind::LeaseLost) {
                continue;
            }
            match claim.complete().await {
                Ok(()) => {
                    assert!(self.completed.lock().unwrap().insert(job), "job {job} was completed twice")
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error:?}"),
            }
        }
    }
}

/// A refusal is told at once, with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_at_once() {
    for url in both() {
        for (wrong, remedy) in [
            (url.replace("guest:guest", "guest:wr0ng"), "check user, password"),
            (url.replace("%2f", "nowhere"), "virtual host"),
        ] {
            let config = AmqpConfig::new(wrong);
            let error = AmqpQueue::connect(config.clone()).await.map(|_| ()).unwrap_err();
            assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Denied, false), "{error:?}");
            let findings = check(&config).await;
            let told = findings.last().unwrap().to_string();
            for text in [error.to_string(), told] {
                assert!(text.contains(remedy) && !text.contains("wr0ng"), "{text}");
            }
        }
        let mut config = config(&url, "other", 30);
        let (_connection, channel) = common::channel(&url).await;
        let jobs = format!("{}.jobs", config.prefix);
        channel
            .queue_declare(jobs.as_str().into(), QueueDeclareOptions::durable(), Default::default())
            .await
            .unwrap();
        let error = AmqpQueue::connect(config.clone()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("rabbitmq.prefix"), "{error}");
        channel.queue_delete(jobs.into(), QueueDeleteOptions::default()).await.unwrap();
        config.prefix = "good".into();
        let findings = check(&config).await;
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
        assert!(
            findings[0].what.contains("RabbitMQ 3.10.") || findings[0].what.contains("RabbitMQ 4."),
            "{findings:?}"
        );
    }
}

/// A server that takes the connection and says nothing is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = AmqpConfig::new(format!("amqp://guest:guest@{}/%2f", listener.local_addr().unwrap()));
    config.timeout = HumanDuration::secs(1);
    let started = Instant::now();
    let queue = AmqpQueue::connect(config).await.unwrap();
    let error = queue.publish(&job_on(1, "tempest")).await.unwrap_err();
    assert!(error.is_temporary() && started.elapsed() < Duration::from_secs(4), "{error:?}");
}
