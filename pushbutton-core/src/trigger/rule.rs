//! One trigger, compiled, and how it judges an event.

use globset::{Glob, GlobSet, GlobSetBuilder};
use regex::{Regex, RegexBuilder};

use super::trace::{Detail, Fact, Facts, Matched, RuleTrace, Tracer, Words};
use super::{EventMatch, Preset, Trigger, VoteCondition};
use crate::event::{Account, ChangeStatus, Event, EventKind};
use crate::traits::CurrentVote;

/// A pattern's compiled size may not pass this: patterns come from people.
const PATTERN_LIMIT: usize = 1 << 20;

/// The headers that Gerrit puts before a comment, for patterns that name it. Votes in it are left out: a rule asks for
/// a vote by [`EventMatch::Approval`].
pub(super) const HEADERS: [&str; 2] = ["Patch Set 1:\n\n", "Patch Set 1:\n\n(1 comment)\n\n"];

/// Paths that Gerrit lists and that are no files of the project. Zuul leaves out the first, too.
const NO_FILES: [&str; 3] = ["/COMMIT_MSG", "/MERGE_LIST", "/PATCHSET_LEVEL"];

/// Zuul's pattern in openstack/project-config (`zuul.d/pipelines.yaml`), without the backslash that stands twice there.
const RECHECK: &str = r"(?i)^(Patch Set [0-9]+:)?( [\w\\+-]*)*(\n\n)?\s*recheck";

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) trigger: Trigger,
    projects: Globs,
    branches: Globs,
    topics: Globs,
    hashtags: Globs,
    except_projects: Globs,
    except_branches: Globs,
    except_topics: Globs,
    except_hashtags: Globs,
    files: Vec<Regex>,
    irrelevant_files: Vec<Regex>,
    pub(super) pattern: Option<TextPattern>,
    except_comment: Option<TextPattern>,
}

/// A pattern for comments.
#[derive(Debug, Clone)]
pub(super) struct TextPattern {
    pub(super) regex: Regex,
    /// Whether it names the header that Gerrit puts before a comment.
    pub(super) names_header: bool,
}

impl TextPattern {
    fn compile(pattern: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(pattern)
            .size_limit(PATTERN_LIMIT)
            .build()
            .map_err(|error| format!("pattern {pattern:?} does not compile: {error}"))?;
        let lower = pattern.to_ascii_lowercase();
        Ok(Self { regex, names_header: lower.contains("patch") && lower.contains("set") })
    }

    /// As it is, or behind the header if the pattern names it.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
            || self.names_header
                && HEADERS.iter().any(|header| self.regex.is_match(&format!("{header}{text}")))
    }
}

/// Globs; an empty set has its own meaning for each key.
#[derive(Debug, Clone)]
pub(super) struct Globs(GlobSet);

