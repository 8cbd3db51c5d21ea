//! Rules that turn events into jobs: pure, so that `replay` and tests decide exactly as the handler does.

use globset::{Glob, GlobSet, GlobSetBuilder};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::event::{Account, Approval, ChangeStatus, Event, EventKind, PatchsetKind};
use crate::ident::JobName;

/// A pattern's compiled size may not pass this: patterns come from people.
const PATTERN_LIMIT: usize = 1 << 20;

/// One rule, as the configuration has it. All given conditions must hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// What people call the rule; shown with every decision.
    pub name: String,
    /// The kind of event, and what it must show.
    pub on: On,
    /// Projects, as globs (`openstack/*`); any when empty. `*` stays within a path segment, `**` does not.
    #[serde(default)]
    pub projects: Vec<String>,
    /// Branches, as globs (`stable/*`); any when empty.
    #[serde(default)]
    pub branches: Vec<String>,
    /// Kinds of patch sets to pass by, as `NO_CODE_CHANGE`.
    #[serde(default)]
    pub skip_kinds: Vec<PatchsetKind>,
    /// Run also for changes marked as work in progress. Default: no, but a comment always does.
    #[serde(default)]
    pub wip: bool,
    /// The jobs to run.
    pub jobs: Vec<JobName>,
}

/// The kind of event that a trigger waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum On {
    /// A comment whose text matches.
    Comment {
        /// A regular expression (the `regex` crate's syntax), searched in the text after Gerrit's header. Anchor it with `^`.
        pattern: String,
        /// Only from these accounts (login, address or full name); anybody when empty.
        #[serde(default)]
        from: Vec<String>,
    },
    /// A vote just given or changed.
    Approval {
        /// The label, as `Verified`.
        label: String,
        /// The least value that counts, as `1`.
        at_least: i8,
        /// Whose votes count, by login, address or full name. Required: the upstream CI, not anybody.
        by: Vec<String>,
    },
    /// A patch set was uploaded.
    PatchsetCreated,
    /// An abandoned change was restored.
    ChangeRestored,
}

/// What the rules say of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Run these jobs, each with the name of the rule that asked for it.
    Run(Vec<(JobName, String)>),
    /// Run nothing, for these reasons: one a rule, as `rule: why not`.
    Ignore(Vec<String>),
}

/// All rules, compiled.
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
}

impl Triggers {
    /// Compiles the rules. `own_accounts` are the names of our own account: what it says never triggers (third-party CIs that
    /// heard themselves have looped for ever).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for each pattern that does not compile: all of them, in one message.
    pub fn compile(triggers: Vec<Trigger>, own_accounts: Vec<String>) -> Result<Self> {
        let (mut rules, mut faults) = (Vec::new(), Vec::new());
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

    /// Decides what to run for an event, and says why not where it does not.
    pub fn decide(&self, event: &Event) -> Decision {
        if let Some(actor) = event.kind.actor().filter(|actor| self.is_own(actor)) {
            return Decision::Ignore(vec![format!("own comment: {actor} is our own account")]);
        }
        let (mut jobs, mut reasons) = (Vec::<(JobName, String)>::new(), Vec::new());
        for rule in &self.rules {
            match rule.refusal(event) {
                Some(why) => reasons.push(format!("{}: {why}", rule.trigger.name)),
                None => {
                    for job in &rule.trigger.jobs {
                        if !jobs.iter().any(|(known, _)| known == job) {
                            jobs.push((job.clone(), rule.trigger.name.clone()));
                        }
                    }
                }
            }
        }
        if jobs.is_empty() { Decision::Ignore(reasons) } else { Decision::Run(jobs) }
    }

    /// Whether a comment is in the words of some rule, whatever else keeps it from running. Such comments are counted even when they run
    /// nothing: the next one in the same words is known as the second (see [`EventId::comment`](crate::EventId::comment)).
    pub fn is_addressed_by(&self, text: &str) -> bool {
        self.rules.iter().any(|rule| rule.pattern.as_ref().is_some_and(|pattern| pattern.is_match(text)))
    }

    /// Whether a vote could satisfy some rule, whoever gave it.
    pub fn heeds(&self, vote: &Approval) -> bool {
        self.rules.iter().any(|rule| match &rule.trigger.on {
            On::Approval { label, at_least, .. } => vote.label == *label && vote.value >= *at_least,
            _ => false,
        })
    }

    /// Whether any rule could care for this project and branch: for intake that drops what cannot matter, and for superseding.
    pub fn cares_for(&self, project: &str, branch: &str) -> bool {
        self.rules.iter().any(|rule| {
            (rule.trigger.projects.is_empty() || rule.projects.is_match(project))
                && (rule.trigger.branches.is_empty() || rule.branches.is_match(branch))
        })
    }

    /// Gerrit's names of the event types that the rules need, for the server-side filter of `gerrit stream-events -s`.
    pub fn event_types(&self) -> Vec<&'static str> {
        // Always wanted: they supersede or cancel what runs.
        let mut types = vec!["patchset-created", "change-merged", "change-abandoned"];
        for rule in &self.rules {
            let needed = match rule.trigger.on {
                On::Comment { .. } | On::Approval { .. } => "comment-added",
                On::PatchsetCreated => "patchset-created",
                On::ChangeRestored => "change-restored",
            };
            if !types.contains(&needed) {
                types.push(needed);
            }
        }
        types
    }

