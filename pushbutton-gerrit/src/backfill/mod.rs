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

/// Runs one backfill at a time: on request, and when none was requested for a while. After each there is a pause, so that
/// events which need a query cost Gerrit a bounded number of them, however many come.
#[derive(Debug)]
pub(crate) struct BackfillScheduler {
    every: Duration,
    pause: Duration,
    due: Instant,
    /// The end of the pause after the last one.
    not_before: Instant,
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
    /// None runs; the first is due after `every`, and may be requested at once.
    pub(crate) fn new(every: Duration, pause: Duration) -> Self {
        let now = Instant::now();
        let pause = pause.min(every);
        Self { every, pause, due: now + every, not_before: now, running: None, is_requested: false }
    }

    /// When the running one began.
    pub(crate) fn began(&self) -> Option<Timestamp> {
        self.running.as_ref().map(|backfill| backfill.began)
    }

    /// Starts one now, or makes one due after the running one and the pause after it.
    pub(crate) fn request(&mut self, start: impl FnOnce() -> Backfill) {
        let now = Instant::now();
        if self.running.is_some() {
            self.due = now + self.every;
            self.is_requested = true;
        } else if now < self.not_before {
            self.due = self.not_before;
        } else {
            self.due = now + self.every;
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
        self.not_before = Instant::now() + self.pause;
        Some(BackfillEnd { result, verified, is_requested: std::mem::take(&mut self.is_requested) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// core.md S3-11.
    #[tokio::test(start_paused = true)]
    async fn requests_without_end_make_a_bounded_number_of_queries_and_the_last_one_is_answered() {
        let mut scheduler = BackfillScheduler::new(Duration::from_secs(300), Duration::from_secs(10));
        let (began, mut started) = (Instant::now(), Vec::new());
        let mut last_request = began;
        while began.elapsed() < Duration::from_secs(60) {
            last_request = Instant::now();
            scheduler.request(|| {
                started.push(Instant::now());
                Backfill::without_events()
            });
            let item = tokio::time::timeout(Duration::from_millis(100), scheduler.next()).await;
            if let Ok(BackfillItem::Ended) = item {
                scheduler.ended().await;
            }
        }
        assert_eq!(started[0], began, "the first one is not delayed");
        assert!((6..=7).contains(&started.len()), "{started:?}");
        while !matches!(scheduler.next().await, BackfillItem::Due) {
            scheduler.ended().await;
        }
        assert!(last_request.elapsed() <= Duration::from_secs(10), "the last request is not forgotten");
        scheduler.request(|| {
            started.push(Instant::now());
            Backfill::without_events()
        });
        assert!(started.last().is_some_and(|at| *at >= last_request));
    }
}
