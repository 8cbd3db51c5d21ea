//! A change that depends on one of another project, on a real Gerrit, through the whole pipeline to the trees on a node
//! behind SSH; and one that does not merge.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::{config, host_keys_of, ssh_node, sshd};
use pushbutton_ansible::AnsibleExecutor;
use pushbutton_core::memory::{MemoryQueue, MemoryReporter, MemorySource};
use pushbutton_core::{
    Alerter, BuildsetReport, ChangeNumber, Event, EventId, EventMatch, Handler, JobSpec, Journal,
    LogLocation, Node, NodeRequest, OnFailure, Operator, OwnedResource, Pipeline, Provisioner, Result, RunId,
    RunResult, Shutdown, Stage, Trigger, Triggers, Verdict, async_trait, samples,
};
use pushbutton_gerrit::{Gerrit, GerritConfig, GerritReporter, VoteMode};
use pushbutton_testbed::{Change, Sshd};

/// A node that is always there.
struct OneMachine(Node);

#[async_trait]
impl Provisioner for OneMachine {
    async fn provision(&self, _: &NodeRequest, _: &Arc<dyn Journal>) -> Result<Node> {
        Ok(self.0.clone())
    }

    async fn release(&self, _: &RunId, _: &Arc<dyn Journal>) -> Result<()> {
        Ok(())
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        Ok(Vec::new())
    }
}

#[derive(Default)]
struct Mail(Mutex<Vec<String>>);

#[async_trait]
impl Alerter for Mail {
    async fn alert(&self, subject: &str, text: &str) -> Result<()> {
        self.0.lock().unwrap().push(format!("{subject}\n{text}"));
        Ok(())
    }
}

/// Two projects on the shared Gerrit, a node, and a folder for the trees on it.
struct Lab {
    server: pushbutton_testbed::Gerrit,
    gerrit: Arc<Gerrit>,
    projects: [String; 2],
    node: Sshd,
    folder: tempfile::TempDir,
    mail: Arc<Mail>,
}

impl Lab {
    fn new(name: &str) -> Self {
        let server = pushbutton_testbed::gerrit();
        let unique = format!("{}-{}", std::process::id(), RunId::generate());
        let projects = ["cinder", "nova"].map(|project| format!("{name}/{unique}/{project}"));
        projects.iter().for_each(|project| server.create_project(project));
        let mut config = GerritConfig::new(&server.ssh_host, "acme-ci", server.key("acme-ci"));
        config.port = server.ssh_port;
        config.host_key.known_hosts = Some(server.known_hosts.clone());
        config.comment.vote = VoteMode::Both;
        let gerrit = Gerrit::new(config).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { server, gerrit, projects, node: sshd(), folder, mail: Arc::default() }
    }

    /// A change whose message ends with these footers.
    fn push(&self, project: &str, file: &str, text: &str, footers: &str) -> Change {
        let id = RunId::generate().as_str().replace('-', "") + "00000000";
        let message = format!("A change\n\n{footers}Change-Id: I{id}\n");
        self.server.push_message(project, "master", &message, &[(file, text)])
    }

    fn submit(&self, change: &Change) {
        let votes = serde_json::json!({"labels": {"Code-Review": 2, "Verified": 2, "Workflow": 1}});
        self.server.review("admin", change.number, change.patchset, &votes);
        self.server.act("admin", change.number, "submit");
    }

    /// Somebody comments `recheck`: the result of the job.
    async fn recheck(&self, change: &Change) -> RunResult {
        let reports = self.reports_after_recheck(change).await;
        let result = reports.first().and_then(|report| report.results.first()).cloned();
        result.unwrap_or_else(|| panic!("no result in {reports:?}"))
    }

    async fn reports_after_recheck(&self, change: &Change) -> Vec<BuildsetReport> {
        let state = self.gerrit.change(ChangeNumber(change.number)).await.unwrap();
        let comment = samples::comment("bob", "recheck");
        let id =
            EventId::manual(state.change.number, state.current().unwrap().number, RunId::generate().as_str());
        let patchset = state.current().unwrap().clone();
        let event = Event::new(id, comment.position, comment.kind, state.change.clone(), patchset);
        let on = EventMatch::Comment { pattern: "^recheck".into(), from: vec![] };
        let triggers =
            Triggers::compile(vec![Trigger::new("recheck", on, ["unit".parse().unwrap()])], vec![]);

        let playbooks = concat!(env!("CARGO_MANIFEST_DIR"), "/../playbooks");
        let executor = AnsibleExecutor::new(config().with_playbooks(playbooks), self.folder.path()).unwrap();
        let prepare =
            Stage::new("prepare".parse().unwrap(), "demo/prepare.yml").with_on_failure(OnFailure::Retry);
        let mut spec = JobSpec::new("test".parse().unwrap()).stage(prepare);
        spec.vars.insert("checkout_patchset_url".into(), self.server.http_url.clone().into());
        spec.vars.insert("checkout_patchset_dest".into(), self.tree().to_str().unwrap().into());
        let reporter = Arc::new(MemoryReporter::default());
        let queue = Arc::new(MemoryQueue::default());
        let handler = Handler::new(MemorySource::of(vec![event]), triggers.unwrap(), queue.clone())
            .with_dependencies(self.gerrit.clone())
            .with_reporter(GerritReporter::new(self.gerrit.clone()))
            .with_reporter(reporter.clone())
            .with_alerter(self.mail.clone());
        let node = ssh_node(&self.node, &host_keys_of(&self.node)).remove(0);
        let logs = LogLocation::new(self.folder.path().join("logs"));
        let jobs = [("unit".parse().unwrap(), spec)];
        let operator = Operator::new(queue, OneMachine(node), executor, jobs, logs);
        Pipeline::new(handler, operator).unwrap().run(&Shutdown::new()).await.unwrap();
        reporter.delivered()
    }

