use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::LineSink;
use pushbutton_core::{
    Error, ErrorKind, Executor, HumanDuration, Node, Result, RunId, Stage, StageContext, StageOutcome,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::AnsibleConfig;
use crate::console::{Console, one_line};
use crate::error::{config, local};
use crate::home::Home;
use crate::judge::{End, judge};
use crate::mask::Masks;
use crate::owner::Owner;
use crate::presence;
use crate::process::Processes;
use crate::stage_files::{StageFiles, private_dir};
use crate::{CONSOLE_LOG, artifacts, callback, command, inventory, marks, notes, results, vars};

/// The longest detail of an outcome, in bytes: it is one line of a comment.
const MAX_DETAIL: usize = 400;
/// How long output may still come when all processes have ended: only one that hides from us could hold the pipe open.
const DRAIN: Duration = Duration::from_secs(5);
const OPERATION: &str = "ansible::execute";

/// Runs stages with `ansible-playbook`.
pub struct AnsibleExecutor {
    pub(crate) config: AnsibleConfig,
    pub(crate) playbooks: PathBuf,
    owner: Owner,
    home: Home,
    masks: Masks,
    secrets: String,
}

impl std::fmt::Debug for AnsibleExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnsibleExecutor").field("config", &self.config).finish_non_exhaustive()
    }
}

impl AnsibleExecutor {
    /// Takes the configuration; `state` is the folder below which the work folder lies unless the configuration names one. Runs no process.
    ///
    /// # Errors
    /// Permanent, when the playbooks' folder is missing, a secret's name cannot be a variable's, or the work folder cannot be made.
    pub fn new(config: AnsibleConfig, state: &Path) -> Result<Self> {
        Self::prepare(config, state).map_err(|error| error.during("ansible::new"))
    }

    fn prepare(mut settings: AnsibleConfig, state: &Path) -> Result<Self> {
        let playbooks = settings.playbooks.canonicalize().map_err(|error| {
            local(error, "cannot find the playbooks; mend `ansible.playbooks`", &settings.playbooks)
        })?;
        if settings.ansible_playbook.components().count() > 1 {
            // Playbooks run in their own folder, from which a relative path would mean something else.
            settings.ansible_playbook = std::path::absolute(&settings.ansible_playbook)
                .map_err(|error| local(error, "cannot find ansible-playbook", &settings.ansible_playbook))?;
        }
        let work_dir = settings.work_dir.clone().unwrap_or_else(|| state.join("ansible"));
        let making = "cannot make Ansible's work folder; mend `ansible.work_dir`";
        private_dir(&work_dir).map_err(|error| local(error, making, &work_dir))?;
        let work_dir = work_dir.canonicalize().map_err(|error| local(error, making, &work_dir))?;
        inventory::plain_path(&work_dir)?;
        let home = Home::make(&work_dir).map_err(|error| local(error, making, &work_dir))?;
        let owner = Owner::current().map_err(|error| {
            local(error, "cannot read about processes; mount /proc", "/proc/self/stat".as_ref())
        })?;
        let masks = Masks::new(&settings.secrets);
        let secrets = vars::secret_vars(&settings.secrets)?;
        Ok(Self { config: settings, playbooks, owner, home, masks, secrets })
    }

    /// Ends all processes of stages whose operator runs no more, as one that was killed, and removes its files: TERM, and KILL after `kill_grace`.
    /// Returns how many processes were found. To be called once at start; takes some milliseconds when there are none. Operators
    /// that live, on this machine or in a container of it, keep theirs.
    pub async fn end_strays(&self) -> usize {
        let found = marks::end_strays(self.config.kill_grace.0).await;
        if found > 0 {
            tracing::warn!(found, "ended processes that an operator left which runs no more");
        }
        self.home.clear_abandoned();
        found
    }

    /// The playbook of this name, which must lie below the playbooks' folder.
    pub(crate) fn playbook(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(name);
        let below = !name.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
        if !below {
            let message = "a stage's playbook is a path below the playbooks' folder, without ..; mend `playbook` of the stage";
            return Err(config(message).with("playbook", name));
        }
        let wanted = self.playbooks.join(path);
        let found = wanted.canonicalize().map_err(|error| {
            local(
                error,
                "the playbook is not there; mend `playbook` of the stage or `ansible.playbooks`",
                &wanted,
            )
        })?;
        if !found.starts_with(&self.playbooks) {
            return Err(config("the playbook is a link that leaves the playbooks' folder; copy it there")
                .with("playbook", name));
        }
        Ok(found)
    }

