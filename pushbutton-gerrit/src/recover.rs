//! What happened to a change, read from a query's reply: pure. The same happenings as the stream would have told.
//!
//! What a reply does not say must be inferred (see [`deeds`](crate::deeds)). Where it cannot be told for certain when a text was
//! written, the later possible time is taken: a run too many beats a run too few.

use std::collections::HashMap;

use jiff::Timestamp;
use pushbutton_core::{Patchset, PatchsetNumber, Result};

use crate::convert::{self, Happening, What, comment_or_votes, seconds};
use crate::deeds::{by_author, deeds, messages};
use crate::identity::same_words;
use crate::web_reply::Written;
use crate::wire::{WireChange, WirePatchset};

/// A happening that a query told of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recovered {
    pub(crate) happening: Happening,
    /// Which of the equal comments since our very first start it is, from 1.
    pub(crate) nth: u32,
}

/// Everything that happened to this change since `horizon`, in order of time. `first_start` is when we were started for the very first
/// time: equal comments are counted from there, as the stream counts them. `written` is what REST told of its comments, if it was asked.
///
/// # Errors
/// [`ErrorKind::Invalid`](pushbutton_core::ErrorKind::Invalid): the change is not what a change must be.
pub(crate) fn happenings(
    wire: &WireChange<'_>,
    horizon: Timestamp,
    first_start: Timestamp,
    written: Option<&[Written]>,
) -> Result<Vec<Recovered>> {
    let change = convert::change(wire)?;
    let mut patchsets: Vec<(Patchset, &WirePatchset<'_>)> = Vec::new();
    for wire in &wire.patchsets {
        match convert::patchset(wire) {
            Ok(patchset) => patchsets.push((patchset, wire)),
            Err(error) => {
                tracing::warn!(change = %change.number, "a patch set in a query's reply is passed by: {error}")
            }
        }
    }
    patchsets.sort_by_key(|(patchset, _)| patchset.number);
    let (mut found, mut messages, written) = (Vec::new(), messages(wire), written.map(by_author));
    for (patchset, wire_patchset) in &patchsets {
        let mut add = |at: Option<Timestamp>, what: What| {
            if let Some(at) = at {
                found.push(Happening { change: change.clone(), patchset: patchset.clone(), at, what });
            }
        };
        let created = seconds(wire_patchset.created_on.0);
        add(created, What::Created { uploader: convert::account(wire_patchset.uploader.as_ref()) });
        let said = messages.remove(&patchset.number).unwrap_or_default();
        for deed in deeds(wire_patchset, patchset.number, said, written.as_ref()) {
            for what in comment_or_votes(deed.author, &deed.text, deed.votes) {
                add(Some(deed.at), what);
            }
        }
    }
    for (at, what) in states(wire) {
        // The patch set that was current then.
        let then = |(_, wire): &&(Patchset, &WirePatchset<'_>)| {
            seconds(wire.created_on.0).is_none_or(|created| created <= at)
        };
        if let Some((patchset, _)) = patchsets.iter().rev().find(then).or(patchsets.last()) {
            found.push(Happening { change: change.clone(), patchset: patchset.clone(), at, what });
        }
    }
    found.sort_by_key(|happening| happening.at);
    Ok(number(found, horizon, first_start))
}

/// Counts equal comments, and leaves out what is older than the horizon.
fn number(found: Vec<Happening>, horizon: Timestamp, first_start: Timestamp) -> Vec<Recovered> {
    let mut counts: HashMap<(PatchsetNumber, String, String), u32> = HashMap::new();
    let mut recovered = Vec::new();
    for happening in found {
        let mut nth = 1;
        if let What::Comment { author, text, .. } = &happening.what {
            if happening.at.as_second() < first_start.as_second() {
                continue;
            }
            let key = (happening.patchset.number, author.handle().to_owned(), same_words(text).into_owned());
            let count = counts.entry(key).or_default();
            *count += 1;
            nth = *count;
        }
        if happening.at.as_second() >= horizon.as_second() {
            recovered.push(Recovered { happening, nth });
        }
    }
    recovered
}

/// Changes of state, from the messages that Gerrit itself writes; people's have the header `Patch Set N:`.
fn states(change: &WireChange<'_>) -> Vec<(Timestamp, What)> {
    let mut states = Vec::new();
    for message in &change.comments {
        let Some(at) = seconds(message.timestamp.0) else { continue };
        let text = message.message.as_str();
        let first = text.lines().next().unwrap_or("");
        if first == "Abandoned" {
            states.push((at, What::Abandoned));
        } else if first == "Restored" {
            states.push((at, What::Restored { restorer: convert::account(message.reviewer.as_ref()) }));
        } else if first.starts_with("Change has been successfully ") {
            states.push((at, What::Merged));
        }
    }
    let merged = states.iter().any(|(_, what)| *what == What::Merged);
    if change.status.as_str() == "MERGED" && !merged {
        states.extend(seconds(change.last_updated.0).map(|at| (at, What::Merged)));
    }
    states
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
