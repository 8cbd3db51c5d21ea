//! Checks that parts return in time although the server behind them accepts connections and then never answers, as one
//! behind a broken firewall does. Give the part the address of a [`SilentServer`].
//!
//! A pipeline gives up on such a call by itself. A part that returns in time says why it failed.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::memory::MemoryJournal;
use pushbutton_core::{
    Alerter, ChangeSelector, ChangeStatusLookup, DependencyLookup, Error, Job, Journal, NodeLabel,
    NodeRequest, Provisioner, Queue, Reporter, RunId, TriggerLookup, Verdict, samples,
};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::report;

/// A server that accepts connections and never answers. It ends when it is dropped.
#[derive(Debug)]
pub struct SilentServer {
    address: std::net::SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl SilentServer {
    /// Listens on a free port of the loopback address.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.push(connection);
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }
}

impl Drop for SilentServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A reporter returns within two minutes from `deliver`, with a temporary error: the report is tried again.
pub async fn reporter(reporter: &dyn Reporter) {
    let job = samples::job("tempest");
    let report = report::report(&job, &RunId::generate(), Verdict::Success);
    temporary_within(Duration::from_secs(120), "reporter::deliver", reporter.deliver(&report)).await;
}

/// A look-up of a change returns within half a minute, with a temporary error.
pub async fn change_status(lookup: &dyn ChangeStatusLookup) {
    let job: Job = samples::job("tempest");
    let status = async { lookup.status(&job).await.map(drop) };
    temporary_within(Duration::from_secs(30), "change_status::status", status).await;
}

/// A look-up of a dependency returns within a minute, with a temporary error.
pub async fn dependencies(lookup: &dyn DependencyLookup) {
    let which = ChangeSelector::Number(samples::change().number);
    let found = async { lookup.find(&which).await.map(drop) };
    temporary_within(Duration::from_secs(60), "dependencies::find", found).await;
}

/// A look-up for triggers returns within two minutes, with temporary errors.
pub async fn trigger_lookup(lookup: &dyn TriggerLookup) {
    let (minutes, change) = (Duration::from_secs(120), samples::change().number);
    let patchset = async { lookup.patchset(change, samples::patchset().number).await.map(drop) };
    temporary_within(minutes, "lookup::patchset", patchset).await;
    let members = async { lookup.group_members("cinder core").await.map(drop) };
    temporary_within(minutes, "lookup::group_members", members).await;
}

/// An alerter returns within a minute, with an error.
pub async fn alerter(alerter: &dyn Alerter) {
    within(Duration::from_secs(60), "alerter::alert", alerter.alert("subject", "text")).await;
}

/// A provisioner returns at the deadline of the request, and from `release` and `list_owned` within five minutes, with
/// temporary errors.
pub async fn provisioner(provisioner: &dyn Provisioner, label: &NodeLabel) {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let (run, deadline) = (RunId::generate(), Duration::from_secs(5));
    let job = samples::job("tempest").id;
    let request = NodeRequest::new(run.clone(), job, label.clone(), "pushbutton-silent", deadline);
    let provision = async { provisioner.provision(&request, &journal).await.map(drop) };
    temporary_within(deadline * 2, "provisioner::provision", provision).await;
    let minutes = Duration::from_secs(300);
    temporary_within(minutes, "provisioner::list_owned", async { provisioner.list_owned().await.map(drop) })
        .await;
    temporary_within(minutes, "provisioner::release", provisioner.release(&run, &journal)).await;
}

/// A queue returns within two minutes from `publish`, `depth` and `leased_runs`, with temporary errors. It waits in
/// `claim`, by its contract.
pub async fn queue(queue: &dyn Queue) {
    let limit = Duration::from_secs(120);
    let job = samples::job("tempest");
    temporary_within(limit, "queue::publish", queue.publish(&job)).await;
    temporary_within(limit, "queue::depth", async { queue.depth().await.map(drop) }).await;
    temporary_within(limit, "queue::leased_runs", async { queue.leased_runs().await.map(drop) }).await;
}

async fn temporary_within(limit: Duration, what: &str, call: impl Future<Output = Result<(), Error>>) {
    let error = within(limit, what, call).await;
    assert!(error.is_temporary(), "{what}: a server that does not answer may answer later: {error:?}");
}

async fn within(limit: Duration, what: &str, call: impl Future<Output = Result<(), Error>>) -> Error {
    match timeout(limit, call).await {
        Err(_) => panic!("{what} has not returned within {limit:?}"),
        Ok(Ok(())) => panic!("{what} succeeded although nothing answered"),
        Ok(Err(error)) => error,
    }
}
