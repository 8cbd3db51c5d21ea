//! One participant's copy of the state, as far as it has read the log.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::entry::{Entry, Op};
use super::ids::EntryId;
use super::rules::{Rule, holds};
use super::state_machine::{Arrival, Outcome, State};

/// How many bytes of entries are buffered while no snapshot was read: those between a snapshot's state and its place.
const BUFFER_BYTES: usize = 8 << 20;
/// A snapshot is written after so many bytes of other entries, or as many as the last snapshot has if that is more.
const SNAPSHOT_BYTES: usize = 2 << 20;
/// If its writer fails, the next one is written after one part more of so many.
const SNAPSHOT_PARTS: usize = 4;
/// And at the latest so long after the first entry that no snapshot covers: a policy may drop old entries (`max-age`).
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(3600);

/// Where reading goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// From the first entry that the broker still has.
    First,
    /// From the last entry that was read. It is read again, to see that the log is still the same.
    At(u64),
}

/// What came of an entry that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The state may have changed.
    Yes,
    /// It was read before, or is buffered until a snapshot comes.
    No,
    /// What was read before is not what the broker has now: read again from the first entry.
    Diverged,
}

/// The state so far, and those who wait for an entry of their own.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    /// None until the log's first entry or a snapshot was read.
    state: Option<State>,
    /// Whether the log was read to its end since.
    complete: bool,
    /// The last entry read, and which copy of it.
    last: Option<(u64, EntryId, u32)>,
    /// Whether the next entry must be the last one again.
    verify: bool,
    buffer: VecDeque<(u64, Entry, usize)>,
    buffered_bytes: usize,
    waiting: HashMap<EntryId, oneshot::Sender<Outcome>>,
    /// Bytes of entries since the last snapshot, and when the first of them was read.
    uncovered: usize,
    uncovered_since: Option<Instant>,
    /// The size of the last snapshot.
    snapshot_size: usize,
    /// Whether an entry that somebody here waited for made the next snapshot due.
    snapshot_due: bool,
    /// The state before the log was found to have changed: what is missing now is written again.
    former: Option<State>,
    /// The last entry before a gap. If it is there when the log is read again, the gap is no loss.
    known_gap: Option<u64>,
}

impl Replica {
    /// Begins to read on a new connection.
    pub(crate) fn resume(&mut self) -> Resume {
        match self.last {
            Some((offset, ..)) if self.state.is_some() => {
                self.verify = true;
                Resume::At(offset)
            }
            _ => {
                self.forget();
                Resume::First
            }
        }
    }

    /// Drops what was read, to read it again. Those who wait go on waiting.
    pub(crate) fn forget(&mut self) {
        let former = self.former.take().or(self.state.take().filter(|_| self.complete));
        let waiting = std::mem::take(&mut self.waiting);
        *self = Self { waiting, former, known_gap: self.known_gap, ..Self::default() };
    }

    /// The end of the log did not come. What was read stays, if this connection has shown that it is still the beginning
    /// of the log; if not, the broker may have lost it.
    pub(crate) fn give_up_reading(&mut self) {
        if self.verify || self.state.is_none() {
            self.forget();
        }
    }

    /// The same when nothing was lost: the log went on without this participant, and the broker dropped its beginning.
    /// What was lost before that, and is not written again yet, remains.
    fn forget_as_dropped(&mut self) {
        let former = self.former.take();
        self.forget();
        self.former = former;
    }

    /// Takes the next entry of the log.
    pub(crate) fn read(&mut self, offset: u64, entry: Entry, size: usize, now: Arrival) -> Applied {
        if let Some((last, id, copy)) = self.last {
            if std::mem::take(&mut self.verify) {
                if (offset, entry.id, entry.copy) == (last, id, copy) || !holds(Rule::LossNoticed) {
                    return Applied::No;
                }
                if offset > last {
                    self.forget_as_dropped();
                } else {
                    self.forget();
                }
                return Applied::Diverged;
            }
            if offset <= last {
                return Applied::No;
            }
            // A reader is moved on silently when the broker drops what it has not read yet. One missing place is the
            // entry of the broker's own with which each segment begins (measured on 3.10 and 4): a reader that was
            // moved on misses that one and more.
            if offset > last + 2 && holds(Rule::GapNoticed) && self.known_gap.is_none_or(|known| known < last)
            {
                self.known_gap = Some(last);
                self.forget_as_dropped();
                return Applied::Diverged;
            }
        } else if offset == 0 {
            self.state = Some(State::default());
        }
        self.last = Some((offset, entry.id, entry.copy));
        let former_parts = self.parts_beyond_snapshot();
        // Then the writers of those entries have all failed, and everybody may write it.
        let was_overdue = former_parts.is_some_and(|parts| parts >= SNAPSHOT_PARTS);
        self.uncovered += size;
        self.uncovered_since.get_or_insert(now.instant);
        let makes_due = was_overdue || self.parts_beyond_snapshot() > former_parts;
        if let Op::Snapshot { as_of, state } = &entry.op {
            (self.uncovered, self.uncovered_since, self.snapshot_size) = (0, None, size);
            self.snapshot_due = false;
            if self.state.is_none() && *as_of < offset && self.buffers_all_after(*as_of, offset) {
                self.state = Some(State::from_snapshot(state, now));
                for (offset, entry, _) in std::mem::take(&mut self.buffer) {
                    if offset > *as_of {
                        self.apply(offset, &entry, now);
                    }
                }
                self.buffered_bytes = 0;
            }
        }
        if self.state.is_some() {
            let is_own = self.apply(offset, &entry, now);
            self.snapshot_due |= is_own && makes_due;
            return Applied::Yes;
        }
        self.buffer(offset, entry, size);
        Applied::No
    }

