//! The supervisor: connects, declares, reads the log to its end, and is ready; after any failure it starts over.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use lapin::{Channel, Event};
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::codec::{self, Unreadable};
use crate::commit::Expected;
use crate::config::AmqpConfig;
use crate::connect::{connect, within};
use crate::log::{Applied, Arrival, Entry, EntryId, Op, Replica, Resume};
use crate::session::{Consumer, Session};
use crate::topology::{Names, text};

/// Pauses between attempts to connect. A broker that is back is found within the longest, which is at most a fortieth
/// of the lease: after an outage there must be time to renew.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How many entries that have arrived are applied before those who wait for a change are woken: fewer than may be on
/// their way, so that the broker sends on meanwhile.
const READ_AT_ONCE: usize = 64;
/// How often the client is asked whether it is connected, since it does not always report the loss.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// RabbitMQ 4 closes the channel on which a message of more than 16 MiB comes.
pub(crate) const MAX_SNAPSHOT: usize = 15 << 20;

/// The state of the connection.
#[derive(Debug, Clone)]
pub(crate) enum ConnectionState {
    /// The first attempt is under way.
    Connecting,
    /// Connected, and the log was read to its end.
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
    /// Counts up with every batch of entries that is read.
    changed: watch::Sender<u64>,
    connection: watch::Sender<ConnectionState>,
    /// Tasks that write a last entry before the connection closes.
    background: Mutex<JoinSet<()>>,
    /// So that not all participants write a snapshot at the same moment.
    snapshot_jitter: Duration,
    /// Ends everything.
    pub(crate) stop: CancellationToken,
    /// The connection of the history.
    history: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// Whether the history is there with other retention, which only a refused declaration tells.
    history_is_there: AtomicBool,
}

impl Shared {
    pub(crate) fn new(config: AmqpConfig) -> Self {
        Self {
            names: Names::new(&config.prefix),
            config,
            replica: Mutex::default(),
            changed: watch::Sender::new(0),
            connection: watch::Sender::new(ConnectionState::Connecting),
            background: Mutex::default(),
            snapshot_jitter: Duration::from_secs(Uuid::now_v7().as_bytes()[15].into()),
            stop: CancellationToken::new(),
            history: tokio::sync::Mutex::default(),
            history_is_there: AtomicBool::new(false),
        }
    }

