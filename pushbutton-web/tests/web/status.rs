//! The status page, the API and the metrics, over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::Router;
use jiff::Timestamp;
use pushbutton_core::memory::MemoryHistory;
use pushbutton_core::{
    BuildsetReport, ControlMessage, DeliveryRecord, DeliveryState, HistoryEntry, HistoryLog as _, JobFilter,
    ParticipantRecord, Queue, Result, RunHistory, RunId, RunRecord, StreamMonitor, StreamState, Verdict,
    samples,
};
use pushbutton_web::{WebState, router};
use serde_json::json;
use tokio::sync::watch;

use crate::server::{Runs, Server, run};

fn two_runs() -> Runs {
    Runs(Some(vec![run(7, None), run(6, Some(Verdict::Success))]))
}

#[tokio::test]
async fn readiness_is_that_of_the_parts_and_names_no_secrets() {
    let well = Server::with(two_runs()).await.get("/readyz").await;
    let parts = |answer: &serde_json::Value| json!({"queue": answer["queue"], "history": answer["history"]});
    assert_eq!((well.status, parts(&well.json())), (200, json!({"queue": "ok", "history": "ok"})));
    let server = Server::with(Runs(None)).await;
    let ill = server.get("/readyz").await;
    assert_eq!((ill.status, parts(&ill.json())), (503, json!({"queue": "ok", "history": "failed"})));
    assert_eq!(ill.json()["reasons"], json!(["the run history does not answer"]));
    assert_eq!(server.get("/healthz").await.status, 200, "a restart would not mend it");
    for path in ["/api/runs", "/", "/metrics", "/readyz", "/api/actions", "/api/participants"] {
        assert!(!server.get(path).await.text().contains("secret-host"), "{path}");
    }
    assert_eq!(server.get("/api/runs").await.status, 503);
    assert!(server.get("/").await.text().contains("The run history does not answer"));
}

/// A history whose runs are read only when the gate is open.
struct Gated {
    runs: Runs,
    reading: watch::Sender<usize>,
    gate: watch::Receiver<bool>,
}

#[async_trait]
impl RunHistory for Gated {
    async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.reading.send_modify(|reading| *reading += 1);
        self.gate.clone().wait_for(|is_open| *is_open).await.unwrap();
        self.runs.recent(limit).await
    }

    async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
        self.runs.verdicts().await
    }

    async fn last_success(&self) -> Result<Option<Timestamp>> {
        self.runs.last_success().await
    }

    async fn find_run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        self.runs.find_run(run).await
    }

    async fn actions(&self, limit: usize) -> Result<Vec<ControlMessage>> {
        self.runs.actions(limit).await
    }

    async fn deliveries(&self, limit: usize) -> Result<Vec<DeliveryRecord>> {
        self.runs.deliveries(limit).await
    }

    async fn participants(&self) -> Result<Vec<ParticipantRecord>> {
        self.runs.participants().await
    }
}

#[tokio::test]
async fn four_lists_are_made_at_once_and_keep_nobody_from_what_is_no_list() {
    let ((reading, mut read), (gate, gated)) = (watch::channel(0), watch::channel(false));
    let history = Gated { runs: two_runs(), reading, gate: gated };
    let server = Arc::new(Server::with_history(history, router).await);
    let asked: Vec<_> = (0..6)
        .map(|n| {
            let server = Arc::clone(&server);
            let path = if n % 2 == 0 { "/api/runs?limit=500" } else { "/" };
            tokio::spawn(async move { server.get(path).await.status })
        })
        .collect();
    read.wait_for(|reading| *reading >= 4).await.unwrap();
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    // The others wait for their turn, also those that have connected meanwhile.
    assert_eq!(*read.borrow(), 4);
    gate.send_replace(true);
    for answer in asked {
        assert_eq!(answer.await.unwrap(), 200);
    }
    assert_eq!(*read.borrow(), 6);
}

/// At the address of a router with these parts.
async fn mounted(change: impl FnOnce(WebState) -> WebState) -> Server {
    Server::new(two_runs(), |state| router(change(state))).await
}

