//! [`EventSource`] over Gerrit: the stream, and beside it queries for what the stream may have missed.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use pushbutton_core::{Event, EventSource, EventStore, Position, Result};
use tokio::time::Instant;

use crate::catch_up::{Recovery, next_found};
use crate::client::Gerrit;
use crate::convert::Happening;
use crate::identity::{Identities, Told, kind};
use crate::interest::Interest;
use crate::recover::Recovered;
use crate::stream::{self, Item, Reading};

/// How long before the end of a recovery an event may lie and still come by the stream, rather than have been missed by it.
const STREAM_IS_LATE: SignedDuration = SignedDuration::from_secs(60);

/// The events of a Gerrit, live, with what was missed. See the crate's documentation for an example.
///
/// # Recovery
/// After each connection, when the server says that it dropped events, and every few minutes, a query asks what happened since the last time at
/// which nothing was missing. Until it has answered, events carry the position from before the gap, so that a restart asks again.
///
/// The position in the ledger lies a little behind the events (`recovery.overlap`): the stream does not keep their order.
pub struct GerritSource {
    gerrit: Arc<Gerrit>,
    ledger: Arc<dyn EventStore>,
    interest: Interest,
    identities: Identities,
    pending: VecDeque<Pending>,
    running: Option<Running>,
}

/// Something that waits for its identity.
enum Pending {
    Streamed(Happening),
    Recovered(Recovered),
}

struct Running {
    stream: Reading,
    recovery: Option<Recovery>,
    /// Something has happened since the recovery began that calls for another.
    again: bool,
    next_recovery: Instant,
    /// When we were started for the very first time: nothing older is ours.
    first_start: Timestamp,
    /// Where a gap may begin; none while nothing can be missing.
    gap: Option<Timestamp>,
    /// The position at the start of this process: nothing older comes from a query.
    start: Timestamp,
    /// The newest time of the server that we know of.
    newest: Timestamp,
    /// The newest time of the server when the last query was asked that found all there was.
    verified: Timestamp,
    /// The newest time that the stream has told of.
    streamed: Option<Timestamp>,
    /// Whether the stream has run since we started.
    is_connected: bool,
    /// Of the last event handed out, and of the last one committed.
    handed: Option<Position>,
    committed: Option<Position>,
    serial: i64,
}

impl GerritSource {
    /// The events of this server that are of interest, from where this ledger stands. Nothing is connected before the first `next`.
    pub fn new(gerrit: Arc<Gerrit>, ledger: Arc<dyn EventStore>, interest: Interest) -> Self {
        let identities = Identities::new(Arc::clone(&ledger));
        Self { gerrit, ledger, interest, identities, pending: VecDeque::new(), running: None }
    }

    /// Reads the position, or makes one at the very first start, and starts the stream.
    async fn start(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let position = match self.ledger.position().await? {
            Some(position) => position,
            None => {
                // Gerrit's times are whole seconds: what a query dates to the second in which we start may be older than we are.
                let second = Timestamp::now().as_second();
                let (now, next) = (whole_second(second), whole_second(second + 1));
                let position = Position { at: next, token: Some(first_start_token(now)) };
                self.ledger.commit(&position).await?;
                position
            }
        };
        let overlap = self.gerrit.config().recovery.overlap.0;
        let newest = position.at.checked_add(overlap).unwrap_or(position.at);
        self.running = Some(Running {
            stream: stream::start(Arc::clone(&self.gerrit), self.interest.clone()),
            recovery: None,
            again: false,
            next_recovery: Instant::now() + self.gerrit.config().recovery.every.0,
            first_start: parse_first_start(&position).unwrap_or(position.at),
            gap: Some(position.at),
            newest,
            verified: newest,
            streamed: None,
            start: position.at,
            is_connected: false,
            handed: None,
            committed: None,
            serial: 0,
        });
        Ok(())
    }

    /// The next pending happening as an event, if it is new.
    async fn settle(&mut self) -> Result<Option<Event>> {
        while let Some(next) = self.pending.front() {
            let told = match next {
                Pending::Streamed(happening) => self.identities.streamed(happening).await?,
                Pending::Recovered(found) => self.identities.recovered(&found.happening, found.nth).await?,
            };
            // From here to the return nothing waits: a dropped call loses nothing.
            let Some(next) = self.pending.pop_front() else { break };
            let id = match told {
                Told::New(id) => id,
                Told::Known => continue,
                // Whatever it is, the answer will have it, with its number.
                Told::Doubtful(_) => {
                    self.ask_again();
                    continue;
                }
            };
            let (happening, streamed) = match next {
                Pending::Streamed(happening) => (happening, true),
                Pending::Recovered(found) => (found.happening, false),
            };
            let overlap = self.gerrit.config().recovery.overlap.0;
            let Some(running) = &mut self.running else { break };
            if !streamed && running.is_overdue(happening.at) {
                // The stream says nothing, or not everything, though it seems to run.
                running.stream.reconnect.notify_one();
            }
            let position = running.position_of(happening.at, overlap);
            return Ok(Some(Event {
                id,
                position,
                change: happening.change,
                patchset: happening.patchset,
                kind: kind(happening.what),
            }));
        }
        Ok(None)
    }