    /// None until there are enough entries for the next snapshot; then how many more parts of as many bytes there are.
    fn parts_beyond_snapshot(&self) -> Option<usize> {
        let enough = SNAPSHOT_BYTES.max(self.snapshot_size);
        Some(self.uncovered.checked_sub(enough)? / (enough / SNAPSHOT_PARTS))
    }

    fn buffers_all_after(&self, as_of: u64, offset: u64) -> bool {
        offset == as_of + 1 || self.buffer.front().is_some_and(|(first, _, _)| *first <= as_of + 1)
    }

    fn buffer(&mut self, offset: u64, entry: Entry, size: usize) {
        self.buffer.push_back((offset, entry, size));
        self.buffered_bytes += size;
        while self.buffered_bytes > BUFFER_BYTES {
            let Some((_, _, size)) = self.buffer.pop_front() else { return };
            self.buffered_bytes -= size;
        }
    }

    /// Applies an entry; says whether somebody here waits for it.
    fn apply(&mut self, offset: u64, entry: &Entry, now: Arrival) -> bool {
        let Some(state) = &mut self.state else { return false };
        let outcome = state.apply(offset, entry, now);
        let writer = self.waiting.remove(&entry.id);
        // A restore of an earlier connection, for which nobody waits any more, says nothing of what was lost since.
        let is_own = writer.as_ref().is_some_and(|writer| !writer.is_closed());
        if is_own && matches!(entry.op, Op::Restore { .. }) {
            // Both at once: if the broker loses this entry, too, the state is the one to restore.
            self.former = None;
            self.complete = true;
        }
        if let Some(writer) = writer {
            // The writer may have stopped waiting.
            let _ = writer.send(outcome);
        }
        is_own
    }

    /// Waits for the outcome of an entry that is about to be written.
    pub(crate) fn expect(&mut self, id: EntryId) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(id, sender);
        receiver
    }

    /// Nobody waits for that outcome any more.
    pub(crate) fn give_up(&mut self, id: EntryId) {
        self.waiting.remove(&id);
    }

    /// How many wait for an outcome.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The log was read to its end.
    fn caught_up(&mut self) {
        self.complete = true;
    }

    /// The state, once the log was read to its end. While the broker is away it is that of the last moment.
    pub(crate) fn state(&self) -> Option<&State> {
        self.state.as_ref().filter(|_| self.complete)
    }

    pub(crate) fn last_offset(&self) -> Option<u64> {
        self.last.map(|(offset, ..)| offset)
    }

    /// Whether this entry was read, while neither the log's first entry nor a snapshot was.
    pub(crate) fn buffers(&self, id: EntryId) -> bool {
        self.buffer.iter().any(|(_, entry, _)| entry.id == id)
    }

    /// Whether the log's first entry or a snapshot was read.
    pub(crate) fn has_beginning(&self) -> bool {
        self.state.is_some()
    }

    /// What the broker has lost since this participant last read the log to its end; to be written again before any
    /// other entry, so that no lost lease is taken for a job that waits.
    fn lost(&mut self, now: Arrival) -> Option<Op> {
        let lost = self.former.as_ref()?.missing_in(self.state.as_ref()?, now);
        if lost.is_none() {
            self.former = None;
        }
        Some(Op::Restore { lost: Box::new(lost?) })
    }

    /// The log was read to its end, as it was at some moment after connecting. What must be written now, before any
    /// other entry; nothing once the state is complete.
    pub(crate) fn reached_end(&mut self, now: Arrival) -> Option<Op> {
        let restore = self.lost(now).filter(|_| holds(Rule::LossRestored));
        if restore.is_none() {
            self.caught_up();
        }
        restore
    }

    /// A snapshot, if it is due by size or by age. By size, the participant writes it whose entry crossed the
    /// threshold, so that one does and not all. By age, `jitter` makes one participant the first.
    pub(crate) fn due_snapshot(&mut self, jitter: Duration, now: Arrival) -> Option<Op> {
        // Not of a state that the broker may have lost.
        let (offset, ..) = self.last.filter(|_| !self.verify)?;
        let age = self.uncovered_since.map(|since| now.instant.saturating_duration_since(since));
        if !self.snapshot_due && age.is_none_or(|age| age < SNAPSHOT_INTERVAL + jitter) {
            return None;
        }
        let state = Box::new(self.state.as_ref()?.snapshot(now));
        (self.uncovered, self.uncovered_since, self.snapshot_due) = (0, None, false);
        Some(Op::Snapshot { as_of: offset, state })
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
