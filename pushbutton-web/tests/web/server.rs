//! A server on loopback with a queue, some runs and a log folder, and a client that sends exactly what it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use jiff::{SignedDuration, Timestamp};
use pushbutton_core::memory::MemoryQueue;
use pushbutton_core::{
    ControlMessage, DeliveryRecord, Error, ErrorKind, ParticipantRecord, Result, RunHistory, RunId,
    RunRecord, RunState, StageName, StageOutcome, StageRecord, StageStatus, TestCounts, Verdict, samples,
};
use pushbutton_web::{WebState, router};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) queue: MemoryQueue,
    folder: TempDir,
}

impl Server {
    /// At the root, with these runs.
    pub(crate) async fn with(history: Runs) -> Self {
        Self::new(history, router).await
    }

    pub(crate) async fn new(history: Runs, mount: impl FnOnce(WebState) -> Router) -> Self {
        Self::with_history(history, mount).await
    }

    pub(crate) async fn with_history(
        history: impl RunHistory + 'static,
        mount: impl FnOnce(WebState) -> Router,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        let queue = MemoryQueue::with_lease(Duration::from_secs(60));
        let state = WebState::new(queue.clone(), history)
            .with_dead_letters(queue.clone())
            .with_title("Acme <CI>")
            .with_logs(folder.path().join("logs"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = mount(state);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, queue, folder }
    }

    /// A folder beside the log folder: what no URL may reach.
    pub(crate) fn outside(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// Sends the path as it is: no client tidies up the dots.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = self.send(method, path, headers).await;
        let mut bytes = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        Answer::parse(&bytes)
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { status, headers: lines.filter_map(header).collect(), body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A run history that is a list; without one it fails.
pub(crate) struct Runs(pub(crate) Option<Vec<RunRecord>>);

impl Runs {
    fn list(&self) -> Result<&Vec<RunRecord>> {
        let failed =
            || Error::temporary(ErrorKind::Local, "disk at secret-host failed").during("history::recent");
        self.0.as_ref().ok_or_else(failed)
    }
}

#[async_trait]
impl RunHistory for Runs {
    async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>> {
        Ok(self.list()?.iter().take(limit).cloned().collect())
    }

    async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
        let mut counts = BTreeMap::new();
        for verdict in self.list()?.iter().filter_map(|run| run.verdict.as_ref()) {
            *counts.entry(verdict.result().to_owned()).or_default() += 1;
        }
        Ok(counts.into_iter().collect())
    }

    async fn last_success(&self) -> Result<Option<Timestamp>> {
        Ok(self
            .list()?
            .iter()
            .filter(|run| run.verdict == Some(Verdict::Success))
            .filter_map(|run| run.ended)
            .max())
    }

    async fn find_run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        Ok(self.list()?.iter().find(|known| known.run == *run).cloned())
    }

    async fn actions(&self, _: usize) -> Result<Vec<ControlMessage>> {
        self.list().map(|_| Vec::new())
    }

    async fn deliveries(&self, _: usize) -> Result<Vec<DeliveryRecord>> {
        self.list().map(|_| Vec::new())
    }

    async fn participants(&self) -> Result<Vec<ParticipantRecord>> {
        self.list().map(|_| Vec::new())
    }
}

pub(crate) fn run(change: u64, verdict: Option<Verdict>) -> RunRecord {
    let ended = verdict.as_ref().map(|_| samples::AT + SignedDuration::from_secs(165));
    let outcome = ended.map(|_| StageOutcome::new(StageStatus::Passed, Duration::from_secs(150)));
    let stage = StageRecord::new(StageName::new("deploy").unwrap(), samples::AT).with_outcome(outcome);
    RunRecord::new(RunId::generate(), samples::job_on(change, "tempest"), 1, samples::AT)
        .with_state(if ended.is_some() { RunState::Completed } else { RunState::Running })
        .with_ended(ended)
        .with_node("node-1".to_owned())
        .with_verdict(verdict)
        .with_log_url("https://logs.example.org/1".to_owned())
        .with_tests(ended.map(|_| TestCounts::new(10, 0, 2)))
        .with_stages(vec![stage])
}
