//! What of all that happens on a Gerrit is worth a look.

use std::fmt;
use std::sync::Arc;

use pushbutton_core::{Approval, Triggers};

use crate::convert::What;

/// Which events are handed on. What is left out costs next to nothing: the server is asked for these types only, and other projects are
/// dropped before anything is copied.
#[derive(Clone)]
pub struct Interest {
    types: Vec<String>,
    place: Arc<Place>,
    /// None: any comment.
    triggers: Option<Arc<Triggers>>,
}

/// Whether a project and a branch of it are of interest.
type Place = dyn Fn(&str, &str) -> bool + Send + Sync;

/// The types of events that an [`EventKind`](pushbutton_core::EventKind) can stand for.
const ALL_TYPES: [&str; 5] =
    ["patchset-created", "comment-added", "change-merged", "change-abandoned", "change-restored"];

impl Interest {
    /// What these triggers need; of the comments, those that are in the words of a rule or bring a vote that a rule heeds.
    pub fn of(triggers: Arc<Triggers>) -> Self {
        let types = triggers.event_types().into_iter().map(str::to_owned).collect();
        let places = Arc::clone(&triggers);
        let place = Arc::new(move |project: &str, branch: &str| places.matches_project(project, branch));
        Self { types, place, triggers: Some(triggers) }
    }

    /// Everything that is known.
    pub fn everything() -> Self {
        Self { types: ALL_TYPES.map(str::to_owned).to_vec(), place: Arc::new(|_, _| true), triggers: None }
    }

    /// Everything in the places that the function says yes to; it is given project and branch.
    pub fn places(wanted: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self { place: Arc::new(wanted), ..Self::everything() }
    }

    /// The types of events, for the filter of the server.
    pub(crate) fn types(&self) -> &[String] {
        &self.types
    }

    pub(crate) fn wants_type(&self, kind: &str) -> bool {
        self.types.iter().any(|known| known == kind)
    }

    pub(crate) fn wants_place(&self, project: &str, branch: &str) -> bool {
        (self.place)(project, branch)
    }

    /// Most of what people write calls for nothing: it needs no identity and no look into the ledger.
    pub(crate) fn wants_comment(&self, text: &str, votes: &[Approval]) -> bool {
        self.triggers.as_ref().is_none_or(|triggers| {
            triggers.matches_comment(text) || votes.iter().any(|vote| triggers.matches_vote(vote))
        })
    }

    pub(crate) fn wants(&self, what: &What) -> bool {
        match what {
            What::Comment { text, approvals, .. } => self.wants_comment(text, approvals),
            What::Vote { vote, .. } => self.wants_comment("", std::slice::from_ref(vote)),
            What::Created { .. } | What::Merged | What::Abandoned | What::Restored { .. } => true,
        }
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest").field("types", &self.types).finish_non_exhaustive()
    }
}
