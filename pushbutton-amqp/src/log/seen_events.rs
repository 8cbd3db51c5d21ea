//! Seen events and the position in the event stream.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use pushbutton_core::{Error, ErrorKind, EventId, Position, Result};
use serde::{Deserialize, Serialize};

/// How many events are remembered. After a gap the event source asks for what came after the position, some minutes or
/// hours ago. An event must not be forgotten while its jobs (10,000 completed ones) are remembered.
pub(crate) const MAX_SEEN: usize = 50_000;

/// An event's id in 16 bytes: it is a digest of that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct EventKey(pub(super) u128);

impl EventKey {
    pub(crate) fn of(event: &EventId) -> Result<Self> {
        Self::parse(event.as_str())
            .ok_or_else(|| Error::permanent(ErrorKind::Invalid, "the event's id is not a digest of 16 bytes"))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl TryFrom<String> for EventKey {
    type Error = &'static str;
    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an event's id is 32 hexadecimal digits")
    }
}

impl From<EventKey> for String {
    fn from(key: EventKey) -> Self {
        key.to_string()
    }
}

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
        if !self.seen.insert(key) {
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
