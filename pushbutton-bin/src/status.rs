//! `status`: the queue, the dead letters, the latest runs.

use std::fmt::Write as _;

use jiff::Timestamp;
use pushbutton_core::traits::DeadLetter;
use pushbutton_core::{HumanDuration, QueueDepth};
use pushbutton_store::RunRecord;

use crate::assemble;
use crate::config::Config;
use crate::exit::Exit;
use crate::out::{clean, say};

/// Shows how things stand.
pub(crate) async fn run(config: &Config, last: usize) -> anyhow::Result<Exit> {
    let store = assemble::store(config).await?;
    let carrier = assemble::queue(config, &store).await?;
    let queue = carrier.shared();
    assemble::reach_queue(config, queue.as_ref(), assemble::PATIENCE).await?;
    let (depth, dead) = (queue.depth().await?, queue.dead_letters(last).await?);
    carrier.close().await;
    let runs = store.history().recent(last).await?;
    say(page(depth, &dead, &runs, Timestamp::now()).trim_end());
    Ok(Exit::Ok)
}

fn page(depth: QueueDepth, dead: &[DeadLetter], runs: &[RunRecord], now: Timestamp) -> String {
    let mut page = String::new();
    let QueueDepth { waiting, leased, dead: dead_count } = depth;
    // Writing to a String cannot fail.
    let _ = writeln!(page, "queue: {waiting} waiting, {leased} leased, {dead_count} dead");
    if !dead.is_empty() {
        let _ = writeln!(page, "\ndead letters, oldest first:");
    }
    for letter in dead {
        let what = letter
            .job
            .as_ref()
            .map_or("(unreadable)".to_owned(), |job| format!("{}/{}", job.target(), job.name));
        let at = letter.at.map_or("-".to_owned(), |at| at.strftime("%F %T").to_string());
        let _ = writeln!(page, "  {at}  {what}\n    {}", clean(&letter.why));
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
            let _ = writeln!(page, "    {}", clean(why));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use pushbutton_core::samples;
    use pushbutton_core::{JobState, RunId, TestCounts, Verdict};

    use super::*;

    #[test]
    fn an_empty_place_says_so() {
        assert_eq!(
            page(QueueDepth::default(), &[], &[], samples::AT),
            "queue: 0 waiting, 0 leased, 0 dead\n\nno runs on this host yet\n"
        );
    }

    #[test]
    fn runs_and_dead_letters_are_listed() {
        let run = RunRecord {
            run: RunId::new("r1").unwrap(),
            job: samples::job("tempest"),
            attempt: 1,
            state: JobState::Completed,
            started: samples::AT,
            ended: Some(samples::AT + std::time::Duration::from_secs(65)),
            node: None,
            verdict: Some(Verdict::Success),
            reason: None,
            log_url: None,
            tests: Some(TestCounts { passed: 3, failed: 0, skipped: 1 }),
            stages: Vec::new(),
        };
        let dead = DeadLetter { id: "x".into(), job: None, why: "no\x07 job".into(), at: None };
        let page = page(QueueDepth { waiting: 1, leased: 0, dead: 1 }, &[dead], &[run], samples::AT);
        assert!(
            page.contains("12345,2") && page.contains("SUCCESS") && page.contains("1m 05s  3/0/1"),
            "{page}"
        );
        assert!(page.contains("(unreadable)\n    no\u{fffd} job"), "{page}");
    }
}
