use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{
    CancellationToken, Error, ErrorKind, Executor, HumanDuration, LineSink, Node, Result, RetryPatterns,
    RunId, Stage, StageContext, StageOutcome, StageStatus,
};
use pushbutton_results::{KnownResults, TestResults};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use crate::config::AnsibleConfig;
use crate::console::{self, Console, one_line};
use crate::copied_files::{KnownFiles, Redacted};
use crate::credentials::CredentialFilter;
use crate::error::{local, startup};
use crate::exit_status::{self, StageEnd, Termination};
use crate::gathered_logs::Unpacked;
use crate::orphans;
use crate::playbook_events::PlaybookEvents;
use crate::process_tree::{ProcessLimits, ProcessTree};
use crate::redact::Redactor;
use crate::redacted_copy::Filters;
use crate::workspace::{EVENTS, StageFiles, Workspace, create_private_dir};
use crate::{
    CONSOLE_LOG, artifacts, command, extra_vars, gathered_logs, inventory, liveness, playbook_events,
};

/// The longest detail of an outcome, in bytes: it is one line of a comment.
const MAX_DETAIL: usize = 400;
/// How long output is still read after all processes ended. Only a process that was not found can keep the pipe open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long logs are redacted and unpacked at least, also when the stage's own time is nearly over.
const UNPACK_TIMEOUT: Duration = Duration::from_secs(20);

/// What was found in the log folder after a stage, and done to it.
struct LogFolder {
    /// Links that lead out of it.
    removed: Vec<PathBuf>,
    events: PlaybookEvents,
    tests: TestResults,
    /// The name of the page of these tests.
    page: io::Result<Option<String>>,
    redacted: Redacted,
    /// The logs of each node.
    gathered: Vec<(String, Unpacked)>,
    /// A path on a disk of this host that is full.
    full_disk: Option<PathBuf>,
}

/// Runs stages with `ansible-playbook`.
pub struct AnsibleExecutor {
    pub(crate) config: AnsibleConfig,
    pub(crate) playbooks: PathBuf,
    pub(crate) checked_playbooks: Vec<String>,
    identity: String,
    workspace: Workspace,
    redactor: Redactor,
    secret_vars: String,
}

impl std::fmt::Debug for AnsibleExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnsibleExecutor").field("config", &self.config).finish_non_exhaustive()
    }
}

impl AnsibleExecutor {
    /// Makes the work folder, in the folder `state` unless the configuration names one. Starts no process.
    ///
    /// # Errors
    /// Permanent, when the playbooks' folder is missing, a secret's name is no name of a variable, or the work folder
    /// cannot be made.
    pub fn new(config: AnsibleConfig, state: &Path) -> Result<Self> {
        Self::create(config, state).map_err(|error| error.during("ansible::new"))
    }

    fn create(mut config: AnsibleConfig, state: &Path) -> Result<Self> {
        let playbooks = config.playbooks.canonicalize().map_err(|error| {
            startup(error, "cannot find the playbooks; fix `ansible.playbooks`", &config.playbooks)
        })?;
        if config.ansible_playbook.components().count() > 1 {
            // It is started in the playbooks' folder, where a relative path would mean another file.
            config.ansible_playbook = std::path::absolute(&config.ansible_playbook)
                .map_err(|error| startup(error, "cannot find ansible-playbook", &config.ansible_playbook))?;
        }
        let work_dir = config.work_dir.clone().unwrap_or_else(|| state.join("ansible"));
        let failed =
            |error| startup(error, "cannot make Ansible's work folder; fix `ansible.work_dir`", &work_dir);
        create_private_dir(&work_dir).map_err(failed)?;
        let work_dir = work_dir.canonicalize().map_err(failed)?;
        inventory::plain_path(&work_dir)?;
        let workspace = Workspace::create(&work_dir).map_err(failed)?;
        let identity = orphans::process_identity()
            .map_err(|error| startup(error, "cannot read /proc; mount it", "/proc/self/stat".as_ref()))?;
        let redactor = Redactor::new(&config.secrets)?;
        let secret_vars = extra_vars::secret_vars(&config.secrets)?;
        Ok(Self {
            config,
            playbooks,
            checked_playbooks: Vec::new(),
            identity,
            workspace,
            redactor,
            secret_vars,
        })
    }

