//! The ingest half's source and event store. With RabbitMQ one handler is the leader, which takes events; the others
//! stand by.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_amqp::{AmqpEventStore, LeaderElection, Leadership};
use pushbutton_core::retry::Backoff;
use pushbutton_core::{
    Event, EventSource, EventStore, Position, Result, StreamMonitor, StreamState, Triggers,
};
use pushbutton_gerrit::{EventFilter, Gerrit, GerritSource};
use pushbutton_store::{Store, StoreEvents};
use tokio::time::Instant;

use super::QueueBackend;

/// A handler that stands by for longer logs why.
const LOG_AFTER: Duration = Duration::from_secs(1);
/// How many seen events of a state folder are imported when an installation gets its RabbitMQ.
const MAX_IMPORTED: u32 = 50_000;
/// Delays between attempts after a temporary error.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const DELAY_CAP: Duration = Duration::from_secs(30);

/// Where the ingest half takes events from, and where it remembers them.
pub(crate) fn source(
    backend: &QueueBackend,
    store: &Store,
    gerrit: &Arc<Gerrit>,
    triggers: &Triggers,
    monitor: StreamMonitor,
) -> (Box<dyn EventSource>, Arc<dyn EventStore>) {
    let upstream = Upstream { gerrit: Arc::clone(gerrit), triggers: Arc::new(triggers.clone()), monitor };
    let Some(amqp) = &backend.amqp else {
        let events = Arc::new(store.events());
        return (Box::new(upstream.open(events.clone())), events);
    };
    let events = amqp.event_store();
    let standby = Standby {
        election: amqp.leader_election(),
        events: events.clone(),
        former: store.events(),
        upstream,
        leadership: None,
        source: None,
        waiting: None,
        pause_until: Instant::now(),
        backoff: Backoff::new(FIRST_DELAY, DELAY_CAP),
    };
    (Box::new(standby), Arc::new(events))
}

struct Upstream {
    gerrit: Arc<Gerrit>,
    triggers: Arc<Triggers>,
    monitor: StreamMonitor,
}

impl Upstream {
    fn open(&self, events: Arc<dyn EventStore>) -> GerritSource {
        tracing::info!("watching {}", self.gerrit.config().host);
        let filter = EventFilter::for_triggers(Arc::clone(&self.triggers));
        GerritSource::new(Arc::clone(&self.gerrit), events, filter).with_monitor(self.monitor.clone())
    }
}

/// Takes events while this handler is the leader. Each leadership opens a new source, which starts at the position in
/// the event store.
struct Standby {
    election: LeaderElection,
    events: AmqpEventStore,
    /// Where events were remembered before there was a RabbitMQ.
    former: StoreEvents,
    upstream: Upstream,
    leadership: Option<Leadership>,
    /// Only with a leadership.
    source: Option<GerritSource>,
    waiting: Option<Waiting>,
    pause_until: Instant,
    backoff: Backoff,
}

#[derive(Clone, Copy)]
struct Waiting {
    since: Instant,
    logged: bool,
}

impl Standby {
    /// Waits for the leadership. A dropped call can be repeated.
    async fn stand_by(&mut self) -> Result<Leadership> {
        self.upstream.monitor.set(StreamState::Standby, None);
        tokio::time::sleep_until(self.pause_until).await;
        let waiting = self.waiting.get_or_insert_with(|| Waiting { since: Instant::now(), logged: false });
        loop {
            tokio::select! {
                leadership = self.election.lead() => {
                    self.waiting = None;
                    self.upstream.monitor.set(StreamState::Connecting, None);
                    return leadership;
                }
                () = tokio::time::sleep_until(waiting.since + LOG_AFTER), if !waiting.logged => {
                    waiting.logged = true;
                    tracing::info!("standing by: another handler is active, or was until a moment ago");
                }
            }
        }
    }

    /// The next event of the leader's source.
    async fn take(
        source: &mut Option<GerritSource>,
        upstream: &Upstream,
        events: &AmqpEventStore,
        former: &StoreEvents,
    ) -> Result<Option<Event>> {
        let source = match source {
            Some(source) => source,
            none => {
                import(events, former).await?;
                none.insert(upstream.open(Arc::new(events.clone())))
            }
        };
        source.next().await
    }
}

#[async_trait]
impl EventSource for Standby {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let leadership = match &mut self.leadership {
                Some(leadership) => leadership,
                None => {
                    self.leadership = Some(self.stand_by().await?);
                    continue;
                }
            };
            let taken = tokio::select! {
                biased;
                () = leadership.lost() => None,
                taken = Self::take(&mut self.source, &self.upstream, &self.events, &self.former) => Some(taken),
            };
            match taken {
                Some(Err(error)) if error.is_temporary() => {
                    // Without the broker the event store cannot answer. Whoever leads next goes on from its position.
                    let delay = self.backoff.next_delay();
                    tracing::warn!(?delay, "intake stops, and will start again: {error}");
                    self.pause_until = Instant::now() + delay;
                }
                Some(taken) => {
                    self.backoff.reset();
                    return taken;
                }
                None => tracing::warn!(
                    "this handler is no longer the leader: RabbitMQ cannot be reached, or another one leads; intake stops"
                ),
            }
            (self.source, self.leadership) = (None, None);
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        // Positions of an earlier leadership belong to a source that is gone: its successor reads the events again.
        match &mut self.source {
            Some(source) => source.commit(position).await,
            None => Ok(()),
        }
    }
}

/// Imports what the state folder remembers, once: when RabbitMQ remembers nothing yet.
async fn import(events: &AmqpEventStore, former: &StoreEvents) -> Result<()> {
    if events.position().await?.is_some() {
        return Ok(());
    }
    let Some(position) = former.position().await? else { return Ok(()) };
    let seen = former.recent(MAX_IMPORTED).await?;
    tracing::info!(events = seen.len(), since = %position.at, "importing seen events of the state folder into RabbitMQ");
    events.import(&seen, Some(position)).await
}
