use super::*;
use crate::config::AmqpConfig;
use pushbutton_core::samples::job_on;
use tokio::sync::mpsc::error::TrySendError;

/// Without a broker, jobs stay with their callers except for one window: no buffer grows.
#[tokio::test(start_paused = true)]
async fn callers_wait_while_the_broker_takes_nothing() {
    let shared = Arc::new(Shared::new(AmqpConfig::new("amqp://guest:guest@127.0.0.1:1")));
    let (sender, jobs) = outgoing();
    let publishing = tokio::spawn(publisher(Arc::clone(&shared), jobs));
    let mut replies = Vec::new();
    for n in 0.. {
        // The publisher takes what it has room for.
        tokio::task::yield_now().await;
        let (reply, confirmed) = oneshot::channel();
        let job = job_on(n, "tempest");
        let until = shared.deadline();
        match sender.try_send(Outgoing { job, body: Vec::new(), until, reply }) {
            Ok(()) => replies.push(confirmed),
            Err(TrySendError::Full(_)) => break,
            Err(TrySendError::Closed(_)) => panic!("the publisher has ended"),
        }
    }
    assert_eq!(replies.len(), WINDOW + 1, "one is being sent, the others wait");
    // Each caller gets a temporary error in time, and does not wait for the timeouts of those before it.
    let asked = Instant::now();
    for reply in replies {
        let error = reply.await.unwrap().unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
    }
    assert!(asked.elapsed() <= shared.config.timeout.0, "{:?}", asked.elapsed());
    shared.stop.cancel();
    publishing.await.unwrap();
}
