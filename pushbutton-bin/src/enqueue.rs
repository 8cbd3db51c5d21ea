//! `enqueue` and `rerun`: jobs by hand, for a change that Gerrit knows.

use jiff::Timestamp;
use pushbutton_core::{
    Cause, ChangeNumber, ChangeStatus, Error, ErrorKind, EventId, Job, JobId, JobName, PatchsetNumber, RunId,
    Triggers,
};
use pushbutton_gerrit::ChangeState;

use crate::assemble::{self, PATIENCE};
use crate::config::{Config, suggest};
use crate::exit::Exit;
use crate::out::{clean, say};

/// Asks Gerrit for the change, and puts jobs for this patch set on the queue, or for its newest.
pub(crate) async fn run(
    config: &Config,
    change: ChangeNumber,
    patchset: Option<PatchsetNumber>,
    job: Option<JobName>,
) -> anyhow::Result<Exit> {
    if let Some(name) = &job {
        known(config, name)?;
    }
    let gerrit = assemble::gerrit(config)?;
    assemble::reach_gerrit(&gerrit, PATIENCE).await?;
    let state = gerrit.change(change).await?;
    let names = match job {
        Some(name) => vec![name],
        None => jobs_for(config, &state)?,
    };
    if state.change.status != ChangeStatus::New {
        tracing::warn!("change {change} is closed: nobody may care for the result");
    }
    let store = assemble::store(config).await?;
    let carrier = assemble::queue(config, &store).await?;
    let queue = carrier.shared();
    assemble::reach_queue(config, queue.as_ref(), PATIENCE).await?;
    for name in names {
        let job = by_hand(&state, patchset, name)?;
        queue.publish(&job).await?;
        say(format!("queued {} for {}: {}", job.name, job.target(), clean(&job.change.subject)));
    }
    carrier.close().await;
    Ok(Exit::Ok)
}

fn known(config: &Config, name: &JobName) -> Result<(), Error> {
    if config.jobs.iter().any(|spec| spec.name == *name) {
        return Ok(());
    }
    let remedy = suggest(name.as_str(), config.jobs.iter().map(|spec| spec.name.as_str()));
    Err(Error::permanent(ErrorKind::NotFound, format!("the configuration has no job {name}; {remedy}")))
}

/// Every job that a trigger for the change's project and branch names.
fn jobs_for(config: &Config, state: &ChangeState) -> Result<Vec<JobName>, Error> {
    let (project, branch) = (state.change.project.as_str(), state.change.branch.as_str());
    let mut names = Vec::new();
    for trigger in &config.triggers {
        if Triggers::compile(vec![trigger.clone()], Vec::new())?.matches_project(project, branch) {
            for job in &trigger.jobs {
                if !names.contains(job) {
                    names.push(job.clone());
                }
            }
        }
    }
    if names.is_empty() {
        let message = format!("no trigger is for {project} {branch}; name a job with --job");
        return Err(Error::permanent(ErrorKind::NotFound, message));
    }
    Ok(names)
}

fn by_hand(state: &ChangeState, number: Option<PatchsetNumber>, name: JobName) -> Result<Job, Error> {
    let change = state.change.number;
    let newest = state.current().map_or(PatchsetNumber(0), |patchset| patchset.number);
    let number = number.unwrap_or(newest);
    let patchset = state.patchset(number).cloned().ok_or_else(|| {
        let message = format!("change {change} has no patch set {number}; its newest is {newest}");
        Error::permanent(ErrorKind::NotFound, message)
    })?;
    // Asked twice, it runs twice: a person has a reason.
    let event = EventId::manual(change, number, RunId::generate().as_str());
    Ok(Job {
        id: JobId::of(&event, &name),
        name,
        change: state.change.clone(),
        patchset,
        cause: Cause {
            event,
            kind: Cause::MANUAL.into(),
            by: std::env::var("USER").ok(),
            trigger: "enqueue".into(),
        },
        created: Timestamp::now(),
        failed_attempts: 0,
    })
}
