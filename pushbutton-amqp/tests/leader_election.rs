//! Of several handlers at most one is the leader, whatever breaks, freezes or is killed; and there always is one again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests report by panicking"
)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::proxy::Proxy;
use pushbutton_amqp::{AmqpConfig, AmqpQueue, LeaderElection, Leadership};
use pushbutton_core::HumanDuration;
use pushbutton_testbed::{Version, rabbitmq};
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, timeout};

/// For what must happen in the end.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Far longer than a takeover takes.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(40);

/// Others wait so long for a leader that is gone.
const LEASE: Duration = Duration::from_secs(6);

/// A dead leader is followed quickly with this lease.
fn config(url: &str, prefix: &str) -> AmqpConfig {
    let mut config = common::config(url, prefix, Duration::from_secs(30));
    config.heartbeat = HumanDuration::secs(2);
    config.timeout = HumanDuration::secs(4);
    config.leader_lease = HumanDuration(LEASE);
    config
}

async fn is_lost(leadership: &mut Leadership) {
    timeout(TEST_TIMEOUT, leadership.lost()).await.expect("the leader learns of the loss");
}

/// From when until when somebody was the leader, and who.
type Log = Arc<Mutex<Vec<(Instant, Instant, usize)>>>;

/// A handler that leads whenever it can, and records when it did.
struct Handler {
    queue: Arc<AmqpQueue>,
    proxy: Proxy,
    terms: watch::Receiver<usize>,
    /// The end of its lease when it was last renewed.
    lease: watch::Receiver<Instant>,
}

impl Handler {
    async fn start(url: &str, prefix: &str, name: usize, log: &Log, tasks: &mut JoinSet<()>) -> Self {
        let proxy = Proxy::before(url).await;
        let queue = common::connect(&config(&proxy.url, prefix)).await;
        let (count, terms) = watch::channel(0);
        let (lease, lease_end) = watch::channel(Instant::now());
        let (mut election, log) = (queue.leader_election(), Arc::clone(log));
        tasks.spawn(async move {
            // Ends with an error when the queue is closed.
            while let Ok(mut leadership) = election.lead().await {
                let begin = Instant::now();
                count.send_modify(|count| *count += 1);
                loop {
                    lease.send_replace(leadership.lease_end());
                    if timeout(Duration::from_millis(100), leadership.lost()).await.is_ok() {
                        break;
                    }
                }
                // What counts is the end of the lease; this task may run later.
                let end = leadership.lease_end().min(Instant::now());
                log.lock().unwrap().push((begin, end, name));
            }
        });
        Self { queue, proxy, terms, lease: lease_end }
    }
}

/// Waits until one of these handlers leads more often than `before`; which. None: nobody did for a long while.
async fn next_leader(handlers: &mut [Handler], before: &[usize], not: Option<usize>) -> Option<usize> {
    let others = handlers.iter_mut().zip(before).enumerate().filter(|(index, _)| Some(*index) != not);
    let waiting = others.map(|(index, (handler, before))| {
        let before = *before;
        Box::pin(async move {
            handler.terms.wait_for(|count| *count > before).await.expect("the handler runs");
            index
        })
    });
    let first = timeout(TAKEOVER_TIMEOUT, futures_util::future::select_all(waiting)).await.ok()?;
    Some(first.0)
}

/// Waits until one of them leads, by a lease that lasts beyond what it had at this call: the holder has four fifths
/// of it.
async fn one_leads(handlers: &[Handler]) {
    let start = Instant::now();
    let leads = async {
        while !handlers.iter().any(|handler| *handler.lease.borrow() > start + LEASE * 4 / 5) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TEST_TIMEOUT, leads).await.expect("somebody leads");
}

/// Waits until this handler has noticed that it leads no longer.
async fn wait_until_lost(log: &Log, leader: usize) {
    let terms = |log: &Log| log.lock().unwrap().iter().filter(|(_, _, name)| *name == leader).count();
    let before = terms(log);
    let lost = async {
        while terms(log) == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TEST_TIMEOUT, lost).await.expect("the leader learns of the loss");
}

fn counts(handlers: &[Handler]) -> Vec<usize> {
    handlers.iter().map(|handler| *handler.terms.borrow()).collect()
}

fn assert_one_at_a_time(log: &Log) {
    let mut log = log.lock().unwrap().clone();
    log.sort_unstable();
    for pair in log.windows(2) {
        let ((_, end, former), (begin, _, next)) = (pair[0], pair[1]);
        assert!(end <= begin, "{next} led {:?} before {former} had ended", end - begin);
    }
}

