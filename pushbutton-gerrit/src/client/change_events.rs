//! What happened on one change, read by a query: for `explain`.

use jiff::Timestamp;
use pushbutton_core::{Account, ChangeNumber, ChangeStatus, Event, EventId, EventKind, Position, Result};

use crate::backfill::change_events::backfilled_events;
use crate::client::Gerrit;
use crate::client::query::{ChangeState, change_state};
use crate::deduplication::candidates;
use crate::position::PositionTracker;
use crate::raw_event::{account, seconds};
use crate::wire::WireChange;

/// A change, and everything that happened on it, as far as Gerrit still shows it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChangeEvents {
    /// The change and its patch sets.
    pub state: ChangeState,
    /// Its events, oldest first, as the source would have brought them. Topic, hashtags and the marks of the change are
    /// those of now; whether it was open is as of then.
    pub events: Vec<PastEvent>,
    /// The messages on it, oldest first.
    pub messages: Vec<ChangeMessage>,
}

/// An event, and the ids under which it may have been handled: the stream may have dated it some seconds later.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PastEvent {
    /// The event.
    pub event: Event,
    /// Its possible ids; the first is that of the event itself.
    pub ids: Vec<EventId>,
}

/// A message on a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeMessage {
    /// When it was posted.
    pub at: Timestamp,
    /// Who posted it.
    pub author: Account,
    /// Its text, with Gerrit's header.
    pub text: String,
}

impl Gerrit {
    /// Reads a change with everything that happened on it. `position` is the handler's, if it is known: equal comments are
    /// counted from its first start on, and so get the same ids.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub async fn change_events(
        &self,
        number: ChangeNumber,
        position: Option<&Position>,
    ) -> Result<ChangeEvents> {
        let options = "--comments --patch-sets --all-approvals";
        let read = |row: &WireChange<'_>| change_events(row, position);
        self.one_change(options, number, read).await.map_err(|error| error.during("gerrit::change_events"))
    }
}

fn change_events(row: &WireChange<'_>, position: Option<&Position>) -> Result<ChangeEvents> {
    let overlap = std::time::Duration::ZERO;
    let first_start = position.map(|position| PositionTracker::new(position, overlap).first_start());
    let found =
        backfilled_events(row, Timestamp::UNIX_EPOCH, first_start.unwrap_or(Timestamp::UNIX_EPOCH), None)?;
    let mut status = ChangeStatus::New;
    let past = |found: crate::backfill::BackfilledEvent| {
        let ids = candidates(&found.event, found.nth);
        let id = ids.first().cloned()?;
        let (mut change, patchset, at) = (found.event.change, found.event.patchset, found.event.at);
        let kind = EventKind::from(found.event.kind);
        match kind {
            EventKind::ChangeMerged => status = ChangeStatus::Merged,
            EventKind::ChangeAbandoned => status = ChangeStatus::Abandoned,
            EventKind::ChangeRestored { .. } => status = ChangeStatus::New,
            _ => {}
        }
        change.status = status;
        Some(PastEvent { event: Event::new(id, Position::at(at), kind, change, patchset), ids })
    };
    let events = found.into_iter().filter_map(past).collect();
    let messages = row.comments.iter().filter_map(|message| {
        let (author, text) = (account(message.reviewer.as_ref()), message.message.as_str().to_owned());
        Some(ChangeMessage { at: seconds(message.timestamp.0)?, author, text })
    });
    Ok(ChangeEvents { state: change_state(row)?, events, messages: messages.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_a_change_come_in_order_with_the_status_of_then() {
        let line = include_str!("../../tests/payloads/query-3.10-open.jsonl").lines().next().unwrap();
        let row: WireChange<'_> = serde_json::from_str(line).unwrap();
        let all = change_events(&row, None).unwrap();
        let times: Vec<_> = all.events.iter().map(|past| past.event.position.at).collect();
        assert!(times.is_sorted() && times.len() > 5, "{times:?}");
        let at = |wanted: &EventKind| {
            let is_wanted = |past: &&PastEvent| past.event.kind.name() == wanted.name();
            all.events.iter().find(is_wanted).map(|past| past.event.change.status)
        };
        assert_eq!(at(&EventKind::ChangeAbandoned), Some(ChangeStatus::Abandoned));
        let restored = EventKind::ChangeRestored { restorer: Account::default() };
        assert_eq!(at(&restored), Some(ChangeStatus::New));
        assert!(all.messages.iter().any(|message| message.text == "Patch Set 1:\n\nrecheck"));
        assert!(all.events.iter().all(|past| past.ids.first() == Some(&past.event.id)));
    }
}
