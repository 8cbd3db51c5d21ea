//! `replay`: what the triggers do with recorded events, and the comments that would be posted. Offline, and the same
//! every time.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use pushbutton_core::pipeline::control_message_of;
use pushbutton_core::{
    Buildset, BuildsetReport, ControlMessage, Event, EventSource as _, Job, JobSpec, OnFailure, PlannedJob,
    Result, RunId, RunResult, RunWhen, StageName, StageOutcome, StageResult, StageStatus, Verdict,
};
use pushbutton_gerrit::{EventFilter, RecordedStream};

use crate::assemble;
use crate::cli::VerdictName;
use crate::config::Config;
use crate::exit::Exit;
use crate::print::{count, print, sanitize};
use crate::recorded::comment;

/// Nothing runs, so every run is assumed to take this long.
const ASSUMED_TIME: Duration = Duration::from_secs(42 * 60);

/// The id of every run; a real one differs each time.
const RUN: &str = "00000000-0000-7000-8000-000000000000";

/// Reads the stream, and prints each event with its consequences.
pub(crate) async fn run(config: &Config, file: &Path, verdict: VerdictName) -> anyhow::Result<Exit> {
    let decider = assemble::decider(config)?;
    let mut source = RecordedStream::open(file, EventFilter::everything()).await?;
    let (mut seen, mut events, mut jobs, mut asks) = (HashSet::new(), 0_u64, 0_u64, 0_u64);
    while let Some(event) = source.next().await? {
        events += 1;
        print(heading(events, &event));
        let observed = decider.observe(&event);
        if !seen.insert(event.id.clone()) {
            print("   seen before: nothing to do");
            continue;
        }
        match control_message_of(&event, &observed.rules().triggers, config.supersede, event.position.at) {
            Some(ControlMessage::Superseded { .. }) => print("   runs of older patch sets are superseded"),
            Some(ControlMessage::Closed { .. }) => print("   runs of this change are superseded"),
            _ => {}
        }
        let evaluation = decider.complete(&event, observed).await;
        let planned = evaluation.jobs();
        if planned.is_empty() {
            let decided = evaluation.without_undecided();
            for reason in decided.reasons() {
                print(format!("   no    {}", sanitize(&reason)));
            }
        }
        for reason in evaluation.undecided().reasons() {
            asks += 1;
            print(format!("   ask   {}", sanitize(&reason)));
        }
        if planned.is_empty() {
            continue;
        }
        if let Some(refusal) = decider.refuse_build(event.change.number, event.position.at) {
            print(format!("   no    {}", sanitize(&refusal.why)));
            continue;
        }
        let id = Buildset::of(&event.id, planned.iter().map(|job| job.name.clone())).id;
        let mut reports = Vec::new();
        for PlannedJob { name, trigger, .. } in planned {
            jobs += 1;
            print(format!("   RUN   {name}, by trigger {}", sanitize(&trigger)));
            let job = Job::new(name, &event, trigger, event.position.at);
            let spec = config.jobs.get(&job.name);
            reports.push(report(config, job, spec, verdict)?);
        }
        if let Some(report) = BuildsetReport::new(id, reports) {
            print(indent(&comment(config.gerrit()?, &report)));
        }
    }
    for line in source.skipped() {
        print(format!("skipped: {}", sanitize(line)));
    }
    if asks > 0 {
        print("\nask: only Gerrit knows; `pushbutton-bin explain CHANGE` asks it");
    }
    let skipped = count(source.skipped().len() as u64, "line");
    print(format!("\n{}, {}, {skipped} skipped", count(events, "event"), count(jobs, "job")));
    Ok(Exit::Ok)
}

/// The event on one line.
pub(crate) fn heading(number: u64, event: &Event) -> String {
    let change = &event.change;
    let by =
        event.kind.actor().map(|actor| format!(" by {}", sanitize(&actor.to_string()))).unwrap_or_default();
    let at = event.position.at.strftime("%F %T");
    let (kind, place) = (event.kind.name(), event.target());
    format!("\n{number}. {at} {kind}{by} on {place} of {} {}", change.project, change.branch)
}

fn indent(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("         {line}")).collect::<Vec<_>>().join("\n")
}

/// The report, if the job ended with this verdict.
fn report(config: &Config, job: Job, spec: Option<&JobSpec>, verdict: VerdictName) -> Result<RunResult> {
    let run = RunId::new(RUN)?;
    // The stage that fails: the last one whose failure is the patch's, as tests come last.
    let blamed = spec.into_iter().flat_map(|spec| &spec.stages).rev();
    let blamed = blamed
        .filter(|stage| stage.run == RunWhen::OnSuccess)
        .find(|stage| stage.on_failure == OnFailure::Fail);
    let stage = blamed.map_or_else(|| StageName::new("test"), |stage| Ok(stage.name.clone()))?;
    let attempts = spec.map_or(1, |spec| spec.attempts);
    let (verdict, attempts, status) = match verdict {
        VerdictName::Success => (Verdict::Success, 1, StageStatus::Passed),
        VerdictName::Failure => (Verdict::Failure { stage: stage.clone() }, 1, StageStatus::Failed),
        VerdictName::NodeFailure => (Verdict::NodeFailure, attempts, StageStatus::Unreachable),
        VerdictName::RetryLimit => (Verdict::RetryLimit, attempts, StageStatus::Unreachable),
        VerdictName::TimedOut => (Verdict::TimedOut { stage: stage.clone() }, 1, StageStatus::TimedOut),
        VerdictName::PostFailure => (Verdict::PostFailure, 1, StageStatus::Failed),
    };
    let logs = config
        .logs
        .as_ref()
        .and_then(|logs| logs.of(&run, &job).url)
        .filter(|_| verdict != Verdict::NodeFailure);
    let (started, outcome) = (job.created, StageOutcome::new(status, ASSUMED_TIME));
    Ok(RunResult::new(run, job, verdict, started, ASSUMED_TIME)
        .with_attempts(attempts)
        .with_stages(vec![StageResult::new(stage, outcome)])
        .with_log_url(logs))
}
