//! The contract of [`Provisioner`], as checks.
//!
//! Each check makes its own runs and releases them, so that the checks may share one provisioner, even a real cloud.
//!
//! ```
//! use pushbutton_core::memory::MemoryProvisioner;
//! use pushbutton_testkit::conformance::provision::{self, ProvisionerSetup};
//!
//! // As the body of a `#[tokio::test]`.
//! async fn the_provisioner_keeps_its_contract() {
//!     provision::all(&MemoryProvisioner::default(), &ProvisionerSetup::of("any")).await;
//! }
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use pushbutton_core::memory::MemoryJournal;
use pushbutton_core::samples;
use pushbutton_core::{
    Error, Journal, Node, NodeLabel, NodeRequest, OwnedResource, Provisioner, RetryClass, RunId,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

/// What the suite must know about the provisioner.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProvisionerSetup {
    /// A label that works. Room for two nodes of it is needed.
    pub label: NodeLabel,
    /// A label that the provisioner cannot serve; none when it serves all.
    pub unknown: Option<NodeLabel>,
    /// Whether its nodes are real, so that they answer SSH from here.
    pub answers_ssh: bool,
    /// How long a node may take. Default: two minutes.
    pub deadline: Duration,
    /// The journal that the provisioner is given. Default: one in memory.
    pub journal: Arc<dyn Journal>,
}

impl ProvisionerSetup {
    /// Nodes of this label, which nobody connects to.
    pub fn of(label: &str) -> Self {
        Self {
            label: NodeLabel::new(label).unwrap(),
            unknown: None,
            answers_ssh: false,
            deadline: Duration::from_secs(120),
            journal: Arc::new(MemoryJournal::default()),
        }
    }

    /// A request of a new run.
    pub fn request(&self) -> NodeRequest {
        let (run, job) = (RunId::generate(), samples::job("conformance").id);
        NodeRequest::new(run, job, self.label.clone(), "pushbutton-conformance-12345-2", self.deadline)
    }
}

/// Runs all checks that one provisioner with room can be given to.
pub async fn all(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    a_node_is_as_asked_for_and_answers(provisioner, setup).await;
    what_is_made_carries_its_run(provisioner, setup).await;
    release_is_idempotent(provisioner, setup).await;
    release_leaves_other_runs_alone(provisioner, setup).await;
    release_clears_away_what_a_dropped_call_made(provisioner, setup).await;
    the_deadline_is_kept(provisioner, setup).await;
    an_unknown_label_is_a_permanent_error(provisioner, setup).await;
}

/// "Makes a node and waits until it answers SSH."
pub async fn a_node_is_as_asked_for_and_answers(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    let request = setup.request();
    let node = made(provisioner, setup, &request).await;
    assert_eq!(node.label, request.label, "a node has the label that it was asked for by");
    assert!(!node.id.is_empty() && !node.name.is_empty() && !node.address.is_empty(), "{node:?}");
    if setup.answers_ssh && !node.local {
        let banner = ssh_banner(&node).await;
        assert!(banner.starts_with("SSH-2.0-"), "a node that is ready answers SSH, not {banner:?}");
    }
    released(provisioner, setup, &request.run).await;
}

/// "Whatever it makes carries the owner and the run", and `list_owned` shows it.
pub async fn what_is_made_carries_its_run(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    let request = setup.request();
    made(provisioner, setup, &request).await;
    let owned = of_run(provisioner, &request.run).await;
    assert!(!owned.is_empty(), "what is made for a run is listed with that run");
    released(provisioner, setup, &request.run).await;
}

/// "Idempotent: nothing left to take away is `Ok`."
pub async fn release_is_idempotent(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    provisioner.release(&RunId::generate(), &setup.journal).await.expect("a run that never was is released");
    let request = setup.request();
    made(provisioner, setup, &request).await;
    released(provisioner, setup, &request.run).await;
    released(provisioner, setup, &request.run).await;
}

/// "Never touches what carries another owner or another run."
pub async fn release_leaves_other_runs_alone(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    let (mine, other) = (setup.request(), setup.request());
    made(provisioner, setup, &mine).await;
    made(provisioner, setup, &other).await;
    let before = ids(of_run(provisioner, &other.run).await);
    released(provisioner, setup, &mine.run).await;
    assert_eq!(ids(of_run(provisioner, &other.run).await), before, "releasing a run touches that run alone");
    released(provisioner, setup, &other.run).await;
}

