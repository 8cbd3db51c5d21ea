//! Of several handlers exactly one is active, whatever is cut, frozen or killed; and there always is one again.
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
use pushbutton_amqp::{ActiveTurn, AmqpConfig, AmqpQueue, AmqpTurn};
use pushbutton_core::HumanDuration;
use pushbutton_testbed::{Version, rabbitmq};
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, timeout};

/// For what must come in the end.
const IN_THE_END: Duration = Duration::from_secs(120);

/// Far longer than a turn takes to pass on.
const A_WHILE: Duration = Duration::from_secs(40);

/// A turn passes on quickly with this heartbeat.
fn config(url: &str, prefix: &str) -> AmqpConfig {
    let mut config = common::config(url, prefix, Duration::from_secs(30));
    config.heartbeat = HumanDuration::secs(2);
    config.timeout = HumanDuration::secs(5);
    config
}

async fn is_lost(turn: &mut ActiveTurn) {
    timeout(IN_THE_END, turn.lost()).await.expect("who is cut off hears of it");
}

/// When somebody was certain of its turn, and who.
type Log = Arc<Mutex<Vec<(Instant, Instant, usize)>>>;

/// A handler that takes its turn whenever it can, and writes down when it had it.
struct Handler {
    queue: Arc<AmqpQueue>,
    proxy: Proxy,
    turns: watch::Receiver<usize>,
}

impl Handler {
    async fn start(url: &str, prefix: &str, name: usize, log: &Log, tasks: &mut JoinSet<()>) -> Self {
        let proxy = Proxy::before(url).await;
        let queue = common::connect(&config(&proxy.url, prefix)).await;
        let (said, turns) = watch::channel(0);
        let (mut candidate, log) = (queue.turn(), Arc::clone(log));
        tasks.spawn(async move {
            // Ends with an error when the queue is closed.
            while let Ok(mut turn) = candidate.take().await {
                let begin = Instant::now();
                said.send_modify(|count| *count += 1);
                turn.lost().await;
                // What counts is until when it was certain; this task may hear of the end later.
                let end = turn.certain_until().min(Instant::now());
                log.lock().unwrap().push((begin, end, name));
            }
        });
        Self { queue, proxy, turns }
    }
}

/// Waits until one of these handlers has taken a turn that it had not `before`; which. None: nobody did for a long while.
async fn next_active(handlers: &mut [Handler], before: &[usize], not: Option<usize>) -> Option<usize> {
    let others = handlers.iter_mut().zip(before).enumerate().filter(|(index, _)| Some(*index) != not);
    let waiting = others.map(|(index, (handler, before))| {
        let before = *before;
        Box::pin(async move {
            handler.turns.wait_for(|count| *count > before).await.expect("the handler runs");
            index
        })
    });
    let first = timeout(A_WHILE, futures_util::future::select_all(waiting)).await.ok()?;
    Some(first.0)
}

fn counts(handlers: &[Handler]) -> Vec<usize> {
    handlers.iter().map(|handler| *handler.turns.borrow()).collect()
}

fn assert_one_at_a_time(log: &Log) {
    let mut log = log.lock().unwrap().clone();
    log.sort_unstable();
    for pair in log.windows(2) {
        let ((_, end, former), (begin, _, next)) = (pair[0], pair[1]);
        assert!(end <= begin, "{next} was active {:?} before {former} had ended", end - begin);
    }
}

