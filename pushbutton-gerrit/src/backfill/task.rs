//! One backfill, in a task of its own: reads the updated changes page by page.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use pushbutton_core::retry::RetryPolicy;
use pushbutton_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::change_events::{BackfilledEvent, backfilled_events};
use super::review_actions::has_undated_comments;
use crate::client::Gerrit;
use crate::client::query::{QueryStats, Row, read_row};
use crate::client::rest_comments::CommentTime;
use crate::event_filter::EventFilter;
use crate::position::PositionTracker;
use crate::raw_event;
use crate::wire::WireChange;

/// How many bytes of one page may wait for REST to date the comments in them. The rest is read without REST.
const MAX_WAITING: usize = 32 << 20;

/// A running backfill.
#[derive(Debug)]
pub(crate) struct Backfill {
    pub(super) events: mpsc::Receiver<Vec<BackfilledEvent>>,
    task: JoinHandle<Result<Option<Timestamp>>>,
    /// The newest time of Gerrit's clock that was known when it began.
    pub(super) verified: Timestamp,
    pub(super) began: Timestamp,
}

impl Backfill {
    /// Asks for the events from the position's horizon on.
    pub(crate) fn start(gerrit: &Arc<Gerrit>, filter: &EventFilter, position: &PositionTracker) -> Self {
        let (sender, events) = mpsc::channel(4);
        let task = Task {
            gerrit: Arc::clone(gerrit),
            filter: filter.clone(),
            horizon: position.horizon(),
            first_start: position.first_start(),
            sender,
            done: HashSet::new(),
            without_rest: false,
        };
        Self { events, task: tokio::spawn(task.run()), verified: position.newest(), began: Timestamp::now() }
    }

    /// One that finds nothing.
    #[cfg(test)]
    pub(super) fn without_events() -> Self {
        let (_, events) = mpsc::channel(1);
        let task = tokio::spawn(async { Ok(None) });
        Self { events, task, verified: Timestamp::UNIX_EPOCH, began: Timestamp::UNIX_EPOCH }
    }

    /// How it ended: with the newest time of Gerrit's clock that it saw. Cancel-safe; to be called once.
    pub(super) async fn result(&mut self) -> Result<Option<Timestamp>> {
        (&mut self.task).await.unwrap_or_else(|error| {
            Err(Error::temporary(ErrorKind::Unexpected, "the backfill was interrupted").because(error))
        })
    }
}

impl Drop for Backfill {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    gerrit: Arc<Gerrit>,
    filter: EventFilter,
    horizon: Timestamp,
    first_start: Timestamp,
    sender: mpsc::Sender<Vec<BackfilledEvent>>,
    /// Changes that were read. What happens on one of them later is for the next backfill.
    done: HashSet<i64>,
    /// REST has failed, and is not tried again in this backfill.
    without_rest: bool,
}

/// One page of the reply.
#[derive(Default)]
struct Page {
    /// The events of each change.
    events: Vec<Vec<BackfilledEvent>>,
    /// Lines of changes whose comments REST must date.
    waiting: Vec<String>,
    waiting_bytes: usize,
    /// The changes in it.
    changes: Vec<i64>,
    /// The newest time of an update, by Gerrit's clock.
    newest: Option<Timestamp>,
}

impl Task {
    /// Reads all pages, and returns the newest time of an update. A change that is updated meanwhile moves to the
    /// first page and pushes others to later pages: some come twice, none is skipped.
    async fn run(mut self) -> Result<Option<Timestamp>> {
        let (mut start, mut newest) = (0, None);
        loop {
            let (page, stats) =
                RetryPolicy::UNTIL_SUCCESS.run("gerrit::backfill", || self.page(start)).await?;
            self.done.extend(&page.changes);
            for events in page.events {
                self.send(events).await?;
            }
            for line in page.waiting {
                let events = self.read_with_rest(&line).await;
                self.send(events).await?;
            }
            newest = newest.max(page.newest);
            start += stats.rows;
            if !stats.more || stats.rows == 0 {
                return Ok(newest);
            }
        }
    }

    async fn page(&self, start: u32) -> Result<(Page, QueryStats)> {
        let mut page = Page::default();
        let has_rest = self.gerrit.rest().is_some() && !self.without_rest;
        let mut add = |line: &str, row: &WireChange<'_>| {
            page.newest = page.newest.max(raw_event::seconds(row.last_updated.0));
            let Some(number) = row.number.0.filter(|number| !self.done.contains(number)) else { return };
            page.changes.push(number);
            if !self.filter.matches_project(row.project.as_str(), row.branch.as_str()) {
                return;
            }
            let fits = page.waiting_bytes + line.len() <= MAX_WAITING;
            if has_rest && fits && has_undated_comments(row, self.horizon) {
                page.waiting_bytes += line.len();
                page.waiting.push(line.to_owned());
            } else {
                page.events.push(self.read(row, None));
            }
        };
        let stats = self.gerrit.updated_since(self.horizon, start, &mut add).await?;
        Ok((page, stats))
    }

    /// The events of a change that pass the filter.
    fn read(&self, row: &WireChange<'_>, comment_times: Option<&[CommentTime]>) -> Vec<BackfilledEvent> {
        match backfilled_events(row, self.horizon, self.first_start, comment_times) {
            Ok(events) => events.into_iter().filter(|found| self.filter.matches(&found.event.kind)).collect(),
            Err(error) => {
                tracing::warn!("skipping a change in a query reply: {error}");
                Vec::new()
            }
        }
    }

    /// The same, with the times of comments from REST.
    async fn read_with_rest(&mut self, line: &str) -> Vec<BackfilledEvent> {
        // The line was parsed before; its text is kept, because the row borrows from it.
        let Ok(Row::Change(row)) = read_row(line) else { return Vec::new() };
        let times = self.comment_times(&row).await;
        self.read(&row, times.as_deref())
    }

    /// None if REST has no answer: then the query alone is used.
    async fn comment_times(&mut self, row: &WireChange<'_>) -> Option<Vec<CommentTime>> {
        let rest = self.gerrit.rest().filter(|_| !self.without_rest)?;
        let change = raw_event::change(row).ok()?;
        match rest.comments(&change.project, change.number).await {
            Ok(times) => {
                rest.set_down(false);
                Some(times)
            }
            // The account may see the change, but the public may not.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                self.without_rest = true;
                if rest.set_down(true) {
                    tracing::warn!("REST does not date comments, continuing with SSH alone: {error}");
                }
                None
            }
        }
    }

    async fn send(&self, events: Vec<BackfilledEvent>) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let dropped = |_| Error::permanent(ErrorKind::Cancelled, "the source was dropped");
        self.sender.send(events).await.map_err(dropped)
    }
}
