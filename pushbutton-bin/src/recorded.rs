//! `run --recorded`: runs the jobs of a recorded stream, posts nothing, and prints a summary.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pushbutton_core::{
    BuildsetReport, Handler, HumanDuration, LogLocation, Pipeline, Queue, Reporter, Result, RunId, RunResult,
    Update, UpdateKind, Verdict,
};
use pushbutton_gerrit::{EventFilter, GerritConfig, RecordedStream, preview};
use pushbutton_results::RunPages;
use pushbutton_store::Store;
use url::Url;

use crate::cli::{Global, Work};
use crate::config::Config;
use crate::exit::Exit;
use crate::print::{count, print, sanitize};
use crate::progress::Progress;
use crate::{assemble, signals};

/// Runs until the stream has ended and all its jobs are done.
pub(crate) async fn run(config: &Config, global: &Global, work: Work, file: &Path) -> anyhow::Result<Exit> {
    let shutdown = signals::shutdown()?;
    let triggers = assemble::triggers(config)?;
    let filter = EventFilter::for_triggers(Arc::new(triggers.clone()));
    let source = RecordedStream::open(file, filter).await?;
    let store = assemble::store(config).await?;
    // A queue and seen events of its own: the same stream runs again tomorrow, and a live CI on this host does not take
    // its jobs.
    let folder = Scratch::new(&config.state)?;
    let own = Store::open(folder.0.join(assemble::STORE_FILE)).await?;
    let queue: Arc<dyn Queue> = Arc::new(own.queue());
    let reports = Arc::new(Reports::default());
    let needs_gerrit = triggers.lookups().is_some();
    let handler = Handler::new(source, triggers, Arc::clone(&queue))
        .with_supersede(config.supersede)
        .with_event_store(own.events())
        .with_reporter(Progress::new(global))
        .with_reporter(Arc::clone(&reports));
    // Files, votes and groups are not in a recording.
    let handler = if needs_gerrit { handler.with_lookup(assemble::gerrit(config)?) } else { handler };
    // Also with a journal and an installation id of its own: the sweep of a live CI does not take its nodes.
    let provisioner = assemble::NodeSource::new(config, &queue).await?.provisioner();
    let operator = assemble::operator(config, work, queue, provisioner, &own)?
        .with_reporter(Progress::new(global))
        .with_reporter(RunPages::new(config.logs()?.clone()))
        .with_reporter(store.history())
        .with_reporter(Arc::clone(&reports));
    let (handled, worked) = Pipeline::new(handler, operator)?.run(&shutdown).await?;
    let Kept { runs: results, buildsets } = reports.take();
    let (events, jobs) = (count(handled.events, "event"), count(handled.jobs, "job"));
    print(format!("\n{events}, {jobs}, {} finished", count(worked.finished, "run")));
    for result in &results {
        print(format!("\n{}", summary(config.logs()?, result).trim_end()));
    }
    for report in &buildsets {
        print(format!("\n{}", comment(config.gerrit()?, report).trim_end()));
    }
    let failed = |result: &RunResult| result.verdict.is_reported() && result.verdict != Verdict::Success;
    Ok(if shutdown.is_forced() {
        Exit::Interrupted
    } else if worked.finished < handled.jobs && !shutdown.has_begun() || results.iter().any(failed) {
        Exit::NotOk
    } else {
        Exit::Ok
    })
}

/// How the names of the folders begin. One that a crash has left is found by `sweep`.
pub(crate) const SCRATCH: &str = "recorded-";

/// A folder below the state folder that is deleted at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(state: &Path) -> std::io::Result<Self> {
        let folder = state.join(format!("{SCRATCH}{}", RunId::generate()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot delete {}: {error}", self.0.display());
        }
    }
}

/// Keeps the result of each run, and what is posted about each buildset.
#[derive(Default)]
struct Reports(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    runs: Vec<RunResult>,
    buildsets: Vec<BuildsetReport>,
}

impl Reports {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Kept {
        std::mem::take(&mut self.kept())
    }
}

#[async_trait]
impl Reporter for Reports {
    async fn report(&self, update: &Update) -> Result<()> {
        if let UpdateKind::Finished { result } = &update.kind {
            let runs = &mut self.kept().runs;
            if !runs.iter().any(|known| known.run == result.run) {
                runs.push(result.as_ref().clone());
            }
        }
        Ok(())
    }

    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        let buildsets = &mut self.kept().buildsets;
        if !buildsets.iter().any(|known| known.id == report.id) {
            buildsets.push(report.clone());
        }
        Ok(())
    }

    fn name(&self) -> &str {
        "summary"
    }
}

/// Change, verdict, time, tests and logs.
fn summary(logs: &LogLocation, result: &RunResult) -> String {
    let folder = logs.of(&result.run, &result.job).dir;
    let tests = result.tests.map_or("none counted".to_owned(), |tests| {
        format!("{} passed, {} failed, {} skipped", tests.passed, tests.failed, tests.skipped)
    });
    let mut text = format!(
        "change    {} of {}: {}\njob       {}\nverdict   {}\nduration  {}\ntests     {tests}\nlogs      {}\n          {}\n",
        result.job.target(),
        result.job.change.project,
        sanitize(&result.job.change.subject),
        result.job.name,
        result.verdict,
        HumanDuration(result.took),
        folder.display(),
        Url::from_file_path(&folder).map(String::from).unwrap_or_default(),
    );
    if !result.verdict.is_reported() {
        text.push_str("comment   none: this verdict is not reported\n");
    }
    text
}

/// The comment exactly as Gerrit would get it, each line behind a bar.
pub(crate) fn comment(gerrit: &GerritConfig, report: &BuildsetReport) -> String {
    let preview = preview(gerrit, report);
    let (heading, message) = preview.split_once('\n').unwrap_or((preview.as_str(), ""));
    let mut text = format!("comment   {}\n", heading.trim_start_matches("=== "));
    for line in message.trim_end().lines() {
        text.push_str(format!("  | {}", sanitize(line)).trim_end());
        text.push('\n');
    }
    text
}
