//! Buildsets: all jobs that one event called for on one patch set, and what is reported about them together.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::event::{Change, EventId, Patchset};
use crate::names::{BuildsetId, JobName};
use crate::report::RunResult;
use crate::setters::setters;
use crate::verdict::Vote;

/// The buildset that a job belongs to. Every job carries it whole, so that a queue knows when the last one has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Buildset {
    /// Its identity. Reporters recognise by it what they have reported already.
    pub id: BuildsetId,
    /// The names of all its jobs.
    pub jobs: BTreeSet<JobName>,
}

impl Buildset {
    /// The jobs of these names that this event called for.
    pub fn of(event: &EventId, jobs: impl IntoIterator<Item = JobName>) -> Self {
        let jobs: BTreeSet<JobName> = jobs.into_iter().collect();
        let names = jobs.iter().map(JobName::as_str);
        Self { id: BuildsetId::of(["buildset", event.as_str()].into_iter().chain(names)), jobs }
    }

    /// A buildset of one job, whose first report was made without it: `what` makes the identity a new one.
    pub fn alone(name: &JobName, earlier: &BuildsetId, what: &str) -> Self {
        let id = BuildsetId::of([earlier.as_str(), name.as_str(), what]);
        Self { id, jobs: BTreeSet::from([name.clone()]) }
    }

    /// The same jobs, of this installation: two installations that see the same event report it each.
    #[must_use]
    pub fn in_installation(mut self, installation: &str) -> Self {
        self.id = BuildsetId::of([installation, self.id.as_str()]);
        self
    }
}

/// How a job of a buildset ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "end")]
#[non_exhaustive]
pub enum JobEnd {
    /// With a verdict.
    Finished {
        /// The result of its last run.
        result: Box<RunResult>,
    },
    /// An equal job waited already, and is run in its place.
    Absorbed {
        /// The buildset of that job, which reports its result.
        by: BuildsetId,
    },
    /// It became a dead letter.
    Dead {
        /// Why.
        why: String,
    },
}

/// A buildset of which some jobs may not have ended. A queue keeps one for each, and takes its report when it is
/// complete.
///
/// ```
/// use pushbutton_core::{JobEnd, OpenBuildset, samples};
///
/// let job = samples::job("tempest");
/// let mut buildset = OpenBuildset::new(job.buildset.clone());
/// buildset.end(job.name.clone(), JobEnd::Finished { result: Box::new(samples::success(&job)) });
/// let report = buildset.into_report().expect("its only job has ended");
/// assert_eq!(report.vote().map(|vote| vote.value()), Some(1));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenBuildset {
    buildset: Buildset,
    ended: BTreeMap<JobName, JobEnd>,
}

impl OpenBuildset {
    /// A buildset of which no job has ended.
    pub fn new(buildset: Buildset) -> Self {
        Self { buildset, ended: BTreeMap::new() }
    }

    /// Records how a job ended. The last end of a job counts.
    pub fn end(&mut self, job: JobName, end: JobEnd) {
        self.ended.insert(job, end);
    }

    /// Forgets that a job ended: its dead letter was put back on the queue.
    pub fn reopen(&mut self, job: &JobName) {
        self.ended.remove(job);
    }

    /// Its identity and its jobs.
    pub fn buildset(&self) -> &Buildset {
        &self.buildset
    }

    /// The jobs that have ended, and how. For queues that keep copies which are to become equal.
    pub fn ends(&self) -> impl Iterator<Item = (&JobName, &JobEnd)> {
        self.ended.iter()
    }

    /// Whether this job has ended.
    pub fn has_ended(&self, job: &JobName) -> bool {
        self.ended.contains_key(job)
    }

    /// Whether all its jobs have ended.
    pub fn is_complete(&self) -> bool {
        self.buildset.jobs.iter().all(|job| self.has_ended(job))
    }

    /// Its report. None when nothing is to be reported: no job has a result that concerns people on the review, or
    /// the patch set is stale.
    pub fn into_report(self) -> Option<BuildsetReport> {
        let (mut results, mut missing) = (Vec::new(), Vec::new());
        for (name, end) in self.ended {
            match end {
                JobEnd::Finished { result } => results.push(*result),
                JobEnd::Absorbed { by } => {
                    missing
                        .push(MissingJob::new(name, format!("an equal job waited already (buildset {by})")));
                }
                JobEnd::Dead { why } => missing.push(MissingJob::new(name, why)),
            }
        }
        BuildsetReport::new(self.buildset.id, results).map(|report| report.with_missing(missing))
    }
}

/// What is reported about a buildset, once, when all its jobs have ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BuildsetReport {
    /// The buildset.
    pub id: BuildsetId,
    /// The change.
    pub change: Change,
    /// The patch set.
    pub patchset: Patchset,
    /// The results of its jobs, ordered by name. None in a notice that its jobs were not started.
    pub results: Vec<RunResult>,
    /// Jobs that have no result of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingJob>,
}

/// A job of a buildset that has no result of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MissingJob {
    /// Its name.
    pub name: JobName,
    /// Why.
    pub why: String,
}

impl MissingJob {
    /// A job of this name, and why it has no result.
    pub fn new(name: JobName, why: impl Into<String>) -> Self {
        Self { name, why: why.into() }
    }
}

impl BuildsetReport {
    /// When its last run ended; none when it has no result.
    pub fn ended(&self) -> Option<Timestamp> {
        let ends = self.results.iter().map(|result| {
            let took = SignedDuration::try_from(result.took).unwrap_or_default();
            result.started.checked_add(took).unwrap_or(result.started)
        });
        ends.max()
    }

