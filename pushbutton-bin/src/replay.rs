//! `replay`: what the triggers make of recorded events, and the comments that would come of it. Offline, and the same every time.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::{
    Decision, Event, EventKind, EventSource as _, Job, JobSpec, OnFailure, PatchsetNumber, Report, Result,
    RunId, RunWhen, StageName, StageOutcome, StageStatus, Triggers, Verdict,
};
use pushbutton_gerrit::{Interest, RecordedStream};

use crate::assemble;
use crate::cli::VerdictWord;
use crate::config::Config;
use crate::exit::Exit;
use crate::out::{clean, count, say};
use crate::recorded::comment;

/// Nothing runs, so nothing takes time: every run is taken to last this long.
const TAKEN: Duration = Duration::from_secs(42 * 60);

/// Every run's id. A real one is different each time.
const RUN: &str = "00000000-0000-7000-8000-000000000000";

/// Reads the stream, shows each event and what comes of it.
pub(crate) async fn run(config: &Config, file: &Path, word: VerdictWord) -> anyhow::Result<Exit> {
    let triggers = assemble::triggers(config)?;
    let mut source = RecordedStream::open(file, Interest::everything()).await?;
    let (mut seen, mut events, mut jobs) = (HashSet::new(), 0_u64, 0_u64);
    while let Some(event) = source.next().await? {
        events += 1;
        say(heading(events, &event));
        if !seen.insert(event.id.clone()) {
            say("   seen before: nothing to do");
            continue;
        }
        if let Some(notice) = notice(&event, &triggers) {
            say(notice);
        }
        match triggers.decide(&event) {
            Decision::Ignore(reasons) => {
                for reason in reasons {
                    say(format!("   no    {}", clean(&reason)));
                }
            }
            Decision::Run(wanted) => {
                for (name, rule) in wanted {
                    jobs += 1;
                    say(format!("   RUN   {name}, by rule {}", clean(&rule)));
                    let job = Job::new(name, &event, rule, event.position.at);
                    let spec = config.jobs.iter().find(|spec| spec.name == job.name);
                    say(indent(&comment(&config.gerrit, &report(config, job, spec, word)?)));
                }
            }
        }
    }
    for place in source.passed_by() {
        say(format!("passed by: {}", clean(place)));
    }
    let passed_by = count(source.passed_by().len() as u64, "line");
    say(format!("\n{}, {}, {passed_by} passed by", count(events, "event"), count(jobs, "job")));
    Ok(Exit::Ok)
}

fn heading(number: u64, event: &Event) -> String {
    let change = &event.change;
    let by = event.kind.actor().map(|actor| format!(" by {}", clean(&actor.to_string()))).unwrap_or_default();
    let at = event.position.at.strftime("%F %T");
    let (kind, place) = (event.kind.name(), format!("{},{}", change.number, event.patchset.number));
    format!("\n{number}. {at} {kind}{by} on {place} of {} {}", change.project, change.branch)
}

/// What operators are told of, beside jobs.
fn notice(event: &Event, triggers: &Triggers) -> Option<String> {
    if !triggers.matches_project(event.change.project.as_str(), event.change.branch.as_str()) {
        return None;
    }
    match event.kind {
        EventKind::PatchsetCreated { .. } if event.patchset.number > PatchsetNumber(1) => {
            Some("   runs of older patch sets are superseded".into())
        }
        EventKind::ChangeMerged | EventKind::ChangeAbandoned => {
            Some("   runs of this change are superseded".into())
        }
        _ => None,
    }
}

fn indent(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("         {line}")).collect::<Vec<_>>().join("\n")
}

/// What would be reported if the job ended with this verdict.
fn report(config: &Config, job: Job, spec: Option<&JobSpec>, word: VerdictWord) -> Result<Report> {
    let run = RunId::new(RUN)?;
    // The stage that a failure would be of: the last that blames the patch, as tests come last.
    let blamed = spec.into_iter().flat_map(|spec| &spec.stages).rev();
    let blamed = blamed
        .filter(|stage| stage.run == RunWhen::OnSuccess)
        .find(|stage| stage.on_failure == OnFailure::Fail);
    let stage = blamed.map_or_else(|| StageName::new("test"), |stage| Ok(stage.name.clone()))?;
    let attempts = spec.map_or(1, |spec| spec.attempts);
    let (verdict, attempts, status) = match word {
        VerdictWord::Success => (Verdict::Success, 1, StageStatus::Passed),
        VerdictWord::Failure => (Verdict::Failure { stage: stage.clone() }, 1, StageStatus::Failed),
        VerdictWord::NodeFailure => (Verdict::NodeFailure, attempts, StageStatus::Unreachable),
        VerdictWord::RetryLimit => (Verdict::RetryLimit, attempts, StageStatus::Unreachable),
        VerdictWord::TimedOut => (Verdict::TimedOut { stage: stage.clone() }, 1, StageStatus::TimedOut),
        VerdictWord::PostFailure => (Verdict::PostFailure, 1, StageStatus::Failed),
    };
    let started: Timestamp = job.created;
    let logs = assemble::logs(config).of(&run, &job).url;
    let has_logs = verdict != Verdict::NodeFailure;
    Ok(Report {
        run,
        verdict,
        attempts,
        started,
        took: TAKEN,
        stages: vec![(stage, StageOutcome::new(status, TAKEN))],
        tests: None,
        log_url: logs.filter(|_| has_logs),
        reason: None,
        job,
    })
}
