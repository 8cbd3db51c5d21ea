//! The suites of the testkit, on a real Gerrit 3.10, on a recorded stream, and on a dry run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::memory::MemoryEventStore;
use pushbutton_core::samples;
use pushbutton_core::{
    Account, ChangeNumber, EventSource, EventStore, GitRef, Job, LinkedChange, Patchset, PatchsetCommit,
    PatchsetNumber, Position, ProjectName, Reporter, Revision,
};
use pushbutton_gerrit::{DryRunReporter, EventFilter, Gerrit, GerritReporter, GerritSource, RecordedStream};
use pushbutton_testbed::Change;
use pushbutton_testkit::conformance::{dependencies, report, source};

use common::{Proxy, config, filter, unique};

/// A change in a project of its own on the shared Gerrit, and a handler that reaches it through a proxy.
struct RealGerrit {
    server: pushbutton_testbed::Gerrit,
    change: Change,
    proxy: Proxy,
    store: Arc<MemoryEventStore>,
    folder: tempfile::TempDir,
    in_web_ui: bool,
    said: u32,
}

impl RealGerrit {
    async fn new() -> Self {
        let server = pushbutton_testbed::gerrit();
        let project = unique("conformance/source");
        server.create_project(&project);
        let change = server.push_change(&project, "master", &[("a.txt", "a\n")]);
        let proxy = Proxy::start(server.ssh_port).await;
        let folder = tempfile::tempdir().unwrap();
        Self { server, change, proxy, store: Arc::default(), folder, in_web_ui: false, said: 0 }
    }
}

#[async_trait]
impl source::Harness for RealGerrit {
    /// In turn as `gerrit review` and as the web UI comments: the two look different in a query.
    async fn comment(&mut self, text: &str) {
        self.said += 1;
        let (number, patchset) = (self.change.number, self.change.patchset);
        if self.in_web_ui && self.said.is_multiple_of(2) {
            self.server.comment_in_web_ui("bob", number, patchset, text);
        } else {
            self.server.comment("bob", number, patchset, text);
        }
    }

    async fn open(&mut self) -> Box<dyn EventSource> {
        let gerrit = Gerrit::new(self.proxy.config(&self.server, self.folder.path())).unwrap();
        let store = Arc::clone(&self.store) as Arc<dyn EventStore>;
        Box::new(GerritSource::new(gerrit, store, filter(&self.change.project)))
    }

    fn is_finite(&self) -> bool {
        false
    }

    async fn disconnect(&mut self) -> bool {
        self.proxy.refuse(true);
        self.proxy.cut();
        true
    }

    async fn repair(&mut self) {
        self.proxy.refuse(false);
    }

