//! `cancel`: stops jobs on every operator.

use jiff::Timestamp;
use pushbutton_core::{ControlMessage, JobName, Queue as _};

use crate::assemble::QueueBackend;
use crate::cli::CancelTarget;
use crate::config::Config;
use crate::exit::Exit;
use crate::print::print;

/// Cancels a job, or all jobs of a change that exist now.
pub(crate) async fn run(
    config: &Config,
    target: CancelTarget,
    name: Option<JobName>,
) -> anyhow::Result<Exit> {
    let (by, at) = (user(), Timestamp::now());
    let message = match target {
        CancelTarget::Job(job) => ControlMessage::Cancel { job, by, at },
        CancelTarget::Change(change, patchset) => {
            ControlMessage::CancelAll { change, patchset, name, by, at }
        }
    };
    broadcast(config, &message).await?;
    print("sent to every operator: running jobs stop and are cleaned up, waiting jobs will not run");
    Ok(Exit::Ok)
}

/// Sends a message to every operator.
pub(crate) async fn broadcast(config: &Config, message: &ControlMessage) -> anyhow::Result<()> {
    let (_store, backend) = QueueBackend::open(config).await?;
    backend.queue.broadcast(message).await?;
    backend.close().await;
    Ok(())
}

/// The name of the person at the keyboard, for other people's logs.
pub(crate) fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned())
}
