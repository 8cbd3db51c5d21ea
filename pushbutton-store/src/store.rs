//! The file and the connection to it.
//!
//! SQLite blocks, so one worker thread (tokio-rusqlite) owns the connection; the parts send it closures and await
//! their results. One connection for each process also means that no two writers of a process wait for each other's
//! lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pushbutton_core::clock::{Clock, SystemClock};
use pushbutton_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use crate::clocks::{Clocks, Moment};
use crate::error::StoreError;
use crate::schema::{MIGRATIONS, migrate};
use crate::{StoreConfig, StoreEvents, StoreHistory, StoreJournal, StoreQueue, retention};

/// Closures that may wait for the worker thread. Further callers wait before they add theirs.
const MAX_PENDING: usize = 256;

/// How often a waiting claim or reader of control messages looks at the file: SQLite does not notify of other
/// processes' writes.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The WAL file is truncated to this size after a checkpoint.
const WAL_LIMIT: i64 = 16 << 20;

/// One open SQLite file. Clones share it; the last one to be dropped closes it.
///
/// Several processes on one host may have the same file open, each through a `Store` of its own.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: StoreConfig,
    clocks: Clocks,
    connection: tokio_rusqlite::Connection,
    pending: Arc<Semaphore>,
    /// The change notifier: wakes whoever waits for a write of this process.
    changed: Notify,
    _retention: AbortOnDropHandle<()>,
}

impl Store {
    /// Opens the file with the defaults of [`StoreConfig`]; creates it when it is missing.
    ///
    /// # Errors
    /// Permanent when the file cannot be opened or written, belongs to another program, or was written by a newer
    /// version; temporary when another process keeps it locked or the disk is full.
    pub async fn open(file: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(StoreConfig::new(file)).await
    }

    /// Opens the file that the configuration names.
    ///
    /// # Errors
    /// As [`Store::open`]; permanent also for a wrong value.
    pub async fn open_with(config: StoreConfig) -> Result<Self> {
        Self::open_with_clock(config, Arc::new(SystemClock)).await
    }

    /// The same, where the queue takes the time of day from this clock: when jobs ended, and the delays of retries.
    /// Leases do not depend on it.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub async fn open_with_clock(config: StoreConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let problems = config.problems();
        if !problems.is_empty() {
            let message = format!("the configuration of the store is wrong: {}", problems.join("; "));
            return Err(Error::permanent(ErrorKind::Config, message).during("store::open"));
        }
        let connection = open(&config)
            .await
            .map_err(|error| error.during("store::open").with("file", config.file.display()))?;
        let retention =
            tokio::spawn(retention::run(connection.clone(), config.keep_runs.into(), config.max_runs));
        Ok(Self(Arc::new(Shared {
            config,
            clocks: Clocks::new(clock),
            connection,
            pending: Arc::new(Semaphore::new(MAX_PENDING)),
            changed: Notify::new(),
            _retention: AbortOnDropHandle::new(retention),
        })))
    }

    /// The queue in this file.
    pub fn queue(&self) -> StoreQueue {
        StoreQueue(self.clone())
    }

    /// The seen events and the position in this file.
    pub fn events(&self) -> StoreEvents {
        StoreEvents(self.clone())
    }

    /// The journal of cloud resources in this file.
    pub fn journal(&self) -> StoreJournal {
        StoreJournal(self.clone())
    }

    /// The run history in this file.
    pub fn history(&self) -> StoreHistory {
        StoreHistory(self.clone())
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.0.config.file
    }

    pub(crate) fn lease(&self) -> Duration {
        self.0.config.lease.into()
    }

    pub(crate) fn max_lost_leases(&self) -> u32 {
        self.0.config.max_lost_leases
    }

    /// What the clocks of the queue show.
    pub(crate) fn now(&self) -> Moment {
        self.0.clocks.now()
    }

    /// Runs a closure on the connection. Dropped while it waits, the closure may still run.
    pub(crate) async fn call<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        // Held until the closure has run, also when this future is dropped: callers that give up cannot fill the
        // memory.
        let permit = Arc::clone(&self.0.pending).acquire_owned().await;
        let work = move |connection: &mut Connection| {
            let _permit = permit;
            work(connection)
        };
        self.0
            .connection
            .call(work)
            .await
            .map_err(|error| unpack(error).during(operation).with("file", self.file().display()))
    }

    /// Wakes the waiting claims and readers of this process.
    pub(crate) fn notify_changed(&self) {
        self.0.changed.notify_waiters();
    }

    /// Completes when this process has written since the call, or when it is time to look for writes of other
    /// processes and for what has become due. To miss nothing, call it before looking and await it afterwards.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> {
        let changed = self.0.changed.notified();
        async move { drop(tokio::time::timeout(POLL_INTERVAL, changed).await) }
    }
}

