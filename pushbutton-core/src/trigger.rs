//! Triggers turn events into jobs. Pure, so that `replay` and tests decide exactly as the handler does.

use globset::{Glob, GlobSet, GlobSetBuilder};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::event::{Account, Approval, ChangeStatus, Event, EventKind, PatchsetKind};
use crate::names::JobName;
use crate::setters::setters;

/// A pattern's compiled size may not pass this: patterns come from people.
const PATTERN_LIMIT: usize = 1 << 20;

/// One trigger, as in the configuration. All given conditions must hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Trigger {
    /// Its name; shown with every decision.
    pub name: String,
    /// The kind of event, and its conditions.
    pub on: EventMatch,
    /// Projects, as globs (`openstack/*`); any when empty. `*` stays within a path segment, `**` does not.
    #[serde(default)]
    pub projects: Vec<String>,
    /// Branches, as globs (`stable/*`); any when empty.
    #[serde(default)]
    pub branches: Vec<String>,
    /// Kinds of patch sets to skip, as `NO_CODE_CHANGE`.
    #[serde(default)]
    pub skip_kinds: Vec<PatchsetKind>,
    /// Run also for changes marked as work in progress. Default: no, but a comment always does.
    #[serde(default)]
    pub wip: bool,
    /// Run also for private changes, whose existence is not public. Default: no, not even for a comment: the logs of a
    /// run are public.
    #[serde(default)]
    pub private: bool,
    /// The jobs to run.
    pub jobs: Vec<JobName>,
}

impl Trigger {
    /// A trigger for every project and branch.
    pub fn new(name: impl Into<String>, on: EventMatch, jobs: impl IntoIterator<Item = JobName>) -> Self {
        Self {
            name: name.into(),
            on,
            projects: Vec::new(),
            branches: Vec::new(),
            skip_kinds: Vec::new(),
            wip: false,
            private: false,
            jobs: jobs.into_iter().collect(),
        }
    }
}

setters!(Trigger {
    projects / with_projects: Vec<String>,
    branches / with_branches: Vec<String>,
    skip_kinds / with_skip_kinds: Vec<PatchsetKind>,
    wip / with_wip: bool,
    private / with_private: bool,
});

/// The kind of event that a trigger waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum EventMatch {
    /// A comment whose text matches.
    Comment {
        /// A regular expression (the `regex` crate's syntax), searched in the text after Gerrit's header. Anchor it
        /// with `^`. The message and each comment on the patch set as a whole are tried one by one. A pattern that names
        /// the header `Patch Set N:`, as those of Zuul and of Jenkins do, is tried with and without it.
        pattern: String,
        /// Only from these accounts, by login name, or as `email:ci@example.org`; anybody when empty.
        #[serde(default)]
        from: Vec<String>,
    },
    /// A vote just given or changed.
    Approval {
        /// The label, as `Verified`.
        label: String,
        /// The least value that counts, as `1`.
        at_least: i8,
        /// Whose votes count, by login name, or as `email:ci@example.org`. Required: the upstream CI, not anybody.
        by: Vec<String>,
    },
    /// A patch set was uploaded; or it was skipped because its change was work in progress or private, and the change
    /// is not any more.
    PatchsetCreated,
    /// An abandoned change was restored.
    ChangeRestored,
}

/// What an event calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Run these jobs.
    Run(Vec<PlannedJob>),
    /// Run nothing, for these reasons: one per trigger, as `trigger: why not`.
    Ignore(Vec<String>),
}

/// A job that a trigger calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedJob {
    /// What to run.
    pub name: JobName,
    /// The name of the trigger that called for it; the first where several do.
    pub trigger: String,
}

/// All triggers, compiled.
///
/// ```
/// use pushbutton_core::{Decision, EventMatch, Trigger, Triggers, samples};
///
/// let recheck = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
/// let triggers = Triggers::compile(vec![Trigger::new("recheck", recheck, ["tempest".parse()?])], vec![])?;
/// let Decision::Run(jobs) = triggers.decide(&samples::comment("bob", "recheck")) else { panic!() };
/// assert_eq!((jobs[0].name.as_str(), jobs[0].trigger.as_str()), ("tempest", "recheck"));
/// assert!(matches!(triggers.decide(&samples::comment("bob", "nice")), Decision::Ignore(_)));
/// # Ok::<(), pushbutton_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Triggers {
    rules: Vec<Rule>,
    own_accounts: Vec<String>,
}

#[derive(Debug, Clone)]
struct Rule {
    trigger: Trigger,
    projects: GlobSet,
    branches: GlobSet,
    pattern: Option<Regex>,
    /// Whether the pattern names the header that Gerrit puts before a comment.
    names_header: bool,
}

