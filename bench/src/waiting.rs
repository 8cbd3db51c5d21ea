//! Many jobs wait, and many operators work on them: does the time per job grow with the number of jobs?
//!
//! Each operator is a participant of its own, with its own connection, that claims a job and completes it at once. One
//! more participant delivers the reports, as a handler does.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pushbutton_core::{JobFilter, Queue};
use tokio::task::JoinSet;

use crate::figures::{Usage, disk_sync, mib, millis, setting};
use crate::site::{Backend, Participant, Site, job, success};

/// Jobs that are being published at once, as a handler does.
const PUBLISHING: usize = 64;

pub(crate) struct Size {
    pub(crate) jobs: Vec<usize>,
    pub(crate) operators: usize,
}

impl Size {
    pub(crate) fn by_hand() -> Self {
        let most = setting("BENCH_JOBS", 10_000);
        Self { jobs: vec![most / 10, most * 3 / 10, most], operators: setting("BENCH_OPERATORS", 100) }
    }
}

pub(crate) struct Measured {
    publishing: Duration,
    working: Duration,
    cpu: Duration,
    pub(crate) delivered: usize,
}

pub(crate) async fn run(size: &Size, broker: &str) -> anyhow::Result<String> {
    let mut text = format!(
        "{} operators and a handler on this machine; from the first claim to the last delivered report\n",
        size.operators
    );
    writeln!(text, "{:<9} {:>6.2} ms to make 4 KiB durable on this disk", "disk", millis(disk_sync()?))?;
    for backend in Backend::ALL {
        for jobs in &size.jobs {
            let measured = measure(&Site::new(backend, broker)?, *jobs, size.operators).await?;
            anyhow::ensure!(measured.delivered == *jobs, "{} reports were delivered", measured.delivered);
            let each = |time: Duration| millis(time) / *jobs as f64;
            writeln!(
                text,
                "{:<9} {jobs:>6} jobs  {:>6.2} ms per job published  {:>6.2} ms per job worked on  {:>6.2} ms of CPU of all participants  peak so far {:.0} MiB",
                backend.name(),
                each(measured.publishing),
                each(measured.working),
                each(measured.cpu),
                mib(Usage::own()?.peak_kib),
            )?;
        }
    }
    Ok(text)
}

pub(crate) async fn measure(site: &Site, jobs: usize, operators: usize) -> anyhow::Result<Measured> {
    let handler = site.participant().await?;
    let mut participants = Vec::new();
    for _ in 0..operators {
        participants.push(site.participant().await?);
    }
    let (began, before) = (Instant::now(), Usage::own()?);
    publish(&handler, jobs).await?;
    let publishing = began.elapsed();

    let began = Instant::now();
    let left = Arc::new(AtomicUsize::new(jobs));
    let mut working = JoinSet::new();
    for participant in &participants {
        let (queue, left) = (Arc::clone(&participant.queue), Arc::clone(&left));
        working.spawn(async move { work(queue.as_ref(), &left).await });
    }
    let mut delivered = 0;
    while delivered < jobs {
        handler.queue.claim_report().await?.done().await?;
        delivered += 1;
    }
    let took = began.elapsed();
    let cpu = Usage::own()?.cpu - before.cpu;
    // All jobs have ended: the others wait for one that does not come.
    working.shutdown().await;
    anyhow::ensure!(
        left.load(Ordering::Relaxed) == 0,
        "a report was delivered of a job that nobody completed"
    );
    for participant in participants {
        participant.close().await;
    }
    handler.close().await;
    Ok(Measured { publishing, working: took, cpu, delivered })
}

async fn publish(handler: &Participant, jobs: usize) -> anyhow::Result<()> {
    let mut publishing = JoinSet::new();
    for n in 0..jobs {
        if publishing.len() >= PUBLISHING
            && let Some(published) = publishing.join_next().await
        {
            published??;
        }
        let (queue, job) = (Arc::clone(&handler.queue), job(n as u64)?);
        publishing.spawn(async move { queue.publish(&job).await });
    }
    while let Some(published) = publishing.join_next().await {
        published??;
    }
    Ok(())
}

async fn work(queue: &dyn Queue, left: &AtomicUsize) -> pushbutton_core::Result<()> {
    loop {
        let claim = queue.claim(&JobFilter::any()).await?;
        // Before the report can be delivered.
        left.fetch_sub(1, Ordering::Relaxed);
        claim.complete(&success(claim.job())).await?;
    }
}
