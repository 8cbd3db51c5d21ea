//! `explain`: for each event, each rule with what it saw, and what followed.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use pushbutton_core::pipeline::{Dependencies, control_message_of, resolve_dependencies};
use pushbutton_core::{
    Buildset, ChangeNumber, ControlMessage, DeadLetter, Decider, Dependency, DependencyKind, Evaluation,
    Event, EventId, EventSource as _, EventStore, InstallationId, Job, Matched, PatchsetNumber, Queue as _,
    RuleTrace, RunHistory as _, RunRecord, UndeliveredReport,
};
use pushbutton_gerrit::message::dedup_footer;
use pushbutton_gerrit::{ChangeEvents, ChangeMessage, EventFilter, Gerrit, RecordedStream};
use serde::Serialize;
use serde_json::json;

use crate::assemble::{self, QueueBackend};
use crate::config::Config;
use crate::connect::{self, COMMAND_TIMEOUT};
use crate::exit::Exit;
use crate::print::{count, print, sanitize};
use crate::replay::heading;

/// How often Gerrit is asked for files, votes and groups: a person waits.
const TRIES: u32 = 3;

/// How many of the latest runs, dead letters and undelivered reports are looked through.
const MAX_RUNS: usize = 10_000;
const MAX_LETTERS: usize = 1000;

/// Which events are shown.
type Target = (ChangeNumber, Option<PatchsetNumber>);

/// Explains a change on the live Gerrit, or a recorded stream.
pub(crate) async fn run(
    config: &Config,
    target: Option<Target>,
    recorded: Option<&Path>,
    json: bool,
) -> anyhow::Result<Exit> {
    match (recorded, target) {
        (Some(file), target) => of_stream(config, file, target, json).await,
        (None, Some(target)) => of_change(config, target, json).await,
        (None, None) => Ok(Exit::Usage),
    }
}

/// What is shown of one event.
#[derive(Serialize)]
struct Explained<'e> {
    event: &'e Event,
    /// It came before, with the same id: a handler does nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_repeated: bool,
    /// What operators are told because of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<ControlMessage>,
    evaluation: Evaluation,
    /// Why no build is started although a rule applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    jobs: Vec<ExplainedJob>,
    /// What the jobs would be made of now, beside the patch set; none if it was not looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    dependencies: Option<ExplainedDependencies>,
    /// What followed; none if it was not looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    followed: Option<Followed>,
}

/// A job that an event called for.
#[derive(Serialize)]
struct ExplainedJob {
    name: String,
    trigger: String,
    id: String,
    /// What is known of it, each in one line.
    known: Vec<String>,
}

/// What a patch set depends on.
#[derive(Clone, Serialize)]
struct ExplainedDependencies {
    list: Vec<Dependency>,
    /// Why nothing is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    unmet: Option<String>,
    /// What was ignored, and why.
    notes: Vec<String>,
}

impl From<Dependencies> for ExplainedDependencies {
    fn from(found: Dependencies) -> Self {
        Self { list: found.list, unmet: found.unmet, notes: found.notes }
    }
}

/// What followed on an event.
#[derive(Serialize)]
struct Followed {
    /// Whether a handler has recorded it.
    is_handled: bool,
    /// When the results were posted on the change.
    commented: Option<Timestamp>,
    /// Why the results were not posted.
    undelivered: Option<String>,
}

async fn of_stream(config: &Config, file: &Path, target: Option<Target>, json: bool) -> anyhow::Result<Exit> {
    let decider = assemble::decider(config)?.with_all_conditions();
    let mut source = RecordedStream::open(file, EventFilter::everything()).await?;
    let (mut seen, mut number, mut jobs) = (HashSet::new(), 0_u64, 0_u64);
    while let Some(event) = source.next().await? {
        number += 1;
        let is_repeated = !seen.insert(event.id.clone());
        let explained = judge(config, &decider, &event, is_repeated).await;
        if !is_wanted(&event, target) {
            continue;
        }
        jobs += explained.jobs.len() as u64;
        show(number, &explained, json);
    }
    if !json {
        for line in source.skipped() {
            print(format!("skipped: {}", sanitize(line)));
        }
        print(format!("\n{}, {}", count(number, "event"), count(jobs, "job")));
    }
    Ok(Exit::Ok)
}

