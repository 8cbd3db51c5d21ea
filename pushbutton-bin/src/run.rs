//! `run`, `handler` and `operator`: the pipeline, or a half of it, until somebody wishes to stop.

use std::sync::Arc;

use pushbutton_core::pipeline::{HandlerStats, OperatorStats, PipelineBuilder};
use pushbutton_core::{ChangeStatusLookup, Handler, Operator, Pipeline};

use crate::assemble;
use crate::cli::{Global, Start, Work};
use crate::config::Config;
use crate::exit::Exit;
use crate::progress::Progress;
use crate::session::Session;

/// Both halves.
pub(crate) async fn both(config: &Config, global: &Global, work: Work, start: Start) -> anyhow::Result<Exit> {
    let Some(session) = Session::open(config, start).await? else { return Ok(Exit::Ok) };
    let triggers = assemble::triggers(config)?;
    let (source, ledger) = session.intake(&triggers);
    let mut builder = builder(config, work)
        .source(source)
        .triggers(triggers)
        .queue(session.queue())
        .ledger(ledger)
        .provisioner(assemble::provisioner(config, &session.store)?)
        .executor(assemble::executor(config)?);
    let mute = assemble::mute(config)?;
    for reporter in session.reporters(global, work, &mute) {
        builder = builder.reporter(reporter);
    }
    let journal = Arc::new(session.store.journal());
    let sweep = config.sweep.clone();
    builder = builder
        .mute(mute)
        .changes(Arc::clone(&session.gerrit) as Arc<dyn ChangeStatusLookup>)
        .supersede(assemble::supersede(config))
        .breaker(assemble::breaker(config))
        .sweep(move |sweeper| assemble::tune(sweeper, &sweep, journal));
    let pipeline = builder.build()?;
    let (intake, tally) = pipeline.run(&session.shutdown).await?;
    tell_intake(intake);
    tell_tally(tally);
    Ok(session.end().await)
}

/// The ingest half.
pub(crate) async fn handler(config: &Config, global: &Global, start: Start) -> anyhow::Result<Exit> {
    let Some(session) = Session::open(config, start).await? else { return Ok(Exit::Ok) };
    session.say_where_jobs_wait();
    let triggers = assemble::triggers(config)?;
    let (source, ledger) = session.intake(&triggers);
    let handler = Handler::new(Box::new(source), triggers, session.queue())
        .with_event_store(ledger)
        .with_supersede(assemble::supersede(config))
        .with_reporters(vec![Arc::new(Progress::new(global))]);
    tell_intake(handler.run(&session.shutdown).await?);
    Ok(session.end().await)
}

/// The work half.
pub(crate) async fn operator(
    config: &Config,
    global: &Global,
    work: Work,
    start: Start,
) -> anyhow::Result<Exit> {
    let Some(session) = Session::open(config, start).await? else { return Ok(Exit::Ok) };
    session.say_where_jobs_wait();
    let settings = &config.operator;
    let provisioner = assemble::provisioner(config, &session.store)?;
    let sweeper = assemble::sweeper(config, Arc::clone(&provisioner), session.queue(), &session.store);
    let mute = assemble::mute(config)?;
    let operator = Operator::new(
        session.queue(),
        provisioner,
        assemble::executor(config)?,
        config.jobs.clone(),
        assemble::logs(config),
    )
    .with_slots(slots(config, work))
    .with_retry_delays(settings.retry_delay.into(), settings.retry_delay_cap.into())
    .with_shutdown_deadline(settings.shutdown_deadline.into())
    .with_breaker(assemble::breaker(config))
    .with_change_status(Arc::clone(&session.gerrit) as Arc<dyn ChangeStatusLookup>)
    .with_supersede(assemble::supersede(config))
    .with_report_guard(Arc::clone(&mute))
    .with_sweeper(sweeper)
    .with_reporters(session.reporters(global, work, &mute));
    tracing::info!("waiting for jobs, {} at once", slots(config, work));
    tell_tally(operator.run(&session.shutdown).await?);
    Ok(session.end().await)
}

/// What the configuration alone says of a pipeline.
pub(crate) fn builder(config: &Config, work: Work) -> PipelineBuilder {
    let settings = &config.operator;
    let builder = Pipeline::builder()
        .logs(assemble::logs(config))
        .slots(slots(config, work))
        .retry_delays(settings.retry_delay.into(), settings.retry_delay_cap.into())
        .shutdown_deadline(settings.shutdown_deadline.into());
    config.jobs.iter().fold(builder, |builder, job| builder.job(job.clone()))
}

fn slots(config: &Config, work: Work) -> usize {
    work.slots.map_or(config.operator.slots, usize::from)
}

fn tell_intake(intake: HandlerStats) {
    tracing::info!(events = intake.events, jobs = intake.jobs, "the handler has ended");
}

fn tell_tally(tally: OperatorStats) {
    tracing::info!(finished = tally.finished, unfinished = tally.unfinished, "the operator has ended");
}
