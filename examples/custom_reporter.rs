//! A reporter of your own: here one that writes a team's daily digest, one line a finished run.
//! Run it with `cargo run -p pushbutton-core --example custom_reporter`.

#![expect(clippy::print_stdout, reason = "an example has something to show")]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use pushbutton_core::samples;
use pushbutton_core::{
    HumanDuration, Report, Reporter, Result, RunId, StageName, Update, UpdateKind, Verdict,
};

/// Keeps one line for each run that has ended.
///
/// The contract of [`Reporter`]: told the same `Finished` twice, also after a restart, it speaks once. Keyed by the run, that comes by
/// itself; a digest that must survive restarts would keep the map in a file.
#[derive(Default)]
struct Digest(Mutex<BTreeMap<RunId, String>>);

#[async_trait]
impl Reporter for Digest {
    async fn report(&self, update: &Update) -> Result<()> {
        // Every step of every run comes by; what a reporter does not care for costs next to nothing.
        if let UpdateKind::Finished { report } = &update.kind {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.entry(report.run.clone()).or_insert_with(|| line(report));
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "digest"
    }
}

/// Words apart from the reporter that says them: this can be tested alone.
fn line(report: &Report) -> String {
    // Only the verdict knows whom to blame: a failure of the lab is never one of the patch.
    let whose = if report.verdict.is_infrastructure() { "  <- ours to mend" } else { "" };
    let (job, target, took) = (&report.job.name, report.job.target(), HumanDuration(report.took));
    format!("{target:<10} {job:<8} {:<14} {took:>10}{whose}", report.verdict.result())
}

/// What a pipeline tells at the end of a run.
fn finished(verdict: Verdict, seconds: u64) -> Update {
    let job = samples::job("tempest");
    let report = Report {
        run: RunId::generate(),
        job: job.clone(),
        verdict,
        attempts: 1,
        started: samples::AT,
        took: std::time::Duration::from_secs(seconds),
        stages: Vec::new(),
        tests: None,
        log_url: None,
        reason: None,
    };
    let kind = UpdateKind::Finished { report: Box::new(report.clone()) };
    Update { run: Some(report.run), job, attempt: 1, at: samples::AT, kind }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let digest = Digest::default();
    let stage = StageName::new("run-tempest")?;
    for (verdict, seconds) in
        [(Verdict::Success, 5040), (Verdict::Failure { stage }, 3605), (Verdict::NodeFailure, 61)]
    {
        let update = finished(verdict, seconds);
        digest.report(&update).await?;
        digest.report(&update).await?; // an operator that restarts may tell it again
    }
    let lines = digest.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    lines.values().for_each(|line| println!("{line}"));
    assert_eq!(lines.len(), 3, "told twice, it speaks once");
    Ok(())
}
