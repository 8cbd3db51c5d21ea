//! A lab whose runs all go wrong stops speaking on reviews, on every operator, until a person has looked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::memory::{MemoryReporter, FakeStage};
use pushbutton_core::samples;
use pushbutton_core::{
    Alerter, Error, ErrorKind, ReportGuard, GuardedReporter, ControlMessage, Operator, Queue, Result, RunId, Shutdown,
    StageStatus,
};

use crate::lab::{Lab, MINUTE};

const HOUR: Duration = Duration::from_secs(3600);

/// A pager that fails once before it rings.
#[derive(Default)]
struct Pager {
    tries: Mutex<u32>,
    rung: Mutex<Vec<String>>,
}

#[async_trait]
impl Alerter for Pager {
    async fn raise(&self, _: &str, text: &str) -> Result<()> {
        let mut tries = self.tries.lock().unwrap();
        *tries += 1;
        if *tries == 1 {
            return Err(Error::temporary(ErrorKind::Unreachable, "no mail server"));
        }
        self.rung.lock().unwrap().push(text.to_owned());
        Ok(())
    }
}

/// An operator's voice: a review that obeys, and a history that hears all.
struct Voice {
    mute: Arc<ReportGuard>,
    review: Arc<MemoryReporter>,
    history: Arc<MemoryReporter>,
}

impl Voice {
    fn new(name: &str, alarm: &Arc<Pager>) -> Self {
        let mute = ReportGuard::new(name).with_limit(3).with_alerter(alarm.clone());
        Self { mute: Arc::new(mute), review: Arc::default(), history: Arc::default() }
    }

    fn operator(&self, lab: &Lab) -> Operator {
        let review = GuardedReporter::new(self.review.clone(), Arc::clone(&self.mute));
        lab.operator()
            .with_reporters(vec![Arc::new(review), self.history.clone()])
            .with_report_guard(Arc::clone(&self.mute))
    }

