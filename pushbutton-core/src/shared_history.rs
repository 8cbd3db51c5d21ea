//! One history for all participants of an installation: what each of them appends, how what is read is merged, and
//! the reporter that appends the steps of runs.
//!
//! An entry is never a command and nothing waits for it: whoever reads it takes it over into a copy of its own
//! ([`HistoryReplica`]). Each entry says all that is known of its subject, so that a reader needs no earlier one, and
//! reading an entry twice changes nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::buildset::BuildsetReport;
use crate::control::ControlMessage;
use crate::error::Result;
use crate::history::{RunHistory, RunRecord, RunState};
use crate::names::{BuildsetId, ChangeNumber, PatchsetNumber, RunId};
use crate::report::{MAX_REASON, Update, UpdateKind, bound_stages, shorten};
use crate::setters::setters;
use crate::text::cut;
use crate::traits::Reporter;

/// The reason of a run whose operator died. Only readers conclude that: the operator's own word replaces it.
const LOST: &str = "its operator stopped without a report, and the job was claimed again";

/// How many stages [`HistoryEntry::bounded`] keeps.
const MAX_STAGES: usize = 40;

/// Runs of one operator that are open at once, at most. It has fewer slots.
const MAX_OPEN: usize = 1_000;

/// What happened, for all participants to see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "entry")]
#[non_exhaustive]
pub enum HistoryEntry {
    /// A run, as it is now.
    Run {
        /// All that is known of it.
        record: Box<RunRecord>,
    },
    /// Somebody, or a handler, has sent a control message.
    Control {
        /// It.
        message: ControlMessage,
    },
    /// A report was given to the reporters.
    Delivery {
        /// With what success.
        delivery: DeliveryRecord,
    },
    /// How a participant is.
    Participant {
        /// It.
        participant: Box<ParticipantRecord>,
    },
}

impl HistoryEntry {
    /// What it is about: a later entry with the same key replaces an earlier one.
    pub fn key(&self) -> String {
        match self {
            Self::Run { record } => format!("run {}", record.run),
            // Repeated, it is the same message.
            Self::Control { message } => {
                format!("control {}", serde_json::to_string(message).unwrap_or_default())
            }
            Self::Delivery { delivery } => format!("delivery {}", delivery.buildset),
            Self::Participant { participant } => format!("participant {}", participant.name),
        }
    }

    /// When it happened, by the clock of who wrote it.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Run { record } => record.ended.unwrap_or(record.started),
            Self::Control { message } => message.at(),
            Self::Delivery { delivery } => delivery.at,
            Self::Participant { participant } => participant.at,
        }
    }

    /// The same with long texts cut, so that it takes some 64 KiB at most beside its job.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let shorten = |text: &mut Option<String>| shorten(text, MAX_REASON);
        match &mut self {
            Self::Run { record } => {
                shorten(&mut record.reason);
                shorten(&mut record.node);
                record.log_url = record.log_url.take().filter(|url| url.len() <= MAX_REASON);
                record.stages.truncate(MAX_STAGES);
                bound_stages(record.stages.iter_mut().filter_map(|stage| stage.outcome.as_mut()));
            }
            Self::Delivery { delivery } => {
                shorten(&mut delivery.why);
                delivery.summary.truncate(cut(&delivery.summary, MAX_REASON).len());
            }
            Self::Control { .. } | Self::Participant { .. } => {}
        }
        self
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DeliveryState {
    /// Every reporter has it.
    Delivered,
    /// It will be tried again.
    Retrying,
    /// It was refused for good, and is kept for a person to see.
    Undelivered,
}

/// A report, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeliveryRecord {
    /// Its buildset.
    pub buildset: BuildsetId,
    /// The change.
    pub change: ChangeNumber,
    /// The patch set.
    pub patchset: PatchsetNumber,
    /// Its results in one line.
    pub summary: String,
    /// What became of it.
    pub state: DeliveryState,
    /// Tries that were made so far.
    pub attempts: u32,
    /// When the last of them ended.
    pub at: Timestamp,
    /// What the reporters answered that do not have it.
    pub why: Option<String>,
    /// The names of the reporters that have it.
    #[serde(default)]
    pub reporters: Vec<String>,
}