    /// Where the tree is on the node, which is this machine.
    fn tree(&self) -> PathBuf {
        self.folder.path().join("node/src")
    }

    fn our_comments(&self, change: &Change) -> Vec<String> {
        let messages = self.server.messages(change.number).into_iter();
        messages.filter(|message| message.author == "acme-ci").map(|message| message.text).collect()
    }

    fn alerts(&self) -> Vec<String> {
        self.mail.0.lock().unwrap().clone()
    }
}

fn git(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(folder).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn read(file: PathBuf) -> String {
    std::fs::read_to_string(file).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_is_tested_on_its_branch_with_the_change_of_another_project_that_it_depends_on() {
    let lab = Lab::new("depends-on");
    let [cinder, nova] = &lab.projects;
    let base = lab.push(nova, "base.py", "1\n", "");
    let needed = lab.push(nova, "needed.py", "1\n", "");
    let footer = format!(
        "Depends-On: {}/c/{nova}/+/{}\nDepends-On: {}\n",
        lab.server.http_url, needed.number, base.change_id
    );
    let change = lab.push(cinder, "patch.py", "1\n", &footer);
    let meanwhile = lab.push(cinder, "meanwhile.py", "1\n", "");
    lab.submit(&meanwhile);
    lab.submit(&base);

    let result = lab.recheck(&change).await;
    assert_eq!(result.verdict, Verdict::Success, "{result:?}");
    // What is merged is in the branch already.
    let dependencies: Vec<_> = result.job.dependencies.iter().map(|dependency| dependency.change.0).collect();
    assert_eq!(dependencies, [needed.number]);
    let (tree, other) = (lab.tree(), lab.folder.path().join("node/src.others/nova"));
    let head = lab.server.branch_head(cinder, "master");
    assert_eq!(git(&tree, &["log", "-1", "--format=%P"]), format!("{head} {}", change.revision));
    for file in
        [tree.join("patch.py"), tree.join("meanwhile.py"), other.join("needed.py"), other.join("base.py")]
    {
        assert_eq!(read(file.clone()), "1\n", "{file:?}");
    }
    let head = lab.server.branch_head(nova, "master");
    assert_eq!(git(&other, &["log", "-1", "--format=%P"]), format!("{head} {}", needed.revision));
    let comments = lab.our_comments(&change);
    assert!(comments.len() == 1 && comments[0].contains("Build succeeded"), "{comments:?}");
    assert_eq!(lab.alerts(), [] as [String; 0]);

    // It was given up: the change cannot be tested, which is said without a vote.
    lab.server.abandon(needed.number);
    let reports = lab.reports_after_recheck(&change).await;
    assert!(reports.iter().all(|report| report.results.is_empty() && report.vote().is_none()), "{reports:?}");
    let told = lab.our_comments(&change).pop().unwrap();
    let why = format!("it depends on change {}, which is abandoned", needed.number);
    assert!(told.contains(&why) && told.contains("No build of patch set 1 was started"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_that_does_not_merge_gets_no_comment_and_the_labs_people_are_told() {
    let lab = Lab::new("conflict");
    let cinder = lab.projects[0].clone();
    let change = lab.push(&cinder, "a.py", "1\n", "");
    let meanwhile = lab.push(&cinder, "a.py", "2\n", "");
    lab.submit(&meanwhile);
    let result = lab.recheck(&change).await;
    assert_eq!((&result.verdict, result.attempts), (&Verdict::MergeConflict, 1), "{result:?}");
    let reason = result.reason.unwrap();
    assert!(
        reason.contains("does not merge with master") && reason.ends_with("conflict in a.py"),
        "{reason}"
    );
    assert_eq!(lab.our_comments(&change), [] as [String; 0]);
    assert_eq!(lab.server.votes(change.number).len(), 0);
    let alerts = lab.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert!(alerts[0].starts_with(&format!("merge conflict of change {},1\n", change.number)), "{alerts:?}");
    assert!(alerts[0].contains(&reason), "{alerts:?}");
}
