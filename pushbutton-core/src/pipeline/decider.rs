//! Decides what each event calls for. The handler, `replay` and `explain` all decide here, so that they cannot differ.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::build_limit::{Admission, BuildLimit};
use super::rules::Rules;
use super::supersede::SupersedePolicy;
use crate::current::Current;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind};
use crate::names::{ChangeNumber, PatchsetNumber, Revision};
use crate::retry::Backoff;
use crate::traits::TriggerLookup;
use crate::trigger::{ChangedFiles, Detail, Evaluation, Fact, Facts, Needs, Triggers};

/// How long a look-up may take. By its contract it returns earlier.
const LOOKUP_LIMIT: Duration = Duration::from_secs(150);

/// Delays between attempts of a look-up.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const DELAY_CAP: Duration = Duration::from_secs(60);

/// How often an answer that cannot be read is asked for: the next one may be whole, but one change must not stop the
/// intake of all others.
const UNREADABLE_TRIES: u32 = 5;

/// How long the members of a group are remembered.
const GROUP_LIFETIME: Duration = Duration::from_secs(300);

/// How many changes are remembered with their newest patch set, patch sets with their files, and groups.
const MAX_CHANGES: usize = 20_000;
const MAX_PATCHSETS: usize = 64;
const MAX_GROUPS: usize = 200;

/// Longer lists of files are not remembered.
const MAX_REMEMBERED_BYTES: usize = 256 << 10;

/// Judges events by the triggers, with what earlier events and look-ups say beside them. The rules may be replaced
/// meanwhile ([`following`](Self::following)); what is known of earlier events stays.
///
/// Each event is first [observed](Self::observe), in the order of the source; that asks nobody. It is then
/// [completed](Self::complete), which may look up files, votes and groups.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> pushbutton_core::Result<()> {
/// use pushbutton_core::{Decider, EventMatch, PatchsetNumber, Trigger, Triggers, samples};
///
/// let recheck = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
/// let triggers = Triggers::compile(vec![Trigger::new("recheck", recheck, ["tempest".parse()?])], vec![])?;
/// let decider = Decider::new(triggers);
/// let mut recheck = samples::comment("bob", "recheck");
/// assert_eq!(decider.decide(&recheck).await.jobs().len(), 1);
///
/// // A newer patch set is uploaded: what people ask for on the older one is not run any more.
/// let mut newer = samples::patchset_created();
/// newer.patchset.number = PatchsetNumber(3);
/// decider.decide(&newer).await;
/// let evaluation = decider.decide(&recheck).await;
/// assert_eq!(evaluation.reasons(), ["recheck: patch set 2 is superseded by 3"]);
/// # Ok(())
/// # }
/// ```
pub struct Decider {
    rules: Current<Rules>,
    lookup: Option<Arc<dyn TriggerLookup>>,
    builds: Mutex<BuildLimit>,
    detail: Detail,
    /// How often a look-up is tried; none: until there is an answer.
    tries: Option<u32>,
    memory: Mutex<Memory>,
    /// One look-up at a time: events of the same patch set ask once, and upstream is never asked by many at once.
    gate: tokio::sync::Mutex<()>,
}

/// What is remembered, all of it bounded.
#[derive(Default)]
struct Memory {
    newest: Bounded<ChangeNumber, PatchsetNumber>,
    files: Bounded<(ChangeNumber, PatchsetNumber, Revision), Arc<ChangedFiles>>,
    groups: Bounded<String, (Instant, Arc<HashSet<String>>)>,
}

/// An event that was judged by what stands in it and in earlier events.
#[derive(Debug)]
pub struct Observed {
    rules: Arc<Rules>,
    evaluation: Evaluation,
    facts: Facts,
}

impl Observed {
    /// How it was judged so far. Rules that need a look-up are [`Unknown`](crate::Matched::Unknown).
    pub fn evaluation(&self) -> &Evaluation {
        &self.evaluation
    }

    /// By which rules it is judged, also when others follow meanwhile.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }
}

/// A build that is not started, although triggers call for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Why, as a sentence for people.
    pub why: String,
    /// Whether nobody was told so yet.
    pub is_first: bool,
}

impl Decider {
    /// Decides by these triggers. Nothing can be looked up, and older patch sets are superseded.
    pub fn new(triggers: Triggers) -> Self {
        Self::following(Current::new(Rules::new(triggers)))
    }

