//! The events of one change, read from a query reply: the same that the stream would have brought. Pure.
//!
//! A reply does not say when every text was written (see [`review_actions`](super::review_actions)). If there are
//! several possible times, the latest is used: an event too many is better than one too few.

use std::collections::HashMap;

use jiff::Timestamp;
use pushbutton_core::{Patchset, PatchsetNumber, Result};

use super::review_actions::{messages, review_actions, times_by_author};
use crate::client::rest_comments::CommentTime;
use crate::deduplication::canonical_text;
use crate::raw_event::{self, RawEvent, RawEventKind, comment_or_votes, seconds};
use crate::wire::{WireChange, WirePatchset};

/// An event that a query found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BackfilledEvent {
    pub(crate) event: RawEvent,
    /// Which of the equal comments since the very first start it is, from 1.
    pub(crate) nth: u32,
}

/// The events on this change since `horizon`, in order of time. `first_start` is the very first start of this
/// installation: equal comments are counted from there, as in the stream. `comment_times` is the answer of REST, if
/// there is one.
///
/// # Errors
/// [`ErrorKind::Invalid`](pushbutton_core::ErrorKind::Invalid): a field of the change is missing or invalid.
pub(crate) fn backfilled_events(
    wire: &WireChange<'_>,
    horizon: Timestamp,
    first_start: Timestamp,
    comment_times: Option<&[CommentTime]>,
) -> Result<Vec<BackfilledEvent>> {
    let change = raw_event::change(wire)?;
    let mut patchsets: Vec<(Patchset, &WirePatchset<'_>)> = Vec::new();
    for wire in wire.patch_sets.iter() {
        match raw_event::patchset(wire) {
            Ok(patchset) => patchsets.push((patchset, wire)),
            Err(error) => {
                tracing::warn!(change = %change.number, "skipping a patch set in a query reply: {error}");
            }
        }
    }
    patchsets.sort_by_key(|(patchset, _)| patchset.number);
    let (mut events, mut messages, times) = (Vec::new(), messages(wire), comment_times.map(times_by_author));
    for (patchset, wire_patchset) in &patchsets {
        let mut add = |at: Option<Timestamp>, kind: RawEventKind| {
            if let Some(at) = at {
                events.push(RawEvent { change: change.clone(), patchset: patchset.clone(), at, kind });
            }
        };
        let created = seconds(wire_patchset.created_on.0);
        add(created, RawEventKind::Created { uploader: raw_event::account(wire_patchset.uploader.as_ref()) });
        let messages = messages.remove(&patchset.number).unwrap_or_default();
        for action in review_actions(wire_patchset, patchset.number, messages, times.as_ref()) {
            for kind in comment_or_votes(action.author, &action.texts, action.votes) {
                add(Some(action.at), kind);
            }
        }
    }
    for (at, kind) in status_changes(wire) {
        // The patch set that was the newest then.
        let existed = |(_, wire): &&(Patchset, &WirePatchset<'_>)| {
            seconds(wire.created_on.0).is_none_or(|created| created <= at)
        };
        if let Some((patchset, _)) = patchsets.iter().rev().find(existed).or(patchsets.last()) {
            events.push(RawEvent { change: change.clone(), patchset: patchset.clone(), at, kind });
        }
    }
    events.sort_by_key(|event| event.at);
    Ok(count_equal(events, horizon, first_start))
}

/// Counts equal comments since the first start, and then drops what is older than the horizon.
fn count_equal(events: Vec<RawEvent>, horizon: Timestamp, first_start: Timestamp) -> Vec<BackfilledEvent> {
    let mut counts: HashMap<(PatchsetNumber, String, String), u32> = HashMap::new();
    let mut found = Vec::new();
    for event in events {
        let mut nth = 1;
        if let RawEventKind::Comment { author, texts, .. } = &event.kind {
            if event.at.as_second() < first_start.as_second() {
                continue;
            }
            let key = (event.patchset.number, author.handle().to_owned(), canonical_text(texts).into_owned());
            let count = counts.entry(key).or_default();
            *count += 1;
            nth = *count;
        }
        if event.at.as_second() >= horizon.as_second() {
            found.push(BackfilledEvent { event, nth });
        }
    }
    found
}

/// From the messages that Gerrit itself writes. Those of people have the header `Patch Set N:`.
fn status_changes(change: &WireChange<'_>) -> Vec<(Timestamp, RawEventKind)> {
    let mut changes = Vec::new();
    for message in change.comments.iter() {
        let Some(at) = seconds(message.timestamp.0) else { continue };
        let first_line = message.message.as_str().lines().next().unwrap_or("");
        if first_line == "Abandoned" {
            changes.push((at, RawEventKind::Abandoned));
        } else if first_line == "Restored" {
            let restorer = raw_event::account(message.reviewer.as_ref());
            changes.push((at, RawEventKind::Restored { restorer }));
        } else if first_line == "Set Ready For Review" {
            changes
                .push((at, RawEventKind::Ready { changer: raw_event::account(message.reviewer.as_ref()) }));
        } else if first_line == "Unset private" {
            changes
                .push((at, RawEventKind::Public { changer: raw_event::account(message.reviewer.as_ref()) }));
        } else if first_line.starts_with("Change has been successfully ") {
            changes.push((at, RawEventKind::Merged));
        }
    }
    let has_merged = changes.iter().any(|(_, kind)| *kind == RawEventKind::Merged);
    if change.status.as_str() == "MERGED" && !has_merged {
        changes.extend(seconds(change.last_updated.0).map(|at| (at, RawEventKind::Merged)));
    }
    changes
}

#[cfg(test)]
#[path = "change_events_tests.rs"]
mod tests;
