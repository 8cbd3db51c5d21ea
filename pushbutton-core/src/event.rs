//! What happened upstream: events, and the changes and patch sets that they concern.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{BranchName, ChangeNumber, GitRef, PatchsetNumber, ProjectName, Revision, digest};
use crate::setters::setters;

/// One thing that happened upstream. It always has the same [`EventId`], whether it came by the stream or by a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Identity, made of the event's content: Gerrit's events carry none of their own.
    pub id: EventId,
    /// The event's position in the source; committed once all that it calls for is durable.
    pub position: Position,
    /// The change that it concerns.
    pub change: Change,
    /// The patch set that it concerns.
    pub patchset: Patchset,
    /// What happened.
    pub kind: EventKind,
}

impl Event {
    /// What happened to a patch set of a change, at a position of the source.
    pub fn new(id: EventId, position: Position, kind: EventKind, change: Change, patchset: Patchset) -> Self {
        Self { id, position, change, patchset, kind }
    }

    /// Change and patch set as people write them: `12345,2`.
    pub fn target(&self) -> String {
        format!("{},{}", self.change.number, self.patchset.number)
    }
}

/// What happened to a patch set or its change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
#[non_exhaustive]
pub enum EventKind {
    /// A patch set was uploaded.
    PatchsetCreated {
        /// Who uploaded it.
        uploader: Account,
    },
    /// A comment, a vote, or both.
    CommentAdded {
        /// Who commented.
        author: Account,
        /// Each comment on the patch set as a whole, and the message that was posted with it, without the
        /// `Patch Set N: ...` header that Gerrit puts before it. A pattern is tried on each.
        texts: Vec<String>,
        /// The votes that this very comment changed. Gerrit repeats old votes on every comment; those are left out.
        approvals: Vec<Approval>,
    },
    /// The change is not work in progress any more.
    ReadyForReview {
        /// Who changed it.
        changer: Account,
    },
    /// The change is not private any more.
    MadePublic {
        /// Who changed it.
        changer: Account,
    },
    /// The change was merged.
    ChangeMerged,
    /// The change was abandoned.
    ChangeAbandoned,
    /// The change was deleted.
    ChangeDeleted,
    /// An abandoned change was restored.
    ChangeRestored {
        /// Who restored it.
        restorer: Account,
    },
}

impl EventKind {
    /// Gerrit's name of the type, as in its stream.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PatchsetCreated { .. } => "patchset-created",
            Self::CommentAdded { .. } => "comment-added",
            Self::ReadyForReview { .. } => "wip-state-changed",
            Self::MadePublic { .. } => "private-state-changed",
            Self::ChangeMerged => "change-merged",
            Self::ChangeAbandoned => "change-abandoned",
            Self::ChangeDeleted => "change-deleted",
            Self::ChangeRestored { .. } => "change-restored",
        }
    }

    /// Who did it, where the event has it.
    pub fn actor(&self) -> Option<&Account> {
        match self {
            Self::PatchsetCreated { uploader } => Some(uploader),
            Self::CommentAdded { author, .. } => Some(author),
            Self::ChangeRestored { restorer } => Some(restorer),
            Self::ReadyForReview { changer } | Self::MadePublic { changer } => Some(changer),
            Self::ChangeMerged | Self::ChangeAbandoned | Self::ChangeDeleted => None,
        }
    }
}

/// A review of one commit, through all its patch sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// The project it is for.
    pub project: ProjectName,
    /// The branch it is for.
    pub branch: BranchName,
    /// Its number on this Gerrit.
    pub number: ChangeNumber,
    /// The first line of its commit message. Hostile text: shown, never interpreted.
    #[serde(default)]
    pub subject: String,
    /// Where people read it.
    #[serde(default)]
    pub url: Option<String>,
    /// Whose change it is, where the event says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Account>,
    /// Its topic.
    #[serde(default)]
    pub topic: Option<String>,
    /// Its hashtags.
    #[serde(default)]
    pub hashtags: Vec<String>,
    /// Whether it is open.
    #[serde(default)]
    pub status: ChangeStatus,
    /// Marked as work in progress.
    #[serde(default)]
    pub wip: bool,
    /// Visible only to its owner and reviewers.
    #[serde(default)]
    pub private: bool,
}

impl Change {
    /// An open change, of which only these three are known.
    pub fn new(project: ProjectName, branch: BranchName, number: ChangeNumber) -> Self {
        Self {
            project,
            branch,
            number,
            subject: String::new(),
            url: None,
            owner: None,
            topic: None,
            hashtags: Vec::new(),
            status: ChangeStatus::New,
            wip: false,
            private: false,
        }
    }
}