    /// Decides on each event by the rules of the time at which it is [observed](Self::observe). Nothing can be looked up.
    pub fn following(rules: Current<Rules>) -> Self {
        Self {
            rules,
            lookup: None,
            builds: Mutex::default(),
            detail: Detail::Brief,
            tries: None,
            memory: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
        }
    }

    /// Whether a patch set is superseded by a newer one. Default: it is.
    #[must_use]
    pub fn with_supersede(self, policy: SupersedePolicy) -> Self {
        self.rules.update(|rules| rules.supersede = policy);
        self
    }

    /// Looks up files, votes and groups here. Default: nowhere, and rules that need them stay undecided.
    #[must_use]
    pub fn with_lookup(mut self, lookup: impl TriggerLookup + 'static) -> Self {
        self.lookup = Some(Arc::new(lookup));
        self
    }

    /// Starts at most so many builds of one change within 24 hours. Default: any number.
    #[must_use]
    pub fn with_build_limit(self, builds: NonZeroU32) -> Self {
        self.rules.update(|rules| rules.build_limit = Some(builds));
        self
    }

    /// Keeps every condition of every rule in the trace, not only the one that decided: for people.
    #[must_use]
    pub fn with_all_conditions(mut self) -> Self {
        self.detail = Detail::Full;
        self
    }

    /// Tries a look-up so many times. Then the rule counts as one that does not apply, and its condition says why. Default:
    /// until there is an answer.
    #[must_use]
    pub fn with_tries(mut self, tries: u32) -> Self {
        self.tries = Some(tries);
        self
    }

    /// Takes note of an event, and judges it without a look-up. To be called in the order of the source.
    pub fn observe(&self, event: &Event) -> Observed {
        let (rules, mut facts) = (self.rules.get(), Facts::default());
        // The patch set of a deleted change is unknown.
        if rules.supersede.newer_patchset && !matches!(event.kind, EventKind::ChangeDeleted) {
            facts.newest = Some(self.memory().note_patchset(event.change.number, event.patchset.number));
        }
        let evaluation = rules.triggers.evaluate(event, &facts, self.detail);
        Observed { rules, evaluation, facts }
    }

    /// Looks up what the event does not say, and judges it. Waits for an answer, if upstream cannot be asked: an event that
    /// needs one is neither run nor skipped without it.
    ///
    /// # Cancel safety
    /// A dropped call has decided nothing, and may be repeated.
    pub async fn complete(&self, event: &Event, observed: Observed) -> Evaluation {
        let Observed { rules, mut evaluation, mut facts } = observed;
        let Some(lookup) = &self.lookup else { return evaluation };
        let mut unanswered = Vec::new();
        loop {
            let needs = evaluation.needs();
            if !needs.groups.is_empty() {
                for group in needs.groups {
                    let members = self.members(lookup.as_ref(), &group, &mut unanswered).await;
                    facts.groups.insert(group, members);
                }
            } else if needs.files || needs.votes {
                self.look_up_patchset(lookup.as_ref(), event, &needs, &mut facts, &mut unanswered).await;
            } else {
                evaluation.unanswered = unanswered;
                return evaluation;
            }
            evaluation = rules.triggers.evaluate(event, &facts, self.detail);
        }
    }

    /// [Observes](Self::observe) and [completes](Self::complete) an event.
    pub async fn decide(&self, event: &Event) -> Evaluation {
        let observed = self.observe(event);
        self.complete(event, observed).await
    }

