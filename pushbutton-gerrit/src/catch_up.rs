//! One recovery: asking page by page what happened since, in a task of its own.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use pushbutton_core::retry::RetryPolicy;
use pushbutton_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use crate::client::Gerrit;
use crate::convert;
use crate::deeds::has_loose_texts;
use crate::interest::Interest;
use crate::query::{Row, read_row};
use crate::recover::{self, Recovered};
use crate::web::Web;
use crate::web_reply::Written;
use crate::wire::WireChange;

/// How many bytes of one page may wait until REST has told when the comments in them were written. What is more is read without it.
const MAX_WAITING: usize = 32 << 20;

/// A recovery under way, in a task of its own.
pub(crate) struct Recovery {
    pub(crate) found: mpsc::Receiver<Vec<Recovered>>,
    pub(crate) task: tokio::task::JoinHandle<Result<Option<Timestamp>>>,
    /// The newest time of the server when it began.
    pub(crate) newest: Timestamp,
    pub(crate) began: Timestamp,
}

impl Recovery {
    /// Asks what of interest happened since the horizon. `newest` is the newest time of the server that is known now.
    pub(crate) fn start(
        gerrit: &Arc<Gerrit>,
        interest: &Interest,
        horizon: Timestamp,
        first_start: Timestamp,
        newest: Timestamp,
    ) -> Self {
        let (sender, found) = mpsc::channel(4);
        let pass = Pass {
            gerrit: Arc::clone(gerrit),
            interest: interest.clone(),
            horizon,
            first_start,
            sender,
            told: HashSet::new(),
            without_web: false,
        };
        Self { found, task: tokio::spawn(pass.run()), newest, began: Timestamp::now() }
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

struct Pass {
    gerrit: Arc<Gerrit>,
    interest: Interest,
    horizon: Timestamp,
    first_start: Timestamp,
    sender: mpsc::Sender<Vec<Recovered>>,
    /// Changes that have been told of. What happens to one of them after that is the next recovery's.
    told: HashSet<i64>,
    /// REST has failed in this pass, and is not asked again.
    without_web: bool,
}

/// One page.
#[derive(Default)]
struct Page {
    /// What happened, by change.
    found: Vec<Vec<Recovered>>,
    /// Lines of changes that REST has more to say about.
    waiting: Vec<Vec<u8>>,
    waiting_bytes: usize,
    /// The changes in it.
    changes: Vec<i64>,
    /// The newest change, by the server's clock.
    newest: Option<Timestamp>,
    rows: u32,
    more: bool,
}

impl Pass {
    /// Asks page by page. A change that moves up meanwhile pushes others down: some come twice, none is skipped.
    async fn run(mut self) -> Result<Option<Timestamp>> {
        let (mut start, mut newest) = (0, None);
        loop {
            let page = RetryPolicy::UNTIL_SUCCESS.run("gerrit::recover", || self.page(start)).await?;
            self.told.extend(&page.changes);
            for found in page.found {
                self.send(found).await?;
            }
            for line in page.waiting {
                let found = self.with_times(&line).await;
                self.send(found).await?;
            }
            newest = newest.max(page.newest);
            start += page.rows;
            if !page.more || page.rows == 0 {
                return Ok(newest);
            }
        }
    }

    async fn page(&self, start: u32) -> Result<Page> {
        let mut page = Page::default();
        let web = self.gerrit.web().filter(|_| !self.without_web);
        let mut take = |line: &[u8], row: &WireChange<'_>| {
            page.newest = page.newest.max(convert::seconds(row.last_updated.0));
            let Some(number) = row.number.0.filter(|number| !self.told.contains(number)) else { return };
            page.changes.push(number);
            if !self.interest.wants_place(row.project.as_str(), row.branch.as_str()) {
                return;
            }
            let fits = page.waiting_bytes + line.len() <= MAX_WAITING;
            if web.is_some() && fits && has_loose_texts(row, self.horizon) {
                page.waiting_bytes += line.len();
                page.waiting.push(line.to_vec());
            } else {
                page.found.push(self.read(row, None));
            }
        };
        let reply = self.gerrit.touched(self.horizon, start, &mut take).await?;
        (page.rows, page.more) = (reply.rows, reply.more);
        Ok(page)
    }

    /// What happened to a change, of interest to us.
    fn read(&self, row: &WireChange<'_>, written: Option<&[Written]>) -> Vec<Recovered> {
        match recover::happenings(row, self.horizon, self.first_start, written) {
            Ok(found) => {
                found.into_iter().filter(|found| self.interest.wants(&found.happening.what)).collect()
            }
            Err(error) => {
                tracing::warn!("a change in a query's reply is passed by: {error}");
                Vec::new()
            }
        }
    }

    /// The same, with the times that REST tells.
    async fn with_times(&mut self, line: &[u8]) -> Vec<Recovered> {
        // It could be read a moment ago.
        let Ok(Row::Change(row)) = read_row(line) else { return Vec::new() };
        let written = self.written(&row).await;
        self.read(&row, written.as_deref())
    }

    /// None where REST has no answer: the query alone must do.
    async fn written(&mut self, row: &WireChange<'_>) -> Option<Vec<Written>> {
        let gerrit = Arc::clone(&self.gerrit);
        let web = gerrit.web().filter(|_| !self.without_web)?;
        let change = convert::change(row).ok()?;
        match web.comments(&change.project, change.number).await {
            Ok(written) => {
                web.is_news(false);
                Some(written)
            }
            // Ours to see, and not everybody's.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                self.without_web = true;
                tell(web, &error);
                None
            }
        }
    }

    async fn send(&self, found: Vec<Recovered>) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let gone = |_| Error::permanent(ErrorKind::Cancelled, "nobody waits for the answer");
        self.sender.send(found).await.map_err(gone)
    }
}

/// Once, until it answers again.
fn tell(web: &Web, error: &Error) {
    if web.is_news(true) {
        tracing::warn!("REST does not tell when comments were written, going on with SSH alone: {error}");
    }
}