impl Globs {
    fn compile(patterns: &[String]) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let glob = globset::GlobBuilder::new(pattern).literal_separator(true).build();
            let glob: Glob =
                glob.map_err(|error| format!("glob {pattern:?} does not compile: {}", error.kind()))?;
            set.add(glob);
        }
        set.build().map(Self).map_err(|error| error.to_string())
    }

    fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl Rule {
    pub(super) fn compile(trigger: Trigger, ci_name: Option<&str>) -> Result<Self, String> {
        let pattern = match &trigger.on {
            EventMatch::Comment { pattern, .. } => Some(TextPattern::compile(pattern)?),
            EventMatch::Preset(Preset::Recheck) => Some(TextPattern::compile(RECHECK)?),
            EventMatch::Preset(Preset::RunCiName) => {
                let name = ci_name.map(str::trim).filter(|name| !name.is_empty());
                let name = name.ok_or("`on: {preset: run-ci-name}` needs the name of this CI")?;
                Some(TextPattern::compile(&run_pattern(name))?)
            }
            _ => None,
        };
        if let EventMatch::Approval { by, label, .. } = &trigger.on {
            if by.is_empty() {
                return Err(format!("`by` is empty: name the account whose {label} votes count, as [zuul]"));
            }
        }
        if let Some(fault) = account_lists(&trigger).find_map(|(_, matcher)| matcher_fault(matcher)) {
            return Err(fault);
        }
        for vote in trigger.votes.iter().chain(&trigger.except.votes) {
            check_vote(vote)?;
        }
        if trigger.jobs.is_empty() {
            return Err("`jobs` is empty: name at least one job".into());
        }
        let except = &trigger.except;
        let except_comment = except.comment.as_deref().map(TextPattern::compile).transpose()?;
        Ok(Self {
            projects: Globs::compile(&trigger.projects)?,
            branches: Globs::compile(&trigger.branches)?,
            topics: Globs::compile(&trigger.topics)?,
            hashtags: Globs::compile(&trigger.hashtags)?,
            except_projects: Globs::compile(&except.projects)?,
            except_branches: Globs::compile(&except.branches)?,
            except_topics: Globs::compile(&except.topics)?,
            except_hashtags: Globs::compile(&except.hashtags)?,
            files: file_patterns(&trigger.files)?,
            irrelevant_files: file_patterns(&trigger.irrelevant_files)?,
            pattern,
            except_comment,
            trigger,
        })
    }

    pub(super) fn matches_text(&self, text: &str) -> bool {
        self.pattern.as_ref().is_some_and(|pattern| pattern.matches(text))
    }

    pub(super) fn matches_project(&self, project: &str, branch: &str) -> bool {
        (self.trigger.projects.is_empty() || self.projects.matches(project))
            && (self.trigger.branches.is_empty() || self.branches.matches(branch))
            && !self.except_projects.matches(project)
            && !self.except_branches.matches(branch)
    }

    /// Whether a value is one of the exceptions to a key.
    pub(super) fn globs_of(&self, key: &str) -> impl Fn(&str) -> bool {
        let globs = match key {
            "projects" => &self.except_projects,
            "branches" => &self.except_branches,
            "topics" => &self.except_topics,
            _ => &self.except_hashtags,
        };
        move |value| globs.matches(value)
    }

    /// Whether some event cannot be judged by what stands in it.
    pub(super) fn needs_lookup(&self) -> bool {
        let trigger = &self.trigger;
        !(trigger.files.is_empty()
            && trigger.irrelevant_files.is_empty()
            && trigger.votes.is_empty()
            && trigger.except.votes.is_empty()
            && self.groups().is_empty())
    }

    /// The groups that it names.
    pub(super) fn groups(&self) -> Vec<String> {
        account_lists(&self.trigger)
            .filter_map(|(_, matcher)| matcher.strip_prefix(Account::GROUP).map(str::to_owned))
            .collect()
    }

    /// Judges an event. The cheap conditions come first; what must be looked up comes last.
    pub(super) fn evaluate(&self, event: &Event, facts: &Facts, detail: Detail) -> RuleTrace {
        let mut tracer = Tracer::new(detail);
        // None: a condition does not hold, and the rest was not judged.
        let _ = self.judge(event, facts, &mut tracer);
        tracer.end(self.trigger.name.clone(), self.trigger.jobs.clone())
    }

    fn judge(&self, event: &Event, facts: &Facts, tracer: &mut Tracer) -> Option<()> {
        self.judge_event(event, facts, tracer)?;
        self.judge_change(event, facts, tracer)?;
        self.judge_people(event, facts, tracer)?;
        self.judge_files(facts, tracer)?;
        self.judge_votes(facts, tracer)
    }

    /// The kind of event, and what only that kind has.
    fn judge_event(&self, event: &Event, facts: &Facts, tracer: &mut Tracer) -> Option<()> {
        let trigger = &self.trigger;
        let kind = &event.kind;
        let is_kind = match (&trigger.on, kind) {
            (
                EventMatch::Comment { .. } | EventMatch::Preset(_) | EventMatch::Approval { .. },
                EventKind::CommentAdded { .. },
            )
            | (EventMatch::PatchsetCreated, EventKind::PatchsetCreated { .. })
            | (EventMatch::ChangeRestored, EventKind::ChangeRestored { .. }) => true,
            // The upload was skipped then. A trigger that runs such changes has run it already.
            (EventMatch::PatchsetCreated, EventKind::ReadyForReview { .. }) => !trigger.wip,
            (EventMatch::PatchsetCreated, EventKind::MadePublic { .. }) => !trigger.private,
            _ => false,
        };
        tracer.see("on", is_kind.into(), || Words {
            wanted: on_name(&trigger.on).into(),
            saw: kind.name().into(),
            why: format!("it does not react to {}", kind.name()),
        })?;
        let EventKind::CommentAdded { author, texts, approvals } = kind else { return Some(()) };
        match &trigger.on {
            EventMatch::Comment { from, .. } if !from.is_empty() => {
                self.judge_account("on.comment.from", from, Some(author), facts, tracer)?;
            }
            EventMatch::Approval { by, .. } => {
                self.judge_account("on.approval.by", by, Some(author), facts, tracer)?;
            }
            _ => {}
        }
        if let Some(pattern) = &self.pattern {
            let matches = texts.iter().any(|text| pattern.matches(text));
            tracer.see("on.comment", matches.into(), || Words {
                wanted: pattern.regex.to_string(),
                saw: quoted(texts),
                why: "the comment does not match".into(),
            })?;
        }
        if let EventMatch::Approval { label, at_least, .. } = &trigger.on {
            let is_new = approvals.iter().any(|vote| vote.label == *label && vote.value >= *at_least);
            tracer.see("on.approval", is_new.into(), || {
                let votes = approvals.iter().map(|vote| format!("{}{:+}", vote.label, vote.value));
                let votes: Vec<String> = votes.collect();
                let saw = if votes.is_empty() { "no new vote".into() } else { votes.join(", ") };
                let why = format!("no new {label} vote of {at_least:+} or more");
                Words { wanted: format!("a new {label} of {at_least:+} or more"), saw, why }
            })?;
        }
        if let Some(pattern) = &self.except_comment {
            let matches = texts.iter().any(|text| pattern.matches(text));
            tracer.see("except.comment", (!matches).into(), || Words {
                wanted: format!("not {}", pattern.regex),
                saw: quoted(texts),
                why: "the comment is an exception".into(),
            })?;
        }
        Some(())
    }

    /// What the event says about the change and its patch set.
    fn judge_change(&self, event: &Event, facts: &Facts, tracer: &mut Tracer) -> Option<()> {
        let (trigger, change, patchset) = (&self.trigger, &event.change, &event.patchset);
        let is_comment = matches!(trigger.on, EventMatch::Comment { .. } | EventMatch::Preset(_));
        let (project, branch) = (change.project.as_str(), change.branch.as_str());
        for (name, what, list, globs, value) in [
            ("projects", "project", &trigger.projects, &self.projects, project),
            ("branches", "branch", &trigger.branches, &self.branches, branch),
        ] {
            if !list.is_empty() {
                tracer.see(name, globs.matches(value).into(), || Words {
                    wanted: list.join(", "),
                    saw: value.into(),
                    why: format!("{what} {value} is not one of {}", list.join(", ")),
                })?;
            }
        }
        let except = &trigger.except;
        for (name, what, list, globs, value) in [
            ("except.projects", "project", &except.projects, &self.except_projects, project),
            ("except.branches", "branch", &except.branches, &self.except_branches, branch),
        ] {
            if !list.is_empty() {
                tracer.see(name, (!globs.matches(value)).into(), || Words {
                    wanted: format!("none of {}", list.join(", ")),
                    saw: value.into(),
                    why: format!("{what} {value} is one of the exceptions {}", list.join(", ")),
                })?;
            }
        }
        let number = change.number;
        tracer.see("open", (change.status == ChangeStatus::New).into(), || Words {
            wanted: "an open change".into(),
            saw: format!("{:?}", change.status).to_uppercase(),
            why: format!("change {number} is closed"),
        })?;
        if let Some(newest) = facts.newest {
            tracer.see("current", (patchset.number >= newest).into(), || Words {
                wanted: "the newest patch set".into(),
                saw: format!("{} of {newest}", patchset.number),
                why: format!("patch set {} is superseded by {newest}", patchset.number),
            })?;
        }
        tracer.see("private", (!change.private || trigger.private).into(), || Words {
            wanted: if trigger.private { "any change" } else { "a public change" }.into(),
            saw: if change.private { "private" } else { "public" }.into(),
            why: format!("change {number} is private"),
        })?;
        // Who comments the phrase on a WIP change wants the run.
        tracer.see("wip", (!change.wip || trigger.wip || is_comment).into(), || Words {
            wanted: if trigger.wip || is_comment { "any change" } else { "a change that is ready" }.into(),
            saw: if change.wip { "work in progress" } else { "ready" }.into(),
            why: format!("change {number} is work in progress"),
        })?;
        // Of a change that becomes ready, earlier patch sets were skipped: this one stands for them too.
        let opens = matches!(event.kind, EventKind::ReadyForReview { .. } | EventKind::MadePublic { .. });
        if !trigger.skip_kinds.is_empty() && !opens && !is_comment {
            let skipped = trigger.skip_kinds.contains(&patchset.kind);
            tracer.see("skip_kinds", (!skipped).into(), || Words {
                wanted: format!("none of {:?}", trigger.skip_kinds),
                saw: format!("{:?}", patchset.kind),
                why: format!("patch set {} is of a kind to skip ({:?})", patchset.number, patchset.kind),
            })?;
        }
        self.judge_tags(event, tracer)
    }

    /// Topic and hashtags.
    fn judge_tags(&self, event: &Event, tracer: &mut Tracer) -> Option<()> {
        let (trigger, except) = (&self.trigger, &self.trigger.except);
        let (topic, hashtags) = (event.change.topic.as_slice(), event.change.hashtags.as_slice());
        for (name, what, list, globs, values) in [
            ("topics", "topic", &trigger.topics, &self.topics, topic),
            ("hashtags", "hashtag", &trigger.hashtags, &self.hashtags, hashtags),
        ] {
            if !list.is_empty() {
                let matches = values.iter().any(|value| globs.matches(value));
                tracer.see(name, matches.into(), || Words {
                    wanted: list.join(", "),
                    saw: joined(values),
                    why: format!("no {what} is one of {}", list.join(", ")),
                })?;
            }
        }
        for (name, what, list, globs, values) in [
            ("except.topics", "topic", &except.topics, &self.except_topics, topic),
            ("except.hashtags", "hashtag", &except.hashtags, &self.except_hashtags, hashtags),
        ] {
            if !list.is_empty() {
                let excepted = values.iter().find(|value| globs.matches(value));
                tracer.see(name, excepted.is_none().into(), || Words {
                    wanted: format!("none of {}", list.join(", ")),
                    saw: joined(values),
                    why: format!("{what} {:?} is an exception", excepted.map_or("", String::as_str)),
                })?;
            }
        }
        Some(())
    }

    fn judge_people(&self, event: &Event, facts: &Facts, tracer: &mut Tracer) -> Option<()> {
        let (trigger, except) = (&self.trigger, &self.trigger.except);
        let uploader = match &event.kind {
            EventKind::PatchsetCreated { uploader } => Some(uploader),
            _ => event.patchset.uploader.as_ref(),
        };
        let (actor, owner) = (event.kind.actor(), event.change.owner.as_ref());
        for (name, list, who) in [
            ("from", &trigger.from, actor),
            ("owners", &trigger.owners, owner),
            ("uploaders", &trigger.uploaders, uploader),
        ] {
            if !list.is_empty() {
                self.judge_account(name, list, who, facts, tracer)?;
            }
        }
        for (name, list, who) in [
            ("except.from", &except.from, actor),
            ("except.owners", &except.owners, owner),
            ("except.uploaders", &except.uploaders, uploader),
        ] {
            if !list.is_empty() {
                let (matched, fault) = match who {
                    Some(who) => is_one_of(who, list, facts, tracer),
                    // Nobody can tell whether it is an exception, so it must count as one.
                    None => (Matched::Yes, None),
                };
                // A group that cannot be read keeps nobody out for certain: then nothing runs.
                let matched = if fault.is_some() { Matched::Yes } else { matched };
                tracer.see(name, matched.not(), || Words {
                    wanted: format!("none of {}", list.join(", ")),
                    saw: shown(who),
                    why: fault.unwrap_or_else(|| match matched {
                        Matched::Unknown => groups_unknown(list),
                        _ => format!("{} is one of the exceptions {}", shown(who), list.join(", ")),
                    }),
                })?;
            }
        }
        Some(())
    }

    fn judge_account(
        &self,
        name: &'static str,
        list: &[String],
        who: Option<&Account>,
        facts: &Facts,
        tracer: &mut Tracer,
    ) -> Option<()> {
        let (matched, fault) = match who {
            Some(who) => is_one_of(who, list, facts, tracer),
            None => (Matched::No, None),
        };
        tracer.see(name, matched, || Words {
            wanted: list.join(", "),
            saw: shown(who),
            why: fault.unwrap_or_else(|| match matched {
                Matched::Unknown => groups_unknown(list),
                _ => format!("{} is not one of {}", shown(who), list.join(", ")),
            }),
        })
    }

    fn judge_files(&self, facts: &Facts, tracer: &mut Tracer) -> Option<()> {
        let trigger = &self.trigger;
        for (name, list) in [("files", &trigger.files), ("irrelevant_files", &trigger.irrelevant_files)] {
            if list.is_empty() {
                continue;
            }
            let wanted = match name {
                "files" => list.join(", "),
                _ => format!("not only {}", list.join(", ")),
            };
            let files = match &facts.files {
                Fact::Known(files) => files,
                Fact::Unknown => {
                    tracer.needs().files = true;
                    let why = unknown_why("the files of the patch set", tracer);
                    tracer.see(name, Matched::Unknown, || Words { wanted, saw: "not asked".into(), why })?;
                    continue;
                }
                Fact::Failed(why) => {
                    let why = format!("the files of the patch set cannot be looked up: {why}");
                    tracer.see(name, Matched::No, || Words { wanted, saw: "no answer".into(), why })?;
                    continue;
                }
            };
            let paths = || files.paths.iter().map(String::as_str).filter(|path| !NO_FILES.contains(path));
            // What a list leaves out may be anything: it counts as relevant.
            let relevant = files.more || paths().next().is_none();
            let matched = match name {
                "files" => relevant || paths().any(|path| is_match(&self.files, path)),
                _ => relevant || !paths().all(|path| is_match(&self.irrelevant_files, path)),
            };
            tracer.see(name, matched.into(), || Words {
                wanted,
                saw: shown_paths(paths(), files.more),
                why: match name {
                    "files" => format!("no changed file matches {}", list.join(", ")),
                    _ => format!("all changed files match {}", list.join(", ")),
                },
            })?;
        }
        Some(())
    }

    fn judge_votes(&self, facts: &Facts, tracer: &mut Tracer) -> Option<()> {
        for (name, conditions, is_exception) in
            [("votes", &self.trigger.votes, false), ("except.votes", &self.trigger.except.votes, true)]
        {
            for condition in conditions {
                let words = in_words(condition);
                let wanted = if is_exception { format!("no {words}") } else { words.clone() };
                let votes = match &facts.votes {
                    Fact::Known(votes) => votes,
                    Fact::Unknown => {
                        tracer.needs().votes = true;
                        let why = unknown_why("the votes on the patch set", tracer);
                        tracer.see(name, Matched::Unknown, || Words {
                            wanted,
                            saw: "not asked".into(),
                            why,
                        })?;
                        continue;
                    }
                    Fact::Failed(why) => {
                        let why = format!("the votes on the patch set cannot be looked up: {why}");
                        tracer.see(name, Matched::No, || Words { wanted, saw: "no answer".into(), why })?;
                        continue;
                    }
                };
                let (matched, fault) = stands(condition, votes, facts, tracer);
                let matched = match (is_exception, &fault) {
                    (_, Some(_)) => Matched::No,
                    (true, None) => matched.not(),
                    (false, None) => matched,
                };
                tracer.see(name, matched, || Words {
                    wanted,
                    saw: shown_votes(votes),
                    why: fault.unwrap_or_else(|| match (matched, is_exception) {
                        (Matched::Unknown, _) => groups_unknown(&condition.by),
                        (_, true) => format!("an exception: {words}"),
                        (_, false) => format!("there is no {words}"),
                    }),
                })?;
            }
        }
        Some(())
    }
}