async fn open(config: &StoreConfig) -> Result<tokio_rusqlite::Connection> {
    // Without SQLITE_OPEN_URI: a path that looks like a URI is a path.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = tokio_rusqlite::Connection::open_with_flags(&config.file, flags).await;
    let connection = opened.map_err(StoreError::from)?;
    let lock_wait = config.lock_wait.into();
    connection.call(move |connection| set_up(connection, lock_wait)).await.map_err(unpack)?;
    Ok(connection)
}

fn unpack(error: tokio_rusqlite::Error<StoreError>) -> Error {
    match error {
        tokio_rusqlite::Error::Error(error) => error.into(),
        // A closure panicked, which ended the thread.
        _ => Error::permanent(ErrorKind::Unexpected, "the store's worker thread has ended"),
    }
}

fn set_up(connection: &mut Connection, lock_wait: Duration) -> Result<(), StoreError> {
    connection.busy_timeout(lock_wait)?;
    // FULL syncs the WAL at each commit. With NORMAL a power cut could take back a job whose `publish` returned `Ok`.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
    // Before WAL: a file of another program must stay as it is.
    migrate(connection, MIGRATIONS)?;
    enable_wal(connection, lock_wait)
}

/// In WAL mode readers and the writer do not block each other, and a commit needs one sync.
fn enable_wal(connection: &Connection, lock_wait: Duration) -> Result<(), StoreError> {
    let started = Instant::now();
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                tracing::warn!(mode, "this file system does not support WAL; the store will be slower");
                return Ok(());
            }
            // The busy timeout does not cover two processes that enable WAL at once.
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && started.elapsed() < lock_wait =>
            {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use pushbutton_core::{ControlMessage, DeadLetters, JobFilter, Queue, samples};

    #[test]
    fn a_commit_is_one_sync_of_the_wal() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(folder.path().join("x.db")).unwrap();
        set_up(&mut connection, Duration::from_secs(5)).unwrap();
        let pragma = |name| {
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0))
        };
        assert_eq!(pragma("journal_mode").unwrap(), "wal".to_owned().into());
        assert_eq!(pragma("synchronous").unwrap(), 2.into(), "2 is FULL");
    }

    #[tokio::test]
    async fn a_write_wakes_the_waiting_claims_and_readers_of_this_process() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("x.db")).await.unwrap();
        let (queue, any) = (store.queue(), JobFilter::any());
        // The poll interval begins with the first poll, so that only the notification can have completed this.
        let woken = |changed| FutureExt::now_or_never(changed).is_some();
        let changed = store.changed();
        queue.publish(&samples::job("tempest")).await.unwrap();
        assert!(woken(changed), "a job was published");
        let changed = store.changed();
        queue.claim(&any).await.unwrap().hand_back().await.unwrap();
        assert!(woken(changed), "a job was returned");
        queue.claim(&any).await.unwrap().reject("x").await.unwrap();
        let changed = store.changed();
        assert!(queue.requeue(samples::job("tempest").id.as_str()).await.unwrap());
        assert!(woken(changed), "a dead letter was requeued");
        let changed = store.changed();
        let message = ControlMessage::Unmuted { by: "alice".into(), at: samples::AT };
        queue.broadcast(&message).await.unwrap();
        assert!(woken(changed), "a control message was sent");
        assert!(!woken(store.changed()), "nothing was written");
    }

    #[tokio::test]
    async fn the_last_handle_closes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let wal = folder.path().join("x.db-wal");
        let store = Store::open(folder.path().join("x.db")).await.unwrap();
        let events = store.events();
        drop(store);
        pushbutton_core::EventStore::position(&events).await.unwrap();
        assert!(wal.exists());
        drop(events);
        // SQLite removes the WAL when the last connection closes.
        while wal.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
