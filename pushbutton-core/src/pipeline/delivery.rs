//! Delivers the reports of complete buildsets: claims each under a lease, gives it to every reporter, and retries. A
//! report that is refused for good is kept for a person to see.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::panics::catch_panic;
use super::report_guard::ReportGuard;
use super::shutdown::Shutdown;
use crate::buildset::BuildsetReport;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::retry::{Backoff, delay_after};
use crate::shared_history::{DeliveryRecord, DeliveryState, HistoryEntry, HistoryLog};
use crate::traits::{Alerter, Delivery, Queue, Reporter};

/// Reports that are delivered at once. A review server allows an account few connections.
const AT_ONCE: usize = 4;

/// How long one call of a reporter may take at most: it may look up the review before it posts.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// The delay after a failed try doubles from the first to the longest.
const FIRST_DELAY: Duration = Duration::from_secs(15);
const LONGEST_DELAY: Duration = Duration::from_secs(10 * 60);

/// Tries of one report: with the longest delay between them, about a week.
const TRIES: u32 = 1000;

/// Tries of a notice, which is only in memory: about two hours.
const NOTICE_TRIES: u32 = 20;

/// How long a shutdown waits for reports that are being delivered. Their leases then run out, and they are delivered
/// again.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the history may take. It promises not to wait for a server.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an alert may take.
const ALERT_TIMEOUT: Duration = Duration::from_secs(60);

/// Delivers reports, as part of a handler.
pub(super) struct ReportDelivery {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) reporters: Vec<Arc<dyn Reporter>>,
    pub(super) report_guard: Option<Arc<ReportGuard>>,
    pub(super) alerter: Option<Arc<dyn Alerter>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) history: Option<Arc<dyn HistoryLog>>,
}

/// What the reporters answered.
struct Answers {
    /// The names of those that have the report, of earlier tries too.
    delivered: BTreeSet<String>,
    /// Answers that may be others next time.
    failed: Vec<String>,
    /// Answers for good.
    refused: Vec<String>,
    /// The names of those that gave them.
    refused_by: BTreeSet<String>,
}

impl ReportDelivery {
    /// Delivers until a shutdown is requested: the reports of the queue, and notices of the intake.
    ///
    /// # Errors
    /// Permanent errors of the queue.
    pub(super) async fn run(
        self,
        mut notices: mpsc::Receiver<BuildsetReport>,
        shutdown: &Shutdown,
    ) -> Result<()> {
        let delivery = Arc::new(self);
        let (mut deliveries, mut notifications) = (JoinSet::new(), JoinSet::new());
        let spawn_notice = |notifications: &mut JoinSet<()>, notice| {
            let (delivery, shutdown) = (Arc::clone(&delivery), shutdown.clone());
            notifications.spawn(async move { delivery.deliver_notice(&notice, &shutdown).await });
        };
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let mut claim_after = Instant::now();
        loop {
            let claim = async {
                tokio::time::sleep_until(claim_after).await;
                delivery.queue.claim_report().await
            };
            tokio::select! {
                biased;
                () = shutdown.begun() => break,
                Some(_) = deliveries.join_next(), if !deliveries.is_empty() => {}
                Some(_) = notifications.join_next(), if !notifications.is_empty() => {}
                Some(notice) = notices.recv(), if notifications.len() < AT_ONCE => {
                    spawn_notice(&mut notifications, notice);
                }
                claimed = claim, if deliveries.len() < AT_ONCE => match claimed {
                    Ok(report) => {
                        backoff.reset();
                        let delivery = Arc::clone(&delivery);
                        deliveries.spawn(async move { delivery.deliver(report).await });
                    }
                    Err(error) if error.is_temporary() => {
                        tracing::warn!("could not claim a report: {error}");
                        claim_after = Instant::now() + backoff.next_delay();
                    }
                    Err(error) => return Err(error.during("queue::claim_report")),
                },
            }
        }
        while let Ok(notice) = notices.try_recv() {
            spawn_notice(&mut notifications, notice);
        }
        let rest = async {
            while deliveries.join_next().await.is_some() {}
            while notifications.join_next().await.is_some() {}
        };
        tokio::select! {
            () = rest => {}
            () = shutdown.forced() => {}
            () = tokio::time::sleep(SHUTDOWN_TIMEOUT) => {}
        }
        Ok(())
    }

