//! After many failed changes in a row nothing is reported on reviews until a person unmutes the reports.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use pushbutton_core::memory::{FakeStage, MemoryReporter, MemorySource};
use pushbutton_core::samples;
use pushbutton_core::{
    Alerter, ControlMessage, ControlMessages, Error, ErrorKind, GuardedReporter, Handler, Queue, ReportGuard,
    Result, RunId, Shutdown, StageStatus, Triggers, async_trait,
};

use crate::lab::{Lab, MINUTE};

const HOUR: Duration = Duration::from_secs(3600);

/// An alerter whose first call fails.
#[derive(Default)]
struct Pager {
    calls: Mutex<u32>,
    alerts: Mutex<Vec<String>>,
}

#[async_trait]
impl Alerter for Pager {
    async fn alert(&self, _: &str, text: &str) -> Result<()> {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        if *calls == 1 {
            return Err(Error::temporary(ErrorKind::Unreachable, "no mail server"));
        }
        self.alerts.lock().unwrap().push(text.to_owned());
        Ok(())
    }
}

/// A handler and an operator: their review, which the guard mutes, and their history, which gets everything.
struct Reporters {
    guard: Arc<ReportGuard>,
    review: Arc<MemoryReporter>,
    history: Arc<MemoryReporter>,
}

impl Reporters {
    fn new(name: &str, pager: &Arc<Pager>) -> Self {
        let guard = ReportGuard::new(name).with_limit(3).with_alerter(pager.clone());
        Self { guard: Arc::new(guard), review: Arc::default(), history: Arc::default() }
    }

    /// Runs both until a shutdown is requested.
    async fn run(&self, lab: &Lab, shutdown: &Shutdown) {
        let review = GuardedReporter::new(self.review.clone(), Arc::clone(&self.guard));
        let (_events, source) = MemorySource::channel(1);
        let handler = Handler::new(source, Triggers::compile(vec![], vec![]).unwrap(), lab.queue.clone())
            .with_reporter(review)
            .with_report_guard(Arc::clone(&self.guard));
        let operator = lab.operator_without_reporter().with_reporter(self.history.clone());
        let (handled, worked) = tokio::join!(handler.run(shutdown), operator.run(shutdown));
        handled.unwrap();
        worked.unwrap();
    }

    /// The changes that were reported on the review, and to the history.
    fn reported(&self) -> (Vec<u64>, Vec<u64>) {
        let delivered = self.review.delivered();
        let reviewed = delivered.iter().map(|report| report.change.number.0).collect();
        (reviewed, self.history.results().iter().map(|report| report.job.change.number.0).collect())
    }
}

/// A lab in which all changes below one hundred fail.
fn failing() -> Lab {
    Lab::new(|stage, context| {
        let fails = stage == "tempest" && context.job.change.number.0 < 100;
        FakeStage::ends(if fails { StageStatus::Failed } else { StageStatus::Passed }).after(MINUTE)
    })
}

