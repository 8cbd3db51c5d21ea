//! Checks of the contract of [`Provisioner`].
//!
//! Each check provisions for its own runs and releases them, so that all checks may use the same provisioner, even a
//! real cloud.
//!
//! ```
//! use pushbutton_core::memory::MemoryProvisioner;
//! use pushbutton_testkit::conformance::provision::{self, ProvisionerSetup};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // In the body of a `#[tokio::test]`:
//! provision::all(&MemoryProvisioner::default(), &ProvisionerSetup::of("any")).await;
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pushbutton_core::memory::MemoryJournal;
use pushbutton_core::samples;
use pushbutton_core::{
    Error, Journal, Node, NodeLabel, NodeRequest, OwnedResource, Provisioner, RetryClass, RunId,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

/// What the suite must know about the provisioner under test.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProvisionerSetup {
    /// A label that works. The provisioner needs capacity for two nodes of it.
    pub label: NodeLabel,
    /// A label that the provisioner does not know; none when it accepts every label.
    pub unknown: Option<NodeLabel>,
    /// Whether nodes accept SSH connections from this process. Default: no.
    pub answers_ssh: bool,
    /// How long provisioning may take. Default: two minutes.
    pub deadline: Duration,
    /// The journal that is passed to the provisioner. Default: one in memory.
    pub journal: Arc<dyn Journal>,
}

impl fmt::Debug for ProvisionerSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProvisionerSetup")
            .field("label", &self.label)
            .field("unknown", &self.unknown)
            .field("answers_ssh", &self.answers_ssh)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl ProvisionerSetup {
    /// A setup for nodes with this label, with the defaults.
    ///
    /// # Panics
    /// When the label is not valid.
    pub fn of(label: &str) -> Self {
        Self {
            label: NodeLabel::new(label).unwrap(),
            unknown: None,
            answers_ssh: false,
            deadline: Duration::from_secs(120),
            journal: Arc::new(MemoryJournal::default()),
        }
    }

    /// Sets [`unknown`](Self::unknown).
    #[must_use]
    pub fn with_unknown(self, label: NodeLabel) -> Self {
        Self { unknown: Some(label), ..self }
    }

    /// Sets [`answers_ssh`](Self::answers_ssh) to true.
    #[must_use]
    pub fn answering_ssh(self) -> Self {
        Self { answers_ssh: true, ..self }
    }

    /// Sets [`deadline`](Self::deadline).
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Sets [`journal`](Self::journal).
    #[must_use]
    pub fn with_journal(self, journal: impl Journal + 'static) -> Self {
        Self { journal: Arc::new(journal), ..self }
    }

    /// A request for a new run.
    pub fn request(&self) -> NodeRequest {
        let (run, job) = (RunId::generate(), samples::job("conformance").id);
        NodeRequest::new(run, job, self.label.clone(), "pushbutton-conformance-12345-2", self.deadline)
    }
}

/// Runs all checks, except [`a_full_cloud_is_a_temporary_error`], which needs a full provisioner.
pub async fn all(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    a_node_matches_its_request_and_accepts_ssh(provisioner, setup).await;
    resources_are_listed_with_their_run(provisioner, setup).await;
    release_is_idempotent(provisioner, setup).await;
    release_leaves_other_runs_alone(provisioner, setup).await;
    release_deletes_what_a_dropped_call_made(provisioner, setup).await;
    provisioning_ends_at_the_deadline(provisioner, setup).await;
    an_unknown_label_is_a_permanent_error(provisioner, setup).await;
}

/// `provision` returns a node with the requested label, once the node accepts SSH connections.
pub async fn a_node_matches_its_request_and_accepts_ssh(
    provisioner: &dyn Provisioner,
    setup: &ProvisionerSetup,
) {
    let request = setup.request();
    let node = provision(provisioner, setup, &request).await;
    assert_eq!(node.label, request.label, "a node has the requested label");
    assert!(!node.id.is_empty() && !node.name.is_empty() && !node.address.is_empty(), "{node:?}");
    if setup.answers_ssh && !node.local {
        let banner = ssh_banner(&node).await;
        assert!(banner.starts_with("SSH-2.0-"), "a node that is ready sends an SSH banner, not {banner:?}");
    }
    release(provisioner, setup, &request.run).await;
}

/// Whatever `provision` makes carries the run, and `list_owned` lists it.
pub async fn resources_are_listed_with_their_run(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    let request = setup.request();
    provision(provisioner, setup, &request).await;
    let owned = owned_by_run(provisioner, &request.run).await;
    assert!(!owned.is_empty(), "what is made for a run is listed with that run");
    release(provisioner, setup, &request.run).await;
}

