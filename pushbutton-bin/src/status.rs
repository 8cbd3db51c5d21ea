//! `status`: the queue, the dead letters, the latest runs.

use std::fmt::Write as _;

use jiff::Timestamp;
use pushbutton_core::{
    DeadLetter, DeadLetters as _, HumanDuration, Queue as _, QueueDepth, RunHistory as _, RunRecord,
};

use crate::assemble::QueueBackend;
use crate::config::Config;
use crate::dead_letters;
use crate::exit::Exit;
use crate::print::{print, sanitize};

/// Prints all of it on one page.
pub(crate) async fn run(config: &Config, last: usize) -> anyhow::Result<Exit> {
    let (store, backend) = QueueBackend::open(config).await?;
    let (depth, dead) = (backend.queue.depth().await?, backend.dead_letters.list(last).await?);
    backend.close().await;
    let runs = store.history().recent(last).await?;
    print(page(depth, &dead, &runs, Timestamp::now()).trim_end());
    Ok(Exit::Ok)
}

fn page(depth: QueueDepth, dead: &[DeadLetter], runs: &[RunRecord], now: Timestamp) -> String {
    let mut page = String::new();
    let QueueDepth { waiting, leased, dead: dead_count, .. } = depth;
    // Writing to a String cannot fail.
    let _ = writeln!(page, "queue: {waiting} waiting, {leased} leased, {dead_count} dead");
    if !dead.is_empty() {
        let _ = writeln!(page, "\ndead letters, oldest first:\n{}", dead_letters::page(dead).trim_end());
    }
    if runs.is_empty() {
        let _ = writeln!(page, "\nno runs on this host yet");
        return page;
    }
    let _ = writeln!(page, "\nlatest runs on this host (UTC):");
    let _ = writeln!(
        page,
        "  {:<19}  {:<20} {:<24} {:<14} {:>10}  tests",
        "started", "change", "job", "result", "took"
    );
    for run in runs {
        let result = match &run.verdict {
            Some(verdict) => verdict.result().to_owned(),
            None => format!("{:?}", run.state).to_uppercase(),
        };
        let took = run.ended.unwrap_or(now).duration_since(run.started).unsigned_abs();
        let tests = run
            .tests
            .map_or(String::new(), |tests| format!("{}/{}/{}", tests.passed, tests.failed, tests.skipped));
        let _ = writeln!(
            page,
            "  {}  {:<20} {:<24} {result:<14} {:>10}  {tests}",
            run.started.strftime("%F %T"),
            run.job.target(),
            run.job.name.as_str(),
            HumanDuration(took).to_string(),
        );
        if let Some(why) = run.reason.as_deref() {
            let _ = writeln!(page, "    {}", sanitize(why));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use pushbutton_core::samples;
    use pushbutton_core::{RunId, RunState, TestCounts, Verdict};

    use super::*;

    #[test]
    fn an_empty_installation_says_so() {
        assert_eq!(
            page(QueueDepth::default(), &[], &[], samples::AT),
            "queue: 0 waiting, 0 leased, 0 dead\n\nno runs on this host yet\n"
        );
    }

    #[test]
    fn runs_and_dead_letters_are_listed() {
        let run = RunRecord::new(RunId::new("r1").unwrap(), samples::job("tempest"), 1, samples::AT)
            .with_state(RunState::Completed)
            .with_ended(samples::AT + std::time::Duration::from_secs(65))
            .with_verdict(Verdict::Success)
            .with_tests(TestCounts::new(3, 0, 1));
        let dead = DeadLetter::new("x", "no\x07 job");
        let page = page(QueueDepth::new(1, 0, 1), &[dead], &[run], samples::AT);
        assert!(
            page.contains("12345,2") && page.contains("SUCCESS") && page.contains("1m 05s  3/0/1"),
            "{page}"
        );
        assert!(page.contains("(unreadable)\n    no\u{fffd} job"), "{page}");
    }
}
