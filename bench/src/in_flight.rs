//! The memory of an operator with many runs in flight. The stages do nothing but wait for each other.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pushbutton_core::memory::MemoryProvisioner;
use pushbutton_core::{
    CancellationToken, Executor, JobSpec, LineSink, LogLocation, Node, Operator, Result, Shutdown, Stage,
    StageContext, StageOutcome, StageStatus, async_trait,
};
use tokio::sync::{Barrier, watch};

use crate::figures::{Usage, mib, setting};
use crate::site::{Backend, Site, job};

pub(crate) struct Size {
    pub(crate) runs: usize,
}

impl Size {
    pub(crate) fn by_hand() -> Self {
        Self { runs: setting("BENCH_RUNS", 1_000) }
    }
}

pub(crate) struct Measured {
    pub(crate) finished: u64,
    before: Usage,
    pub(crate) all: Usage,
    took: Duration,
}

pub(crate) async fn run(size: &Size, backend: Backend, broker: &str) -> anyhow::Result<String> {
    let measured = measure(&Site::new(backend, broker)?, size.runs).await?;
    anyhow::ensure!(measured.finished == size.runs as u64, "{} runs finished", measured.finished);
    let (before, all) = (measured.before.resident_kib, measured.all.resident_kib);
    let mut text = String::new();
    writeln!(
        text,
        "{:<9} {:>6.1} MiB resident with {} runs in flight, {:.1} of them before the first; {:.1} KiB per run; all began within {:.2} s; peak to the end {:.1} MiB",
        backend.name(),
        mib(all),
        size.runs,
        mib(before),
        all.saturating_sub(before) as f64 / size.runs as f64,
        measured.took.as_secs_f64(),
        mib(Usage::own()?.peak_kib),
    )?;
    Ok(text)
}

pub(crate) async fn measure(site: &Site, runs: usize) -> anyhow::Result<Measured> {
    let participant = site.participant().await?;
    for n in 0..runs {
        participant.queue.publish(&job(n as u64)?).await?;
    }
    let (end, ends) = watch::channel(());
    let all = Arc::new(Barrier::new(runs + 1));
    let spec = JobSpec::new("small".parse()?).stage(Stage::new("test".parse()?, "test.yml"));
    let operator = Operator::new(
        Arc::clone(&participant.queue),
        MemoryProvisioner::default(),
        Waiting { all: Arc::clone(&all), ends },
        [("unit".parse()?, spec)],
        LogLocation::new(site.folder.path()),
    )
    .with_slots(runs);
    let shutdown = Shutdown::new();
    let (began, before) = (Instant::now(), Usage::own()?);
    let operating = {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { operator.run(&shutdown).await })
    };
    all.wait().await;
    let (took, usage) = (began.elapsed(), Usage::own()?);
    drop(end);
    shutdown.begin();
    let stats = operating.await??;
    participant.close().await;
    Ok(Measured { finished: stats.finished, before, all: usage, took })
}

/// A stage that waits until all have begun, and until it may end.
struct Waiting {
    all: Arc<Barrier>,
    ends: watch::Receiver<()>,
}

#[async_trait]
impl Executor for Waiting {
    async fn execute(
        &self,
        _: &Stage,
        _: &[Node],
        _: &StageContext,
        _: &LineSink,
        _: &CancellationToken,
    ) -> Result<StageOutcome> {
        let began = Instant::now();
        self.all.wait().await;
        // The error says that the sender is gone: the end.
        let _ = self.ends.clone().changed().await;
        Ok(StageOutcome::new(StageStatus::Passed, began.elapsed()))
    }
}
