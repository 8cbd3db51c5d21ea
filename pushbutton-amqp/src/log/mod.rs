//! The command log: a replicated state machine over one stream on the broker. No input or output here.
//!
//! Every participant reads the stream from end to end and applies each entry by the same rules, so all come to the same
//! state without an arbiter. A participant that wants something appends an entry, reads it back, and learns from the
//! state at that place whether it was accepted.

/// The rules that tests break.
mod rules;

/// What is written into the log.
mod entry;
/// Ids of entries, events and jobs.
mod ids;
/// What an entry does: the state, and the rules by which it changes.
mod state_machine;

/// Control messages of the last day.
mod control_messages;
/// Jobs that nobody will run.
mod dead_letters;
/// Jobs: waiting, leased, completed.
mod jobs;
/// Buildsets, and reports on their way to the handlers.
mod outbox;
/// What handlers have seen.
mod seen_events;

/// What a candidate for the leadership does next.
pub(crate) mod candidate;
/// What becomes of messages of the inbox.
pub(crate) mod import;
/// How long a lease lasts for its holder, and for all others.
mod lease;

/// One participant's copy of the state.
mod replica;
/// The state in serialized form.
mod snapshot;

/// All of it together, in worlds where things go wrong.
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod test_log;

pub(crate) use control_messages::Listened;
pub(crate) use dead_letters::Letter;
pub(crate) use entry::{Entry, Op};
pub(crate) use ids::{EntryId, EventKey};
pub(crate) use import::ImportBatch;
pub(crate) use jobs::{Claimable, Next};
pub(crate) use lease::{HeldLease, LeaseTerm};
pub(crate) use outbox::{Deliverable, Settlement};
pub(crate) use replica::{Applied, Replica, Resume};
pub(crate) use state_machine::{Arrival, Outcome};
