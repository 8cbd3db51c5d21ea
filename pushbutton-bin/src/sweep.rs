//! `sweep`: what crashes have left on the cloud.

use crate::assemble;
use crate::config::Config;
use crate::exit::Exit;
use crate::out::{clean, count, say};

/// Shows what is orphaned, or clears it away.
pub(crate) async fn run(config: &Config, dry_run: bool) -> anyhow::Result<Exit> {
    let store = assemble::store(config).await?;
    let carrier = assemble::queue(config, &store).await?;
    let queue = carrier.shared();
    assemble::reach_queue(config, queue.as_ref(), assemble::PATIENCE).await?;
    let provisioner = assemble::provisioner(config, &store)?;
    let sweeper = assemble::sweeper(config, provisioner, queue, &store);
    let exit = if dry_run {
        let orphans = sweeper.plan().await?;
        for orphan in &orphans {
            say(clean(&orphan.to_string()));
        }
        say(format!(
            "{} would be swept away; nothing was touched",
            count(orphans.len() as u64, "orphaned run")
        ));
        Exit::Ok
    } else {
        let swept = sweeper.sweep().await?;
        for (orphan, error) in &swept.left {
            say(format!("left: {}: {error}", clean(&orphan.to_string())));
        }
        for orphan in &swept.released {
            say(format!("gone: {}", clean(&orphan.to_string())));
        }
        let gone = count(swept.released.len() as u64, "orphaned run");
        say(format!("{gone} swept away, {} left", swept.left.len()));
        if swept.left.is_empty() { Exit::Ok } else { Exit::Unexpected }
    };
    carrier.close().await;
    Ok(exit)
}
