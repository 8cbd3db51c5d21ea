//! A job, which is what the queue carries; and the filter that selects the jobs an operator can run.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::buildset::Buildset;
use crate::dependency::Dependency;
use crate::event::{Change, Event, EventId, Patchset};
use crate::names::{JobId, JobName, NodeLabel};
use crate::setters::setters;

/// One thing to run for one patch set. It names its work; the operator's configuration says what the name means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Job {
    /// The same for the same event and name: published twice, it is one job.
    pub id: JobId,
    /// What to run.
    pub name: JobName,
    /// The label of the node it needs, where the handler knows it. Only operators that have such nodes claim it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<NodeLabel>,
    /// The change to test.
    pub change: Change,
    /// The patch set to test.
    pub patchset: Patchset,
    /// The open changes that must be applied before it, in this order. At most
    /// [`MAX_DEPENDENCIES`](crate::dependency::MAX_DEPENDENCIES).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    /// Why it is run.
    pub cause: Cause,
    /// The jobs that are reported together with it.
    pub buildset: Buildset,
    /// When the handler made the job.
    pub created: Timestamp,
    /// Attempts that ended in an infrastructure failure so far; the queue counts them up with each retry.
    #[serde(default)]
    pub failed_attempts: u32,
}

/// Why a job is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cause {
    /// The event.
    pub event: EventId,
    /// Its kind, as Gerrit names it (`comment-added`), or [`Cause::MANUAL`].
    pub kind: String,
    /// Whose event it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The trigger that called for the job.
    pub trigger: String,
}

impl Cause {
    /// The kind of a job that a person started on the command line.
    pub const MANUAL: &str = "enqueue";

    /// A cause of which only event, kind and trigger are known.
    pub fn new(event: EventId, kind: impl Into<String>, trigger: impl Into<String>) -> Self {
        Self { event, kind: kind.into(), by: None, trigger: trigger.into() }
    }
}

setters!(Cause { by / with_by: Option<String> });

impl Job {
    /// The job of this name that this event called for, by this trigger. It is a buildset of its own; see
    /// [`with_buildset`](Self::with_buildset).
    pub fn new(name: JobName, event: &Event, trigger: impl Into<String>, created: Timestamp) -> Self {
        let cause = Cause::new(event.id.clone(), event.kind.name(), trigger)
            .with_by(event.kind.actor().map(ToString::to_string));
        Self::for_patchset(name, event.change.clone(), event.patchset.clone(), cause, created)
    }

    /// A job for a patch set, with a cause of the caller's own: for jobs that no event called for.
    pub fn for_patchset(
        name: JobName,
        change: Change,
        patchset: Patchset,
        cause: Cause,
        created: Timestamp,
    ) -> Self {
        let id = JobId::of(&cause.event, &name);
        let buildset = Buildset::of(&cause.event, [name.clone()]);
        Self {
            id,
            name,
            label: None,
            change,
            patchset,
            dependencies: Vec::new(),
            cause,
            buildset,
            created,
            failed_attempts: 0,
        }
    }

    /// A buildset of this job alone: it runs again, after its own buildset was reported without it. `what` makes the
    /// identity a new one, such as the time.
    pub fn buildset_alone(&self, what: &str) -> Buildset {
        Buildset::alone(&self.name, &self.buildset.id, what)
    }

    /// Whether a person started it for exactly this patch set, on the command line.
    pub fn is_manual(&self) -> bool {
        self.cause.kind == Cause::MANUAL
    }

    /// Whether this job, while it waits, stands for another one: both test the same patch set in the same way.
    ///
    /// A job that a person started by hand runs also on a stale patch set, so only another such job stands for it.
    pub fn absorbs(&self, other: &Self) -> bool {
        self.name == other.name
            && self.change.number == other.change.number
            && self.patchset.number == other.patchset.number
            && self.patchset.revision == other.patchset.revision
            && self.dependencies == other.dependencies
            && (self.is_manual() || !other.is_manual())
    }

    /// Change and patch set as people write them: `12345,2`.
    pub fn target(&self) -> String {
        format!("{},{}", self.change.number, self.patchset.number)
    }
}

setters!(Job {
    buildset / with_buildset: Buildset,
    label / with_label: Option<NodeLabel>,
    dependencies / with_dependencies: Vec<Dependency>,
    failed_attempts / with_failed_attempts: u32,
});

/// Which jobs an operator can run: by the job's name, and by the label of the node it needs.
///
/// ```
/// use pushbutton_core::{JobFilter, samples};
///
/// let filter = JobFilter::names(["tempest".parse()?]);
/// assert!(filter.matches(&samples::job("tempest")));
/// assert!(!filter.matches(&samples::job("unit")));
/// # Ok::<(), pushbutton_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobFilter {
    /// Names that match; none means every name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<BTreeSet<JobName>>,
    /// Labels that match; none means every label. A job without a label matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeSet<NodeLabel>>,
}

impl JobFilter {
    /// Every job.
    pub fn any() -> Self {
        Self::default()
    }

    /// Jobs of these names.
    pub fn names(names: impl IntoIterator<Item = JobName>) -> Self {
        Self { names: Some(names.into_iter().collect()), labels: None }
    }

    /// Of those, only jobs that need one of these labels, or none.
    #[must_use]
    pub fn with_labels(mut self, labels: impl IntoIterator<Item = NodeLabel>) -> Self {
        self.labels = Some(labels.into_iter().collect());
        self
    }

    /// Whether this job may be claimed.
    pub fn matches(&self, job: &Job) -> bool {
        self.matches_kind(&job.name, job.label.as_ref())
    }

    /// Whether a job of this name that needs a node of this label may be claimed.
    pub fn matches_kind(&self, name: &JobName, label: Option<&NodeLabel>) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
            && self.labels.as_ref().is_none_or(|labels| label.is_none_or(|label| labels.contains(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_same_event_and_name_are_the_same_job() {
        let event = samples::comment("bob", "recheck");
        let job = |name: &str| Job::new(JobName::new(name).unwrap(), &event, "rule", Timestamp::UNIX_EPOCH);
        assert_eq!(job("tempest").id, job("tempest").id);
        assert_ne!(job("tempest").id, job("unit").id);
    }

    #[test]
    fn a_job_survives_the_queue() {
        let job = samples::job("tempest")
            .with_label(NodeLabel::new("devstack").unwrap())
            .with_dependencies(vec![samples::dependency(7)]);
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
    }

    #[test]
    fn a_waiting_job_does_not_stand_for_one_with_other_dependencies() {
        let on = |numbers: &[u64]| {
            let dependencies: Vec<_> = numbers.iter().map(|number| samples::dependency(*number)).collect();
            samples::job("tempest").with_dependencies(dependencies)
        };
        assert!(on(&[7, 8]).absorbs(&on(&[7, 8])));
        assert!(
            !on(&[7, 8]).absorbs(&on(&[8])),
            "change 7 was merged meanwhile, and its tree is another one"
        );
    }

    #[test]
    fn a_filter_matches_by_name_and_by_label() {
        let label = |label: &str| NodeLabel::new(label).unwrap();
        let job = samples::job("tempest");
        let labelled = job.clone().with_label(label("devstack"));
        let filter = JobFilter::names([job.name.clone()]).with_labels([label("multinode")]);
        assert!(filter.matches(&job), "a job that names no label needs none in particular");
        assert!(!filter.matches(&labelled));
        assert!(JobFilter::any().matches(&labelled));
        assert!(!JobFilter::names([]).matches(&job));
    }
}