    /// The program with the environment that all calls share, in the playbooks' folder.
    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.config.ansible_playbook);
        let inherited = |name: &str| -> Option<OsString> { std::env::var_os(name) };
        command.env_clear().envs(command::environment(&self.config, &self.playbooks, inherited));
        command.current_dir(&self.playbooks);
        command
    }

    /// What a failed start of the program means.
    pub(crate) fn not_started(&self, error: std::io::Error) -> Error {
        let doing = "cannot start ansible-playbook; install ansible-core, or say in `ansible.ansible_playbook` where it is";
        local(error, doing, &self.config.ansible_playbook)
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
        let playbook = self.playbook(&stage.playbook)?;
        let log_dir = &context.log_dir;
        std::fs::create_dir_all(log_dir)
            .map_err(|error| local(error, "cannot make the log folder", log_dir))?;
        let id = RunId::generate();
        // Declared before the processes, so that it is removed after them should this call be dropped.
        let files = self.home.stage(&context.run, id.as_str())?;
        files.fill(nodes, &vars::extra_vars(context)?, &self.secrets)?;
        let before = blocking({
            let log_dir = log_dir.clone();
            move || results::before(&log_dir)
        })
        .await?;

        let room = self.config.console_limit_mib.saturating_mul(1 << 20);
        let mut console = Console::open(&log_dir.join(CONSOLE_LOG), room, &self.masks, lines).await?;
        console.note(&notes::header(stage, context)).await;
        let mut met = Vec::new();
        let end = {
            let mark = marks::mark(id.as_str(), &self.owner);
            let supervised = self.supervise(stage, &files, &playbook, &mark, &mut console, cancel);
            let meeting = async {
                presence::meet(nodes, &mut met).await;
                std::future::pending().await
            };
            tokio::select! {
                end = supervised => end?,
                never = meeting => never,
            }
        };
        console.finish().await;

        let (removed, told, results) = blocking({
            let (log_dir, events) = (log_dir.clone(), files.events());
            move || (artifacts::confine(&log_dir), callback::read(&events), results::since(&before, &log_dir))
        })
        .await?;
        for path in removed {
            console
                .note(&format!("pushbutton: removed {}: it leads out of the log folder", path.display()))
                .await;
        }
        let judged = judge(end, &told, console.first_error());
        let (status, detail) = match judged {
            Ok(judged) => presence::confirmed(judged, &met, cancel).await,
            Err(error) => {
                console.note(&format!("pushbutton: stage {}: {}", stage.name, error.message())).await;
                return Err(error);
            }
        };
        let outcome = StageOutcome {
            status,
            took: began.elapsed(),
            detail: detail.map(|detail| one_line(&detail, &self.masks, MAX_DETAIL)),
            tests: results.counts,
            failed_tests: results.failed.into_iter().map(|name| self.masks.hide(name)).collect(),
            log_url: told.log_url,
        };
        console.note(&notes::footer(stage, &outcome)).await;
        Ok(outcome)
    }

    /// Runs the program to its end, its time limit or its cancellation, and reads its output all the while.
    async fn supervise(
        &self,
        stage: &Stage,
        files: &StageFiles,
        playbook: &Path,
        mark: &str,
        console: &mut Console<'_>,
        cancel: &CancellationToken,
    ) -> Result<End> {
        if cancel.is_cancelled() {
            return Ok(End::Cancelled);
        }
        let mut command = self.command();
        command.args(command::arguments(&self.config, files, playbook));
        command.envs(command::stage_environment(files));
        let (mut processes, mut output) =
            Processes::start(command, mark).map_err(|error| self.not_started(error))?;
        let cut_short = {
            let ending = async {
                let cut_short = tokio::select! {
                    biased;
                    () = processes.ended() => None,
                    () = cancel.cancelled() => Some(End::Cancelled),
                    () = tokio::time::sleep(stage.timeout) => Some(End::TimedOut(HumanDuration(stage.timeout))),
                };
                processes.stop(self.config.kill_grace.0).await;
                cut_short
            };
            let mut reading = std::pin::pin!(read(&mut output, console));
            let mut ending = std::pin::pin!(ending);
            tokio::select! {
                cut_short = &mut ending => {
                    let _ = tokio::time::timeout(DRAIN, reading).await;
                    cut_short
                }
                () = &mut reading => ending.await,
            }
        };
        let reaped = processes.reap().await;
        match cut_short {
            Some(end) => Ok(end),
            None => reaped.map(End::Exited).map_err(|error| self.not_started(error)),
        }
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
        // On the heap: the whole state of a stage is large, and lives in the caller's future.
        Box::pin(self.run(stage, nodes, context, lines, cancel)).await.map_err(|error| {
            error.during(OPERATION).with("stage", &stage.name).with("playbook", &stage.playbook)
        })
    }
}

async fn read(output: &mut pipe::Receiver, console: &mut Console<'_>) {
    let mut block = vec![0; 64 << 10];
    while let Ok(length) = output.read(&mut block).await {
        if length == 0 {
            return;
        }
        console.feed(&block[..length]).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::temporary(ErrorKind::Unexpected, "a worker thread broke off").because(error))
}