#[tokio::test]
async fn it_is_not_ready_while_the_event_stream_or_the_broker_is_away() {
    let (monitor, broker) = (StreamMonitor::default(), Arc::new(AtomicBool::new(true)));
    let (stream, asked) = (monitor.watch(), Arc::clone(&broker));
    let server =
        mounted(|state| state.with_stream(stream).with_broker(move || asked.load(Ordering::Relaxed))).await;
    let reasons = async || {
        let answer = server.get("/readyz").await;
        let reasons: Vec<String> = serde_json::from_value(answer.json()["reasons"].clone()).unwrap();
        assert_eq!(answer.status, if reasons.is_empty() { 200 } else { 503 }, "{reasons:?}");
        assert_eq!(server.get("/healthz").await.status, 200);
        reasons
    };
    assert!(reasons().await[0].starts_with("the event stream of the review server is not connected, since "));
    monitor.set(StreamState::Connected, None);
    assert_eq!(reasons().await, Vec::<String>::new());
    monitor.set(StreamState::Disconnected, Some("no route to secret-host"));
    let down = reasons().await;
    assert!(down.len() == 1 && !down[0].contains("secret-host"), "{down:?}");
    monitor.set(StreamState::Standby, None);
    assert_eq!(reasons().await, Vec::<String>::new(), "another handler takes the events");
    broker.store(false, Ordering::Relaxed);
    assert_eq!(reasons().await, ["RabbitMQ is not connected"]);
    broker.store(true, Ordering::Relaxed);
    assert_eq!(reasons().await, Vec::<String>::new());
}

#[tokio::test]
async fn every_dashboard_shows_who_did_what_and_how_each_participant_is_without_secrets() {
    let history = MemoryHistory::default();
    let run = run(7, Some(Verdict::Success));
    let report = BuildsetReport::new(run.job.buildset.id.clone(), vec![samples::success(&run.job)]).unwrap();
    let delivery = DeliveryRecord::new(&report, DeliveryState::Undelivered, 3, samples::AT)
        .with_why("secret-host said no".to_owned());
    let operator = ParticipantRecord::new("operator host-3 7", samples::AT, samples::AT)
        .with_slots(4)
        .with_running(2)
        .with_breaker("secret-host: no valid host".to_owned())
        .with_disk_free(vec![("state".to_owned(), 1)]);
    for entry in [
        HistoryEntry::Run { record: Box::new(run.clone()) },
        HistoryEntry::Control {
            message: ControlMessage::Cancel { job: run.job.id.clone(), by: "alice".into(), at: samples::AT },
        },
        HistoryEntry::Control {
            message: ControlMessage::Muted { by: "bob".into(), why: "secret-host".into(), at: samples::AT },
        },
        HistoryEntry::Delivery { delivery },
        HistoryEntry::Participant { participant: Box::new(operator) },
    ] {
        history.append(entry).await.unwrap();
    }
    let server = Server::with_history(history, router).await;
    let page = server.get("/").await.text();
    for text in [
        "cancelled by alice",
        "comments muted by bob",
        "undelivered, after 3 tries",
        "operator host-3 7",
        "2 of 4",
    ] {
        assert!(page.contains(text), "{text}\n{page}");
    }
    let one = server.get(&format!("/api/runs/{}", run.run)).await.json();
    assert_eq!(one["run"]["run"], json!(run.run));
    assert_eq!(server.get("/api/runs/no-such-run").await.status, 404);
    let mut shown = page;
    for path in ["/api/actions", "/api/deliveries", "/api/participants", "/metrics"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        shown += &answer.text();
    }
    assert!(!shown.contains("secret-host"), "{shown}");
}

#[tokio::test]
async fn the_api_shows_the_queue_and_its_dead_letters() {
    let (server, any) = (Server::with(two_runs()).await, JobFilter::any());
    for n in 0..3 {
        server.queue.publish(&samples::job_on(n, "tempest")).await.unwrap();
    }
    server.queue.claim(&any).await.unwrap().reject("unknown job").await.unwrap();
    let _held = server.queue.claim(&any).await.unwrap();
    let answer = server.get("/api/queue").await;
    let queue = answer.json();
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(json!([queue["waiting"], queue["leased"], queue["dead"]]), json!([1, 1, 1]));
    assert_eq!(queue["dead_letters"][0]["why"], "unknown job");
    assert_eq!(server.get("/api/queue?limit=0").await.json()["dead_letters"], json!([]));
}

