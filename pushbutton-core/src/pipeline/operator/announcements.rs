//! An operator announces itself to the other participants, so that people can see what nobody can run.

use std::convert::Infallible;
use std::time::Duration;

use super::OperatorContext;
use crate::control::ControlMessage;
use crate::names::RunId;
use crate::operators::{ANNOUNCE_EVERY, OperatorState};
use crate::text::cut;

use super::no_room::NoRoom;

/// The shortest time between two announcements: a label whose room comes and goes must not flood the queue.
const PAUSE: Duration = Duration::from_secs(60);

/// How long a shutdown waits for the last announcement.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);

/// How many bytes of the cloud's last answer are announced.
const MAX_ANSWER: usize = 200;

/// What an operator says of itself, apart from what changes.
pub(super) struct Announcer {
    id: String,
    name: String,
}

impl Announcer {
    pub(super) fn new(name: String) -> Self {
        // A run's id is as unique as a process's must be.
        Self { id: RunId::generate().to_string(), name }
    }

    /// Announces the operator at its start, at intervals, at once when it claims other jobs, and soon after the labels
    /// without room have changed.
    pub(super) async fn run(&self, context: &OperatorContext) -> Infallible {
        let mut health = context.breaker.watch();
        let mut settings = context.settings.watch();
        loop {
            let filter = settings.borrow_and_update().filter.clone();
            let no_room = health.borrow_and_update().no_room.clone();
            let labels: Vec<_> = no_room.iter().map(|it| it.label.clone()).collect();
            if let Err(error) = context.queue.broadcast(&self.message(context, no_room, false)).await {
                tracing::debug!("could not announce this operator, it will be tried again: {error}");
            }
            let changed = async {
                tokio::time::sleep(PAUSE).await;
                let differ = |now: &[NoRoom]| !now.iter().map(|it| &it.label).eq(labels.iter());
                // The sender lives as long as the operator.
                let _ = health.wait_for(|health| differ(&health.no_room)).await;
            };
            tokio::select! {
                () = changed => {}
                // The sender lives as long as the operator.
                _ = settings.wait_for(|now| now.filter != filter) => {}
                () = tokio::time::sleep(ANNOUNCE_EVERY) => {}
            }
        }
    }

    /// Says that the operator has ended.
    pub(super) async fn end(&self, context: &OperatorContext) {
        let message = self.message(context, Vec::new(), true);
        let _ = tokio::time::timeout(LAST_TIMEOUT, context.queue.broadcast(&message)).await;
    }

    fn message(&self, context: &OperatorContext, mut no_room: Vec<NoRoom>, ended: bool) -> ControlMessage {
        for label in &mut no_room {
            label.last.truncate(cut(&label.last, MAX_ANSWER).len());
        }
        let (id, name, at) = (self.id.as_str(), self.name.as_str(), context.clock.now());
        let state = OperatorState::new(id, name, context.settings.get().filter.clone(), at);
        ControlMessage::Operator(state.with_no_room(no_room).with_ended(ended))
    }
}
