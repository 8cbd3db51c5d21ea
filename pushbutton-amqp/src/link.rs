//! The supervisor: connect, declare, read the record to its end, be ready; at any failure tear down and start over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Event;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::codec::{self, Form, Unreadable};
use crate::config::AmqpConfig;
use crate::connect::connect;
use crate::record::{Entry, Fed, Moment, Op, Replica, Resume};
use crate::session::{Session, acknowledge};
use crate::topology::{Names, SNAPSHOT_EVERY};

/// The first pause before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest: a broker that is back is found within this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often the client is asked whether it is still connected, should it have told nobody.
const LOOK: Duration = Duration::from_secs(1);

/// How the connection stands.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// The first attempt is under way.
    Starting,
    /// Connected, and the record was read to its end.
    Ready(Arc<Session>),
    /// Not connected; the supervisor goes on trying.
    Down { kind: ErrorKind, why: String, permanent: bool },
}

/// What all parts of one queue share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: AmqpConfig,
    names: Names,
    replica: Mutex<Replica>,
    /// Counts up with every entry read.
    changed: watch::Sender<u64>,
    link: watch::Sender<Link>,
    /// Handlers that wait for their turn, or have it.
    candidates: Mutex<JoinSet<()>>,
    /// Ends everything.
    pub(crate) stop: CancellationToken,
}

impl Shared {
    pub(crate) fn new(config: AmqpConfig) -> Self {
        Self {
            names: Names::new(&config.prefix),
            config,
            replica: Mutex::default(),
            changed: watch::Sender::new(0),
            link: watch::Sender::new(Link::Starting),
            candidates: Mutex::default(),
            stop: CancellationToken::new(),
        }
    }

    /// By when one question to the broker must be answered.
    pub(crate) fn soon(&self) -> Instant {
        Instant::now() + self.config.timeout.0
    }

    pub(crate) fn replica(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of every entry that is read from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Keeps account of a candidate, so that its last words are heard.
    pub(crate) fn enlist(&self, candidate: impl Future<Output = ()> + Send + 'static) {
        let mut candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        while candidates.try_join_next().is_some() {}
        candidates.spawn(candidate);
    }

    /// Waits until all candidates have left; they were told to.
    pub(crate) async fn candidates_leave(&self) {
        let mut all = std::mem::take(&mut *self.candidates.lock().unwrap_or_else(PoisonError::into_inner));
        while all.join_next().await.is_some() {}
    }

    /// The connection, if there is one now.
    pub(crate) fn session_now(&self) -> Option<Arc<Session>> {
        match &*self.link.borrow() {
            Link::Ready(session) if !session.is_gone() => Some(Arc::clone(session)),
            _ => None,
        }
    }

    /// Waits for the connection; for ever without a time. Ends at once when the broker has refused us for good.
    pub(crate) async fn session(&self, until: Option<Instant>) -> Result<Arc<Session>> {
        let mut link = self.link();
        loop {
            let down = match &*link.borrow_and_update() {
                Link::Ready(session) if !session.is_gone() => return Ok(Arc::clone(session)),
                Link::Down { kind, why, permanent: true } => {
                    return Err(Error::permanent(*kind, why.clone()).with("broker", self.config.address()));
                }
                Link::Down { why, .. } => why.clone(),
                _ => "connecting".to_owned(),
            };
            let timer = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = link.changed() => if changed.is_err() { return Err(closed()) },
                () = self.stop.cancelled() => return Err(closed()),
                () = timer => return Err(
                    Error::temporary(ErrorKind::Unreachable, format!("no connection to the broker: {down}"))
                        .with("broker", self.config.address())
                ),
            }
        }
    }
}

/// The record is being read again from its beginning.
pub(crate) fn unread() -> Error {
    Error::temporary(ErrorKind::Unreachable, "the record is being read again")
}

pub(crate) fn closed() -> Error {
    Error::permanent(ErrorKind::Cancelled, "the queue was closed")
}

/// Keeps a connection until it is told to stop.
pub(crate) async fn supervise(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut was_ready = false;
    loop {
        let error = tokio::select! {
            error = live(&shared, &mut was_ready, &mut backoff) => error,
            () = shared.stop.cancelled() => break,
        };
        // What worked once may work again: somebody may be mending the broker.
        let permanent = !error.is_temporary() && !was_ready;
        let pause = backoff.next_delay();
        tracing::warn!(
            broker = shared.config.address(),
            ?pause,
            "not connected to RabbitMQ, will try again: {error}"
        );
        let why = error.message().to_owned();
        shared.link.send_replace(Link::Down { kind: error.kind(), why, permanent });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.stop.cancelled() => break,
        }
    }
    if let Link::Ready(session) = shared.link.send_replace(Link::Starting) {
        session.close().await;
    }
}