    /// Every job that a rule names, perhaps more than once.
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
            On::Comment { pattern, .. } => Some(
                RegexBuilder::new(pattern)
                    .size_limit(PATTERN_LIMIT)
                    .build()
                    .map_err(|error| format!("pattern {pattern:?} does not compile: {error}"))?,
            ),
            _ => None,
        };
        if let On::Approval { by, label, .. } = &trigger.on {
            if by.is_empty() {
                return Err(format!("`by` is empty: name the account whose {label} votes count, as [zuul]"));
            }
        }
        if trigger.jobs.is_empty() {
            return Err("`jobs` is empty: name at least one job".into());
        }
        let (projects, branches) = (globs(&trigger.projects)?, globs(&trigger.branches)?);
        Ok(Self { projects, branches, pattern, trigger })
    }

    /// Why the rule does not apply, or none when it does. The cheap tests come first.
    fn refusal(&self, event: &Event) -> Option<String> {
        let trigger = &self.trigger;
        match (&trigger.on, &event.kind) {
            (On::Comment { from, .. }, EventKind::CommentAdded { author, text, .. }) => {
                if !from.is_empty() && !from.iter().any(|who| author.is(who)) {
                    return Some(format!("{author} is none of {}", from.join(", ")));
                }
                if !self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(text)) {
                    return Some("the comment does not match".into());
                }
            }
            (On::Approval { label, at_least, by }, EventKind::CommentAdded { author, approvals, .. }) => {
                if !by.iter().any(|who| author.is(who)) {
                    return Some(format!("{author} is none of {}", by.join(", ")));
                }
                if !approvals.iter().any(|vote| vote.label == *label && vote.value >= *at_least) {
                    return Some(format!("no new {label} vote of {at_least:+} or more"));
                }
            }
            (On::PatchsetCreated, EventKind::PatchsetCreated { .. }) => {}
            (On::ChangeRestored, EventKind::ChangeRestored { .. }) => {}
            (_, kind) => return Some(format!("it does not wait for {}", kind.name())),
        }
        let change = &event.change;
        if !trigger.projects.is_empty() && !self.projects.is_match(change.project.as_str()) {
            return Some(format!("project {} is none of {}", change.project, trigger.projects.join(", ")));
        }
        if !trigger.branches.is_empty() && !self.branches.is_match(change.branch.as_str()) {
            return Some(format!("branch {} is none of {}", change.branch, trigger.branches.join(", ")));
        }
        if change.status != ChangeStatus::New {
            return Some(format!("change {} is closed", change.number));
        }
        // Somebody who types the phrase on a WIP change wants the run.
        if change.wip && !trigger.wip && !matches!(trigger.on, On::Comment { .. }) {
            return Some(format!("change {} is work in progress", change.number));
        }
        if trigger.skip_kinds.contains(&event.patchset.kind) && !matches!(trigger.on, On::Comment { .. }) {
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
