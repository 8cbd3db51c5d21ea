//! The command line.

use std::path::PathBuf;

use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use pushbutton_core::{ChangeNumber, HumanDuration, JobId, JobName, PatchsetNumber};

/// A third-party CI for OpenStack drivers: watches a Gerrit, tests its changes on machines of your own, comments on the review.
#[derive(Debug, Parser)]
#[command(
    name = "pushbutton-bin",
    version,
    max_term_width = 110,
    arg_required_else_help = true,
    long_about = "A third-party CI for OpenStack drivers.\n\n\
        It watches a project's Gerrit. For each change that calls for it, it makes a machine on your OpenStack cloud (or takes one \
        of a fixed list), runs Ansible playbooks there with the patch checked out, keeps the logs, takes the machine away again, \
        and leaves one comment on the review.",
    after_help = "`pushbutton-bin --help` shows first steps and exit codes.",
    after_long_help = FIRST_STEPS.to_owned() + crate::exit::HELP
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Options that every command takes.
    #[command(flatten)]
    pub(crate) global: Global,
}

const FIRST_STEPS: &str = "\
First steps:
  pushbutton-bin init                   write pushbutton.yml, with every key explained
  $EDITOR pushbutton.yml
  pushbutton-bin check                  try every connection; says what to mend
  pushbutton-bin replay stream.jsonl    what your triggers make of recorded events; touches nothing
  pushbutton-bin run                    the whole CI in one process

  More than one machine? Name a RabbitMQ under `rabbitmq:`, then run one `handler`, and as many
  `operator`s as you like.

";

/// Options that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The configuration file.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        default_value = "./pushbutton.yml",
        env = "PUSHBUTTON_CONFIG"
    )]
    pub(crate) config: PathBuf,
    /// How to write what happens.
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info].
    #[arg(long, global = true, value_name = "LEVEL", env = "RUST_LOG")]
    pub(crate) log_level: Option<String>,
    /// Show every line that a stage writes, too.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Use colours.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
}

/// Who reads what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// People: progress on standard output, log lines on standard error.
    Human,
    /// Machines: one JSON object a line, on standard error.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole CI in one process: events in, comments out.
    ///
    /// Jobs wait in a file below `state:`, or on RabbitMQ where the configuration names one. SIGINT or SIGTERM stops it gracefully: running
    /// jobs may finish within `operator.shutdown_deadline`, and are handed back after that. A second signal hands them back at once. No
    /// machine is left behind either way.
    #[command(after_long_help = "Examples:\n  pushbutton-bin run\n  \
        pushbutton-bin run --recorded stream.jsonl    work off recorded events, show the comments, end")]
    Run {
        /// Work off this recorded event stream (one JSON object a line, as `gerrit stream-events` writes it) and end. Nothing is posted: the
        /// comments are shown.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["wait", "dry_run"])]
        recorded: Option<PathBuf>,
        #[command(flatten)]
        work: Work,
        #[command(flatten)]
        start: Start,
    },
    /// Run the ingest half alone: events in, jobs onto the queue.
    ///
    /// Needs a RabbitMQ, or operators that share its `state:` folder on the same host.
    Handler {
        #[command(flatten)]
        start: Start,
    },
    /// Run the work half alone: jobs from the queue, comments out. Any number of them may run, on any number of hosts with RabbitMQ.
    ///
    /// Without a RabbitMQ it must share the handler's `state:` folder on the same host.
    Operator {
        #[command(flatten)]
        work: Work,
        #[command(flatten)]
        start: Start,
    },
    /// Try every connection, and say what to mend. Changes nothing.
    Check,
    /// Write a configuration with every key explained.
    Init {
        /// Where to. A file that is there is never overwritten.
        #[arg(value_name = "PATH", default_value = "./pushbutton.yml")]
        path: PathBuf,
    },
    /// Show what the triggers make of recorded events, and the exact comments. Offline; touches nothing; the same every time.
    #[command(after_long_help = "Record a stream with:\n  \
        ssh -p 29418 USER@review.example.org gerrit stream-events > stream.jsonl")]
    Replay {
        /// The recorded event stream: one JSON object a line.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How every job is taken to end.
        #[arg(long, value_name = "WORD", value_enum, default_value_t = VerdictWord::Success)]
        verdict: VerdictWord,
    },
    /// Put a job on the queue by hand, for a change that Gerrit knows.
    #[command(after_long_help = "Examples:\n  pushbutton-bin enqueue 12345,2\n  \
        pushbutton-bin enqueue 12345,2 --job cinder-tempest\n\nAsked twice, it runs twice.")]
    Enqueue {
        /// Number and patch set, as `12345,2`.
        #[arg(value_name = "CHANGE,PATCHSET", value_parser = target)]
        target: (ChangeNumber, PatchsetNumber),
        /// Which job. Default: every job that a trigger for the change's project and branch names.
        #[arg(long, value_name = "NAME")]
        job: Option<JobName>,
    },
    /// Run a change's jobs again, as a `recheck` on the review would.
    #[command(
        after_long_help = "Examples:\n  pushbutton-bin rerun 12345             its newest patch set\n  \
        pushbutton-bin rerun 12345,2 --job cinder-tempest"
    )]
    Rerun {
        /// Number, and patch set where it is not the newest, as `12345` or `12345,2`.
        #[arg(value_name = "CHANGE[,PATCHSET]", value_parser = some_target)]
        target: (ChangeNumber, Option<PatchsetNumber>),
        /// Which job. Default: every job that a trigger for the change's project and branch names.
        #[arg(long, value_name = "NAME")]
        job: Option<JobName>,
    },
    /// Cancel what was asked for until now: running jobs stop and are cleaned up, waiting ones will not run. On every operator.
    ///
    /// Told twice, nothing more happens. What is asked for later runs.
    #[command(after_long_help = "Examples:\n  pushbutton-bin cancel 12345            all of a change\n  \
        pushbutton-bin cancel 12345,2          of one patch set\n  \
        pushbutton-bin cancel 15379720bc5e83505f8e0b21396d63c8    one job, by the id in the comment or the log")]
    Cancel {
        /// Number, patch set if only that is meant, as `12345,2`; or a job's id.
        #[arg(value_name = "CHANGE[,PATCHSET]|JOB", value_parser = cancel_target)]
        target: CancelTarget,
        /// Only the job of this name.
        #[arg(long, value_name = "NAME")]
        job: Option<JobName>,
    },
    /// List jobs that nobody will run, put them back, or drop them.
    ///
    /// A job ends there when the lab is not set up for it (no such flavor, no such playbook), when several operators died on it, or when it
    /// cannot be read. Nobody upstream hears of it.
    Dead {
        #[command(subcommand)]
        command: DeadCommand,
    },
    /// Clear away what crashes have left on the cloud: whatever carries our owner and belongs to no run that holds a lease.
    ///
    /// Operators do so by themselves, every `sweep.every`. What is younger than `sweep.safety_age` is left alone.
    Sweep {
        /// Only show it.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop commenting on reviews, on every operator, until `unmute`. Runs go on.
    ReportGuard {
        /// Why, for the other people of the lab.
        #[arg(long, value_name = "TEXT", default_value = "a person asked for it")]
        why: String,
    },
    /// Comment on reviews again, after `mute` or after too many failures in a row.
    Unmute,
    /// Show the queue, the dead letters and the latest runs.
    Status {
        /// So many runs and dead letters.
        #[arg(long, value_name = "N", default_value_t = 10)]
        last: usize,
    },
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Show them, oldest first.
    List {
        /// So many.
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: usize,
    },
    /// Put their jobs back on the queue, with all attempts before them again.
    Requeue(Letters),
    /// Forget them; their jobs will not run.
    Drop(Letters),
}

