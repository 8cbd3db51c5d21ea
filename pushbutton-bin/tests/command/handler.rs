//! A handler process on the testbed's Gerrit, and a project whose jobs it queues.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use pushbutton_amqp::{AmqpConfig, AmqpQueue};
use pushbutton_core::{Job, JobFilter, Queue as _, samples};
use pushbutton_testbed::{Gerrit, Version, gerrit, rabbitmq, until};

use crate::lab::Lab;

/// The timeout of everything that must happen, also on a slow machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(180);

/// A project of its own, and the configurations of handlers for it.
pub(crate) struct Site {
    gerrit: Gerrit,
    project: String,
    broker: String,
}

impl Site {
    pub(crate) fn new(name: &str) -> Self {
        let (gerrit, broker) = (gerrit(), rabbitmq(Version::V4));
        let project = format!("acme/{name}-{}", std::process::id());
        gerrit.create_project(&project);
        let prefix = project.replace('/', "-");
        let broker = format!("url: {:?}, prefix: {prefix}", broker.url);
        Self { gerrit, project, broker }
    }

    /// A host of its own, with a state folder of its own.
    pub(crate) fn lab(&self) -> Lab {
        let lab = Lab::with_gerrit(&format!(
            "host: {}\n  port: {}\n  user: acme-ci\n  key: {}\n  host_key: {{known_hosts: {}}}",
            self.gerrit.ssh_host,
            self.gerrit.ssh_port,
            self.gerrit.key("acme-ci").display(),
            self.gerrit.known_hosts.display()
        ));
        lab.configure(&lab.config().replace("acme/*", &self.project));
        lab
    }

    pub(crate) fn name_rabbitmq(&self, lab: &Lab) {
        lab.configure(&format!("{}rabbitmq: {{{}, heartbeat: 5s}}\n", lab.config(), self.broker));
    }

    /// Comments `recheck` on a new change; returns its number.
    pub(crate) fn recheck(&self) -> u64 {
        self.comment("recheck")
    }

    /// Writes this comment on a new change; returns its number.
    pub(crate) fn comment(&self, text: &str) -> u64 {
        let change = self.gerrit.push_change(&self.project, "master", &[("file.txt", "content")]);
        self.gerrit.comment("bob", change.number, change.patchset, text);
        change.number
    }

    /// The changes of all jobs that are queued on RabbitMQ now, in order. The jobs are completed.
    pub(crate) fn queued(&self, at_least: usize) -> Vec<u64> {
        let mut config = serde_yaml::from_str::<AmqpConfig>(&format!("{{{}}}", self.broker)).unwrap();
        config.heartbeat = pushbutton_core::HumanDuration::secs(30);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let queue = AmqpQueue::connect(config).await.unwrap();
            let mut changes = Vec::new();
            let filter = JobFilter::any();
            let claim = async || {
                let claim = tokio::time::timeout(TIMEOUT, queue.claim(&filter)).await;
                let claim = claim.unwrap_or_else(|_| panic!("a job is not queued")).unwrap();
                let job: Job = claim.job().clone();
                claim.complete(&samples::success(claim.job())).await.unwrap();
                job
            };
            while changes.len() < at_least {
                changes.push(claim().await.change.number.0);
            }
            // All jobs that are queued now come before this one.
            let last = samples::job_on(u64::MAX - changes[0], "the-last");
            queue.publish(&last).await.unwrap();
            loop {
                let job = claim().await;
                if job.id == last.id {
                    queue.close().await;
                    return changes;
                }
                changes.push(job.change.number.0);
            }
        })
    }
}

/// A handler process. Killed on drop.
pub(crate) struct Handler<'l> {
    lab: &'l Lab,
    child: Child,
}

impl<'l> Handler<'l> {
    pub(crate) fn start(lab: &'l Lab) -> Self {
        Self::of(lab, lab.command(&["handler", "--wait", "2m"]))
    }

    /// Starts this command, which becomes the handler.
    pub(crate) fn of(lab: &'l Lab, mut command: Command) -> Self {
        let log = File::options().create(true).append(true).open(lab.path("log")).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { lab, child }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.lab.path("log")).unwrap()
    }

    /// The state folder as the handler sees it.
    pub(crate) fn state(&self) -> PathBuf {
        let seen = self.lab.path("state");
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join("root")
            .join(seen.strip_prefix("/").unwrap())
    }

    pub(crate) fn says(&mut self, text: &str) {
        until(&format!("the handler says {text:?}"), TIMEOUT, || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the handler ended: {ended:?}\n{}", self.log());
            self.log().contains(text).then_some(())
        });
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "{}", self.log());
    }

    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn ends(&mut self) {
        let term = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(term.success(), "{}", self.log());
        let status = until("the end of the handler", TIMEOUT, || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

impl Drop for Handler<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the handler said:\n{}", self.log());
        }
    }
}
