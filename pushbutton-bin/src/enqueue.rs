//! `enqueue` and `rerun`: jobs that a person asks for.

use jiff::Timestamp;
use pushbutton_core::pipeline::resolve_dependencies;
use pushbutton_core::{
    Buildset, Cause, Change, ChangeNumber, ChangeStatus, Dependency, Error, ErrorKind, EventId,
    InstallationId, Job, JobName, Patchset, PatchsetNumber, Queue as _, RunId, Triggers,
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
    let patchset = patchset_of(&state, patchset)?;
    let found = resolve_dependencies(&*gerrit, &state.change, patchset).await?;
    for note in &found.notes {
        tracing::warn!("a dependency is ignored: {note}");
    }
    if let Some(why) = found.unmet {
        let message = format!("change {change} cannot be tested: {why}");
        return Err(Error::permanent(ErrorKind::Invalid, message).into());
    }
    let (_store, backend) = QueueBackend::open(config).await?;
    let installation = backend.queue.installation().await?;
    for job in manual_jobs(config, &state.change, patchset, &found.list, names, &installation) {
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
        if Triggers::compile_named(vec![trigger.clone()], Vec::new(), Some("CI"))?
            .matches_project(project, branch)
        {
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

/// The patch set of this number; by default the newest.
fn patchset_of(state: &ChangeState, number: Option<PatchsetNumber>) -> Result<&Patchset, Error> {
    let change = state.change.number;
    let newest = state.current().map_or(PatchsetNumber(0), |patchset| patchset.number);
    let number = number.unwrap_or(newest);
    state.patchset(number).ok_or_else(|| {
        let message = format!("change {change} has no patch set {number}; its newest is {newest}");
        Error::permanent(ErrorKind::NotFound, message)
    })
}

/// The jobs of these names, which are reported together.
fn manual_jobs(
    config: &Config,
    change: &Change,
    patchset: &Patchset,
    dependencies: &[Dependency],
    names: Vec<JobName>,
    installation: &InstallationId,
) -> Vec<Job> {
    // Each call is a new event: a job that has ended runs again.
    let event = EventId::manual(change.number, patchset.number, RunId::generate().as_str());
    let buildset = Buildset::of(&event, names.iter().cloned()).in_installation(installation.as_str());
    let cause = Cause::new(event, Cause::MANUAL, "enqueue").with_by(std::env::var("USER").ok());
    let now = Timestamp::now();
    let job = |name: JobName| {
        let label = config.jobs.get(&name).map(|job| job.node.clone());
        Job::for_patchset(name, change.clone(), patchset.clone(), cause.clone(), now)
            .with_label(label)
            .with_dependencies(dependencies)
            .with_buildset(buildset.clone())
    };
    names.into_iter().map(job).collect()
}
