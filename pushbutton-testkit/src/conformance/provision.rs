//! The contract of [`Provisioner`], as checks.
//!
//! Each check makes its own runs and releases them, so that the checks may share one provisioner, even a real cloud.
//!
//! ```
//! use pushbutton_core::memory::MemoryProvisioner;
//! use pushbutton_testkit::conformance::provision::{self, Setting};
//!
//! // As the body of a `#[tokio::test]`.
//! async fn the_provisioner_keeps_its_contract() {
//!     provision::all(&MemoryProvisioner::default(), &Setting::of("any")).await;
//! }
//! ```

use std::time::{Duration, Instant};

use pushbutton_core::memory::sample;
use pushbutton_core::{Error, Node, NodeLabel, NodeRequest, OwnedResource, Provisioner, RetryClass, RunId};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

/// What a suite must know of the provisioner that it is given.
#[derive(Debug, Clone)]
pub struct Setting {
    /// A label that works. Room for two nodes of it is needed.
    pub label: NodeLabel,
    /// A label that the provisioner cannot serve; none when it serves all.
    pub unknown: Option<NodeLabel>,
    /// Whether its nodes are real, so that they answer SSH from here.
    pub answers_ssh: bool,
    /// How long a node may take. Default: two minutes.
    pub deadline: Duration,
}

impl Setting {
    /// Nodes of this label, which nobody connects to.
    pub fn of(label: &str) -> Self {
        Self {
            label: NodeLabel::new(label).unwrap(),
            unknown: None,
            answers_ssh: false,
            deadline: Duration::from_secs(120),
        }
    }

    /// A request of a new run.
    pub fn request(&self) -> NodeRequest {
        NodeRequest {
            run: RunId::generate(),
            job: sample::job("conformance").id,
            label: self.label.clone(),
            name: "pushbutton-conformance-12345-2".into(),
            deadline: self.deadline,
        }
    }
}

/// Runs all checks that one provisioner with room can be given to.
pub async fn all(provisioner: &dyn Provisioner, setting: &Setting) {
    a_node_is_as_asked_for_and_answers(provisioner, setting).await;
    what_is_made_carries_its_run(provisioner, setting).await;
    release_is_idempotent(provisioner, setting).await;
    release_leaves_other_runs_alone(provisioner, setting).await;
    release_clears_away_what_a_dropped_call_made(provisioner, setting).await;
    the_deadline_is_kept(provisioner, setting).await;
    an_unknown_label_is_a_permanent_error(provisioner, setting).await;
}

/// "Makes a node and waits until it answers SSH."
pub async fn a_node_is_as_asked_for_and_answers(provisioner: &dyn Provisioner, setting: &Setting) {
    let request = setting.request();
    let node = made(provisioner, &request).await;
    assert_eq!(node.label, request.label, "a node has the label that it was asked for by");
    assert!(!node.id.is_empty() && !node.name.is_empty() && !node.address.is_empty(), "{node:?}");
    if setting.answers_ssh && !node.local {
        let banner = ssh_banner(&node).await;
        assert!(banner.starts_with("SSH-2.0-"), "a node that is ready answers SSH, not {banner:?}");
    }
    released(provisioner, &request.run).await;
}

/// "Whatever it makes carries the owner and the run", and `list_owned` shows it.
pub async fn what_is_made_carries_its_run(provisioner: &dyn Provisioner, setting: &Setting) {
    let request = setting.request();
    made(provisioner, &request).await;
    let owned = of_run(provisioner, &request.run).await;
    assert!(!owned.is_empty(), "what is made for a run is listed with that run");
    released(provisioner, &request.run).await;
}

/// "Idempotent: nothing left to take away is `Ok`."
pub async fn release_is_idempotent(provisioner: &dyn Provisioner, setting: &Setting) {
    provisioner.release(&RunId::generate()).await.expect("a run that never was is released");
    let request = setting.request();
    made(provisioner, &request).await;
    released(provisioner, &request.run).await;
    released(provisioner, &request.run).await;
}

/// "Never touches what carries another owner or another run."
pub async fn release_leaves_other_runs_alone(provisioner: &dyn Provisioner, setting: &Setting) {
    let (mine, other) = (setting.request(), setting.request());
    made(provisioner, &mine).await;
    made(provisioner, &other).await;
    let before = ids(of_run(provisioner, &other.run).await);
    released(provisioner, &mine.run).await;
    assert_eq!(ids(of_run(provisioner, &other.run).await), before, "releasing a run touches that run alone");
    released(provisioner, &other.run).await;
}

/// "May fail or be dropped half-way: `release` then clears away what was made."
pub async fn release_clears_away_what_a_dropped_call_made(provisioner: &dyn Provisioner, setting: &Setting) {
    for after in [0, 20, 200, 700, 2000] {
        let request = setting.request();
        let patience = Duration::from_millis(after);
        // What comes back in time is a whole node, which is released just as well.
        let _ = tokio::time::timeout(patience, provisioner.provision(&request)).await;
        released(provisioner, &request.run).await;
    }
}

/// "... and at the latest at the request's deadline."
pub async fn the_deadline_is_kept(provisioner: &dyn Provisioner, setting: &Setting) {
    let request = NodeRequest { deadline: Duration::from_millis(300), ..setting.request() };
    let began = Instant::now();
    let result = provisioner.provision(&request).await;
    let took = began.elapsed();
    assert!(took < request.deadline + Duration::from_secs(20), "a deadline of 300 ms took {took:?}");
    if let Err(error) = result {
        assert_ne!(error.retry_class(), RetryClass::Permanent, "lack of time may pass: {error:?}");
    }
    released(provisioner, &request.run).await;
}

/// "Permanent errors are those that another attempt cannot mend."
pub async fn an_unknown_label_is_a_permanent_error(provisioner: &dyn Provisioner, setting: &Setting) {
    let Some(label) = setting.unknown.clone() else { return };
    let request = NodeRequest { label: label.clone(), ..setting.request() };
    let error =
        provisioner.provision(&request).await.expect_err("a label that nobody explains makes no node");
    assert_eq!(error.retry_class(), RetryClass::Permanent, "{error:?}");
    assert!(error.to_string().contains(label.as_str()), "the error names the label: {error}");
    released(provisioner, &request.run).await;
}

/// "A full cloud is temporary." Give it a provisioner that has no room, or has room for `room` nodes.
pub async fn a_full_cloud_is_temporary(provisioner: &dyn Provisioner, setting: &Setting, room: usize) {
    let mut runs = Vec::new();
    for _ in 0..room {
        let request = setting.request();
        made(provisioner, &request).await;
        runs.push(request.run);
    }
    let request =
        NodeRequest { deadline: setting.deadline.min(Duration::from_secs(20)), ..setting.request() };
    let error = provisioner.provision(&request).await.expect_err("there is no room for another");
    assert_ne!(error.retry_class(), RetryClass::Permanent, "room may come: {error:?}");
    runs.push(request.run);
    for run in &runs {
        released(provisioner, run).await;
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

async fn made(provisioner: &dyn Provisioner, request: &NodeRequest) -> Node {
    match provisioner.provision(request).await {
        Ok(node) => node,
        Err(error) => {
            let _: Result<(), Error> = provisioner.release(&request.run).await;
            panic!("a node that there is room for was not made: {error:?}")
        }
    }
}

async fn released(provisioner: &dyn Provisioner, run: &RunId) {
    provisioner.release(run).await.expect("a run is released");
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
