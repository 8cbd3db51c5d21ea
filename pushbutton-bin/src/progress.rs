//! Shows people how runs go: one line a step, with the time that each stage took.

use std::io::IsTerminal as _;

use async_trait::async_trait;
use pushbutton_core::{HumanDuration, Reporter, Result, StageStatus, Update, UpdateKind, Verdict};

use crate::cli::{Global, LogFormat};
use crate::logging::is_coloured;
use crate::out::{clean, say};

/// The reporter that writes to standard output.
#[derive(Debug)]
pub(crate) struct Progress {
    verbose: bool,
    coloured: bool,
    silent: bool,
}

impl Progress {
    /// As the options ask. With JSON logs there is no progress: the pipeline logs its steps.
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            verbose: global.verbose,
            coloured: is_coloured(global, std::io::stdout().is_terminal()),
            silent: global.log_format == LogFormat::Json,
        }
    }
}

#[async_trait]
impl Reporter for Progress {
    async fn report(&self, update: &Update) -> Result<()> {
        if self.silent {
            return Ok(());
        }
        if let Some((mark, text)) = line(update, self.verbose) {
            let (on, off) = if self.coloured { (mark.colour(), "\x1b[0m") } else { ("", "") };
            let at = update.at.strftime("%H:%M:%S");
            say(format!("{at} {}/{} {on}{text}{off}", update.job.target(), update.job.name));
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "progress"
    }
}

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Plain,
    Faint,
    Good,
    Bad,
    Doubtful,
}

impl Mark {
    fn colour(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Doubtful => "\x1b[33m",
        }
    }
}

/// What a step looks like; none for one that is not shown.
fn line(update: &Update, verbose: bool) -> Option<(Mark, String)> {
    let took = |duration| HumanDuration(duration).to_string();
    Some(match &update.kind {
        UpdateKind::Queued => {
            let by =
                update.job.cause.by.as_deref().map(|by| format!(" of {}", clean(by))).unwrap_or_default();
            (
                Mark::Plain,
                format!("queued: {}{by}, rule {}", update.job.cause.kind, clean(&update.job.cause.trigger)),
            )
        }
        UpdateKind::Started => (Mark::Plain, format!("started, attempt {}", update.attempt)),
        UpdateKind::Provisioning => (Mark::Faint, "waiting for a node".into()),
        UpdateKind::NodeReady { name, address } => {
            (Mark::Plain, format!("node {} is ready at {}", clean(name), clean(address)))
        }
        UpdateKind::StageStarted { stage } => (Mark::Faint, format!("stage {stage} ...")),
        UpdateKind::Line { stage, line } if verbose => (Mark::Faint, format!("{stage} | {}", clean(line))),
        UpdateKind::StageEnded { stage, outcome } => {
            let (mark, word) = match outcome.status {
                StageStatus::Passed => (Mark::Good, "passed"),
                StageStatus::Failed => (Mark::Bad, "failed"),
                StageStatus::Unreachable => (Mark::Bad, "lost the node"),
                StageStatus::TimedOut => (Mark::Bad, "took too long"),
                StageStatus::Cancelled => (Mark::Doubtful, "was stopped"),
            };
            let tests = outcome.tests.map(|tests| {
                format!(" ({} passed, {} failed, {} skipped)", tests.passed, tests.failed, tests.skipped)
            });
            let detail = outcome.detail.as_deref().map(|detail| format!(": {}", clean(detail)));
            let (tests, detail) = (tests.unwrap_or_default(), detail.unwrap_or_default());
            (mark, format!("stage {stage} {word} in {}{tests}{detail}", took(outcome.took)))
        }
        UpdateKind::Retrying { why, after } => {
            (Mark::Doubtful, format!("will be tried again in {}: {}", took(*after), clean(why)))
        }
        UpdateKind::HandedBack { why } => (Mark::Doubtful, format!("handed back: {}", clean(why))),
        UpdateKind::Finished { report } => {
            let mark = match report.verdict {
                Verdict::Success => Mark::Good,
                Verdict::Superseded | Verdict::Cancelled | Verdict::Skipped => Mark::Doubtful,
                _ => Mark::Bad,
            };
            let reason = report.reason.as_deref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
            (mark, format!("{} in {}{reason}", report.verdict.result(), took(report.took)))
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
        let update = Update { run: None, job: samples::job("tempest"), attempt: 1, at: samples::AT, kind };
        line(&update, verbose).map(|(_, text)| text)
    }

    #[test]
    fn a_stage_is_shown_with_its_time_and_tests() {
        let stage = StageName::new("run").unwrap();
        let outcome = StageOutcome {
            tests: Some(TestCounts { passed: 3, failed: 1, skipped: 0 }),
            detail: Some("exit\x1b[1m 1".into()),
            ..StageOutcome::new(StageStatus::Failed, Duration::from_secs(65))
        };
        let text = shown(UpdateKind::StageEnded { stage, outcome }, false).unwrap();
        assert_eq!(text, "stage run failed in 1m 05s (3 passed, 1 failed, 0 skipped): exit\u{fffd}[1m 1");
    }

    #[test]
    fn lines_are_shown_only_when_asked_for() {
        let line = || UpdateKind::Line { stage: StageName::new("run").unwrap(), line: "PLAY".into() };
        assert_eq!(shown(line(), false), None);
        assert_eq!(shown(line(), true).unwrap(), "run | PLAY");
    }
}