/// Which dead letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Letters {
    /// By name, as `dead list` shows them.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All that are there.
    #[arg(long)]
    pub(crate) all: bool,
}

/// What to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CancelTarget {
    /// One job.
    Job(JobId),
    /// A change, or one patch set of it.
    Change(ChangeNumber, Option<PatchsetNumber>),
}

/// What the commands that keep running take.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Start {
    /// At start, wait so long for servers that cannot be reached yet. Once running, they are waited for without end.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) wait: HumanDuration,
}

/// What the commands that work jobs off take.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Work {
    /// Jobs at once. Overrides `operator.slots`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) slots: Option<u16>,
    /// Post nothing: append the comments to `comments.txt` in the state folder.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A verdict, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerdictWord {
    /// Every stage passed.
    Success,
    /// The tests failed.
    Failure,
    /// No machine could be had.
    NodeFailure,
    /// The infrastructure failed on every attempt.
    RetryLimit,
    /// The time limit passed.
    TimedOut,
    /// The logs could not be published.
    PostFailure,
}

fn target(text: &str) -> Result<(ChangeNumber, PatchsetNumber), String> {
    let wrong = || "write number and patch set, as 12345,2".to_owned();
    let (change, patchset) = text.split_once([',', '/']).ok_or_else(wrong)?;
    match (change.trim().parse(), patchset.trim().parse()) {
        (Ok(change), Ok(patchset)) if patchset > 0 => Ok((ChangeNumber(change), PatchsetNumber(patchset))),
        _ => Err(wrong()),
    }
}

fn some_target(text: &str) -> Result<(ChangeNumber, Option<PatchsetNumber>), String> {
    match text.trim().parse() {
        Ok(change) => Ok((ChangeNumber(change), None)),
        Err(_) => target(text).map(|(change, patchset)| (change, Some(patchset))),
    }
}

fn cancel_target(text: &str) -> Result<CancelTarget, String> {
    if let Ok((change, patchset)) = some_target(text) {
        return Ok(CancelTarget::Change(change, patchset));
    }
    let id = JobId::new(text.trim());
    id.map(CancelTarget::Job)
        .map_err(|_| "write a change, as 12345 or 12345,2, or the id of a job".to_owned())
}

fn duration(text: &str) -> Result<HumanDuration, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_target_is_a_number_and_a_patch_set() {
        assert_eq!(target("12345,2"), Ok((ChangeNumber(12345), PatchsetNumber(2))));
        for wrong in ["12345", "12345,0", "a,1", "1,b", "1,-1", ""] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