    /// Counts a build of a change. None: it may be started.
    pub fn refuse_build(&self, change: ChangeNumber, now: Timestamp) -> Option<Refusal> {
        let limit = self.rules.get().build_limit?;
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        let Admission::TooMany { until, is_first } = builds.admit(limit, change, now) else { return None };
        let why = format!(
            "this CI starts at most {} builds of one change within 24 hours, and the next one after {} UTC",
            limit,
            until.strftime("%F %H:%M"),
        );
        Some(Refusal { why, is_first })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn members(
        &self,
        lookup: &dyn TriggerLookup,
        group: &str,
        unanswered: &mut Vec<String>,
    ) -> Fact<Arc<HashSet<String>>> {
        let known = || {
            let memory = self.memory();
            let (at, members) = memory.groups.get(&group.to_owned())?;
            (at.elapsed() < GROUP_LIFETIME).then(|| Arc::clone(members))
        };
        let ask = async || {
            let members = lookup.group_members(group).await?;
            let logins: HashSet<String> = members.into_iter().filter_map(|member| member.username).collect();
            let logins = Arc::new(logins);
            self.memory().groups.insert(group.to_owned(), (Instant::now(), Arc::clone(&logins)), MAX_GROUPS);
            Ok(logins)
        };
        match self.ask("lookup::group_members", known, ask).await {
            Ok(members) => Fact::Known(members),
            Err(error) => {
                unanswered.push(format!("the members of the group {group:?} cannot be looked up: {error}"));
                Fact::Failed(error.message().to_owned())
            }
        }
    }

    async fn look_up_patchset(
        &self,
        lookup: &dyn TriggerLookup,
        event: &Event,
        needs: &Needs,
        facts: &mut Facts,
        unanswered: &mut Vec<String>,
    ) {
        let (change, patchset) = (event.change.number, event.patchset.number);
        let key = (change, patchset, event.patchset.revision.clone());
        // The files of a patch set never change; its votes do.
        let known = || {
            let files = self.memory().files.get(&key).cloned();
            files.filter(|_| !needs.votes).map(|files| (files, None))
        };
        let ask = async || {
            let details = lookup.patchset(change, patchset).await?;
            let files = Arc::new(ChangedFiles { paths: details.files, more: details.more_files });
            if files.paths.iter().map(String::len).sum::<usize>() <= MAX_REMEMBERED_BYTES {
                self.memory().files.insert(key.clone(), Arc::clone(&files), MAX_PATCHSETS);
            }
            Ok((files, Some(details.votes)))
        };
        match self.ask("lookup::patchset", known, ask).await {
            Ok((files, votes)) => {
                facts.files = Fact::Known(files);
                if let Some(votes) = votes {
                    facts.votes = Fact::Known(votes);
                }
            }
            Err(error) => {
                // A change that was deleted or made private meanwhile is nothing to look at.
                if error.kind() != ErrorKind::NotFound {
                    unanswered.push(format!("{change},{patchset} cannot be looked up: {error}"));
                }
                facts.files = Fact::Failed(error.message().to_owned());
                facts.votes = Fact::Failed(error.message().to_owned());
            }
        }
    }

    /// Asks until there is an answer. An error is one about the very question.
    async fn ask<T, F: Future<Output = Result<T>>>(
        &self,
        what: &'static str,
        known: impl Fn() -> Option<T>,
        ask: impl Fn() -> F,
    ) -> Result<T> {
        let mut backoff = Backoff::new(FIRST_DELAY, DELAY_CAP);
        loop {
            let gate = self.gate.lock().await;
            // Somebody else may have asked the same meanwhile.
            if let Some(answer) = known() {
                return Ok(answer);
            }
            let late = || Error::temporary(ErrorKind::TimedOut, format!("no answer within {LOOKUP_LIMIT:?}"));
            let answer = tokio::time::timeout(LOOKUP_LIMIT, ask()).await;
            drop(gate);
            let error = match answer.map_err(|_| late()).flatten() {
                Ok(answer) => return Ok(answer),
                Err(error) => error.during(what),
            };
            let delay = backoff.next_delay();
            let is_unreadable = matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Exhausted);
            let limit = if is_unreadable { Some(UNREADABLE_TRIES) } else { None };
            let limit = self.tries.into_iter().chain(limit).min();
            let is_answer =
                !error.is_temporary() && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid);
            if is_answer || limit.is_some_and(|limit| backoff.tries() >= limit) {
                return Err(error);
            }
            tracing::warn!(
                operation = what,
                tries = backoff.tries(),
                ?delay,
                "triggers wait for an answer: {error}"
            );
            tokio::time::sleep(delay).await;
        }
    }
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decider").field("rules", &self.rules.get()).finish_non_exhaustive()
    }
}

impl Memory {
    /// Notes a patch set. Returns the newest of its change.
    fn note_patchset(&mut self, change: ChangeNumber, patchset: PatchsetNumber) -> PatchsetNumber {
        let newest = self.newest.get(&change).copied().map_or(patchset, |known| known.max(patchset));
        self.newest.insert(change, newest, MAX_CHANGES);
        newest
    }
}

/// A map that forgets the oldest keys.
struct Bounded<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    fn insert(&mut self, key: K, value: V, max: usize) {
        if self.map.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > max {
            if let Some(oldest) = self.order.pop_front() {
                self.map.remove(&oldest);
            }
        }
    }
}
