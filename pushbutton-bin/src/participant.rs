//! Tells the others, through the history, how this process is: at the start, after each change, at intervals and at the
//! end.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pushbutton_core::pipeline::Muted;
use pushbutton_core::{
    BreakerState, ConfigHealth, Health, HistoryEntry, HistoryLog, ParticipantRecord, Shutdown, StreamHealth,
};
use pushbutton_web::{Disks, Metrics};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How often it is said when nothing changes: often enough to see who is gone, seldom enough for a history of months.
const INTERVAL: Duration = Duration::from_secs(300);

/// The shortest time between two.
const PAUSE: Duration = Duration::from_secs(5);

/// This process.
pub(crate) struct Participant {
    pub(crate) role: &'static str,
    pub(crate) started: Timestamp,
    pub(crate) log: Arc<dyn HistoryLog>,
    pub(crate) metrics: Metrics,
    pub(crate) disks: Disks,
    pub(crate) stream: Option<watch::Receiver<StreamHealth>>,
    pub(crate) muted: Option<watch::Receiver<Option<Muted>>>,
    pub(crate) operator: Option<watch::Receiver<Health>>,
    pub(crate) config: watch::Receiver<ConfigHealth>,
}

impl Participant {
    /// Says it until the shutdown.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let (mut stream, mut muted, mut operator) =
            (self.stream.clone(), self.muted.clone(), self.operator.clone());
        let mut config = Some(self.config.clone());
        loop {
            self.say(false).await;
            let next = Instant::now() + INTERVAL;
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = shutdown.begun() => return,
            }
            tokio::select! {
                () = changed(&mut stream) => {}
                () = changed(&mut muted) => {}
                () = changed(&mut operator) => {}
                () = changed(&mut config) => {}
                () = sleep_until(next) => {}
                () = shutdown.begun() => return,
            }
        }
    }

    /// Says it once. A history that fails changes nothing for this process.
    pub(crate) async fn say(&self, ended: bool) {
        let disk_free = self.disks.free().await;
        let participant = Box::new(self.record().with_disk_free(disk_free).with_ended(ended));
        if let Err(error) = self.log.append(HistoryEntry::Participant { participant }).await {
            tracing::warn!("the history does not learn how this process is: {error}");
        }
    }

    fn record(&self) -> ParticipantRecord {
        let operator = self.operator.as_ref().map(|operator| operator.borrow().clone());
        let breaker = operator.as_ref().and_then(|health| match &health.breaker {
            BreakerState::Closed => None,
            BreakerState::Open { last, .. } | BreakerState::HalfOpen { last, .. } => Some(last.clone()),
            _ => Some("it claims no jobs".to_owned()),
        });
        let muted = self.muted.as_ref().and_then(|muted| muted.borrow().clone());
        ParticipantRecord::new(name(self.role), self.started, Timestamp::now())
            .with_stream(self.stream.as_ref().map(|stream| stream.borrow().clone()))
            .with_last_event(self.metrics.last_event())
            .with_muted(muted.map(|muted| muted.why))
            .with_slots(operator.as_ref().map(|health| health.slots as u64))
            .with_running(operator.as_ref().map(|health| health.running as u64))
            .with_breaker(breaker)
            .with_history_dropped(self.log.dropped())
            .with_config(Some(self.config.borrow().clone()))
    }
}

/// Role, host and process.
fn name(role: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{role} {} {}", host.trim(), std::process::id())
}

/// The next change; never, without a receiver or when its sender is gone.
async fn changed<T>(receiver: &mut Option<watch::Receiver<T>>) {
    if let Some(receiver) = receiver
        && receiver.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
