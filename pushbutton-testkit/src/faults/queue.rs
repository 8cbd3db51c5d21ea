use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use pushbutton_core::{
    Claim, ControlMessage, ControlMessages, DeadLetter, DeadLetters, Job, JobFilter, Queue, QueueDepth,
    Result, RunId,
};

use super::{FaultPlan, Faulty, Method};

#[async_trait]
impl<T: Queue + ?Sized> Queue for Faulty<T> {
    async fn publish(&self, job: &Job) -> Result<()> {
        self.schedule.call(Method::Publish, self.inner.publish(job)).await
    }

    async fn claim(&self, filter: &JobFilter) -> Result<Box<dyn Claim>> {
        let inner = self.schedule.call(Method::Claim, self.inner.claim(filter)).await?;
        Ok(Box::new(FaultyClaim { inner, schedule: self.schedule.clone() }))
    }

    async fn broadcast(&self, message: &ControlMessage) -> Result<()> {
        self.schedule.call(Method::Broadcast, self.inner.broadcast(message)).await
    }

    async fn control_messages(&self) -> Result<ControlMessages> {
        let inner = self.schedule.call(Method::ControlMessages, self.inner.control_messages()).await?;
        let next = |(mut inner, plan): (ControlMessages, FaultPlan)| async move {
            let next = async { inner.next().await.transpose() };
            let item = plan.call(Method::NextControlMessage, next).await.transpose()?;
            Some((item, (inner, plan)))
        };
        Ok(Box::pin(futures_util::stream::unfold((inner, self.schedule.clone()), next)))
    }

    async fn depth(&self) -> Result<QueueDepth> {
        self.schedule.call(Method::Depth, self.inner.depth()).await
    }

    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        self.schedule.call(Method::LeasedRuns, self.inner.leased_runs()).await
    }
}

#[async_trait]
impl<T: DeadLetters + ?Sized> DeadLetters for Faulty<T> {
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        self.schedule.call(Method::DeadLetters, self.inner.list(limit)).await
    }

    async fn requeue(&self, letter: &str) -> Result<bool> {
        self.schedule.call(Method::RequeueDeadLetter, self.inner.requeue(letter)).await
    }

    async fn remove(&self, letter: &str) -> Result<bool> {
        self.schedule.call(Method::RemoveDeadLetter, self.inner.remove(letter)).await
    }
}

struct FaultyClaim {
    inner: Box<dyn Claim>,
    schedule: FaultPlan,
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
