//! The module `pushbutton_command`: output of a long command on a node behind a real sshd. Issue 11, point 4.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{TestRun, config, host_keys_of, ssh_node, sshd, stage};
use pushbutton_ansible::AnsibleConfig;
use pushbutton_core::jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use pushbutton_core::{
    CancellationToken, Executor, HumanDuration, LineSink, Node, StageOutcome, StageStatus,
};
use pushbutton_testbed::{Sshd, SshdOptions};
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

/// A run of one command on a node with an sshd of its own. The node's temporary folder is in the run's.
struct Live {
    server: Sshd,
    nodes: Vec<Node>,
    run: TestRun,
    tmp: PathBuf,
}

impl Live {
    fn new(script: &str) -> Self {
        Self::with(script, config(), sshd())
    }

    fn with(script: &str, config: AnsibleConfig, server: Sshd) -> Self {
        let nodes = ssh_node(&server, &host_keys_of(&server));
        let mut run = TestRun::new(config);
        let tmp = run.folder.path().join("node-tmp");
        std::fs::create_dir(&tmp).unwrap();
        run.context.vars.insert("tmp".into(), tmp.to_str().unwrap().into());
        run.context.vars.insert("argv".into(), json!(["/bin/sh", "-c", script]));
        Self { server, nodes, run, tmp }
    }

    fn var(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.run.context.vars.insert(name.into(), value.into());
        self
    }

    async fn outcome(&self) -> StageOutcome {
        self.outcome_with(&LineSink::bounded(2).0, &CancellationToken::new()).await
    }

    async fn outcome_with(&self, sink: &LineSink, cancel: &CancellationToken) -> StageOutcome {
        let stage = stage("live.yml");
        self.run.executor.execute(&stage, &self.nodes, &self.run.context, sink, cancel).await.unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.run.folder.path().join(name)
    }

    /// The lines of the command in the console log, with their times.
    fn lines(&self) -> Vec<(Timestamp, String)> {
        let console = self.run.console();
        let lines = console.lines().filter_map(|line| {
            let (time, text) = line.split_once(" | node | ")?;
            let time: DateTime = time.replace(' ', "T").parse().unwrap();
            Some((time.to_zoned(TimeZone::UTC).unwrap().timestamp(), text.to_owned()))
        });
        lines.collect()
    }

    fn texts(&self) -> Vec<String> {
        self.lines().into_iter().map(|(_, text)| text).collect()
    }

