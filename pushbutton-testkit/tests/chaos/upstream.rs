//! What happens upstream, and a source that has all of it: a handler that starts again goes on from its committed position.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use pushbutton_core::samples;
use pushbutton_core::{
    ChangeNumber, Event, EventId, EventMatch, EventSource, JobId, JobName, PatchsetNumber, Position, Result,
    Trigger, Triggers,
};
use tokio::time::Instant;

use crate::rng::Rng;

pub(crate) const JOBS: u64 = 200;

pub(crate) struct Upstream {
    began: Instant,
    /// Events, and when they happen.
    events: Vec<(Duration, Event)>,
    committed: Mutex<Option<Position>>,
}

/// A recheck of change `n`.
fn recheck(n: u64) -> Event {
    let mut event = samples::comment("bob", "recheck");
    event.change.number = ChangeNumber(n);
    let author = event.kind.actor().unwrap().clone();
    event.id = EventId::comment(event.change.number, event.patchset.number, &author, "recheck", 1);
    event
}

/// A newer patch set of change `n`.
fn newer(n: u64) -> Event {
    let mut event = samples::patchset_created();
    event.change.number = ChangeNumber(n);
    event.patchset.number = PatchsetNumber(3);
    event.id = EventId::patchset(event.change.number, &event.patchset);
    event
}

/// Whether the tests of change `n` fail, whoever runs them.
pub(crate) fn fails(n: u64) -> bool {
    n.is_multiple_of(5)
}

/// Whether change `n` gets a newer patch set while its job waits or runs.
pub(crate) fn is_superseded(n: u64) -> bool {
    n.is_multiple_of(11)
}

impl Upstream {
    pub(crate) fn new(mut rng: Rng) -> Self {
        let mut events = Vec::new();
        let mut at = Duration::ZERO;
        for n in 1..=JOBS {
            at += rng.between(Duration::ZERO, Duration::from_secs(60));
            events.push((at, recheck(n)));
            if is_superseded(n) {
                events.push((at + rng.between(Duration::ZERO, Duration::from_secs(1800)), newer(n)));
            }
        }
        events.sort_by_key(|(at, _)| *at);
        for (n, (_, event)) in (1..).zip(&mut events) {
            event.position = Position::at(samples::AT + SignedDuration::from_secs(n));
        }
        Self { began: Instant::now(), events, committed: Mutex::default() }
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(|(_, event)| event)
    }

    pub(crate) fn job_of(n: u64) -> JobId {
        JobId::of(&recheck(n).id, &job_name())
    }

    pub(crate) fn stream(self: &Arc<Self>) -> Stream {
        let committed = self.committed.lock().unwrap().clone();
        let seen = |event: &Event| committed.as_ref().is_some_and(|known| event.position <= *known);
        Stream { next: self.events().take_while(|event| seen(event)).count(), upstream: Arc::clone(self) }
    }
}

pub(crate) struct Stream {
    upstream: Arc<Upstream>,
    next: usize,
}

#[async_trait]
impl EventSource for Stream {
    async fn next(&mut self) -> Result<Option<Event>> {
        match self.upstream.events.get(self.next) {
            Some((at, event)) => {
                tokio::time::sleep_until(self.upstream.began + *at).await;
                self.next += 1;
                Ok(Some(event.clone()))
            }
            None => std::future::pending().await,
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        let mut committed = self.upstream.committed.lock().unwrap();
        *committed = committed.take().max(Some(position.clone()));
        Ok(())
    }
}

pub(crate) fn job_name() -> JobName {
    "tempest".parse().unwrap()
}

pub(crate) fn triggers() -> Triggers {
    let on = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
    let recheck = Trigger::new("recheck", on, [job_name()]).with_projects(["openstack/*".into()]);
    Triggers::compile(vec![recheck], vec!["acme-ci".into()]).unwrap()
}
