//! A log for the tests of the state machine.

use std::time::Duration;

use pushbutton_core::samples::AT;
use tokio::time::Instant;

use super::entry::{Entry, Op};
use super::snapshot::Snapshot;
use super::state_machine::{Arrival, Outcome, State};

/// A log that is being written, with its reader's clock.
pub(super) struct Log {
    pub(super) state: State,
    pub(super) offset: u64,
    pub(super) now: Arrival,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { state: State::default(), offset: 0, now: Arrival { instant: Instant::now(), date: AT } }
    }

    pub(super) fn write(&mut self, op: Op) -> Outcome {
        self.write_entry(&Entry::new(op))
    }

    pub(super) fn write_entry(&mut self, entry: &Entry) -> Outcome {
        let outcome = self.state.apply(self.offset, entry, self.now);
        self.offset += 1;
        outcome
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = Arrival { instant: self.now.instant + time, date: self.now.date + time };
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.state.snapshot(self.now)
    }

    /// What a reader knows that begins with a snapshot.
    pub(super) fn reread(&self) -> State {
        let text = serde_json::to_string(&self.snapshot()).unwrap();
        State::from_snapshot(&serde_json::from_str(&text).unwrap(), self.now)
    }
}
