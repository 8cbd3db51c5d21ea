//! Checks of the contracts of [`HistoryLog`] and [`RunHistory`]: one history for all participants.
//!
//! Each check opens participants through `open`: each call is one more participant, with a copy of its own where the
//! backend has copies. The same name is the same installation; a new name is a new one without a history.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pushbutton_core::{
    BuildsetReport, ControlMessage, DeliveryRecord, DeliveryState, HistoryEntry, HistoryLog, HistoryReporter,
    Job, JobName, ParticipantRecord, Reporter, RunHistory, RunId, RunRecord, RunState, StageOutcome,
    StageStatus, Update, UpdateKind, Verdict, samples,
};

/// How long an entry may take to be seen, also on a busy machine.
const SOON: Duration = Duration::from_secs(120);

/// A participant: it appends to the history, and answers questions about it.
pub struct Participant {
    /// Where it appends.
    pub log: Arc<dyn HistoryLog>,
    /// What it answers.
    pub history: Arc<dyn RunHistory>,
}

/// Runs all checks.
pub async fn all(open: impl AsyncFn(&str) -> Participant) {
    let open = &open;
    two_participants_see_each_others_runs_and_a_fresh_one_sees_all(open).await;
    a_run_that_has_ended_does_not_begin_again(open).await;
    actions_and_deliveries_are_there_once(open).await;
    a_run_whose_operator_died_has_ended_when_its_job_runs_again(open).await;
    of_a_participant_the_last_state_is_known(open).await;
}

/// `append`: every participant sees it, also one that starts later.
pub async fn two_participants_see_each_others_runs_and_a_fresh_one_sees_all(
    open: impl AsyncFn(&str) -> Participant,
) {
    let (one, two) = (open("shared").await, open("shared").await);
    let (first, second) = (job("tempest"), job("unit"));
    let run_of_one = run_to_the_end(&one, &first, Verdict::Success).await;
    let run_of_two = run_to_the_end(&two, &second, Verdict::NodeFailure).await;
    let fresh = open("shared").await;
    for (name, participant) in [("the first", &one), ("the second", &two), ("a fresh", &fresh)] {
        for (run, job, verdict) in
            [(&run_of_one, &first, Verdict::Success), (&run_of_two, &second, Verdict::NodeFailure)]
        {
            let record = ended(participant, run, &format!("{name} participant")).await;
            assert_eq!(
                (&record.job, &record.verdict),
                (job, &Some(verdict)),
                "what {name} participant knows"
            );
            assert_eq!(record.stages.len(), 1, "the stages that {name} participant knows");
            assert_eq!(record.node.as_deref(), Some("node-1"), "the node that {name} participant knows");
        }
        assert_eq!(participant.history.recent(10).await.expect("listing works").len(), 2);
        let verdicts = participant.history.verdicts().await.expect("counting works");
        assert_eq!(verdicts.iter().map(|(_, count)| count).sum::<u64>(), 2, "{verdicts:?}");
    }
}

/// `append`: a run that has a verdict keeps it, whatever comes late or again.
pub async fn a_run_that_has_ended_does_not_begin_again(open: impl AsyncFn(&str) -> Participant) {
    let (one, two) = (open("again").await, open("again").await);
    let job = job("tempest");
    let run = run_to_the_end(&one, &job, Verdict::Success).await;
    ended(&two, &run, "the other participant").await;
    for state in [RunState::Claimed, RunState::Running] {
        let late = RunRecord::new(run.clone(), job.clone(), 1, base()).with_state(state);
        append(&two, HistoryEntry::Run { record: Box::new(late) }).await;
    }
    // What was appended before it was read before it.
    let marker = run_to_the_end(&two, &self::job("marker"), Verdict::Success).await;
    for participant in [&one, &two, &open("again").await] {
        ended(participant, &marker, "a participant").await;
        let record = ended(participant, &run, "a participant").await;
        assert_eq!(record.verdict, Some(Verdict::Success), "a run has lost its verdict");
    }
}

/// `append`: an entry that is appended twice is there once; of two about the same the later one counts.
pub async fn actions_and_deliveries_are_there_once(open: impl AsyncFn(&str) -> Participant) {
    let (one, two) = (open("actions").await, open("actions").await);
    let message = ControlMessage::Cancel {
        job: job("tempest").id,
        by: "alice".to_owned(),
        at: base() + SignedDuration::from_secs(1),
    };
    let job = job("tempest");
    let report =
        BuildsetReport::new(job.buildset.id.clone(), vec![samples::success(&job)]).expect("it is reported");
    let delivery = |state, attempts: u32| {
        DeliveryRecord::new(&report, state, attempts, base() + SignedDuration::from_secs(attempts.into()))
    };
    for _ in 0..2 {
        append(&one, HistoryEntry::Control { message: message.clone() }).await;
    }
    append(&one, HistoryEntry::Delivery { delivery: delivery(DeliveryState::Retrying, 1) }).await;
    append(&one, HistoryEntry::Delivery { delivery: delivery(DeliveryState::Delivered, 2) }).await;
    for participant in [&one, &two, &open("actions").await] {
        let is_there = async || {
            let known = participant.history.deliveries(10).await.expect("listing works");
            known == [delivery(DeliveryState::Delivered, 2)]
        };
        until("a participant knows that the report was delivered", is_there).await;
        let actions = participant.history.actions(10).await.expect("listing works");
        assert_eq!(actions, std::slice::from_ref(&message), "the control messages that a participant knows");
    }
}

