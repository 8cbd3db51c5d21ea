//! [`EventSource`] over Gerrit: the event stream, and backfill for what the stream may have missed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::{Event, EventSource, EventStore, Position, Result, StreamMonitor};

use crate::backfill::{Backfill, BackfillItem, BackfillScheduler};
use crate::client::Gerrit;
use crate::deduplication::{Dedup, Deduplicator};
use crate::event_filter::EventFilter;
use crate::position::PositionTracker;
use crate::raw_event::RawEvent;
use crate::stream::{EventStream, StreamItem};

/// The events of a Gerrit, live, with those that the stream missed. See the crate's documentation for an example.
///
/// It owns its position: it reads it from the event store at the start, and [`commit`](EventSource::commit) writes it
/// there.
///
/// # Backfill
/// After each connection, when the server says that it dropped events, when a line of the stream may be several comments
/// that the server joined, and every few minutes, a query asks for the changes that were updated since the last time at
/// which nothing was missing. Until it is complete, events have the position from before the gap, so that a restart asks
/// again. After each query there is a pause, whatever events come.
///
/// # Cancel safety
/// A dropped `next` or `commit` loses no event: what was received stays in this value.
pub struct GerritSource {
    gerrit: Arc<Gerrit>,
    store: Arc<dyn EventStore>,
    filter: EventFilter,
    dedup: Deduplicator,
    pending: VecDeque<Pending>,
    running: Option<Running>,
    monitor: StreamMonitor,
}

/// An event that has no id yet.
struct Pending {
    event: RawEvent,
    /// Of an event from backfill, which of the equal comments it is. None: it is from the stream.
    nth: Option<u32>,
}

struct Running {
    stream: EventStream,
    /// Whether the stream was open since the start.
    is_connected: bool,
    backfill: BackfillScheduler,
    position: PositionTracker,
}

impl GerritSource {
    /// The events of this server that pass the filter, from the position in this store on. Connects with the first
    /// `next`.
    pub fn new(gerrit: Arc<Gerrit>, store: impl EventStore + 'static, filter: EventFilter) -> Self {
        let store: Arc<dyn EventStore> = Arc::new(store);
        let dedup = Deduplicator::new(Arc::clone(&store));
        let (pending, monitor) = (VecDeque::new(), StreamMonitor::default());
        Self { gerrit, store, filter, dedup, pending, running: None, monitor }
    }

    /// Says here how the connection of the stream is, and with what it is lost.
    #[must_use]
    pub fn with_monitor(mut self, monitor: StreamMonitor) -> Self {
        self.monitor = monitor;
        self
    }

    /// Reads the position, or saves one at the very first start, and starts the stream.
    async fn start(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let position = match self.store.position().await? {
            Some(position) => position,
            None => {
                let position = PositionTracker::first(Timestamp::now());
                self.store.commit(&position).await?;
                position
            }
        };
        let settings = &self.gerrit.config().backfill;
        self.running = Some(Running {
            stream: EventStream::start(Arc::clone(&self.gerrit), self.filter.clone(), self.monitor.clone()),
            is_connected: false,
            backfill: BackfillScheduler::new(settings.every.0, settings.pause.0),
            position: PositionTracker::new(&position, settings.overlap.0),
        });
        Ok(())
    }

    /// The next pending event that is new.
    async fn next_pending(&mut self) -> Result<Option<Event>> {
        while let Some(Pending { event, nth }) = self.pending.front() {
            let dedup = match nth {
                None => self.dedup.check_streamed(event).await?,
                Some(nth) => self.dedup.check_backfilled(event, *nth).await?,
            };
            // Nothing is awaited from here to the return, so a dropped call loses nothing.
            let Some(Pending { event, nth }) = self.pending.pop_front() else { break };
            let id = match dedup {
                Dedup::New(id) => id,
                Dedup::Duplicate => continue,
                // A backfill finds this event, too, with its count, and then it is new or a duplicate.
                Dedup::Ambiguous(_) => {
                    self.backfill_gap();
                    continue;
                }
            };
            let Some(running) = &mut self.running else { break };
            let began = running.backfill.began().filter(|_| nth.is_some());
            if began.is_some_and(|began| running.position.is_missing_in_stream(event.at, began)) {
                running.stream.reconnect.notify_one();
            }
            let position = running.position.pass_on(event.at);
            let event = Event::new(id, position, event.kind.into(), event.change, event.patchset);
            return Ok(Some(event));
        }
        Ok(None)
    }

    /// Waits until the stream or backfill brings something.
    async fn receive(&mut self) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        tokio::select! {
            item = running.stream.items.recv() => match item {
                Some(StreamItem::Batch(batch, _room)) => {
                    if batch.dropped {
                        tracing::warn!("the server dropped events; starting a backfill");
                        self.backfill_gap();
                    }
                    if let (Some(running), Some(newest)) = (&mut self.running, batch.newest) {
                        running.position.stream_reached(newest);
                    }
                    if batch.joined {
                        self.start_backfill();
                    }
                    self.pending.extend(batch.events.into_iter().map(|event| Pending { event, nth: None }));
                }
                Some(StreamItem::Connected) => {
                    running.is_connected = true;
                    self.backfill_gap();
                }
                Some(StreamItem::Refused(error)) => return Err(error),
                // The reader ends only after this source; if it ends otherwise, it is started again.
                None => self.running = None,
            },
            item = running.backfill.next() => match item {
                BackfillItem::Events(found) => {
                    let pending = |found: crate::backfill::BackfilledEvent| Pending { event: found.event, nth: Some(found.nth) };
                    self.pending.extend(found.into_iter().map(pending));
                }
                BackfillItem::Ended => self.finish_backfill().await?,
                BackfillItem::Due => self.start_backfill(),
            },
        }
        Ok(())
    }

    /// Events may be missing from now on: backfills them.
    fn backfill_gap(&mut self) {
        if let Some(running) = &mut self.running {
            running.position.open_gap();
        }
        self.start_backfill();
    }

    fn start_backfill(&mut self) {
        let Some(Running { backfill, position, .. }) = &mut self.running else { return };
        backfill.request(|| {
            self.dedup.begin_backfill();
            tracing::debug!(since = %position.horizon(), "starting a backfill");
            Backfill::start(&self.gerrit, &self.filter, position)
        });
    }

    /// After all events of a backfill were passed on: updates the position, and saves it if there is nothing else to
    /// do.
    async fn finish_backfill(&mut self) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Some(ended) = running.backfill.ended().await else { return Ok(()) };
        match ended.result {
            Ok(newest) => {
                let closes_gap = !ended.is_requested && running.is_connected;
                running.position.backfilled(ended.verified, newest, closes_gap);
            }
            Err(error) => tracing::error!("the backfill failed and will be retried: {error}"),
        }
        if ended.is_requested {
            self.start_backfill();
        } else if let Some(position) = running.position.idle() {
            self.store.commit(&position).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl EventSource for GerritSource {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            self.start().await?;
            if let Some(event) = self.next_pending().await? {
                return Ok(Some(event));
            }
            self.receive().await?;
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        self.store.commit(position).await?;
        if let Some(running) = &mut self.running {
            running.position.committed(position);
        }
        Ok(())
    }
}

impl fmt::Debug for GerritSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GerritSource")
            .field("server", &self.gerrit.config().host)
            .field("pending", &self.pending.len())
            .field("position", &self.running.as_ref().map(|running| &running.position))
            .finish_non_exhaustive()
    }
}
