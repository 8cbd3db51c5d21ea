//! How an event was judged: what each rule asked for, what it saw, and what followed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::{Decision, PlannedJob};
use crate::names::{JobName, PatchsetNumber};
use crate::traits::CurrentVote;

/// How an event was judged by all triggers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// Why the event was skipped before any rule was evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<String>,
    /// Each rule, in the order of the configuration.
    pub rules: Vec<RuleTrace>,
    /// What a person should look at: look-ups that have failed for good, because of which a rule does not apply.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<String>,
}

/// How an event was judged by one trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RuleTrace {
    /// The trigger's name.
    pub trigger: String,
    /// Whether it applies.
    pub matched: Matched,
    /// The jobs that it then calls for.
    pub jobs: Vec<JobName>,
    /// Its predicates, in the order in which they are judged. In a handler only the one that decided.
    pub predicates: Vec<PredicateTrace>,
    #[serde(skip)]
    pub(crate) needs: Needs,
}

/// One condition of a trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PredicateTrace {
    /// The key of the configuration, as `branches` or `except.topics`; or what is always required, as `open`.
    pub name: &'static str,
    /// Whether it holds.
    pub matched: Matched,
    /// What it asks for, as `master, stable/*`.
    pub wanted: String,
    /// What it saw, as `stable/2026.1`. Text from Gerrit: shown, never interpreted.
    pub saw: String,
    /// Why it does not hold, or is not known, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Matched {
    /// It holds.
    Yes,
    /// It does not hold.
    No,
    /// It would have to be looked up, and was not: nobody could be asked, or another condition does not hold.
    Unknown,
}

impl From<bool> for Matched {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Matched {
    pub(super) fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl Evaluation {
    pub(super) fn ignored(why: String) -> Self {
        Self { ignored: Some(why), ..Self::default() }
    }

    pub(super) fn of(rules: Vec<RuleTrace>) -> Self {
        Self { rules, ..Self::default() }
    }

    /// The jobs that the triggers which apply call for: each once, by the first that does.
    pub fn jobs(&self) -> Vec<PlannedJob> {
        let mut jobs = Vec::<PlannedJob>::new();
        for rule in self.rules.iter().filter(|rule| rule.matched == Matched::Yes) {
            for job in &rule.jobs {
                if !jobs.iter().any(|known| known.name == *job) {
                    jobs.push(PlannedJob { name: job.clone(), trigger: rule.trigger.clone() });
                }
            }
        }
        jobs
    }

    /// One reason for each trigger that does not apply, or is not decided: `trigger: why`.
    pub fn reasons(&self) -> Vec<String> {
        if let Some(why) = &self.ignored {
            return vec![why.clone()];
        }
        let reason = |rule: &RuleTrace| {
            let decisive = rule.predicates.iter().find(|predicate| predicate.matched == rule.matched)?;
            Some(format!("{}: {}", rule.trigger, decisive.why.as_deref()?))
        };
        self.rules.iter().filter(|rule| rule.matched != Matched::Yes).filter_map(reason).collect()
    }

    /// Whether a rule waits for a look-up.
    pub fn is_decided(&self) -> bool {
        self.rules.iter().all(|rule| rule.matched != Matched::Unknown)
    }

    /// Only the rules that are decided.
    #[must_use]
    pub fn without_undecided(&self) -> Self {
        let rules = self.rules.iter().filter(|rule| rule.matched != Matched::Unknown);
        Self { rules: rules.cloned().collect(), ..self.clone() }
    }

    /// Only the rules that wait for a look-up.
    #[must_use]
    pub fn undecided(&self) -> Self {
        let rules = self.rules.iter().filter(|rule| rule.matched == Matched::Unknown);
        Self { ignored: None, rules: rules.cloned().collect(), unanswered: Vec::new() }
    }

    /// What follows.
    pub fn decision(&self) -> Decision {
        let jobs = self.jobs();
        if !self.is_decided() {
            return Decision::LookUp(self.reasons());
        }
        if jobs.is_empty() { Decision::Ignore(self.reasons()) } else { Decision::Run(jobs) }
    }

    /// What must be looked up next.
    pub(crate) fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for rule in self.rules.iter().filter(|rule| rule.matched == Matched::Unknown) {
            needs.groups.extend(rule.needs.groups.iter().cloned());
            needs.files |= rule.needs.files;
            needs.votes |= rule.needs.votes;
        }
        needs
    }
}

/// What must be looked up before a rule is decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) groups: BTreeSet<String>,
    pub(crate) files: bool,
    pub(crate) votes: bool,
}

/// What is known beside the event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// The newest patch set of the change, if older ones are superseded by it.
    pub(crate) newest: Option<PatchsetNumber>,
    pub(crate) files: Fact<Arc<ChangedFiles>>,
    pub(crate) votes: Fact<Vec<CurrentVote>>,
    /// The logins of the members of groups.
    pub(crate) groups: HashMap<String, Fact<Arc<HashSet<String>>>>,
}

/// Something that may have been looked up.
#[derive(Debug, Clone, Default)]
pub(crate) enum Fact<T> {
    /// It was not.
    #[default]
    Unknown,
    Known(T),
    /// It cannot be, for this reason, and will not be if it is tried again.
    Failed(String),
}

/// The files of a patch set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChangedFiles {
    pub(crate) paths: Vec<String>,
    /// There are more than were listed.
    pub(crate) more: bool,
}

/// How much of the way to a decision is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Only what decided: a handler judges thousands of events.
    Brief,
    /// Every condition, also behind one that does not hold.
    Full,
}

/// Takes down what a rule sees.
pub(super) struct Tracer {
    detail: Detail,
    matched: Matched,
    predicates: Vec<PredicateTrace>,
    needs: Needs,
}

/// A condition in words.
pub(super) struct Words {
    pub(super) wanted: String,
    pub(super) saw: String,
    /// Why it does not hold, or is not known. Not used if it holds.
    pub(super) why: String,
}

impl Tracer {
    pub(super) fn new(detail: Detail) -> Self {
        Self { detail, matched: Matched::Yes, predicates: Vec::new(), needs: Needs::default() }
    }

    /// A condition was judged. None: the rest need not be.
    pub(super) fn see(
        &mut self,
        name: &'static str,
        matched: Matched,
        words: impl FnOnce() -> Words,
    ) -> Option<()> {
        if self.matched != Matched::No && matched != Matched::Yes {
            self.matched = matched;
        }
        if matched != Matched::Yes || self.detail == Detail::Full {
            let Words { wanted, saw, why } = words();
            let why = (matched != Matched::Yes).then_some(why);
            self.predicates.push(PredicateTrace { name, matched, wanted, saw, why });
        }
        (matched != Matched::No || self.detail == Detail::Full).then_some(())
    }

    pub(super) fn needs(&mut self) -> &mut Needs {
        &mut self.needs
    }

    /// Whether a condition so far does not hold.
    pub(super) fn has_failed(&self) -> bool {
        self.matched == Matched::No
    }

    pub(super) fn end(self, trigger: String, jobs: Vec<JobName>) -> RuleTrace {
        RuleTrace { trigger, matched: self.matched, jobs, predicates: self.predicates, needs: self.needs }
    }
}