/// The headers that Gerrit puts before a comment, for patterns that name it. Votes in it are left out: a rule asks for
/// a vote by [`EventMatch::Approval`].
const HEADERS: [&str; 2] = ["Patch Set 1:\n\n", "Patch Set 1:\n\n(1 comment)\n\n"];

impl Triggers {
    /// Compiles the triggers. `own_accounts` are the names of our own account: its comments never trigger anything,
    /// since a CI that reacts to its own comments loops.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for each pattern that does not compile: all of them, in one message.
    pub fn compile(triggers: Vec<Trigger>, own_accounts: Vec<String>) -> Result<Self> {
        let mut rules = Vec::new();
        let mut faults: Vec<String> =
            own_accounts.iter().filter_map(|own| Account::matcher_fault(own)).collect();
        for trigger in triggers {
            let name = trigger.name.clone();
            match Rule::compile(trigger) {
                Ok(rule) => rules.push(rule),
                Err(fault) => faults.push(format!("trigger {name:?}: {fault}")),
            }
        }
        if faults.is_empty() {
            return Ok(Self { rules, own_accounts });
        }
        Err(Error::permanent(ErrorKind::Config, faults.join("; ")).during("triggers::compile"))
    }

    /// Decides what to run for an event, with a reason for each trigger that does not apply.
    pub fn decide(&self, event: &Event) -> Decision {
        if let Some(actor) = event.kind.actor().filter(|actor| self.is_own(actor)) {
            return Decision::Ignore(vec![format!("own comment: {actor} is our own account")]);
        }
        let (mut jobs, mut reasons) = (Vec::<PlannedJob>::new(), Vec::new());
        for rule in &self.rules {
            match rule.refusal(event) {
                Some(why) => reasons.push(format!("{}: {why}", rule.trigger.name)),
                None => {
                    for job in &rule.trigger.jobs {
                        if !jobs.iter().any(|known| known.name == *job) {
                            jobs.push(PlannedJob { name: job.clone(), trigger: rule.trigger.name.clone() });
                        }
                    }
                }
            }
        }
        if jobs.is_empty() { Decision::Ignore(reasons) } else { Decision::Run(jobs) }
    }

    /// Whether a comment matches the pattern of some trigger, whatever its other conditions. Such comments are
    /// counted even when they run nothing: the next comment with the same text must be known as the second (see
    /// [`EventId::comment`](crate::EventId::comment)).
    pub fn matches_comment(&self, text: &str) -> bool {
        self.rules.iter().any(|rule| rule.matches_text(text))
    }

    /// Whether a vote could satisfy some trigger, whoever gave it.
    pub fn matches_vote(&self, vote: &Approval) -> bool {
        self.rules.iter().any(|rule| match &rule.trigger.on {
            EventMatch::Approval { label, at_least, .. } => vote.label == *label && vote.value >= *at_least,
            _ => false,
        })
    }

    /// Whether any trigger could apply to this project and branch: to drop early what cannot matter, and for
    /// superseding.
    pub fn matches_project(&self, project: &str, branch: &str) -> bool {
        self.rules.iter().any(|rule| {
            (rule.trigger.projects.is_empty() || rule.projects.is_match(project))
                && (rule.trigger.branches.is_empty() || rule.branches.is_match(branch))
        })
    }

    /// Gerrit's names of the event types that the triggers need, for the server-side filter of `gerrit stream-events
    /// -s`.
    pub fn event_types(&self) -> Vec<&'static str> {
        // Always needed: they supersede or cancel what runs.
        let mut types = vec!["patchset-created", "change-merged", "change-abandoned", "change-deleted"];
        for rule in &self.rules {
            let needed: &[&str] = match rule.trigger.on {
                EventMatch::Comment { .. } | EventMatch::Approval { .. } => &["comment-added"],
                EventMatch::PatchsetCreated => &["wip-state-changed", "private-state-changed"],
                EventMatch::ChangeRestored => &["change-restored"],
            };
            for needed in needed {
                if !types.contains(needed) {
                    types.push(needed);
                }
            }
        }
        types
    }

    /// Every job that a trigger names, perhaps more than once.
    pub fn job_names(&self) -> impl Iterator<Item = &JobName> {
        self.rules.iter().flat_map(|rule| &rule.trigger.jobs)
    }

    fn is_own(&self, actor: &Account) -> bool {
        self.own_accounts.iter().any(|own| actor.is(own))
    }
}

