use std::fmt;

use async_trait::async_trait;
use pushbutton_core::{Event, EventSource, Position, Result};

use super::{Fault, FaultPlan, Method};

/// Wraps an event source and injects the faults of a [`FaultPlan`].
///
/// A source reconnects by itself, so a lost response of `next` is not an error: the event arrives, and arrives again
/// later, as after a gap that the source has backfilled. [`Fault::Fail`] ends a handler, as a refused login does;
/// inject it with [`FaultPlan::next`] rather than at random.
pub struct FaultySource {
    inner: Box<dyn EventSource>,
    plan: FaultPlan,
    /// The event that the next call yields.
    pending: Option<Event>,
}

impl FaultySource {
    /// Wraps a source.
    pub fn new(inner: impl EventSource + 'static, plan: &FaultPlan) -> Self {
        Self { inner: Box::new(inner), plan: plan.clone(), pending: None }
    }

    async fn inner_next(&mut self) -> Result<Option<Event>> {
        match self.pending.take() {
            Some(event) => Ok(Some(event)),
            None => self.inner.next().await,
        }
    }
}

impl fmt::Debug for FaultySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultySource")
            .field("plan", &self.plan)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl EventSource for FaultySource {
    async fn next(&mut self) -> Result<Option<Event>> {
        match self.plan.draw(Method::NextEvent) {
            None => {}
            Some(Fault::Fail(error)) => return Err(error().during(Method::NextEvent.as_str())),
            Some(Fault::LoseResponse(_)) => {
                let event = self.inner_next().await?;
                self.pending.clone_from(&event);
                return Ok(event);
            }
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Hang) => self.plan.hang().await,
            Some(Fault::NoResponse) => {
                // Kept until a call returns it: `next` is cancel-safe, so a dropped call must lose no event.
                self.pending = self.inner_next().await?;
                self.plan.hang().await;
            }
        }
        self.inner_next().await
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        self.plan.call(Method::CommitSource, self.inner.commit(position)).await
    }
}

#[cfg(test)]
mod tests {
    use pushbutton_core::memory::MemorySource;
    use pushbutton_core::samples;

    use super::*;

    #[tokio::test]
    async fn an_event_whose_response_is_lost_arrives_twice() {
        let plan = FaultPlan::none();
        let events = vec![samples::comment("bob", "recheck"), samples::patchset_created()];
        let mut source = FaultySource::new(MemorySource::of(events.clone()), &plan);
        plan.next(Method::NextEvent, [Some(Fault::response_lost())]);
        let mut seen = Vec::new();
        while let Some(event) = source.next().await.unwrap() {
            seen.push(event.id);
        }
        assert_eq!(seen, [0, 0, 1].map(|at: usize| events[at].id.clone()));
    }
}
