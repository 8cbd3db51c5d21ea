//! The pushbutton command: configuration, wiring, signals and exit codes. Everything else is in the libraries.

// In the order of a start.
mod cli;
mod config;
mod exit;
mod explain;
mod import;
mod logging;
mod print;
mod signals;

// The parts, and the connections to servers.
mod assemble;
mod connect;
mod file_watch;
mod mail;
mod participant;
mod progress;
mod reload;
mod runtime;
mod web;

// The commands.
mod cancel;
mod check;
mod compose;
mod dashboard;
mod dead_letters;
mod enqueue;
mod health;
mod init;
mod lint;
mod log_url_check;
mod mute;
mod record;
mod recorded;
mod replay;
mod reports;
mod run;
mod runs;
mod selection;
mod status;
mod sweep;

#[cfg(test)]
mod generated;
#[cfg(test)]
mod reference_tests;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit::Exit;

/// Most of the work is waiting for servers: few threads are enough, and each one costs memory.
const THREADS: usize = 4;

/// How long file system calls may go on at the end. Where a file server is gone they never return.
const LAST_CALLS: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = logging::start(&cli.global).and_then(|()| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(THREADS).enable_all().build()?;
        let ended = runtime.block_on(command(cli));
        runtime.shutdown_timeout(LAST_CALLS);
        ended
    });
    let exit = ended.unwrap_or_else(|error| {
        print_error(&error);
        Exit::of(&error)
    });
    exit.into()
}

async fn command(cli: Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    if let Command::Init { path, from_env, compose } = &cli.command {
        return match compose {
            Some(folder) => compose::init(folder),
            None => init::run(path, from_env.as_deref()),
        };
    }
    if let Command::Lint(options) = &cli.command {
        let is_needed = !options.names_a_subject() || !options.rules && global.config.exists();
        let config = is_needed.then(|| config::load(&global.config, cli.command.needs())).transpose()?;
        return lint::run(config.as_ref(), options);
    }
    let config = config::load(&global.config, cli.command.needs())?;
    match cli.command {
        Command::Run { recorded: Some(file), work, .. } => recorded::run(&config, global, work, &file).await,
        Command::Run { work, comments, start, .. } => run::both(&config, global, work, comments, start).await,
        Command::Handler { comments, start } => run::handler(&config, global, comments, start).await,
        Command::Operator { work, start } => run::operator(&config, global, work, start).await,
        Command::Check { .. } => check::run(&config, global, cli.command.needs()).await,
        Command::Replay { file, verdict } => replay::run(&config, &file, verdict).await,
        Command::Explain { target, recorded, json } => {
            explain::run(&config, target, recorded.as_deref(), json).await
        }
        Command::Record { file } => record::run(&config, &file).await,
        Command::Enqueue { target: (change, patchset), job } => {
            enqueue::run(&config, change, Some(patchset), job).await
        }
        Command::Rerun { target: (change, patchset), job } => {
            enqueue::run(&config, change, patchset, job).await
        }
        Command::Cancel { target, job } => cancel::run(&config, target, job).await,
        Command::Dead { command } => dead_letters::run(&config, command).await,
        Command::Reports { command } => reports::run(&config, command).await,
        Command::Sweep { dry_run } => sweep::run(&config, dry_run).await,
        Command::Mute { why } => mute::mute(&config, why).await,
        Command::Unmute => mute::unmute(&config).await,
        Command::Dashboard { start } => dashboard::run(&config, global, start).await,
        Command::Runs { last, json } => runs::list(&config, last, json).await,
        Command::Show { run, json } => runs::show(&config, &run, json).await,
        Command::Status { last, json } => status::run(&config, last, json).await,
        Command::Health => health::run(&config).await,
        Command::Init { .. } | Command::Lint(_) => Ok(Exit::Ok),
    }
}

/// Prints the error on one line, and each cause on a line of its own.
fn print_error(error: &anyhow::Error) {
    use std::io::Write as _;
    // A server's words may be in it. Lists of errors have lines.
    let clean = |text: String| text.lines().map(print::sanitize).collect::<Vec<_>>().join("\n");
    let mut text = clean(error.to_string());
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  because: {}", clean(cause.to_string())));
    }
    // Errors of the configuration are a list; each line begins with its place.
    let prefix = if error.is::<config::ConfigErrors>() { "" } else { "error: " };
    let _ = writeln!(std::io::stderr(), "{prefix}{text}");
}
