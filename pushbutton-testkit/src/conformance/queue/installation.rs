//! `Queue::installation`.

use std::sync::Arc;

use pushbutton_core::{InstallationId, Queue};
use tokio::time::timeout;

use super::{TIME_LIMIT, job, publish};

/// Every handle gives the same id, also one that is opened after all others were closed. Another queue has another id.
pub async fn an_installation_id_survives_restarts_and_is_shared(open: impl AsyncFn(&str) -> Arc<dyn Queue>) {
    let (first, second) = (open("installation").await, open("installation").await);
    let id = id_of(&*first).await;
    assert_eq!(id_of(&*first).await, id, "the same handle gives another id");
    assert_eq!(id_of(&*second).await, id, "another participant gives another id");
    publish(&*second, &job(1)).await;
    drop((first, second));
    let later = open("installation").await;
    assert_eq!(id_of(&*later).await, id, "after a restart the id is another one");
    assert_ne!(id_of(&*open("installation-of-others").await).await, id, "another queue has the same id");
}

/// Of participants that ask a new queue at the same time, all get the same id.
pub async fn participants_that_ask_at_once_get_one_installation_id(
    open: impl AsyncFn(&str) -> Arc<dyn Queue>,
) {
    for round in 0..3 {
        let name = format!("installation-at-once-{round}");
        let queues = [open(&name).await, open(&name).await, open(&name).await, open(&name).await];
        let asked = queues.iter().map(|queue| {
            let queue = Arc::clone(queue);
            tokio::spawn(async move { id_of(&*queue).await })
        });
        let mut ids = Vec::new();
        for asked in asked.collect::<Vec<_>>() {
            ids.push(asked.await.expect("asking works"));
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "participants that ask at once get {ids:?}");
    }
}

async fn id_of(queue: &dyn Queue) -> InstallationId {
    let asked = timeout(TIME_LIMIT, queue.installation()).await;
    asked.expect("an installation id is given in time").expect("asking for the installation id works")
}
