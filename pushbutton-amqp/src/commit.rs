//! Writing into the record and learning what came of it.

use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::codec;
use crate::link::Shared;
use crate::record::{Entry, Mark, Op, Outcome};

/// Writes an entry and waits until it is read back; through broken connections, until the time is over.
///
/// After an error it may or may not stand in the record, or may come to stand there later.
///
/// # Cancel safety
/// A dropped call leaves it open whether the entry was written.
pub(crate) async fn commit(shared: &Arc<Shared>, op: Op, until: Instant) -> Result<Outcome> {
    let (form, entry) = (op.form(), Entry::new(op));
    let body = codec::encode(&entry)?;
    let mut outcome = Expected::new(shared, entry.mark);
    loop {
        let session = tokio::select! {
            // First: a new connection is ready only when all that came before was read, an earlier try of ours included.
            biased;
            outcome = &mut outcome.receiver => return outcome.map_err(|_| crate::link::closed()),
            session = shared.session(Some(until)) => session?,
        };
        let sent = async {
            if let Err(error) = session.append(form, &body).await {
                session.fail(&error);
            }
            session.gone().await;
        };
        tokio::select! {
            biased;
            outcome = &mut outcome.receiver => return outcome.map_err(|_| crate::link::closed()),
            () = sent => {}
            () = sleep_until(until) => {
                return Err(Error::temporary(ErrorKind::TimedOut, "the broker did not confirm in time"));
            }
        }
    }
}

/// Waits until everything was read that stands in the record by now, whoever wrote it: an entry of our own comes after it.
pub(crate) async fn catch_up(shared: &Arc<Shared>, until: Instant) -> Result<()> {
    commit(shared, Op::Hello, until).await.map(|_| ())
}

/// A place among those who wait, given up when dropped.
struct Expected {
    shared: Arc<Shared>,
    mark: Mark,
    receiver: oneshot::Receiver<Outcome>,
}

impl Expected {
    fn new(shared: &Arc<Shared>, mark: Mark) -> Self {
        let receiver = shared.replica().expect(mark);
        Self { shared: Arc::clone(shared), mark, receiver }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.shared.replica().give_up(self.mark);
    }
}