setters!(Change {
    subject / with_subject: String,
    url / with_url: Option<String>,
    owner / with_owner: Option<Account>,
    topic / with_topic: Option<String>,
    hashtags / with_hashtags: Vec<String>,
    status / with_status: ChangeStatus,
    wip / with_wip: bool,
    private / with_private: bool,
});

/// The state of a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum ChangeStatus {
    /// Open for review.
    #[default]
    New,
    /// In the branch.
    Merged,
    /// Abandoned.
    Abandoned,
}

/// One version of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Patchset {
    /// Its number; the first is 1.
    pub number: PatchsetNumber,
    /// Its commit.
    pub revision: Revision,
    /// Where it can be fetched.
    #[serde(rename = "ref")]
    pub git_ref: GitRef,
    /// How it differs from the one before.
    #[serde(default)]
    pub kind: PatchsetKind,
    /// Who uploaded it, where the event says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploader: Option<Account>,
}

impl Patchset {
    /// A patch set whose kind is [`PatchsetKind::Rework`].
    pub fn new(number: PatchsetNumber, revision: Revision, git_ref: GitRef) -> Self {
        Self { number, revision, git_ref, kind: PatchsetKind::Rework, uploader: None }
    }
}

setters!(Patchset { kind / with_kind: PatchsetKind, uploader / with_uploader: Option<Account> });

/// How a patch set differs from the one before it (Gerrit's JSON documentation, `kind`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum PatchsetKind {
    /// The code changed, or it is the first one.
    #[default]
    Rework,
    /// Rebased without conflict.
    TrivialRebase,
    /// Rebased without conflict, with another commit message.
    TrivialRebaseWithMessageUpdate,
    /// A merge commit with another first parent.
    MergeFirstParentUpdate,
    /// Only the commit message changed.
    NoCodeChange,
    /// Nothing changed but the commit's meta data.
    NoChange,
}

/// A person or a robot on Gerrit. Any part may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Account {
    /// The login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The preferred address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

setters!(Account {
    username / with_username: Option<String>,
    name / with_name: Option<String>,
    email / with_email: Option<String>,
});

impl Account {
    /// An account known by its login name alone.
    pub fn of(username: impl Into<String>) -> Self {
        Self { username: Some(username.into()), ..Self::default() }
    }

    /// The most stable thing known about it: login, else address, else full name.
    pub fn handle(&self) -> &str {
        self.username.as_deref().or(self.email.as_deref()).or(self.name.as_deref()).unwrap_or("")
    }

    /// Whether this matcher names the account: a login name, or `email:` and an address.
    ///
    /// Login names are unique on a Gerrit and cannot be changed. An address counts only where the configuration asks for
    /// it by the prefix, since not every server verifies addresses. The full name never counts: people choose theirs
    /// freely, and could choose somebody else's.
    pub fn is(&self, matcher: &str) -> bool {
        match matcher.strip_prefix(Self::EMAIL) {
            Some(email) => self.email.as_deref().is_some_and(|known| known == email),
            None => self.username.as_deref().is_some_and(|known| known == matcher),
        }
    }

    /// The prefix of a matcher of a trigger that is a group.
    pub(crate) const GROUP: &str = "group:";

    /// The prefix of a matcher that is an address.
    const EMAIL: &str = "email:";

    /// What is wrong with a matcher that can never match an account, and what to write instead.
    pub(crate) fn matcher_fault(matcher: &str) -> Option<String> {
        let is_email = matcher.strip_prefix(Self::EMAIL).is_some_and(|email| email.contains('@'));
        if is_email {
            return None;
        }
        if matcher.contains('@') {
            return Some(format!(
                "{matcher:?} is an address: name the account by its login, or write \"email:{matcher}\" if your Gerrit verifies addresses"
            ));
        }
        if matcher.starts_with(Self::GROUP) {
            return Some(format!("{matcher:?} is a group: accounts are named here one by one"));
        }
        if matcher.is_empty() || matcher.contains(char::is_whitespace) || matcher.starts_with(Self::EMAIL) {
            return Some(format!(
                "{matcher:?} is no login name: full names are not used, since people can choose them freely"
            ));
        }
        None
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.handle().is_empty() { "somebody" } else { self.handle() })
    }
}

/// A vote that was just given or changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Approval {
    /// The label, as `Verified`.
    pub label: String,
    /// Its value now.
    pub value: i8,
}

