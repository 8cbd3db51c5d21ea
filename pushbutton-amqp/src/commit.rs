//! Writes an entry and reads it back.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::codec;
use crate::log::{Entry, EntryId, Op, Outcome};
use crate::supervise::{Shared, closed, not_ready};

/// Writes an entry and waits until it is read back; across broken connections, until the deadline.
///
/// After an error the entry may be in the log, or may still get there.
///
/// # Cancel safety
/// After a dropped call the entry may be in the log, too.
pub(crate) async fn commit(shared: &Arc<Shared>, op: Op, until: Instant) -> Result<Outcome> {
    let mut entry = Entry::new(op);
    let mut outcome = Expected::new(shared, entry.id);
    loop {
        let session = tokio::select! {
            // The outcome first: a new connection is ready only when all earlier entries were read, ours included.
            biased;
            outcome = &mut outcome.receiver => return outcome.map_err(|_| closed()),
            session = shared.session(Some(until)) => session?,
        };
        let body = codec::encode(&entry)?;
        entry.copy += 1;
        let sent = async {
            let appended = session.append(&body).await;
            let error = match appended {
                Ok(()) => {
                    let last_offset = || shared.replica().last_offset();
                    stalled(last_offset, || session.is_blocked(), shared.config.timeout.0 * 3 / 4).await
                }
                Err(error) => error,
            };
            session.fail(&error);
            session.closed().await;
        };
        tokio::select! {
            biased;
            outcome = &mut outcome.receiver => return outcome.map_err(|_| closed()),
            () = sent => {}
            () = sleep_until(until) => {
                return Err(Error::temporary(ErrorKind::TimedOut, "the broker did not confirm in time"));
            }
        }
    }
}

/// Waits until nothing more comes from the log, although the broker has confirmed an entry and takes further ones. Its
/// consumer has stalled (rabbitmq-server#11915), which only another connection helps. The entry may then be written
/// twice; the second copy changes nothing.
///
/// `time` is less than the timeout of calls, so that these notice it, too.
async fn stalled(
    last_offset: impl Fn() -> Option<u64>,
    is_blocked: impl Fn() -> bool,
    time: Duration,
) -> Error {
    let mut last = last_offset();
    loop {
        let was_blocked = is_blocked();
        sleep(time).await;
        let now = last_offset();
        if now == last && !was_blocked && !is_blocked() {
            return Error::temporary(
                ErrorKind::TimedOut,
                "an entry that the broker has confirmed was not read back in time",
            );
        }
        last = now;
    }
}

/// Waits until everything was read that is in the log by now, whoever wrote it. Exact: this appends a barrier.
pub(crate) async fn catch_up(shared: &Arc<Shared>, until: Instant) -> Result<()> {
    commit(shared, Op::Barrier, until).await.map(drop)
}

/// The same without writing, for calls that people and dashboards make often. An entry of another participant that was
/// written at the very moment of the call may be missing.
pub(crate) async fn catch_up_reading(shared: &Arc<Shared>, until: Instant) -> Result<()> {
    let session = shared.session(Some(until)).await?;
    let end = session.log_end().await?;
    let mut changes = shared.changes();
    let reading = async {
        while shared.replica().last_offset() < end {
            tokio::select! {
                _ = changes.changed() => {}
                () = session.closed() => return Err(not_ready()),
            }
        }
        Ok(())
    };
    timeout_at(until, reading).await.unwrap_or_else(|_| Err(not_ready()))
}

/// Waits for the outcome of an entry until dropped; then nobody waits any more.
pub(crate) struct Expected {
    shared: Arc<Shared>,
    pub(crate) id: EntryId,
    pub(crate) receiver: oneshot::Receiver<Outcome>,
}

impl Expected {
    pub(crate) fn new(shared: &Arc<Shared>, id: EntryId) -> Self {
        let receiver = shared.replica().expect(id);
        Self { shared: Arc::clone(shared), id, receiver }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.shared.replica().give_up(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AmqpConfig;

    /// The supervisor waits for a barrier on each connection, also on those that fail before it comes.
    #[test]
    fn who_gives_up_waiting_for_an_entry_leaves_nothing_behind() {
        let shared = Arc::new(Shared::new(AmqpConfig::new("amqp://guest:guest@127.0.0.1:1")));
        let (first, second) = (EntryId::new(), EntryId::new());
        let (first, second) = (Expected::new(&shared, first), Expected::new(&shared, second));
        assert_eq!(shared.replica().waiting(), 2);
        drop(first);
        assert_eq!(shared.replica().waiting(), 1);
        drop(second);
        assert_eq!(shared.replica().waiting(), 0);
    }

    /// Otherwise the connection would stay in use, and every call would fail.
    #[tokio::test(start_paused = true)]
    async fn a_connection_from_which_nothing_more_comes_is_given_up() {
        use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
        const TIME: Duration = Duration::from_secs(10);
        let (offset, is_blocked) = (AtomicU64::new(1), AtomicBool::new(false));
        let last_offset = || Some(offset.load(Relaxed));
        let mut stalled = std::pin::pin!(stalled(last_offset, || is_blocked.load(Relaxed), TIME));
        let not_yet = || tokio::time::sleep(TIME * 9 / 10);
        for _ in 0..3 {
            tokio::select! { biased; error = &mut stalled => panic!("{error}"), () = not_yet() => {} }
            offset.fetch_add(1, Relaxed);
        }
        is_blocked.store(true, Relaxed);
        tokio::select! { biased; error = &mut stalled => panic!("{error}"), () = sleep(TIME * 5) => {} }
        is_blocked.store(false, Relaxed);
        let start = Instant::now();
        let error = stalled.await;
        assert!(error.is_temporary() && error.to_string().contains("not read back"), "{error}");
        assert!(start.elapsed() <= TIME * 2, "{:?}", start.elapsed());
    }
}
