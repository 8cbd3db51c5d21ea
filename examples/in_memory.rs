//! A whole CI in one process and no server: two events go in, one of them is a recheck, one report comes out.
//! Run it with `cargo run -p pushbutton-core --example in_memory`.

#![expect(clippy::print_stdout, reason = "an example has something to show")]

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::memory::{
    FakeStage, MemoryExecutor, MemoryProvisioner, MemoryReporter, MemorySource, sample,
};
use pushbutton_core::{
    JobSpec, LogLocation, OnFailure, Pipeline, RunWhen, Shutdown, Stage, StageStatus, TestCounts, Triggers,
};

/// Rules are data (`pushbutton_core::Trigger`). A configuration file would hold this one; here it is JSON.
const RULE: &str = r#"{"name": "recheck", "on": {"comment": {"pattern": "^recheck"}}, "projects": ["openstack/*"], "jobs": ["unit"]}"#;

/// What a job's name means: a kind of node, and stages on it.
fn unit_job() -> pushbutton_core::Result<JobSpec> {
    let stage = Stage {
        name: "test".parse()?,
        playbook: "test.yml".into(),
        on_failure: OnFailure::Fail,
        run: RunWhen::OnSuccess,
        timeout: Duration::from_secs(60),
        vars: Default::default(),
    };
    Ok(JobSpec {
        name: "unit".parse()?,
        node: "small".parse()?,
        stages: vec![stage],
        vars: Default::default(),
        attempts: 3,
        boot_timeout: Duration::from_secs(60),
        timeout: Duration::from_secs(3600),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let triggers = Triggers::compile(vec![serde_json::from_str(RULE)?], vec!["acme-ci".into()])?;
    // A finite source: the pipeline ends once these are done. A live one would be pushbutton-gerrit's.
    let source =
        MemorySource::of(vec![samples::comment("alice", "looks good"), samples::comment("bob", "recheck")]);
    // An executor that runs no process: this function says what each stage does.
    let executor = MemoryExecutor::new(|_stage, context| {
        let mut script = FakeStage::ends(StageStatus::Passed).after(Duration::from_millis(20));
        script.lines = vec![format!("testing {} at {}", context.job.target(), context.job.patchset.revision)];
        script.outcome.tests = Some(TestCounts { passed: 212, failed: 0, skipped: 3 });
        script
    });
    let told = Arc::new(MemoryReporter::default());

    let pipeline = Pipeline::builder()
        .source(source)
        .triggers(triggers)
        .provisioner(Arc::new(MemoryProvisioner::default()))
        .executor(Arc::new(executor))
        .reporter(told.clone())
        .job(unit_job()?)
        .logs(LogLocation { dir: std::env::temp_dir(), url: None })
        .build()?;
    let (intake, tally) = pipeline.run(&Shutdown::new()).await?;

    println!("{} events called for {} job; {} run finished", intake.events, intake.jobs, tally.finished);
    for report in told.reports() {
        let tests = report.tests.ok_or("the run counted no tests")?;
        println!(
            "{} on {}: {}, {} tests passed",
            report.job.name,
            report.job.target(),
            report.verdict,
            tests.passed
        );
    }
    assert_eq!((intake.events, intake.jobs, tally.finished, told.reports().len()), (2, 1, 1, 1));
    Ok(())
}
