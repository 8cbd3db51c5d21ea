//! The record: a stream on the broker that says, in one order for all, what became of every job that was ever claimed.
//!
//! Every participant reads it from end to end and comes to the same state, so that they need no other arbiter: whoever
//! wants something writes it there as an entry, and sees when reading it whether it held.

mod entry;
mod letters;
mod replica;
mod snapshot;
mod state;

pub(crate) use entry::{Entry, Mark, Op};
pub(crate) use letters::Letter;
pub(crate) use replica::{Fed, Replica, Resume};
pub(crate) use state::{Moment, Next, Outcome};
