//! Writes an entry and reads it back.

use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::codec;
use crate::log::{Entry, EntryId, Op, Outcome};
use crate::supervise::{Shared, closed};

/// Writes an entry and waits until it is read back; across broken connections, until the deadline.
///
/// After an error the entry may be in the log, or may still get there.
///
/// # Cancel safety
/// After a dropped call the entry may be in the log, too.
pub(crate) async fn commit(shared: &Arc<Shared>, op: Op, until: Instant) -> Result<Outcome> {
    let entry = Entry::new(op);
    let body = codec::encode(&entry)?;
    let mut outcome = Expected::new(shared, entry.id);
    loop {
        let session = tokio::select! {
            // The outcome first: a new connection is ready only when all earlier entries were read, ours included.
            biased;
            outcome = &mut outcome.receiver => return outcome.map_err(|_| closed()),
            session = shared.session(Some(until)) => session?,
        };
        let sent = async {
            if let Err(error) = session.append(&body).await {
                session.fail(&error);
            }
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

/// Waits until everything was read that is in the log by now, whoever wrote it.
///
/// AMQP cannot tell where a stream ends, so this appends a barrier. Calls for which a moment's delay does no harm
/// read the state without it.
pub(crate) async fn catch_up(shared: &Arc<Shared>, until: Instant) -> Result<()> {
    commit(shared, Op::Barrier, until).await.map(drop)
}

/// Waits for an outcome until dropped.
struct Expected {
    shared: Arc<Shared>,
    id: EntryId,
    receiver: oneshot::Receiver<Outcome>,
}

impl Expected {
    fn new(shared: &Arc<Shared>, id: EntryId) -> Self {
        let receiver = shared.replica().expect(id);
        Self { shared: Arc::clone(shared), id, receiver }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.shared.replica().give_up(self.id);
    }
}
