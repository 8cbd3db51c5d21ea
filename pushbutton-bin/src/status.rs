//! `status`: the queue, the dead letters, the undelivered reports, the latest runs.

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use pushbutton_core::pipeline::Muted;
use pushbutton_core::{
    DeadLetter, DeadLetters as _, HumanDuration, NoRoom, NodeLabel, OperatorState, Operators,
    ParticipantRecord, Queue, QueueAges, QueueDepth, ReportGuard, RunHistory as _, RunRecord, StreamState,
    UndeliveredReport, UndeliveredReports as _, WaitingJobs, serde_json,
};
use serde::Serialize;

use crate::assemble::QueueBackend;
use crate::config::Config;
use crate::exit::Exit;
use crate::print::{count, print, sanitize};
use crate::{dead_letters, reports};

/// How long to wait for the next control message: all of the last day are there at once.
const NEXT_MESSAGE: Duration = Duration::from_millis(500);

/// What is shown.
#[derive(Default, Serialize)]
struct Status {
    participants: Vec<ParticipantRecord>,
    depth: QueueDepth,
    ages: QueueAges,
    muted: Option<Muted>,
    /// The operators that are alive.
    operators: Vec<OperatorState>,
    waiting: Vec<WaitingJobs>,
    /// Those of them that no operator can run.
    nobody_can_run: Vec<WaitingJobs>,
    no_room: Vec<WaitingForRoom>,
    dead: Vec<DeadLetter>,
    undelivered: Vec<UndeliveredReport>,
    runs: Vec<RunRecord>,
}

/// A label without room, and who waits for it.
#[derive(Debug, PartialEq, Serialize)]
struct WaitingForRoom {
    /// Who has found no room.
    operator: String,
    #[serde(flatten)]
    no_room: NoRoom,
    /// Jobs that wait for a node of this label.
    waiting: u64,
}

/// Prints all of it on one page, or as one JSON object.
pub(crate) async fn run(config: &Config, last: usize, json: bool) -> anyhow::Result<Exit> {
    let (store, backend) = QueueBackend::open(config).await?;
    let said = Said::read(&backend.queue).await?;
    backend.catch_up(&store).await;
    let participants = store.history().participants().await?;
    let status = Status {
        participants: participants.into_iter().filter(|participant| !participant.ended).collect(),
        depth: backend.queue.depth().await?,
        ages: backend.queue.ages().await?,
        muted: said.guard.muted(),
        dead: backend.dead_letters.list(last).await?,
        undelivered: backend.undelivered.list_undelivered(last).await?,
        runs: store.history().recent(last).await?,
        ..Status::default()
    };
    let now = Timestamp::now();
    let status = status.with_waiting(backend.queue.waiting().await?, &said.operators, now);
    backend.close().await;
    match json {
        true => print(serde_json::to_string(&status)?),
        false => print(page(&status, now).trim_end()),
    }
    Ok(Exit::Ok)
}

/// What the control messages of the last day say: handlers that have muted comments repeat theirs, and operators
/// announce themselves.
struct Said {
    guard: ReportGuard,
    operators: Operators,
}

impl Said {
    async fn read(queue: &dyn Queue) -> pushbutton_core::Result<Self> {
        let (guard, mut operators) = (ReportGuard::new("status"), Operators::default());
        let mut messages = queue.control_messages().await?;
        while let Ok(Some(message)) = tokio::time::timeout(NEXT_MESSAGE, messages.next()).await {
            let message = message?;
            guard.observe(&message);
            operators.observe(&message);
        }
        Ok(Self { guard, operators })
    }
}

impl Status {
    /// Adds who waits for what.
    fn with_waiting(mut self, waiting: Vec<WaitingJobs>, operators: &Operators, now: Timestamp) -> Self {
        let can_run = |kind: &&WaitingJobs| operators.can_run(&kind.name, kind.label.as_ref(), now);
        self.nobody_can_run = waiting.iter().filter(|kind| !can_run(kind)).cloned().collect();
        let waiting_for = |label: &NodeLabel| {
            waiting
                .iter()
                .filter(|kind| kind.label.as_ref() == Some(label))
                .map(|kind| kind.count)
                .sum::<u64>()
        };
        let no_room = operators.no_room(now).map(|(no_room, operator)| WaitingForRoom {
            operator: operator.name.clone(),
            no_room: no_room.clone(),
            waiting: waiting_for(&no_room.label),
        });
        self.no_room = no_room.collect();
        self.operators = operators.alive(now).cloned().collect();
        self.waiting = waiting;
        self
    }

    /// Lines about jobs that wait for more than their turn.
    fn write_waiting(&self, page: &mut String) {
        for WaitingForRoom { operator, no_room, waiting } in &self.no_room {
            let (label, since, last) =
                (&no_room.label, no_room.since.strftime("%F %T"), sanitize(&no_room.last));
            let (jobs, operator) = (count(*waiting, "job"), sanitize(operator));
            let _ =
                writeln!(page, "no room for {label} since {since} UTC, {jobs} waiting ({operator}): {last}");
        }
        if !self.nobody_can_run.is_empty() && self.operators.is_empty() {
            let _ = writeln!(
                page,
                "no operator has announced itself within the last 40 minutes: nobody runs these jobs"
            );
        }
        for WaitingJobs { name, label, count: jobs, since, .. } in &self.nobody_can_run {
            let on = label.as_ref().map_or(String::new(), |label| format!(" on {label}"));
            let (jobs, since) = (count(*jobs, "job"), since.strftime("%F %T"));
            let _ = writeln!(page, "nobody here can run {name}{on}: {jobs}, the oldest since {since} UTC");
        }
    }
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
    if let Some(why) = participant.config.as_ref().and_then(|config| config.refused.as_ref()) {
        let _ = write!(line, ", runs with an OLD configuration: {}", sanitize(why));
    }
    if participant.history_dropped > 0 {
        let _ = write!(line, ", {} entries of the history dropped", participant.history_dropped);
    }
    line
}