/// Three handlers, and the leader's broker is unreachable, or silent, or nobody reaches it, again and again.
async fn at_most_one_leads(version: Version) {
    let broker = block_in_place(|| rabbitmq(version));
    let (prefix, log, mut tasks) = (common::prefix("leader"), Log::default(), JoinSet::new());
    let mut handlers = Vec::new();
    for name in 0..3 {
        handlers.push(Handler::start(&broker.url, &prefix, name, &log, &mut tasks).await);
    }
    let mut leader = next_leader(&mut handlers, &[0; 3], None).await.expect("somebody leads");
    for round in 0..6 {
        let (before, mut not) = (counts(&handlers), Some(leader));
        match round % 3 {
            0 => handlers[leader].proxy.close(),
            1 => handlers[leader].proxy.fall_silent(),
            _ => {
                handlers.iter().for_each(|handler| handler.proxy.close());
                wait_until_lost(&log, leader).await;
                handlers.iter().for_each(|handler| handler.proxy.open());
                not = None;
            }
        }
        let next = next_leader(&mut handlers, &before, not).await.expect("another one takes over");
        handlers[leader].proxy.open();
        leader = next;
    }
    // Broken connections alone change nothing: they are replaced within the lease.
    let before = counts(&handlers);
    for _ in 0..3 {
        handlers.iter().for_each(|handler| handler.proxy.cut());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(counts(&handlers), before);
    for handler in &handlers {
        handler.queue.close().await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert!(log.lock().unwrap().len() >= 7);
    assert_one_at_a_time(&log);
    drop(handlers);
    common::delete(&broker.url, [&prefix]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handler_leads_on_rabbitmq_3_10() {
    at_most_one_leads(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handler_leads_on_rabbitmq_4() {
    at_most_one_leads(Version::V4).await;
}

/// An orderly end hands over at once, and no candidate waits for itself; a waiting call that is dropped does no harm;
/// a closed queue ends all.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_is_followed_at_once() {
    for version in [Version::V3, Version::V4] {
        let broker = block_in_place(|| rabbitmq(version));
        // A candidate that had to wait for the end of this lease would not lead before the test gives up.
        let mut config = config(&broker.url, &common::prefix("handover"));
        config.leader_lease = HumanDuration::secs(3600);
        let (one, other) = (common::connect(&config).await, common::connect(&config).await);
        let (mut first, mut second) = (one.leader_election(), other.leader_election());
        let quickly = async |candidate: &mut LeaderElection| {
            let leadership = timeout(Duration::from_secs(50), candidate.lead()).await;
            leadership.expect("it is handed over").expect("the broker accepts us")
        };
        let mut leadership = quickly(&mut first).await;
        for _ in 0..3 {
            let waited = timeout(Duration::from_millis(100), second.lead()).await;
            assert!(waited.is_err(), "another one leads");
        }
        drop(leadership);
        leadership = quickly(&mut second).await;
        let lost = tokio::spawn(async move { leadership.lost().await });
        let next = quickly(&mut second).await;
        timeout(TEST_TIMEOUT, lost).await.expect("a handler leads once at a time").unwrap();
        drop(next);
        let mut leadership = quickly(&mut first).await;
        one.close().await;
        is_lost(&mut leadership).await;
        let _leadership = quickly(&mut second).await;
        let error = first.lead().await.unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains("closed"), "{error:?}");
        other.close().await;
        common::delete(&broker.url, [&config.prefix]).await;
    }
}

/// A leader whose process ends without a word is followed within one lease, and not earlier.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_leader_is_followed_after_one_lease() {
    for version in [Version::V3, Version::V4] {
        let broker = block_in_place(|| rabbitmq(version));
        let proxy = Proxy::before(&broker.url).await;
        let config = config(&broker.url, &common::prefix("dead-leader"));
        let mut dying_config = config.clone();
        dying_config.url = Some(proxy.url.clone().into());
        let (dying, other) = (common::connect(&dying_config).await, common::connect(&config).await);
        let mut leadership = dying.leader_election().lead().await.unwrap();
        proxy.close();
        is_lost(&mut leadership).await;
        let lost = Instant::now();
        let mut election = other.leader_election();
        let _next = timeout(TEST_TIMEOUT, election.lead()).await.expect("it takes over").unwrap();
        assert!(lost.elapsed() <= config.leader_lease.0 + Duration::from_secs(10), "{:?}", lost.elapsed());
        common::delete(&broker.url, [&config.prefix]).await;
    }
}

/// A leadership lasts beyond RabbitMQ's acknowledgement timeout; the broker may close connections, or be killed: one
/// leads again.
async fn with_a_broker_that_cuts(version: Version) {
    let mut broker = block_in_place(|| {
        pushbutton_testbed::Broker::private_with(
            version,
            "consumer_timeout = 4000",
            "{rabbit, [{channel_tick_interval, 1000}]}",
        )
    });
    let (log, mut tasks) = (Log::default(), JoinSet::new());
    let mut handlers = Vec::new();
    for name in 0..3 {
        handlers.push(Handler::start(&broker.url, "cuts", name, &log, &mut tasks).await);
    }
    common::first_stream_is_on_disk(&broker);
    next_leader(&mut handlers, &[0; 3], None).await.expect("somebody leads");
    block_in_place(|| broker.ctl(&["rabbitmqctl", "close_all_connections", "closed by a person"]));
    one_leads(&handlers).await;

    block_in_place(|| {
        broker.kill9();
        broker.restart();
    });
    one_leads(&handlers).await;

    // Twice the acknowledgement timeout: no channel is closed for a message that was not acknowledged.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let said = block_in_place(|| broker.ctl(&["rabbitmq-diagnostics", "log_tail", "-N", "2000"]));
    assert!(said.contains("closed by a person") && !said.contains("timed out waiting"), "{said}");
    for handler in &handlers {
        handler.queue.close().await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_one_at_a_time(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handler_leads_when_rabbitmq_3_10_cuts() {
    with_a_broker_that_cuts(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handler_leads_when_rabbitmq_4_cuts() {
    with_a_broker_that_cuts(Version::V4).await;
}