impl DeliveryRecord {
    /// A try of this report.
    pub fn new(report: &BuildsetReport, state: DeliveryState, attempts: u32, at: Timestamp) -> Self {
        Self {
            buildset: report.id.clone(),
            change: report.change.number,
            patchset: report.patchset.number,
            summary: report.summary(),
            state,
            attempts,
            at,
            why: None,
            reporters: Vec::new(),
        }
    }
}

setters!(DeliveryRecord { why / with_why: Option<String>, reporters / with_reporters: Vec<String> });

/// A process that takes part: a handler, an operator, both, or a dashboard; how it was when it last said so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParticipantRecord {
    /// Its role, host and process id, as `operator host-3 4711`.
    pub name: String,
    /// When it said so, by its own clock.
    pub at: Timestamp,
    /// When it began, by its own clock.
    pub started: Timestamp,
    /// Whether it has ended in an orderly way.
    #[serde(default)]
    pub ended: bool,
    /// Of a handler: its connection to the event stream.
    pub stream: Option<StreamHealth>,
    /// Of a handler: when the last event came.
    pub last_event: Option<Timestamp>,
    /// Of a handler: why comments are muted; none when they are not.
    pub muted: Option<String>,
    /// Of an operator: runs that it may have at once.
    pub slots: Option<u64>,
    /// Of an operator: runs now.
    pub running: Option<u64>,
    /// Of an operator: why it claims no jobs, or only one to try; none when all is well.
    pub breaker: Option<String>,
    /// Free bytes of each disk that it writes to, by what is on it.
    #[serde(default)]
    pub disk_free: Vec<(String, u64)>,
    /// Entries that it could not append to the history.
    #[serde(default)]
    pub history_dropped: u64,
    /// Whether it runs with what its configuration says now; none from one that does not say so.
    #[serde(default)]
    pub config: Option<ConfigHealth>,
}

impl ParticipantRecord {
    /// A participant of which nothing else is known.
    pub fn new(name: impl Into<String>, started: Timestamp, at: Timestamp) -> Self {
        Self {
            name: name.into(),
            at,
            started,
            ended: false,
            stream: None,
            last_event: None,
            muted: None,
            slots: None,
            running: None,
            breaker: None,
            disk_free: Vec::new(),
            history_dropped: 0,
            config: None,
        }
    }
}

setters!(ParticipantRecord {
    ended / with_ended: bool,
    stream / with_stream: Option<StreamHealth>,
    last_event / with_last_event: Option<Timestamp>,
    muted / with_muted: Option<String>,
    slots / with_slots: Option<u64>,
    running / with_running: Option<u64>,
    breaker / with_breaker: Option<String>,
    disk_free / with_disk_free: Vec<(String, u64)>,
    history_dropped / with_history_dropped: u64,
    config / with_config: Option<ConfigHealth>,
});

/// Whether a process runs with what its configuration says now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConfigHealth {
    /// When the configuration was read that it runs with.
    pub applied: Timestamp,
    /// Why a newer one was refused; none when there is none.
    pub refused: Option<String>,
}

impl ConfigHealth {
    /// It runs with the configuration that was read at this time, and there is no newer one.
    pub fn new(applied: Timestamp) -> Self {
        Self { applied, refused: None }
    }
}

setters!(ConfigHealth { refused / with_refused: Option<String> });

/// The connection to an event stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StreamHealth {
    /// What it does.
    pub state: StreamState,
    /// Since when.
    pub since: Timestamp,
    /// Why it is not connected.
    pub why: Option<String>,
}

/// What a connection to an event stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StreamState {
    /// Another handler is active: this one does not need it.
    Standby,
    /// The first attempt is under way.
    Connecting,
    /// Events can come.
    Connected,
    /// It was lost, or could not be made; it is tried again.
    Disconnected,
}

/// Where an event source says how its connection is. Clones share it.
#[derive(Debug, Clone)]
pub struct StreamMonitor(Arc<watch::Sender<StreamHealth>>);

impl Default for StreamMonitor {
    fn default() -> Self {
        let health = StreamHealth { state: StreamState::Connecting, since: Timestamp::now(), why: None };
        Self(Arc::new(watch::Sender::new(health)))
    }
}

