//! Keeps the pages of runs: a reporter that writes them whenever a stage or the run ends.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use pushbutton_core::history::RunRecord;
use pushbutton_core::{Error, ErrorKind, LogLocation, Reporter, Result, RunId, Update, UpdateKind};

use crate::index_page;

/// How long the end of a run is remembered whose page could not be written.
const GIVEN_UP: SignedDuration = SignedDuration::from_hours(1);

/// Writes `index.html` and the page of the console to each run's log folder: after each stage, so that a stage that
/// publishes the folder finds them, and when the run ends, with or without a verdict. A run without a folder gets none.
/// Clones share the runs that they know.
#[derive(Debug, Clone)]
pub struct RunPages {
    logs: LogLocation,
    runs: Arc<Mutex<HashMap<RunId, Known>>>,
}

/// What is known of a run.
#[derive(Debug, Clone)]
struct Known {
    record: RunRecord,
    /// How many steps the record has.
    version: u64,
    /// The version of the pages in its folder. Held while they are written: a writer goes on when its caller has given up.
    written: Arc<Mutex<u64>>,
}

impl RunPages {
    /// Writes to the folders of runs below this one.
    pub fn new(logs: LogLocation) -> Self {
        Self { logs, runs: Arc::default() }
    }

    /// The runs that have begun here and not ended.
    pub(crate) fn running(&self) -> HashSet<RunId> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let records = runs.values().map(|known| &known.record);
        records.filter(|record| record.ended.is_none()).map(|record| record.run.clone()).collect()
    }

    /// Enters a step; returns what is known of the run now.
    fn enter(&self, run: &RunId, update: &Update) -> Known {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        // An end whose page could not be written within a minute is not told again.
        let is_given_up = |ended| update.at.duration_since(ended) >= GIVEN_UP;
        runs.retain(|_, known| !known.record.ended.is_some_and(is_given_up));
        let known = runs.entry(run.clone()).or_insert_with(|| {
            let started = match &update.kind {
                UpdateKind::Finished { result } => result.started,
                _ => update.at,
            };
            let record = RunRecord::new(run.clone(), update.job.clone(), update.attempt, started);
            Known { record, version: 0, written: Arc::default() }
        });
        known.record.apply(update);
        known.version += 1;
        known.clone()
    }

    /// Writes the pages of a run, unless another writer has written them as new. Writers of one run take turns: one that
    /// began earlier would put its old page over a newer one. Blocks.
    fn write(&self, mut known: Known, log_dir: &Path) -> io::Result<()> {
        let written = known.written.clone();
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newest) = self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(&known.record.run)
            && Arc::ptr_eq(&newest.written, &known.written)
        {
            known = newest.clone();
        }
        if known.version <= *written || !log_dir.is_dir() {
            return Ok(());
        }
        index_page::write(log_dir, &known.record, Timestamp::now())?;
        *written = known.version;
        Ok(())
    }

    fn forget(&self, run: &RunId) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
    }
}