impl Rule {
    fn compile(trigger: Trigger) -> std::result::Result<Self, String> {
        let pattern = match &trigger.on {
            EventMatch::Comment { pattern, .. } => Some(
                RegexBuilder::new(pattern)
                    .size_limit(PATTERN_LIMIT)
                    .build()
                    .map_err(|error| format!("pattern {pattern:?} does not compile: {error}"))?,
            ),
            _ => None,
        };
        let names_header = match &trigger.on {
            EventMatch::Comment { pattern, .. } => {
                let pattern = pattern.to_ascii_lowercase();
                pattern.contains("patch") && pattern.contains("set")
            }
            _ => false,
        };
        let accounts = match &trigger.on {
            EventMatch::Approval { by, label, .. } if by.is_empty() => {
                return Err(format!("`by` is empty: name the account whose {label} votes count, as [zuul]"));
            }
            EventMatch::Approval { by: accounts, .. } | EventMatch::Comment { from: accounts, .. } => {
                &accounts[..]
            }
            _ => &[],
        };
        if let Some(fault) = accounts.iter().find_map(|matcher| Account::matcher_fault(matcher)) {
            return Err(fault);
        }
        if trigger.jobs.is_empty() {
            return Err("`jobs` is empty: name at least one job".into());
        }
        let (projects, branches) = (globs(&trigger.projects)?, globs(&trigger.branches)?);
        Ok(Self { projects, branches, pattern, names_header, trigger })
    }

    /// Whether the pattern matches the text: as it is, or behind the header if the pattern names it.
    fn matches_text(&self, text: &str) -> bool {
        self.pattern.as_ref().is_some_and(|pattern| {
            pattern.is_match(text)
                || self.names_header
                    && HEADERS.iter().any(|header| pattern.is_match(&format!("{header}{text}")))
        })
    }

    /// Why the trigger does not apply, or none when it does. The cheap tests come first.
    fn refusal(&self, event: &Event) -> Option<String> {
        let trigger = &self.trigger;
        match (&trigger.on, &event.kind) {
            (EventMatch::Comment { from, .. }, EventKind::CommentAdded { author, texts, .. }) => {
                if !from.is_empty() && !from.iter().any(|who| author.is(who)) {
                    return Some(format!("{author} is not one of {}", from.join(", ")));
                }
                if !texts.iter().any(|text| self.matches_text(text)) {
                    return Some("the comment does not match".into());
                }
            }
            (
                EventMatch::Approval { label, at_least, by },
                EventKind::CommentAdded { author, approvals, .. },
            ) => {
                if !by.iter().any(|who| author.is(who)) {
                    return Some(format!("{author} is not one of {}", by.join(", ")));
                }
                if !approvals.iter().any(|vote| vote.label == *label && vote.value >= *at_least) {
                    return Some(format!("no new {label} vote of {at_least:+} or more"));
                }
            }
            (EventMatch::PatchsetCreated, EventKind::PatchsetCreated { .. }) => {}
            // The upload was skipped then. A trigger that runs such changes has run it already.
            (EventMatch::PatchsetCreated, EventKind::ReadyForReview { .. }) if !trigger.wip => {}
            (EventMatch::PatchsetCreated, EventKind::MadePublic { .. }) if !trigger.private => {}
            (EventMatch::ChangeRestored, EventKind::ChangeRestored { .. }) => {}
            (_, kind) => return Some(format!("it does not react to {}", kind.name())),
        }
        let change = &event.change;
        if !trigger.projects.is_empty() && !self.projects.is_match(change.project.as_str()) {
            return Some(format!("project {} is not one of {}", change.project, trigger.projects.join(", ")));
        }
        if !trigger.branches.is_empty() && !self.branches.is_match(change.branch.as_str()) {
            return Some(format!("branch {} is not one of {}", change.branch, trigger.branches.join(", ")));
        }
        if change.status != ChangeStatus::New {
            return Some(format!("change {} is closed", change.number));
        }
        if change.private && !trigger.private {
            return Some(format!("change {} is private", change.number));
        }
        // Who comments the phrase on a WIP change wants the run.
        if change.wip && !trigger.wip && !matches!(trigger.on, EventMatch::Comment { .. }) {
            return Some(format!("change {} is work in progress", change.number));
        }
        // Of a change that becomes ready, earlier patch sets were skipped: this one stands for them too.
        let is_upload =
            !matches!(event.kind, EventKind::ReadyForReview { .. } | EventKind::MadePublic { .. });
        if trigger.skip_kinds.contains(&event.patchset.kind)
            && is_upload
            && !matches!(trigger.on, EventMatch::Comment { .. })
        {
            return Some(format!(
                "patch set {} is of a kind to skip ({:?})",
                event.patchset.number, event.patchset.kind
            ));
        }
        None
    }
}

fn globs(patterns: &[String]) -> std::result::Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = globset::GlobBuilder::new(pattern).literal_separator(true).build();
        let glob: Glob =
            glob.map_err(|error| format!("glob {pattern:?} does not compile: {}", error.kind()))?;
        set.add(glob);
    }
    set.build().map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "trigger_tests.rs"]
mod tests;
