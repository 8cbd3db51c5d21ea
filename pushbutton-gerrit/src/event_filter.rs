//! Which of the events on a Gerrit the pipeline needs.

use std::fmt;
use std::sync::Arc;

use pushbutton_core::{Approval, Triggers};

use crate::raw_event::RawEventKind;

/// Selects events by type, project, branch and comment.
///
/// What it leaves out costs next to nothing: the server is asked for these types only, and other projects are dropped
/// before anything is copied.
#[derive(Clone)]
pub struct EventFilter {
    types: Vec<String>,
    project: Arc<MatchProject>,
    /// None: any comment.
    triggers: Option<Arc<Triggers>>,
}

/// Whether a project and a branch of it match.
type MatchProject = dyn Fn(&str, &str) -> bool + Send + Sync;

/// The stream's event types for which there is an [`EventKind`](pushbutton_core::EventKind).
pub(crate) const ALL_TYPES: [&str; 8] = [
    "patchset-created",
    "comment-added",
    "wip-state-changed",
    "private-state-changed",
    "change-merged",
    "change-abandoned",
    "change-restored",
    "change-deleted",
];

impl EventFilter {
    /// What these triggers need: of the comments, only those that a rule's pattern matches or with a vote that a rule
    /// names.
    pub fn for_triggers(triggers: Arc<Triggers>) -> Self {
        let types = triggers.event_types().into_iter().map(str::to_owned).collect();
        let projects = Arc::clone(&triggers);
        let project = Arc::new(move |project: &str, branch: &str| projects.matches_project(project, branch));
        Self { types, project, triggers: Some(triggers) }
    }

    /// Every event of a known type.
    pub fn everything() -> Self {
        Self { types: ALL_TYPES.map(str::to_owned).to_vec(), project: Arc::new(|_, _| true), triggers: None }
    }

    /// Every event of a known type in the projects and branches for which the function, called with both, returns true.
    pub fn projects(matches: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self { project: Arc::new(matches), ..Self::everything() }
    }

    /// The event types to ask the server for.
    pub(crate) fn types(&self) -> &[String] {
        &self.types
    }

    pub(crate) fn matches_type(&self, kind: &str) -> bool {
        self.types.iter().any(|known| known == kind)
    }

    pub(crate) fn matches_project(&self, project: &str, branch: &str) -> bool {
        (self.project)(project, branch)
    }

    /// Most comments match no rule; those need no event id and no lookup in the event store.
    pub(crate) fn matches_comment<'a>(
        &self,
        mut texts: impl Iterator<Item = &'a str>,
        votes: &[Approval],
    ) -> bool {
        self.triggers.as_ref().is_none_or(|triggers| {
            texts.any(|text| triggers.matches_comment(text))
                || votes.iter().any(|vote| triggers.matches_vote(vote))
        })
    }

    /// Whether one of these lines would match as a comment of its own.
    pub(crate) fn matches_line<'a>(&self, mut lines: impl Iterator<Item = &'a str>) -> bool {
        self.triggers.as_ref().is_some_and(|triggers| lines.any(|line| triggers.matches_comment(line)))
    }

    pub(crate) fn matches(&self, kind: &RawEventKind) -> bool {
        match kind {
            RawEventKind::Comment { texts, message, approvals, .. } => {
                self.matches_comment(texts.iter().chain(message).map(String::as_str), approvals)
            }
            RawEventKind::Vote { vote, .. } => {
                self.matches_comment(std::iter::empty(), std::slice::from_ref(vote))
            }
            RawEventKind::Created { .. }
            | RawEventKind::Ready { .. }
            | RawEventKind::Public { .. }
            | RawEventKind::Merged
            | RawEventKind::Abandoned
            | RawEventKind::Restored { .. }
            | RawEventKind::Deleted => true,
        }
    }
}

impl fmt::Debug for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventFilter").field("types", &self.types).finish_non_exhaustive()
    }
}
