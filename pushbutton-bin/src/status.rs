//! `status`: the queue, the dead letters, the undelivered reports, the latest runs.

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use pushbutton_core::pipeline::Muted;
use pushbutton_core::{
    DeadLetter, DeadLetters as _, HumanDuration, ParticipantRecord, Queue, QueueAges, QueueDepth,
    ReportGuard, RunHistory as _, RunRecord, StreamState, UndeliveredReport, UndeliveredReports as _,
};
use serde::Serialize;

use crate::assemble::QueueBackend;
use crate::config::Config;
use crate::exit::Exit;
use crate::print::{print, sanitize};
use crate::{dead_letters, reports};

/// How long to wait for the next control message: all of the last day are there at once.
const NEXT_MESSAGE: Duration = Duration::from_millis(500);

/// What is shown.
#[derive(Default, Serialize)]
struct Status {
    participants: Vec<ParticipantRecord>,
    depth: QueueDepth,
    ages: QueueAges,
    #[serde(serialize_with = "reason")]
    muted: Option<Muted>,
    dead: Vec<DeadLetter>,
    undelivered: Vec<UndeliveredReport>,
    runs: Vec<RunRecord>,
}

/// Why, or nothing.
fn reason<S: serde::Serializer>(muted: &Option<Muted>, serializer: S) -> Result<S::Ok, S::Error> {
    muted.as_ref().map(|muted| &muted.why).serialize(serializer)
}

/// Prints all of it on one page.
pub(crate) async fn run(config: &Config, last: usize, json: bool) -> anyhow::Result<Exit> {
    let (store, backend) = QueueBackend::open(config).await?;
    backend.catch_up(&store).await;
    let participants = store.history().participants().await?;
    let status = Status {
        participants: participants.into_iter().filter(|participant| !participant.ended).collect(),
        depth: backend.queue.depth().await?,
        ages: backend.queue.ages().await?,
        muted: muted(&backend.queue).await?,
        dead: backend.dead_letters.list(last).await?,
        undelivered: backend.undelivered.list_undelivered(last).await?,
        runs: store.history().recent(last).await?,
    };
    backend.close().await;
    if json {
        print(serde_json::to_string(&status)?);
    } else {
        print(page(&status, Timestamp::now()).trim_end());
    }
    Ok(Exit::Ok)
}

/// Why comments are muted, by the control messages of the last day: a handler that has muted them repeats its message.
async fn muted(queue: &dyn Queue) -> pushbutton_core::Result<Option<Muted>> {
    let guard = ReportGuard::new("status");
    let mut messages = queue.control_messages().await?;
    while let Ok(Some(message)) = tokio::time::timeout(NEXT_MESSAGE, messages.next()).await {
        guard.observe(&message?);
    }
    Ok(guard.muted())
}

/// How a handler, operator or dashboard is, as it last said.
fn participant_line(participant: &ParticipantRecord, now: Timestamp) -> String {
    let age = |since: Timestamp| HumanDuration(now.duration_since(since).try_into().unwrap_or_default());
    let mut line = format!("{}: seen {} ago", sanitize(&participant.name), age(participant.at));
    if let Some(stream) = &participant.stream {
        let state = match stream.state {
            StreamState::Standby => "standby",
            StreamState::Connecting => "event stream connecting",
            StreamState::Connected => "event stream connected",
            _ => "event stream NOT connected",
        };
        let why = stream.why.as_deref().map(|why| format!(" ({})", sanitize(why))).unwrap_or_default();
        let _ = write!(line, ", {state} for {}{why}", age(stream.since));
    }
    if let Some(at) = participant.last_event {
        let _ = write!(line, ", last event {} ago", age(at));
    }
    if let (Some(running), Some(slots)) = (participant.running, participant.slots) {
        let _ = write!(line, ", {running} of {slots} slots used");
    }
    if let Some(why) = &participant.breaker {
        let _ = write!(line, ", claims NO jobs: {}", sanitize(why));
    }
    for (disk, free) in &participant.disk_free {
        let _ = write!(line, ", {disk}: {} GiB free", free >> 30);
    }
    if participant.history_dropped > 0 {
        let _ = write!(line, ", {} entries of the history dropped", participant.history_dropped);
    }
    line
}

