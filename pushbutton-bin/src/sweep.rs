//! `sweep`: deletes what crashes have left on the cloud.

use std::sync::Arc;

use crate::assemble::{self, QueueBackend};
use crate::config::Config;
use crate::exit::Exit;
use crate::print::{count, print, sanitize};

/// Lists orphans, or deletes them.
pub(crate) async fn run(config: &Config, dry_run: bool) -> anyhow::Result<Exit> {
    let (store, backend) = QueueBackend::open(config).await?;
    let provisioner = assemble::provisioner(config)?;
    let sweeper = assemble::sweeper(config, provisioner, Arc::clone(&backend.queue), &store);
    let exit = if dry_run {
        let orphans = sweeper.plan().await?;
        for orphan in &orphans {
            print(sanitize(&orphan.to_string()));
        }
        print(format!("{} would be deleted; nothing was changed", runs(orphans.len())));
        Exit::Ok
    } else {
        let report = sweeper.sweep().await?;
        for unreleased in &report.left {
            print(format!("left: {}: {}", sanitize(&unreleased.orphan.to_string()), unreleased.error));
        }
        for orphan in &report.released {
            print(format!("deleted: {}", sanitize(&orphan.to_string())));
        }
        print(format!("{} deleted, {} left", runs(report.released.len()), report.left.len()));
        if report.left.is_empty() { Exit::Ok } else { Exit::Unexpected }
    };
    backend.close().await;
    Ok(exit)
}

fn runs(n: usize) -> String {
    count(n as u64, "orphaned run")
}