/// `release` is idempotent, and works for a run without any resources.
pub async fn release_is_idempotent(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    provisioner
        .release(&RunId::generate(), &setup.journal)
        .await
        .expect("a run without resources can be released");
    let request = setup.request();
    provision(provisioner, setup, &request).await;
    release(provisioner, setup, &request.run).await;
    release(provisioner, setup, &request.run).await;
}

/// `release` never touches the resources of another run.
pub async fn release_leaves_other_runs_alone(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    let (mine, other) = (setup.request(), setup.request());
    provision(provisioner, setup, &mine).await;
    provision(provisioner, setup, &other).await;
    let before = ids(owned_by_run(provisioner, &other.run).await);
    release(provisioner, setup, &mine.run).await;
    assert_eq!(
        ids(owned_by_run(provisioner, &other.run).await),
        before,
        "releasing a run touches no other run"
    );
    release(provisioner, setup, &other.run).await;
}

/// `provision` may be dropped half-way: `release` then deletes what was made.
pub async fn release_deletes_what_a_dropped_call_made(
    provisioner: &dyn Provisioner,
    setup: &ProvisionerSetup,
) {
    for after in [0, 20, 200, 700, 2000] {
        let request = setup.request();
        let dropped_after = Duration::from_millis(after);
        // A call that completes before that has made a node, which is released too.
        let _ = tokio::time::timeout(dropped_after, provisioner.provision(&request, &setup.journal)).await;
        release(provisioner, setup, &request.run).await;
    }
}

/// `provision` ends at the deadline of the request at the latest.
pub async fn provisioning_ends_at_the_deadline(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    let request = setup.request().with_deadline(Duration::from_millis(300));
    let began = Instant::now();
    let result = provisioner.provision(&request, &setup.journal).await;
    let took = began.elapsed();
    assert!(took < request.deadline + Duration::from_secs(20), "a deadline of 300 ms took {took:?}");
    if let Err(error) = result {
        assert_ne!(
            error.retry_class(),
            RetryClass::Permanent,
            "an exceeded deadline is not permanent: {error:?}"
        );
    }
    release(provisioner, setup, &request.run).await;
}

/// An unknown label is a permanent error, which names the label: another attempt cannot fix it.
pub async fn an_unknown_label_is_a_permanent_error(provisioner: &dyn Provisioner, setup: &ProvisionerSetup) {
    let Some(label) = setup.unknown.clone() else { return };
    let request = setup.request().with_label(label.clone());
    let error = provisioner
        .provision(&request, &setup.journal)
        .await
        .expect_err("no node is made for an unknown label");
    assert_eq!(error.retry_class(), RetryClass::Permanent, "{error:?}");
    assert!(error.to_string().contains(label.as_str()), "the error names the label: {error}");
    release(provisioner, setup, &request.run).await;
}

/// A full cloud is a temporary error. The provisioner must have capacity for exactly `capacity` more nodes.
pub async fn a_full_cloud_is_a_temporary_error(
    provisioner: &dyn Provisioner,
    setup: &ProvisionerSetup,
    capacity: usize,
) {
    let mut runs = Vec::new();
    for _ in 0..capacity {
        let request = setup.request();
        provision(provisioner, setup, &request).await;
        runs.push(request.run);
    }
    let request = setup.request().with_deadline(setup.deadline.min(Duration::from_secs(20)));
    let error = provisioner
        .provision(&request, &setup.journal)
        .await
        .expect_err("there is no capacity for another node");
    assert_ne!(error.retry_class(), RetryClass::Permanent, "a full cloud is not permanent: {error:?}");
    runs.push(request.run);
    for run in &runs {
        release(provisioner, setup, run).await;
    }
}

/// The listed resources of a run.
pub async fn owned_by_run(provisioner: &dyn Provisioner, run: &RunId) -> Vec<OwnedResource> {
    let mut owned = provisioner.list_owned().await.expect("owned resources can be listed");
    owned.retain(|one| one.run.as_ref() == Some(run));
    owned
}

fn ids(owned: Vec<OwnedResource>) -> Vec<(&'static str, String)> {
    let mut ids: Vec<_> = owned.into_iter().map(|one| (one.kind.as_str(), one.id)).collect();
    ids.sort();
    ids
}

async fn provision(provisioner: &dyn Provisioner, setup: &ProvisionerSetup, request: &NodeRequest) -> Node {
    match provisioner.provision(request, &setup.journal).await {
        Ok(node) => node,
        Err(error) => {
            let _: Result<(), Error> = provisioner.release(&request.run, &setup.journal).await;
            panic!("the node was not made: {error:?}")
        }
    }
}

async fn release(provisioner: &dyn Provisioner, setup: &ProvisionerSetup, run: &RunId) {
    provisioner.release(run, &setup.journal).await.expect("a run can be released");
    let left = owned_by_run(provisioner, run).await;
    assert!(left.is_empty(), "a released run leaves no resources: {left:?}");
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
