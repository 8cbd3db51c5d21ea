//! What an operator adds to each job: the machines, the stages and the reporters do nothing.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pushbutton_core::memory::{MemoryExecutor, MemoryProvisioner};
use pushbutton_core::{
    JobSpec, LogLocation, Operator, Reporter, Result, Shutdown, Stage, Update, UpdateKind, async_trait,
};

use crate::figures::{Usage, disk_sync, millis, setting};
use crate::site::{Backend, Site, job};

pub(crate) struct Size {
    pub(crate) jobs: usize,
    pub(crate) slots: Vec<usize>,
}

impl Size {
    pub(crate) fn by_hand() -> Self {
        Self { jobs: setting("BENCH_JOBS", 500), slots: vec![1, 10] }
    }
}

pub(crate) struct Measured {
    pub(crate) finished: u64,
    pub(crate) took: Duration,
    cpu: Duration,
}

pub(crate) async fn run(size: &Size, broker: &str) -> anyhow::Result<String> {
    let mut text = format!(
        "{} jobs wait; from the start of the operator to its end after the last of them\n",
        size.jobs
    );
    writeln!(text, "{:<9} {:>6.2} ms to make 4 KiB durable on this disk", "disk", millis(disk_sync()?))?;
    for backend in Backend::ALL {
        for slots in &size.slots {
            let measured = measure(&Site::new(backend, broker)?, size.jobs, *slots).await?;
            anyhow::ensure!(measured.finished == size.jobs as u64, "{} runs finished", measured.finished);
            let each = |time: Duration| millis(time) / size.jobs as f64;
            let (took, cpu) = (each(measured.took), each(measured.cpu));
            writeln!(
                text,
                "{:<9} {took:>6.2} ms per job  {cpu:>5.2} ms of CPU  {slots} slots",
                backend.name()
            )?;
        }
    }
    Ok(text)
}

pub(crate) async fn measure(site: &Site, jobs: usize, slots: usize) -> anyhow::Result<Measured> {
    let participant = site.participant().await?;
    for n in 0..jobs {
        participant.queue.publish(&job(n as u64)?).await?;
    }
    let shutdown = Shutdown::new();
    let spec = JobSpec::new("small".parse()?).stage(Stage::new("test".parse()?, "test.yml"));
    let counting = Counting { left: AtomicUsize::new(jobs), shutdown: shutdown.clone() };
    let operator = Operator::new(
        Arc::clone(&participant.queue),
        MemoryProvisioner::default(),
        MemoryExecutor::default(),
        [("unit".parse()?, spec)],
        LogLocation::new(site.folder.path()),
    )
    .with_slots(slots)
    .with_reporter(counting);
    let (began, before) = (Instant::now(), Usage::own()?);
    let stats = operator.run(&shutdown).await?;
    let (took, cpu) = (began.elapsed(), Usage::own()?.cpu - before.cpu);
    participant.close().await;
    Ok(Measured { finished: stats.finished, took, cpu })
}

/// Ends the operator after the last job.
struct Counting {
    left: AtomicUsize,
    shutdown: Shutdown,
}

#[async_trait]
impl Reporter for Counting {
    async fn report(&self, update: &Update) -> Result<()> {
        if matches!(update.kind, UpdateKind::Finished { .. })
            && self.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.shutdown.begin();
        }
        Ok(())
    }

    fn name(&self) -> &str {
        "counting"
    }
}
