//! Backfill: finds events that the stream missed, by a query for the changes that were updated since.
//!
//! This file decides when; `task` runs one backfill, page by page; `change_events` reads the events from one change
//! of the reply, and `review_actions` who commented and voted on a patch set of it.

use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::Result;
use tokio::time::Instant;

pub(crate) use change_events::BackfilledEvent;
pub(crate) use task::Backfill;

pub(crate) mod change_events;
mod review_actions;
mod task;

/// Runs one backfill at a time: on request, and when none was requested for a while.
#[derive(Debug)]
pub(crate) struct BackfillScheduler {
    every: Duration,
    due: Instant,
    running: Option<Backfill>,
    /// Requested while one was running, which may have missed what the request is for.
    is_requested: bool,
}

#[derive(Debug)]
pub(crate) enum BackfillItem {
    /// None was requested for a while: one should be started.
    Due,
    Events(Vec<BackfilledEvent>),
    /// It has passed on all its events.
    Ended,
}

/// How a backfill ended.
pub(crate) struct BackfillEnd {
    /// The newest time of Gerrit's clock that it saw.
    pub(crate) result: Result<Option<Timestamp>>,
    pub(crate) verified: Timestamp,
    /// Another one was requested meanwhile.
    pub(crate) is_requested: bool,
}

impl BackfillScheduler {
    /// None runs; the first is due after this time.
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, due: Instant::now() + every, running: None, is_requested: false }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// When the running one began.
    pub(crate) fn began(&self) -> Option<Timestamp> {
        self.running.as_ref().map(|backfill| backfill.began)
    }

    /// Starts one, now or when the running one has ended.
    pub(crate) fn request(&mut self, start: impl FnOnce() -> Backfill) {
        self.due = Instant::now() + self.every;
        if self.running.is_some() {
            self.is_requested = true;
        } else {
            self.running = Some(start());
        }
    }

    /// What comes next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> BackfillItem {
        match &mut self.running {
            Some(backfill) => backfill.events.recv().await.map_or(BackfillItem::Ended, BackfillItem::Events),
            None => {
                tokio::time::sleep_until(self.due).await;
                BackfillItem::Due
            }
        }
    }

    /// Takes the result after [`BackfillItem::Ended`]. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Option<BackfillEnd> {
        let backfill = self.running.as_mut()?;
        let (result, verified) = (backfill.result().await, backfill.verified);
        self.running = None;
        Some(BackfillEnd { result, verified, is_requested: std::mem::take(&mut self.is_requested) })
    }
}
