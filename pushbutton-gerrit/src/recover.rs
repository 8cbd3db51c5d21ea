//! What happened to a change, read from a query's reply: pure. The same happenings as the stream would have told.
//!
//! What a reply does not say must be inferred: texts that were typed in the web UI stand apart from the messages (`(1 comment)`), and
//! have no time. Where a message cannot be told for certain, the later possible time is taken: a run too many beats a run too few.

use std::collections::HashMap;

use jiff::Timestamp;
use pushbutton_core::{Account, Approval, Patchset, PatchsetNumber, Result};

use crate::comment_text::take_apart;
use crate::convert::{self, Happening, PATCHSET_LEVEL, What, comment_or_votes, seconds};
use crate::wire::{WireChange, WirePatchset};

/// A happening that a query told of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recovered {
    pub(crate) happening: Happening,
    /// Which of the equal comments since our very first start it is, from 1.
    pub(crate) nth: u32,
}

/// Everything that happened to this change since `horizon`, in order of time. `first_start` is when we were started for the very first
/// time: equal comments are counted from there, as the stream counts them.
///
/// # Errors
/// [`ErrorKind::Invalid`](pushbutton_core::ErrorKind::Invalid): the change is not what a change must be.
pub(crate) fn happenings(
    wire: &WireChange<'_>,
    horizon: Timestamp,
    first_start: Timestamp,
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
    let mut found = Vec::new();
    for (patchset, wire_patchset) in &patchsets {
        let mut add = |at: Option<Timestamp>, what: What| {
            if let Some(at) = at {
                found.push(Happening { change: change.clone(), patchset: patchset.clone(), at, what });
            }
        };
        let created = seconds(wire_patchset.created_on.0);
        add(created, What::Created { uploader: convert::account(wire_patchset.uploader.as_ref()) });
        for deed in deeds(wire, patchset.number, wire_patchset) {
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
            let key = (happening.patchset.number, author.handle().to_owned(), text.trim().to_owned());
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

/// One review by one person: a text, votes, or both.
struct Deed {
    at: Timestamp,
    author: Account,
    text: String,
    votes: Vec<Approval>,
}

/// A message on a patch set.
struct Message<'a> {
    at: Timestamp,
    text: &'a str,
    inline: usize,
}

fn deeds(change: &WireChange<'_>, number: PatchsetNumber, patchset: &WirePatchset<'_>) -> Vec<Deed> {
    let mut by_author: Vec<(Account, Vec<Message<'_>>)> = Vec::new();
    for message in &change.comments {
        let parts = take_apart(message.message.as_str());
        let (Some(of), Some(at)) = (parts.patchset, seconds(message.timestamp.0)) else { continue };
        if of != number.0 {
            continue;
        }
        let author = convert::account(message.reviewer.as_ref());
        let message = Message { at, text: parts.text, inline: parts.inline };
        match by_author.iter_mut().find(|(known, _)| known.handle() == author.handle()) {
            Some((_, messages)) => messages.push(message),
            None => by_author.push((author, vec![message])),
        }
    }
    let mut votes: Vec<(Account, Timestamp, Approval)> = Vec::new();
    for vote in &patchset.approvals {
        let (Some(at), Some(approval)) = (seconds(vote.granted_on.0), convert::approval(vote)) else {
            continue;
        };
        // A vote that is older than its patch set was copied from the one before: nobody has just given it.
        if seconds(patchset.created_on.0).is_none_or(|created| created <= at) {
            votes.push((convert::account(vote.by.as_ref()), at, approval));
        }
    }
    let mut deeds = Vec::new();
    for (author, messages) in by_author {
        let whole: Vec<&str> = whole_patchset_texts(patchset, &author);
        let all = patchset
            .comments
            .iter()
            .filter(|c| convert::account(c.reviewer.as_ref()).handle() == author.handle())
            .count();
        let (joined, apart) = assign(&messages, &whole, all - whole.len().min(all));
        for (message, text) in messages.iter().zip(joined) {
            // The stream shows the words on the patch set, and the message's own only where there are none.
            let text = if text.is_empty() { message.text.to_owned() } else { text };
            let mut given = Vec::new();
            votes.retain(|(voter, at, vote)| {
                let same = voter.handle() == author.handle() && *at == message.at;
                if same {
                    given.push(vote.clone());
                }
                !same
            });
            deeds.push(Deed { at: message.at, author: author.clone(), text, votes: given });
        }
        for (at, text) in apart {
            deeds.push(Deed { at, author: author.clone(), text, votes: Vec::new() });
        }
    }
    deeds.extend(votes.into_iter().map(|(author, at, vote)| Deed {
        at,
        author,
        text: String::new(),
        votes: vec![vote],
    }));
    deeds
}

fn whole_patchset_texts<'a>(patchset: &'a WirePatchset<'_>, author: &Account) -> Vec<&'a str> {
    patchset
        .comments
        .iter()
        .filter(|comment| comment.file.as_str() == PATCHSET_LEVEL)
        .filter(|comment| convert::account(comment.reviewer.as_ref()).handle() == author.handle())
        .map(|comment| comment.message.as_str())
        .collect()
}

/// Gives an author's texts on the patch set (oldest first, without times) to the messages that say `(k comments)`.
///
/// Of each message only the number of its comments is known, comments on files included. The i-th text lies at the earliest in the
/// message where the count passes i with no file comment before it, at the latest where it does with all of them before it. Where both are
/// the same message it is certain, and the texts of one message are joined as the stream joins them. All others stand apart, at
/// the latest possible time.
fn assign(
    messages: &[Message<'_>],
    whole: &[&str],
    on_files: usize,
) -> (Vec<String>, Vec<(Timestamp, String)>) {
    let (mut joined, mut apart) = (vec![String::new(); messages.len()], Vec::new());
    let mut reached = Vec::with_capacity(messages.len());
    let mut sum = 0;
    for message in messages {
        sum += message.inline;
        reached.push(sum);
    }
    let complete = sum == whole.len() + on_files;
    let holder = |count: usize| reached.iter().position(|&reached| reached >= count);
    for (at, text) in whole.iter().enumerate() {
        let (earliest, latest) = (holder(at + 1), holder(at + 1 + on_files));
        match (earliest, latest) {
            (Some(first), Some(last)) if first == last && complete => {
                if !joined[first].is_empty() {
                    joined[first].push('\n');
                }
                joined[first].push_str(convert::cut(text));
            }
            _ => {
                let message = latest.or_else(|| messages.iter().rposition(|message| message.inline > 0));
                if let Some(message) = message.or_else(|| messages.len().checked_sub(1)) {
                    let text = convert::cut(text.trim());
                    if !text.is_empty() {
                        apart.push((messages[message].at, text.to_owned()));
                    }
                }
            }
        }
    }
    for text in &mut joined {
        *text = text.trim().to_owned();
    }
    (joined, apart)
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
