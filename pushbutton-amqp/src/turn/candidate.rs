//! The task behind a turn: stands in line on the turn queue, and proves its turn over and over while it has it.

use std::sync::Arc;
use std::time::Duration;

use lapin::message::Delivery;
use lapin::types::FieldTable;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::token::{Predecessors, Says, Token};
use crate::codec::{self, Form};
use crate::connect::within;
use crate::link::Shared;
use crate::record::Mark;
use crate::session::{Reading, Session, acknowledge};

/// How many tokens may be on their way to one who stands in line; more than a few are never there.
const WINDOW: u16 = 100;
/// How many of them are kept unacknowledged until the own one stands on the queue.
const KEPT: usize = 50;
/// How often a turn is proved within the time for which a proof counts.
const PROOFS: u32 = 4;
/// How long handing over may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(8);
/// Pauses between attempts to stand in line.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How a candidate stands.
#[derive(Debug, Clone)]
pub(super) enum PatchsetStatus {
    /// In line, or on the way there.
    Waiting,
    /// It is its turn, until then at least.
    Active(Instant),
    /// It was its turn, or it was told to stop.
    Over,
    /// The broker refuses us for good.
    Refused(ErrorKind, String),
}

/// The task. It ends after one turn.
#[derive(Debug)]
pub(super) struct Candidate {
    shared: Arc<Shared>,
    /// Names this handler, through all its turns.
    me: Mark,
    standing: watch::Sender<PatchsetStatus>,
    stop: CancellationToken,
}

/// A place in line, on one connection.
struct Place {
    session: Arc<Session>,
    term: Mark,
    predecessors: Predecessors,
    /// Tokens of others from before our own.
    older: Vec<Delivery>,
    /// Our own token. It is not acknowledged before its successor is here: there always is one on the queue.
    held: Option<Delivery>,
    /// Its successor, on its way since then.
    sent: Option<(Mark, Instant)>,
    /// So long the return of our own token proves that it is our turn.
    proven_until: Instant,
    prove_at: Instant,
    /// Until then somebody else may be certain of an earlier turn.
    others_until: Instant,
    is_active: bool,
}

impl Candidate {
    pub(super) fn new(
        shared: Arc<Shared>,
        me: Mark,
        standing: watch::Sender<PatchsetStatus>,
        stop: CancellationToken,
    ) -> Self {
        Self { shared, me, standing, stop }
    }

