//! From one line of the event stream to [`RawEvent`]s, and from Gerrit's JSON to core's checked types. Pure: the only
//! way in.

use jiff::Timestamp;
use pushbutton_core::{
    Account, Approval, BranchName, Change, ChangeNumber, ChangeStatus, Error, ErrorKind, EventKind, GitRef,
    Patchset, PatchsetKind, PatchsetNumber, ProjectName, Result, Revision,
};

use crate::comment_text::split_header;
use crate::event_filter::EventFilter;
use crate::wire::{Text, WireAccount, WireApproval, WireChange, WireEvent, WirePatchset};

/// The longest comment that is kept, in bytes. Gerrit's own limit is 16 KiB; a trigger looks at the beginning.
const MAX_TEXT: usize = 64 << 10;

/// How many comments on the patch set as a whole, and how many votes, of one review, and how many hashtags of a change,
/// are kept. No project has so many labels.
const MAX_TEXTS: usize = 100;
const MAX_VOTES: usize = 100;
const MAX_HASHTAGS: usize = 100;

/// The longest name, topic or hashtag that is kept, in bytes. Every event holds a copy of its change.
const MAX_NAME: usize = 255;

/// An event that has no id yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawEvent {
    pub(crate) change: Change,
    pub(crate) patchset: Patchset,
    /// When, by Gerrit's clock, in whole seconds.
    pub(crate) at: Timestamp,
    pub(crate) kind: RawEventKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawEventKind {
    Created {
        uploader: Account,
    },
    /// A comment, and the votes that came with it.
    Comment {
        author: Account,
        /// The comments on the patch set as a whole; the message, if there are none. Never empty. They identify the event.
        texts: Vec<String>,
        /// The message beside comments. Some servers leave it out of the stream.
        message: Option<String>,
        approvals: Vec<Approval>,
    },
    /// A vote without a text.
    Vote {
        voter: Account,
        vote: Approval,
    },
    /// The change is not work in progress any more.
    Ready {
        changer: Account,
    },
    /// The change is not private any more.
    Public {
        changer: Account,
    },
    Merged,
    Abandoned,
    Restored {
        restorer: Account,
    },
    Deleted,
}

impl From<RawEventKind> for EventKind {
    fn from(kind: RawEventKind) -> Self {
        match kind {
            RawEventKind::Created { uploader } => Self::PatchsetCreated { uploader },
            RawEventKind::Comment { author, mut texts, message, approvals } => {
                texts.extend(message);
                Self::CommentAdded { author, texts, approvals }
            }
            RawEventKind::Vote { voter, vote } => {
                Self::CommentAdded { author: voter, texts: Vec::new(), approvals: vec![vote] }
            }
            RawEventKind::Ready { changer } => Self::ReadyForReview { changer },
            RawEventKind::Public { changer } => Self::MadePublic { changer },
            RawEventKind::Merged => Self::ChangeMerged,
            RawEventKind::Abandoned => Self::ChangeAbandoned,
            RawEventKind::Restored { restorer } => Self::ChangeRestored { restorer },
            RawEventKind::Deleted => Self::ChangeDeleted,
        }
    }
}

/// What a line of the stream says.
#[derive(Debug, PartialEq)]
pub(crate) enum ParsedLine {
    /// Its events that pass the filter, if any, and Gerrit's time of the line.
    Events(Vec<RawEvent>, Option<i64>),
    /// A comment that may be several, joined by the server, one of which may pass the filter. A query shows them one by
    /// one. Holds Gerrit's time of the line.
    Joined(Option<i64>),
    /// The server dropped events because the stream was not read fast enough.
    Dropped,
}

/// Parses one line of the stream. A line that does not pass the filter is dropped before anything is copied from it.
/// `now` is the time of an event that has none.
///
/// # Errors
/// [`ErrorKind::Invalid`]: it is not JSON, or a field that its type needs is missing or invalid. The caller
/// logs and skips it.
pub(crate) fn parse_line(line: &str, filter: &EventFilter, now: Timestamp) -> Result<ParsedLine> {
    if line.bytes().all(|byte| byte.is_ascii_whitespace()) {
        return Ok(ParsedLine::Events(Vec::new(), None));
    }
    let event: WireEvent<'_> = serde_json::from_str(line)
        .map_err(|error| Error::permanent(ErrorKind::Invalid, format!("not a Gerrit event: {error}")))?;
    let kind = event.r#type.as_str();
    if kind == "dropped-output" {
        return Ok(ParsedLine::Dropped);
    }
    let at = event.event_created_on.0;
    let passes = filter.matches_type(kind)
        && event
            .change
            .as_ref()
            .is_none_or(|change| filter.matches_project(change.project.as_str(), change.branch.as_str()));
    let events = if passes { from_stream(event, filter, now)? } else { Some(Vec::new()) };
    Ok(events.map_or(ParsedLine::Joined(at), |events| ParsedLine::Events(events, at)))
}

