//! What people do with dead letters: look at them, put one back, forget one.

use std::sync::Arc;

use pushbutton_core::traits::DeadLetter;
use pushbutton_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::commit::{catch_up, commit};
use crate::link::{Shared, unread};
use crate::record::{Letter, Op, Outcome};

impl Letter {
    fn told(&self) -> DeadLetter {
        DeadLetter { id: self.id(), job: self.job.clone(), why: self.why.clone(), at: Some(self.at) }
    }
}

/// The oldest, at most so many.
pub(crate) async fn list(shared: &Arc<Shared>, limit: usize) -> Result<Vec<DeadLetter>> {
    catch_up(shared, shared.soon()).await?;
    let replica = shared.replica();
    let dead = replica.state().ok_or_else(unread)?.dead();
    Ok(dead.iter().take(limit).map(Letter::told).collect())
}

/// Puts the job of a letter back on the queue. Of several who ask at once, one hears `true`.
pub(crate) async fn requeue(shared: &Arc<Shared>, id: &str) -> Result<bool> {
    let until = shared.soon();
    let Some(letter) = find(shared, id, until).await? else { return Ok(false) };
    if letter.job.is_none() {
        let text = "the message could not be read, so there is no job to put back; dropping the letter is all that can be done";
        return Err(Error::permanent(ErrorKind::Invalid, text));
    }
    write(shared, Op::RequeueLetter { letter: letter.id(), at: letter.at }, until).await
}

/// Forgets a letter. Of several who ask at once, one hears `true`.
pub(crate) async fn forget(shared: &Arc<Shared>, id: &str) -> Result<bool> {
    let until = shared.soon();
    let Some(letter) = find(shared, id, until).await? else { return Ok(false) };
    write(shared, Op::DropLetter { letter: letter.id(), at: letter.at }, until).await
}

async fn find(shared: &Arc<Shared>, id: &str, until: Instant) -> Result<Option<Letter>> {
    catch_up(shared, until).await?;
    let replica = shared.replica();
    Ok(replica.state().ok_or_else(unread)?.dead().find(id).cloned())
}

async fn write(shared: &Arc<Shared>, op: Op, until: Instant) -> Result<bool> {
    Ok(commit(shared, op, until).await? == Outcome::Done)
}