    /// The connection of the history, once the queue has its own. It is another one, so that nothing that the broker
    /// refuses about the history disturbs a lease: after a refusal the client may lose its whole connection.
    pub(crate) async fn history_session(&self) -> Result<Arc<Session>> {
        self.session(None).await?;
        let mut slot = self.history.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.is_closed() && session.is_connected())
        {
            return Ok(Arc::clone(session));
        }
        if let Some(former) = slot.take() {
            tokio::spawn(async move { former.close().await });
        }
        let connection = connect(&self.config, 0).await?;
        let session = Session::open(connection, self.names.clone(), self.config.timeout.0).await?;
        Ok(Arc::clone(slot.insert(Arc::new(session))))
    }

    /// Opens a channel to write the history, and declares it if it is not there.
    pub(crate) async fn open_history(&self, session: &Session) -> Result<Channel> {
        let is_there = self.history_is_there.load(Ordering::Relaxed);
        let opening = self.names.history_channel(session.connection(), &self.config, is_there);
        within(self.config.timeout.0, opening).await
    }

    /// Gives the connection of the history up after an error.
    pub(crate) fn history_failed(&self, session: &Session, error: &Error) {
        // Deleted meanwhile, it is declared again.
        self.history_is_there.store(error.kind() == ErrorKind::Config, Ordering::Relaxed);
        session.fail(error);
    }

    pub(crate) async fn close_history(&self) {
        let session = self.history.lock().await.take();
        if let Some(session) = session {
            session.close().await;
        }
    }

    /// The deadline of one request.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout.0
    }

    pub(crate) fn replica(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with every entry that is read from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes those who wait for a change.
    pub(crate) fn entries_were_read(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn connection(&self) -> watch::Receiver<ConnectionState> {
        self.connection.subscribe()
    }

    /// Runs a task that [`join_background`](Self::join_background) waits for.
    pub(crate) fn spawn_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut background = self.background.lock().unwrap_or_else(PoisonError::into_inner);
            while background.try_join_next().is_some() {}
            background.spawn_on(task, &runtime);
        }
    }

    pub(crate) async fn join_background(&self) {
        loop {
            let mut all =
                std::mem::take(&mut *self.background.lock().unwrap_or_else(PoisonError::into_inner));
            if all.is_empty() {
                return;
            }
            // Such a task may start another one: a leader that ends steps down.
            while all.join_next().await.is_some() {}
        }
    }

    /// The connection, if there is one now.
    pub(crate) fn session_now(&self) -> Option<Arc<Session>> {
        match &*self.connection.borrow() {
            ConnectionState::Ready(session) if !session.is_closed() => Some(Arc::clone(session)),
            _ => None,
        }
    }

    /// Waits for the connection, without a limit if there is no deadline. Fails at once when the broker has refused
    /// us permanently.
    pub(crate) async fn session(&self, until: Option<Instant>) -> Result<Arc<Session>> {
        let mut connection = self.connection();
        loop {
            let down = match &*connection.borrow_and_update() {
                ConnectionState::Ready(session) if !session.is_closed() => return Ok(Arc::clone(session)),
                ConnectionState::Down { kind, why, permanent: true } => {
                    return Err(Error::permanent(*kind, why.clone()).with("broker", self.config.address()));
                }
                ConnectionState::Down { why, .. } => why.clone(),
                _ => "connecting".to_owned(),
            };
            let timer = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = connection.changed() => if changed.is_err() { return Err(closed()) },
                () = self.stop.cancelled() => return Err(closed()),
                () = timer => return Err(
                    Error::temporary(ErrorKind::Unreachable, format!("no connection to the broker: {down}"))
                        .with("broker", self.config.address())
                ),
            }
        }
    }

    /// Waits until the state is known. It stays known while the broker is away.
    pub(crate) async fn wait_for_state(&self, until: Instant) -> Result<()> {
        if self.replica().state().is_none() {
            self.session(Some(until)).await?;
        }
        Ok(())
    }
}

/// The log is being read again from its first entry.
pub(crate) fn not_ready() -> Error {
    Error::temporary(ErrorKind::Unreachable, "the log is being read again")
}

pub(crate) fn closed() -> Error {
    Error::permanent(ErrorKind::Cancelled, "the queue was closed")
}

/// Keeps a connection until the queue is closed.
pub(crate) async fn supervise(shared: Arc<Shared>) {
    let longest = MAX_PAUSE.min(shared.config.lease.0 / 40).max(FIRST_PAUSE);
    let mut backoff = Backoff::new(FIRST_PAUSE, longest);
    let mut was_ready = false;
    for attempt in 0.. {
        let error = tokio::select! {
            error = run_connection(&shared, attempt, &mut was_ready, &mut backoff) => error,
            () = shared.stop.cancelled() => break,
        };
        // A connection that was ready once may be ready again: somebody may be fixing the broker.
        let permanent = !error.is_temporary() && !was_ready;
        let pause = backoff.next_delay();
        tracing::warn!(
            broker = shared.config.address(),
            ?pause,
            "not connected to RabbitMQ, will try again: {error}"
        );
        let why = error.message().to_owned();
        shared.connection.send_replace(ConnectionState::Down { kind: error.kind(), why, permanent });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.stop.cancelled() => break,
        }
    }
    if let ConnectionState::Ready(session) = shared.connection.send_replace(ConnectionState::Connecting) {
        session.close().await;
    }
}

/// Runs one connection until it fails; returns why.
async fn run_connection(
    shared: &Arc<Shared>,
    attempt: usize,
    was_ready: &mut bool,
    backoff: &mut Backoff,
) -> Error {
    let opening = async {
        let connection = connect(&shared.config, attempt).await?;
        Session::open(connection, shared.names.clone(), shared.config.timeout.0).await.map(Arc::new)
    };
    let session = match opening.await {
        Ok(session) => session,
        Err(error) => return error,
    };
    let error = match read_log(shared, &session, was_ready, backoff).await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    session.fail(&error);
    // In the background: a broker that hangs must not delay the next attempt.
    tokio::spawn(async move { session.close().await });
    error
}

