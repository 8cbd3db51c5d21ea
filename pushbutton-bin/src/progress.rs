//! Prints the progress of runs: one line per step, with the time that each stage took.

use std::io::IsTerminal as _;

use async_trait::async_trait;
use pushbutton_core::{HumanDuration, Reporter, Result, StageStatus, Update, UpdateKind, Verdict};

use crate::cli::{Global, LogFormat};
use crate::logging::is_colored;
use crate::print::{print, sanitize};

/// The reporter that writes to standard output.
#[derive(Debug)]
pub(crate) struct Progress {
    verbose: bool,
    colored: bool,
    quiet: bool,
}

impl Progress {
    /// As the options say. With JSON logs nothing is printed: the pipeline logs its steps.
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            verbose: global.verbose,
            colored: is_colored(global, std::io::stdout().is_terminal()),
            quiet: global.log_format == LogFormat::Json,
        }
    }
}

#[async_trait]
impl Reporter for Progress {
    async fn report(&self, update: &Update) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        if let Some((mark, text)) = line(update, self.verbose) {
            let (on, off) = if self.colored { (mark.color(), "\x1b[0m") } else { ("", "") };
            let at = update.at.strftime("%H:%M:%S");
            print(format!("{at} {}/{} {on}{text}{off}", update.job.target(), update.job.name));
        }
        Ok(())
    }

    fn name(&self) -> &str {
        "progress"
    }
}

/// How a line is highlighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Plain,
    Faint,
    Good,
    Bad,
    Warning,
}

impl Mark {
    fn color(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Warning => "\x1b[33m",
        }
    }
}

/// The line for a step; none for a step that is not shown.
fn line(update: &Update, verbose: bool) -> Option<(Mark, String)> {
    let took = |duration| HumanDuration(duration).to_string();
    Some(match &update.kind {
        UpdateKind::Queued => {
            let by =
                update.job.cause.by.as_deref().map(|by| format!(" by {}", sanitize(by))).unwrap_or_default();
            (
                Mark::Plain,
                format!(
                    "queued: {}{by}, trigger {}",
                    update.job.cause.kind,
                    sanitize(&update.job.cause.trigger)
                ),
            )
        }
        UpdateKind::Started => (Mark::Plain, format!("started, attempt {}", update.attempt)),
        UpdateKind::Provisioning => (Mark::Faint, "waiting for a node".into()),
        UpdateKind::NodeReady { name, address } => {
            (Mark::Plain, format!("node {} is ready at {}", sanitize(name), sanitize(address)))
        }
        UpdateKind::StageStarted { stage } => (Mark::Faint, format!("stage {stage} ...")),
        UpdateKind::Line { stage, line } if verbose => (Mark::Faint, format!("{stage} | {}", sanitize(line))),
        UpdateKind::StageEnded { stage, outcome } => {
            let (mark, word) = match outcome.status {
                StageStatus::Passed => (Mark::Good, "passed"),
                StageStatus::Failed => (Mark::Bad, "failed"),
                StageStatus::Unreachable => (Mark::Bad, "lost the node"),
                StageStatus::TimedOut => (Mark::Bad, "took too long"),
                StageStatus::Cancelled => (Mark::Warning, "was cancelled"),
                _ => (Mark::Warning, "ended"),
            };
            let tests = outcome.tests.map(|tests| {
                format!(" ({} passed, {} failed, {} skipped)", tests.passed, tests.failed, tests.skipped)
            });
            let detail = outcome.detail.as_deref().map(|detail| format!(": {}", sanitize(detail)));
            let (tests, detail) = (tests.unwrap_or_default(), detail.unwrap_or_default());
            (mark, format!("stage {stage} {word} in {}{tests}{detail}", took(outcome.took)))
        }
        UpdateKind::Retrying { why, after } => {
            (Mark::Warning, format!("will be retried in {}: {}", took(*after), sanitize(why)))
        }
        UpdateKind::HandedBack { why } => {
            (Mark::Warning, format!("ended without a result: {}", sanitize(why)))
        }
        UpdateKind::Finished { result } => {
            let mark = match result.verdict {
                Verdict::Success => Mark::Good,
                Verdict::Superseded | Verdict::Cancelled | Verdict::Skipped | Verdict::MergeConflict => {
                    Mark::Warning
                }
                _ => Mark::Bad,
            };
            let reason =
                result.reason.as_deref().map(|why| format!(": {}", sanitize(why))).unwrap_or_default();
            (mark, format!("{} in {}{reason}", result.verdict.result(), took(result.took)))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pushbutton_core::samples;
    use pushbutton_core::{StageName, StageOutcome, TestCounts};

    use super::*;

    fn shown(kind: UpdateKind, verbose: bool) -> Option<String> {
        let update = Update::new(samples::job("tempest"), kind, samples::AT);
        line(&update, verbose).map(|(_, text)| text)
    }

    #[test]
    fn a_stage_is_shown_with_its_time_and_tests() {
        let stage = StageName::new("run").unwrap();
        let outcome = StageOutcome::new(StageStatus::Failed, Duration::from_secs(65))
            .with_tests(TestCounts::new(3, 1, 0))
            .with_detail("exit\x1b[1m 1".to_owned());
        let text = shown(UpdateKind::StageEnded { stage, outcome }, false).unwrap();
        assert_eq!(text, "stage run failed in 1m 05s (3 passed, 1 failed, 0 skipped): exit\u{fffd}[1m 1");
    }

    #[test]
    fn lines_are_shown_only_with_verbose() {
        let line = || UpdateKind::Line { stage: StageName::new("run").unwrap(), line: "PLAY".into() };
        assert_eq!(shown(line(), false), None);
        assert_eq!(shown(line(), true).unwrap(), "run | PLAY");
    }
}
