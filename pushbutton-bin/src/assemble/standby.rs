//! The ingest half's source and event store. With RabbitMQ one handler is the leader, which takes events; the others
//! stand by. When triggers are replaced, the stream is opened anew.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_amqp::{AmqpEventStore, LeaderElection, Leadership};
use pushbutton_core::retry::Backoff;
use pushbutton_core::{
    Current, Event, EventSource, EventStore, Position, Result, StreamMonitor, StreamState, Triggers,
};
use pushbutton_gerrit::{EventFilter, Gerrit, GerritSource};
use pushbutton_store::{Store, StoreEvents};
use tokio::sync::watch;
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
    triggers: &Current<Triggers>,
    monitor: StreamMonitor,
) -> (Box<dyn EventSource>, Arc<dyn EventStore>) {
    let upstream = Upstream { gerrit: Arc::clone(gerrit), triggers: triggers.watch(), monitor };
    let Some(amqp) = &backend.amqp else {
        let events: Arc<dyn EventStore> = Arc::new(store.events());
        return (Box::new(Intake::new(upstream, Arc::clone(&events))), events);
    };
    let events = amqp.event_store();
    let standby = Standby {
        election: amqp.leader_election(),
        events: events.clone(),
        former: store.events(),
        intake: Intake::new(upstream, Arc::new(events.clone())),
        leadership: None,
        is_imported: false,
        waiting: None,
        pause_until: Instant::now(),
        backoff: Backoff::new(FIRST_DELAY, DELAY_CAP),
    };
    (Box::new(standby), Arc::new(events))
}

struct Upstream {
    gerrit: Arc<Gerrit>,
    /// The server, and later its backfill, is asked only for what these need.
    triggers: watch::Receiver<Arc<Triggers>>,
    monitor: StreamMonitor,
}

impl Upstream {
    fn open(&mut self, events: Arc<dyn EventStore>) -> GerritSource {
        tracing::info!("watching {}", self.gerrit.config().host);
        let filter = EventFilter::for_triggers(Arc::clone(&self.triggers.borrow_and_update()));
        GerritSource::new(Arc::clone(&self.gerrit), events, filter).with_monitor(self.monitor.clone())
    }
}

/// The events that the triggers of now need. When they are replaced, a new source begins at the position in the event
/// store, as after a restart: what the old one had not passed on comes again.
struct Intake {
    upstream: Upstream,
    events: Arc<dyn EventStore>,
    source: Option<GerritSource>,
}

impl Intake {
    fn new(upstream: Upstream, events: Arc<dyn EventStore>) -> Self {
        Self { upstream, events, source: None }
    }

    /// Closes the stream. The next call of `next` opens another.
    fn close(&mut self) {
        self.source = None;
    }
}

#[async_trait]
impl EventSource for Intake {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let source = match &mut self.source {
                Some(source) => source,
                none => none.insert(self.upstream.open(Arc::clone(&self.events))),
            };
            tokio::select! {
                biased;
                // Without a sender there are no others.
                Ok(()) = self.upstream.triggers.changed() => {
                    tracing::info!("the triggers have changed: the event stream is opened anew");
                }
                next = source.next() => return next,
            }
            self.close();
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        match &mut self.source {
            Some(source) => source.commit(position).await,
            None => Ok(()),
        }
    }
}

/// Takes events while this handler is the leader. Each leadership opens a new source, which starts at the position in
/// the event store.
struct Standby {
    election: LeaderElection,
    events: AmqpEventStore,
    /// Where events were remembered before there was a RabbitMQ.
    former: StoreEvents,
    /// Open only with a leadership.
    intake: Intake,
    leadership: Option<Leadership>,
    is_imported: bool,
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
        self.intake.upstream.monitor.set(StreamState::Standby, None);
        tokio::time::sleep_until(self.pause_until).await;
        let waiting = self.waiting.get_or_insert_with(|| Waiting { since: Instant::now(), logged: false });
        loop {
            tokio::select! {
                leadership = self.election.lead() => {
                    self.waiting = None;
                    self.intake.upstream.monitor.set(StreamState::Connecting, None);
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
        intake: &mut Intake,
        is_imported: &mut bool,
        events: &AmqpEventStore,
        former: &StoreEvents,
    ) -> Result<Option<Event>> {
        if !*is_imported {
            import(events, former).await?;
            *is_imported = true;
        }
        intake.next().await
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
                taken = Self::take(&mut self.intake, &mut self.is_imported, &self.events, &self.former) => Some(taken),
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
            self.intake.close();
            (self.leadership, self.is_imported) = (None, false);
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        // Positions of an earlier leadership belong to a source that is gone: its successor reads the events again.
        self.intake.commit(position).await
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
