//! The pipeline inside a service that has other work: it starts, works and stops with the service.
//! Run it with `cargo run -p pushbutton-core --example service`.

#![expect(clippy::print_stdout, reason = "an example has something to show")]

use pushbutton_core::memory::{MemoryExecutor, MemoryProvisioner, MemoryQueue, MemorySource};
use pushbutton_core::{
    BuildsetReport, Error, ErrorKind, EventMatch, EventSource, Handler, JobSpec, LogLocation, Operator,
    Pipeline, Reporter, Result, Shutdown, Stage, Trigger, Triggers, async_trait, samples,
};
use tokio::sync::mpsc;

/// Hands results to the rest of the service.
struct ToService(mpsc::Sender<String>);

#[async_trait]
impl Reporter for ToService {
    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        let text = format!("{}: {}", report.target(), report.summary());
        // A temporary error is tried again for days; the service that has ended needs no report.
        let gone = |_| Error::permanent(ErrorKind::Cancelled, "the service has ended");
        self.0.send(text).await.map_err(gone)
    }

    fn name(&self) -> &str {
        "service"
    }
}

/// The CI, with the parts of your choice: `pushbutton-gerrit`, `pushbutton-store`, your own provisioner.
fn ci(source: impl EventSource + 'static, reporter: ToService) -> Result<Pipeline> {
    let recheck = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let trigger = Trigger::new("recheck", recheck, ["unit".parse()?]);
    let triggers = Triggers::compile(vec![trigger], vec!["acme-ci".into()])?;
    let unit = JobSpec::new("small".parse()?).stage(Stage::new("test".parse()?, "test.yml"));
    let (queue, logs) = (MemoryQueue::default(), LogLocation::new(std::env::temp_dir()));
    let handler = Handler::new(source, triggers, queue.clone()).with_reporter(reporter);
    let (cloud, executor) = (MemoryProvisioner::default(), MemoryExecutor::default());
    Pipeline::new(handler, Operator::new(queue, cloud, executor, [("unit".parse()?, unit)], logs))
}

#[tokio::main]
async fn main() -> Result<()> {
    let (reports, mut results) = mpsc::channel(16);
    let (upstream, source) = MemorySource::channel(16);
    let (pipeline, shutdown) = (ci(source, ToService(reports))?, Shutdown::new());

    // A task like any other. Await it: one that is aborted leaves its nodes to the orphan sweep.
    let for_ci = shutdown.clone();
    let running = tokio::spawn(async move { pipeline.run(&for_ci).await });

    // The service's own work: here it hears of a comment, and waits for what the CI says to that.
    let _ = upstream.send(samples::comment("bob", "recheck")).await;
    let result = results.recv().await;
    println!("{}", result.as_deref().unwrap_or("no result"));

    // The service stops. `begin` lets runs finish for a while; `force` returns them to the queue at once.
    shutdown.begin();
    let stopped =
        running.await.map_err(|error| Error::permanent(ErrorKind::Unexpected, error.to_string()))?;
    let (handled, worked) = stopped?;
    println!("{} event, {} run", handled.events, worked.finished);
    assert_eq!((handled.events, worked.finished, result.is_some()), (1, 1, true));
    Ok(())
}
