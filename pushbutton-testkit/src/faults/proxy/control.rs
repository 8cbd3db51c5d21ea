//! The commands given to a proxy, and its counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Counts;

/// The commands in force.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Control {
    pub(super) refusing: bool,
    pub(super) frozen: bool,
    pub(super) drop_responses: bool,
    pub(super) drop_requests: bool,
    pub(super) bytes_per_second: Option<u32>,
    /// How often all connections were to be disconnected, and how the last time.
    pub(super) disconnect: (u64, Disconnect),
}

/// How connections are disconnected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Disconnect {
    /// RST.
    #[default]
    Reset,
    /// FIN.
    Close,
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    ToClient,
}

impl Control {
    pub(super) fn drops(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToServer => self.drop_requests,
            Direction::ToClient => self.drop_responses,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) open: AtomicU64,
    to_server: AtomicU64,
    to_clients: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    pub(super) fn forwarded(&self, direction: Direction, bytes: usize) {
        let counter = if direction == Direction::ToServer { &self.to_server } else { &self.to_clients };
        counter.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn dropped(&self, bytes: usize) {
        self.dropped.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn now(&self) -> Counts {
        Counts {
            accepted: self.accepted.load(Relaxed),
            open: self.open.load(Relaxed),
            to_server: self.to_server.load(Relaxed),
            to_clients: self.to_clients.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}
