//! What a proxy was told to do, and what it has done.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Counts;

/// What it was told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Control {
    pub(super) closed: bool,
    pub(super) frozen: bool,
    pub(super) lose_answers: bool,
    pub(super) lose_questions: bool,
    pub(super) bytes_per_second: Option<u32>,
    /// How often connections were cut, and how the last time.
    pub(super) cut: (u64, Cut),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Cut {
    /// RST.
    #[default]
    Reset,
    /// FIN.
    End,
}

/// One way of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ToServer,
    ToClient,
}

impl Control {
    pub(super) fn loses(&self, way: Way) -> bool {
        match way {
            Way::ToServer => self.lose_questions,
            Way::ToClient => self.lose_answers,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) open: AtomicU64,
    to_server: AtomicU64,
    to_clients: AtomicU64,
    lost: AtomicU64,
}

impl Counters {
    pub(super) fn passed(&self, way: Way, bytes: usize) {
        let counter = if way == Way::ToServer { &self.to_server } else { &self.to_clients };
        counter.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn lost(&self, bytes: usize) {
        self.lost.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn now(&self) -> Counts {
        Counts {
            accepted: self.accepted.load(Relaxed),
            open: self.open.load(Relaxed),
            to_server: self.to_server.load(Relaxed),
            to_clients: self.to_clients.load(Relaxed),
            lost: self.lost.load(Relaxed),
        }
    }
}
