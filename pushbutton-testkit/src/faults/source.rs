use async_trait::async_trait;
use pushbutton_core::{Event, EventSource, Position, Result};

use super::{Fault, FaultPlan, Method};

/// An event source whose calls go wrong as a schedule says.
///
/// A source mends lost connections by itself, so a lost answer of `next` is no error: the event comes, and comes again later, as after
/// a gap that was filled from records. [`Fault::Fail`] ends a handler, as a refused login does; give it by list rather than by chance.
pub struct FaultySource {
    inner: Box<dyn EventSource>,
    schedule: FaultPlan,
    /// What comes again.
    again: Option<Event>,
}

impl FaultySource {
    /// Wraps a source.
    pub fn new(inner: impl EventSource + 'static, schedule: &FaultPlan) -> Self {
        Self { inner: Box::new(inner), schedule: schedule.clone(), again: None }
    }

    async fn inner_next(&mut self) -> Result<Option<Event>> {
        match self.again.take() {
            Some(event) => Ok(Some(event)),
            None => self.inner.next().await,
        }
    }
}

#[async_trait]
impl EventSource for FaultySource {
    async fn next(&mut self) -> Result<Option<Event>> {
        match self.schedule.draw(Method::NextEvent) {
            None => {}
            Some(Fault::Fail(error)) => return Err(error().during(Method::NextEvent.as_str())),
            Some(Fault::LoseAnswer(_)) => {
                let event = self.inner_next().await?;
                self.again.clone_from(&event);
                return Ok(event);
            }
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Hang) => self.schedule.hang().await,
            Some(Fault::NoAnswer) => {
                // Kept until it is handed over: a source loses no event to a call that is dropped.
                self.again = self.inner_next().await?;
                self.schedule.hang().await;
            }
        }
        self.inner_next().await
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        self.schedule.call(Method::CommitSource, self.inner.commit(position)).await
    }
}

#[cfg(test)]
mod tests {
    use pushbutton_core::memory::MemorySource;
    use pushbutton_core::samples;

    use super::*;

    #[tokio::test]
    async fn a_lost_answer_of_a_source_is_an_event_that_comes_twice() {
        let schedule = FaultPlan::none();
        let events = vec![samples::comment("bob", "recheck"), samples::patchset_created()];
        let mut source = FaultySource::new(MemorySource::of(events.clone()), &schedule);
        schedule.next(Method::NextEvent, [Some(Fault::answer_lost())]);
        let mut seen = Vec::new();
        while let Some(event) = source.next().await.unwrap() {
            seen.push(event.id);
        }
        assert_eq!(seen, [0, 0, 1].map(|at: usize| events[at].id.clone()));
    }
}