    /// Stands in line until it has had its turn, is told to stop, or is refused.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        while let Err(error) = self.stand().await {
            if matches!(*self.standing.borrow(), PatchsetStatus::Over) {
                return;
            }
            if !error.is_temporary() {
                self.standing.send_replace(PatchsetStatus::Refused(error.kind(), error.message().to_owned()));
                return;
            }
            tracing::debug!("standing in line again: {error}");
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = self.stop.cancelled() => break,
            }
        }
        self.standing.send_replace(PatchsetStatus::Over);
    }

    /// Stands in line on one connection, and has its turn; `Ok` when told to stop.
    async fn stand(&self) -> Result<()> {
        let session = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(()),
            session = self.shared.session(None) => session?,
        };
        let consuming = session.consume(&session.names.turn, WINDOW, FieldTable::default());
        let mut reading = consuming.await.inspect_err(|error| session.fail(error))?;
        let mut place = Place::new(Arc::clone(&session));
        let stood = self.hold(&mut place, &mut reading).await;
        if let Err(error) = &stood {
            if place.is_active {
                tracing::debug!("the turn is lost: {error}");
                self.standing.send_replace(PatchsetStatus::Over);
            }
        }
        // What was not acknowledged goes to the next in line.
        if let Err(error) = reading.close().await {
            session.fail(&error);
        }
        stood
    }

    async fn hold(&self, place: &mut Place, reading: &mut Reading) -> Result<()> {
        place.send(&Token::new(Says::Knock)).await?;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    place.leave().await;
                    return Ok(());
                }
                () = place.session.gone() => {
                    return Err(Error::temporary(ErrorKind::Unreachable, "the connection failed"));
                }
                delivery = reading.next() => self.receive(place, delivery?).await?,
                () = sleep_until(place.proven_until), if place.held.is_some() => {
                    return Err(Error::temporary(ErrorKind::TimedOut, "RabbitMQ did not confirm the turn in time"));
                }
                () = sleep_until(place.others_until), if place.held.is_some() && !place.is_active => {
                    place.is_active = true;
                    self.standing.send_replace(PatchsetStatus::Active(place.proven_until));
                }
                () = sleep_until(place.prove_at), if place.held.is_some() && place.sent.is_none() => {
                    self.prove(place).await?;
                }
            }
        }
    }

    /// A token: RabbitMQ delivers to one at a time.
    async fn receive(&self, place: &mut Place, delivery: Delivery) -> Result<()> {
        let token = match codec::decode::<Token>(&delivery) {
            Ok(token) => token,
            Err(why) => {
                tracing::warn!("a message on the turn queue was not understood: {why}");
                return acknowledge(&delivery).await;
            }
        };
        if let Some((_, since)) = place.sent.take_if(|(mark, _)| *mark == token.mark) {
            return self.proven(place, delivery, since).await;
        }
        if place.is_active {
            // Somebody stands in line behind us.
            return acknowledge(&delivery).await;
        }
        place.predecessors.hear(&token);
        if place.held.is_some() {
            place.wait_for_others(self.me);
            return acknowledge(&delivery).await;
        }
        place.older.push(delivery);
        if place.older.len() > KEPT {
            acknowledge(&place.older.remove(0)).await?;
        }
        if place.sent.is_none() { self.prove(place).await } else { Ok(()) }
    }

    /// Our own token came back.
    async fn proven(&self, place: &mut Place, delivery: Delivery, since: Instant) -> Result<()> {
        let certainty = self.shared.config.certainty();
        place.proven_until = since + certainty;
        place.prove_at = since + certainty / PROOFS;
        if place.is_active {
            self.standing.send_replace(PatchsetStatus::Active(place.proven_until));
        }
        match place.held.replace(delivery) {
            Some(older) => acknowledge(&older).await?,
            None => {
                place.wait_for_others(self.me);
                for older in std::mem::take(&mut place.older) {
                    acknowledge(&older).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends our token: if it comes back, it is our turn since now.
    async fn prove(&self, place: &mut Place) -> Result<()> {
        // Before it has had its turn it may have others to wait for, and is a stranger also to itself.
        let candidate = if place.is_active { self.me } else { place.term };
        let certain_ms = u64::try_from(self.shared.config.certainty().as_millis()).unwrap_or(u64::MAX);
        let token = Token::new(Says::Held { candidate, term: place.term, certain_ms });
        place.sent = Some((token.mark, Instant::now()));
        place.send(&token).await
    }
}

impl Place {
    fn new(session: Arc<Session>) -> Self {
        let now = Instant::now();
        Self {
            session,
            term: Mark::new(),
            predecessors: Predecessors::default(),
            older: Vec::new(),
            held: None,
            sent: None,
            proven_until: now,
            prove_at: now,
            others_until: now,
            is_active: false,
        }
    }

    /// Whoever sent what we have heard of is certain no longer than from now.
    fn wait_for_others(&mut self, me: Mark) {
        let others = self.predecessors.certain_for(me).unwrap_or_default();
        self.others_until = self.others_until.max(Instant::now() + others);
    }

    async fn send(&self, token: &Token) -> Result<()> {
        let body = codec::encode(token)?;
        let sent = self.session.write(&self.session.names.turn, Form::First, &body).await;
        sent.inspect_err(|error| self.session.fail(error))
    }

    /// Hands over: who comes next need not wait until we cannot be certain any more.
    async fn leave(&self) {
        if !self.is_active {
            return;
        }
        let handing_over = async {
            self.send(&Token::new(Says::Released { term: self.term })).await?;
            match &self.held {
                Some(held) => acknowledge(held).await,
                None => Ok(()),
            }
        };
        if let Err(error) = within(LAST_WORDS, handing_over).await {
            tracing::debug!("the turn was not handed over, and will be waited out: {error}");
        }
    }
}
