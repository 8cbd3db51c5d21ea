//! The ingest half: events in, jobs out. Nothing is committed at the source before all that it calls for is durable.

mod handle;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::time::Instant;

use self::handle::{Desk, Handled};
use super::shutdown::Shutdown;
use super::supersede::SupersedePolicy;
use crate::clock::{Clock, SystemClock};
use crate::error::Result;
use crate::event::{Event, EventKind, Position};
use crate::memory::MemoryLedger;
use crate::seam::{EventSource, Ledger, Queue, Reporter};
use crate::trigger::{Decision, Triggers};

/// Events that may wait for their confirms at once. Measured on RabbitMQ 3.10: a window of 32 to 128 publishes ten times as fast as one.
const WINDOW: usize = 64;

/// A position is committed at most so often: it costs a write, and what lies behind it is recorded event by event.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// The ingest half.
pub struct Handler {
    source: Box<dyn EventSource>,
    triggers: Arc<Triggers>,
    queue: Arc<dyn Queue>,
    ledger: Arc<dyn Ledger>,
    reporters: Vec<Arc<dyn Reporter>>,
    clock: Arc<dyn Clock>,
    supersede: SupersedePolicy,
}

/// What a handler did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Intake {
    /// Events that came.
    pub events: u64,
    /// Events that were seen before.
    pub repeated: u64,
    /// Jobs published.
    pub jobs: u64,
}

impl Handler {
    /// A handler with a ledger in memory. It announces to operators which patch sets are out of date.
    pub fn new(source: Box<dyn EventSource>, triggers: Triggers, queue: Arc<dyn Queue>) -> Self {
        Self {
            source,
            triggers: Arc::new(triggers),
            queue,
            ledger: Arc::new(MemoryLedger::default()),
            reporters: Vec::new(),
            clock: Arc::new(SystemClock),
            supersede: SupersedePolicy::default(),
        }
    }

    /// Remembers seen events in this ledger.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Arc<dyn Ledger>) -> Self {
        self.ledger = ledger;
        self
    }

    /// Tells these reporters of every queued job.
    #[must_use]
    pub fn with_reporters(mut self, reporters: Vec<Arc<dyn Reporter>>) -> Self {
        self.reporters = reporters;
        self
    }

    /// Takes the time from this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Whether a newer patch set, an abandon or a merge cancels jobs of older patch sets. Default: all of them do.
    #[must_use]
    pub fn with_supersede(mut self, policy: SupersedePolicy) -> Self {
        self.supersede = policy;
        self
    }

    /// Runs until the source ends or somebody wishes to stop.
    ///
    /// A graceful stop takes no new event and waits for the confirms of those taken; a forced one leaves them: they are not committed,
    /// and come again at the next start.
    ///
    /// # Errors
    /// Permanent errors of the source, the queue or the ledger: somebody must act.
    pub async fn run(mut self, shutdown: &Shutdown) -> Result<Intake> {
        let desk = Arc::new(Desk {
            queue: Arc::clone(&self.queue),
            ledger: Arc::clone(&self.ledger),
            reporters: std::mem::take(&mut self.reporters),
            clock: Arc::clone(&self.clock),
        });
        let mut flow = Flow::default();
        loop {
            let commit_at = flow.commit_at();
            let next = tokio::select! {
                biased;
                () = shutdown.begun() => Next::End,
                Some(handled) = flow.pending.next(), if !flow.pending.is_empty() => Next::Handled(handled),
                () = tokio::time::sleep_until(commit_at), if flow.to_commit.is_some() => Next::Commit,
                event = self.source.next(), if flow.pending.len() < WINDOW => match event? {
                    Some(event) => Next::Event(event),
                    None => Next::End,
                },
            };
            match next {
                Next::Event(event) => self.accept(&desk, &mut flow, event),
                Next::Handled(handled) => flow.settle(handled?),
                Next::Commit => self.commit(&mut flow).await,
                Next::End => break,
            }
        }
        tokio::select! {
            result = async { while let Some(handled) = flow.pending.next().await { flow.settle(handled?); } Ok(()) } => result?,
            () = shutdown.forced() => tracing::warn!(unconfirmed = flow.pending.len(), "stopped at once: these events will come again"),
        }
        self.commit(&mut flow).await;
        Ok(flow.intake)
    }

    /// Decides on an event; what calls for nothing costs no more than that.
    fn accept(&self, desk: &Arc<Desk>, flow: &mut Flow, event: Event) {
        flow.intake.events += 1;
        let decision = self.triggers.decide(&event);
        let notice = desk.notice_of(&event, &self.triggers, self.supersede);
        match (decision, notice) {
            (Decision::Ignore(reasons), None) if !self.must_be_counted(&event.kind) => {
                tracing::debug!(change = %event.change.number, patchset = %event.patchset.number, kind = event.kind.name(), ?reasons, "nothing to run");
                flow.pass(event.position);
            }
            (decision, notice) => {
                let jobs = match decision {
                    Decision::Run(jobs) => jobs,
                    Decision::Ignore(_) => Vec::new(),
                };
                let desk = Arc::clone(desk);
                flow.last_taken = Some(event.position.clone());
                flow.pending.push_back(Box::pin(async move { desk.handle(event, jobs, notice).await }));
            }
        }
    }

    fn must_be_counted(&self, kind: &EventKind) -> bool {
        matches!(kind, EventKind::CommentAdded { text, .. } if self.triggers.is_addressed_by(text))
    }

    /// Commits what is behind us. A failure loses nothing: the position only stays behind, and events come again.
    async fn commit(&mut self, flow: &mut Flow) {
        let Some(position) = flow.to_commit.take() else { return };
        flow.committed_at = Some(Instant::now());
        for result in [self.ledger.commit(&position).await, self.source.commit(&position).await] {
            if let Err(error) = result {
                tracing::warn!("could not commit the position: {error}");
            }
        }
    }
}

enum Next {
    Event(Event),
    Handled(Result<Handled>),
    Commit,
    End,
}

/// What is under way, in order.
#[derive(Default)]
struct Flow {
    pending: FuturesOrdered<BoxFuture<'static, Result<Handled>>>,
    /// The position of the last event taken, whether it called for something or not.
    last_taken: Option<Position>,
    to_commit: Option<Position>,
    committed_at: Option<Instant>,
    intake: Intake,
}

impl Flow {
    /// An event that calls for nothing: its position counts once all before it are durable.
    fn pass(&mut self, position: Position) {
        if self.pending.is_empty() {
            self.to_commit = Some(position);
        } else {
            self.last_taken = Some(position);
        }
    }

    fn settle(&mut self, handled: Handled) {
        self.intake.jobs += handled.jobs;
        self.intake.repeated += u64::from(handled.repeated);
        self.to_commit =
            if self.pending.is_empty() { self.last_taken.take() } else { Some(handled.position) };
    }

    fn commit_at(&self) -> Instant {
        self.committed_at.map_or_else(Instant::now, |at| at + COMMIT_EVERY)
    }
}

/// Whether an event makes older jobs of its change pointless.
fn closes(kind: &EventKind) -> bool {
    matches!(kind, EventKind::ChangeMerged | EventKind::ChangeAbandoned)
}