/// The kind of event, as in the configuration.
fn on_name(on: &EventMatch) -> &'static str {
    match on {
        EventMatch::Comment { .. } => "comment",
        EventMatch::Preset(Preset::Recheck) => "preset: recheck",
        EventMatch::Preset(Preset::RunCiName) => "preset: run-ci-name",
        EventMatch::Approval { .. } => "approval",
        EventMatch::PatchsetCreated => "patchset-created",
        EventMatch::ChangeRestored => "change-restored",
    }
}

/// The comment by which people ask for one CI. Many write `-` or `_` for the blanks of its name.
fn run_pattern(name: &str) -> String {
    let words: Vec<String> =
        name.split([' ', '_', '-']).filter(|word| !word.is_empty()).map(regex::escape).collect();
    format!(r"(?i)^\s*run[\s_-]+{}(?:\W|$)", words.join(r"[\s_-]+"))
}

/// Patterns for paths: matched from the beginning, as Zuul does.
fn file_patterns(patterns: &[String]) -> Result<Vec<Regex>, String> {
    let compile = |pattern: &String| {
        let built = RegexBuilder::new(&format!("^(?:{pattern})")).size_limit(PATTERN_LIMIT).build();
        built.map_err(|error| {
            let glob = pattern.starts_with('*').then(|| {
                format!(
                    "; this looks like a glob: write {:?}",
                    format!(".*{}$", regex::escape(&pattern[1..]))
                )
            });
            format!("file pattern {pattern:?} does not compile: {error}{}", glob.unwrap_or_default())
        })
    };
    patterns.iter().map(compile).collect()
}