impl StreamMonitor {
    /// Sets what the connection does now. The time of the last change stays when nothing changes.
    pub fn set(&self, state: StreamState, why: Option<&str>) {
        self.0.send_if_modified(|health| {
            let why = why.map(|why| cut(why, MAX_REASON).to_owned());
            let (is_other, changed) = (health.state != state, health.state != state || health.why != why);
            health.why = why;
            if is_other {
                (health.state, health.since) = (state, Timestamp::now());
            }
            changed
        });
    }

    /// Watches it.
    pub fn watch(&self) -> watch::Receiver<StreamHealth> {
        self.0.subscribe()
    }
}

/// Appends to the history that all participants share.
#[async_trait]
pub trait HistoryLog: Send + Sync {
    /// Appends an entry.
    ///
    /// # Contract
    /// - Every participant sees it in its [`RunHistory`] by and by, also one that starts later, for as long as the
    ///   history is kept.
    /// - Idempotent: an entry that is appended twice is there once. Of two with the same key the later one counts,
    ///   but a run that has a verdict keeps it.
    /// - Never waits for a server: what cannot be written at once is kept in memory, within limits. What does not fit
    ///   is dropped and counted by [`dropped`](Self::dropped).
    ///
    /// # Errors
    /// Of a local history: as any access to its file. Callers log it and go on.
    async fn append(&self, entry: HistoryEntry) -> Result<()>;

    /// How many entries were dropped since the start of this process.
    fn dropped(&self) -> u64;
}

/// A participant's own copy of a history that others append to, and how far it has read there.
#[async_trait]
pub trait HistoryReplica: RunHistory {
    /// The position after the last entries of this feed that were [applied](Self::apply); none before the first.
    async fn feed_position(&self, feed: &str) -> Result<Option<String>>;

    /// Takes entries over.
    ///
    /// # Contract
    /// - `Ok` means durable: entries and position in one step.
    /// - Idempotent, also when entries come again after later ones: a run that has a verdict keeps it, one that has
    ///   ended does not begin again.
    async fn apply(&self, feed: &str, entries: Vec<HistoryEntry>, position: &str) -> Result<()>;
}

impl RunRecord {
    /// The record that the first known step of a run begins with.
    pub fn begun_by(run: &RunId, update: &Update) -> Self {
        let started = match &update.kind {
            UpdateKind::Finished { result } => result.started,
            _ => update.at,
        };
        Self::new(run.clone(), update.job.clone(), update.attempt, started)
    }

    /// Ends an open run because its job was claimed again.
    pub fn end_as_lost(&mut self, at: Timestamp) {
        self.end_without_verdict(at, LOST);
    }

    /// Whether this record says more of the same run than `known` does.
    pub fn is_news_to(&self, known: &Self) -> bool {
        match (&known.verdict, known.ended) {
            (Some(_), _) => false,
            _ if self.ended.is_some() => self != known && (self.verdict.is_some() || !known.ended_for_sure()),
            (None, Some(_)) => !known.ended_for_sure() && self.progress() > known.progress(),
            (None, None) => self.progress() > known.progress(),
        }
    }

    /// Whether its operator said so, and no reader concluded it.
    fn ended_for_sure(&self) -> bool {
        self.ended.is_some() && (self.verdict.is_some() || self.reason.as_deref() != Some(LOST))
    }

    /// How far an open run has come. Entries of one run may be read again from the start.
    fn progress(&self) -> (u8, usize, usize) {
        let state = match self.state {
            RunState::Claimed => 0,
            RunState::Provisioning => 1,
            _ => 2,
        };
        let ended = self.stages.iter().filter(|stage| stage.outcome.is_some()).count();
        (state, self.stages.len(), ended)
    }
}

/// A reporter that appends each step of a run to the history, as the whole record of the run. Lines of output are not
/// part of it.
pub struct HistoryReporter {
    log: Arc<dyn HistoryLog>,
    open: Mutex<HashMap<RunId, RunRecord>>,
}

impl HistoryReporter {
    /// Appends here.
    pub fn new(log: impl HistoryLog + 'static) -> Self {
        Self { log: Arc::new(log), open: Mutex::default() }
    }

