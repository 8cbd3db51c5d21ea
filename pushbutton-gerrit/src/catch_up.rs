//! One recovery: asking page by page what happened since, in a task of its own.

use std::sync::Arc;

use jiff::Timestamp;
use pushbutton_core::retry::RetryPolicy;
use pushbutton_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use crate::client::Gerrit;
use crate::recover::Recovered;

/// A recovery under way, in a task of its own.
pub(crate) struct Recovery {
    pub(crate) found: mpsc::Receiver<Vec<Recovered>>,
    pub(crate) task: tokio::task::JoinHandle<Result<Option<Timestamp>>>,
    /// The newest time of the server when it began.
    pub(crate) newest: Timestamp,
    pub(crate) began: Timestamp,
}

impl Recovery {
    /// Asks what happened since the horizon. `newest` is the newest time of the server that is known now.
    pub(crate) fn start(
        gerrit: &Arc<Gerrit>,
        horizon: Timestamp,
        first_start: Timestamp,
        newest: Timestamp,
    ) -> Self {
        let (sender, found) = mpsc::channel(64);
        let gerrit = Arc::clone(gerrit);
        let task = tokio::spawn(async move { pages(&gerrit, horizon, first_start, &sender).await });
        Self { found, task, newest, began: Timestamp::now() }
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The next batch of a recovery; none when it has ended.
pub(crate) async fn next_found(recovery: &mut Option<Recovery>) -> Option<Vec<Recovered>> {
    match recovery {
        Some(recovery) => recovery.found.recv().await,
        None => std::future::pending().await,
    }
}

/// Asks page by page. A change that moves up meanwhile pushes others down: some come twice, none is skipped.
async fn pages(
    gerrit: &Gerrit,
    horizon: Timestamp,
    first_start: Timestamp,
    found: &mpsc::Sender<Vec<Recovered>>,
) -> Result<Option<Timestamp>> {
    let (mut start, mut newest) = (0, None);
    loop {
        let ask = || async move {
            let mut changes = Vec::new();
            let page = gerrit.since(horizon, first_start, start, |change| changes.push(change)).await?;
            Ok((page, changes))
        };
        let (page, changes) = RetryPolicy::FOR_EVER.run("gerrit::recover", ask).await?;
        for change in changes {
            if found.send(change).await.is_err() {
                return Err(Error::permanent(ErrorKind::Cancelled, "nobody waits for the answer"));
            }
        }
        newest = newest.max(page.newest);
        start += page.rows;
        if !page.more || page.rows == 0 {
            return Ok(newest);
        }
    }
}