impl Approval {
    /// A vote of this value on this label.
    pub fn new(label: impl Into<String>, value: i8) -> Self {
        Self { label: label.into(), value }
    }
}

/// How far a source has been read. Ordered by time; a source may keep a token of its own beside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Position {
    /// The upstream's own time of the event.
    pub at: Timestamp,
    /// What else the source needs to go on from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl Position {
    /// A position that is a time and nothing else.
    pub fn at(at: Timestamp) -> Self {
        Self { at, token: None }
    }
}

setters!(Position { token / with_token: Option<String> });

/// Identity of an event: a digest of its content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// A patch set is known by change, number and commit.
    pub fn patchset(change: ChangeNumber, patchset: &Patchset) -> Self {
        Self::of("patchset", change, patchset.number, &[patchset.revision.as_str()])
    }

    /// A patch set whose change becomes `ready` or `public` does so once, however often people change the state to and
    /// fro: the same commit needs no second run.
    pub fn opened(change: ChangeNumber, patchset: &Patchset, state: &str) -> Self {
        Self::of("opened", change, patchset.number, &[patchset.revision.as_str(), state])
    }

    /// A comment is known by its patch set, author and text, and by being the `nth` such (from 1): Gerrit gives it no
    /// id. Several texts of one comment are joined.
    pub fn comment(
        change: ChangeNumber,
        patchset: PatchsetNumber,
        author: &Account,
        text: &str,
        nth: u32,
    ) -> Self {
        Self::of("comment", change, patchset, &[author.handle(), text.trim(), &nth.to_string()])
    }

    /// A vote is known by its patch set, label, value, voter and the second in which it was granted.
    pub fn vote(
        change: ChangeNumber,
        patchset: PatchsetNumber,
        voter: &Account,
        vote: &Approval,
        at: Timestamp,
    ) -> Self {
        let granted = at.as_second().to_string();
        Self::of("vote", change, patchset, &[voter.handle(), &vote.label, &vote.value.to_string(), &granted])
    }

    /// A change of state is known by what it was and the second in which it happened.
    pub fn state(change: ChangeNumber, patchset: PatchsetNumber, state: &str, at: Timestamp) -> Self {
        Self::of("state", change, patchset, &[state, &at.as_second().to_string()])
    }

    /// A job started by hand is known by a token of its maker.
    pub fn manual(change: ChangeNumber, patchset: PatchsetNumber, token: &str) -> Self {
        Self::of("manual", change, patchset, &[token])
    }

    fn of(kind: &str, change: ChangeNumber, patchset: PatchsetNumber, rest: &[&str]) -> Self {
        let (change, patchset) = (change.to_string(), patchset.to_string());
        Self(digest([kind, &change, &patchset].into_iter().chain(rest.iter().copied())))
    }

    /// The digest in hexadecimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_comment_twice_is_two_events_and_the_same_once_is_one() {
        let (change, patchset, author) = (ChangeNumber(12), PatchsetNumber(1), Account::of("bob"));
        let id = |text, nth| EventId::comment(change, patchset, &author, text, nth);
        assert_eq!(id("recheck", 1), id("recheck\n", 1));
        assert_ne!(id("recheck", 1), id("recheck", 2));
        assert_ne!(id("recheck", 1), id("recheck acme", 1));
    }

    #[test]
    fn only_the_login_or_an_address_that_is_asked_for_names_an_account() {
        let zuul = Account::of("zuul").with_name("Zuul".to_owned()).with_email("zuul@example.org".to_owned());
        assert!(zuul.is("zuul") && zuul.is("email:zuul@example.org"));
        for other in ["Zuul", "zu", "zuul@example.org", "email:zuul", "email:", ""] {
            assert!(!zuul.is(other), "{other:?}");
        }
        assert!(!Account::default().is("") && !Account::default().is("email:"));
        let mallory = Account::of("mallory").with_name("zuul".to_owned()).with_email("zuul".to_owned());
        assert!(!mallory.is("zuul"), "core.md S1-1: anybody can choose this full name");
    }

    #[test]
    fn a_matcher_that_can_never_match_is_explained() {
        for fine in ["zuul", "acme-ci", "email:ci@acme.example.org"] {
            assert_eq!(Account::matcher_fault(fine), None, "{fine}");
        }
        assert!(Account::matcher_fault("ci@acme.example.org").unwrap().contains("email:ci@acme.example.org"));
        assert!(Account::matcher_fault("Acme Storage CI").unwrap().contains("no login name"));
        assert!(Account::matcher_fault("").is_some() && Account::matcher_fault("email:x").is_some());
    }
}
