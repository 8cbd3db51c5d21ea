//! Deliveries: leases on reports, held by entries in the log as leases on jobs are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::{BuildsetId, BuildsetReport, Delivery, Error, ErrorKind, Result, RunId};
use tokio::time::{Instant, sleep_until};

use crate::claim::{retry_time, shortened};
use crate::commit::commit;
use crate::log::{Deliverable, LeaseTerm, Next, Op, Outcome, Settlement};
use crate::queue::Tasks;
use crate::supervise::Shared;

/// A lease on a report at most: longer than a try takes, and as long as the reports of a dead handler wait.
const MAX_LEASE: Duration = Duration::from_secs(300);

/// Waits for a report that can be delivered, and leases it.
///
/// # Cancel safety
/// A report that was leased on the way is handed back.
pub(crate) async fn claim(tasks: &Arc<Tasks>) -> Result<AmqpDelivery> {
    let shared = tasks.shared();
    let term = LeaseTerm::of_report(shared.config.lease.0.min(MAX_LEASE));
    let (mut changes, mut connection) = (shared.changes(), shared.connection());
    loop {
        // At once when the broker refuses us.
        shared.session(None).await?;
        changes.mark_unchanged();
        connection.mark_unchanged();
        let next = match shared.replica().state() {
            Some(state) => state.outbox.next(Instant::now()),
            None => Next::Never,
        };
        let at = if let Next::At(at) = &next { Some(*at) } else { None };
        if let Next::Claim(deliverable) = next {
            let unused = Unused::new(shared, deliverable.report.id.clone());
            let start = Instant::now();
            // A fifth of the lease may pass until the caller has it: the others wait so much longer than the caller.
            match commit(shared, deliverable.entry(&unused.delivery, term), start + term.margin()).await {
                // This process was frozen meanwhile: another one may deliver the report. Dropped, it is handed back.
                Ok(Outcome::Accepted) if !term.may_begin(start, Instant::now()) => {}
                Ok(Outcome::Accepted) => {
                    let (tasks, delivery) = (Arc::clone(tasks), unused.taken());
                    return Ok(AmqpDelivery { tasks, delivery, term, deliverable: *deliverable, start });
                }
                // Another participant was faster.
                Ok(_) => drop(unused.taken()),
                Err(error) if error.is_temporary() => {}
                Err(error) => return Err(error),
            }
            continue;
        }
        tokio::select! {
            () = tasks.stopping().cancelled_owned() => return Err(crate::supervise::closed()),
            _ = changes.changed() => {}
            _ = connection.changed() => {}
            () = sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {}
        }
    }
}

/// A lease on its way to the caller. Dropped on the way, the report is handed back.
struct Unused<'a> {
    shared: &'a Arc<Shared>,
    buildset: BuildsetId,
    delivery: RunId,
    is_taken: bool,
}

impl<'a> Unused<'a> {
    fn new(shared: &'a Arc<Shared>, buildset: BuildsetId) -> Self {
        Self { shared, buildset, delivery: RunId::generate(), is_taken: false }
    }

    fn taken(mut self) -> RunId {
        self.is_taken = true;
        self.delivery.clone()
    }
}

impl Drop for Unused<'_> {
    fn drop(&mut self) {
        if self.is_taken {
            return;
        }
        let (buildset, delivery) = (self.buildset.clone(), self.delivery.clone());
        let shared = Arc::clone(self.shared);
        let task = async move {
            let op = Op::SettleReport { buildset, delivery, how: Settlement::HandedBack };
            if let Err(error) = commit(&shared, op, shared.deadline()).await {
                tracing::debug!("an unused report returns when its lease ends: {error}");
            }
        };
        self.shared.spawn_background(task);
    }
}

/// A held lease on a report.
pub(crate) struct AmqpDelivery {
    tasks: Arc<Tasks>,
    delivery: RunId,
    term: LeaseTerm,
    deliverable: Deliverable,
    /// When the lease began, or earlier.
    start: Instant,
}

impl AmqpDelivery {
    /// Ends the delivery. The caller cannot try again, so this does, as long as the lease lasts.
    async fn settle(&self, operation: &'static str, how: Settlement) -> Result<()> {
        let (shared, buildset) = (self.tasks.shared(), self.report().id.clone());
        let op = Op::SettleReport { buildset, delivery: self.delivery.clone(), how };
        let until = (self.start + self.term.held()).max(shared.deadline());
        let lost = || Error::permanent(ErrorKind::LeaseLost, "another delivery of the report may have begun");
        let settled = match commit(shared, op, until).await {
            Ok(Outcome::Accepted) => Ok(()),
            Ok(_) => Err(lost()),
            Err(error) if error.is_temporary() => Err(lost().because(error)),
            Err(error) => Err(error),
        };
        settled.map_err(|error| error.during(operation).with("buildset", &self.report().id))
    }
}

#[async_trait]
impl Delivery for AmqpDelivery {
    fn report(&self) -> &BuildsetReport {
        &self.deliverable.report
    }

    fn failed_attempts(&self) -> u32 {
        self.deliverable.failed_attempts
    }

    fn delivered(&self) -> &BTreeSet<String> {
        &self.deliverable.delivered
    }

    fn lease(&self) -> Duration {
        self.term.held()
    }

    async fn done(self: Box<Self>) -> Result<()> {
        self.settle("delivery::done", Settlement::Done).await
    }

    async fn retry(self: Box<Self>, after: Duration, delivered: &BTreeSet<String>) -> Result<()> {
        let ((due, after_ms), delivered) = (retry_time(after), delivered.clone());
        self.settle("delivery::retry", Settlement::Retry { due, after_ms, delivered }).await
    }

    async fn give_up(self: Box<Self>, why: &str, delivered: &BTreeSet<String>) -> Result<()> {
        let (why, at, delivered) = (shortened(why), Timestamp::now(), delivered.clone());
        self.settle("delivery::give_up", Settlement::GaveUp { why, at, delivered }).await
    }
}