fn is_match(patterns: &[Regex], path: &str) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(path))
}

/// Every account that a trigger names, with the key.
pub(super) fn account_lists(trigger: &Trigger) -> impl Iterator<Item = (&'static str, &String)> {
    let of_event: (&'static str, &[String]) = match &trigger.on {
        EventMatch::Approval { by, .. } => ("on.approval.by", by),
        EventMatch::Comment { from, .. } => ("on.comment.from", from),
        _ => ("on", &[]),
    };
    let except = &trigger.except;
    let lists: [(&'static str, &[String]); 7] = [
        of_event,
        ("from", &trigger.from),
        ("owners", &trigger.owners),
        ("uploaders", &trigger.uploaders),
        ("except.from", &except.from),
        ("except.owners", &except.owners),
        ("except.uploaders", &except.uploaders),
    ];
    let votes = [("votes", &trigger.votes), ("except.votes", &except.votes)].into_iter();
    let votes =
        votes.flat_map(|(name, votes)| votes.iter().flat_map(move |vote| &vote.by).map(move |by| (name, by)));
    lists.into_iter().flat_map(|(name, list)| list.iter().map(move |matcher| (name, matcher))).chain(votes)
}

/// What is wrong with an account or a group that can never match.
fn matcher_fault(matcher: &str) -> Option<String> {
    match matcher.strip_prefix(Account::GROUP) {
        Some(group) if group.trim().is_empty() || group.contains(char::is_control) => Some(format!(
            "{matcher:?} names no group: write \"group:\" and the exact name of a group on Gerrit"
        )),
        Some(_) => None,
        None => Account::matcher_fault(matcher),
    }
}

fn check_vote(vote: &VoteCondition) -> Result<(), String> {
    let VoteCondition { label, at_least, at_most, .. } = vote;
    if label.trim().is_empty() {
        return Err("a vote without a label: name one, as Verified".into());
    }
    match (at_least, at_most) {
        (None, None) => Err(format!("a vote of {label} without limits: give `at_least` or `at_most`")),
        (Some(least), Some(most)) if least > most => {
            Err(format!("a vote of {label} that is at least {least} and at most {most} does not exist"))
        }
        _ => Ok(()),
    }
}

/// Whether an account is named, and why that cannot be known.
fn is_one_of(
    who: &Account,
    list: &[String],
    facts: &Facts,
    tracer: &mut Tracer,
) -> (Matched, Option<String>) {
    let (mut unknown, mut fault) = (false, None);
    for matcher in list {
        let Some(group) = matcher.strip_prefix(Account::GROUP) else {
            if who.is(matcher) {
                return (Matched::Yes, None);
            }
            continue;
        };
        match facts.groups.get(group) {
            Some(Fact::Known(members)) => {
                if who.username.as_deref().is_some_and(|login| members.contains(login)) {
                    return (Matched::Yes, None);
                }
            }
            Some(Fact::Failed(why)) => {
                fault = Some(format!("the members of the group {group:?} cannot be looked up: {why}"));
            }
            Some(Fact::Unknown) | None => {
                tracer.needs().groups.insert(group.to_owned());
                unknown = true;
            }
        }
    }
    if unknown { (Matched::Unknown, None) } else { (Matched::No, fault) }
}

/// Whether such a vote stands, and why that cannot be known.
fn stands(
    condition: &VoteCondition,
    votes: &[CurrentVote],
    facts: &Facts,
    tracer: &mut Tracer,
) -> (Matched, Option<String>) {
    let (mut unknown, mut fault) = (false, None);
    for CurrentVote { by, vote, .. } in votes {
        let within = condition.at_least.is_none_or(|least| vote.value >= least)
            && condition.at_most.is_none_or(|most| vote.value <= most);
        if vote.label != condition.label || !within {
            continue;
        }
        if condition.by.is_empty() {
            return (Matched::Yes, None);
        }
        match is_one_of(by, &condition.by, facts, tracer) {
            (Matched::Yes, _) => return (Matched::Yes, None),
            (Matched::Unknown, _) => unknown = true,
            (Matched::No, why) => fault = fault.or(why),
        }
    }
    if unknown { (Matched::Unknown, None) } else { (Matched::No, fault) }
}

/// `Verified of -1 or less by zuul`.
fn in_words(VoteCondition { label, at_least, at_most, by }: &VoteCondition) -> String {
    let range = match (at_least, at_most) {
        (Some(least), Some(most)) if least == most => format!("{least:+}"),
        (Some(least), Some(most)) => format!("{least:+} to {most:+}"),
        (Some(least), None) => format!("{least:+} or more"),
        (None, Some(most)) => format!("{most:+} or less"),
        (None, None) => "any value".into(),
    };
    let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
    format!("{label} vote of {range}{by}")
}

/// Why something was not looked up, or must be.
fn unknown_why(what: &str, tracer: &Tracer) -> String {
    if tracer.has_failed() {
        return format!("{what} were not asked for: another condition does not hold");
    }
    format!("Gerrit must be asked for {what}")
}

fn groups_unknown(list: &[String]) -> String {
    let groups: Vec<&str> = list.iter().filter_map(|matcher| matcher.strip_prefix(Account::GROUP)).collect();
    format!("Gerrit must be asked for the members of {}", groups.join(", "))
}

fn shown(who: Option<&Account>) -> String {
    who.map_or_else(|| "somebody".into(), ToString::to_string)
}

fn joined(values: &[String]) -> String {
    if values.is_empty() { "none".into() } else { values.join(", ") }
}

/// How many texts and characters of comments, and how many paths and votes, a trace shows.
const SHOWN_TEXTS: usize = 5;
const SHOWN_CHARS: usize = 200;
const SHOWN: usize = 10;

fn quoted(texts: &[String]) -> String {
    let short = |text: &String| format!("{:?}", text.chars().take(SHOWN_CHARS).collect::<String>());
    let shown: Vec<String> = texts.iter().take(SHOWN_TEXTS).map(short).collect();
    if shown.is_empty() { "no text".into() } else { shown.join(" and ") }
}

fn shown_paths<'a>(paths: impl Iterator<Item = &'a str>, more: bool) -> String {
    let (mut shown, mut count) = (Vec::new(), 0);
    for path in paths {
        count += 1;
        if count <= SHOWN {
            shown.push(path);
        }
    }
    let hidden = count - shown.len();
    let rest = match (more, hidden) {
        (true, _) => ", and more that Gerrit did not list".into(),
        (false, 0) => String::new(),
        (false, hidden) => format!(", and {hidden} more"),
    };
    if shown.is_empty() { format!("no file{rest}") } else { format!("{}{rest}", shown.join(", ")) }
}

fn shown_votes(votes: &[CurrentVote]) -> String {
    let shown = votes.iter().take(SHOWN);
    let shown: Vec<String> = shown
        .map(|standing| format!("{}{:+} by {}", standing.vote.label, standing.vote.value, standing.by))
        .collect();
    if shown.is_empty() { "no vote".into() } else { shown.join(", ") }
}
