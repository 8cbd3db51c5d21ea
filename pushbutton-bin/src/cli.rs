//! The command line.

use std::path::PathBuf;

use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use pushbutton_core::{ChangeNumber, HumanDuration, JobId, JobName, PatchsetNumber, RunId};

use crate::config::{Need, Needs};

/// A third-party CI for OpenStack drivers: watches Gerrit, tests changes on your own machines, comments on the review.
#[derive(Debug, Parser)]
#[command(
    name = "pushbutton-bin",
    version,
    max_term_width = 110,
    arg_required_else_help = true,
    long_about = "A third-party CI for OpenStack drivers.\n\n\
        It watches a project's Gerrit. For each change that matches a trigger it creates a machine on your OpenStack cloud (or \
        uses one of a fixed list), runs Ansible playbooks there with the patch checked out, keeps the logs, deletes the machine, \
        and posts one comment on the review.",
    after_help = "`pushbutton-bin --help` shows first steps and exit codes.",
    after_long_help = FIRST_STEPS.to_owned() + crate::exit::HELP
)]
pub(crate) struct Cli {
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
}

const FIRST_STEPS: &str = "\
First steps:
  pushbutton-bin init                   write pushbutton.yml, with every key explained
  $EDITOR pushbutton.yml
  pushbutton-bin check                  try every connection and say what to fix
  pushbutton-bin replay stream.jsonl    show what your triggers do with recorded events; changes nothing
  pushbutton-bin run                    run the whole CI in one process

  To use more than one host, configure `rabbitmq:`, then run a `handler` on one and an `operator`
  on each of the others.

";

/// Options of every command.
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
    /// The format of log lines.
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default:
    /// info].
    #[arg(long, global = true, value_name = "LEVEL", env = "RUST_LOG")]
    pub(crate) log_level: Option<String>,
    /// Also print every line of output of the stages.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Use colors.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people: progress on standard output, log lines on standard error.
    Human,
    /// For machines: one JSON object per line, on standard error.
    Json,
}