#[tokio::test]
async fn the_api_shows_the_latest_runs_within_a_limit() {
    let server = Server::with(Runs(Some((0..600).map(|n| run(n, Some(Verdict::Success))).collect()))).await;
    let count = async |path: &str| server.get(path).await.json()["runs"].as_array().unwrap().len();
    assert_eq!(count("/api/runs").await, 50);
    assert_eq!(count("/api/runs?limit=2").await, 2);
    assert_eq!(count("/api/runs?limit=100000").await, 500);
    assert_eq!(server.get("/api/runs?limit=many").await.status, 400);
    let first = &server.get("/api/runs?limit=1").await.json()["runs"][0];
    assert_eq!((&first["job"]["name"], &first["state"]), (&json!("tempest"), &json!("completed")));
    assert_eq!(first["verdict"], json!({"verdict": "success"}));
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let answer = Server::with(two_runs()).await.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    for line in [
        "pushbutton_runs{verdict=\"SUCCESS\"} 1",
        "pushbutton_queue_jobs{place=\"waiting\"} 0",
        "pushbutton_last_success_timestamp_seconds 1795435365",
        "# EOF",
    ] {
        assert!(answer.text().lines().any(|found| found == line), "{line}: {}", answer.text());
    }
}

#[tokio::test]
async fn the_page_shows_the_runs() {
    let answer = Server::with(two_runs()).await.get("/").await;
    let page = answer.text();
    assert_eq!(answer.status, 200);
    for text in [
        "running: deploy",
        "SUCCESS",
        "10\u{a0}passed, 0\u{a0}failed, 2\u{a0}skipped",
        "2m 45s",
        ">7,2</a>",
        "/logs/",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let mut hostile = run(7, Some(Verdict::NodeFailure));
    hostile.job.change.subject = "</td><script>alert(1)</script>\u{202e}\u{0}".into();
    hostile.job.change.url = Some("javascript:alert(2)".into());
    hostile.log_url = Some("https://x.example/\"onmouseover=alert(3)".into());
    hostile.reason = Some("<img src=x onerror=alert(4)>".into());
    let answer = Server::with(Runs(Some(vec![hostile]))).await.get("/").await;
    let page = answer.text();
    for bad in ["<script", "javascript:", "\"onmouseover", "<img", "<CI>"] {
        assert!(!page.contains(bad), "{bad}: {page}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    // Marks that turn the direction of text around could make a page show what it does not say.
    assert!(page.contains("&lt;/script&gt;\u{fffd}\u{fffd}"), "{page}");
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'self'"), "{policy}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn it_can_be_mounted_in_another_service() {
    let nest = |state: WebState| Router::new().nest("/ci", router(state.with_base_path("/ci/")));
    let service = |state: WebState| Router::new().nest_service("/ci", router(state.with_base_path("/ci")));
    for server in [Server::new(two_runs(), nest).await, Server::new(two_runs(), service).await] {
        std::fs::create_dir(server.logs().join("12345")).unwrap();
        let page = server.get("/ci").await;
        assert_eq!(page.status, 200);
        assert!(page.text().contains("href=\"/ci/style.css\"") && page.text().contains("href=\"/ci/logs/\""));
        assert_eq!(server.get("/ci/style.css").await.header("content-type"), "text/css; charset=utf-8");
        assert_eq!(server.get("/ci/logs/12345").await.header("location"), "/ci/logs/12345/");
        assert!(server.get("/ci/logs/12345/").await.text().contains("<a href=\"/ci\">status</a>"));
        assert_eq!(server.get("/healthz").await.status, 404);
    }
}

#[tokio::test]
async fn it_can_only_be_read() {
    let server = Server::with(two_runs()).await;
    for path in ["/", "/api/runs", "/logs/"] {
        assert_eq!(server.ask("POST", path, "content-length: 0\r\n").await.status, 405, "{path}");
    }
}
