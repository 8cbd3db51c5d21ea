//! Mutes reports on reviews: a lab whose runs all fail stops commenting on other people's changes until a person has
//! looked.

mod broadcast;
mod reporter;
mod state;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

pub use self::reporter::GuardedReporter;
pub use self::state::Muted;
use self::state::{Effect, State};
use crate::buildset::BuildsetReport;
use crate::control::ControlMessage;
use crate::traits::Alerter;
use crate::verdict::Verdict;

/// Decides whether buildsets are reported upstream. Shared by a handler
/// ([`Handler::with_report_guard`](crate::Handler::with_report_guard)), which counts the reports that it delivers and
/// reads the control messages, and by the reporters that obey it ([`GuardedReporter`]).
///
/// When the buildsets of this many changes have failed without a success between them, it mutes reports, broadcasts
/// that to other handlers, and alerts a person. Failures of the patch count as well as failures of the lab: in a broken
/// lab the tests fail too. Several buildsets of one change count once.
///
/// A run that began before the last success or the last unmuting does not count: it says nothing new about the lab.
/// So undelivered reports that a person retries after unmuting do not mute reports again.
///
/// Reports stay muted until a person unmutes them ([`ControlMessage::Unmuted`]), also across restarts. Only when all
/// handlers have been down for more than a day, which is how long control messages are kept, is it forgotten.
pub struct ReportGuard {
    by: String,
    limit: AtomicU32,
    alerter: Option<Arc<dyn Alerter>>,
    state: Mutex<State>,
    muted: watch::Sender<Option<Muted>>,
    /// Reports were muted by this handler.
    muted_here: Notify,
    pending: watch::Sender<PendingAlerts>,
}

/// What must still be sent after this handler has muted reports.
#[derive(Debug, Clone, Copy, Default)]
struct PendingAlerts {
    /// The control message for the other handlers.
    broadcast: bool,
    /// The alert for a person.
    alert: bool,
}

impl ReportGuard {
    /// A guard of this name, as `handler host-3`. Mutes after ten changes, and alerts nobody.
    pub fn new(by: impl Into<String>) -> Self {
        Self {
            by: by.into(),
            limit: AtomicU32::new(10),
            alerter: None,
            state: Mutex::default(),
            muted: watch::Sender::new(None),
            muted_here: Notify::new(),
            pending: watch::Sender::default(),
        }
    }

    /// Mutes after this many failed changes; 0 for never. Control messages of other handlers are obeyed in any case.
    #[must_use]
    pub fn with_limit(self, changes: u32) -> Self {
        self.set_limit(changes);
        self
    }

    /// Changes the limit: the next report that fails is counted by the new one.
    pub fn set_limit(&self, changes: u32) {
        self.limit.store(changes, Ordering::Relaxed);
    }

    /// Alerts a person when this handler mutes reports.
    #[must_use]
    pub fn with_alerter(mut self, alerter: impl Alerter + 'static) -> Self {
        self.alerter = Some(Arc::new(alerter));
        self
    }

    /// Why reports are muted now, if they are.
    pub fn muted(&self) -> Option<Muted> {
        self.state().muted().cloned()
    }

    /// Watches the muting as it begins and ends.
    pub fn watch(&self) -> watch::Receiver<Option<Muted>> {
        self.muted.subscribe()
    }

    /// Obeys a control message of another handler or a person. Their order decides, and their times where one is
    /// late. The same message again changes nothing.
    pub fn observe(&self, message: &ControlMessage) {
        let mut state = self.state();
        match (state.observe(message, Timestamp::now()), message) {
            (Effect::Muted, ControlMessage::Muted { by, why, .. }) => {
                tracing::error!(by, "muted: reviews get no reports until a person unmutes; {why}");
            }
            (Effect::Unmuted, ControlMessage::Unmuted { by, .. }) => {
                tracing::warn!(by, "unmuted: runs are reported on reviews again");
            }
            _ => {}
        }
        self.publish(&state);
    }

    /// Counts a report, after it was delivered. A buildset has failed when one of its jobs has.
    pub(crate) fn count(&self, report: &BuildsetReport, now: Timestamp) {
        let failed = report.results.iter().find(|result| result.verdict != Verdict::Success);
        let Some(result) = failed.or_else(|| report.results.first()) else { return };
        let limit = usize::try_from(self.limit.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let mut state = self.state();
        let Some(muted) = state.count(limit, &self.by, result, now) else { return };
        tracing::error!("muted: reviews get no reports until a person unmutes; {}", muted.why);
        self.pending.send_replace(PendingAlerts { broadcast: true, alert: self.alerter.is_some() });
        self.publish(&state);
        self.muted_here.notify_one();
    }

    /// Called with the state locked, so that watchers see changes in order.
    fn publish(&self, state: &State) {
        self.muted.send_if_modified(|muted| {
            let changed = muted.as_ref() != state.muted();
            if changed {
                *muted = state.muted().cloned();
            }
            changed
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ReportGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportGuard")
            .field("by", &self.by)
            .field("muted", &self.muted())
            .finish_non_exhaustive()
    }
}
