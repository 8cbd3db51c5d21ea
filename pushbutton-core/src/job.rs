//! A job: one thing to run for one patch set, as the queue carries it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Change, Event, EventId, Patchset};
use crate::ident::{JobId, JobName};

/// One thing to run for one patch set. It names its work; what the name means is the operator's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The same for the same event and name: published twice, it is one job.
    pub id: JobId,
    /// What to run.
    pub name: JobName,
    /// The change to test.
    pub change: Change,
    /// The patch set to test.
    pub patchset: Patchset,
    /// Why it is run.
    pub cause: Cause,
    /// When the handler saw the need.
    pub created: Timestamp,
    /// Attempts that ended in an infrastructure failure so far; the queue counts them up with each retry.
    #[serde(default)]
    pub failed_attempts: u32,
}

/// Why a job is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// The event.
    pub event: EventId,
    /// Its kind, as Gerrit names it (`comment-added`), or `enqueue` when a person asked on the command line.
    pub kind: String,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The rule that asked for the job.
    pub trigger: String,
}

impl Cause {
    /// The kind of what a person asked for on the command line.
    pub const BY_HAND: &str = "enqueue";
}

impl Job {
    /// The job of this name that this event called for, by this rule.
    pub fn new(name: JobName, event: &Event, trigger: impl Into<String>, created: Timestamp) -> Self {
        Self {
            id: JobId::of(&event.id, &name),
            name,
            change: event.change.clone(),
            patchset: event.patchset.clone(),
            cause: Cause {
                event: event.id.clone(),
                kind: event.kind.name().to_owned(),
                by: event.kind.actor().map(ToString::to_string),
                trigger: trigger.into(),
            },
            created,
            failed_attempts: 0,
        }
    }

    /// Whether a person asked for exactly this patch set on the command line.
    pub fn is_by_hand(&self) -> bool {
        self.cause.kind == Cause::BY_HAND
    }

    /// Change and patch set as people write them: `12345,2`.
    pub fn target(&self) -> String {
        format!("{},{}", self.change.number, self.patchset.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sample;

    #[test]
    fn the_same_event_and_name_are_the_same_job() {
        let event = sample::comment("bob", "recheck");
        let job = |name: &str| Job::new(JobName::new(name).unwrap(), &event, "rule", Timestamp::UNIX_EPOCH);
        assert_eq!(job("tempest").id, job("tempest").id);
        assert_ne!(job("tempest").id, job("unit").id);
    }

    #[test]
    fn a_job_survives_the_queue() {
        let job = sample::job("tempest");
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
    }
}
