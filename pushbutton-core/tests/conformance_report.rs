//! The reporter in memory keeps the contract of its trait.

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

    async fn spoken_of(&self, job: &Job) -> usize {
        self.reporter.reports().iter().filter(|report| report.job.id == job.id).count()
    }

    fn remembers(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_reporter_in_memory_keeps_the_contract() {
    report::all(async || InMemory::default()).await;
}