fn page(status: &Status, now: Timestamp) -> String {
    let Status { participants, depth, ages, muted, dead, undelivered, runs, .. } = status;
    let mut page = String::new();
    let QueueDepth { waiting, leased, dead: dead_count, reports: due, undelivered: refused, .. } = depth;
    // Writing to a String cannot fail.
    let _ = writeln!(page, "queue: {waiting} waiting, {leased} leased, {dead_count} dead");
    status.write_waiting(&mut page);
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
    use pushbutton_core::{
        BuildsetReport, ConfigHealth, ControlMessage, RunId, RunState, TestCounts, Verdict,
    };

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
                ParticipantRecord::new("handler host-3 8", samples::AT, samples::AT).with_config(
                    ConfigHealth::new(samples::AT).with_refused(Some("a.yml:3: jobs: no\x07".to_owned())),
                ),
            ],
            ages: QueueAges::new(Some(samples::AT - Duration::from_secs(65)), None),
            dead: vec![dead],
            undelivered: vec![UndeliveredReport::new(report, "gerrit: no")],
            runs: vec![run],
            ..Status::default()
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
        let old =
            "handler host-3 8: seen 0s ago, runs with an OLD configuration: a.yml:3: jobs: no\u{fffd}\n";
        assert!(page.contains(old), "{page}");
        assert!(page.contains("(unreadable)\n    no\u{fffd} job"), "{page}");
    }

    /// Issue 10: who waits for room, and what nobody can run.
    #[tokio::test]
    async fn jobs_that_wait_for_room_or_that_nobody_can_run_are_shown() {
        let queue = MemoryQueue::default();
        let (tempest, mut unit) = (samples::job("tempest"), samples::job("unit"));
        let label: NodeLabel = "devstack".parse().unwrap();
        unit.label = Some("rack".parse().unwrap());
        for job in [&tempest.clone().with_label(label.clone()), &unit] {
            queue.publish(job).await.unwrap();
        }
        let now = samples::AT;
        let shown = async |now| {
            let (waiting, said) = (queue.waiting().await.unwrap(), Said::read(&queue).await.unwrap());
            let status = Status::default().with_waiting(waiting, &said.operators, now);
            let json: serde_json::Value = serde_json::to_value(&status).unwrap();
            (page(&status, now), json)
        };
        let (page, json) = shown(now).await;
        let none = "no operator has announced itself within the last 40 minutes: nobody runs these jobs\n";
        assert!(page.contains(none), "{page}");
        assert!(page.contains("nobody here can run tempest on devstack: 1 job, the oldest since "), "{page}");
        assert_eq!(json["nobody_can_run"].as_array().unwrap().len(), 2);

        let no_room: NoRoom = serde_json::from_value(serde_json::json!({
            "label": "devstack", "since": now, "until": now, "last": "Quota\u{7} exceeded",
        }))
        .unwrap();
        let filter = pushbutton_core::JobFilter::names([tempest.name.clone()]).with_labels([label]);
        let state = OperatorState::new("1", "operator host-3", filter, now).with_no_room(vec![no_room]);
        queue.broadcast(&ControlMessage::Operator(state)).await.unwrap();
        let (page, json) = shown(now).await;
        let since = now.strftime("%F %T");
        let full = format!(
            "no room for devstack since {since} UTC, 1 job waiting (operator host-3): Quota\u{fffd} exceeded\n"
        );
        assert!(page.contains(&full) && !page.contains(none), "{page}");
        assert!(
            page.contains("nobody here can run unit on rack: 1 job") && !page.contains("can run tempest"),
            "{page}"
        );
        assert_eq!(json["no_room"][0]["waiting"], 1);
        assert_eq!(json["operators"][0]["name"], "operator host-3");
        // It has died, or cannot reach the queue.
        let (page, _) = shown(now + std::time::Duration::from_secs(41 * 60)).await;
        assert!(page.contains(none) && !page.contains("no room"), "{page}");
    }

    #[tokio::test]
    async fn a_mute_is_shown_until_it_ends() {
        let queue = MemoryQueue::default();
        let (by, at) = ("handler host-3".to_owned(), Timestamp::now());
        queue.broadcast(&ControlMessage::Muted { by, why: "ten in a row".into(), at }).await.unwrap();
        let status = Status { muted: Said::read(&queue).await.unwrap().guard.muted(), ..Status::default() };
        let page = page(&status, samples::AT);
        assert!(page.contains("muted by handler host-3 since ") && page.contains("ten in a row"), "{page}");
        let at = at + Duration::from_secs(1);
        queue.broadcast(&ControlMessage::Unmuted { by: "bob".into(), at }).await.unwrap();
        assert_eq!(Said::read(&queue).await.unwrap().guard.muted(), None);
    }
}