async fn of_change(config: &Config, target: Target, json: bool) -> anyhow::Result<Exit> {
    let gerrit = assemble::gerrit(config)?;
    connect::wait_for_gerrit(&gerrit, COMMAND_TIMEOUT).await?;
    // What followed is an extra: without the queue the decisions are still explained.
    let lab = match Lab::open(config).await {
        Ok(lab) => Some(lab),
        Err(error) => {
            tracing::warn!("what followed is not shown: {error}");
            None
        }
    };
    let position = match &lab {
        Some(lab) => lab.events.position().await.ok().flatten(),
        None => None,
    };
    let all = gerrit.change_events(target.0, position.as_ref()).await?;
    let decider =
        assemble::decider(config)?.with_lookup(gerrit.clone()).with_tries(TRIES).with_all_conditions();
    let (mut number, mut jobs, mut explained_runs) = (0_u64, 0_u64, HashSet::new());
    let mut dependencies = HashMap::new();
    for past in &all.events {
        let mut explained = judge(config, &decider, &past.event, false).await;
        if let Some(lab) = &lab {
            lab.follow(&past.ids, &all, &mut explained, &mut explained_runs).await?;
        }
        if !is_wanted(&past.event, Some(target)) {
            continue;
        }
        number += 1;
        jobs += explained.jobs.len() as u64;
        if !explained.jobs.is_empty() {
            explained.dependencies = dependencies_of(&gerrit, &past.event, &mut dependencies).await;
        }
        show(number, &explained, json);
    }
    if let Some(lab) = lab {
        if !json {
            lab.show_other_runs(target, &explained_runs);
        }
        lab.backend.close().await;
    }
    if !json {
        let now = "topic, hashtags, work in progress, private, votes and dependencies are those of now";
        print(format!("\n{}, {}; {now}", count(number, "event"), count(jobs, "job")));
    }
    Ok(Exit::Ok)
}

/// What the patch set of an event depends on. It is asked once for each patch set.
async fn dependencies_of(
    gerrit: &Arc<Gerrit>,
    event: &Event,
    known: &mut HashMap<PatchsetNumber, Option<ExplainedDependencies>>,
) -> Option<ExplainedDependencies> {
    if let Some(found) = known.get(&event.patchset.number) {
        return found.clone();
    }
    let found = match resolve_dependencies(&**gerrit, &event.change, &event.patchset).await {
        Ok(found) => Some(found.into()),
        Err(error) => {
            tracing::warn!(patchset = %event.target(), "what it depends on is not shown: {error}");
            None
        }
    };
    known.insert(event.patchset.number, found.clone());
    found
}

fn is_wanted(event: &Event, target: Option<Target>) -> bool {
    target.is_none_or(|(change, patchset)| {
        event.change.number == change && patchset.is_none_or(|patchset| event.patchset.number == patchset)
    })
}

/// Decides on an event as a handler does.
async fn judge<'e>(config: &Config, decider: &Decider, event: &'e Event, is_repeated: bool) -> Explained<'e> {
    let at = event.position.at;
    let observed = decider.observe(event);
    if is_repeated {
        let evaluation = observed.evaluation().clone();
        return Explained {
            event,
            is_repeated,
            control: None,
            evaluation,
            refused: None,
            jobs: Vec::new(),
            dependencies: None,
            followed: None,
        };
    }
    let control = control_message_of(event, &observed.rules().triggers, config.supersede, at);
    let evaluation = decider.complete(event, observed).await;
    let planned = evaluation.jobs();
    let refused = if planned.is_empty() { None } else { decider.refuse_build(event.change.number, at) };
    let refused = refused.map(|refusal| refusal.why);
    let jobs = planned.into_iter().filter(|_| refused.is_none()).map(|planned| {
        let job = Job::new(planned.name, event, planned.trigger.clone(), at);
        let (name, id) = (job.name.to_string(), job.id.to_string());
        ExplainedJob { name, trigger: planned.trigger, id, known: Vec::new() }
    });
    let jobs = jobs.collect();
    Explained { event, is_repeated, control, evaluation, refused, jobs, dependencies: None, followed: None }
}

