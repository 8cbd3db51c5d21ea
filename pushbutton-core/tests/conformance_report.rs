//! `MemoryReporter` keeps the contract of `Reporter`.

use std::sync::Arc;

use async_trait::async_trait;
use pushbutton_core::memory::MemoryReporter;
use pushbutton_core::samples;
use pushbutton_core::{Job, Reporter};
use pushbutton_testkit::conformance::report::{self, Harness};

#[derive(Default)]
struct InMemory {
    reporter: Arc<MemoryReporter>,
    jobs: u64,
}

#[async_trait]
impl Harness for InMemory {
    async fn open(&mut self) -> Arc<dyn Reporter> {
        Arc::clone(&self.reporter) as Arc<dyn Reporter>
    }

    async fn job(&mut self) -> Job {
        self.jobs += 1;
        samples::job_on(self.jobs, "tempest")
    }

    async fn report_count(&self, job: &Job) -> usize {
        self.reporter.delivered().iter().filter(|report| report.id == job.buildset.id).count()
    }

    fn survives_restart(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_memory_reporter_keeps_the_contract() {
    report::all(async || InMemory::default()).await;
}
