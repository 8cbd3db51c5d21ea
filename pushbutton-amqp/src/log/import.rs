//! What becomes of messages of the inbox.

use pushbutton_core::Job;

use super::dead_letters::Letter;
use super::entry::Op;
use super::rules::{Rule, holds};
use super::state_machine::{Outcome, State};

/// Above so many bytes of open jobs, open buildsets and reports that are due, further jobs stay in the inbox: every
/// participant has them in memory, and a snapshot holds them. Open buildsets take at most half of it, since only further
/// jobs push those out that never become complete.
const MAX_OPEN_BYTES: usize = 4 << 20;

/// Whether more jobs may be imported.
pub(crate) fn has_room(state: &State) -> bool {
    state.jobs.bytes() + state.outbox.bytes() < MAX_OPEN_BYTES
}

/// Messages of the inbox on their way into the log.
#[derive(Debug)]
pub(crate) struct ImportBatch {
    entry: Option<Op>,
}

impl ImportBatch {
    /// Reads messages: jobs, and dead letters of what is no job.
    pub(crate) fn new(
        state: Option<&State>,
        messages: impl IntoIterator<Item = Result<Job, Box<Letter>>>,
    ) -> Self {
        let (mut jobs, mut unreadable) = (Vec::new(), Vec::new());
        for message in messages {
            match message {
                // Published twice, or imported before a connection broke.
                Ok(job) if state.is_some_and(|state| state.skips(&job)) => {}
                Ok(job) => jobs.push(job),
                Err(letter) => unreadable.push(*letter),
            }
        }
        let is_empty = jobs.is_empty() && unreadable.is_empty();
        Self { entry: (!is_empty).then_some(Op::Import { jobs, unreadable }) }
    }

    /// The entry to be written; none if the state knows all of the jobs.
    pub(crate) fn entry(&self) -> Option<&Op> {
        self.entry.as_ref()
    }

    /// Whether the messages may leave the inbox: only a job that is in the log may. `read_back` is what became of the
    /// entry, once it was read.
    pub(crate) fn may_acknowledge(&self, read_back: Option<&Outcome>) -> bool {
        self.entry.is_none() || !holds(Rule::AcknowledgeReadBack) || read_back == Some(&Outcome::Accepted)
    }
}
