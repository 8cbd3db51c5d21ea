//! The reporter in memory keeps the contract of its trait.

use std::sync::Arc;

use async_trait::async_trait;
use pushbutton_core::memory::{MemoryReporter, sample};
use pushbutton_core::{Job, Reporter};
use pushbutton_testkit::conformance::report::{self, World};

#[derive(Default)]
struct InMemory {
    reporter: Arc<MemoryReporter>,
    jobs: u64,
}

#[async_trait]
impl World for InMemory {
    async fn open(&mut self) -> Arc<dyn Reporter> {
        Arc::clone(&self.reporter) as Arc<dyn Reporter>
    }

    async fn job(&mut self) -> Job {
        self.jobs += 1;
        sample::job_on(self.jobs, "tempest")
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