/// The events in a line. Several votes without a text are several events; an unknown type, or a comment without a
/// text and without a new vote, is none. The result is none if it may be a joined comment.
fn from_stream(event: WireEvent<'_>, filter: &EventFilter, now: Timestamp) -> Result<Option<Vec<RawEvent>>> {
    let kind = event.r#type.as_str();
    if !crate::event_filter::ALL_TYPES.contains(&kind) {
        return Ok(Some(Vec::new()));
    }
    let missing = |field: &str| Error::permanent(ErrorKind::Invalid, format!("{kind} without {field}"));
    let wire_change = event.change.ok_or_else(|| missing("change"))?;
    let wire_patchset = match event.patch_set {
        Some(wire_patchset) => wire_patchset,
        // Gerrit sends none: there is none any more.
        None if kind == "change-deleted" => WirePatchset::default(),
        None => return Err(missing("patchSet")),
    };
    let at = seconds(event.event_created_on.0).unwrap_or(now);
    let kinds = match kind {
        "patchset-created" => {
            let uploader = event.uploader.as_ref().or(wire_patchset.uploader.as_ref());
            vec![RawEventKind::Created { uploader: account(uploader) }]
        }
        "comment-added" => {
            // Only votes with an `oldValue` are new; Gerrit repeats the others in every comment.
            let new = event.approvals.iter().filter(|vote| vote.old_value.0.is_some());
            let votes: Vec<_> = new.filter_map(approval).take(MAX_VOTES).collect();
            let comments = event.patch_set_comments.unwrap_or_default().on_patchset;
            let comments: Vec<&str> = comments.iter().map(|comment| comment.message.as_str()).collect();
            let texts = Texts::new(split_header(event.comment.as_str()).text, &comments);
            if !filter.matches_comment(texts.all(), &votes) {
                let lines = texts.all().flat_map(|text| text.lines().skip(1).map(str::trim));
                let may_be_joined = comments.is_empty() && filter.matches_line(lines);
                return Ok((!may_be_joined).then(Vec::new));
            }
            comment_or_votes(account(event.author.as_ref()), &texts, votes)
        }
        // Only the way back matters: what was skipped can run now.
        "wip-state-changed" if wire_change.wip == Some(true) => Vec::new(),
        "wip-state-changed" => vec![RawEventKind::Ready { changer: account(event.changer.as_ref()) }],
        "private-state-changed" if wire_change.private == Some(true) => Vec::new(),
        "private-state-changed" => vec![RawEventKind::Public { changer: account(event.changer.as_ref()) }],
        "change-deleted" => {
            let change = change(&wire_change)?;
            let patchset = deleted_patchset(change.number)?;
            return Ok(Some(vec![RawEvent { change, patchset, at, kind: RawEventKind::Deleted }]));
        }
        "change-merged" => vec![RawEventKind::Merged],
        "change-abandoned" => vec![RawEventKind::Abandoned],
        _ => vec![RawEventKind::Restored { restorer: account(event.restorer.as_ref()) }],
    };
    if kinds.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let (change, patchset) = (change(&wire_change)?, patchset(&wire_patchset)?);
    let event = |kind| RawEvent { change: change.clone(), patchset: patchset.clone(), at, kind };
    Ok(Some(kinds.into_iter().map(event).collect()))
}

/// What was written in one review, at most [`MAX_TEXT`] bytes in all.
#[derive(Debug, Default)]
pub(crate) struct Texts<'a> {
    /// The comments on the patch set as a whole; the message, if there are none.
    texts: Vec<&'a str>,
    /// The message beside comments.
    message: Option<&'a str>,
}

impl<'a> Texts<'a> {
    /// The texts of a message, without its header, and of comments on the patch set as a whole.
    ///
    /// Servers differ: the message in the stream repeats none of the comments, the first, or all of them joined. What is
    /// repeated counts once.
    pub(crate) fn new(message: &'a str, comments: &[&'a str]) -> Self {
        let message = Some(message.trim()).filter(|message| !message.is_empty());
        let mut room = MAX_TEXT;
        let mut cut = |text: &'a str| {
            let text = pushbutton_core::text::cut(text.trim(), room);
            room -= text.len();
            text
        };
        let texts = comments.iter().map(|comment| cut(comment)).filter(|comment| !comment.is_empty());
        let texts: Vec<&str> = texts.take(MAX_TEXTS).collect();
        if texts.is_empty() {
            return Self { texts: message.map(cut).into_iter().collect(), message: None };
        }
        let joined = comments.join("\n");
        let is_new = |message: &&str| *message != joined.trim() && !texts.contains(message);
        let message = message.filter(is_new).map(cut).filter(|message| !message.is_empty());
        Self { texts, message }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &'a str> {
        self.texts.iter().copied().chain(self.message)
    }
}