    /// Changes whose verdicts the review, and the history, have heard.
    fn heard(&self) -> (Vec<u64>, Vec<u64>) {
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

async fn work_off(lab: &Lab, changes: impl IntoIterator<Item = u64>) {
    for change in changes {
        lab.queue.publish(&samples::job_on(change, "tempest")).await.unwrap();
    }
    lab.worked_off().await;
}

async fn unmute(queue: &dyn Queue) {
    queue.broadcast(&ControlMessage::Unmuted { by: "ops".into(), at: jiff::Timestamp::now() }).await.unwrap();
}

/// How often each of the two kinds of notices was announced so far.
async fn announced(queue: &dyn Queue) -> (u32, u32) {
    // Each end is another one, so that this may be asked more than once.
    let by = RunId::generate().to_string();
    let end = ControlMessage::Cancel { job: samples::job("end").id, by, at: samples::AT };
    queue.broadcast(&end).await.unwrap();
    let (mut notices, mut counts) = (queue.control_messages().await.unwrap(), (0, 0));
    loop {
        match notices.next().await.unwrap() {
            ControlMessage::Muted { .. } => counts.0 += 1,
            ControlMessage::Unmuted { .. } => counts.1 += 1,
            notice if notice == end => return counts,
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_three_changes_in_a_row_the_review_hears_nothing_until_a_person_has_looked() {
    let (lab, pager) = (failing(), Arc::default());
    let voice = Voice::new("operator one", &pager);
    let operator = voice.operator(&lab);
    let mut standing = voice.mute.watch();
    let script = async {
        work_off(&lab, [1, 2, 3]).await;
        standing.wait_for(Option::is_some).await.unwrap();
        work_off(&lab, [4, 101]).await;
        assert_eq!(voice.heard(), (vec![1, 2, 3], vec![1, 2, 3, 4, 101]));
        unmute(lab.queue.as_ref()).await;
        standing.wait_for(Option::is_none).await.unwrap();
        work_off(&lab, [5, 6]).await;
        assert_eq!(voice.heard().0, [1, 2, 3, 5, 6], "what was withheld is not made up for");
        lab.shutdown.begin();
    };
    tokio::join!(operator.run(&lab.shutdown), script).0.unwrap();
    assert_eq!(announced(lab.queue.as_ref()).await, (1, 1));
    let rung = pager.rung.lock().unwrap();
    assert_eq!(rung.len(), 1, "one alarm, although the first try failed: {rung:?}");
    assert!(rung[0].contains("the last was tempest on 3,2: FAILURE in stage tempest"), "{rung:?}");
}

#[tokio::test(start_paused = true)]
async fn every_operator_falls_silent_also_one_that_starts_later_and_only_one_calls() {
    let (lab, pager) = (failing(), Arc::default());
    let (one, two, late) = (Voice::new("one", &pager), Voice::new("two", &pager), Voice::new("late", &pager));
    let first = Shutdown::new();
    let script = async {
        let mut standing = one.mute.watch();
        work_off(&lab, [1, 2, 3]).await;
        standing.wait_for(Option::is_some).await.unwrap();
        first.begin();
    };
    tokio::join!(one.operator(&lab).run(&first), script).0.unwrap();

    let (second, third) = (Shutdown::new(), Shutdown::new());
    let script = async {
        for voice in [&two, &late] {
            voice.mute.watch().wait_for(Option::is_some).await.unwrap();
            assert_eq!(voice.mute.silence().unwrap().by, "one");
        }
        work_off(&lab, [4, 5, 6, 7, 8, 9]).await;
        second.begin();
        third.begin();
    };
    let (two_ends, late_ends, ()) =
        tokio::join!(two.operator(&lab).run(&second), late.operator(&lab).run(&third), script);
    two_ends.unwrap();
    late_ends.unwrap();
    assert_eq!((two.heard().0, late.heard().0), (vec![], vec![]));
    assert_eq!(two.heard().1.len() + late.heard().1.len(), 6, "the history has them all");
    assert_eq!(pager.rung.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_starts_after_the_unmuting_speaks() {
    let (lab, pager) = (failing(), Arc::default());
    let muted = ControlMessage::Muted { by: "one".into(), why: "ten in a row".into(), at: samples::AT };
    lab.queue.broadcast(&muted).await.unwrap();
    unmute(lab.queue.as_ref()).await;
    // Said again by one who was cut off meanwhile.
    lab.queue.broadcast(&muted).await.unwrap();
    let voice = Voice::new("two", &pager);
    let script = async {
        work_off(&lab, [1]).await;
        lab.shutdown.begin();
    };
    tokio::join!(voice.operator(&lab).run(&lab.shutdown), script).0.unwrap();
    assert_eq!(voice.heard().0, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_silence_is_told_again_twice_a_day_by_whoever_knows_of_it() {
    let (lab, pager) = (failing(), Arc::default());
    let muted = ControlMessage::Muted { by: "one".into(), why: "ten in a row".into(), at: samples::AT };
    lab.queue.broadcast(&muted).await.unwrap();
    let voice = Voice::new("two", &pager);
    let script = async {
        tokio::time::sleep(HOUR).await;
        assert_eq!(announced(lab.queue.as_ref()).await.0, 2, "soon: the notice may have been a day old");
        for day in 1..4 {
            let before = announced(lab.queue.as_ref()).await.0;
            tokio::time::sleep(24 * HOUR).await;
            let told = announced(lab.queue.as_ref()).await.0 - before;
            assert!((1..=4).contains(&told), "{told} times on day {day}");
        }
        unmute(lab.queue.as_ref()).await;
        voice.mute.watch().wait_for(Option::is_none).await.unwrap();
        let before = announced(lab.queue.as_ref()).await.0;
        tokio::time::sleep(48 * HOUR).await;
        assert_eq!(announced(lab.queue.as_ref()).await.0, before, "it is over");
        lab.shutdown.begin();
    };
    tokio::join!(voice.operator(&lab).run(&lab.shutdown), script).0.unwrap();
    assert!(pager.rung.lock().unwrap().is_empty(), "who only hears of it calls nobody");
}
