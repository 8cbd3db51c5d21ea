//! From Gerrit's own words to checked types: pure, and the only way in.

use jiff::Timestamp;
use pushbutton_core::{
    Account, Approval, BranchName, Change, ChangeNumber, ChangeStatus, Error, ErrorKind, GitRef, Patchset,
    PatchsetKind, PatchsetNumber, ProjectName, Result, Revision,
};

use crate::comment_text::take_apart;
use crate::interest::Interest;
use crate::wire::{Text, WireAccount, WireApproval, WireChange, WireEvent, WirePatchset};

/// The longest comment that is taken. Gerrit's own limit is 16 KiB; a trigger looks at the beginning.
const MAX_TEXT: usize = 64 << 10;

/// The most votes that are taken from one review, and the most hashtags of a change. No project has so many labels.
const MAX_VOTES: usize = 100;
const MAX_HASHTAGS: usize = 100;

/// The longest name, topic or hashtag that is taken, in bytes. Every happening holds a copy of its change.
const MAX_WORD: usize = 255;

/// The file name under which Gerrit keeps comments on a patch set as a whole.
pub(crate) const PATCHSET_LEVEL: &str = "/PATCHSET_LEVEL";

/// Something that happened, not yet identified.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Happening {
    pub(crate) change: Change,
    pub(crate) patchset: Patchset,
    /// When, by Gerrit's clock, to the second.
    pub(crate) at: Timestamp,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    Created {
        uploader: Account,
    },
    /// A comment with a text, and the votes that came with it.
    Comment {
        author: Account,
        text: String,
        approvals: Vec<Approval>,
    },
    /// A vote without a text.
    Vote {
        voter: Account,
        vote: Approval,
    },
    Merged,
    Abandoned,
    Restored {
        restorer: Account,
    },
}

/// Reads one event of the stream: several votes without a text are several happenings. Empty when nothing came of it that could
/// matter: an unknown type, or a comment without text and new vote.
///
/// # Errors
/// [`ErrorKind::Invalid`] when something in it is not what it must be.
pub(crate) fn from_stream(
    event: WireEvent<'_>,
    interest: &Interest,
    now: Timestamp,
) -> Result<Vec<Happening>> {
    let kind = event.kind.as_str();
    if !matches!(
        kind,
        "patchset-created" | "comment-added" | "change-merged" | "change-abandoned" | "change-restored"
    ) {
        return Ok(Vec::new());
    }
    let missing = |what: &str| Error::permanent(ErrorKind::Invalid, format!("{kind} without {what}"));
    let wire_change = event.change.ok_or_else(|| missing("change"))?;
    let wire_patchset = event.patchset.ok_or_else(|| missing("patchSet"))?;
    let at = seconds(event.created_on.0).unwrap_or(now);
    let what = match kind {
        "patchset-created" => {
            let uploader = event.uploader.as_ref().or(wire_patchset.uploader.as_ref());
            vec![What::Created { uploader: account(uploader) }]
        }
        "comment-added" => {
            let votes = new_votes(&event.approvals);
            let whole: Vec<&str> = event.on_patchset.iter().map(|comment| comment.message.as_str()).collect();
            // As Gerrit itself joins them where it puts them into `comment`.
            let joined = whole.join("\n");
            let text = if joined.trim().is_empty() {
                take_apart(event.comment.as_str()).text
            } else {
                joined.trim()
            };
            // Before anything is copied.
            if !interest.wants_comment(text, &votes) {
                return Ok(Vec::new());
            }
            comment_or_votes(account(event.author.as_ref()), text, votes)
        }
        "change-merged" => vec![What::Merged],
        "change-abandoned" => vec![What::Abandoned],
        _ => vec![What::Restored { restorer: account(event.restorer.as_ref()) }],
    };
    if what.is_empty() {
        return Ok(Vec::new());
    }
    let (change, patchset) = (change(&wire_change)?, patchset(&wire_patchset)?);
    Ok(what
        .into_iter()
        .map(|what| Happening { change: change.clone(), patchset: patchset.clone(), at, what })
        .collect())
}

