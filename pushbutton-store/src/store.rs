//! The file and the one thread that owns the connection to it.
//!
//! SQLite blocks, so the parts hand it pieces of work and await the answers. One connection a process also means that no two
//! writers of one process ever wait for each other's lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pushbutton_core::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::connect::{connect, data_version};
use crate::error::{Fault, ended};
use crate::{StoreConfig, StoreHistory, StoreJournal, StoreLedger, StoreQueue, upkeep};

/// Pieces of work that may wait for the thread; further callers wait their turn.
const WORK_AHEAD: usize = 256;

/// How often to ask whether another process has written. Costs one read of shared memory, and only while somebody waits for news.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often old rows are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// One SQLite file, open. Clones share it; the last one to go closes it.
///
/// Several processes on one host may have the same file open, each through a `Store` of its own.
#[derive(Debug, Clone)]
pub struct Store {
    file: Arc<Path>,
    work: Sender<Work>,
    room: Arc<Semaphore>,
    news: Arc<News>,
}

/// Wakes those who wait for a job or a notice.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) changed: Notify,
    waiting: AtomicUsize,
}

/// Somebody waits for news as long as this lives.
pub(crate) struct Waiting(Arc<News>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Store {
    /// Opens the file with the defaults of [`StoreConfig`]; makes it when it is missing.
    ///
    /// # Errors
    /// Permanent when the file cannot be opened or written, is not ours, or was written by a newer version; temporary when another
    /// process holds it or the disk is full.
    pub async fn open(file: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(&StoreConfig::new(file)).await
    }

    /// Opens the file that the configuration names.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(config: &StoreConfig) -> Result<Self> {
        let file: Arc<Path> = config.file.clone().into();
        let news = Arc::<News>::default();
        let (work, works) = std::sync::mpsc::channel();
        let (tell, told) = oneshot::channel();
        let owner = Owner { works, news: Arc::clone(&news), keep_runs: config.keep_runs.into() };
        let config = config.clone();
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || match connect(&config) {
                Ok(connection) => {
                    if tell.send(Ok(())).is_ok() {
                        owner.serve(connection);
                    }
                }
                // Nobody listens any more: nobody needs the error.
                Err(fault) => drop(tell.send(Err(fault))),
            })
            .map_err(|error| Error::temporary(ErrorKind::Local, "cannot start a thread").because(error))?;
        let opened = match told.await {
            Ok(opened) => opened.map_err(Error::from),
            Err(_) => ended(),
        };
        opened.map_err(|error| error.during("store::open").with("file", file.display()))?;
        Ok(Self { file, work, room: Arc::new(Semaphore::new(WORK_AHEAD)), news })
    }

    /// The queue in this file. Every process names its own lease; each claim keeps the one that it was taken with.
    pub fn queue(&self, lease: Duration) -> StoreQueue {
        StoreQueue::new(self.clone(), lease)
    }

    /// The seen events and the position in this file.
    pub fn ledger(&self) -> StoreLedger {
        StoreLedger(self.clone())
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
        &self.file
    }

    /// Has a piece of work done on the connection. Dropped while waiting, the work may still be done.
    pub(crate) async fn call<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return ended() };
        let (tell, told) = oneshot::channel();
        self.post(move |connection| {
            // A caller that has gone needs no answer; what an unheard answer means is its type's `Drop`.
            drop(tell.send(work(connection)));
            drop(permit);
        });
        let answer = match told.await {
            Ok(answer) => answer.map_err(Error::from),
            Err(_) => ended(),
        };
        answer.map_err(|error| error.during(operation).with("file", self.file.display()))
    }

    /// Has a piece of work done some time, without an answer. Never waits.
    pub(crate) fn post(&self, work: impl FnOnce(&mut Connection) + Send + 'static) {
        if self.work.send(Box::new(work)).is_err() {
            tracing::error!(file = %self.file.display(), "the store's thread has ended");
        }
    }

    /// Wakes those who wait, in this process.
    pub(crate) fn announce_change(&self) {
        self.news.changed.notify_waiters();
    }

    /// What wakes those who wait.
    pub(crate) fn news(&self) -> Arc<News> {
        Arc::clone(&self.news)
    }
}

impl News {
    /// Has the thread look for writes of other processes, as long as the guard lives.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(self))
    }
}

/// What the thread needs beside the connection.
struct Owner {
    works: Receiver<Work>,
    news: Arc<News>,
    keep_runs: Duration,
}

impl Owner {
    /// Works until the last handle is gone, and then closes the file.
    fn serve(self, mut connection: Connection) {
        let mut seen = data_version(&connection);
        let mut looked = Instant::now();
        let mut prune_at = Instant::now();
        loop {
            let watched = self.news.waiting.load(Ordering::Relaxed) > 0;
            match self.works.recv_timeout(if watched { LOOK_EVERY } else { PRUNE_EVERY }) {
                Ok(work) => work(&mut connection),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if watched && looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                let version = data_version(&connection);
                if version != seen {
                    seen = version;
                    self.news.changed.notify_waiters();
                }
            }
            if Instant::now() >= prune_at {
                prune_at = Instant::now() + PRUNE_EVERY;
                match upkeep::prune(&connection, self.keep_runs) {
                    Ok(0) => {}
                    Ok(rows) => tracing::debug!(rows, "forgot old rows"),
                    Err(fault) => tracing::warn!("old rows stay for now: {}", Error::from(fault)),
                }
            }
        }
    }
}

/// The time now, as the tables count it. The wall clock, because it is the only one that several processes and restarts share.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

/// A time of the tables.
pub(crate) fn time(millisecond: i64) -> Result<Timestamp, Fault> {
    Timestamp::from_millisecond(millisecond).map_err(|error| {
        Error::permanent(ErrorKind::Invalid, "a time in the file is out of range").because(error).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_handle_closes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let wal = folder.path().join("x.db-wal");
        let store = Store::open(folder.path().join("x.db")).await.unwrap();
        let ledger = store.ledger();
        drop(store);
        pushbutton_core::EventStore::position(&ledger).await.unwrap();
        assert!(wal.exists());
        drop(ledger);
        // SQLite removes the WAL when the last connection closes.
        while wal.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
