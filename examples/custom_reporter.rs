//! A reporter of your own: here one that writes a team's daily digest, one line a finished run.
//! Run it with `cargo run -p pushbutton-core --example custom_reporter`.

#![expect(clippy::print_stdout, reason = "an example has something to show")]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pushbutton_core::{
    HumanDuration, Report, Reporter, Result, RunId, StageName, Update, UpdateKind, Verdict, async_trait,
    samples,
};

/// Keeps one line for each run that has ended.
///
/// The contract of [`Reporter`]: given the same `Finished` twice, also after a restart, it reports once. The map by run does that; a
/// digest that must survive restarts would keep the map in a file.
#[derive(Default)]
struct Digest(Mutex<BTreeMap<RunId, String>>);

#[async_trait]
impl Reporter for Digest {
    async fn report(&self, update: &Update) -> Result<()> {
        // Every step of every run comes here. One that a reporter does not need costs next to nothing.
        if let UpdateKind::Finished { report } = &update.kind {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.entry(report.run.clone()).or_insert_with(|| line(report));
        }
        Ok(())
    }

    fn name(&self) -> &str {
        "digest"
    }
}

/// The text is made apart from the reporter, so that it can be tested alone.
fn line(report: &Report) -> String {
    // Only the verdict decides this: a failure of the lab is never one of the patch.
    let whose = if report.verdict.is_infrastructure() { "  <- fix the lab" } else { "" };
    let (job, target, took) = (&report.job.name, report.job.target(), HumanDuration(report.took));
    format!("{target:<10} {job:<8} {:<14} {took:>10}{whose}", report.verdict.result())
}

/// What a pipeline sends at the end of a run.
fn finished(verdict: Verdict, seconds: u64) -> Update {
    let job = samples::job("tempest");
    let took = std::time::Duration::from_secs(seconds);
    let report = Report::new(RunId::generate(), job.clone(), verdict, samples::AT, took);
    let run = report.run.clone();
    Update::new(job, UpdateKind::Finished { report: Box::new(report) }, samples::AT).with_run(run)
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
        digest.report(&update).await?; // an operator that restarts may send it again
    }
    let lines = digest.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    lines.values().for_each(|line| println!("{line}"));
    assert_eq!(lines.len(), 3, "sent twice, reported once");
    Ok(())
}
