use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pushbutton_core::memory::MemoryHistory;
use pushbutton_core::{
    BuildsetReport, DeliveryRecord, DeliveryState, HistoryEntry, HistoryLog as _, Reporter as _, RunId,
    StageOutcome, StageStatus, StreamMonitor, Update, UpdateKind, samples,
};

use super::*;

#[test]
fn the_whole_text() {
    let sample = Sample {
        depth: Some(QueueDepth::new(3, 2, 1).with_reports(5_u64).with_undelivered(4_u64)),
        muted: Some(true),
        verdicts: Some(vec![("FAILURE".into(), 4), ("odd\"\\\n".into(), 5)]),
        last_success: Some(Some(Timestamp::constant(1_795_435_200, 0))),
        ..Sample::default()
    };
    let text = render(sample, Timestamp::UNIX_EPOCH);
    // Within a family the order is not defined.
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.last(), Some(&"# EOF"));
    let mut expected = vec![
        "# HELP pushbutton_part_up Whether a part answered just now.",
        "# TYPE pushbutton_part_up gauge",
        r#"pushbutton_part_up{part="history"} 1"#,
        r#"pushbutton_part_up{part="queue"} 1"#,
        "# HELP pushbutton_queue_jobs Jobs on the queue, by where they are.",
        "# TYPE pushbutton_queue_jobs gauge",
        r#"pushbutton_queue_jobs{place="dead"} 1"#,
        r#"pushbutton_queue_jobs{place="leased"} 2"#,
        r#"pushbutton_queue_jobs{place="waiting"} 3"#,
        "# HELP pushbutton_queue_reports Reports for reviews, by where they are.",
        "# TYPE pushbutton_queue_reports gauge",
        r#"pushbutton_queue_reports{place="due"} 5"#,
        r#"pushbutton_queue_reports{place="undelivered"} 4"#,
        "# HELP pushbutton_muted Whether comments on reviews are muted.",
        "# TYPE pushbutton_muted gauge",
        "pushbutton_muted 1",
        "# HELP pushbutton_runs Finished runs that the history knows, by verdict.",
        "# TYPE pushbutton_runs gauge",
        r#"pushbutton_runs{verdict="FAILURE"} 4"#,
        r#"pushbutton_runs{verdict="odd\"\\\n"} 5"#,
        "# HELP pushbutton_last_success_timestamp_seconds When a run last ended as a success.",
        "# TYPE pushbutton_last_success_timestamp_seconds gauge",
        "pushbutton_last_success_timestamp_seconds 1795435200",
        "# EOF",
    ];
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn a_part_that_does_not_answer_is_down_and_has_no_other_metrics() {
    let text = render(Sample::default(), Timestamp::UNIX_EPOCH);
    assert!(text.contains("pushbutton_part_up{part=\"queue\"} 0\n"), "{text}");
    assert!(
        !text.contains("pushbutton_queue")
            && !text.contains("pushbutton_muted")
            && !text.contains("pushbutton_runs"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
}

/// All that a process may show.
async fn whole() -> String {
    let monitor = StreamMonitor::default();
    monitor.set(StreamState::Connected, None);
    let recorded = Metrics::default();
    let (run, job, stage) =
        (RunId::generate(), samples::job("tempest"), "run".parse::<pushbutton_core::StageName>().unwrap());
    let outcome = StageOutcome::new(StageStatus::Passed, Duration::from_secs(90));
    let failed = RunId::generate();
    let steps = [
        (&run, UpdateKind::Queued),
        (&run, UpdateKind::Started),
        (&run, UpdateKind::Provisioning),
        (&run, UpdateKind::NodeReady { name: "n".into(), address: "192.0.2.1".into() }),
        (&run, UpdateKind::StageEnded { stage, outcome }),
        (&run, UpdateKind::Finished { result: Box::new(samples::success(&job)) }),
        (&failed, UpdateKind::Started),
        (&failed, UpdateKind::Provisioning),
        (&failed, UpdateKind::Retrying { why: "no host".into(), after: Duration::ZERO }),
        (&failed, UpdateKind::HandedBack { why: UpdateKind::LEASE_LOST.into() }),
    ];
    for (seconds, (run, step)) in (0..).zip(steps) {
        let at = samples::AT + Duration::from_secs(10 * seconds);
        recorded.report(&Update::new(job.clone(), step, at).with_run(run.clone())).await.unwrap();
    }
    recorded.event();
    let report = BuildsetReport::new(job.buildset.id.clone(), vec![samples::success(&job)]).unwrap();
    let history = recorded.counting_deliveries(MemoryHistory::default());
    for state in [DeliveryState::Retrying, DeliveryState::Delivered] {
        let delivery = DeliveryRecord::new(&report, state, 1, samples::AT);
        history.append(HistoryEntry::Delivery { delivery }).await.unwrap();
    }
    let sample = Sample {
        depth: Some(QueueDepth::new(3, 2, 1)),
        ages: Some(QueueAges::new(Some(samples::AT), None)),
        muted: Some(false),
        verdicts: Some(vec![("SUCCESS".into(), 4)]),
        last_success: Some(Some(samples::AT)),
        broker: Some(true),
        stream: Some(monitor.watch().borrow().clone()),
        operator: Some(pushbutton_core::Health::new(1, 4)),
        config: Some(ConfigHealth::new(samples::AT)),
        history_dropped: Some(7),
        disks: vec![
            DiskReading { name: "state".into(), free: Some(5 << 30), hangs: false },
            DiskReading { name: "logs".into(), free: None, hangs: true },
        ],
        participants: Some(vec![ParticipantRecord::new("operator a 1", samples::AT, samples::AT)]),
        recorded: Some(recorded),
    };
    render(sample, samples::AT + Duration::from_secs(120))
}

#[tokio::test]
async fn both_halves_count_what_they_do() {
    let text = whole().await;
    for line in [
        "pushbutton_events_total 1",
        "pushbutton_jobs_queued_total 1",
        "pushbutton_runs_started_total 2",
        r#"pushbutton_runs_ended_total{verdict="SUCCESS"} 1"#,
        r#"pushbutton_runs_ended_total{verdict="RETRYING"} 1"#,
        r#"pushbutton_runs_ended_total{verdict="RETURNED"} 1"#,
        "pushbutton_leases_lost_total 1",
        r#"pushbutton_nodes_total{result="ready"} 1"#,
        r#"pushbutton_nodes_total{result="failed"} 1"#,
        "pushbutton_node_seconds_sum 10.0",
        r#"pushbutton_node_seconds_bucket{le="15.0"} 1"#,
        "pushbutton_stage_seconds_sum 90.0",
        "pushbutton_run_seconds_count 1",
        r#"pushbutton_deliveries_total{result="delivered"} 1"#,
        r#"pushbutton_deliveries_total{result="retrying"} 1"#,
        "pushbutton_oldest_waiting_job_seconds 120",
        "pushbutton_oldest_due_report_seconds 0",
        "pushbutton_stream_connected 1",
        "pushbutton_stream_standby 0",
        "pushbutton_broker_connected 1",
        r#"pushbutton_slots{state="used"} 1"#,
        r#"pushbutton_slots{state="free"} 3"#,
        "pushbutton_breaker_open 0",
        "pushbutton_history_dropped_total 7",
        r#"pushbutton_disk_free_bytes{disk="state"} 5368709120"#,
        r#"pushbutton_disk_answers{disk="state"} 1"#,
        r#"pushbutton_disk_answers{disk="logs"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

/// On the only thread of this runtime, as a file server that hangs under all threads of a process.
#[tokio::test]
async fn a_disk_that_hangs_does_not_hold_up_the_metrics() {
    let (disks, _release, _) = crate::disks::tests::one_hangs();
    let queue = pushbutton_core::memory::MemoryQueue::with_lease(Duration::from_secs(60));
    let state = WebState::new(queue, MemoryHistory::default()).with_disks(disks);
    let answer = axum::body::to_bytes(metrics(State(state)).await.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let disks: BTreeSet<_> = text.lines().filter(|line| line.starts_with("pushbutton_disk")).collect();
    let expected = [
        r#"pushbutton_disk_answers{disk="logs"} 0"#,
        r#"pushbutton_disk_answers{disk="state"} 1"#,
        r#"pushbutton_disk_free_bytes{disk="state"} 7"#,
    ];
    assert_eq!(disks, BTreeSet::from(expected));
}

/// Name, type and help of every metric, from the text.
fn described(text: &str) -> BTreeMap<String, (String, String)> {
    let mut all = BTreeMap::<String, (String, String)>::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some("#"), Some(what), Some(name), Some(rest)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let entry = all.entry(name.to_owned()).or_default();
        match what {
            "TYPE" => entry.0 = rest.to_owned(),
            "HELP" => entry.1 = rest.trim_end_matches('.').to_owned(),
            _ => {}
        }
    }
    all
}

#[tokio::test]
async fn every_metric_is_in_the_table_of_the_documentation_with_its_type_and_help() {
    let rows = include_str!("../README.md").lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `pushbutton_")?.split('|').map(str::trim);
        let name = format!(
            "pushbutton_{}",
            cells.next()?.trim_end_matches('`').split('{').next()?.trim_end_matches('`')
        );
        Some((name, (cells.next()?.to_owned(), cells.next()?.to_owned())))
    });
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), described(&whole().await));
}

/// What a query may name: counters and histograms have their suffixes.
fn names(text: &str) -> BTreeSet<String> {
    let of = |(name, (kind, _)): (String, (String, String))| match kind.as_str() {
        "counter" => vec![format!("{name}_total")],
        "histogram" => ["bucket", "count", "sum"].map(|suffix| format!("{name}_{suffix}")).to_vec(),
        _ => vec![name],
    };
    described(text).into_iter().flat_map(of).collect()
}

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring")
}

#[tokio::test]
async fn alert_rules_and_dashboard_name_no_metric_that_does_not_exist() {
    let known = names(&whole().await);
    for file in ["alerts.yml", "alerts_test.yml", "grafana-dashboard.json"] {
        let text = std::fs::read_to_string(monitoring().join(file)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let named: BTreeSet<_> = words.filter(|word| word.starts_with("pushbutton_")).collect();
        let unknown: Vec<_> = named.iter().filter(|name| !known.contains(**name)).collect();
        assert!(!named.is_empty() && unknown.is_empty(), "{file}: {unknown:?}");
    }
}