#[async_trait]
impl Reporter for RunPages {
    async fn report(&self, update: &Update) -> Result<()> {
        let Some(run) = update.run.clone() else { return Ok(()) };
        if matches!(update.kind, UpdateKind::Line { .. } | UpdateKind::Queued) {
            return Ok(());
        }
        let known = self.enter(&run, update);
        let has_ended = known.record.ended.is_some();
        if !has_ended && !matches!(update.kind, UpdateKind::StageEnded { .. }) {
            return Ok(());
        }
        let log_dir = self.logs.of(&run, &update.job).dir;
        let pages = self.clone();
        let written = tokio::task::spawn_blocking(move || {
            pages.write(known, &log_dir).map_err(|error| (error, log_dir))
        })
        .await;
        // `Finished` is told again after an error.
        if has_ended && (matches!(written, Ok(Ok(()))) || !matches!(update.kind, UpdateKind::Finished { .. }))
        {
            self.forget(&run);
        }
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err((error, log_dir))) => {
                let message =
                    format!("cannot write the page of a run: {error}; make room, or fix `logs.dir`");
                Err(Error::temporary(ErrorKind::Local, message)
                    .with("folder", log_dir.display())
                    .because(error))
            }
            Err(error) => {
                Err(Error::permanent(ErrorKind::Unexpected, "writing the page of a run panicked")
                    .because(error))
            }
        }
    }

    fn name(&self) -> &str {
        "pages"
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use pushbutton_core::{Job, RunResult, StageOutcome, StageStatus, Verdict, samples};

    use super::*;
    use crate::{CONSOLE_LOG, INDEX_PAGE};

    struct World {
        _folder: tempfile::TempDir,
        pages: RunPages,
        job: Job,
        run: RunId,
        log_dir: std::path::PathBuf,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let logs = LogLocation::new(folder.path());
            let (job, run) = (samples::job("tempest"), RunId::generate());
            let log_dir = logs.of(&run, &job).dir;
            Self { _folder: folder, pages: RunPages::new(logs), job, run, log_dir }
        }

        async fn tell(&self, kind: UpdateKind) -> Result<()> {
            let update = Update::new(self.job.clone(), kind, samples::AT).with_run(self.run.clone());
            self.pages.report(&update).await
        }

        fn index(&self) -> String {
            fs::read_to_string(self.log_dir.join(INDEX_PAGE)).unwrap()
        }

        fn finished(&self) -> UpdateKind {
            let verdict = Verdict::Failure { stage: "test".parse().unwrap() };
            let result =
                RunResult::new(self.run.clone(), self.job.clone(), verdict, samples::AT, Duration::ZERO)
                    .with_reason(Some("2 tests failed".to_owned()));
            UpdateKind::Finished { result: Box::new(result) }
        }
    }

    #[tokio::test]
    async fn the_page_follows_the_run_to_its_end() {
        let world = World::new();
        world.tell(UpdateKind::Started).await.unwrap();
        world.tell(UpdateKind::StageStarted { stage: "test".parse().unwrap() }).await.unwrap();
        assert_eq!(world.pages.running(), HashSet::from([world.run.clone()]));
        fs::create_dir_all(&world.log_dir).unwrap();
        fs::write(world.log_dir.join(CONSOLE_LOG), "output\n").unwrap();
        let outcome =
            StageOutcome::new(StageStatus::Failed, Duration::from_secs(1)).with_detail(Some("boom".into()));
        world.tell(UpdateKind::StageEnded { stage: "test".parse().unwrap(), outcome }).await.unwrap();
        let page = world.index();
        assert!(page.contains("RUNNING") && page.contains("boom"), "{page}");
        world.tell(world.finished()).await.unwrap();
        let page = world.index();
        assert!(
            page.contains("FAILURE") && page.contains("2 tests failed") && page.contains("boom"),
            "{page}"
        );
        assert_eq!(world.pages.running(), HashSet::new());
    }

    /// `notify` gives up a report that takes long; its writer goes on.
    #[test]
    fn a_writer_whose_caller_gave_up_does_not_replace_a_newer_page() {
        let world = World::new();
        fs::create_dir_all(&world.log_dir).unwrap();
        let console = world.log_dir.join(CONSOLE_LOG);
        fs::write(&console, "a line of a large log\n".repeat(200_000)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            world.tell(UpdateKind::Started).await.unwrap();
            let outcome = StageOutcome::new(StageStatus::Passed, Duration::from_secs(1));
            let slow = world.tell(UpdateKind::StageEnded { stage: "test".parse().unwrap(), outcome });
            tokio::time::timeout(Duration::from_millis(1), slow).await.unwrap_err();
            // The later writer has less to do.
            fs::rename(&console, world.log_dir.join("large.log")).unwrap();
            world.tell(world.finished()).await.unwrap();
            assert!(world.index().contains("FAILURE"));
        });
        // Waits for all writers.
        drop(runtime);
        let page = world.index();
        assert!(page.contains("FAILURE") && !page.contains("RUNNING"), "{page}");
    }

    #[tokio::test]
    async fn writers_of_one_run_write_its_newest_state_once() {
        let world = World::new();
        fs::create_dir_all(&world.log_dir).unwrap();
        let enter = |kind: UpdateKind| {
            let update = Update::new(world.job.clone(), kind, samples::AT).with_run(world.run.clone());
            world.pages.enter(&world.run, &update)
        };
        let (earlier, later) = (enter(UpdateKind::Started), enter(world.finished()));
        world.pages.write(earlier.clone(), &world.log_dir).unwrap();
        assert!(world.index().contains("FAILURE"));
        // What is written already is not written again, also when the run is forgotten.
        world.pages.forget(&world.run);
        fs::remove_file(world.log_dir.join(INDEX_PAGE)).unwrap();
        for known in [earlier, later] {
            world.pages.write(known, &world.log_dir).unwrap();
            assert!(!world.log_dir.join(INDEX_PAGE).exists());
        }
    }

    #[tokio::test]
    async fn a_run_that_is_retried_or_returned_has_a_page_too() {
        for kind in [
            UpdateKind::Retrying { why: "no route to host".into(), after: Duration::ZERO },
            UpdateKind::HandedBack { why: "no route to host".into() },
        ] {
            let world = World::new();
            fs::create_dir_all(&world.log_dir).unwrap();
            world.tell(UpdateKind::Started).await.unwrap();
            world.tell(kind).await.unwrap();
            let page = world.index();
            assert!(page.contains("NO RESULT") && page.contains("no route to host"), "{page}");
            assert_eq!(world.pages.running(), HashSet::new());
        }
    }

    #[tokio::test]
    async fn a_run_that_left_no_folder_gets_none() {
        let world = World::new();
        world.tell(UpdateKind::Started).await.unwrap();
        world.tell(world.finished()).await.unwrap();
        assert_eq!(fs::read_dir(world._folder.path()).unwrap().count(), 0);
        assert_eq!(world.pages.running(), HashSet::new());
    }

    #[tokio::test]
    async fn the_end_is_told_again_until_the_page_is_written() {
        let world = World::new();
        fs::create_dir_all(&world.log_dir).unwrap();
        // A folder in the place of the page: also root cannot replace it.
        fs::create_dir(world.log_dir.join(INDEX_PAGE)).unwrap();
        let error = world.tell(world.finished()).await.unwrap_err();
        assert!(error.is_temporary() && error.to_string().contains("logs.dir"), "{error}");
        let known = || world.pages.runs.lock().unwrap().len();
        assert_eq!((known(), world.pages.running()), (1, HashSet::new()));
        fs::remove_dir(world.log_dir.join(INDEX_PAGE)).unwrap();
        world.tell(world.finished()).await.unwrap();
        assert!(world.index().contains("2 tests failed"));
        assert_eq!(known(), 0);
    }
}