    /// Waits until something is pending.
    async fn wait(&mut self) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let recovering = running.recovery.is_some();
        tokio::select! {
            item = running.stream.items.recv() => match item {
                Some(Item::Connected) => {
                    running.is_connected = true;
                    self.ask_again();
                }
                Some(Item::Dropped) => {
                    tracing::warn!("the server dropped events; asking for them");
                    self.ask_again();
                }
                Some(Item::Happened { happenings, newest, _room }) => {
                    if let Some(newest) = newest.and_then(|newest| Timestamp::from_second(newest).ok()) {
                        running.newest = running.newest.max(newest);
                        running.streamed = running.streamed.max(Some(newest));
                    }
                    self.pending.extend(happenings.into_iter().map(Pending::Streamed));
                }
                Some(Item::Refused(error)) => return Err(error),
                // The reader ends only with us; if it ever does otherwise, it is started again.
                None => self.running = None,
            },
            found = next_found(&mut running.recovery), if recovering => match found {
                Some(found) => self.pending.extend(found.into_iter().map(Pending::Recovered)),
                None => self.finish_recovery().await?,
            },
            () = tokio::time::sleep_until(running.next_recovery), if !recovering => self.recover(),
        }
        Ok(())
    }

    /// Something may be missing from here on: asks for it.
    fn ask_again(&mut self) {
        let overlap = self.gerrit.config().recovery.overlap.0;
        if let Some(running) = &mut self.running {
            running.open_gap(overlap);
        }
        self.recover();
    }

    /// Starts a recovery, or notes that one more is due.
    fn recover(&mut self) {
        let every = self.gerrit.config().recovery.every.0;
        let overlap = self.gerrit.config().recovery.overlap.0;
        let Some(running) = &mut self.running else { return };
        running.next_recovery = Instant::now() + every;
        if running.recovery.is_some() {
            running.again = true;
            return;
        }
        // Back to the last answer even where nothing seems to be missing: so a stream that has gone deaf is found.
        let verified = running.verified.checked_sub(overlap).unwrap_or(running.verified);
        let horizon = running.gap.map_or(verified, |gap| gap.min(verified)).max(running.start);
        self.identities.begin_pass();
        tracing::debug!(since = %horizon, "asking what happened");
        let (first_start, newest) = (running.first_start, running.newest);
        running.recovery = Some(Recovery::start(&self.gerrit, &self.interest, horizon, first_start, newest));
    }

    /// All that the recovery found has been handed out. (`settle` goes before `wait`.)
    async fn finish_recovery(&mut self) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Some(recovery) = &mut running.recovery else { return Ok(()) };
        let (ended, verified) = ((&mut recovery.task).await, recovery.newest);
        running.recovery = None;
        match ended {
            Ok(Ok(newest)) => {
                running.newest = running.newest.max(newest.unwrap_or(running.newest));
                running.verified = running.verified.max(verified);
                if !running.again && running.is_connected {
                    running.gap = None;
                }
            }
            Ok(Err(error)) => tracing::error!("cannot ask what was missed, will try again: {error}"),
            Err(error) => tracing::error!("asking what was missed broke off, will try again: {error}"),
        }
        if std::mem::take(&mut running.again) {
            self.recover();
            return Ok(());
        }
        self.advance().await
    }

    /// Moves the position on through a quiet time, so that a restart need not ask back to the last event that mattered.
    async fn advance(&mut self) -> Result<()> {
        let overlap = self.gerrit.config().recovery.overlap.0;
        let Some(running) = &mut self.running else { return Ok(()) };
        let is_idle = self.pending.is_empty() && running.handed == running.committed && running.gap.is_none();
        if !is_idle {
            return Ok(());
        }
        let at = running.verified.checked_sub(overlap).unwrap_or(running.verified).max(running.start);
        self.ledger.commit(&Position { at, token: Some(first_start_token(running.first_start)) }).await
    }
}

impl Running {
    /// From here on something may be missing.
    fn open_gap(&mut self, overlap: std::time::Duration) {
        let floor = self.newest.checked_sub(overlap).unwrap_or(self.newest).max(self.start);
        self.gap = Some(self.gap.map_or(floor, |gap| gap.min(floor)));
    }

    /// Whether the stream should have told of this long ago, and has told of nothing since.
    fn is_overdue(&self, at: Timestamp) -> bool {
        let silent = self.streamed.is_some_and(|streamed| streamed < at);
        let long_ago = self.recovery.as_ref().is_some_and(|recovery| at < recovery.began - STREAM_IS_LATE);
        self.gap.is_none() && silent && long_ago
    }

    /// The position of an event: behind its time, and behind the gap. Each differs from the one before, so that a commit tells which is meant.
    fn position_of(&mut self, at: Timestamp, overlap: std::time::Duration) -> Position {
        let mut floor = at.checked_sub(overlap).unwrap_or(at);
        if let Some(gap) = self.gap {
            floor = floor.min(gap);
        }
        let floor = floor.max(self.start);
        self.serial = (self.serial + 1) % 1_000_000_000;
        let second = Timestamp::from_second(floor.as_second()).unwrap_or(floor);
        let at = second.checked_add(SignedDuration::from_nanos(self.serial)).unwrap_or(second);
        let position = Position { at, token: Some(first_start_token(self.first_start)) };
        self.handed = Some(position.clone());
        position
    }
}

fn whole_second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn first_start_token(at: Timestamp) -> String {
    format!("first-start={at}")
}

fn parse_first_start(position: &Position) -> Option<Timestamp> {
    position.token.as_deref()?.strip_prefix("first-start=")?.parse().ok()
}

#[async_trait]
impl EventSource for GerritSource {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            self.start().await?;
            if let Some(event) = self.settle().await? {
                return Ok(Some(event));
            }
            self.wait().await?;
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        self.ledger.commit(position).await?;
        if let Some(running) = &mut self.running {
            running.committed = Some(position.clone());
        }
        Ok(())
    }
}
