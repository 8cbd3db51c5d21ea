//! `enqueue` and `rerun`: jobs that a person asks for.

use jiff::Timestamp;
use pushbutton_core::{
    Cause, ChangeNumber, ChangeStatus, Error, ErrorKind, EventId, Job, JobName, PatchsetNumber, Queue as _,
    RunId, Triggers,
};
use pushbutton_gerrit::ChangeState;

use crate::assemble::{self, QueueBackend};
use crate::config::{Config, suggest};
use crate::connect::{self, COMMAND_TIMEOUT};
use crate::exit::Exit;
use crate::print::{print, sanitize};

/// Looks the change up in Gerrit and enqueues jobs for this patch set, by default for its newest.
pub(crate) async fn run(
    config: &Config,
    change: ChangeNumber,
    patchset: Option<PatchsetNumber>,
    job: Option<JobName>,
) -> anyhow::Result<Exit> {
    if let Some(name) = job.as_ref().filter(|name| !config.jobs.contains_key(*name)) {
        let fix = suggest(name.as_str(), config.jobs.keys().map(JobName::as_str));
        let message = format!("the configuration has no job {name}; {fix}");
        return Err(Error::permanent(ErrorKind::NotFound, message).into());
    }
    let gerrit = assemble::gerrit(config)?;
    connect::wait_for_gerrit(&gerrit, COMMAND_TIMEOUT).await?;
    let state = gerrit.change(change).await?;
    let names = match job {
        Some(name) => vec![name],
        None => jobs_for(config, &state)?,
    };
    if state.change.status != ChangeStatus::New {
        tracing::warn!("change {change} is closed: perhaps nobody needs the result");
    }
    let (_store, backend) = QueueBackend::open(config).await?;
    for name in names {
        let job = manual_job(&state, patchset, name)?;
        backend.queue.publish(&job).await?;
        print(format!("queued {} for {}: {}", job.name, job.target(), sanitize(&job.change.subject)));
    }
    backend.close().await;
    Ok(Exit::Ok)
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

fn manual_job(state: &ChangeState, number: Option<PatchsetNumber>, name: JobName) -> Result<Job, Error> {
    let change = state.change.number;
    let newest = state.current().map_or(PatchsetNumber(0), |patchset| patchset.number);
    let number = number.unwrap_or(newest);
    let patchset = state.patchset(number).cloned().ok_or_else(|| {
        let message = format!("change {change} has no patch set {number}; its newest is {newest}");
        Error::permanent(ErrorKind::NotFound, message)
    })?;
    // Each call is a new event: a person who enqueues a job twice wants two runs.
    let event = EventId::manual(change, number, RunId::generate().as_str());
    let cause = Cause::new(event, Cause::MANUAL, "enqueue").with_by(std::env::var("USER").ok());
    Ok(Job::for_patchset(name, state.change.clone(), patchset, cause, Timestamp::now()))
}
