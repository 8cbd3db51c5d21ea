//! `record`: writes the live event stream to a file, until a signal.

use std::path::Path;

use pushbutton_core::CancellationToken;
use pushbutton_gerrit::{Recorder, Recording};

use crate::config::Config;
use crate::exit::Exit;
use crate::print::{count, print};
use crate::{assemble, signals};

/// Records until SIGINT or SIGTERM, and says how much.
pub(crate) async fn run(config: &Config, file: &Path) -> anyhow::Result<Exit> {
    let shutdown = signals::shutdown()?;
    let mut recorder = Recorder::new(assemble::gerrit(config)?);
    let mut recording = Recording::open(file).await?;
    let stop = CancellationToken::new();
    let stopped = async {
        shutdown.begun().await;
        stop.cancel();
        std::future::pending::<std::convert::Infallible>().await
    };
    let recorded = tokio::select! {
        recorded = recorder.run(&mut recording, &stop) => recorded,
        never = stopped => match never {},
    };
    let (events, left_out) = (count(recorder.recorded(), "event"), recorder.left_out());
    print(format!("{events} recorded in {}; {left_out} of private changes left out", file.display()));
    recorded?;
    Ok(Exit::Ok)
}
