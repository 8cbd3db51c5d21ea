//! The pushbutton command: a configuration, the parts that it asks for, signals and exit codes. Everything else is in the libraries.

// In the order of a start.
mod cli;
mod config;
mod exit;
mod logging;
mod out;
mod signals;

// Putting the parts together.
mod assemble;
mod mail;
mod session;
mod web;

// The commands.
mod check;
mod dead;
mod enqueue;
mod init;
mod notice;
mod progress;
mod reach;
mod recorded;
mod replay;
mod run;
mod status;
mod sweep;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit::Exit;

/// Waiting for others is most of the work: few threads do it, and each costs memory.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = logging::start(&cli.global).and_then(|()| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(THREADS).enable_all().build()?.block_on(command(cli))
    });
    let exit = ended.unwrap_or_else(|error| {
        complain(&error);
        Exit::of(&error)
    });
    exit.into()
}

async fn command(cli: Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    if let Command::Init { path } = &cli.command {
        return init::run(path);
    }
    let config = config::load(&global.config)?;
    match cli.command {
        Command::Run { recorded: Some(file), work, .. } => recorded::run(&config, global, work, &file).await,
        Command::Run { work, start, .. } => run::both(&config, global, work, start).await,
        Command::Handler { start } => run::handler(&config, global, start).await,
        Command::Operator { work, start } => run::operator(&config, global, work, start).await,
        Command::Check => check::run(&config, global).await,
        Command::Replay { file, verdict } => replay::run(&config, &file, verdict).await,
        Command::Enqueue { target: (change, patchset), job } => {
            enqueue::run(&config, change, Some(patchset), job).await
        }
        Command::Rerun { target: (change, patchset), job } => {
            enqueue::run(&config, change, patchset, job).await
        }
        Command::Cancel { target, job } => notice::cancel(&config, target, job).await,
        Command::Dead { command } => dead::run(&config, command).await,
        Command::Sweep { dry_run } => sweep::run(&config, dry_run).await,
        Command::ReportGuard { why } => notice::mute(&config, why).await,
        Command::Unmute => notice::unmute(&config).await,
        Command::Status { last } => status::run(&config, last).await,
        Command::Init { .. } => Ok(Exit::Ok),
    }
}

/// Says why it ended: the error on one line, each cause on one more.
fn complain(error: &anyhow::Error) {
    use std::io::Write as _;
    let mut text = format!("{error}");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  because: {cause}"));
    }
    // A configuration's faults are a list of their own, each of its lines with a place.
    let prefix = if error.is::<config::Faults>() { "" } else { "error: " };
    let _ = writeln!(std::io::stderr(), "{prefix}{text}");
}
