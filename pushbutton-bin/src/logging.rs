//! Log lines on standard error, for people or for machines.

use std::io::IsTerminal as _;

use clap::ColorChoice;
use tracing_subscriber::EnvFilter;

use crate::cli::{Global, LogFormat};

/// For people: the steps of runs are printed on standard output already, so the pipeline does not log them too.
const HUMAN: &str = "info,pushbutton_core=warn,pushbutton_store=warn,russh=warn";
const JSON: &str = "info,pushbutton_store=warn,russh=warn";

/// Never logged, whatever the filter says: the AMQP client logs passwords at TRACE, and logs an ERROR for each lost
/// connection, which pushbutton_amqp logs and restores itself.
const SILENT: [&str; 4] = ["lapin=off", "amq_protocol=off", "amq_protocol_tcp=off", "async_rs=off"];

/// Starts logging.
///
/// # Errors
/// When the filter cannot be parsed.
pub(crate) fn start(global: &Global) -> anyhow::Result<()> {
    let default = if global.log_format == LogFormat::Json { JSON } else { HUMAN };
    let wanted = global.log_level.as_deref().filter(|level| !level.is_empty()).unwrap_or(default);
    let filter = EnvFilter::try_new(wanted).map_err(|error| {
        pushbutton_core::Error::permanent(
            pushbutton_core::ErrorKind::Config,
            format!(
                "--log-level {wanted:?} is not a filter such as info or warn,pushbutton_gerrit=debug: {error}"
            ),
        )
    })?;
    let filter =
        SILENT.into_iter().filter_map(|part| part.parse().ok()).fold(filter, EnvFilter::add_directive);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match global.log_format {
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
        LogFormat::Human => {
            log.with_ansi(is_colored(global, std::io::stderr().is_terminal())).with_target(false).try_init()
        }
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Whether to use colors: by the option, the terminal and the NO_COLOR convention.
pub(crate) fn is_colored(global: &Global, is_terminal: bool) -> bool {
    match global.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}
