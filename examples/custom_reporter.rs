//! A reporter of your own: here one that writes a team's daily digest, one line for each result.
//! Run it with `cargo run -p pushbutton-core --example custom_reporter`.

#![expect(clippy::print_stdout, reason = "an example has something to show")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pushbutton_core::{
    BuildsetId, BuildsetReport, HumanDuration, Reporter, Result, RunId, RunResult, StageName, Verdict,
    async_trait, samples,
};

/// Keeps one line for each result of each buildset (the jobs of one event).
///
/// The contract of [`Reporter`]: given the same report twice, also after a restart, it reports once. The map by buildset does that; a
/// digest that must survive restarts would keep the map in a file.
#[derive(Default)]
struct Digest(Mutex<BTreeMap<BuildsetId, Vec<String>>>);

#[async_trait]
impl Reporter for Digest {
    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.entry(report.id.clone()).or_insert_with(|| report.results.iter().map(line).collect());
        Ok(())
    }

    fn name(&self) -> &str {
        "digest"
    }
}

/// The text is made apart from the reporter, so that it can be tested alone.
fn line(result: &RunResult) -> String {
    // Only the verdict decides this: a failure of the lab is never one of the patch.
    let whose = if result.verdict.is_infrastructure() { "  <- fix the lab" } else { "" };
    let (job, target, took) = (&result.job.name, result.job.target(), HumanDuration(result.took));
    format!("{target:<10} {job:<8} {:<14} {took:>10}{whose}", result.verdict.result())
}

/// What a handler delivers when the only job of an event on this change has ended.
fn report(change: u64, verdict: Verdict, seconds: u64) -> Option<BuildsetReport> {
    let job = samples::job_on(change, "tempest");
    let (id, took) = (job.buildset.id.clone(), Duration::from_secs(seconds));
    BuildsetReport::new(id, vec![RunResult::new(RunId::generate(), job, verdict, samples::AT, took)])
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let digest = Digest::default();
    let stage = StageName::new("run-tempest")?;
    let ended =
        [(1, Verdict::Success, 5040), (2, Verdict::Failure { stage }, 3605), (3, Verdict::NodeFailure, 61)];
    for report in ended.into_iter().filter_map(|(change, verdict, seconds)| report(change, verdict, seconds))
    {
        digest.deliver(&report).await?;
        digest.deliver(&report).await?; // a handler that restarts may deliver it again
    }
    let lines = digest.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    lines.values().flatten().for_each(|line| println!("{line}"));
    assert_eq!(lines.len(), 3, "delivered twice, reported once");
    // The suite that the real reporters must pass too. It panics with the bullet of the contract that is broken.
    conformance::report::all(async || InMemory::default()).await;
    Ok(())
}

// ---- the test ------------------------------------------------------------------------------------------------------

use pushbutton_core::Job;
use pushbutton_testkit::conformance;

/// Opens the reporter for the suite, and counts what it has reported.
#[derive(Default)]
struct InMemory(Arc<Digest>, u64);

#[async_trait]
impl conformance::report::Harness for InMemory {
    async fn open(&mut self) -> Arc<dyn Reporter> {
        self.0.clone()
    }

    async fn job(&mut self) -> Job {
        self.1 += 1;
        samples::job_on(self.1, "tempest")
    }

    async fn report_count(&self, job: &Job) -> usize {
        let lines = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get(&job.buildset.id).map_or(0, Vec::len)
    }

    /// `open` returns the same digest again, as one with a file would know it again.
    fn survives_restart(&self) -> bool {
        true
    }
}