/// A job has one run at a time: an older one that is still open has lost its operator.
pub async fn a_run_whose_operator_died_has_ended_when_its_job_runs_again(
    open: impl AsyncFn(&str) -> Participant,
) {
    let (one, two) = (open("lost").await, open("lost").await);
    let (job, lost) = (job("tempest"), RunId::generate());
    let reporter = HistoryReporter::new(Arc::clone(&one.log));
    report(&reporter, &lost, &job, 0, UpdateKind::Started).await;
    let is_open = async || matches!(two.history.find_run(&lost).await, Ok(Some(run)) if run.ended.is_none());
    until("another participant knows the run", is_open).await;
    drop(reporter);
    let next = run_to_the_end(&two, &job, Verdict::Success).await;
    for participant in [&one, &two, &open("lost").await] {
        ended(participant, &next, "a participant").await;
        let record = ended(participant, &lost, "a participant").await;
        assert_eq!((record.state, record.verdict), (RunState::Retrying, None), "a run without an operator");
    }
}

/// `participants`: each is there once, as it last said.
pub async fn of_a_participant_the_last_state_is_known(open: impl AsyncFn(&str) -> Participant) {
    let (one, two) = (open("participants").await, open("participants").await);
    let state = |name: &str, seconds: i64, running: u64| {
        let at = base() + SignedDuration::from_secs(seconds);
        ParticipantRecord::new(name, base(), at).with_slots(4).with_running(running)
    };
    for participant in [state("operator a 1", 1, 0), state("operator b 1", 2, 1), state("operator a 1", 3, 2)]
    {
        append(&one, HistoryEntry::Participant { participant: Box::new(participant) }).await;
    }
    let expected = [state("operator a 1", 3, 2), state("operator b 1", 2, 1)];
    for participant in [&one, &two] {
        let is_there = async || participant.history.participants().await.expect("listing works") == expected;
        until("a participant knows how the others are", is_there).await;
    }
}

/// The same in one process. Of the present: a history deletes what is old.
fn base() -> Timestamp {
    static BASE: OnceLock<Timestamp> = OnceLock::new();
    *BASE.get_or_init(|| Timestamp::now() - SignedDuration::from_secs(60))
}

fn job(name: &str) -> Job {
    samples::job(JobName::new(name).expect("a name").as_str())
}

async fn append(participant: &Participant, entry: HistoryEntry) {
    participant.log.append(entry).await.expect("appending works");
}

async fn report(reporter: &HistoryReporter, run: &RunId, job: &Job, seconds: i64, kind: UpdateKind) {
    let at = base() + SignedDuration::from_secs(seconds);
    let update = Update::new(job.clone(), kind, at).with_run(run.clone());
    reporter.report(&update).await.expect("reporting works");
}

/// Reports a run with one stage.
async fn run_to_the_end(participant: &Participant, job: &Job, verdict: Verdict) -> RunId {
    let (reporter, run) = (HistoryReporter::new(Arc::clone(&participant.log)), RunId::generate());
    let stage: pushbutton_core::StageName = "run".parse().expect("a name");
    let outcome = StageOutcome::new(StageStatus::Passed, Duration::from_secs(2));
    let mut result = samples::success(job);
    (result.run, result.verdict) = (run.clone(), verdict);
    let steps = [
        UpdateKind::Started,
        UpdateKind::Provisioning,
        UpdateKind::NodeReady { name: "node-1".to_owned(), address: "192.0.2.1".to_owned() },
        UpdateKind::StageStarted { stage: stage.clone() },
        UpdateKind::Line { stage: stage.clone(), line: "not in the history".to_owned() },
        UpdateKind::StageEnded { stage, outcome },
        UpdateKind::Finished { result: Box::new(result) },
    ];
    for (seconds, step) in (10..).zip(steps) {
        report(&reporter, &run, job, seconds, step).await;
    }
    run
}

async fn ended(participant: &Participant, run: &RunId, who: &str) -> RunRecord {
    let find = async || participant.history.find_run(run).await.expect("looking up a run works");
    until(&format!("{who} knows how the run ended"), async || {
        find().await.is_some_and(|run| run.ended.is_some())
    })
    .await;
    find().await.expect("it was there")
}

/// Waits by asking: a history tells nobody when it changes.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, waiting).await.is_ok(), "in vain it was waited until {what}");
}
