use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{Claim, DeadLetter, Job, Notice, Notices, Queue, QueueDepth, Result, RunId};

use super::{Faulty, Method, Schedule};

#[async_trait]
impl<T: Queue + ?Sized> Queue for Faulty<T> {
    async fn publish(&self, job: &Job) -> Result<()> {
        self.schedule.call(Method::Publish, self.inner.publish(job)).await
    }

    async fn claim(&self) -> Result<Box<dyn Claim>> {
        let inner = self.schedule.call(Method::Claim, self.inner.claim()).await?;
        Ok(Box::new(FaultyClaim { inner, schedule: self.schedule.clone() }))
    }

    async fn announce(&self, notice: &Notice) -> Result<()> {
        self.schedule.call(Method::Announce, self.inner.announce(notice)).await
    }

    async fn notices(&self) -> Result<Box<dyn Notices>> {
        let inner = self.schedule.call(Method::Notices, self.inner.notices()).await?;
        Ok(Box::new(FaultyNotices { inner, schedule: self.schedule.clone() }))
    }

    async fn depth(&self) -> Result<QueueDepth> {
        self.schedule.call(Method::Depth, self.inner.depth()).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        self.schedule.call(Method::DeadLetters, self.inner.dead_letters(limit)).await
    }

    async fn requeue_dead_letter(&self, letter: &str) -> Result<bool> {
        self.schedule.call(Method::RequeueDeadLetter, self.inner.requeue_dead_letter(letter)).await
    }

    async fn drop_dead_letter(&self, letter: &str) -> Result<bool> {
        self.schedule.call(Method::DropDeadLetter, self.inner.drop_dead_letter(letter)).await
    }

    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        self.schedule.call(Method::LeasedRuns, self.inner.leased_runs()).await
    }
}

struct FaultyClaim {
    inner: Box<dyn Claim>,
    schedule: Schedule,
}

#[async_trait]
impl Claim for FaultyClaim {
    fn job(&self) -> &Job {
        self.inner.job()
    }

    fn run(&self) -> &RunId {
        self.inner.run()
    }

    fn lease(&self) -> Duration {
        self.inner.lease()
    }

    async fn renew(&self) -> Result<()> {
        self.schedule.call(Method::Renew, self.inner.renew()).await
    }

    async fn complete(self: Box<Self>) -> Result<()> {
        self.schedule.call(Method::Complete, self.inner.complete()).await
    }

    async fn retry(self: Box<Self>, after: Duration, why: &str) -> Result<()> {
        self.schedule.call(Method::Retry, self.inner.retry(after, why)).await
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        self.schedule.call(Method::HandBack, self.inner.hand_back()).await
    }

    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        self.schedule.call(Method::Reject, self.inner.reject(why)).await
    }
}

struct FaultyNotices {
    inner: Box<dyn Notices>,
    schedule: Schedule,
}

#[async_trait]
impl Notices for FaultyNotices {
    async fn next(&mut self) -> Result<Notice> {
        self.schedule.call(Method::NextNotice, self.inner.next()).await
    }
}
