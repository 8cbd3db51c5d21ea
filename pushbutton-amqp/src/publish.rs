//! New jobs on their way to the jobs queue: many at a time, in order, each with its own confirmation.

use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, JobId, Result};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::link::{Shared, closed};
use crate::session::accepted;

/// How many jobs may wait for their confirmation. RabbitMQ is fastest at some 100 (measured), and callers' windows are smaller.
const WINDOW: usize = 256;

/// A job to be published.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: JobId,
    pub(crate) body: Vec<u8>,
    pub(crate) reply: oneshot::Sender<Result<()>>,
}

/// Takes jobs to be published; full when the broker is slow.
pub(crate) fn outbox() -> (mpsc::Sender<Outgoing>, mpsc::Receiver<Outgoing>) {
    mpsc::channel(WINDOW)
}

/// Publishes what comes, until told to stop.
pub(crate) async fn publisher(shared: Arc<Shared>, mut outbox: mpsc::Receiver<Outgoing>) {
    let window = Arc::new(Semaphore::new(WINDOW));
    loop {
        let next = tokio::select! {
            next = outbox.recv() => next,
            () = shared.stop.cancelled() => None,
        };
        let Some(Outgoing { id, body, reply }) = next else { return };
        if let Err(error) = send(&shared, &window, &id, &body, reply).await {
            tracing::debug!("a job was not published: {error}");
        }
    }
}

/// Sends one; its confirmation is awaited apart, so that the next can follow.
async fn send(
    shared: &Arc<Shared>,
    window: &Arc<Semaphore>,
    id: &JobId,
    body: &[u8],
    reply: oneshot::Sender<Result<()>>,
) -> Result<()> {
    let time = shared.config.timeout.0;
    let session = match shared.session(Some(Instant::now() + time)).await {
        Ok(session) => session,
        Err(error) => {
            let _ = reply.send(Err(error));
            return Ok(());
        }
    };
    // On the queue it would do no harm, but be thrown away when it is taken.
    if shared.replica().state().is_some_and(|state| state.knows(id)) {
        let _ = reply.send(Ok(()));
        return Ok(());
    }
    let permit = Arc::clone(window).acquire_owned().await.map_err(|_| closed())?;
    let confirm = match session.send_job(body).await {
        Ok(confirm) => confirm,
        Err(error) => {
            session.fail(&error);
            let _ = reply.send(Err(error));
            return Ok(());
        }
    };
    tokio::spawn(async move {
        let confirmed = timeout(time, accepted(confirm)).await.unwrap_or_else(|_| {
            Err(Error::temporary(ErrorKind::TimedOut, "the broker did not confirm the job in time"))
        });
        // Whoever asked may have gone; and a queue that vanished is declared anew with the next connection.
        if let Err(error) = &confirmed {
            session.fail(error);
        }
        let _ = reply.send(confirmed);
        drop(permit);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AmqpConfig;
    use pushbutton_core::samples::job_on;
    use tokio::sync::mpsc::error::TrySendError;

    /// Without a broker, jobs stay with their callers but for one window: there is no buffer that grows.
    #[tokio::test(start_paused = true)]
    async fn callers_wait_while_the_broker_takes_nothing() {
        let shared = Arc::new(Shared::new(AmqpConfig::new("amqp://guest:guest@127.0.0.1:1")));
        let (outbox, outgoing) = outbox();
        let publishing = tokio::spawn(publisher(Arc::clone(&shared), outgoing));
        let mut replies = Vec::new();
        for n in 0.. {
            // Whatever the publisher wants to take, it takes now.
            tokio::task::yield_now().await;
            let (reply, confirmed) = oneshot::channel();
            let job = job_on(n, "tempest");
            match outbox.try_send(Outgoing { id: job.id, body: Vec::new(), reply }) {
                Ok(()) => replies.push(confirmed),
                Err(TrySendError::Full(_)) => break,
                Err(TrySendError::Closed(_)) => panic!("the publisher has gone"),
            }
        }
        assert_eq!(replies.len(), WINDOW + 1, "one is being sent, the others wait");
        // Nobody waits for ever: each hears in time that it should try again.
        for reply in replies {
            let error = reply.await.unwrap().unwrap_err();
            assert!(error.is_temporary(), "{error:?}");
        }
        shared.stop.cancel();
        publishing.await.unwrap();
    }
}