    /// The record after this step; none when there is nothing to append.
    fn record(&self, update: &Update) -> Option<RunRecord> {
        let run = update.run.as_ref()?;
        if matches!(update.kind, UpdateKind::Line { .. } | UpdateKind::Queued) {
            return None;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_OPEN && !open.contains_key(run) {
            // Not reached: their ends were never reported. Of the others, the end alone says enough.
            open.clear();
        }
        let record = open.entry(run.clone()).or_insert_with(|| RunRecord::begun_by(run, update));
        record.apply(update);
        let record = record.clone();
        if record.ended.is_some() {
            open.remove(run);
        }
        Some(record)
    }
}

#[async_trait]
impl Reporter for HistoryReporter {
    async fn report(&self, update: &Update) -> Result<()> {
        match self.record(update) {
            Some(record) => self.log.append(HistoryEntry::Run { record: Box::new(record) }.bounded()).await,
            None => Ok(()),
        }
    }

    fn name(&self) -> &str {
        "shared history"
    }
}

impl std::fmt::Debug for HistoryReporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HistoryReporter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::StageRecord;
    use crate::run::{StageOutcome, StageStatus, TestTime};
    use crate::samples;
    use crate::verdict::Verdict;

    fn run() -> RunRecord {
        RunRecord::new(RunId::new("r1").unwrap(), samples::job("tempest"), 1, samples::AT)
    }

    #[test]
    fn of_two_records_the_one_that_says_more_is_kept_whatever_their_order() {
        let claimed = run();
        let provisioning = run().with_state(RunState::Provisioning);
        let handed_back = {
            let mut record = provisioning.clone();
            record.end_without_verdict(samples::AT, "the operator is shutting down");
            record
        };
        let lost = {
            let mut record = provisioning.clone();
            record.end_as_lost(samples::AT);
            record
        };
        let staged = run()
            .with_state(RunState::Running)
            .with_stages(vec![StageRecord::new("run".parse().unwrap(), samples::AT)]);
        let done = run().with_ended(samples::AT).with_verdict(Verdict::Success);
        for (earlier, later) in [
            (&claimed, &provisioning),
            (&provisioning, &staged),
            (&provisioning, &handed_back),
            (&staged, &done),
            (&provisioning, &lost),
            // A reader thought that the operator had died, and was wrong.
            (&lost, &staged),
            (&lost, &done),
            (&lost, &handed_back),
            (&handed_back, &done),
        ] {
            assert!(later.is_news_to(earlier), "{later:?} is news to {earlier:?}");
        }
        for (later, earlier) in [
            (&provisioning, &claimed),
            (&handed_back, &claimed),
            (&handed_back, &staged),
            (&done, &lost),
            (&done, &handed_back),
            (&done, &staged),
            (&lost, &claimed),
        ] {
            assert!(!earlier.is_news_to(later), "{earlier:?} is no news to {later:?}");
        }
    }

    #[test]
    fn an_entry_of_any_size_is_bounded_and_an_ordinary_one_is_not_changed() {
        let entry = |text: &str, stages: usize, tests: usize| {
            let outcome = StageOutcome::new(StageStatus::Failed, Duration::ZERO)
                .with_detail(Some(text.to_owned()))
                .with_log_url(Some(text.to_owned()))
                .with_failed_tests(vec![text.to_owned(); tests])
                .with_slowest_tests(vec![TestTime::new(text, Duration::from_secs(9)); tests]);
            let stage = StageRecord::new("run".parse().unwrap(), samples::AT).with_outcome(Some(outcome));
            let record = run().with_reason(Some(text.to_owned())).with_stages(vec![stage; stages]);
            HistoryEntry::Run { record: Box::new(record) }
        };
        let ordinary = entry("test_attach_volume", 5, 5);
        assert_eq!(ordinary.clone().bounded(), ordinary);
        for huge in [entry(&"\u{1f980}".repeat(50_000), 5, 3), entry("test", 600, 10_000)] {
            let size = serde_json::to_vec(&huge.bounded()).unwrap().len();
            assert!(size < 64 << 10, "{size}");
        }
    }

    #[test]
    fn a_stream_keeps_the_time_of_its_last_change() {
        let monitor = StreamMonitor::default();
        monitor.set(StreamState::Disconnected, Some("no route"));
        let first = monitor.watch().borrow().clone();
        monitor.set(StreamState::Disconnected, Some("refused"));
        let second = monitor.watch().borrow().clone();
        assert_eq!((second.since, second.why.as_deref()), (first.since, Some("refused")));
        monitor.set(StreamState::Connected, None);
        assert_eq!(monitor.watch().borrow().why, None);
    }
}