/// Reads the log for as long as the connection holds.
async fn read_log(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    was_ready: &mut bool,
    backoff: &mut Backoff,
) -> Result<Infallible> {
    let mut events = session.connection().events_listener();
    let resume = shared.replica().resume();
    let from = match resume {
        Resume::First => text("first"),
        Resume::At(offset) => AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)),
    };
    // An offset beyond the end of the log is not refused: then nothing comes.
    let mut log = session.read_log(from).await?;
    let mut appending = std::pin::pin!(append(shared, session, Op::Barrier));
    let mut caught_up = match timeout(shared.config.timeout.0, &mut appending).await {
        Ok(appended) => appended?,
        // The broker has blocked this connection. It is kept, and those who ask are told.
        Err(_) => {
            shared.connection.send_replace(ConnectionState::Down {
                kind: ErrorKind::Unreachable,
                why: "RabbitMQ accepts no messages at the moment: its memory or disk is full".to_owned(),
                permanent: false,
            });
            appending.await?
        }
    };
    let mut ready = false;
    let (mut deadline, mut again) = (shared.deadline(), shared.deadline());
    let mut poll = tokio::time::interval(POLL_INTERVAL);
    loop {
        tokio::select! {
            delivery = log.next() => {
                read_entries(shared, session, &mut log, delivery?).await?;
                write_due_snapshot(shared, session)?;
                deadline = shared.deadline();
            }
            _ = &mut caught_up.receiver, if !ready => {
                let restore = shared.replica().reached_end(Arrival::now());
                if let Some(restore) = restore {
                    tracing::warn!("the broker has lost the end of the log; writing again what is known of it");
                    caught_up = append(shared, session, restore).await?;
                    continue;
                }
                (ready, *was_ready) = (true, true);
                backoff.reset();
                tracing::info!(broker = shared.config.address(), "connected to RabbitMQ");
                shared.connection.send_replace(ConnectionState::Ready(Arc::clone(session)));
            }
            // The barrier may be among the entries that the broker dropped before they were read.
            () = sleep_until(again), if !ready && shared.replica().has_beginning() => {
                caught_up = append(shared, session, Op::Barrier).await?;
                again = shared.deadline();
            }
            () = sleep_until(deadline), if !ready && session.is_blocked() => deadline = shared.deadline(),
            () = sleep_until(deadline), if !ready && !session.is_blocked() => {
                let failure = late(&shared.replica(), caught_up.id);
                shared.replica().give_up_reading();
                return Err(failure);
            }
            Some(event) = events.next() => match event {
                Event::ConnectionBlocked(why) => tracing::warn!("RabbitMQ accepts no messages at the moment: {why}"),
                Event::ConnectionUnblocked => tracing::info!("RabbitMQ accepts messages again"),
                Event::Error(error) => return Err(crate::error::from_lapin(error)),
                _ => {}
            },
            _ = poll.tick() => {
                if !session.is_connected() {
                    return Err(Error::temporary(ErrorKind::Unreachable, "the connection to the broker was closed"));
                }
                write_due_snapshot(shared, session)?;
            }
            () = session.closed() => return Err(session.failure()),
        }
    }
}

/// Why the end of the log, which this barrier marks, did not come in time.
fn late(replica: &Replica, barrier: EntryId) -> Error {
    let text = if replica.has_beginning() {
        "the end of the log did not come in time"
    } else if replica.buffers(barrier) {
        "the log has lost its beginning, and has no snapshot that can be used: if a handler or an operator is connected, \
         wait, since it writes a snapshot within 65 minutes; if none is, stop all of them, and delete the stream \
         PREFIX.log to start a new one"
    } else {
        "the log did not come in time: RabbitMQ is overloaded, or the connection to it is slow"
    };
    Error::temporary(ErrorKind::Protocol, text)
}

