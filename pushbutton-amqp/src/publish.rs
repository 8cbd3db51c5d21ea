//! Publishes jobs to the inbox: many at a time, in order, each with its own confirm.

use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, Job, Result};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::session::confirmed;
use crate::supervise::{Shared, closed};

/// How many jobs may wait for their confirms. RabbitMQ is fastest at some 100 (measured), and callers' windows are
/// smaller.
const WINDOW: usize = 256;

/// A job to be published.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) job: Job,
    pub(crate) body: Vec<u8>,
    pub(crate) reply: oneshot::Sender<Result<()>>,
}

/// The channel to the publisher. It is full while the broker is slow, so that callers wait.
pub(crate) fn outgoing() -> (mpsc::Sender<Outgoing>, mpsc::Receiver<Outgoing>) {
    mpsc::channel(WINDOW)
}

/// Publishes jobs until the queue is closed.
pub(crate) async fn publisher(shared: Arc<Shared>, mut jobs: mpsc::Receiver<Outgoing>) {
    let window = Arc::new(Semaphore::new(WINDOW));
    loop {
        let next = tokio::select! {
            next = jobs.recv() => next,
            () = shared.stop.cancelled() => None,
        };
        let Some(Outgoing { job, body, reply }) = next else { return };
        if let Err(error) = send(&shared, &window, &job, &body, reply).await {
            tracing::debug!("a job was not published: {error}");
        }
    }
}

/// Sends a job. Another task waits for the confirm, so that the next job can follow.
async fn send(
    shared: &Arc<Shared>,
    window: &Arc<Semaphore>,
    job: &Job,
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
    // Publishing it again would do no harm: the import skips it.
    if shared.replica().state().is_some_and(|state| state.skips(job)) {
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
        let result = timeout(time, confirmed(confirm)).await.unwrap_or_else(|_| {
            Err(Error::temporary(ErrorKind::TimedOut, "the broker did not confirm the job in time"))
        });
        // A queue that was deleted is declared again with the next connection.
        if let Err(error) = &result {
            session.fail(error);
        }
        let _ = reply.send(result);
        drop(permit);
    });
    Ok(())
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