    /// A history that fails changes nothing for the report.
    async fn append_to_history(&self, delivery: DeliveryRecord) {
        let Some(history) = &self.history else { return };
        let buildset = delivery.buildset.clone();
        let append = history.append(HistoryEntry::Delivery { delivery }.bounded());
        let problem = match catch_panic(tokio::time::timeout(HISTORY_TIMEOUT, append)).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "no answer in time".to_owned(),
            Err(panic) => panic,
        };
        tracing::warn!(%buildset, "the delivery is missing in the history: {problem}");
    }

    /// Makes one try, and settles the report as the answers demand.
    async fn deliver(&self, delivery: Box<dyn Delivery>) {
        let report = delivery.report().clone();
        // It ends before another delivery may begin.
        let limit = CALL_TIMEOUT.min(delivery.lease() * 4 / 5);
        let answers = self.call_reporters(&report, delivery.delivered(), limit).await;
        let failed_attempts = delivery.failed_attempts().saturating_add(1);
        let reporters: Vec<_> = answers.delivered.iter().cloned().collect();
        let (outcome, settled) = if !answers.failed.is_empty() && failed_attempts < TRIES {
            let after =
                delay_after(FIRST_DELAY, LONGEST_DELAY, failed_attempts).mul_f64(0.5 + fastrand::f64() / 2.0);
            let why = answers.failed.join("; ");
            tracing::warn!(patchset = %report.target(), buildset = %report.id, ?after, "not delivered, it will be tried again: {why}");
            ((DeliveryState::Retrying, why), delivery.retry(after, &answers.delivered).await)
        } else {
            let why = [answers.refused, answers.failed].concat().join("; ");
            let state = if why.is_empty() { DeliveryState::Delivered } else { DeliveryState::Undelivered };
            let settled = match why.is_empty() {
                true => delivery.done().await,
                false => {
                    tracing::error!(patchset = %report.target(), buildset = %report.id, results = report.summary(), "the report is kept as undelivered: {why}");
                    delivery.give_up(&why, &answers.delivered).await
                }
            };
            if settled.is_ok() {
                self.after_last_try(&report, &why).await;
            }
            ((state, why), settled)
        };
        if settled.is_ok() {
            let (state, why) = outcome;
            let record = DeliveryRecord::new(&report, state, failed_attempts, self.clock.now())
                .with_why(Some(why).filter(|why| !why.is_empty()))
                .with_reporters(reporters);
            self.append_to_history(record).await;
        }
        if let Err(error) = settled {
            // Reporters report it once, however often they get it.
            tracing::warn!(buildset = %report.id, "could not settle the delivery, it will be made again: {error}");
        }
    }

    /// Tries for a while. A shutdown ends it after the present try.
    async fn deliver_notice(&self, notice: &BuildsetReport, shutdown: &Shutdown) {
        let mut delivered = BTreeSet::new();
        for attempt in 1..=NOTICE_TRIES {
            let answers = self.call_reporters(notice, &delivered, CALL_TIMEOUT).await;
            for refusal in &answers.refused {
                tracing::warn!(patchset = %notice.target(), "a notice was refused: {refusal}");
            }
            delivered = answers.delivered;
            delivered.extend(answers.refused_by);
            if answers.failed.is_empty() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(delay_after(FIRST_DELAY, LONGEST_DELAY, attempt)) => {}
                () = shutdown.begun() => break,
            }
        }
        tracing::warn!(patchset = %notice.target(), "a notice was not delivered");
    }

    async fn call_reporters(
        &self,
        report: &BuildsetReport,
        delivered: &BTreeSet<String>,
        limit: Duration,
    ) -> Answers {
        let waiting = self.reporters.iter().filter(|reporter| !delivered.contains(reporter.name()));
        let calls =
            waiting.map(async |reporter| (reporter.name(), call(reporter.as_ref(), report, limit).await));
        let mut answers = Answers {
            delivered: delivered.clone(),
            failed: Vec::new(),
            refused: Vec::new(),
            refused_by: BTreeSet::new(),
        };
        for (name, answer) in join_all(calls).await {
            match answer {
                Ok(()) => {
                    answers.delivered.insert(name.to_owned());
                }
                Err(error) if error.is_temporary() => answers.failed.push(format!("{name}: {error}")),
                Err(error) => {
                    answers.refused.push(format!("{name}: {error}"));
                    answers.refused_by.insert(name.to_owned());
                }
            }
        }
        answers
    }

    /// Counts the report for the guard, and alerts a person when it was refused.
    async fn after_last_try(&self, report: &BuildsetReport, why: &str) {
        let was_muted = self.report_guard.as_ref().is_some_and(|guard| guard.muted().is_some());
        // Counted only now: the report that triggers the muting still gets out, because it says why.
        if let Some(guard) = &self.report_guard {
            guard.count(report, self.clock.now());
        }
        let (false, false, Some(alerter)) = (why.is_empty(), was_muted, &self.alerter) else { return };
        let subject = format!("pushbutton could not report on {}", report.target());
        let text = format!(
            "The results of change {} ({}) were refused: {why}.\n\n\
             They are kept. See them with `pushbutton-bin reports list`, then `reports retry {}` or `reports drop {}`.\n",
            report.target(),
            report.summary(),
            report.id,
            report.id,
        );
        let alert = tokio::time::timeout(ALERT_TIMEOUT, alerter.alert(&subject, &text));
        let problem = match catch_panic(alert).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "no answer in time".to_owned(),
            Err(panic) => panic,
        };
        tracing::error!(buildset = %report.id, "could not alert a person: {problem}");
    }
}

/// Calls a reporter. One that does not return in time has failed; one that panics has refused.
async fn call(reporter: &dyn Reporter, report: &BuildsetReport, limit: Duration) -> Result<()> {
    let call = tokio::time::timeout(limit, reporter.deliver(report));
    match catch_panic(call).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::temporary(ErrorKind::TimedOut, "the reporter did not return in time")),
        Err(panic) => Err(Error::permanent(ErrorKind::Unexpected, format!("the reporter panicked: {panic}"))),
    }
}