/// The command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole CI in one process: handler and operator.
    ///
    /// Jobs wait in a file in the `state:` folder, or on RabbitMQ if `rabbitmq:` is configured. SIGINT or SIGTERM shuts
    /// down gracefully: running jobs may finish within `operator.shutdown_deadline`, then they return to the queue.
    /// After a second signal they return to the queue at once. Machines are deleted in both cases.
    #[command(after_long_help = "Examples:\n  pushbutton-bin run\n  \
        pushbutton-bin run --recorded stream.jsonl    run the jobs of recorded events, print the comments, exit")]
    Run {
        /// Run the jobs of this recorded event stream (one JSON object per line, as `gerrit stream-events` writes it),
        /// and exit. Comments are printed, not posted.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["wait", "dry_run"])]
        recorded: Option<PathBuf>,
        #[command(flatten)]
        work: Work,
        #[command(flatten)]
        comments: Comments,
        #[command(flatten)]
        start: Start,
    },
    /// Run the ingest half: read events from Gerrit, put jobs on the queue, and post comments with their results.
    ///
    /// Its operators share the RabbitMQ of `rabbitmq:`, or run on the same host with the same `state:` folder. With
    /// RabbitMQ a second handler is a standby: it takes over when the first one ends.
    Handler {
        #[command(flatten)]
        comments: Comments,
        #[command(flatten)]
        start: Start,
    },
    /// Run the work half: claim jobs from the queue and run them.
    ///
    /// It needs no account on Gerrit: it may run without the `gerrit:` and `triggers:` sections. It claims only jobs
    /// that its configuration defines, on machines that it has.
    ///
    /// With RabbitMQ any number of operators may run, on any number of hosts. Without it they run on the handler's
    /// host, with the same
    /// `state:` folder.
    Operator {
        #[command(flatten)]
        work: Work,
        #[command(flatten)]
        start: Start,
    },
    /// Serve the dashboard alone: web pages, HTTP API and metrics, of all handlers and operators.
    ///
    /// It needs the sections `owner`, `state`, `web`, and `rabbitmq` unless it runs on the same host: no account on
    /// Gerrit, no cloud, no playbooks. `run`, `handler` and `operator` serve a dashboard, too, where `web` is configured.
    Dashboard {
        #[command(flatten)]
        start: Start,
    },
    /// Try every connection, and say what to fix. Changes nothing.
    Check {
        /// Only what `operator` needs: nothing of Gerrit.
        #[arg(long)]
        operator: bool,
        /// Only what `handler` needs: no machines, no playbooks and no logs.
        #[arg(long, conflicts_with = "operator")]
        handler: bool,
    },
    /// Ask the process that runs with this configuration on this host whether it is healthy.
    ///
    /// It gets `/healthz` from the address of `web.listen`. For the health check of a container. Exit code 0: healthy;
    /// 3: no answer within 5 seconds; 5: another answer.
    Health,
    /// Check a comment, logs, an account and the configuration against OpenStack's rules for third-party CIs.
    ///
    /// Each finding has the number of the rule, what was seen, what to do, and where the rule is written. The
    /// configuration is checked if its file exists, with the comments that it makes of sample results. Offline; changes
    /// nothing. It ends with 5 if there is something to fix or to look at.
    #[command(
        after_long_help = "Examples:\n  pushbutton-bin lint                      the configuration and its comments\n  \
        pushbutton-bin lint --comment comment.txt\n  \
        pushbutton-bin lint --logs logs/45/12345/2/cinder-tempest/RUN --name \"Acme Storage CI\""
    )]
    Lint(Lint),
    /// Write a configuration with every key explained.
    #[command(after_long_help = "Examples:\n  pushbutton-bin init\n  \
        pushbutton-bin init --compose lab     everything for docker-compose, in the folder lab")]
    Init {
        /// The file to write. An existing file is never overwritten.
        #[arg(value_name = "PATH", default_value = "./pushbutton.yml")]
        path: PathBuf,
        /// Fill in the settings of pushbutton-ci (`ci.env`, `vars.yaml`) or sos-ci (`sos-ci.conf`, `sos-ci.yaml`), and list
        /// those that have no counterpart.
        #[arg(long, value_name = "FILE")]
        from_env: Option<PathBuf>,
        /// Write a folder for docker-compose instead: docker-compose.yml, .env, pushbutton.yml, and files for the
        /// secrets.
        #[arg(long, value_name = "DIR", conflicts_with_all = ["path", "from_env"])]
        compose: Option<PathBuf>,
    },
    /// Show what the triggers do with recorded events, and the exact comments. Offline; changes nothing; the same every
    /// time.
    #[command(after_long_help = "Record a stream with:\n  pushbutton-bin record stream.jsonl\n\n\
        It decides as a handler does. What only Gerrit knows (files, standing votes, members of groups) is not \
        asked for: \
        such a trigger is shown with \"ask\", and `explain` asks.")]
    Replay {
        /// The recorded event stream: one JSON object per line.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The assumed result of every job.
        #[arg(long, value_name = "VERDICT", value_enum, default_value_t = VerdictName::Success)]
        verdict: VerdictName,
    },
    /// Explain why a change was run, or was not: each event, each trigger, each condition with what it saw, and what
    /// followed. Changes nothing.
    ///
    /// It asks Gerrit for the change, its comments and its votes, and decides on each as a handler does. Then it looks for
    /// the jobs, runs and comments that followed. Topic, hashtags and marks of the change are those of now.
    #[command(
        after_long_help = "Examples:\n  pushbutton-bin explain 12345             everything on a change\n  \
        pushbutton-bin explain 12345,2           on one patch set of it\n  \
        pushbutton-bin explain --recorded stream.jsonl    a recorded stream, offline"
    )]
    Explain {
        /// Change number, as `12345`; or number and patch set, as `12345,2`.
        #[arg(value_name = "CHANGE[,PATCHSET]", value_parser = some_target, required_unless_present = "recorded")]
        target: Option<(ChangeNumber, Option<PatchsetNumber>)>,
        /// Read this recorded event stream instead of the live Gerrit.
        #[arg(long, value_name = "FILE")]
        recorded: Option<PathBuf>,
        /// One JSON object per event, with everything that is known.
        #[arg(long)]
        json: bool,
    },
    /// Record the live event stream, until SIGINT or SIGTERM: one JSON object per line, as `gerrit stream-events` writes it.
    ///
    /// An existing file is continued. Where events may be missing there is a line with the type `dropped-output`. Events of
    /// private changes are left out. The file is readable by its owner only: it holds comments and addresses of people.
    #[command(after_long_help = "Examples:\n  pushbutton-bin record stream.jsonl\n  \
        pushbutton-bin replay stream.jsonl\n  pushbutton-bin explain --recorded stream.jsonl")]
    Record {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Enqueue a job for a patch set.
    #[command(after_long_help = "Examples:\n  pushbutton-bin enqueue 12345,2\n  \
        pushbutton-bin enqueue 12345,2 --job cinder-tempest\n\nA job that waits already is not queued a second time. One that runs or has ended is run again.")]
    Enqueue {
        /// Change number and patch set, as `12345,2`.
        #[arg(value_name = "CHANGE,PATCHSET", value_parser = target)]
        target: (ChangeNumber, PatchsetNumber),
        /// Only this job. Default: all jobs of the triggers for the change's project and branch.
        #[arg(long, value_name = "NAME")]
        job: Option<JobName>,
    },
    /// Enqueue the jobs of a change again, as a `recheck` comment does.
    #[command(
        after_long_help = "Examples:\n  pushbutton-bin rerun 12345             its newest patch set\n  \
        pushbutton-bin rerun 12345,2 --job cinder-tempest"
    )]
    Rerun {
        /// Change number, as `12345`, for the newest patch set; or number and patch set, as `12345,2`.
        #[arg(value_name = "CHANGE[,PATCHSET]", value_parser = some_target)]
        target: (ChangeNumber, Option<PatchsetNumber>),
        /// Only this job. Default: all jobs of the triggers for the change's project and branch.
        #[arg(long, value_name = "NAME")]
        job: Option<JobName>,
    },
    /// Cancel jobs, on every operator: running jobs stop and are cleaned up, waiting jobs will not run.
    ///
    /// Jobs that are queued later are not affected.
    #[command(
        after_long_help = "Examples:\n  pushbutton-bin cancel 12345            all jobs of a change\n  \
        pushbutton-bin cancel 12345,2          all jobs of one patch set\n  \
        pushbutton-bin cancel 15379720bc5e83505f8e0b21396d63c8    one job, by the id in the log"
    )]
    Cancel {
        /// Change number, as `12345`; one patch set of it, as `12345,2`; or a job id.
        #[arg(value_name = "CHANGE[,PATCHSET]|JOB", value_parser = cancel_target)]
        target: CancelTarget,
        /// Only the job of this name.
        #[arg(long, value_name = "NAME")]
        job: Option<JobName>,
    },
    /// List, requeue or drop dead letters: jobs that no operator will run.
    ///
    /// A job becomes a dead letter when the lab is not set up for it (no such flavor, no such playbook), when several
    /// operators have died while they ran it, or when it cannot be read. Nothing is posted on the review.
    Dead {
        #[command(subcommand)]
        command: DeadCommand,
    },
    /// List, retry or drop undelivered reports: results that could not be posted on the review.
    ///
    /// A report becomes undelivered when Gerrit has refused it for good, or when it was withheld because comments were
    /// muted.
    Reports {
        #[command(subcommand)]
        command: ReportsCommand,
    },
    /// Delete orphans: cloud resources of this installation that belong to no current run.
    ///
    /// Operators do this themselves, every `sweep.every`. Resources younger than `sweep.safety_age` are kept.
    Sweep {
        /// Only list the orphans.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop comments on reviews, on every handler, until `unmute`. Jobs still run, and their reports are kept.
    Mute {
        /// The reason, for the other people of the lab.
        #[arg(long, value_name = "TEXT", default_value = "a person asked for it")]
        why: String,
    },
    /// Allow comments on reviews again, after `mute` or after too many failures in a row.
    Unmute,
    /// List the latest runs, of every operator.
    Runs {
        /// The number of runs to show.
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: usize,
        /// One JSON object per line, with everything that is known.
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of one run: its stages, who cancelled it, and what became of its report.
    Show {
        /// The id of the run, as `runs` shows it.
        #[arg(value_name = "RUN")]
        run: RunId,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show handlers and operators, the queue, the dead letters, the undelivered reports and the latest runs.
    ///
    /// Of the jobs that wait it shows those for whose nodes the cloud has no room, and those that no operator can run
    /// that has announced itself within the last 40 minutes.
    Status {
        /// The number of runs, dead letters and undelivered reports to show.
        #[arg(long, value_name = "N", default_value_t = 10)]
        last: usize,
        /// One JSON object, with everything that is known.
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// What it uses of the configuration. The key of the account need not be on the host of an operator, nor clouds.yaml
    /// and the playbooks on the host of a handler; who looks at the queue needs neither.
    pub(crate) fn needs(&self) -> Needs {
        match self {
            // Events are from the file, and comments are printed.
            Self::Run { recorded: Some(_), .. } => Needs { gerrit: Need::Sections, ..Needs::ALL },
            Self::Run { .. } | Self::Check { operator: false, handler: false } | Self::Init { .. } => {
                Needs::ALL
            }
            Self::Handler { .. }
            | Self::Check { handler: true, .. }
            | Self::Record { .. }
            | Self::Enqueue { .. }
            | Self::Rerun { .. } => Needs::HANDLER,
            Self::Operator { .. } | Self::Check { operator: true, .. } => Needs::OPERATOR,
            Self::Replay { .. } => Needs { gerrit: Need::Sections, ..Needs::QUEUE },
            // A recorded stream is explained offline.
            Self::Explain { recorded: Some(_), .. } => Needs { gerrit: Need::Sections, ..Needs::QUEUE },
            Self::Explain { .. } => Needs::HANDLER,
            // It reads what the sections say, and opens none of the files that they name.
            Self::Lint(_) => Needs { gerrit: Need::Sections, nodes: Need::Sections, stages: Need::Sections },
            Self::Sweep { .. } => Needs { nodes: Need::Files, ..Needs::QUEUE },
            Self::Health
            | Self::Cancel { .. }
            | Self::Dead { .. }
            | Self::Reports { .. }
            | Self::Mute { .. }
            | Self::Unmute
            | Self::Dashboard { .. }
            | Self::Runs { .. }
            | Self::Show { .. }
            | Self::Status { .. } => Needs::QUEUE,
        }
    }
}

/// What `lint` checks.
#[derive(Debug, Args)]
pub(crate) struct Lint {
    /// The text of a comment; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) comment: Option<PathBuf>,
    /// A run's folder of logs.
    #[arg(long, value_name = "DIR")]
    pub(crate) logs: Option<PathBuf>,
    /// The full name of the account.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The mail address of the account or the wiki page.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// One JSON object per finding.
    #[arg(long)]
    pub(crate) json: bool,
    /// List all rules with their sources instead; those with - are for people to check.
    #[arg(long)]
    pub(crate) rules: bool,
}

impl Lint {
    /// Whether it checks something besides the configuration, which may then be absent.
    pub(crate) fn names_a_subject(&self) -> bool {
        self.rules
            || self.comment.is_some()
            || self.logs.is_some()
            || self.name.is_some()
            || self.email.is_some()
    }
}

/// A command about dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters, the oldest first.
    List {
        /// The number of dead letters to show.
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: usize,
    },
    /// Put their jobs back on the queue, with all their attempts.
    Requeue(Selection),
    /// Delete them; their jobs will not run.
    Drop(Selection),
}

/// A command about undelivered reports.
#[derive(Debug, Subcommand)]
pub(crate) enum ReportsCommand {
    /// List undelivered reports, the oldest first.
    List {
        /// The number of reports to show.
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: usize,
        /// One JSON object per line, with everything that is known.
        #[arg(long)]
        json: bool,
    },
    /// Deliver them again.
    Retry(Selection),
    /// Delete them; nothing is posted.
    Drop(Selection),
}

/// Which dead letters, or which reports.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Selection {
    /// Their ids, as `list` shows them.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All of them.
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

/// Options of the commands that keep running.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Start {
    /// How long to wait at start for servers that cannot be reached. A running command waits without a limit.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) wait: HumanDuration,
}

/// Options of the commands that run jobs.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Work {
    /// The number of jobs that run at once. Overrides `operator.slots`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) slots: Option<u16>,
}

/// Options of the commands that post comments.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Comments {
    /// Append comments to `comments.txt` in the state folder instead of posting them.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A verdict, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerdictName {
    /// Every stage passed.
    Success,
    /// The tests failed.
    Failure,
    /// No machine could be created.
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
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
