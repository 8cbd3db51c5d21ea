//! `cancel`, `mute` and `unmute`: what a person tells every operator.

use jiff::Timestamp;
use pushbutton_core::{ControlMessage, JobName};

use crate::assemble;
use crate::cli::CancelTarget;
use crate::config::Config;
use crate::exit::Exit;
use crate::out::say;

/// Cancels a job, or what was asked for on a change until now.
pub(crate) async fn cancel(
    config: &Config,
    target: CancelTarget,
    name: Option<JobName>,
) -> anyhow::Result<Exit> {
    let (by, at) = (person(), Timestamp::now());
    let notice = match target {
        CancelTarget::Job(job) => ControlMessage::Cancel { job, by, at },
        CancelTarget::Change(change, patchset) => {
            ControlMessage::CancelAll { change, patchset, name, by, at }
        }
    };
    announce(config, &notice).await?;
    say("every operator is told: what runs of it stops and is cleaned up, what waits will not run");
    Ok(Exit::Ok)
}

/// Silences the comments on reviews, on every operator.
pub(crate) async fn mute(config: &Config, why: String) -> anyhow::Result<Exit> {
    announce(config, &ControlMessage::Muted { by: person(), why, at: Timestamp::now() }).await?;
    say("muted: runs go on, and reviews hear nothing until `pushbutton-bin unmute`");
    Ok(Exit::Ok)
}

/// Lets operators comment again.
pub(crate) async fn unmute(config: &Config) -> anyhow::Result<Exit> {
    announce(config, &ControlMessage::Unmuted { by: person(), at: Timestamp::now() }).await?;
    say("unmuted: reviews hear of runs that end from now on; `rerun` what they missed");
    Ok(Exit::Ok)
}

async fn broadcast(config: &Config, notice: &ControlMessage) -> anyhow::Result<()> {
    let store = assemble::store(config).await?;
    let carrier = assemble::queue(config, &store).await?;
    let queue = carrier.shared();
    assemble::reach_queue(config, queue.as_ref(), assemble::PATIENCE).await?;
    queue.broadcast(notice).await?;
    carrier.close().await;
    Ok(())
}

/// Who is at the keyboard, for other people's logs.
fn person() -> String {
    std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned())
}
