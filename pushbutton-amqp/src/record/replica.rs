//! One participant's copy of the record's state, as far as it has read.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use super::entry::{Entry, Mark, Op};
use super::state::{Moment, Outcome, State};

/// How many bytes of entries are kept while no beginning is known: those between a snapshot's state and its place.
const HELD_BYTES: usize = 4 << 20;

/// Where reading goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// From the first entry that the broker still has.
    First,
    /// From the last entry that was read: it is read again, to see that the record is still the same one.
    At(u64),
}

/// What came of an entry that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fed {
    /// Something may have changed.
    Applied,
    /// It was read before, or waits for a beginning.
    Skipped,
    /// What was read before is not what the broker has now: read again from the first.
    Diverged,
}

/// The state so far, and those who wait for an entry of theirs.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    /// None until the record's first entry or a snapshot was read.
    state: Option<State>,
    /// The last entry read.
    last: Option<(u64, Mark)>,
    /// Whether the next entry must be the last one again.
    verify: bool,
    held: VecDeque<(u64, Entry, usize)>,
    held_bytes: usize,
    waiting: HashMap<Mark, oneshot::Sender<Outcome>>,
    /// Bytes of entries since the last snapshot.
    unsaved: usize,
    /// The size of the last snapshot.
    saved: usize,
    /// Whether the last entry was written here, and somebody waited for it.
    ours: bool,
}

impl Replica {
    /// Begins a reading on a new connection.
    pub(crate) fn resume(&mut self) -> Resume {
        match self.last {
            Some((offset, _)) if self.state.is_some() => {
                self.verify = true;
                Resume::At(offset)
            }
            _ => {
                self.forget();
                Resume::First
            }
        }
    }

    /// Drops what was read, not those who wait.
    pub(crate) fn forget(&mut self) {
        *self = Self { waiting: std::mem::take(&mut self.waiting), ..Self::default() };
    }

    /// Takes the next entry of the record.
    pub(crate) fn feed(&mut self, offset: u64, entry: Entry, size: usize, now: Moment) -> Fed {
        if let Some((last, mark)) = self.last {
            if std::mem::take(&mut self.verify) {
                if (offset, entry.mark) == (last, mark) {
                    return Fed::Skipped;
                }
                self.forget();
                return Fed::Diverged;
            }
            if offset <= last {
                return Fed::Skipped;
            }
        } else if offset == 0 {
            self.state = Some(State::default());
        }
        self.last = Some((offset, entry.mark));
        self.unsaved += size;
        if let Op::Snapshot { as_of, state } = &entry.op {
            (self.unsaved, self.saved) = (0, size);
            if self.state.is_none() && self.holds_all_after(*as_of, offset) {
                self.state = Some(State::from_snapshot(state, now));
                for (offset, entry, _) in std::mem::take(&mut self.held) {
                    if offset > *as_of {
                        self.apply(offset, &entry, now);
                    }
                }
                self.held_bytes = 0;
            }
        }
        if self.state.is_some() {
            self.apply(offset, &entry, now);
            return Fed::Applied;
        }
        self.hold(offset, entry, size);
        Fed::Skipped
    }

    fn holds_all_after(&self, as_of: u64, offset: u64) -> bool {
        offset == as_of + 1 || self.held.front().is_some_and(|(first, _, _)| *first <= as_of + 1)
    }

    fn hold(&mut self, offset: u64, entry: Entry, size: usize) {
        self.held.push_back((offset, entry, size));
        self.held_bytes += size;
        while self.held_bytes > HELD_BYTES {
            let Some((_, _, size)) = self.held.pop_front() else { return };
            self.held_bytes -= size;
        }
    }

    fn apply(&mut self, offset: u64, entry: &Entry, now: Moment) {
        let Some(state) = &mut self.state else { return };
        let outcome = state.apply(offset, &entry.op, now);
        let writer = self.waiting.remove(&entry.mark);
        self.ours = writer.is_some();
        if let Some(writer) = writer {
            // A writer that has gone does not mind.
            let _ = writer.send(outcome);
        }
    }

