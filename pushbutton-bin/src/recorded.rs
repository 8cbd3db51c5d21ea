//! `run --recorded`: works off a recorded stream for real, posts nothing, and sums up.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pushbutton_core::{
    HumanDuration, Report, Reporter, Result, RunId, Shutdown, Update, UpdateKind, Verdict,
};
use pushbutton_gerrit::{GerritConfig, Interest, RecordedStream, preview};
use pushbutton_store::Store;

use crate::cli::{Global, Work};
use crate::config::Config;
use crate::exit::Exit;
use crate::out::{clean, count, say};
use crate::progress::Progress;
use crate::session::was_forced;
use crate::{assemble, run, signals};

/// Works the stream off, and ends when all its jobs are done.
pub(crate) async fn run(config: &Config, global: &Global, work: Work, file: &Path) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new();
    signals::listen(shutdown.clone())?;
    let triggers = assemble::triggers(config)?;
    let source = RecordedStream::open(file, Interest::of(Arc::new(triggers.clone()))).await?;
    let store = assemble::store(config).await?;
    // A queue of its own: what was worked off yesterday is to run again today, and a live CI beside us must not take our jobs.
    let folder = Scratch::new(&config.state)?;
    let own = Store::open(folder.0.join(assemble::STORE_FILE)).await?;
    let reports = Arc::new(Reports::default());
    let pipeline = run::builder(config, work)
        .source(source)
        .triggers(triggers)
        .queue(Arc::new(assemble::embedded_queue(&own)))
        .ledger(Arc::new(own.ledger()))
        .provisioner(assemble::provisioner(config, &store)?)
        .executor(assemble::executor(config)?)
        .reporter(Arc::new(Progress::new(global)))
        .reporter(Arc::new(store.history()))
        .reporter(reports.clone())
        .build()?;
    let (intake, tally) = pipeline.run(&shutdown).await?;
    let reports = reports.all();
    let (events, jobs) = (count(intake.events, "event"), count(intake.jobs, "job"));
    say(format!("\n{events}, {jobs}, {} finished", count(tally.finished, "run")));
    for report in &reports {
        say(format!("\n{}", summary(config, report).trim_end()));
    }
    Ok(match () {
        () if was_forced(&shutdown).await => Exit::Interrupted,
        () if tally.finished < intake.jobs && !shutdown.has_begun() => Exit::NotOk,
        () if reports
            .iter()
            .any(|report| report.verdict.is_reported() && report.verdict != Verdict::Success) =>
        {
            Exit::NotOk
        }
        () => Exit::Ok,
    })
}

/// A folder below the state folder that goes with the process.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(state: &Path) -> std::io::Result<Self> {
        let folder = state.join(format!("recorded-{}", RunId::generate()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// Keeps what was said at the end of each run.
#[derive(Default)]
struct Reports(Mutex<Vec<Report>>);

impl Reports {
    fn all(&self) -> Vec<Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Reporter for Reports {
    async fn report(&self, update: &Update) -> Result<()> {
        if let UpdateKind::Finished { report } = &update.kind {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !all.iter().any(|known| known.run == report.run) {
                all.push(report.as_ref().clone());
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "summary"
    }
}

/// Change, verdict, time, tests, logs, and the comment.
fn summary(config: &Config, report: &Report) -> String {
    let folder = assemble::logs(config).of(&report.run, &report.job).dir;
    let tests = report.tests.map_or("none counted".to_owned(), |tests| {
        format!("{} passed, {} failed, {} skipped", tests.passed, tests.failed, tests.skipped)
    });
    let mut text = format!(
        "change    {} of {}: {}\njob       {}\nverdict   {}\nduration  {}\ntests     {tests}\nlogs      {}\n          {}\n",
        report.job.target(),
        report.job.change.project,
        clean(&report.job.change.subject),
        report.job.name,
        report.verdict,
        HumanDuration(report.took),
        folder.display(),
        file_url(&folder),
    );
    if report.verdict.is_reported() {
        text.push_str(&comment(&config.gerrit, report));
    } else {
        text.push_str("comment   none: nobody waits for this verdict\n");
    }
    text
}

/// The comment, exactly as Gerrit would get it, set off by bars.
pub(crate) fn comment(gerrit: &GerritConfig, report: &Report) -> String {
    let preview = preview(gerrit, report);
    let (heading, message) = preview.split_once('\n').unwrap_or((preview.as_str(), ""));
    let mut text = format!("comment   {}\n", heading.trim_start_matches("=== "));
    for line in message.trim_end().lines() {
        text.push_str(format!("  | {}", clean(line)).trim_end());
        text.push('\n');
    }
    text
}

/// The folder as a URL for a browser (RFC 8089); everything but unreserved characters is escaped.
fn file_url(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut url = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            url.push(char::from(*byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_url_with_its_odd_characters_escaped() {
        assert_eq!(file_url(Path::new("/a b/c#1")), "file:///a%20b/c%231");
    }
}