    async fn committed(&self) -> Option<Position> {
        self.store.position().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_source_on_gerrit_keeps_the_contract() {
    source::all(async || RealGerrit::new().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_source_on_gerrit_keeps_the_contract_for_comments_from_the_web_ui() {
    source::all(async || RealGerrit { in_web_ui: true, ..RealGerrit::new().await }).await;
}

/// Lines as Gerrit wrote them, with other texts.
#[derive(Default)]
struct Recorded(Vec<u8>);

const RECORDED: &str = include_str!("payloads/stream-3.10.jsonl");

#[async_trait]
impl source::Harness for Recorded {
    async fn comment(&mut self, text: &str) {
        let line = RECORDED.lines().find(|line| line.contains("\"Patch Set 1:\\n\\nrecheck\"")).unwrap();
        self.0.extend_from_slice(line.replace("\\n\\nrecheck\"", &format!("\\n\\n{text}\"")).as_bytes());
        self.0.push(b'\n');
    }

    async fn open(&mut self) -> Box<dyn EventSource> {
        Box::new(RecordedStream::new(
            "memory",
            std::io::Cursor::new(self.0.clone()),
            EventFilter::everything(),
        ))
    }

    fn is_finite(&self) -> bool {
        true
    }

    async fn send_invalid(&mut self) -> bool {
        for line in ["{\"type\":\"comment-added\"}\n", "{\"type\":\"comm\n", "\u{0}\u{1}\n", "[]\n", "\n"] {
            self.0.extend_from_slice(line.as_bytes());
        }
        true
    }
}

#[tokio::test]
async fn a_recorded_stream_keeps_the_contract() {
    source::all(async || Recorded::default()).await;
}

/// Jobs on changes of their own on the shared Gerrit.
struct Reviews {
    server: pushbutton_testbed::Gerrit,
    project: String,
}

#[async_trait]
impl report::Harness for Reviews {
    async fn open(&mut self) -> Arc<dyn Reporter> {
        Arc::new(GerritReporter::new(Gerrit::new(config(&self.server)).unwrap()))
    }

    async fn job(&mut self) -> Job {
        job_on(&self.server.push_change(&self.project, "master", &[("a.txt", "a\n")]))
    }

    async fn report_count(&self, job: &Job) -> usize {
        let messages = self.server.messages(job.change.number.0);
        messages.iter().filter(|message| message.author == "acme-ci").count()
    }

    fn survives_restart(&self) -> bool {
        true
    }
}

fn job_on(change: &Change) -> Job {
    let mut job = samples::job_on(change.number, "cinder-tempest-acme");
    job.change.number = ChangeNumber(change.number);
    job.created = Timestamp::now();
    job.change.project = ProjectName::new(&change.project).unwrap();
    job.patchset.number = PatchsetNumber(change.patchset);
    job.patchset.revision = Revision::new(&change.revision).unwrap();
    job.patchset.git_ref = GitRef::new(&change.reference).unwrap();
    job
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reporter_on_gerrit_keeps_the_contract() {
    let server = pushbutton_testbed::gerrit();
    let project = unique("conformance/report");
    server.create_project(&project);
    drop(server);
    report::all(async || Reviews { server: pushbutton_testbed::gerrit(), project: project.clone() }).await;
}

struct DryRun {
    folder: tempfile::TempDir,
    jobs: u64,
}

#[async_trait]
impl report::Harness for DryRun {
    async fn open(&mut self) -> Arc<dyn Reporter> {
        let config = pushbutton_gerrit::GerritConfig::new("review.example.org", "acme-ci", "key");
        Arc::new(DryRunReporter::new(config, self.folder.path().join("comments")))
    }

    async fn job(&mut self) -> Job {
        self.jobs += 1;
        samples::job_on(self.jobs, "cinder-tempest-acme")
    }

    async fn report_count(&self, job: &Job) -> usize {
        let text = std::fs::read_to_string(self.folder.path().join("comments")).unwrap_or_default();
        text.matches(&pushbutton_gerrit::message::dedup_footer(&job.buildset.id)).count()
    }

    fn survives_restart(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_dry_run_keeps_the_contract() {
    report::all(async || DryRun { folder: tempfile::tempdir().unwrap(), jobs: 0 }).await;
}

/// A lookup on Gerrit keeps the contract, with two projects' branches and an amended change.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lookup_of_dependencies_on_gerrit_keeps_the_contract() {
    let server = pushbutton_testbed::gerrit();
    let project = unique("conformance/dependencies");
    server.create_project(&project);
    server.create_branch(&project, "stable/2026.1");
    let first = server.push_change(&project, "master", &[("a.txt", "a\n")]);
    let message = format!("The same\n\nDepends-On: https://x/1\nChange-Id: {}\n", first.change_id);
    let second = server.push_message(&project, "master", &message, &[("a.txt", "b\n")]);
    let twin = server.push_message(&project, "stable/2026.1", &message, &[("a.txt", "c\n")]);
    let linked = |patchsets: &[&Change]| {
        let newest = *patchsets.last().unwrap();
        let change = pushbutton_core::Change::new(
            project.parse().unwrap(),
            newest.branch.parse().unwrap(),
            ChangeNumber(newest.number),
        );
        let parent: Revision = server.branch_head(&project, &newest.branch).parse().unwrap();
        let commits = patchsets.iter().map(|patchset| {
            let (number, git_ref) = (PatchsetNumber(patchset.patchset), patchset.reference.parse().unwrap());
            let commit = Patchset::new(number, patchset.revision.parse().unwrap(), git_ref);
            let alice = Account::of("alice")
                .with_name("Alice Dev".to_owned())
                .with_email("alice@example.org".to_owned());
            let commit = commit.with_uploader(alice);
            PatchsetCommit::new(commit, vec![parent.clone()])
        });
        LinkedChange::new(change, commits.collect())
            .with_id(Some(newest.change_id.parse().unwrap()))
            .with_message(message.clone())
    };
    let changes = [linked(&[&first, &second]), linked(&[&twin])];
    let gerrit = Gerrit::new(config(&server)).unwrap();
    dependencies::all(&*gerrit, &changes).await;
}
