//! An executor of your own: stages that are calls of the lab's own software instead of playbooks.
//! Run it with `cargo run -p pushbutton-core --example custom_executor`.

#![expect(clippy::print_stdout, reason = "an example has something to show")]

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pushbutton_core::{
    CancellationToken, Error, ErrorKind, Executor, LineSink, Node, Result, RetryPatterns, Stage,
    StageContext, StageOutcome, StageStatus, async_trait,
};
use tokio::time::Instant;

/// One thing that the lab's software does, such as a test plan of a storage array.
///
/// Work ends when its future is dropped. One that starts processes must end them then, and those that these have
/// started: `pushbutton-ansible` shows how.
#[async_trait]
trait Tool: Send + Sync {
    async fn run(&self, nodes: &[Node], context: &StageContext, output: &Output<'_>) -> Ended;
}

enum Ended {
    Passed,
    /// With what failed, in one line.
    Failed(String),
    DoesNotMerge(String),
    NodeGone,
}

/// The tools by name. The `playbook` of a stage is such a name.
struct Tools(BTreeMap<String, Box<dyn Tool>>);

/// Where a tool's lines go: to the console log of the run, and to whoever reads them live.
struct Output<'a> {
    console: Mutex<File>,
    lines: &'a LineSink,
    /// The last lines, to recognise a failure of the lab by.
    last: Mutex<VecDeque<String>>,
}

impl Output<'_> {
    fn line(&self, line: &str) {
        // A full disk loses lines of the log, and not the stage.
        let _ = writeln!(self.console.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
        self.lines.line(line);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(line.to_owned());
        if last.len() > 200 {
            last.pop_front();
        }
    }
}

#[async_trait]
impl Executor for Tools {
    async fn execute(
        &self,
        stage: &Stage,
        nodes: &[Node],
        context: &StageContext,
        lines: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome> {
        // What cannot be run at all is an error: it says nothing about the patch.
        let Some(tool) = self.0.get(&stage.playbook) else {
            let message = format!("the lab has no tool {:?}; fix `playbook` of the stage", stage.playbook);
            return Err(Error::permanent(ErrorKind::Config, message).with("stage", &stage.name));
        };
        let console = File::options().create(true).append(true).open(context.log_dir.join("console.log"));
        let console = console.map_err(|error| {
            Error::temporary(ErrorKind::Local, "cannot write the console log").because(error)
        })?;
        let output = Output { console: Mutex::new(console), lines, last: Mutex::default() };

        let began = Instant::now();
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(StageStatus::Cancelled),
            ended = tool.run(nodes, context, &output) => Ok(ended),
            () = tokio::time::sleep(stage.timeout) => Err(StageStatus::TimedOut),
        };

        let outcome = |status| StageOutcome::new(status, began.elapsed());
        Ok(match ended {
            Err(status) => outcome(status),
            Ok(Ended::Passed) => outcome(StageStatus::Passed),
            Ok(Ended::NodeGone) => outcome(StageStatus::Unreachable),
            Ok(Ended::DoesNotMerge(what)) => outcome(StageStatus::Failed).with_merge_conflict(Some(what)),
            Ok(Ended::Failed(what)) => {
                // Did the lab fail, and not the patch? `retry_when` of the stage says how that looks.
                let last = output.last.into_inner().unwrap_or_else(PoisonError::into_inner);
                let patterns = RetryPatterns::compile(&stage.retry_when, None)?;
                let lab_fault = patterns.recognise(last.iter().map(String::as_str));
                outcome(StageStatus::Failed).with_detail(Some(what)).with_lab_fault(lab_fault)
            }
        })
    }
}

// ---- the test ------------------------------------------------------------------------------------------------------

use std::path::PathBuf;

use pushbutton_core::RunId;
use pushbutton_testkit::conformance::execute::{self, ExecutorHarness, StageBehavior, context_at};

/// A tool that does what a check of the suite needs.
struct Does(StageBehavior);

#[async_trait]
impl Tool for Does {
    async fn run(&self, _: &[Node], _: &StageContext, output: &Output<'_>) -> Ended {
        match self.0 {
            StageBehavior::Passes | StageBehavior::CannotRun => Ended::Passed,
            StageBehavior::Fails => Ended::Failed("test_attach_volume: no such volume".into()),
            StageBehavior::FailsWithoutNameService => {
                output.line("Could not resolve host: opendev.org");
                Ended::Failed("git clone".into())
            }
            StageBehavior::DoesNotMerge => Ended::DoesNotMerge("conflict in a.py".into()),
            StageBehavior::Prints(count) => {
                (1..=count).for_each(|n| output.line(&format!("printed {n}.")));
                Ended::Passed
            }
            StageBehavior::RunsForMinutes => {
                output.line("lasting");
                tokio::time::sleep(Duration::from_secs(600)).await;
                Ended::Passed
            }
            StageBehavior::NodeUnreachable => Ended::NodeGone,
        }
    }
}

/// The tools, and a folder for logs.
struct Lab(Tools, PathBuf);

#[expect(clippy::unwrap_used, reason = "a harness of tests panics when it cannot work")]
impl ExecutorHarness for Lab {
    fn executor(&self) -> &dyn Executor {
        &self.0
    }

    fn stage(&self, behavior: StageBehavior) -> Option<(Stage, Vec<Node>)> {
        Some((Stage::new("conformance".parse().unwrap(), format!("{behavior:?}")), Vec::new()))
    }

    fn context(&self) -> StageContext {
        let logs = self.1.join(RunId::generate().as_str());
        std::fs::create_dir_all(&logs).unwrap();
        context_at(logs)
    }

    fn console(&self, context: &StageContext) -> Option<String> {
        std::fs::read_to_string(context.log_dir.join("console.log")).ok()
    }

    /// No tool starts a process.
    fn processes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The clock is paused: time limits take no time then.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    use StageBehavior::*;
    // A stage that cannot run names a tool that does not exist.
    let known =
        [Passes, Fails, FailsWithoutNameService, DoesNotMerge, Prints(50), Prints(300), RunsForMinutes]
            .into_iter()
            .chain([NodeUnreachable]);
    let tools = known.map(|behavior| (format!("{behavior:?}"), Box::new(Does(behavior)) as Box<dyn Tool>));
    let logs = std::env::temp_dir().join(format!("pushbutton-{}", RunId::generate()));
    let lab = Lab(Tools(tools.collect()), logs);
    // The suite that the executor of playbooks must pass too. It panics with the bullet of the contract that is broken.
    execute::all(&lab).await;
    let _ = std::fs::remove_dir_all(&lab.1);
    println!("Tools keeps the contract of an Executor");
}
