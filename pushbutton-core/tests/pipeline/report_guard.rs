//! A lab whose runs all fail stops reporting on reviews, on every operator, until a person has looked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use pushbutton_core::memory::{FakeStage, MemoryReporter};
use pushbutton_core::samples;
use pushbutton_core::{
    Alerter, ControlMessage, ControlMessages, Error, ErrorKind, GuardedReporter, Operator, Queue,
    ReportGuard, Result, RunId, Shutdown, StageStatus, async_trait,
};

use crate::lab::{Lab, MINUTE};

const HOUR: Duration = Duration::from_secs(3600);

/// A pager whose first call fails.
#[derive(Default)]
struct Pager {
    tries: Mutex<u32>,
    rung: Mutex<Vec<String>>,
}

#[async_trait]
impl Alerter for Pager {
    async fn alert(&self, _: &str, text: &str) -> Result<()> {
        let mut tries = self.tries.lock().unwrap();
        *tries += 1;
        if *tries == 1 {
            return Err(Error::temporary(ErrorKind::Unreachable, "no mail server"));
        }
        self.rung.lock().unwrap().push(text.to_owned());
        Ok(())
    }
}

/// An operator's reporters: a review that the guard mutes, and a history that gets everything.
struct Reporters {
    guard: Arc<ReportGuard>,
    review: Arc<MemoryReporter>,
    history: Arc<MemoryReporter>,
}

impl Reporters {
    fn new(name: &str, alarm: &Arc<Pager>) -> Self {
        let guard = ReportGuard::new(name).with_limit(3).with_alerter(alarm.clone());
        Self { guard: Arc::new(guard), review: Arc::default(), history: Arc::default() }
    }

    fn operator(&self, lab: &Lab) -> Operator {
        let review = GuardedReporter::new(self.review.clone(), Arc::clone(&self.guard));
        lab.operator_without_reporter()
            .with_reporter(review)
            .with_reporter(self.history.clone())
            .with_report_guard(Arc::clone(&self.guard))
    }

    /// Changes whose verdicts the review, and the history, got.
    fn reported(&self) -> (Vec<u64>, Vec<u64>) {
        let changes = |reporter: &MemoryReporter| {
            reporter.reports().iter().map(|report| report.job.change.number.0).collect()
        };
        (changes(&self.review), changes(&self.history))
    }
}

/// A lab where all changes fail, but for those above a hundred.
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
    lab.worked_off().await;
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
    let reporters = Reporters::new("operator one", &pager);
    let operator = reporters.operator(&lab);
    let mut muted = reporters.guard.watch();
    let script = async {
        run_all(&lab, [1, 2, 3]).await;
        muted.wait_for(Option::is_some).await.unwrap();
        run_all(&lab, [4, 101]).await;
        assert_eq!(reporters.reported(), (vec![1, 2, 3], vec![1, 2, 3, 4, 101]));
        unmute(lab.queue.as_ref()).await;
        muted.wait_for(Option::is_none).await.unwrap();
        run_all(&lab, [5, 6]).await;
        assert_eq!(reporters.reported().0, [1, 2, 3, 5, 6], "withheld reports are not sent later");
        lab.shutdown.begin();
    };
    tokio::join!(operator.run(&lab.shutdown), script).0.unwrap();
    let mut broadcasts = Broadcasts::of(&lab.queue).await;
    let broadcasts = broadcasts.read(&lab.queue).await;
    assert_eq!((broadcasts.muted, broadcasts.unmuted), (1, 1));
    let rung = pager.rung.lock().unwrap();
    assert_eq!(rung.len(), 1, "one alert, although the first try failed: {rung:?}");
    assert!(rung[0].contains("the last was tempest on 3,2: FAILURE in stage tempest"), "{rung:?}");
}

#[tokio::test(start_paused = true)]
async fn every_operator_is_muted_also_one_that_starts_later_and_only_one_alerts() {
    let (lab, pager) = (failing(), Arc::default());
    let (one, two, late) =
        (Reporters::new("one", &pager), Reporters::new("two", &pager), Reporters::new("late", &pager));
    let first = Shutdown::new();
    let script = async {
        let mut muted = one.guard.watch();
        run_all(&lab, [1, 2, 3]).await;
        muted.wait_for(Option::is_some).await.unwrap();
        first.begin();
    };
    tokio::join!(one.operator(&lab).run(&first), script).0.unwrap();

    let (second, third) = (Shutdown::new(), Shutdown::new());
    let script = async {
        for reporters in [&two, &late] {
            reporters.guard.watch().wait_for(Option::is_some).await.unwrap();
            assert_eq!(reporters.guard.muted().unwrap().by, "one");
        }
        run_all(&lab, [4, 5, 6, 7, 8, 9]).await;
        second.begin();
        third.begin();
    };
    let (two_ends, late_ends, ()) =
        tokio::join!(two.operator(&lab).run(&second), late.operator(&lab).run(&third), script);
    two_ends.unwrap();
    late_ends.unwrap();
    assert_eq!((two.reported().0, late.reported().0), (vec![], vec![]));
    assert_eq!(two.reported().1.len() + late.reported().1.len(), 6, "the history has them all");
    assert_eq!(pager.rung.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_starts_after_the_unmuting_reports() {
    let (lab, pager) = (failing(), Arc::default());
    let message = ControlMessage::Muted { by: "one".into(), why: "ten in a row".into(), at: samples::AT };
    lab.queue.broadcast(&message).await.unwrap();
    unmute(lab.queue.as_ref()).await;
    // Repeated by an operator that was disconnected meanwhile.
    lab.queue.broadcast(&message).await.unwrap();
    let reporters = Reporters::new("two", &pager);
    let script = async {
        run_all(&lab, [1]).await;
        lab.shutdown.begin();
    };
    tokio::join!(reporters.operator(&lab).run(&lab.shutdown), script).0.unwrap();
    assert_eq!(reporters.reported().0, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_muting_is_broadcast_twice_a_day_by_every_operator_that_knows_it() {
    let (lab, pager) = (failing(), Arc::default());
    let message = ControlMessage::Muted { by: "one".into(), why: "ten in a row".into(), at: samples::AT };
    lab.queue.broadcast(&message).await.unwrap();
    let reporters = Reporters::new("two", &pager);
    let script = async {
        let mut broadcasts = Broadcasts::of(&lab.queue).await;
        tokio::time::sleep(HOUR).await;
        let muted = broadcasts.read(&lab.queue).await.muted;
        assert_eq!(muted, 2, "soon: the message may have been a day old");
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
        assert_eq!(broadcasts.read(&lab.queue).await.muted, before, "it is over");
        lab.shutdown.begin();
    };
    tokio::join!(reporters.operator(&lab).run(&lab.shutdown), script).0.unwrap();
    assert!(pager.rung.lock().unwrap().is_empty(), "only the operator that muted alerts a person");
}