/// Appends an entry; its outcome comes when it is read.
async fn append(shared: &Arc<Shared>, session: &Session, op: Op) -> Result<Expected> {
    let entry = Entry::new(op);
    let outcome = Expected::new(shared, entry.id);
    session.append(&codec::encode(&entry)?).await?;
    Ok(outcome)
}

/// Applies an entry, and those that have arrived after it.
async fn read_entries(shared: &Shared, session: &Session, log: &mut Consumer, first: Delivery) -> Result<()> {
    let mut batch = vec![first];
    while batch.len() < READ_AT_ONCE
        && let Some(next) = log.next_now()
    {
        batch.push(next?);
    }
    let mut is_changed = false;
    let read = batch.iter().try_for_each(|delivery| {
        is_changed |= read_entry(shared, delivery)?;
        Ok(())
    });
    if is_changed {
        shared.entries_were_read();
    }
    read?;
    // At once: RabbitMQ closes a channel that acknowledges nothing for half an hour, and the log may be quiet for
    // longer.
    match batch.last() {
        Some(last) => session.acknowledge(last, true).await,
        None => Ok(()),
    }
}

/// Applies one entry; says whether the state may have changed.
fn read_entry(shared: &Shared, delivery: &Delivery) -> Result<bool> {
    let (entry, offset) = match (codec::decode::<Entry>(delivery), codec::offset(delivery)) {
        (Ok(entry), Some(offset)) => (entry, offset),
        (Err(newer @ Unreadable::Newer(_)), _) => {
            return Err(Error::permanent(
                ErrorKind::Protocol,
                format!("an entry of the log cannot be read: {newer}"),
            ));
        }
        (Err(Unreadable::Malformed(why)), _) => {
            tracing::warn!("skipping a message in the log that is not an entry: {why}");
            return Ok(false);
        }
        (_, None) => return Err(Error::permanent(ErrorKind::Protocol, "PREFIX.log is not a stream")),
    };
    match shared.replica().read(offset, entry, delivery.data.len(), Arrival::now()) {
        Applied::Diverged => {
            tracing::warn!("the log on the broker has changed; reading it again from its first entry");
            Err(Error::temporary(ErrorKind::Protocol, "the log has changed"))
        }
        applied => Ok(applied == Applied::Yes),
    }
}

/// Several participants may write a snapshot at the same time: readers use the first that they can.
fn write_due_snapshot(shared: &Shared, session: &Arc<Session>) -> Result<()> {
    let due = shared.replica().due_snapshot(shared.snapshot_jitter, Arrival::now());
    if let Some(snapshot) = due {
        let (session, body) = (Arc::clone(session), codec::encode(&Entry::new(snapshot))?);
        if body.len() > MAX_SNAPSHOT {
            tracing::error!(
                bytes = body.len(),
                "a snapshot of the log is too large for RabbitMQ and is not written, and without one the log loses its beginning: \
                 deliver or drop undelivered reports, and requeue or drop dead letters"
            );
            return Ok(());
        }
        tokio::spawn(async move {
            if let Err(error) = session.append(&body).await {
                session.fail(&error);
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(replica: &mut Replica, offset: u64, entry: &Entry) {
        replica.read(offset, entry.clone(), 100, Arrival::now());
    }

    /// A log that is deleted because a slow connection was taken for a loss costs all open jobs.
    #[test]
    fn a_log_has_lost_its_beginning_only_if_it_was_read_to_its_end_without_one() {
        let (other, barrier) = (Entry::new(Op::Barrier), Entry::new(Op::Barrier));
        let mut replica = Replica::default();
        let late = |replica: &Replica| late(replica, barrier.id).message().to_owned();
        assert!(late(&replica).contains("the connection to it is slow"), "nothing was read");
        read(&mut replica, 7, &other);
        assert!(late(&replica).contains("the connection to it is slow"), "a snapshot may follow");
        read(&mut replica, 8, &barrier);
        assert!(late(&replica).contains("delete the stream"), "no snapshot came");
        let mut whole = Replica::default();
        read(&mut whole, 0, &other);
        assert_eq!(late(&whole), "the end of the log did not come in time");
    }
}
