//! Decides which runs are orphans. Pure.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::duration::HumanDuration;
use crate::names::RunId;
use crate::node::OwnedResource;
use crate::traits::JournalEntry;

/// What is left of a run whose lease has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Orphan {
    /// The run.
    pub run: RunId,
    /// The age of the youngest trace of it.
    pub age: HumanDuration,
    /// What the cloud lists of it.
    pub resources: Vec<OwnedResource>,
    /// What the journal knows of it, including what the cloud no longer lists, or never did.
    pub entries: Vec<JournalEntry>,
}

impl fmt::Display for Orphan {
    /// The run, its age and its parts: `run 0190..., 2h 05m 00s old: server 4f2a (pushbutton-x-12345-2)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}, {} old", self.run, self.age)?;
        let mut between = ": ";
        for resource in &self.resources {
            write!(f, "{between}{} {} ({})", resource.kind.as_str(), resource.id, resource.name)?;
            between = ", ";
        }
        // What the cloud lists is not repeated.
        let shown = |entry: &&JournalEntry| {
            self.resources.iter().any(|it| it.kind == entry.kind && Some(&it.id) == entry.id.as_ref())
        };
        for entry in self.entries.iter().filter(|entry| !shown(entry)) {
            let name = entry.id.as_ref().unwrap_or(&entry.name);
            write!(f, "{between}{} {name} (journal)", entry.kind.as_str())?;
            between = ", ";
        }
        Ok(())
    }
}

/// What is known of one run before the decision.
#[derive(Default)]
struct RunEvidence {
    resources: Vec<OwnedResource>,
    entries: Vec<JournalEntry>,
}

impl RunEvidence {
    /// When the youngest trace was made. Every source of a time counts, so that one clock that is slow makes nothing
    /// look old.
    fn youngest(&self, run: &RunId) -> Option<Timestamp> {
        let made = self.resources.iter().filter_map(|resource| resource.created);
        made.chain(self.entries.iter().map(|entry| entry.at)).chain(run.made_at()).max()
    }
}

/// The orphans: runs without a lease, all of whose traces are older than the safety age. The oldest run first.
///
/// A resource without a run cannot be released by run, and one without an age may be new: both are only logged.
pub(super) fn orphans(
    entries: Vec<JournalEntry>,
    owned: Vec<OwnedResource>,
    leased: &HashSet<RunId>,
    now: Timestamp,
    safety_age: Duration,
) -> Vec<Orphan> {
    let mut runs: BTreeMap<RunId, RunEvidence> = BTreeMap::new();
    for entry in entries {
        runs.entry(entry.run.clone()).or_default().entries.push(entry);
    }
    for resource in owned {
        match resource.run.clone() {
            Some(run) => runs.entry(run).or_default().resources.push(resource),
            None => tracing::warn!(
                kind = resource.kind.as_str(),
                id = resource.id,
                name = resource.name,
                "this resource carries our owner but no run: it is not touched, a person must look at it"
            ),
        }
    }
    runs.retain(|run, _| !leased.contains(run));
    let orphans = runs.into_iter().filter_map(|(run, evidence)| {
        let Some(youngest) = evidence.youngest(&run) else {
            tracing::warn!(%run, "the age of this run is not known: it is not touched, a person must look at it");
            return None;
        };
        // A time in the future counts as age zero.
        let age = Duration::try_from(now.duration_since(youngest)).unwrap_or_default();
        let RunEvidence { resources, entries } = evidence;
        (age >= safety_age).then_some(Orphan { run, age: HumanDuration(age), resources, entries })
    });
    orphans.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ResourceKind;
    use crate::samples::AT;

    const AGE: Duration = Duration::from_secs(600);

    /// A run whose id has no time in it.
    fn run(name: &str) -> RunId {
        RunId::new(name).unwrap()
    }

    fn server(run: Option<&str>, created: Option<Timestamp>) -> OwnedResource {
        let run = run.map(|name| RunId::new(name).unwrap());
        OwnedResource::new(ResourceKind::Server, "s1", "pushbutton-x").with_run(run).with_created(created)
    }

    fn intent(name: &str, id: Option<&str>, at: Timestamp) -> JournalEntry {
        let id = id.map(str::to_owned);
        JournalEntry { entry: 7, run: run(name), kind: ResourceKind::Server, name: "planned".into(), id, at }
    }

    fn ago(seconds: i64) -> Timestamp {
        AT - jiff::SignedDuration::from_secs(seconds)
    }

    fn found(entries: Vec<JournalEntry>, owned: Vec<OwnedResource>, leased: &[&str]) -> Vec<String> {
        let leased = leased.iter().map(|name| run(name)).collect();
        orphans(entries, owned, &leased, AT, AGE).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_holds_no_lease_and_is_old_enough_is_orphaned() {
        let old = || vec![server(Some("r1"), Some(ago(600)))];
        assert_eq!(found(vec![], old(), &[]), ["run r1, 10m 00s old: server s1 (pushbutton-x)"]);
        assert!(found(vec![], old(), &["r1"]).is_empty(), "it holds a lease");
        assert!(found(vec![], vec![server(Some("r1"), Some(ago(599)))], &[]).is_empty(), "too young");
    }

    #[test]
    fn the_youngest_sign_decides_also_when_a_clock_is_ahead() {
        let owned = || vec![server(Some("r1"), Some(ago(9000)))];
        assert!(found(vec![intent("r1", None, ago(60))], owned(), &[]).is_empty());
        assert!(found(vec![], vec![server(Some("r1"), Some(ago(-3600)))], &[]).is_empty());
        let made_now = RunId::generate();
        let owned = vec![OwnedResource { run: Some(made_now.clone()), ..server(None, Some(ago(9000))) }];
        let now = made_now.made_at().unwrap();
        assert!(orphans(vec![], owned, &HashSet::new(), now, AGE).is_empty(), "the run's own id is young");
    }

    #[test]
    fn what_only_the_journal_knows_is_orphaned_too_and_nothing_is_named_twice() {
        let entries = vec![intent("r1", Some("s1"), ago(700)), intent("r2", None, ago(800))];
        assert_eq!(
            found(entries, vec![server(Some("r1"), Some(ago(700)))], &[]),
            [
                "run r1, 11m 40s old: server s1 (pushbutton-x)",
                "run r2, 13m 20s old: server planned (journal)"
            ]
        );
    }

    #[test]
    fn what_tells_no_run_or_no_age_is_left_alone() {
        assert!(found(vec![], vec![server(None, Some(ago(9000))), server(Some("r1"), None)], &[]).is_empty());
    }
}