/// What this installation knows of the change's jobs.
struct Lab {
    backend: QueueBackend,
    events: Arc<dyn EventStore>,
    installation: InstallationId,
    user: String,
    runs: Vec<RunRecord>,
    dead: Vec<DeadLetter>,
    undelivered: Vec<UndeliveredReport>,
}

impl Lab {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let (store, backend) = QueueBackend::open(config).await?;
        let events: Arc<dyn EventStore> = match &backend.amqp {
            Some(amqp) => Arc::new(amqp.event_store()),
            None => Arc::new(store.events()),
        };
        Ok(Self {
            installation: backend.queue.installation().await?,
            runs: store.history().recent(MAX_RUNS).await?,
            dead: backend.dead_letters.list(MAX_LETTERS).await?,
            undelivered: backend.undelivered.list_undelivered(MAX_LETTERS).await?,
            user: config.gerrit()?.user.clone(),
            events,
            backend,
        })
    }

    /// Finds what became of the jobs of an event, which may have been handled under one of these ids.
    async fn follow(
        &self,
        ids: &[EventId],
        all: &ChangeEvents,
        explained: &mut Explained<'_>,
        explained_runs: &mut HashSet<String>,
    ) -> anyhow::Result<()> {
        let mut handled = None;
        for id in ids {
            if self.events.has_seen(id).await? {
                handled = Some(id.clone());
                break;
            }
        }
        let mut event = explained.event.clone();
        event.id = handled.clone().unwrap_or(event.id);
        for job in &mut explained.jobs {
            let Ok(name) = job.name.parse() else { continue };
            let made = Job::new(name, &event, job.trigger.clone(), event.position.at);
            job.id = made.id.to_string();
            for run in self.runs.iter().filter(|run| run.job.id == made.id) {
                explained_runs.insert(run.run.to_string());
                job.known.push(run_line(run));
            }
            let letters =
                self.dead.iter().filter(|letter| letter.job.as_ref().is_some_and(|dead| dead.id == made.id));
            job.known.extend(letters.map(|letter| format!("a dead letter: {}", letter.why)));
            if job.known.is_empty() {
                job.known.push(match handled {
                    Some(_) => "no run on this host: it waits, runs elsewhere, was superseded, or is too long ago".into(),
                    None => "not queued: no handler of this installation has seen the event, or it is too long ago".into(),
                });
            }
        }
        let names: Option<Vec<_>> = explained.jobs.iter().map(|job| job.name.parse().ok()).collect();
        let buildset = Buildset::of(&event.id, names.unwrap_or_default());
        let buildset = buildset.in_installation(self.installation.as_str()).id;
        let footer = dedup_footer(&buildset);
        let is_ours = |message: &&ChangeMessage| {
            message.author.is(&self.user) && message.text.lines().any(|line| line == footer)
        };
        let commented = all.messages.iter().find(is_ours).map(|message| message.at);
        let undelivered = self.undelivered.iter().find(|report| report.report.id == buildset);
        let undelivered = undelivered.map(|report| report.why.clone());
        explained.followed = Some(Followed { is_handled: handled.is_some(), commented, undelivered });
        Ok(())
    }

    /// Runs that no event explains, such as those that a person started.
    fn show_other_runs(&self, (change, patchset): Target, explained: &HashSet<String>) {
        let others = self.runs.iter().filter(|run| {
            run.job.change.number == change
                && patchset.is_none_or(|patchset| run.job.patchset.number == patchset)
                && !explained.contains(&run.run.to_string())
        });
        for run in others {
            let (target, trigger) = (run.job.target(), sanitize(&run.job.cause.trigger));
            print(format!("\nanother run of {target}, {} by {trigger}: {}", run.job.name, run_line(run)));
        }
    }
}

