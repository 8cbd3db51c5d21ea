//! `runs` and `show`: what has run, on every operator, and all that is known of one run.

use std::fmt::Write as _;

use jiff::Timestamp;
use pushbutton_core::{
    ControlMessage, DeliveryRecord, DeliveryState, HumanDuration, RunHistory as _, RunId, RunRecord,
    StageStatus,
};
use serde::Serialize;

use crate::assemble::QueueBackend;
use crate::config::Config;
use crate::exit::Exit;
use crate::print::{print, sanitize};

/// How many control messages and deliveries are searched for those that concern a run.
const SEARCHED: usize = 20_000;

/// Lists the latest runs.
pub(crate) async fn list(config: &Config, last: usize, json: bool) -> anyhow::Result<Exit> {
    let (store, backend) = QueueBackend::open(config).await?;
    backend.catch_up(&store).await;
    let runs = store.history().recent(last).await?;
    backend.close().await;
    if json {
        for run in &runs {
            print(serde_json::to_string(run)?);
        }
    } else if runs.is_empty() {
        print("no runs yet");
    } else {
        print(table(&runs, Timestamp::now()).trim_end());
    }
    Ok(Exit::Ok)
}

/// One run, and what concerns it.
#[derive(Serialize)]
struct Shown {
    run: RunRecord,
    /// Control messages that affect its job, the newest first.
    actions: Vec<ControlMessage>,
    /// What became of the report that it is part of.
    delivery: Option<DeliveryRecord>,
}

/// Shows one run.
pub(crate) async fn show(config: &Config, run: &RunId, json: bool) -> anyhow::Result<Exit> {
    let (store, backend) = QueueBackend::open(config).await?;
    backend.catch_up(&store).await;
    backend.close().await;
    let history = store.history();
    let Some(run) = history.find_run(run).await? else {
        print(format!("no run {run}; `pushbutton-bin runs` lists them"));
        return Ok(Exit::NotFound);
    };
    let actions = history.actions(SEARCHED).await?.into_iter().filter(|message| message.affects(&run.job));
    let actions = actions.collect();
    let delivery =
        history.deliveries(SEARCHED).await?.into_iter().find(|it| it.buildset == run.job.buildset.id);
    let shown = Shown { run, actions, delivery };
    print(if json {
        serde_json::to_string(&shown)?
    } else {
        page(&shown, Timestamp::now()).trim_end().to_owned()
    });
    Ok(Exit::Ok)
}

/// One line for each run, and one for why it is no success.
pub(crate) fn table(runs: &[RunRecord], now: Timestamp) -> String {
    let mut table = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        table,
        "{:<19}  {:<20} {:<24} {:<14} {:>10}  {:<12} run",
        "started (UTC)", "change", "job", "result", "took", "tests"
    );
    for run in runs {
        let took = run.ended.unwrap_or(now).duration_since(run.started).unsigned_abs();
        let _ = writeln!(
            table,
            "{}  {:<20} {:<24} {:<14} {:>10}  {:<12} {}",
            run.started.strftime("%F %T"),
            run.job.target(),
            run.job.name.as_str(),
            result(run),
            HumanDuration(took).to_string(),
            tests(run),
            run.run,
        );
        if let Some(why) = run.reason.as_deref() {
            let _ = writeln!(table, "  {}", sanitize(why));
        }
    }
    table
}

fn result(run: &RunRecord) -> String {
    match &run.verdict {
        Some(verdict) => verdict.result().to_owned(),
        None => format!("{:?}", run.state).to_uppercase(),
    }
}

fn tests(run: &RunRecord) -> String {
    run.tests.map_or(String::new(), |tests| format!("{}/{}/{}", tests.passed, tests.failed, tests.skipped))
}

fn page(shown: &Shown, now: Timestamp) -> String {
    let Shown { run, actions, delivery } = shown;
    let mut page = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(page, "{name:<9} {}", sanitize(value));
    };
    line("run", run.run.as_str());
    line("job", &format!("{} ({})", run.job.name, run.job.id));
    line("change", &format!("{} {}", run.job.target(), run.job.change.subject));
    line("trigger", &run.job.cause.trigger);
    line("attempt", &run.attempt.to_string());
    line("result", &result(run));
    if let Some(why) = &run.reason {
        line("why", why);
    }
    line("started", &format!("{} UTC", run.started.strftime("%F %T")));
    let took = run.ended.unwrap_or(now).duration_since(run.started).unsigned_abs();
    line("took", &HumanDuration(took).to_string());
    if let Some(node) = &run.node {
        line("node", node);
    }
    if run.tests.is_some() {
        line("tests", &format!("{} (passed, failed, skipped)", tests(run)));
    }
    if let Some(url) = &run.log_url {
        line("logs", url);
    }
    for stage in &run.stages {
        let outcome = stage.outcome.as_ref().map_or("runs".to_owned(), |outcome| {
            let status = status(&outcome.status);
            let detail = outcome.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
            format!("{status} in {}{detail}", HumanDuration(outcome.took))
        });
        line("stage", &format!("{} {outcome}", stage.stage));
    }
    for action in actions {
        line("action", &format!("{} UTC: {action}", action.at().strftime("%F %T")));
    }
    if let Some(delivery) = delivery {
        line("report", &delivery_text(delivery));
    }
    page
}

fn status(status: &StageStatus) -> String {
    let word = serde_json::to_value(status).ok();
    word.as_ref().and_then(|word| word.as_str()).unwrap_or("ended").to_owned()
}

/// What became of a report.
pub(crate) fn delivery_text(delivery: &DeliveryRecord) -> String {
    let state = match delivery.state {
        DeliveryState::Delivered => "delivered",
        DeliveryState::Retrying => "will be tried again",
        _ => "undelivered",
    };
    let why = delivery.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{state} at {} UTC, tries: {}{why}", delivery.at.strftime("%F %T"), delivery.attempts)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pushbutton_core::{
        BuildsetReport, RunState, StageOutcome, StageRecord, TestCounts, Verdict, samples,
    };

    use super::*;

    #[test]
    fn all_that_is_known_of_a_run_is_shown_and_controls_no_terminal() {
        let job = samples::job("tempest");
        let outcome = StageOutcome::new(StageStatus::Failed, Duration::from_secs(60))
            .with_detail("task \"x\": exit 1\x1b[2J".to_owned());
        let run = RunRecord::new(RunId::new("r1").unwrap(), job.clone(), 2, samples::AT)
            .with_state(RunState::Completed)
            .with_ended(samples::AT + Duration::from_secs(65))
            .with_verdict(Verdict::Cancelled)
            .with_tests(TestCounts::new(3, 0, 1))
            .with_stages(vec![
                StageRecord::new("run".parse().unwrap(), samples::AT).with_outcome(Some(outcome)),
            ]);
        let report = BuildsetReport::new(job.buildset.id.clone(), vec![samples::success(&job)]).unwrap();
        let shown = Shown {
            run,
            actions: vec![ControlMessage::Cancel { job: job.id, by: "alice".into(), at: samples::AT }],
            delivery: Some(DeliveryRecord::new(&report, DeliveryState::Delivered, 2, samples::AT)),
        };
        let page = page(&shown, samples::AT);
        for text in [
            "run       r1",
            "result    ABORTED",
            "took      1m 05s",
            "tests     3/0/1",
            "stage     run failed in 1m 00s: task \"x\": exit 1\u{fffd}[2J",
            "cancelled by alice",
            "report    delivered at 2026-11-23 12:00:00 UTC, tries: 2",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
        assert!(table(&[shown.run], samples::AT).contains("1m 05s  3/0/1"));
    }
}
