//! What operators say of themselves: which jobs they can run, and for which nodes there is no room. For people.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::control::ControlMessage;
use crate::job::JobFilter;
use crate::names::{JobName, NodeLabel};
use crate::pipeline::NoRoom;
use crate::setters::setters;

/// How often an operator announces itself.
pub(crate) const ANNOUNCE_EVERY: Duration = Duration::from_secs(15 * 60);

/// One that has not announced itself for so long may have died. Two announcements may be missed.
const SILENT_AFTER: SignedDuration = SignedDuration::from_mins(40);

/// How many operators are remembered: each process of an operator is one, for a day.
const REMEMBERED: usize = 1000;

/// An operator, as it announces itself to the other participants of its queue
/// ([`Operator::with_name`](crate::Operator::with_name)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OperatorState {
    /// Identifies its process.
    pub id: String,
    /// Its name for people, as `operator host-3`.
    pub name: String,
    /// The jobs that it can run.
    pub filter: JobFilter,
    /// The labels for which its cloud has no room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_room: Vec<NoRoom>,
    /// It has been shut down, and claims nothing any more.
    #[serde(default)]
    pub ended: bool,
    /// When it said so, by its own clock.
    pub at: Timestamp,
}

impl OperatorState {
    /// An operator that has room for every job that the filter matches.
    pub fn new(id: impl Into<String>, name: impl Into<String>, filter: JobFilter, at: Timestamp) -> Self {
        Self { id: id.into(), name: name.into(), filter, no_room: Vec::new(), ended: false, at }
    }
}

setters!(OperatorState { no_room / with_no_room: Vec<NoRoom>, ended / with_ended: bool });

/// Jobs of one kind that wait to be claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitingJobs {
    /// Their name.
    pub name: JobName,
    /// The label of the node that they need; none if they were published without one.
    pub label: Option<NodeLabel>,
    /// How many.
    pub count: u64,
    /// When the oldest of them was created.
    pub since: Timestamp,
}

impl WaitingJobs {
    /// So many jobs of this kind.
    pub fn new(name: JobName, label: Option<NodeLabel>, count: u64, since: Timestamp) -> Self {
        Self { name, label, count, since }
    }

    /// Counts jobs by kind: each is given by its name, its label and when it was created. Ordered by name and label.
    pub fn count<'j>(
        jobs: impl IntoIterator<Item = (&'j JobName, Option<&'j NodeLabel>, Timestamp)>,
    ) -> Vec<Self> {
        let mut kinds: BTreeMap<_, (u64, Timestamp)> = BTreeMap::new();
        for (name, label, created) in jobs {
            let (count, since) = kinds.entry((name, label)).or_insert((0, created));
            (*count, *since) = (*count + 1, created.min(*since));
        }
        let kind = |((name, label), (count, since)): ((&JobName, Option<&NodeLabel>), _)| {
            Self::new(name.clone(), label.cloned(), count, since)
        };
        kinds.into_iter().map(kind).collect()
    }
}

/// The operators of a queue, by what they have announced in its control messages.
///
/// For people: nothing in the pipeline depends on it. Times are those of the operators' clocks.
///
/// ```
/// use pushbutton_core::{ControlMessage, JobFilter, OperatorState, Operators, Timestamp};
///
/// let now = Timestamp::now();
/// let mut operators = Operators::default();
/// let state = OperatorState::new("1", "operator host-3", JobFilter::names(["unit".parse()?]), now);
/// operators.observe(&ControlMessage::Operator(state));
/// assert!(operators.can_run(&"unit".parse()?, None, now));
/// assert!(!operators.can_run(&"tempest".parse()?, None, now));
/// # Ok::<(), pushbutton_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Operators {
    heard: BTreeMap<String, OperatorState>,
}

impl Operators {
    /// Takes note of an announcement. Other messages change nothing.
    pub fn observe(&mut self, message: &ControlMessage) {
        let ControlMessage::Operator(state) = message else { return };
        if self.heard.get(&state.id).is_some_and(|known| known.at > state.at) {
            return;
        }
        self.heard.insert(state.id.clone(), state.clone());
        if self.heard.len() > REMEMBERED {
            let oldest = self.heard.values().min_by_key(|state| state.at).map(|state| state.id.clone());
            oldest.map(|id| self.heard.remove(&id));
        }
    }

    /// Those that are alive: they have announced themselves within the last 40 minutes, and were not shut down since.
    /// One that has crashed counts as alive until then.
    pub fn alive(&self, now: Timestamp) -> impl Iterator<Item = &OperatorState> {
        let is_heard = move |state: &&OperatorState| now.duration_since(state.at) <= SILENT_AFTER;
        self.heard.values().filter(|state| !state.ended).filter(is_heard)
    }

    /// Whether an operator that is alive can run such a job.
    pub fn can_run(&self, name: &JobName, label: Option<&NodeLabel>, now: Timestamp) -> bool {
        self.alive(now).any(|state| state.filter.matches_kind(name, label))
    }

    /// The labels for which operators that are alive have no room, and the operator of each.
    pub fn no_room(&self, now: Timestamp) -> impl Iterator<Item = (&NoRoom, &OperatorState)> {
        self.alive(now).flat_map(|state| state.no_room.iter().map(move |label| (label, state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, AT};

    fn at(minutes: i64) -> Timestamp {
        AT + SignedDuration::from_mins(minutes)
    }

    fn said(id: &str, job: &str, minutes: i64) -> OperatorState {
        OperatorState::new(
            id,
            format!("operator {id}"),
            JobFilter::names([job.parse().unwrap()]),
            at(minutes),
        )
    }

    #[test]
    fn an_operator_is_alive_until_it_ends_or_falls_silent() {
        let mut operators = Operators::default();
        let (unit, tempest) = ("unit".parse().unwrap(), "tempest".parse().unwrap());
        for state in [said("1", "unit", 0), said("2", "tempest", 10), said("1", "unit", -5)] {
            operators.observe(&ControlMessage::Operator(state));
        }
        assert!(operators.can_run(&unit, None, at(40)) && operators.can_run(&tempest, None, at(40)));
        assert!(!operators.can_run(&unit, None, at(41)), "silent");
        operators.observe(&ControlMessage::Operator(said("2", "tempest", 20).with_ended(true)));
        assert!(!operators.can_run(&tempest, None, at(20)), "shut down");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut operators = Operators::default();
        for n in 0..2 * REMEMBERED as i64 {
            operators.observe(&ControlMessage::Operator(said(&n.to_string(), "unit", n)));
        }
        assert_eq!(operators.heard.len(), REMEMBERED);
        assert!(operators.heard.values().all(|state| state.at >= at(REMEMBERED as i64)), "the newest");
    }

    #[test]
    fn waiting_jobs_are_counted_by_name_and_label() {
        let (one, two) = (samples::job("tempest"), samples::job_on(2, "tempest"));
        let label: NodeLabel = "devstack".parse().unwrap();
        let other = samples::job("unit");
        let jobs =
            [(&one.name, Some(&label), at(5)), (&two.name, Some(&label), at(3)), (&other.name, None, at(9))];
        let expected = [
            WaitingJobs::new(one.name.clone(), Some(label.clone()), 2, at(3)),
            WaitingJobs::new(other.name.clone(), None, 1, at(9)),
        ];
        assert_eq!(WaitingJobs::count(jobs), expected);
    }
}