fn run_line(run: &RunRecord) -> String {
    let result = match &run.verdict {
        Some(verdict) => verdict.result().to_owned(),
        None => format!("{:?}", run.state).to_uppercase(),
    };
    let logs = run.log_url.as_deref().map(|url| format!(", {url}")).unwrap_or_default();
    let why = run.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    let with = match run.job.dependencies.as_slice() {
        [] => String::new(),
        some => format!(" with {}", in_words(some)),
    };
    format!("run {} at {}{with}: {result}{why}{logs}", run.run, run.started.strftime("%F %T"))
}

/// As `77,1 of openstack/nova (depends-on)`.
fn in_words(dependencies: &[Dependency]) -> String {
    let word = |dependency: &Dependency| {
        let kind = match dependency.kind {
            DependencyKind::Parent => "parent",
            _ => "depends-on",
        };
        format!("{},{} of {} ({kind})", dependency.change, dependency.patchset, dependency.project)
    };
    dependencies.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn show(number: u64, explained: &Explained<'_>, json: bool) {
    if json {
        // A key that is no text is the only thing that could fail, and there is none.
        let line =
            serde_json::to_value(explained).unwrap_or_else(|error| json!({"error": error.to_string()}));
        print(line.to_string());
    } else {
        print(page(number, explained).trim_end());
    }
}

fn page(number: u64, explained: &Explained<'_>) -> String {
    let mut page = heading(number, explained.event);
    page.push('\n');
    let mut line = |text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "   {}", sanitize(&text));
    };
    if explained.is_repeated {
        line("seen before: nothing to do".into());
        return page;
    }
    match explained.control {
        Some(ControlMessage::Superseded { .. }) => line("runs of older patch sets are superseded".into()),
        Some(ControlMessage::Closed { .. }) => line("runs of this change are superseded".into()),
        _ => {}
    }
    if let Some(why) = &explained.evaluation.ignored {
        line(format!("ignored: {why}"));
    }
    for rule in &explained.evaluation.rules {
        line(format!("{}: {}", rule.trigger, outcome(rule)));
        let width = rule.predicates.iter().map(|predicate| predicate.name.len()).max().unwrap_or(0);
        for predicate in &rule.predicates {
            let (word, name) = (word(predicate.matched), predicate.name);
            line(format!("  {word:<7}  {name:<width$}  {}  (wanted: {})", predicate.saw, predicate.wanted));
        }
    }
    if let Some(why) = &explained.refused {
        line(format!("not started: {why}"));
    }
    for job in &explained.jobs {
        line(format!("-> job {} by {}, id {}", job.name, job.trigger, job.id));
        for known in &job.known {
            line(format!("   {known}"));
        }
    }
    if let Some(found) = &explained.dependencies {
        match (&found.unmet, found.list.as_slice()) {
            (Some(why), _) => line(format!("-> nothing would be started: {why}")),
            (None, []) => {}
            (None, some) => line(format!("-> together with {}", in_words(some))),
        }
        for note in &found.notes {
            line(format!("   a dependency is ignored: {note}"));
        }
    }
    if let Some(followed) = explained.followed.as_ref().filter(|_| !explained.jobs.is_empty()) {
        match (followed.commented, &followed.undelivered) {
            (Some(at), _) => line(format!("-> comment at {} UTC", at.strftime("%F %T"))),
            (None, Some(why)) => line(format!("-> no comment: {why}")),
            (None, None) => line("-> no comment yet".into()),
        }
    }
    page
}

/// `yes`, or `no`, and why.
fn outcome(rule: &RuleTrace) -> String {
    let decisive = rule.predicates.iter().find(|predicate| predicate.matched == rule.matched);
    let why = decisive.and_then(|predicate| predicate.why.as_deref());
    match (rule.matched, why) {
        (Matched::Yes, _) | (_, None) => word(rule.matched).to_owned(),
        (matched, Some(why)) => format!("{}, {why}", word(matched)),
    }
}

fn word(matched: Matched) -> &'static str {
    match matched {
        Matched::Yes => "yes",
        Matched::No => "no",
        _ => "unknown",
    }
}