/// Texts and the votes that came with them are one event. Without a text, each vote is an event.
pub(crate) fn comment_or_votes(
    author: Account,
    texts: &Texts<'_>,
    votes: Vec<Approval>,
) -> Vec<RawEventKind> {
    if texts.texts.is_empty() {
        return votes.into_iter().map(|vote| RawEventKind::Vote { voter: author.clone(), vote }).collect();
    }
    let message = texts.message.map(str::to_owned);
    let texts = texts.texts.iter().map(|&text| text.to_owned()).collect();
    vec![RawEventKind::Comment { author, texts, message, approvals: votes }]
}

/// Stands for the patch sets of a deleted change, which its event does not name.
fn deleted_patchset(change: ChangeNumber) -> Result<Patchset> {
    let git_ref = GitRef::new(format!("refs/changes/{:02}/{change}/1", change.0 % 100))?;
    Ok(Patchset::new(PatchsetNumber(1), Revision::new("0".repeat(40))?, git_ref))
}

/// None if it has no label, or a value that is not a vote.
pub(crate) fn approval(vote: &WireApproval<'_>) -> Option<Approval> {
    Some(Approval::new(name(&vote.r#type)?, i8::try_from(vote.value.0?).ok()?))
}

pub(crate) fn change(wire: &WireChange<'_>) -> Result<Change> {
    let number = wire.number.0.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    let number = number
        .ok_or_else(|| Error::permanent(ErrorKind::Invalid, "change.number is missing or not a number"))?;
    let context = |error: Error| error.with("change", number);
    let project = ProjectName::new(wire.project.as_str()).map_err(context)?;
    let branch = BranchName::new(wire.branch.as_str().trim_start_matches("refs/heads/")).map_err(context)?;
    let mut change = Change::new(project, branch, ChangeNumber(number));
    change.subject = wire.subject.as_str().chars().take(500).collect();
    change.url = wire.url.owned().filter(|url| url.len() <= 2000);
    change.owner = wire.owner.as_ref().map(|owner| account(Some(owner)));
    change.topic = name(&wire.topic);
    change.hashtags = wire.hashtags.iter().filter_map(name).take(MAX_HASHTAGS).collect();
    change.status = match wire.status.as_str() {
        "MERGED" => ChangeStatus::Merged,
        "ABANDONED" => ChangeStatus::Abandoned,
        _ => ChangeStatus::New,
    };
    (change.wip, change.private) = (wire.wip.unwrap_or_default(), wire.private.unwrap_or_default());
    Ok(change)
}

pub(crate) fn patchset(wire: &WirePatchset<'_>) -> Result<Patchset> {
    let number = wire.number.0.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    let number = number
        .ok_or_else(|| Error::permanent(ErrorKind::Invalid, "patchSet.number is missing or not a number"))?;
    let field = |name| move |error: Error| error.with("field", name);
    let revision = Revision::new(wire.revision.as_str()).map_err(field("patchSet.revision"))?;
    let git_ref = GitRef::new(wire.r#ref.as_str()).map_err(field("patchSet.ref"))?;
    let uploader = wire.uploader.as_ref().map(|uploader| account(Some(uploader)));
    let patchset = Patchset::new(PatchsetNumber(number), revision, git_ref).with_uploader(uploader);
    Ok(patchset.with_kind(match wire.kind.as_str() {
        "TRIVIAL_REBASE" => PatchsetKind::TrivialRebase,
        "TRIVIAL_REBASE_WITH_MESSAGE_UPDATE" => PatchsetKind::TrivialRebaseWithMessageUpdate,
        "MERGE_FIRST_PARENT_UPDATE" => PatchsetKind::MergeFirstParentUpdate,
        "NO_CODE_CHANGE" => PatchsetKind::NoCodeChange,
        "NO_CHANGE" => PatchsetKind::NoChange,
        // A kind that a later Gerrit adds counts as new code: no trigger skips that.
        _ => PatchsetKind::Rework,
    }))
}

pub(crate) fn account(wire: Option<&WireAccount<'_>>) -> Account {
    let mut account = Account::default();
    if let Some(wire) = wire {
        account.username = name(&wire.username);
        account.name = name(&wire.name);
        account.email = name(&wire.email);
    }
    account
}

fn name(text: &Text<'_>) -> Option<String> {
    text.owned().filter(|text| text.len() <= MAX_NAME)
}

/// Gerrit writes times as seconds since 1970.
pub(crate) fn seconds(seconds: Option<i64>) -> Option<Timestamp> {
    Timestamp::from_second(seconds?).ok()
}

#[cfg(test)]
#[path = "raw_event_tests.rs"]
mod tests;