/// Three handlers, and the active one's connection is cut, or falls silent, or all are cut, again and again.
async fn one_is_active(version: Version) {
    let broker = block_in_place(|| rabbitmq(version));
    let (prefix, log, mut tasks) = (common::prefix("turn"), Log::default(), JoinSet::new());
    let mut handlers = Vec::new();
    for name in 0..3 {
        handlers.push(Handler::start(&broker.url, &prefix, name, &log, &mut tasks).await);
    }
    let mut active = next_active(&mut handlers, &[0; 3], None).await.expect("somebody is active");
    let (mut round, deadline) = (0, Instant::now() + 3 * IN_THE_END);
    while round < 7 {
        assert!(Instant::now() < deadline, "nobody takes over");
        let (before, mut not) = (counts(&handlers), None);
        match round % 4 {
            0 | 1 => handlers[active].proxy.cut(),
            2 => handlers.iter().for_each(|handler| handler.proxy.cut()),
            _ => {
                handlers[active].proxy.fall_silent();
                not = Some(active);
            }
        }
        let next = next_active(&mut handlers, &before, not).await;
        handlers[active].proxy.open();
        match next {
            Some(next) => (round, active) = (round + 1, next),
            // On a machine that was stuck the turn may have passed on just before, and the wrong one was cut.
            None => active = (active + 1) % 3,
        }
    }
    for handler in &handlers {
        handler.queue.close().await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert!(log.lock().unwrap().len() >= 8);
    assert_one_at_a_time(&log);
    drop(handlers);
    common::delete(&broker.url, [&prefix]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handler_is_active_on_rabbitmq_3_10() {
    one_is_active(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handler_is_active_on_rabbitmq_4() {
    one_is_active(Version::V4).await;
}

/// An orderly end hands over at once, nobody waits for itself; a waiting call that is dropped keeps its place; a closed queue ends all.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_handed_over() {
    for version in [Version::V3, Version::V4] {
        let broker = block_in_place(|| rabbitmq(version));
        // Who had to wait out this heartbeat would not be active before the test gives up.
        let mut config = config(&broker.url, &common::prefix("handed"));
        config.heartbeat = HumanDuration::secs(60);
        let (one, other) = (common::connect(&config).await, common::connect(&config).await);
        let (mut first, mut second) = (one.turn(), other.turn());
        let quickly = async |candidate: &mut AmqpTurn| {
            let turn = timeout(Duration::from_secs(50), candidate.take()).await;
            turn.expect("it is handed over, not waited out").expect("the broker takes us")
        };
        let mut turn = quickly(&mut first).await;
        for _ in 0..3 {
            let waited = timeout(Duration::from_millis(100), second.take()).await;
            assert!(waited.is_err(), "it is not its turn");
        }
        drop(turn);
        turn = quickly(&mut second).await;
        let lost = tokio::spawn(async move { turn.lost().await });
        let next = quickly(&mut second).await;
        timeout(IN_THE_END, lost).await.expect("a handler has one turn at a time").unwrap();
        drop(next);
        let mut turn = quickly(&mut first).await;
        one.close().await;
        is_lost(&mut turn).await;
        let _turn = quickly(&mut second).await;
        let error = first.take().await.unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains("closed"), "{error:?}");
        other.close().await;
        common::delete(&broker.url, [&config.prefix]).await;
    }
}

/// A turn lasts, also beyond RabbitMQ's acknowledgement timeout; the broker may end connections, or be killed: exactly one is active again.
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
    next_active(&mut handlers, &[0; 3], None).await.expect("somebody is active");

    let before = counts(&handlers);
    block_in_place(|| broker.ctl(&["rabbitmqctl", "close_all_connections", "a person's wish"]));
    next_active(&mut handlers, &before, None).await.expect("somebody is active again");

    let before = counts(&handlers);
    block_in_place(|| {
        broker.kill9();
        broker.restart();
    });
    next_active(&mut handlers, &before, None).await.expect("somebody is active again");

    // Twice the acknowledgement timeout: no channel is ended for a token that was held.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let said = block_in_place(|| broker.ctl(&["rabbitmq-diagnostics", "log_tail", "-N", "2000"]));
    assert!(said.contains("a person's wish") && !said.contains("timed out waiting"), "{said}");
    for handler in &handlers {
        handler.queue.close().await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_one_at_a_time(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handler_is_active_when_rabbitmq_3_10_cuts() {
    with_a_broker_that_cuts(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handler_is_active_when_rabbitmq_4_cuts() {
    with_a_broker_that_cuts(Version::V4).await;
}
