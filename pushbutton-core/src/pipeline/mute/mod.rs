//! Etiquette of a guest: a lab whose runs all go wrong stops commenting on other people's reviews, until a person has looked.

mod keep;
mod reporter;
mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

pub use self::reporter::MutingReporter;
pub use self::state::Silence;
use self::state::{Meaning, State};
use crate::job::Job;
use crate::seam::{Alarm, Notice};
use crate::verdict::Verdict;

/// Decides whether people upstream hear of runs. Shared by an operator ([`Operator::with_mute`](crate::Operator::with_mute)), which
/// counts runs and passes on what other operators say, and by the reporters that obey ([`MutingReporter`]).
///
/// When so many changes in a row have gone wrong, on this operator, without a success between them, it falls silent, tells the other
/// operators, and raises the alarm. Failures of the patch count like those of the lab: a lab that is broken in its own way sees its
/// tests fail. Runs of the same change count once.
///
/// The silence lasts until a person ends it ([`Notice::Unmuted`]), across restarts of operators; only when all of them have been down for
/// more than a day, which is how long notices are kept, it is forgotten.
pub struct Mute {
    by: String,
    limit: usize,
    alarm: Option<Arc<dyn Alarm>>,
    state: Mutex<State>,
    standing: watch::Sender<Option<Silence>>,
    /// A silence began here.
    found: Notify,
    owes: watch::Sender<Owes>,
}

/// What is still to be done about a silence that began here.
#[derive(Debug, Clone, Copy, Default)]
struct Owes {
    /// To tell the other operators.
    word: bool,
    /// To call a person.
    call: bool,
}

impl Mute {
    /// Speaks in this name, as `operator host-3`. Falls silent after ten changes in a row, and raises no alarm.
    pub fn new(by: impl Into<String>) -> Self {
        Self {
            by: by.into(),
            limit: 10,
            alarm: None,
            state: Mutex::default(),
            standing: watch::Sender::new(None),
            found: Notify::new(),
            owes: watch::Sender::default(),
        }
    }

    /// Falls silent after so many changes in a row; 0 for never. What other operators say is obeyed nevertheless.
    #[must_use]
    pub fn with_limit(mut self, changes: u32) -> Self {
        self.limit = usize::try_from(changes).unwrap_or(usize::MAX);
        self
    }

    /// Calls a person when it falls silent by itself.
    #[must_use]
    pub fn with_alarm(mut self, alarm: Arc<dyn Alarm>) -> Self {
        self.alarm = Some(alarm);
        self
    }

    /// The present silence, if there is one.
    pub fn silence(&self) -> Option<Silence> {
        self.state().silence().cloned()
    }

    /// Follows silences as they begin and end.
    pub fn watch(&self) -> watch::Receiver<Option<Silence>> {
        self.standing.subscribe()
    }

    /// Obeys what another operator or a person has said. The order in which notices are heard decides, and their times where one is heard
    /// late; the same notice again changes nothing.
    pub fn hear(&self, notice: &Notice) {
        let mut state = self.state();
        let meaning = state.hear(notice);
        match (meaning, notice) {
            (Meaning::Muted, Notice::Muted { by, why, .. }) => {
                tracing::error!(by, "muted: reviews hear nothing more until a person unmutes; {why}");
            }
            (Meaning::Unmuted, Notice::Unmuted { by, .. }) => {
                tracing::warn!(by, "unmuted: reviews hear of runs again");
            }
            _ => {}
        }
        self.publish(&state);
    }

    /// Takes note of a finished run that everybody has been told of.
    pub(crate) fn count(&self, job: &Job, verdict: &Verdict, now: Timestamp) {
        let mut state = self.state();
        let Some(silence) = state.count(self.limit, &self.by, job, verdict, now) else { return };
        tracing::error!("muted: reviews hear nothing more until a person unmutes; {}", silence.why);
        self.owes.send_replace(Owes { word: true, call: self.alarm.is_some() });
        self.publish(&state);
        self.found.notify_one();
    }

    /// Called with the state held, so that what others see never goes back.
    fn publish(&self, state: &State) {
        self.standing.send_if_modified(|standing| {
            let changed = standing.as_ref() != state.silence();
            if changed {
                *standing = state.silence().cloned();
            }
            changed
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Mute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mute").field("by", &self.by).field("silence", &self.silence()).finish_non_exhaustive()
    }
}
