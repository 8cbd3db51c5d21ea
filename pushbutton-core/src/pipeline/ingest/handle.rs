//! One event that calls for something: tell the operators what is out of date, publish its jobs, record it.

use std::sync::Arc;

use super::closes;
use crate::clock::Clock;
use crate::error::Result;
use crate::event::{Event, EventKind, Position};
use crate::ident::{JobName, PatchsetNumber};
use crate::job::Job;
use crate::pipeline::supersede::SupersedePolicy;
use crate::pipeline::tell::tell;
use crate::report::{Update, UpdateKind};
use crate::retry::RetryPolicy;
use crate::seam::{Ledger, Notice, Queue, Reporter};
use crate::trigger::Triggers;

/// Everything that handling an event needs.
pub(super) struct Desk {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) reporters: Vec<Arc<dyn Reporter>>,
    pub(super) clock: Arc<dyn Clock>,
}

/// An event that is done with: all that it called for is durable.
pub(super) struct Handled {
    pub(super) position: Position,
    pub(super) jobs: u64,
    pub(super) repeated: bool,
}

impl Desk {
    /// What operators must hear of this event, if anything.
    pub(super) fn notice_of(
        &self,
        event: &Event,
        triggers: &Triggers,
        policy: SupersedePolicy,
    ) -> Option<Notice> {
        // Our own clock, as for the jobs: theirs would have to agree with it.
        let (change, at) = (&event.change, self.clock.now());
        if !triggers.cares_for(change.project.as_str(), change.branch.as_str()) {
            return None;
        }
        match event.kind {
            EventKind::PatchsetCreated { .. }
                if policy.newer_patchset && event.patchset.number > PatchsetNumber(1) =>
            {
                Some(Notice::Superseded { change: change.number, by: event.patchset.number, at })
            }
            ref kind if policy.closed && closes(kind) => Some(Notice::Closed { change: change.number, at }),
            _ => None,
        }
    }

    /// Does what an event calls for. While the broker is away this waits for it: a source is only as far as its events are durable.
    pub(super) async fn handle(
        &self,
        event: Event,
        jobs: Vec<(JobName, String)>,
        notice: Option<Notice>,
    ) -> Result<Handled> {
        let mut handled = Handled { position: event.position.clone(), jobs: 0, repeated: false };
        let for_ever = RetryPolicy::FOR_EVER;
        if for_ever.run("ledger::has_seen", || self.ledger.has_seen(&event.id)).await? {
            handled.repeated = true;
            return Ok(handled);
        }
        if let Some(notice) = &notice {
            for_ever.run("queue::announce", || self.queue.announce(notice)).await?;
        }
        for (name, rule) in jobs {
            let job = Job::new(name, &event, rule, self.clock.now());
            for_ever.run("queue::publish", || self.queue.publish(&job)).await?;
            tracing::info!(job = %job.name, id = %job.id, target = %job.target(), rule = job.cause.trigger, "queued");
            handled.jobs += 1;
            let update =
                Update { run: None, attempt: 1, at: self.clock.now(), kind: UpdateKind::Queued, job };
            tell(&self.reporters, &update).await;
        }
        for_ever.run("ledger::record", || self.ledger.record(&event.id)).await?;
        Ok(handled)
    }
}
