//! `pushbutton-bench NAME`: one benchmark, whose figures it prints. `bench/run NAME` builds what it needs first.
//!
//! It judges nothing: aims and figures stand side by side in bench/README.md.

#![expect(clippy::print_stdout, reason = "a measuring program prints")]

mod change;
mod figures;
mod in_flight;
mod ingest;
mod latency;
mod long_log;
mod overhead;
mod plain_amqp;
mod program;
mod review_server;
mod site;
mod start;
mod waiting;

use pushbutton_testbed::{Broker, Version};

use crate::site::Backend;

const USAGE: &str =
    "usage: pushbutton-bench ingest | latency | overhead | in-flight | waiting | long-log | start
The size of a benchmark is set by environment variables: see bench/README.md.";

#[tokio::main(worker_threads = 4)]
async fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    // A broker of its own: with no other queues on it, and gone with all data at the end.
    let broker = || tokio::task::block_in_place(|| Broker::private(Version::V3));
    let text = match name.as_str() {
        "ingest" => ingest::run(&ingest::Size::by_hand(), &broker().url).await?,
        "latency" => latency::run(&latency::Size::by_hand(), &broker().url).await?,
        "overhead" => overhead::run(&overhead::Size::by_hand(), &broker().url).await?,
        "in-flight" => match std::env::args().nth(2) {
            // In a process of its own, so that the memory is that of one backend.
            Some(backend) => {
                in_flight::run(&in_flight::Size::by_hand(), backend.parse()?, &broker().url).await?
            }
            None => {
                Backend::ALL.iter().try_for_each(|backend| again(&name, *backend)).map(|()| String::new())?
            }
        },
        "waiting" => waiting::run(&waiting::Size::by_hand(), &broker().url).await?,
        "long-log" => long_log::run(&long_log::Size::by_hand()).await?,
        "start" => start::run(&start::Size::by_hand(), &broker().url).await?,
        _ => anyhow::bail!(USAGE),
    };
    print!("{text}");
    Ok(())
}

/// Runs the same benchmark on one backend in a new process.
fn again(name: &str, backend: Backend) -> anyhow::Result<()> {
    let status =
        std::process::Command::new(std::env::current_exe()?).args([name, backend.name()]).status()?;
    anyhow::ensure!(status.success(), "{name} {}: {status}", backend.name());
    Ok(())
}

#[cfg(test)]
mod tests;