/// A comment keeps the votes that came with it: one deed is one event. Without a text each vote stands for itself.
pub(crate) fn comment_or_votes(author: Account, text: &str, votes: Vec<Approval>) -> Vec<What> {
    if text.is_empty() {
        return votes.into_iter().map(|vote| What::Vote { voter: author.clone(), vote }).collect();
    }
    vec![What::Comment { author, text: cut(text).to_owned(), approvals: votes }]
}

/// Only votes with an `oldValue` were just given; Gerrit repeats the others on every comment.
fn new_votes(approvals: &[WireApproval<'_>]) -> Vec<Approval> {
    approvals.iter().filter(|vote| vote.old_value.0.is_some()).filter_map(approval).take(MAX_VOTES).collect()
}

/// A vote, if it is one.
pub(crate) fn approval(vote: &WireApproval<'_>) -> Option<Approval> {
    let label = word(&vote.label)?;
    Some(Approval { label, value: i8::try_from(vote.value.0?).ok()? })
}

pub(crate) fn change(wire: &WireChange<'_>) -> Result<Change> {
    let number = wire.number.0.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    let number = number
        .ok_or_else(|| Error::permanent(ErrorKind::Invalid, "change.number is missing or not a number"))?;
    let here = |error: Error| error.with("change", number);
    Ok(Change {
        project: ProjectName::new(wire.project.as_str()).map_err(here)?,
        branch: BranchName::new(wire.branch.as_str().trim_start_matches("refs/heads/")).map_err(here)?,
        number: ChangeNumber(number),
        subject: wire.subject.as_str().chars().take(500).collect(),
        url: wire.url.owned().filter(|url| url.len() <= 2000),
        topic: word(&wire.topic),
        hashtags: wire.hashtags.iter().filter_map(word).take(MAX_HASHTAGS).collect(),
        status: match wire.status.as_str() {
            "MERGED" => ChangeStatus::Merged,
            "ABANDONED" => ChangeStatus::Abandoned,
            _ => ChangeStatus::New,
        },
        wip: wire.wip,
        private: wire.private,
    })
}

pub(crate) fn patchset(wire: &WirePatchset<'_>) -> Result<Patchset> {
    let number = wire.number.0.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    let number = number
        .ok_or_else(|| Error::permanent(ErrorKind::Invalid, "patchSet.number is missing or not a number"))?;
    Ok(Patchset {
        number: PatchsetNumber(number),
        revision: Revision::new(wire.revision.as_str())
            .map_err(|error| error.with("field", "patchSet.revision"))?,
        git_ref: GitRef::new(wire.git_ref.as_str()).map_err(|error| error.with("field", "patchSet.ref"))?,
        kind: match wire.kind.as_str() {
            "TRIVIAL_REBASE" => PatchsetKind::TrivialRebase,
            "TRIVIAL_REBASE_WITH_MESSAGE_UPDATE" => PatchsetKind::TrivialRebaseWithMessageUpdate,
            "MERGE_FIRST_PARENT_UPDATE" => PatchsetKind::MergeFirstParentUpdate,
            "NO_CODE_CHANGE" => PatchsetKind::NoCodeChange,
            "NO_CHANGE" => PatchsetKind::NoChange,
            // A kind of a later Gerrit is taken as the one that skips nothing.
            _ => PatchsetKind::Rework,
        },
    })
}

pub(crate) fn account(wire: Option<&WireAccount<'_>>) -> Account {
    wire.map_or_else(Account::default, |wire| Account {
        username: word(&wire.username),
        name: word(&wire.name),
        email: word(&wire.email),
    })
}

/// A text of reasonable length.
fn word(text: &Text<'_>) -> Option<String> {
    text.owned().filter(|text| text.len() <= MAX_WORD)
}

/// Seconds since 1970, as Gerrit writes times.
pub(crate) fn seconds(seconds: Option<i64>) -> Option<Timestamp> {
    Timestamp::from_second(seconds?).ok()
}

pub(crate) fn cut(text: &str) -> &str {
    let mut at = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[..at]
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
