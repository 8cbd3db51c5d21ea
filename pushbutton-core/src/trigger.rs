//! Triggers turn events into jobs. Pure: what an event does not say is looked up by the
//! [`Decider`](crate::pipeline::Decider), which the handler, `replay` and `explain` share.

mod rule;
mod trace;
mod warnings;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::event::{Account, Approval, Event, PatchsetKind};
use crate::names::JobName;
use crate::setters::setters;

use self::rule::Rule;
pub(crate) use self::trace::{ChangedFiles, Detail, Fact, Facts, Needs};
pub use self::trace::{Evaluation, Matched, PredicateTrace, RuleTrace};

/// One trigger, as in the configuration. All given conditions must hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Regular expressions for paths, tried from the beginning of each, as Zuul's `files`: the trigger applies if the patch
    /// set changes a file that one of them matches. Any file when empty. Gerrit is asked for the files, once for each patch
    /// set, and only if everything else applies. The commit message is no file; a patch set without files applies.
    #[serde(default)]
    pub files: Vec<String>,
    /// The same, as Zuul's `irrelevant-files`: the trigger does not apply if all files of the patch set match one of them.
    #[serde(default)]
    pub irrelevant_files: Vec<String>,
    /// Topics, as globs; any, and none, when empty.
    #[serde(default)]
    pub topics: Vec<String>,
    /// Hashtags, as globs: the change must have one that matches. Any, and none, when empty.
    #[serde(default)]
    pub hashtags: Vec<String>,
    /// Who caused the event: who uploaded, commented, voted or restored. By login name, as `email:ci@example.org`, or as
    /// `group:cinder-core` for the members of a group on Gerrit; anybody when empty.
    #[serde(default)]
    pub from: Vec<String>,
    /// The change's owner, named in the same way; anybody when empty.
    #[serde(default)]
    pub owners: Vec<String>,
    /// Who uploaded the patch set, named in the same way; anybody when empty.
    #[serde(default)]
    pub uploaders: Vec<String>,
    /// Votes that must stand on the patch set when the trigger is judged, whatever the event: all of them. Gerrit is asked
    /// for them, and only if everything else applies.
    #[serde(default)]
    pub votes: Vec<VoteCondition>,
    /// The trigger does not apply if one of these matches.
    #[serde(default)]
    pub except: Exceptions,
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
            files: Vec::new(),
            irrelevant_files: Vec::new(),
            topics: Vec::new(),
            hashtags: Vec::new(),
            from: Vec::new(),
            owners: Vec::new(),
            uploaders: Vec::new(),
            votes: Vec::new(),
            except: Exceptions::default(),
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
    files / with_files: Vec<String>,
    irrelevant_files / with_irrelevant_files: Vec<String>,
    topics / with_topics: Vec<String>,
    hashtags / with_hashtags: Vec<String>,
    from / with_from: Vec<String>,
    owners / with_owners: Vec<String>,
    uploaders / with_uploaders: Vec<String>,
    votes / with_votes: Vec<VoteCondition>,
    except / with_except: Exceptions,
    skip_kinds / with_skip_kinds: Vec<PatchsetKind>,
    wip / with_wip: bool,
    private / with_private: bool,
});

/// What keeps a trigger from applying. A list that is empty keeps nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Exceptions {
    /// Projects, as globs.
    pub projects: Vec<String>,
    /// Branches, as globs.
    pub branches: Vec<String>,
    /// Topics, as globs.
    pub topics: Vec<String>,
    /// Hashtags, as globs: one that the change has is enough.
    pub hashtags: Vec<String>,
    /// Who caused the event, as in [`Trigger::from`].
    pub from: Vec<String>,
    /// The change's owner.
    pub owners: Vec<String>,
    /// Who uploaded the patch set.
    pub uploaders: Vec<String>,
    /// A regular expression for the text of a comment, as the pattern of a trigger. Default: none.
    pub comment: Option<String>,
    /// Votes that stand on the patch set: one of them is enough.
    pub votes: Vec<VoteCondition>,
}

setters!(Exceptions {
    projects / with_projects: Vec<String>,
    branches / with_branches: Vec<String>,
    topics / with_topics: Vec<String>,
    hashtags / with_hashtags: Vec<String>,
    from / with_from: Vec<String>,
    owners / with_owners: Vec<String>,
    uploaders / with_uploaders: Vec<String>,
    comment / with_comment: Option<String>,
    votes / with_votes: Vec<VoteCondition>,
});

/// A vote that stands on a patch set: of this label, within these values, by one of these accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct VoteCondition {
    /// The label, as `Verified`.
    pub label: String,
    /// The least value that counts. Default: any; one of the two must be given.
    #[serde(default)]
    pub at_least: Option<i8>,
    /// The greatest value that counts. Default: any.
    #[serde(default)]
    pub at_most: Option<i8>,
    /// Whose votes count, as in [`Trigger::from`]; anybody's when empty.
    #[serde(default)]
    pub by: Vec<String>,
}

impl VoteCondition {
    /// A vote of this label by anybody, with any value: set at least one limit.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), at_least: None, at_most: None, by: Vec::new() }
    }
}

setters!(VoteCondition {
    at_least / with_at_least: Option<i8>,
    at_most / with_at_most: Option<i8>,
    by / with_by: Vec<String>,
});