    /// Names the playbooks whose syntax [`check`](pushbutton_core::check::Check::check) checks: those of all jobs.
    #[must_use]
    pub fn with_checked_playbooks(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.checked_playbooks = names.into_iter().map(Into::into).collect();
        self
    }

    /// Stops the processes that operators left which no longer run, as after `kill -9`, and removes their files: TERM,
    /// and KILL after `kill_grace`. Returns how many processes were found. Call it once at the start; without orphans
    /// it takes some milliseconds. Operators that still run, on this machine or in a container of it, keep their
    /// processes.
    pub async fn stop_orphans(&self) -> usize {
        let found = orphans::stop_orphans(self.config.kill_grace.0).await;
        if found > 0 {
            tracing::warn!(found, "stopped orphans: processes of an operator that no longer runs");
        }
        self.workspace.remove_orphaned();
        found
    }

    /// ansible-playbook with the environment that all calls share, in the playbooks' folder.
    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.config.ansible_playbook);
        let inherited = |name: &str| std::env::var_os(name);
        command.env_clear().envs(command::environment(&self.config, &self.playbooks, inherited));
        command.current_dir(&self.playbooks);
        command
    }

    /// The variables of the environment by which a playbook finds pushbutton's own module.
    pub(crate) fn module_environment(&self, files: &StageFiles) -> [(&'static str, std::ffi::OsString); 2] {
        let allowed = |name: &str| self.config.env.iter().any(|known| known == name);
        command::module_environment(files, |name| allowed(name).then(|| std::env::var_os(name)).flatten())
    }

    /// The files of a call that is no stage. They are removed on drop.
    pub(crate) fn check_files(&self) -> Result<StageFiles> {
        self.workspace.create_stage(&RunId::new("check")?, RunId::generate().as_str())
    }

    async fn run(
        &self,
        stage: &Stage,
        nodes: &[Node],
        context: &StageContext,
        lines: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome> {
        let began = Instant::now();
        let playbook = command::resolve_playbook(&self.playbooks, &stage.playbook)?;
        stage.retry_when.iter().try_for_each(|pattern| RetryPatterns::check_pattern(pattern))?;
        let log_dir = &context.log_dir;
        // Often on a network file system, which may hang.
        tokio::fs::create_dir_all(log_dir)
            .await
            .map_err(|error| local(error, "cannot make the log folder", log_dir))?;
        let id = RunId::generate();
        // Declared before the processes: when this future is dropped, the processes are killed first.
        let files = self.workspace.create_stage(&context.run, id.as_str())?;
        files.write(nodes, &extra_vars::extra_vars(context)?, &self.secret_vars)?;
        let (known_results, known_files) = blocking({
            let log_dir = log_dir.clone();
            move || (KnownResults::of(&log_dir), KnownFiles::of(&log_dir))
        })
        .await?;

        let room = self.config.console_limit_mib.saturating_mul(1 << 20);
        let path = log_dir.join(CONSOLE_LOG);
        let mut console = Console::open(&path, room, &self.redactor, lines, files.mark()).await?;
        console.note(&console::header(stage, context)).await;
        let mut reachable = Vec::new();
        let termination = {
            let tag = orphans::tag(id.as_str(), &self.identity);
            let run = self.run_playbook(stage, &files, &playbook, &tag, &mut console, cancel);
            let probe = async {
                liveness::probe(nodes, &mut reachable).await;
                std::future::pending().await
            };
            tokio::select! {
                termination = run => termination?,
                never = probe => never,
            }
        };
        console.finish().await;

        let unpack_until = Instant::now() + UNPACK_TIMEOUT;
        let end = began.checked_add(stage.timeout).unwrap_or(unpack_until);
        let deadline = end.max(unpack_until);
        let LogFolder { removed, mut events, tests, page, redacted, gathered, full_disk } = blocking({
            let (log_dir, events_file) = (log_dir.clone(), files.path(EVENTS));
            let (names, nodes) = (inventory::names(nodes), inventory::names_and_addresses(nodes));
            // Made for each stage: its patterns take a mebibyte, which an idle operator does not need.
            let (secrets, credentials) = (self.redactor.clone(), CredentialFilter::new()?);
            let cancel = cancel.clone();
            move || {
                let removed = artifacts::sanitize_tree(&log_dir);
                let events = playbook_events::read(&events_file, &nodes);
                let filter = RefCell::new(credentials.clone());
                let redact = |text: &str| filter.borrow_mut().redact_text(&secrets.redact(text));
                let tests = known_results.read_new(&log_dir, &redact);
                let filters = Filters { secrets: &secrets, credentials: &credentials };
                // After the results were read: some readers refuse a stream in which something was replaced.
                let mut others: Vec<_> =
                    names.iter().map(|name| gathered_logs::archive(&log_dir, name)).collect();
                others.push(log_dir.join(CONSOLE_LOG));
                let limit = gathered_logs::LIMITS.total;
                let stop = || Instant::now() > if cancel.is_cancelled() { unpack_until } else { deadline };
                let redacted = known_files.redact_new(&log_dir, &others, id.as_str(), filters, limit, &stop);
                let page = tests.write_page(&log_dir);
                // After the count: what a node claims to be results is not.
                let stop = || cancel.is_cancelled() || Instant::now() > deadline;
                let gathered = gathered_logs::unpack_all(&log_dir, &names, id.as_str(), filters, &stop);
                let full_disk = [log_dir, events_file].into_iter().find(|path| exit_status::is_full(path));
                LogFolder { removed, events, tests, page, redacted, gathered, full_disk }
            }
        })
        .await?;
        for path in removed {
            let path = path.display();
            console.note(&format!("pushbutton: removed {path}: it leads out of the log folder")).await;
        }
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                console.note(&format!("pushbutton: cannot write the page of test results: {error}")).await;
                None
            }
        };
        if let Some(why) = &tests.incomplete {
            console.note(&format!("pushbutton: test results are incomplete: {why}")).await;
        }
        for note in redacted.notes {
            console.note(&format!("pushbutton: {note}")).await;
        }
        let mut is_local_fault = redacted.fault.is_some();
        let mut log_fault = redacted.fault;
        for (node, unpacked) in gathered {
            is_local_fault |= unpacked.is_local_fault;
            for note in unpacked.notes {
                console.note(&format!("pushbutton: logs of {node}: {note}")).await;
            }
            log_fault = log_fault.or(unpacked.fault.map(|fault| format!("logs of {node}: {fault}")));
        }
        let is_late = Instant::now() > deadline;
        events.blame_test(tests.failed.first(), tests.counts.map_or(0, |counts| counts.failed));
        let allowed = &self.config.allow_no_hosts;
        let end = exit_status::evaluate(termination, &events, console.ansible_error(), allowed)
            .and_then(|end| end.unless_disk_is_full(full_disk.as_deref()))
            .and_then(|end| match log_fault {
                // Nothing of it is the patch's. Only the disk is a fault of this host.
                Some(fault) if is_local_fault && end.status == StageStatus::Passed => {
                    if cancel.is_cancelled() {
                        return Ok(StageEnd::new(StageStatus::Cancelled, fault));
                    }
                    if is_late {
                        return Ok(StageEnd::new(StageStatus::TimedOut, fault));
                    }
                    let message = "logs could not be unpacked or redacted on this host";
                    Err(Error::temporary(ErrorKind::Local, message).with("fault", fault))
                }
                fault => {
                    let end = end.with_tests(tests.counts).with_incomplete_tests(tests.incomplete.as_deref());
                    Ok(end.with_fault(fault))
                }
            });
        let end = match end {
            Ok(end) => liveness::confirm(end, &reachable, cancel).await,
            Err(error) => {
                console.note(&format!("pushbutton: stage {}: {}", stage.name, error.message())).await;
                return Err(error);
            }
        };
        let lab_fault = match events.cause() {
            Some(cause) if end.status == StageStatus::Failed && cause.out_of_memory => {
                Some(exit_status::out_of_memory().to_owned())
            }
            Some(cause) if end.status == StageStatus::Failed && end.lab_fault.is_none() => {
                // Compiled for each failure: the patterns take mebibytes, which an idle operator does not need.
                let (patterns, output, counts) =
                    (stage.retry_when.clone(), cause.output.clone(), tests.counts);
                blocking(move || {
                    let patterns = RetryPatterns::compile(&patterns, counts)?;
                    Ok::<_, Error>(patterns.recognise(output.iter().map(String::as_str)))
                })
                .await??
            }
            _ => end.lab_fault.filter(|_| end.status == StageStatus::Failed),
        };
        let merge_conflict = events
            .merge_conflict()
            .filter(|_| end.status == StageStatus::Failed)
            .map(|what| one_line(what, &self.redactor, MAX_DETAIL));
        let outcome = StageOutcome::new(end.status, began.elapsed())
            .with_detail(end.detail.map(|detail| one_line(&detail, &self.redactor, MAX_DETAIL)))
            .with_lab_fault(lab_fault.map(|fault| one_line(&fault, &self.redactor, MAX_DETAIL)))
            .with_merge_conflict(merge_conflict)
            .with_tests(tests.counts)
            .with_failed_tests(tests.failed)
            .with_slowest_tests(tests.slowest)
            .with_test_page(page)
            .with_log_url(events.log_url);
        console.note(&console::footer(stage, &outcome)).await;
        Ok(outcome)
    }

    /// Runs ansible-playbook to its end, its time limit or its cancellation. Its output is read all the while.
    async fn run_playbook(
        &self,
        stage: &Stage,
        files: &StageFiles,
        playbook: &Path,
        tag: &str,
        console: &mut Console<'_>,
        cancel: &CancellationToken,
    ) -> Result<Termination> {
        if cancel.is_cancelled() {
            return Ok(Termination::Cancelled);
        }
        let failed = |error: io::Error| {
            let message = match error.kind() {
                io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => {
                    "cannot start ansible-playbook: no memory or no process is left; lower `slots` or `ansible.forks`"
                }
                _ => "cannot run ansible-playbook; install ansible-core, or fix `ansible.ansible_playbook`",
            };
            local(error, message, &self.config.ansible_playbook)
        };
        let mut command = self.command();
        command.args(command::arguments(&self.config, files, playbook));
        command.envs(command::stage_environment(files, self.workspace.sockets()));
        command.envs(self.module_environment(files));
        let bytes = |mib: u64| Some(mib.saturating_mul(1 << 20)).filter(|bytes| *bytes > 0);
        let limits = ProcessLimits {
            file_size: bytes(self.config.file_limit_mib),
            memory: bytes(self.config.memory_limit_mib),
        };
        let (mut processes, mut output) = ProcessTree::start(command, tag, limits).map_err(failed)?;
        let stopped = {
            let mut stopping = std::pin::pin!(async {
                let stopped = tokio::select! {
                    biased;
                    () = processes.leader_ended() => None,
                    () = cancel.cancelled() => Some(Termination::Cancelled),
                    () = tokio::time::sleep(stage.timeout) => Some(Termination::TimedOut(HumanDuration(stage.timeout))),
                };
                processes.stop(self.config.kill_grace.0).await;
                stopped
            });
            let mut reading = std::pin::pin!(read(&mut output, console));
            tokio::select! {
                stopped = &mut stopping => {
                    let _ = tokio::time::timeout(DRAIN_TIMEOUT, reading).await;
                    stopped
                }
                () = &mut reading => stopping.await,
            }
        };
        let status = processes.reap().await;
        stopped.map_or_else(|| status.map(Termination::Exited).map_err(failed), Ok)
    }
}

#[async_trait]
impl Executor for AnsibleExecutor {
    async fn execute(
        &self,
        stage: &Stage,
        nodes: &[Node],
        context: &StageContext,
        lines: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome> {
        // Boxed, because this large future is part of the caller's.
        Box::pin(self.run(stage, nodes, context, lines, cancel)).await.map_err(|error| {
            error.during("ansible::execute").with("stage", &stage.name).with("playbook", &stage.playbook)
        })
    }
}

async fn read(output: &mut pipe::Receiver, console: &mut Console<'_>) {
    let mut block = vec![0; 64 << 10];
    while let Ok(length @ 1..) = output.read(&mut block).await {
        console.feed(&block[..length]).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::temporary(ErrorKind::Unexpected, "a worker thread panicked").because(error))
}
