//! Listeners to control messages.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream;
use pushbutton_core::{ControlMessage, ControlMessages, Result};
use tokio::sync::watch;

use crate::log::Listened;
use crate::queue::Tasks;
use crate::supervise::{ConnectionState, closed};

/// Control messages of the last day, then all that come.
pub(crate) fn listen(tasks: Arc<Tasks>) -> ControlMessages {
    let changes = tasks.shared().changes();
    let listener = Listener { tasks, changes, listened: Listened::default(), pending: VecDeque::new() };
    Box::pin(stream::unfold(Some(listener), |listener| async {
        let mut listener = listener?;
        let next = listener.next().await;
        // An error is permanent and ends the stream.
        let listener = next.is_ok().then_some(listener);
        Some((next, listener))
    }))
}

struct Listener {
    tasks: Arc<Tasks>,
    changes: watch::Receiver<u64>,
    listened: Listened,
    pending: VecDeque<String>,
}

impl Listener {
    async fn next(&mut self) -> Result<ControlMessage> {
        let shared = Arc::clone(self.tasks.shared());
        let mut connection = shared.connection();
        loop {
            while let Some(text) = self.pending.pop_front() {
                match serde_json::from_str(&text) {
                    Ok(message) => return Ok(message),
                    Err(error) => {
                        tracing::warn!("skipping a control message that is not understood: {error}")
                    }
                }
            }
            self.changes.mark_unchanged();
            if self.collect() {
                continue;
            }
            if let ConnectionState::Down { permanent: true, .. } = &*connection.borrow_and_update() {
                break;
            }
            tokio::select! {
                _ = self.changes.changed() => {}
                _ = connection.changed() => {}
                () = shared.stop.cancelled() => return Err(closed()),
            }
        }
        shared.session(None).await.and(Err(closed()))
    }

    /// Takes new messages from the state; whether there were any.
    fn collect(&mut self) -> bool {
        let replica = self.tasks.shared().replica();
        let Some(state) = replica.state() else { return false };
        self.pending.extend(self.listened.new_messages(&state.messages));
        !self.pending.is_empty()
    }
}