async fn run_all(lab: &Lab, changes: impl IntoIterator<Item = u64>) {
    for change in changes {
        lab.queue.publish(&samples::job_on(change, "tempest")).await.unwrap();
    }
    while lab.queue.depth().await.unwrap().is_busy() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn unmute(queue: &dyn Queue) {
    queue.broadcast(&ControlMessage::Unmuted { by: "ops".into(), at: jiff::Timestamp::now() }).await.unwrap();
}

/// Counts the control messages that mute and unmute reports.
struct Broadcasts {
    messages: ControlMessages,
    muted: u32,
    unmuted: u32,
}

impl Broadcasts {
    async fn of(queue: &dyn Queue) -> Self {
        Self { messages: queue.control_messages().await.unwrap(), muted: 0, unmuted: 0 }
    }

    /// Reads all messages that were sent so far.
    async fn read(&mut self, queue: &dyn Queue) -> &Self {
        // Each end marker differs, so that this may be called more than once.
        let by = RunId::generate().to_string();
        let end = ControlMessage::Cancel { job: samples::job("end").id, by, at: samples::AT };
        queue.broadcast(&end).await.unwrap();
        loop {
            match self.messages.next().await.unwrap().unwrap() {
                ControlMessage::Muted { .. } => self.muted += 1,
                ControlMessage::Unmuted { .. } => self.unmuted += 1,
                message if message == end => return self,
                _ => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_three_failed_changes_the_review_gets_no_report_until_a_person_unmutes() {
    let (lab, pager) = (failing(), Arc::default());
    let reporters = Reporters::new("handler one", &pager);
    let mut muted = reporters.guard.watch();
    let steps = async {
        run_all(&lab, [1, 2, 3]).await;
        muted.wait_for(Option::is_some).await.unwrap();
        run_all(&lab, [4, 101]).await;
        assert_eq!(reporters.reported(), (vec![1, 2, 3], vec![1, 2, 3, 4, 101]));
        unmute(lab.queue.as_ref()).await;
        muted.wait_for(Option::is_none).await.unwrap();
        run_all(&lab, [5, 6]).await;
        assert_eq!(reporters.reported().0, [1, 2, 3, 5, 6], "withheld reports are not sent by themselves");
        let withheld = lab.queue.list_undelivered(10).await.unwrap();
        let changes: Vec<_> = withheld.iter().map(|report| report.report.change.number.0).collect();
        assert_eq!(changes, [4, 101], "they are kept: {withheld:?}");
        assert!(withheld[0].why.contains("reports are muted by handler one"), "{}", withheld[0].why);
        assert!(lab.queue.retry_undelivered(&withheld[1].report.id).await.unwrap());
        run_all(&lab, []).await;
        assert_eq!(reporters.reported().0, [1, 2, 3, 5, 6, 101], "a person can send them");
        lab.shutdown.begin();
    };
    tokio::join!(reporters.run(&lab, &lab.shutdown), steps);
    let mut broadcasts = Broadcasts::of(&lab.queue).await;
    let broadcasts = broadcasts.read(&lab.queue).await;
    assert_eq!((broadcasts.muted, broadcasts.unmuted), (1, 1));
    let alerts = pager.alerts.lock().unwrap();
    assert_eq!(alerts.len(), 1, "one alert, although the first call failed: {alerts:?}");
    assert!(alerts[0].contains("the last was tempest on 3,2: FAILURE in stage tempest"), "{alerts:?}");
}

/// Issue 10: `reports retry --all`, once a person has looked.
#[tokio::test(start_paused = true)]
async fn many_withheld_failures_that_a_person_retries_do_not_mute_again() {
    let (lab, pager) = (failing(), Arc::default());
    let reporters = Reporters::new("handler one", &pager);
    let mut muted = reporters.guard.watch();
    let steps = async {
        run_all(&lab, 1..=3).await;
        muted.wait_for(Option::is_some).await.unwrap();
        run_all(&lab, 4..=12).await;
        let withheld = lab.queue.list_undelivered(100).await.unwrap();
        assert_eq!(withheld.len(), 9, "{withheld:?}");
        unmute(lab.queue.as_ref()).await;
        muted.wait_for(Option::is_none).await.unwrap();
        for report in &withheld {
            assert!(lab.queue.retry_undelivered(&report.report.id).await.unwrap());
        }
        run_all(&lab, []).await;
        assert_eq!(reporters.guard.muted(), None);
        let mut reported = reporters.reported().0;
        reported.sort_unstable();
        assert_eq!(reported, (1..=12).collect::<Vec<_>>());
        // A lab that is still broken is muted as ever.
        run_all(&lab, 13..=15).await;
        muted.wait_for(Option::is_some).await.unwrap();
        lab.shutdown.begin();
    };
    tokio::join!(reporters.run(&lab, &lab.shutdown), steps);
}

#[tokio::test(start_paused = true)]
async fn every_handler_is_muted_also_a_later_one_and_only_one_sends_an_alert() {
    let (lab, pager) = (failing(), Arc::default());
    let (one, two, late) =
        (Reporters::new("one", &pager), Reporters::new("two", &pager), Reporters::new("late", &pager));
    let first = Shutdown::new();
    let steps = async {
        let mut muted = one.guard.watch();
        run_all(&lab, [1, 2, 3]).await;
        muted.wait_for(Option::is_some).await.unwrap();
        first.begin();
    };
    tokio::join!(one.run(&lab, &first), steps);

    let (second, third) = (Shutdown::new(), Shutdown::new());
    let steps = async {
        for reporters in [&two, &late] {
            reporters.guard.watch().wait_for(Option::is_some).await.unwrap();
            assert_eq!(reporters.guard.muted().unwrap().by, "one");
        }
        run_all(&lab, [4, 5, 6, 7, 8, 9]).await;
        second.begin();
        third.begin();
    };
    tokio::join!(two.run(&lab, &second), late.run(&lab, &third), steps);
    assert_eq!((two.reported().0, late.reported().0), (vec![], vec![]));
    assert_eq!(two.reported().1.len() + late.reported().1.len(), 6, "the history has them all");
    assert_eq!(pager.alerts.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_starts_after_the_unmute_reports() {
    let (lab, pager) = (failing(), Arc::default());
    let message = ControlMessage::Muted { by: "one".into(), why: "ten in a row".into(), at: samples::AT };
    lab.queue.broadcast(&message).await.unwrap();
    unmute(lab.queue.as_ref()).await;
    // Repeated by a handler that was disconnected during the unmute.
    lab.queue.broadcast(&message).await.unwrap();
    let reporters = Reporters::new("two", &pager);
    let steps = async {
        run_all(&lab, [1]).await;
        lab.shutdown.begin();
    };
    tokio::join!(reporters.run(&lab, &lab.shutdown), steps);
    assert_eq!(reporters.reported().0, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_mute_is_broadcast_twice_a_day_by_every_handler() {
    let (lab, pager) = (failing(), Arc::default());
    let message = ControlMessage::Muted { by: "one".into(), why: "ten in a row".into(), at: samples::AT };
    lab.queue.broadcast(&message).await.unwrap();
    let reporters = Reporters::new("two", &pager);
    let steps = async {
        let mut broadcasts = Broadcasts::of(&lab.queue).await;
        tokio::time::sleep(HOUR).await;
        let muted = broadcasts.read(&lab.queue).await.muted;
        assert_eq!(muted, 2, "repeated soon, because the message may be almost a day old");
        for day in 1..4 {
            let before = broadcasts.muted;
            tokio::time::sleep(24 * HOUR).await;
            let sent = broadcasts.read(&lab.queue).await.muted - before;
            assert!((1..=4).contains(&sent), "{sent} times on day {day}");
        }
        unmute(lab.queue.as_ref()).await;
        reporters.guard.watch().wait_for(Option::is_none).await.unwrap();
        let before = broadcasts.read(&lab.queue).await.muted;
        tokio::time::sleep(48 * HOUR).await;
        assert_eq!(broadcasts.read(&lab.queue).await.muted, before, "no message after the unmute");
        lab.shutdown.begin();
    };
    tokio::join!(reporters.run(&lab, &lab.shutdown), steps);
    assert!(pager.alerts.lock().unwrap().is_empty(), "only the handler that muted sends an alert");
}