/// "May fail or be dropped half-way: `release` then clears away what was made."
pub async fn release_clears_away_what_a_dropped_call_made(
    provisioner: &dyn Provisioner,
    setup: &ProvisionerSetup,
) {
    for after in [0, 20, 200, 700, 2000] {
        let request = setup.request();
        let patience = Duration::from_millis(after);
        // What comes back in time is a whole node, which is released just as well.
        let _ = tokio::time::timeout(patience, provisioner.provision(&request, &setup.journal)).await;
        released(provisioner, setup, &request.run).await;
    }
}

/// "... and at the latest at the request's deadline."
pub async fn the_deadline_is_kept(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    let request = setup.request().with_deadline(Duration::from_millis(300));
    let began = Instant::now();
    let result = provisioner.provision(&request, &setup.journal).await;
    let took = began.elapsed();
    assert!(took < request.deadline + Duration::from_secs(20), "a deadline of 300 ms took {took:?}");
    if let Err(error) = result {
        assert_ne!(error.retry_class(), RetryClass::Permanent, "lack of time may pass: {error:?}");
    }
    released(provisioner, setup, &request.run).await;
}

/// "Permanent errors are those that another attempt cannot mend."
pub async fn an_unknown_label_is_a_permanent_error(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    let Some(label) = setup.unknown.clone() else { return };
    let request = setup.request().with_label(label.clone());
    let error = provisioner
        .provision(&request, &setup.journal)
        .await
        .expect_err("a label that nobody explains makes no node");
    assert_eq!(error.retry_class(), RetryClass::Permanent, "{error:?}");
    assert!(error.to_string().contains(label.as_str()), "the error names the label: {error}");
    released(provisioner, setup, &request.run).await;
}

/// "A full cloud is temporary." Give it a provisioner that has no room, or has room for `room` nodes.
pub async fn a_full_cloud_is_temporary(provisioner: &dyn Provisioner, setup: &ProvisionerSetup, room: usize) {
    let mut runs = Vec::new();
    for _ in 0..room {
        let request = setup.request();
        made(provisioner, setup, &request).await;
        runs.push(request.run);
    }
    let request = setup.request().with_deadline(setup.deadline.min(Duration::from_secs(20)));
    let error =
        provisioner.provision(&request, &setup.journal).await.expect_err("there is no room for another");
    assert_ne!(error.retry_class(), RetryClass::Permanent, "room may come: {error:?}");
    runs.push(request.run);
    for run in &runs {
        released(provisioner, setup, run).await;
    }
}

/// What is listed for a run.
pub async fn of_run(provisioner: &dyn Provisioner, run: &RunId) -> Vec<OwnedResource> {
    let mut owned = provisioner.list_owned().await.expect("what is owned can be listed");
    owned.retain(|one| one.run.as_ref() == Some(run));
    owned
}

fn ids(owned: Vec<OwnedResource>) -> Vec<(&'static str, String)> {
    let mut ids: Vec<_> = owned.into_iter().map(|one| (one.kind.as_str(), one.id)).collect();
    ids.sort();
    ids
}

async fn made(provisioner: &dyn Provisioner, setup: &ProvisionerSetup, request: &NodeRequest) -> Node {
    match provisioner.provision(request, &setup.journal).await {
        Ok(node) => node,
        Err(error) => {
            let _: Result<(), Error> = provisioner.release(&request.run, &setup.journal).await;
            panic!("a node that there is room for was not made: {error:?}")
        }
    }
}

async fn released(provisioner: &dyn Provisioner, setup: &ProvisionerSetup, run: &RunId) {
    provisioner.release(run, &setup.journal).await.expect("a run is released");
    let left = of_run(provisioner, run).await;
    assert!(left.is_empty(), "a released run leaves nothing: {left:?}");
}

async fn ssh_banner(node: &Node) -> String {
    let read = async {
        let stream = TcpStream::connect((node.address.as_str(), node.port)).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        Ok::<_, std::io::Error>(line)
    };
    match tokio::time::timeout(Duration::from_secs(10), read).await {
        Ok(line) => line.unwrap_or_else(|error| format!("({error})")),
        Err(_) => "(nothing in 10 s)".into(),
    }
}