/// A comment that OpenStack's reviewers write, and how it is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Preset {
    /// `recheck`, exactly as upstream's own Zuul recognises it: at the beginning, in any case, with anything behind it.
    /// All CI systems run again. Source: `zuul.d/pipelines.yaml` of openstack/project-config.
    Recheck,
    /// `run-` and the name of this CI, as `run-Acme Storage CI`: only this CI runs again. Any case, and `-` or `_` for each
    /// blank. Source: Cinder's new driver checklist.
    RunCiName,
}

/// The kind of event that a trigger waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum EventMatch {
    /// A comment whose text matches.
    Comment {
        /// A regular expression (the `regex` crate's syntax), searched in the text after Gerrit's header. Anchor it
        /// with `^`. The message and each comment on the patch set as a whole are tried one by one. A pattern that names
        /// the header `Patch Set N:`, as those of Zuul and of Jenkins do, is tried with and without it.
        pattern: String,
        /// Only from these accounts, as in [`Trigger::from`]; anybody when empty.
        #[serde(default)]
        from: Vec<String>,
    },
    /// A comment that OpenStack's reviewers know.
    Preset(Preset),
    /// A vote just given or changed. Gerrit repeats standing votes with every comment; those do not count.
    Approval {
        /// The label, as `Verified`.
        label: String,
        /// The least value that counts, as `1`.
        at_least: i8,
        /// Whose votes count, as in [`Trigger::from`]. Required: the upstream CI, not anybody.
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
    /// Nothing is decided before what an event does not say is looked up, as the files of a patch set: one reason per
    /// trigger that could apply.
    LookUp(Vec<String>),
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

impl Triggers {
    /// Compiles the triggers. `own_accounts` are the names of our own account: its comments never trigger anything,
    /// since a CI that reacts to its own comments loops.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for each pattern that does not compile: all of them, in one message.
    pub fn compile(triggers: Vec<Trigger>, own_accounts: Vec<String>) -> Result<Self> {
        Self::compile_named(triggers, own_accounts, None)
    }

    /// The same, with the name of this CI, by which people ask for it ([`Preset::RunCiName`]).
    ///
    /// # Errors
    /// As [`compile`](Self::compile); and if a trigger needs the name and there is none.
    pub fn compile_named(
        triggers: Vec<Trigger>,
        own_accounts: Vec<String>,
        ci_name: Option<&str>,
    ) -> Result<Self> {
        let mut rules = Vec::new();
        let mut faults: Vec<String> =
            own_accounts.iter().filter_map(|own| Account::matcher_fault(own)).collect();
        for trigger in triggers {
            let name = trigger.name.clone();
            match Rule::compile(trigger, ci_name) {
                Ok(rule) => rules.push(rule),
                Err(fault) => faults.push(format!("trigger {name:?}: {fault}")),
            }
        }
        if faults.is_empty() {
            return Ok(Self { rules, own_accounts });
        }
        Err(Error::permanent(ErrorKind::Config, faults.join("; ")).during("triggers::compile"))
    }

    /// Decides what to run for an event, with a reason for each trigger that does not apply. Nothing is looked up: see
    /// [`Decision::LookUp`].
    pub fn decide(&self, event: &Event) -> Decision {
        self.evaluate(event, &Facts::default(), Detail::Brief).decision()
    }

    /// Judges an event by all rules, with what is known beside it. The only place where rules are judged.
    pub(crate) fn evaluate(&self, event: &Event, facts: &Facts, detail: Detail) -> Evaluation {
        if let Some(actor) = event.kind.actor().filter(|actor| self.is_own(actor)) {
            return Evaluation::ignored(format!("own comment: {actor} is our own account"));
        }
        Evaluation::of(self.rules.iter().map(|rule| rule.evaluate(event, facts, detail)).collect())
    }

    /// What of the triggers can only be judged by a look-up: the files and votes of patch sets, and members of groups. None
    /// if everything stands in the events.
    pub fn lookups(&self) -> Option<String> {
        let named = |rule: &Rule| format!("trigger {:?}", rule.trigger.name);
        let needed: Vec<String> = self.rules.iter().filter(|rule| rule.needs_lookup()).map(named).collect();
        (!needed.is_empty()).then(|| needed.join(", "))
    }

    /// The groups whose members the triggers name, with the trigger, sorted.
    pub fn groups(&self) -> Vec<(String, String)> {
        let of = |rule: &Rule| {
            let name = rule.trigger.name.clone();
            rule.groups().into_iter().map(move |group| (group, name.clone()))
        };
        let mut groups: Vec<_> = self.rules.iter().flat_map(of).collect();
        groups.sort();
        groups.dedup();
        groups
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
        self.rules.iter().any(|rule| rule.matches_project(project, branch))
    }

    /// Gerrit's names of the event types that the triggers need, for the server-side filter of `gerrit stream-events
    /// -s`.
    pub fn event_types(&self) -> Vec<&'static str> {
        // Always needed: they supersede or cancel what runs.
        let mut types = vec!["patchset-created", "change-merged", "change-abandoned", "change-deleted"];
        for rule in &self.rules {
            let needed: &[&str] = match rule.trigger.on {
                EventMatch::Comment { .. } | EventMatch::Preset(_) | EventMatch::Approval { .. } => {
                    &["comment-added"]
                }
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

#[cfg(test)]
#[path = "trigger_tests.rs"]
mod tests;