    /// Asks for the outcome of an entry that is about to be written.
    pub(crate) fn expect(&mut self, mark: Mark) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(mark, sender);
        receiver
    }

    /// Nobody waits for that outcome any more.
    pub(crate) fn give_up(&mut self, mark: Mark) {
        self.waiting.remove(&mark);
    }

    /// What is known, once anything is.
    pub(crate) fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// A snapshot, if so much was written since the last one that it is time, and the entry that was one too many is
    /// ours: so that one participant writes it, not all.
    pub(crate) fn due_snapshot(&mut self, every: usize) -> Option<Op> {
        let (offset, _) = self.last?;
        if !self.ours || self.unsaved < every.max(self.saved) {
            return None;
        }
        let state = Box::new(self.state.as_ref()?.snapshot());
        self.unsaved = 0;
        Some(Op::Snapshot { as_of: offset, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushbutton_core::RunId;
    use pushbutton_core::samples::job_on;

    fn adopt(n: u64) -> Entry {
        Entry::new(Op::Adopt { job: job_on(n, "tempest"), claim: RunId::generate(), lease_ms: 1000 })
    }

    fn feed(replica: &mut Replica, offset: u64, entry: &Entry) -> Fed {
        replica.feed(offset, entry.clone(), 100, Moment::now())
    }

    fn knows(replica: &Replica, n: u64) -> bool {
        replica.state().is_some_and(|state| state.knows(&job_on(n, "tempest").id))
    }

    #[test]
    fn who_reads_from_a_snapshot_knows_what_who_read_all_knows() {
        let mut all = Replica::default();
        let entries: Vec<_> = (0..6).map(adopt).collect();
        for (offset, entry) in (0..).zip(&entries[..3]) {
            feed(&mut all, offset, entry);
        }
        assert!(all.due_snapshot(300).is_none(), "who wrote the last entry sees to it");
        let mut all = Replica::default();
        let _waiter = all.expect(entries[2].mark);
        for (offset, entry) in (0..).zip(&entries[..3]) {
            feed(&mut all, offset, entry);
        }
        assert!(all.due_snapshot(301).is_none(), "not enough was written");
        let snapshot = Entry::new(all.due_snapshot(300).unwrap());
        // Others wrote on while the snapshot was on its way.
        feed(&mut all, 3, &entries[3]);
        feed(&mut all, 4, &snapshot);
        assert!(all.due_snapshot(300).is_none());
        feed(&mut all, 5, &entries[5]);

        // The broker has dropped offsets 0 to 2.
        let mut late = Replica::default();
        assert_eq!(late.resume(), Resume::First);
        assert_eq!(feed(&mut late, 3, &entries[3]), Fed::Skipped);
        assert!(late.state().is_none(), "without a beginning nothing is known");
        assert_eq!(feed(&mut late, 4, &snapshot), Fed::Applied);
        feed(&mut late, 5, &entries[5]);
        let (all, late) = (all.state().unwrap(), late.state().unwrap());
        assert_eq!(all.snapshot(), late.snapshot());

        // Offset 3 is dropped too: this snapshot is of no use.
        let mut later = Replica::default();
        feed(&mut later, 4, &snapshot);
        assert!(later.state().is_none());
    }

    #[test]
    fn a_writer_hears_what_became_of_its_entry() {
        let mut replica = Replica::default();
        let (entry, rival) = (adopt(1), adopt(1));
        let (mut mine, mut theirs) = (replica.expect(entry.mark), replica.expect(rival.mark));
        feed(&mut replica, 0, &entry);
        feed(&mut replica, 1, &rival);
        assert_eq!((mine.try_recv(), theirs.try_recv()), (Ok(Outcome::Done), Ok(Outcome::Void)));
    }

    #[test]
    fn a_record_that_was_cut_short_or_replaced_is_read_again() {
        let mut replica = Replica::default();
        let entries: Vec<_> = (0..3).map(adopt).collect();
        for (offset, entry) in (0..).zip(&entries) {
            feed(&mut replica, offset, entry);
        }
        assert_eq!(replica.resume(), Resume::At(2));
        assert_eq!(feed(&mut replica, 2, &entries[2]), Fed::Skipped);
        assert_eq!(feed(&mut replica, 1, &entries[1]), Fed::Skipped);
        assert!(knows(&replica, 2));
        // The broker's host lost power, and with it the last entry.
        assert_eq!(replica.resume(), Resume::At(2));
        assert_eq!(feed(&mut replica, 2, &adopt(7)), Fed::Diverged);
        assert_eq!(replica.resume(), Resume::First);
        feed(&mut replica, 0, &entries[0]);
        assert!(knows(&replica, 0) && !knows(&replica, 2));
    }
}
