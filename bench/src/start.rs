//! From the start of the program to its work: the handler's stream is open, the operator has claimed a job that waits.

use std::fmt::Write as _;
use std::time::Duration;

use crate::figures::{millis, quantile, setting};
use crate::program::{self, Program};
use crate::review_server::ReviewServer;
use crate::site::{Backend, Site, job};

pub(crate) struct Size {
    pub(crate) rounds: usize,
}

impl Size {
    pub(crate) fn by_hand() -> Self {
        Self { rounds: setting("BENCH_ROUNDS", 20) }
    }
}

pub(crate) async fn run(size: &Size, broker: &str) -> anyhow::Result<String> {
    let mut text = format!("{} rounds each, with a new installation each\n", size.rounds);
    for (half, consuming) in [("handler", "the event stream runs"), ("operator", "claimed")] {
        for backend in Backend::ALL {
            let mut took = Vec::new();
            for _ in 0..size.rounds {
                took.push(start(half, consuming, &Site::new(backend, broker)?).await?);
            }
            let mut at = |fraction| millis(quantile(&mut took, fraction));
            let (min, median, max) = (at(0.0), at(0.5), at(1.0));
            writeln!(
                text,
                "{half:<8} {:<9} {median:>6.1} ms median  {min:>6.1} ms min  {max:>6.1} ms max, to {consuming:?}",
                backend.name()
            )?;
        }
    }
    Ok(text)
}

async fn start(half: &str, consuming: &str, site: &Site) -> anyhow::Result<Duration> {
    let participant = site.participant().await?;
    participant.queue.publish(&job(1)?).await?;
    let server = ReviewServer::start(None).await?;
    let took = tokio::task::block_in_place(|| {
        let config = program::write_config(site.folder.path(), &server, &site.section(), "")?;
        let mut program = Program::start(half, &config, "info")?;
        program.wait_for(&[consuming])?;
        anyhow::Ok(program.began.elapsed())
    })?;
    participant.close().await;
    Ok(took)
}