    fn assert_nothing_left_on_the_node(&self) {
        let left: Vec<_> = std::fs::read_dir(&self.tmp).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// The next line of the command.
async fn next(lines: &mut Receiver<String>) -> String {
    loop {
        let line = lines.recv().await.unwrap();
        if let Some(text) = line.strip_prefix("node | ") {
            return text.to_owned();
        }
    }
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}

#[tokio::test]
async fn a_line_is_in_the_console_within_a_second_while_the_command_goes_on() {
    // Each line has the time at which it was written. The command goes on only when the test has seen the line.
    let script = "n=0; while [ $n -lt 6 ]; do n=$((n+1)); echo line $n $(date +%s%3N); \
                  while [ ! -e $0.$n ]; do sleep 0.05; done; done";
    let mut delays = Vec::new();
    // A machine that is busy with other tests may be late once.
    for _ in 0..3 {
        let live = Live::new(&script.replace("$0", "$SEEN"));
        let seen = live.path("seen");
        let script = format!("SEEN={}; {}", seen.display(), script.replace("$0", "$SEEN"));
        let live = live.var("argv", json!(["/bin/sh", "-c", script]));
        let (sink, mut lines) = LineSink::bounded(1000);
        let read = async {
            let mut delays = Vec::new();
            for n in 1..=6 {
                let text = next(&mut lines).await;
                let received = now_ms();
                let written: i64 = text.rsplit(' ').next().unwrap().parse().unwrap();
                assert!(text.starts_with(&format!("line {n} ")), "{text}");
                delays.push(received - written);
                std::fs::write(format!("{}.{n}", seen.display()), "").unwrap();
            }
            delays
        };
        let cancel = CancellationToken::new();
        let (outcome, took) = tokio::join!(live.outcome_with(&sink, &cancel), read);
        assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", live.run.console());
        live.assert_nothing_left_on_the_node();
        // The console log has the time at which the line was written, not at which it came.
        for (time, text) in live.lines() {
            let written: i64 = text.rsplit(' ').next().unwrap().parse().unwrap();
            let late = time.as_millisecond() - written;
            assert!((-100..1000).contains(&late), "{late} ms: {text}");
        }
        let in_time = took.iter().all(|delay| *delay < 1000);
        delays.push(took);
        if in_time {
            eprintln!("delays in ms: {delays:?}");
            return;
        }
    }
    panic!("no run had each line within a second: {delays:?}");
}

#[tokio::test]
async fn killed_connections_do_not_end_the_command_and_no_line_is_lost_or_doubled() {
    let mut live = Live::new("for n in $(seq 1 200); do echo line $n; sleep 0.05; done");
    let (sink, mut lines) = LineSink::bounded(10_000);
    let cancel = CancellationToken::new();
    let (stage, nodes) = (stage("live.yml"), live.nodes.clone());
    let (executor, context) = (&live.run.executor, &live.run.context);
    let server = &mut live.server;
    let cutting = async {
        for line in ["line 10", "line 40", "line 80"] {
            while next(&mut lines).await != line {}
            server.cut();
        }
        while next(&mut lines).await != "line 100" {}
        // sshd is away until this is noticed.
        server.kill9();
        while !lines.recv().await.unwrap().contains("pushbutton: node lost the connection") {}
        server.restart();
        while lines.recv().await.is_some() {}
    };
    let execute = async {
        let sink = sink;
        executor.execute(&stage, &nodes, context, &sink, &cancel).await.unwrap()
    };
    let (outcome, ()) = tokio::join!(execute, cutting);
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", live.run.console());
    let expected: Vec<_> = (1..=200).map(|n| format!("line {n}")).collect();
    assert_eq!(live.texts(), expected);
    let console = live.run.console();
    assert!(console.contains("pushbutton: node lost the connection"), "{console}");
    assert!(console.contains("pushbutton: node is connected again"), "{console}");
    live.assert_nothing_left_on_the_node();
}

#[tokio::test]
async fn a_node_that_stays_away_is_unreachable() {
    let mut live = Live::new("echo begun; sleep 600").var("reconnect_timeout", 2).var("abandon_after", 4);
    let (sink, mut lines) = LineSink::bounded(1000);
    let cancel = CancellationToken::new();
    let (stage, nodes) = (stage("live.yml"), live.nodes.clone());
    let (executor, context) = (&live.run.executor, &live.run.context);
    let server = &mut live.server;
    let dying = async {
        assert_eq!(next(&mut lines).await, "begun");
        server.kill9();
    };
    let execute = async { executor.execute(&stage, &nodes, context, &sink, &cancel).await.unwrap() };
    let (outcome, ()) = tokio::join!(execute, dying);
    assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}\n{}", live.run.console());
}

/// A command with a child in a session of its own, which ignores TERM. It prints the process ids of both.
const STUBBORN: &str = "echo $$; setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 600'; sleep 600";

async fn stop_and_see_all_processes_end(
    abandon_after: u32,
    task_timeout: u32,
    stop: impl AsyncFnOnce(&Live, &LineSink, CancellationToken, &mut Receiver<String>) -> Vec<String>,
) {
    let config = config().with_kill_grace(HumanDuration::secs(10));
    let live = Live::with(STUBBORN, config, sshd())
        .var("abandon_after", abandon_after)
        .var("task_timeout", task_timeout);
    let (sink, mut lines) = LineSink::bounded(1000);
    let pids = stop(&live, &sink, CancellationToken::new(), &mut lines).await;
    assert_eq!(pids.len(), 2);
    wait_until("the command goes on", || !pids.iter().any(|pid| is_running(pid))).await;
    wait_until("a folder is left", || std::fs::read_dir(&live.tmp).unwrap().next().is_none()).await;
}

#[tokio::test]
async fn cancellation_ends_the_command_on_the_node_with_all_that_it_started() {
    // It is told to end, and does not wait until nobody has read for a while.
    stop_and_see_all_processes_end(3600, 0, async |live, sink, cancel, lines| {
        let read = async {
            let pids = vec![next(lines).await, next(lines).await];
            assert!(pids.iter().all(|pid| is_running(pid)), "{pids:?}");
            cancel.cancel();
            pids
        };
        let (outcome, pids) = tokio::join!(live.outcome_with(sink, &cancel), read);
        assert_eq!(outcome.status, StageStatus::Cancelled, "{outcome:?}");
        pids
    })
    .await;
}

#[tokio::test]
async fn the_time_limit_of_the_task_ends_the_command_on_the_node() {
    stop_and_see_all_processes_end(3600, 8, async |live, sink, cancel, lines| {
        let read = async { vec![next(lines).await, next(lines).await] };
        let (outcome, pids) = tokio::join!(live.outcome_with(sink, &cancel), read);
        assert_eq!(outcome.status, StageStatus::Failed, "{outcome:?}");
        assert!(outcome.detail.unwrap().contains("time"), "{}", live.run.console());
        pids
    })
    .await;
}

#[tokio::test]
async fn a_command_on_the_local_machine_is_followed_too() {
    let mut live = Live::new("echo one; echo two >&2; exit 5");
    live.nodes = common::local_node();
    let outcome = live.outcome().await;
    assert_eq!(outcome.detail.as_deref(), Some(r#"task "Run it" on node: exit 5: two"#));
    assert_eq!(live.texts(), ["one", "two"]);
    live.assert_nothing_left_on_the_node();
}

#[tokio::test]
async fn the_calls_share_one_ssh_connection_that_ends_with_the_task() {
    let live = Live::new("for n in 1 2 3 4 5 6; do echo line $n; sleep 0.5; done");
    let work_dir = live.path("ansible");
    let sockets = || {
        let executors = std::fs::read_dir(&work_dir).unwrap().flatten();
        let entries = executors.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten());
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("s-")).count()
    };
    let (sink, mut lines) = LineSink::bounded(1000);
    let cancel = CancellationToken::new();
    let read = async {
        let mut found = Vec::new();
        for _ in 0..6 {
            next(&mut lines).await;
            found.push(sockets());
        }
        found
    };
    let (outcome, found) = tokio::join!(live.outcome_with(&sink, &cancel), read);
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", live.run.console());
    assert_eq!(found, [1; 6]);
    assert_eq!(sockets(), 0);
    assert!(!live.run.console().contains("WARNING"), "{}", live.run.console());
}

#[tokio::test]
async fn a_command_whose_operator_is_gone_ends_by_itself() {
    stop_and_see_all_processes_end(3, 0, async |live, sink, cancel, lines| {
        let read = async {
            let pids = vec![next(lines).await, next(lines).await];
            assert!(pids.iter().all(|pid| is_running(pid)), "{pids:?}");
            pids
        };
        // Dropping the future kills all processes of the stage on this side, as the end of the operator would.
        tokio::select! {
            outcome = live.outcome_with(sink, &cancel) => panic!("{outcome:?}"),
            pids = read => pids,
        }
    })
    .await;
}

#[tokio::test]
async fn a_command_that_cannot_be_followed_any_more_is_a_lost_node() {
    let live = Live::new("echo $PPID; exec sleep 20");
    let (sink, mut lines) = LineSink::bounded(1000);
    let cancel = CancellationToken::new();
    let kill = async {
        let pid = next(&mut lines).await;
        assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    };
    let (outcome, ()) = tokio::join!(live.outcome_with(&sink, &cancel), kill);
    assert_eq!(outcome.status, StageStatus::Unreachable, "{outcome:?}\n{}", live.run.console());
    assert!(outcome.detail.unwrap().contains("its supervisor was killed"));
}

#[tokio::test]
async fn the_exit_status_the_reason_and_what_is_recognised_come_from_the_output() {
    let script = "echo before; echo '[ERROR] functions-common:709 git call failed: [git clone x y]' >&2; \
                  echo Error on exit; exit 3";
    let live = Live::new(script);
    let outcome = live.outcome().await;
    assert_eq!(outcome.status, StageStatus::Failed, "{outcome:?}\n{}", live.run.console());
    assert_eq!(
        outcome.detail.as_deref(),
        Some(
            r#"task "Run it" on node: exit 3: [ERROR] functions-common:709 git call failed: [git clone x y]"#
        )
    );
    assert!(outcome.lab_fault.unwrap().starts_with("git server: "));
    assert_eq!(live.texts().len(), 3, "the result repeats no line: {}", live.run.console());
    assert_eq!(
        live.run.console().matches("git call failed: [git clone x y]").count(),
        3,
        "line, detail and fault"
    );
    live.assert_nothing_left_on_the_node();
}

#[tokio::test]
async fn a_killed_command_and_one_that_does_not_exist_have_failed() {
    let live = Live::new("echo x; kill -9 $$");
    let outcome = live.outcome().await;
    assert_eq!(outcome.detail.as_deref(), Some(r#"task "Run it" on node: exit -9: x"#));
    let live = Live::new("").var("argv", json!(["/nowhere/stack.sh"]));
    let outcome = live.outcome().await;
    let detail = outcome.detail.unwrap();
    assert!(
        detail.contains("exit 127: cannot run /nowhere/stack.sh: ") && detail.contains("No such file"),
        "{detail}"
    );
}

#[tokio::test]
async fn bytes_that_are_no_utf_8_are_replaced_and_lines_without_an_end_are_shown() {
    let live = Live::new(
        r"printf 'caf\351 \377\376\n\303\251t\303\251\r\n\n\000x\033[2J'; printf end; printf ' of it'",
    );
    let outcome = live.outcome().await;
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", live.run.console());
    assert_eq!(live.texts(), ["caf\u{fffd} \u{fffd}\u{fffd}", "été", "", "␀x␛[2Jend of it"]);
}

#[tokio::test]
async fn a_background_process_that_keeps_the_output_open_does_not_keep_the_task() {
    let live = Live::new("sleep 30 & echo $!; exit 0");
    let began = Instant::now();
    let outcome = live.outcome().await;
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", live.run.console());
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    let pid = live.texts().remove(0);
    assert!(is_running(&pid), "a daemon that the command started goes on");
}

#[tokio::test]
async fn a_login_shell_that_prints_something_and_another_user_are_no_problem() {
    let noisy = "echo 'Welcome to the node'; exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"";
    let server = Sshd::start(&SshdOptions { forced_command: Some(noisy.into()), ..SshdOptions::default() });
    let live = Live::with("id -un; pwd", config(), server).var("chdir", "/");
    let outcome = live.outcome().await;
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}\n{}", live.run.console());
    assert_eq!(live.texts(), [live.server.user.clone(), "/".to_owned()]);
}

/// The highest memory use of the processes of this run, in MiB, and of the files on the node.
fn peak(run: &Path, tmp: &Path) -> (u64, u64) {
    let ours = run.as_os_str().as_encoded_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let mine = processes.filter(|path| {
        let has = |name: &str| {
            std::fs::read(path.join(name)).is_ok_and(|all| all.windows(ours.len()).any(|part| part == ours))
        };
        has("environ")
    });
    let memory = mine.filter_map(|path| {
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    let folders = std::fs::read_dir(tmp).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let disk: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    (memory.max().unwrap_or_default() >> 10, disk >> 20)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_of_output_take_little_memory_and_disk() {
    const LINES: u64 = 100_000;
    let text = "x".repeat(999);
    let live =
        Live::with(&format!("yes {text} | head -n {LINES}"), config().with_console_limit_mib(1u64), sshd())
            .var("expected_lines", LINES);
    let (folder, tmp) = (live.run.folder.path().to_owned(), live.tmp.clone());
    let (mut most, ended) = ((0, 0), CancellationToken::new());
    let watch = async {
        while !ended.is_cancelled() {
            let (memory, disk) = peak(&folder, &tmp);
            most = (memory.max(most.0), disk.max(most.1));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let execute = async {
        let outcome = live.outcome().await;
        ended.cancel();
        outcome
    };
    let (outcome, ()) = tokio::join!(execute, watch);
    eprintln!("100 MB took {:?}; most memory {} MiB, most disk {} MiB", outcome.took, most.0, most.1);
    assert_eq!(outcome.status, StageStatus::Passed, "{outcome:?}");
    assert!((1..160).contains(&most.0), "{} MiB of memory", most.0);
    assert!((1..=72).contains(&most.1), "{} MiB of disk", most.1);
}

#[tokio::test]
async fn another_user_runs_the_command_by_su_and_by_sudo() {
    let is_root = Path::new("/root").metadata().is_ok() && std::fs::read_dir("/root").is_ok();
    // Without root only a user who may use sudo could do this: such a user becomes root.
    let cases = if is_root {
        vec![("su", "daemon", "-s /bin/sh"), ("sudo", "daemon", "-H -S -n")]
    } else {
        vec![("sudo", "root", "-H -S -n")]
    };
    for (method, user, flags) in cases {
        let remote_tmp = format!("/tmp/.ansible-pushbutton-test-{user}");
        let live = Live::new("id -un; exit 4")
            .var("user", user)
            .var("method", method)
            .var("ansible_become_flags", flags)
            .var("ansible_remote_tmp", remote_tmp);
        let mode = std::os::unix::fs::PermissionsExt::from_mode;
        std::fs::set_permissions(&live.tmp, mode(0o1777)).unwrap();
        std::fs::set_permissions(live.run.folder.path(), mode(0o711)).unwrap();
        let outcome = live.outcome().await;
        let detail = format!("task \"Run it\" on node: exit 4: {user}");
        assert_eq!(outcome.detail, Some(detail), "{method}: {}", live.run.console());
        assert_eq!(live.texts(), [user], "{method}");
        live.assert_nothing_left_on_the_node();
    }
}

#[tokio::test]
async fn a_play_with_the_module_passes_the_syntax_check() {
    use pushbutton_core::check::{Check, Level};
    let run = TestRun::new(config());
    let findings = run.executor.with_checked_playbooks(["live.yml"]).check().await;
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
}
