//! `sweep`: deletes what crashes have left on the cloud.

use std::path::PathBuf;
use std::sync::Arc;

use pushbutton_core::{Queue, Sweeper};
use pushbutton_store::Store;

use crate::assemble::{self, QueueBackend, STORE_FILE};
use crate::config::Config;
use crate::exit::Exit;
use crate::print::{count, print, sanitize};
use crate::recorded::SCRATCH;

/// Lists orphans, or deletes them: those of the queue, and those of each `run --recorded` that has crashed.
pub(crate) async fn run(config: &Config, dry_run: bool) -> anyhow::Result<Exit> {
    let (store, backend) = QueueBackend::open(config).await?;
    let mut sweepers = vec![sweeper(config, Arc::clone(&backend.queue), &store).await?];
    for file in recorded(config)? {
        let store = Store::open(file).await?;
        sweepers.push(sweeper(config, Arc::new(store.queue()), &store).await?);
    }
    let (mut planned, mut released, mut left) = (0, 0, 0);
    for sweeper in sweepers {
        if dry_run {
            let orphans = sweeper.plan().await?;
            for orphan in &orphans {
                print(sanitize(&orphan.to_string()));
            }
            planned += orphans.len();
        } else {
            let report = sweeper.sweep().await?;
            for unreleased in &report.left {
                print(format!("left: {}: {}", sanitize(&unreleased.orphan.to_string()), unreleased.error));
            }
            for orphan in &report.released {
                print(format!("deleted: {}", sanitize(&orphan.to_string())));
            }
            (released, left) = (released + report.released.len(), left + report.left.len());
        }
    }
    print(match dry_run {
        true => format!("{} would be deleted; nothing was changed", runs(planned)),
        false => format!("{} deleted, {left} left", runs(released)),
    });
    backend.close().await;
    Ok(if left == 0 { Exit::Ok } else { Exit::Unexpected })
}

async fn sweeper(config: &Config, queue: Arc<dyn Queue>, store: &Store) -> anyhow::Result<Sweeper> {
    let provisioner = assemble::NodeSource::new(config, &queue).await?.provisioner();
    Ok(assemble::sweeper(config, provisioner, queue, store))
}

/// The stores of all `run --recorded` that have not ended orderly. One that still runs has leases in its queue.
fn recorded(config: &Config) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&config.state)? {
        let entry = entry?;
        let file = entry.path().join(STORE_FILE);
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) && file.exists() {
            files.push(file);
        }
    }
    Ok(files)
}

fn runs(n: usize) -> String {
    count(n as u64, "orphaned run")
}