/// One connection from its first to its last moment; returns what ended it.
async fn live(shared: &Arc<Shared>, was_ready: &mut bool, backoff: &mut Backoff) -> Error {
    let session = match open(shared).await {
        Ok(session) => session,
        Err(error) => return error,
    };
    let error = match read(shared, &session, was_ready, backoff).await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    session.fail(&error);
    // In the background: a broker that hangs must not keep us from connecting anew.
    tokio::spawn(async move { session.close().await });
    error
}

async fn open(shared: &Shared) -> Result<Arc<Session>> {
    let connection = connect(&shared.config).await?;
    let session = Session::open(connection, shared.names.clone(), shared.config.timeout.0).await?;
    Ok(Arc::new(session))
}

/// Reads the record for as long as the connection holds.
async fn read(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    was_ready: &mut bool,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible> {
    let mut events = session.connection().events_listener();
    let resume = shared.replica().resume();
    let from = match resume {
        Resume::First => AMQPValue::LongString("first".into()),
        Resume::At(offset) => AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)),
    };
    let mut reading = match session.read_record(from).await {
        Ok(reading) => reading,
        Err(error) => {
            // Perhaps the place is gone with the record: next time from the first.
            shared.replica().forget();
            return Err(error);
        }
    };
    let hello = Entry::new(Op::Hello);
    let mut caught_up = shared.replica().expect(hello.mark);
    session.append(hello.op.form(), &codec::encode(&hello)?).await?;
    let mut ready = false;
    let mut patience = Instant::now() + shared.config.timeout.0;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            delivery = reading.next() => {
                feed(shared, session, &delivery?).await?;
                patience = Instant::now() + shared.config.timeout.0;
            }
            _ = &mut caught_up, if !ready => {
                (ready, *was_ready) = (true, true);
                backoff.reset();
                tracing::info!(broker = shared.config.address(), "connected to RabbitMQ");
                shared.link.send_replace(Link::Ready(Arc::clone(session)));
            }
            () = sleep_until(patience), if !ready => {
                let known = shared.replica().state().is_some();
                shared.replica().forget();
                let text = if known { "the record's end did not come in time" } else {
                    "the record has lost its beginning; delete the stream PREFIX.record to start a new one"
                };
                return Err(Error::temporary(ErrorKind::Protocol, text));
            }
            Some(event) = events.next() => match event {
                Event::ConnectionBlocked(why) => tracing::warn!("RabbitMQ takes no messages for now: {why}"),
                Event::ConnectionUnblocked => tracing::info!("RabbitMQ takes messages again"),
                Event::Error(error) => return Err(crate::error::from_wire(error)),
                _ => {}
            },
            _ = look.tick() => if !session.is_alive() {
                return Err(Error::temporary(ErrorKind::Unreachable, "the connection to the broker is gone"));
            },
            () = session.gone() => return Err(Error::temporary(ErrorKind::Unreachable, "the connection failed")),
        }
    }
}

/// Takes one entry in.
async fn feed(shared: &Arc<Shared>, session: &Arc<Session>, delivery: &Delivery) -> Result<()> {
    let entry = codec::decode::<Entry>(delivery);
    let offset = codec::offset(delivery);
    // At once: RabbitMQ ends a channel that acknowledges nothing for half an hour, and a record may be quiet for longer.
    acknowledge(delivery).await?;
    let (entry, offset) = match (entry, offset) {
        (Ok(entry), Some(offset)) => (entry, offset),
        (Err(Unreadable::Newer(form)), _) => {
            let text = format!("the record holds {}", Unreadable::Newer(form));
            return Err(Error::permanent(ErrorKind::Protocol, text));
        }
        (Err(Unreadable::Malformed(why)), _) => {
            tracing::warn!("the record holds a message that is none of ours: {why}");
            return Ok(());
        }
        (_, None) => return Err(Error::permanent(ErrorKind::Protocol, "the record is no stream")),
    };
    let fed = shared.replica().feed(offset, entry, delivery.data.len(), Moment::now());
    match fed {
        Fed::Diverged => {
            tracing::warn!("the broker's record is not what it was; reading it from the beginning");
            return Err(Error::temporary(ErrorKind::Protocol, "the record changed behind us"));
        }
        Fed::Skipped => return Ok(()),
        Fed::Applied => shared.changed.send_modify(|count| *count += 1),
    }
    let snapshot = shared.replica().due_snapshot(SNAPSHOT_EVERY);
    if let Some(snapshot) = snapshot {
        write_snapshot(Arc::clone(session), snapshot.form(), codec::encode(&Entry::new(snapshot))?);
    }
    Ok(())
}

/// Several may write one at the same time: that does no harm.
fn write_snapshot(session: Arc<Session>, form: Form, body: Vec<u8>) {
    tokio::spawn(async move {
        if let Err(error) = session.append(form, &body).await {
            session.fail(&error);
        }
    });
}
