//! Publishes jobs to the inbox: many at a time, in order, each with its own confirm.

use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, Job, Result};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::session::ends_connection;
use crate::supervise::{Shared, closed};

/// How many jobs may wait for their confirms. RabbitMQ is fastest at some 100 (measured), and callers' windows are
/// smaller.
const WINDOW: usize = 256;

/// A job to be published.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) job: Job,
    pub(crate) body: Vec<u8>,
    /// When its caller is told, at the latest.
    pub(crate) until: Instant,
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
        let Some(job) = next else { return };
        if let Err(error) = send(&shared, &window, job).await {
            tracing::debug!("a job was not published: {error}");
        }
    }
}

/// Sends a job. Another task waits for the confirm, so that the next job can follow.
async fn send(
    shared: &Arc<Shared>,
    window: &Arc<Semaphore>,
    Outgoing { job, body, until, reply }: Outgoing,
) -> Result<()> {
    let session = match shared.session(Some(until)).await {
        Ok(session) => session,
        Err(error) => {
            let _ = reply.send(Err(error));
            return Ok(());
        }
    };
    // Publishing it again would do no harm: the import skips it.
    if shared.replica().state().is_some_and(|state| state.skips(&job)) {
        let _ = reply.send(Ok(()));
        return Ok(());
    }
    // What a blocked connection is given waits in this process, so only a window of jobs is. The others fail, and their
    // callers try again.
    let permit = match timeout_at(until, Arc::clone(window).acquire_owned()).await {
        Ok(permit) => permit.map_err(|_| closed())?,
        Err(_) => {
            let _ = reply.send(Err(not_confirmed()));
            return Ok(());
        }
    };
    let sent = timeout_at(until, session.send_job(&body)).await;
    let confirm = match sent.unwrap_or_else(|_| Err(not_confirmed())) {
        Err(error) if session.is_blocked() => {
            let _ = reply.send(Err(error));
            return Ok(());
        }
        Ok(confirm) => confirm,
        Err(error) => {
            session.fail(&error);
            let _ = reply.send(Err(error));
            return Ok(());
        }
    };
    tokio::spawn(async move {
        let mut confirmed = std::pin::pin!(session.job_confirmed(confirm));
        let mut reply = Some(reply);
        let result = match timeout_at(until, &mut confirmed).await {
            Ok(result) => result,
            // The caller is told in time, also while the broker takes nothing. The job may come through later.
            Err(_) => {
                let _ = reply.take().map(|reply| reply.send(Err(not_confirmed())));
                confirmed.await
            }
        };
        if let Some(error) = result.as_ref().err().filter(|error| ends_connection(error)) {
            session.fail(error);
        }
        let _ = reply.take().map(|reply| reply.send(result));
        drop(permit);
    });
    Ok(())
}

fn not_confirmed() -> Error {
    Error::temporary(ErrorKind::TimedOut, "the broker did not confirm the job in time")
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