    /// The report of these results. None when nobody on the review needs it: none of them is reported, or a newer
    /// patch set has made one of them stale.
    pub fn new(id: BuildsetId, results: Vec<RunResult>) -> Option<Self> {
        let is_stale = results.iter().any(|result| result.verdict.is_stale());
        if is_stale || !results.iter().any(|result| result.verdict.is_reported()) {
            return None;
        }
        let job = &results.first()?.job;
        let (change, patchset) = (job.change.clone(), job.patchset.clone());
        Some(Self { id, change, patchset, results, missing: Vec::new() })
    }

    /// A notice that none of these jobs was started, and why.
    pub fn without_results(
        id: BuildsetId,
        change: Change,
        patchset: Patchset,
        missing: Vec<MissingJob>,
    ) -> Self {
        Self { id, change, patchset, results: Vec::new(), missing }
    }

    /// The vote it may cast. A failure of the patch in one job is a vote against; a vote for needs a success of every
    /// job.
    pub fn vote(&self) -> Option<Vote> {
        let votes = || self.results.iter().map(|result| result.verdict.vote());
        let against = votes().flatten().find(|vote| vote.value() < 0);
        match self.missing.is_empty() && votes().all(|vote| vote.is_some()) {
            true => against.or_else(|| votes().flatten().next()),
            false => against,
        }
    }

    /// Change and patch set as people write them: `12345,2`.
    pub fn target(&self) -> String {
        format!("{},{}", self.change.number, self.patchset.number)
    }

    /// Its results in short, for logs: `tempest SUCCESS, unit FAILURE in stage run`.
    pub fn summary(&self) -> String {
        let results = self.results.iter().map(|result| format!("{} {}", result.job.name, result.verdict));
        let missing = self.missing.iter().map(|job| format!("{} without a result", job.name));
        results.chain(missing).collect::<Vec<_>>().join(", ")
    }
}

setters!(BuildsetReport { missing / with_missing: Vec<MissingJob> });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::StageName;
    use crate::samples;
    use crate::verdict::Verdict;

    fn report_of(verdicts: &[Verdict]) -> Option<BuildsetReport> {
        let names: Vec<JobName> =
            (0..verdicts.len()).map(|number| format!("job-{number}").parse().unwrap()).collect();
        let mut open = OpenBuildset::new(Buildset::of(&samples::job("x").cause.event, names.clone()));
        for (name, verdict) in names.iter().zip(verdicts) {
            assert!(!open.is_complete());
            let job = samples::job(name.as_str());
            let result = samples::success(&job);
            open.end(
                name.clone(),
                JobEnd::Finished { result: Box::new(RunResult { verdict: verdict.clone(), ..result }) },
            );
        }
        assert!(open.is_complete());
        open.into_report()
    }

    fn vote_of(verdicts: &[Verdict]) -> Option<i8> {
        report_of(verdicts).and_then(|report| report.vote()).map(Vote::value)
    }

    fn failure() -> Verdict {
        Verdict::Failure { stage: StageName::new("run").unwrap() }
    }

    #[test]
    fn one_failure_votes_against_and_only_all_successes_vote_for() {
        assert_eq!(vote_of(&[Verdict::Success, Verdict::Success]), Some(1));
        assert_eq!(vote_of(&[Verdict::Success, failure()]), Some(-1));
        assert_eq!(vote_of(&[failure(), Verdict::NodeFailure]), Some(-1));
        for other in [Verdict::NodeFailure, Verdict::RetryLimit, Verdict::PostFailure, Verdict::Cancelled] {
            assert_eq!(vote_of(&[Verdict::Success, other.clone()]), None, "{other}");
        }
    }

    #[test]
    fn a_job_without_a_result_of_its_own_prevents_a_vote_for() {
        let report = report_of(&[Verdict::Success]).unwrap();
        let missing =
            |report: BuildsetReport| report.with_missing(vec![MissingJob::new("unit".parse().unwrap(), "x")]);
        assert_eq!(missing(report).vote(), None);
        assert_eq!(missing(report_of(&[failure()]).unwrap()).vote().map(Vote::value), Some(-1));
    }

    #[test]
    fn a_stale_or_cancelled_buildset_is_not_reported() {
        assert_eq!(report_of(&[Verdict::Success, Verdict::Superseded]), None);
        assert_eq!(report_of(&[Verdict::Cancelled, Verdict::Cancelled]), None);
        assert_eq!(report_of(&[Verdict::Success, Verdict::Cancelled]).unwrap().results.len(), 2);
    }

    #[test]
    fn only_absorbed_jobs_are_reported_by_the_buildset_that_absorbed_them() {
        let job = samples::job("tempest");
        let mut open = OpenBuildset::new(job.buildset.clone());
        open.end(job.name.clone(), JobEnd::Absorbed { by: job.buildset.id.clone() });
        assert!(open.is_complete());
        assert_eq!(open.into_report(), None);
    }

    #[test]
    fn a_dead_letter_that_was_requeued_is_waited_for() {
        let job = samples::job("tempest");
        let mut open = OpenBuildset::new(job.buildset.clone());
        open.end(job.name.clone(), JobEnd::Dead { why: "no such flavor".into() });
        assert!(open.is_complete());
        open.reopen(&job.name);
        assert!(!open.is_complete());
    }

    #[test]
    fn the_identity_depends_on_event_jobs_and_installation() {
        let event = samples::job("x").cause.event;
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<JobName>>();
        let one = Buildset::of(&event, names(&["a", "b"]));
        assert_eq!(one, Buildset::of(&event, names(&["b", "a"])));
        assert_ne!(one.id, Buildset::of(&event, names(&["a"])).id);
        assert_ne!(one.clone().in_installation("prod").id, one.in_installation("staging").id);
    }
}
