//! Seen events and the position in the event stream.

use std::collections::{HashSet, VecDeque};

use pushbutton_core::Position;

use super::ids::EventKey;
use super::rules::{Rule, holds};

/// How many events are remembered. After a gap the event source asks for what came after the position, some minutes or
/// hours ago. An event must not be forgotten while its jobs (10,000 completed ones) are remembered.
pub(crate) const MAX_SEEN: usize = 50_000;

/// The newest events, in the order of the log, and the position, which never goes back.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenEvents {
    seen: HashSet<EventKey>,
    order: VecDeque<EventKey>,
    position: Option<Position>,
}

impl SeenEvents {
    pub(crate) fn has_seen(&self, event: EventKey) -> bool {
        self.seen.contains(&event)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = EventKey> {
        self.order.iter().copied()
    }

    pub(crate) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Whether that position would be a step forward.
    pub(crate) fn is_behind(&self, position: &Position) -> bool {
        self.position.as_ref().is_none_or(|known| known < position)
    }

    /// Adds events; says of each whether it is new.
    pub(super) fn record(&mut self, events: &[EventKey]) -> Vec<bool> {
        events.iter().map(|key| self.insert(*key)).collect()
    }

    pub(super) fn advance(&mut self, position: Option<&Position>) {
        if let Some(position) = position.filter(|position| self.is_behind(position)) {
            self.position = Some(position.clone());
        }
    }

    fn insert(&mut self, key: EventKey) -> bool {
        if !self.seen.insert(key) && holds(Rule::EventNewOnce) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > MAX_SEEN {
            if let Some(oldest) = self.order.pop_front() {
                self.seen.remove(&oldest);
            }
        }
        true
    }
}
