//! The ingest half's source and ledger. With RabbitMQ, handlers stand by for each other: one takes events, the others wait for their turn.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_amqp::{ActiveTurn, AmqpLedger, AmqpTurn};
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Event, EventSource, EventStore, Position, Result, Triggers};
use pushbutton_gerrit::{Gerrit, GerritSource, Interest};
use pushbutton_store::{Store, StoreLedger};
use tokio::time::Instant;

use super::Carrier;

/// Who waits for longer is told why.
const SAY_AFTER: Duration = Duration::from_secs(1);
/// How many seen events an installation that had no RabbitMQ may bring along.
const BROUGHT_ALONG: u32 = 50_000;
/// Pauses between attempts with a source that failed for the moment.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the ingest half takes events from, and remembers them in.
pub(crate) fn intake(
    carrier: &Carrier,
    store: &Store,
    gerrit: &Arc<Gerrit>,
    triggers: &Triggers,
) -> (Source, Arc<dyn EventStore>) {
    let upstream = Upstream { gerrit: Arc::clone(gerrit), triggers: Arc::new(triggers.clone()) };
    match carrier {
        Carrier::Broker(queue) => {
            let ledger = queue.ledger();
            let standby = Standby {
                candidate: queue.turn(),
                ledger: ledger.clone(),
                former: store.ledger(),
                upstream,
                turn: None,
                source: None,
                waiting: None,
                pause_until: Instant::now(),
                backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            };
            (Source::StandingBy(Box::new(standby)), Arc::new(ledger))
        }
        Carrier::File(_) => {
            let ledger = Arc::new(store.ledger());
            (Source::Alone(Box::new(upstream.open(ledger.clone()))), ledger)
        }
    }
}

/// Events, for one handler alone or for one of many.
pub(crate) enum Source {
    Alone(Box<GerritSource>),
    StandingBy(Box<Standby>),
}

#[async_trait]
impl EventSource for Source {
    async fn next(&mut self) -> Result<Option<Event>> {
        match self {
            Self::Alone(source) => source.next().await,
            Self::StandingBy(standby) => standby.next().await,
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        match self {
            Self::Alone(source) => source.commit(position).await,
            Self::StandingBy(standby) => standby.commit(position).await,
        }
    }
}

struct Upstream {
    gerrit: Arc<Gerrit>,
    triggers: Arc<Triggers>,
}

impl Upstream {
    fn open(&self, ledger: Arc<dyn EventStore>) -> GerritSource {
        tracing::info!("watching {}", self.gerrit.config().host);
        GerritSource::new(Arc::clone(&self.gerrit), ledger, Interest::of(Arc::clone(&self.triggers)))
    }
}

/// Takes events while it is our turn. With each turn comes a fresh source, which goes on from where the ledger stands.
pub(crate) struct Standby {
    candidate: AmqpTurn,
    ledger: AmqpLedger,
    /// Where the position was kept before there was a RabbitMQ.
    former: StoreLedger,
    upstream: Upstream,
    turn: Option<ActiveTurn>,
    /// Only with a turn.
    source: Option<GerritSource>,
    waiting: Option<Waiting>,
    pause_until: Instant,
    backoff: Backoff,
}

#[derive(Clone, Copy)]
struct Waiting {
    since: Instant,
    said: bool,
}

impl Standby {
    /// Waits for our turn. A dropped call keeps its place in line.
    async fn stand_by(&mut self) -> Result<ActiveTurn> {
        tokio::time::sleep_until(self.pause_until).await;
        let waiting = self.waiting.get_or_insert_with(|| Waiting { since: Instant::now(), said: false });
        loop {
            tokio::select! {
                turn = self.candidate.take() => {
                    self.waiting = None;
                    return turn;
                }
                () = tokio::time::sleep_until(waiting.since + SAY_AFTER), if !waiting.said => {
                    waiting.said = true;
                    tracing::info!("standing by: another handler is active, or was until a moment ago");
                }
            }
        }
    }

    /// The next event of our turn.
    async fn take(
        source: &mut Option<GerritSource>,
        upstream: &Upstream,
        ledger: &AmqpLedger,
        former: &StoreLedger,
    ) -> Result<Option<Event>> {
        let source = match source {
            Some(source) => source,
            none => {
                bring_along(ledger, former).await?;
                none.insert(upstream.open(Arc::new(ledger.clone())))
            }
        };
        source.next().await
    }

    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let turn = match &mut self.turn {
                Some(turn) => turn,
                None => {
                    self.turn = Some(self.stand_by().await?);
                    continue;
                }
            };
            let taken = tokio::select! {
                biased;
                () = turn.lost() => None,
                taken = Self::take(&mut self.source, &self.upstream, &self.ledger, &self.former) => Some(taken),
            };
            match taken {
                Some(Err(error)) if error.is_temporary() => {
                    // With the broker away the ledger cannot be asked; whoever can goes on from where it stands.
                    let pause = self.backoff.next_delay();
                    tracing::warn!(?pause, "intake stops, and starts again: {error}");
                    self.pause_until = Instant::now() + pause;
                }
                Some(taken) => {
                    self.backoff.reset();
                    return taken;
                }
                None => tracing::warn!(
                    "this handler's turn is over: RabbitMQ is away, or has another one active; intake stops"
                ),
            }
            (self.source, self.turn) = (None, None);
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        // The handler has told the ledger. A source of an earlier turn is not there to be told.
        match &mut self.source {
            Some(source) => source.commit(position).await,
            None => Ok(()),
        }
    }
}

/// Takes over what was remembered in the store, once: when RabbitMQ remembers nothing yet.
async fn bring_along(ledger: &AmqpLedger, former: &StoreLedger) -> Result<()> {
    if ledger.position().await?.is_some() {
        return Ok(());
    }
    let Some(position) = former.position().await? else { return Ok(()) };
    let seen = former.recent(BROUGHT_ALONG).await?;
    tracing::info!(events = seen.len(), since = %position.at, "RabbitMQ takes over what the state folder remembers");
    ledger.take_over(&seen, Some(position)).await
}