fn page(status: &Status, now: Timestamp) -> String {
    let Status { participants, depth, ages, muted, dead, undelivered, runs } = status;
    let mut page = String::new();
    let QueueDepth { waiting, leased, dead: dead_count, reports: due, undelivered: refused, .. } = depth;
    // Writing to a String cannot fail.
    let _ = writeln!(page, "queue: {waiting} waiting, {leased} leased, {dead_count} dead");
    let _ = writeln!(page, "reports: {due} due, {refused} undelivered");
    let age = |since: Timestamp| HumanDuration(now.duration_since(since).try_into().unwrap_or_default());
    for (what, since) in [("job waits", ages.waiting), ("report is due", ages.report)] {
        if let Some(since) = since {
            let _ = writeln!(page, "the oldest {what} for {}", age(since));
        }
    }
    for participant in participants {
        let _ = writeln!(page, "{}", participant_line(participant, now));
    }
    if let Some(Muted { by, why, since, .. }) = muted {
        let (by, why, since) = (sanitize(by), sanitize(why), since.strftime("%F %T"));
        let _ = writeln!(page, "muted by {by} since {since} UTC, until `pushbutton-bin unmute`: {why}");
    }
    if !dead.is_empty() {
        let _ = writeln!(page, "\ndead letters, oldest first:\n{}", dead_letters::page(dead).trim_end());
    }
    if !undelivered.is_empty() {
        let listed = reports::page(undelivered);
        let _ = writeln!(page, "\nundelivered reports, oldest first:\n{}", listed.trim_end());
    }
    if runs.is_empty() {
        let _ = writeln!(page, "\nno runs yet");
        return page;
    }
    let _ = writeln!(page, "\nlatest runs (UTC):");
    let _ = writeln!(
        page,
        "  {:<19}  {:<20} {:<24} {:<14} {:>10}  tests",
        "started", "change", "job", "result", "took"
    );
    for run in runs {
        let result = match &run.verdict {
            Some(verdict) => verdict.result().to_owned(),
            None => format!("{:?}", run.state).to_uppercase(),
        };
        let took = run.ended.unwrap_or(now).duration_since(run.started).unsigned_abs();
        let tests = run
            .tests
            .map_or(String::new(), |tests| format!("{}/{}/{}", tests.passed, tests.failed, tests.skipped));
        let _ = writeln!(
            page,
            "  {}  {:<20} {:<24} {result:<14} {:>10}  {tests}",
            run.started.strftime("%F %T"),
            run.job.target(),
            run.job.name.as_str(),
            HumanDuration(took).to_string(),
        );
        if let Some(why) = run.reason.as_deref() {
            let _ = writeln!(page, "    {}", sanitize(why));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use pushbutton_core::memory::MemoryQueue;
    use pushbutton_core::samples;
    use pushbutton_core::{BuildsetReport, ControlMessage, RunId, RunState, TestCounts, Verdict};

    use super::*;

    #[test]
    fn an_empty_installation_says_so() {
        assert_eq!(
            page(&Status::default(), samples::AT),
            "queue: 0 waiting, 0 leased, 0 dead\nreports: 0 due, 0 undelivered\n\nno runs yet\n"
        );
    }

    #[test]
    fn runs_dead_letters_and_undelivered_reports_are_listed() {
        let run = RunRecord::new(RunId::new("r1").unwrap(), samples::job("tempest"), 1, samples::AT)
            .with_state(RunState::Completed)
            .with_ended(samples::AT + std::time::Duration::from_secs(65))
            .with_verdict(Verdict::Success)
            .with_tests(TestCounts::new(3, 0, 1));
        let dead = DeadLetter::new("x", "no\x07 job");
        let job = samples::job("unit");
        let report = BuildsetReport::new(job.buildset.id.clone(), vec![samples::success(&job)]).unwrap();
        let status = Status {
            depth: QueueDepth::new(1, 0, 1).with_reports(2_u64).with_undelivered(3_u64),
            participants: vec![
                ParticipantRecord::new("operator host-3 7", samples::AT, samples::AT)
                    .with_slots(4)
                    .with_running(3)
                    .with_disk_free(vec![("state".to_owned(), 5 << 30)]),
            ],
            ages: QueueAges::new(Some(samples::AT - Duration::from_secs(65)), None),
            muted: None,
            dead: vec![dead],
            undelivered: vec![UndeliveredReport::new(report, "gerrit: no")],
            runs: vec![run],
        };
        let page = page(&status, samples::AT);
        assert!(
            page.contains("reports: 2 due, 3 undelivered") && page.contains("unit SUCCESS\n    gerrit: no"),
            "{page}"
        );
        assert!(
            page.contains("12345,2") && page.contains("SUCCESS") && page.contains("1m 05s  3/0/1"),
            "{page}"
        );
        assert!(
            page.contains("the oldest job waits for 1m 05s")
                && page.contains("operator host-3 7: seen 0s ago, 3 of 4 slots used, state: 5 GiB free"),
            "{page}"
        );
        assert!(page.contains("(unreadable)\n    no\u{fffd} job"), "{page}");
    }

    #[tokio::test]
    async fn a_mute_is_shown_until_it_ends() {
        let queue = MemoryQueue::default();
        let (by, at) = ("handler host-3".to_owned(), Timestamp::now());
        queue.broadcast(&ControlMessage::Muted { by, why: "ten in a row".into(), at }).await.unwrap();
        let status = Status { muted: muted(&queue).await.unwrap(), ..Status::default() };
        let page = page(&status, samples::AT);
        assert!(page.contains("muted by handler host-3 since ") && page.contains("ten in a row"), "{page}");
        let at = at + Duration::from_secs(1);
        queue.broadcast(&ControlMessage::Unmuted { by: "bob".into(), at }).await.unwrap();
        assert_eq!(muted(&queue).await.unwrap(), None);
    }
}
