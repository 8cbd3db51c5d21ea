//! The commands of the book, run as a reader would: page after page in one folder, on the testbed's servers.
//!
//! Blocks of `console` are run. Lines in them that are no command are the output of the one above: they must be what it
//! prints, apart from ids, times and addresses. `PUSHBUTTON_BOOK=write cargo test ... book` writes them anew.
//! A comment above a block says what else happens with it:
//!
//! - `<!-- not run: REASON -->`: nothing; [`NOT_RUN`] names it too, so that one more is seen in a diff.
//! - `<!-- run by: WHAT -->`: another part of CI runs it.
//! - `<!-- ends with: CODE -->`: the command fails, and what it prints is its error.
//! - `<!-- file: NAME -->`, `<!-- append: NAME -->`: the block is the content of a file, or its end.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use pushbutton_core::{JobFilter, Queue as _, samples};
use pushbutton_store::Store;
use pushbutton_testbed::{Change, Gerrit, Version, ansible_bin, gerrit, rabbitmq, until};
use regex::Regex;
use tempfile::TempDir;

use crate::handler::TIMEOUT;
use crate::lab::{Running, root};

/// Commands that nothing in CI runs: page, and how the command begins.
const NOT_RUN: &[(&str, &str)] =
    &[("quick-start.md", "cargo install"), ("operate.md", "sqlite3 state/pushbutton.db")];

/// What other parts of CI run, by how a command begins.
const RUN_ELSEWHERE: &[(&str, &str)] = &[
    ("docker", "make test-compose runs the same files on a container engine"),
    ("sudo ", "needs root: the test of the package runs it in the testbed's guest"),
    ("apt", "needs root: the test of the package runs it in the testbed's guest"),
    ("dpkg", "needs root: the test of the package runs it in the testbed's guest"),
    ("systemctl", "needs systemd: the test of the package runs it in the testbed's guest"),
    ("journalctl", "needs systemd: the test of the package runs it in the testbed's guest"),
];

/// Pages that are written by the program itself, whose own test compares them.
const GENERATED: &[&str] = &["configuration.md", "commands.md"];

/// Commands that run until they are stopped, and what they print when they are ready.
const RUNS_ON: &[(&str, &str)] = &[
    ("pushbutton-bin run", "watching"),
    ("pushbutton-bin handler", "watching"),
    ("pushbutton-bin operator", "waiting for jobs"),
    ("pushbutton-bin dashboard", ""),
];

const CHANGE: &str = "12345";
const RUN: &str = "0192f3a4-5b6c-7d8e-9f01-23456789abcd";
const ADDRESS: &str = "127.0.0.1:8080";

/// A block of a page. Lines are counted from 0.
struct Block {
    first: usize,
    end: usize,
    language: String,
    marker: Option<String>,
    indent: usize,
}

/// A command, and the lines of its output in the page.
struct Shown {
    command: String,
    output: std::ops::Range<usize>,
}

fn blocks(lines: &[String]) -> Vec<Block> {
    let (mut found, mut open) = (Vec::new(), None::<Block>);
    for (number, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        match (open.take(), text.strip_prefix("```")) {
            (Some(block), Some(_)) => found.push(Block { end: number, ..block }),
            (Some(block), None) => open = Some(block),
            (None, Some(language)) => {
                let above = number.checked_sub(1).map(|above| lines[above].trim());
                let marker = above.and_then(|above| above.strip_prefix("<!-- ")?.strip_suffix(" -->"));
                open = Some(Block {
                    first: number + 1,
                    end: 0,
                    language: language.to_owned(),
                    marker: marker.map(str::to_owned),
                    indent: line.len() - text.len(),
                });
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

fn commands(lines: &[String], block: &Block) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    for (number, line) in (block.first..block.end).zip(&lines[block.first..block.end]) {
        let line = line.get(block.indent..).unwrap_or_default();
        match (line.strip_prefix("$ "), shown.last_mut()) {
            (Some(command), _) => {
                let command = command.split(" #").next().unwrap_or_default().trim().to_owned();
                shown.push(Shown { command, output: number + 1..number + 1 });
            }
            (None, Some(last)) => last.output.end = number + 1,
            (None, None) => panic!("line {}: output without a command", number + 1),
        }
    }
    shown
}

/// The reader: a folder, servers, and what runs there.
struct Reader {
    gerrit: Gerrit,
    project: String,
    change: Option<Change>,
    run: Option<String>,
    web: u16,
    folder: TempDir,
    /// Where the shell is.
    here: PathBuf,
    running: Vec<(String, Running)>,
    /// Each command that was not run, with why.
    skipped: Vec<(String, String, String)>,
    passed_on: usize,
    ran: usize,
}

impl Reader {
    fn new() -> Self {
        let gerrit = gerrit();
        let project = format!("acme/book-{}", std::process::id());
        gerrit.create_project(&project);
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(root().join("examples/demo/stream.jsonl"), folder.path().join("stream.jsonl")).unwrap();
        let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let here = folder.path().to_owned();
        Self {
            gerrit,
            project,
            change: None,
            run: None,
            web,
            folder,
            here,
            running: Vec::new(),
            skipped: Vec::new(),
            passed_on: 0,
            ran: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the book says, for this place.
    fn real(&self, text: &str) -> String {
        let (host, port) = (&self.gerrit.ssh_host, self.gerrit.ssh_port);
        let mut text = text
            .replace("-p 29418 review.opendev.org", &format!("-p {port} {host}"))
            .replace("host: review.opendev.org", &format!("host: {host}\n  port: {port}"))
            .replace("opendev/sandbox", &self.project)
            .replace(ADDRESS, &format!("127.0.0.1:{}", self.web))
            .replace(
                "url: amqps://pushbutton:secret@rabbit.example.org:5671/%2f",
                &format!("url: {:?}\n  prefix: book-{}", rabbitmq(Version::V4).url, std::process::id()),
            );
        if let Some(change) = &self.change {
            text = text.replace(CHANGE, &change.number.to_string());
            if text.contains("RUN-FOLDER") {
                text = text.replace("RUN-FOLDER", &self.run_folder(change).display().to_string());
            }
        }
        match &self.run {
            Some(run) => text.replace(RUN, run),
            None => text,
        }
    }

    fn run_folder(&self, change: &Change) -> PathBuf {
        let job = format!("logs/{:02}/{}/1/hello", change.number % 100, change.number);
        std::fs::read_dir(self.path(&job)).unwrap().next().unwrap().unwrap().path()
    }

    /// What was printed here, as the book has it.
    fn shown(&self, text: &str) -> String {
        let (host, port) = (&self.gerrit.ssh_host, self.gerrit.ssh_port);
        let mut text = text
            .replace(&format!("{}/", self.folder.path().display()), "")
            .replace(&format!("[{host}]:{port}"), "[review.opendev.org]:29418")
            .replace(&format!("{host}:{port}"), "review.opendev.org:29418")
            .replace(&self.project, "opendev/sandbox")
            .replace(&format!("127.0.0.1:{}", self.web), ADDRESS)
            .replace(&hostname(), "lab1");
        if let Some(change) = &self.change {
            let (number, book) = (change.number.to_string(), CHANGE);
            text = text.replace(&format!("/{:02}/{number}/", change.number % 100), &format!("/45/{book}/"));
            // The number may be a small one: only where it is that of a change.
            let numbers = Regex::new(&format!(r"\b{number},1\b")).unwrap();
            text = numbers.replace_all(&text, format!("{book},1")).into_owned();
        }
        for (pattern, book) in [
            (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", RUN),
            (r"\b[0-9a-f]{40}\b", "0123456789abcdef0123456789abcdef01234567"),
            (r"\b[0-9a-f]{32}\b", "b27b39a0c4ce8c52b98d48a98f6e9857"),
            (r"/[0-9a-f]{8}-[0-9a-f]{4}/", "/01a20967-ecb1/"),
            (r"SHA256:[A-Za-z0-9+/]{43}", "SHA256:uNiVztksCsDhcc0u9e8BgrJXVGDGvTTVr0eYCGaC1xk"),
            (r"\d{4}-\d\d-\d\d([ T])\d\d:\d\d:\d\d(\.\d+)?", "2026-11-26${1}19:00:00"),
            (r"\b\d+(\.\d+)?(ms|s|m|h)\b( \d\d?[ms]\b)*", "2s"),
            (r"\b\d+ GiB free", "40 GiB free"),
            (r"\b(run|handler|operator|dashboard) lab1 \d+", "$1 lab1 4711"),
            (r"\d+ of \d+ slots used", "0 of 1 slots used"),
            // Other tests cause events on this Gerrit, too.
            (r", last event [^,]* ago", ""),
            (r"\[core [0-9.]+\]", "[core 2.18.19]"),
            (r"OpenSSH_.*", "OpenSSH_9.2p1 Debian-2+deb12u7, OpenSSL 3.0.17 1 Jul 2025"),
        ] {
            text = Regex::new(pattern).unwrap().replace_all(&text, book).into_owned();
        }
        text
    }

    fn shell(&self, command: &str) -> Command {
        let path = std::env::var("PATH").unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_pushbutton-bin")).parent().unwrap();
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(command).current_dir(&self.here).stdin(Stdio::null());
        shell.env("PATH", format!("{}:{}:{path}", program.display(), ansible_bin().display()));
        shell.env("NO_COLOR", "1").env_remove("RUST_LOG").env_remove("PUSHBUTTON_CONFIG");
        shell
    }

    fn run(&mut self, command: &str) -> String {
        self.ends(command, 0)
    }

    /// Runs a command until it ends with this code; returns what it printed, or its error.
    fn ends(&mut self, command: &str, code: i32) -> String {
        let file = self.path(".where-the-shell-is");
        let script = format!("{command}\ncode=$?\npwd > {}\nexit $code", file.display());
        let ended = self.shell(&script).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        // `lint` ends with 5 when it finds something to look at.
        let is_right =
            ended.status.code() == Some(code) || command.contains(" lint ") && ended.status.code() == Some(5);
        assert!(is_right, "$ {command}: {}\n{out}{err}", ended.status);
        self.here = std::fs::read_to_string(file).unwrap().trim_end().into();
        if code == 0 { out.into_owned() } else { err.into_owned() }
    }

    /// Starts a command that runs on.
    fn start(&mut self, command: &str, ready: &str) {
        let mut running = Running::start(&mut self.shell(&format!("exec {command} 2>&1")));
        match ready {
            "" => until("the page is served", TIMEOUT, || {
                TcpStream::connect(("127.0.0.1", self.web)).is_ok().then_some(())
            }),
            ready => running.says(ready),
        }
        self.running.push((command.to_owned(), running));
    }

    /// Ctrl-C.
    fn stop_all(&mut self) {
        for (command, running) in self.running.drain(..) {
            let begun = Instant::now();
            running.signal("-INT");
            let (status, said) = running.ends();
            assert_eq!(status.code(), Some(0), "{command}\n{said}");
            eprintln!("{command} has ended ({:.1} s)", begun.elapsed().as_secs_f32());
        }
    }

    /// Does what the text around a command tells people to do in a browser, and what has happened before they come.
    fn before(&mut self, page: &str, command: &str) {
        match (page, command) {
            ("operate.md", "pushbutton-bin status") => {
                self.start("pushbutton-bin run", "watching");
                // The job of the page before has run, and its comment is posted.
                self.status_says("queue: 0 waiting, 0 leased, 0 dead\nreports: 0 due");
                self.fail_two_jobs();
            }
            ("operate.md", "pushbutton-bin handler") => self.stop_all(),
            ("quick-start.md", "pushbutton-bin status") => {
                self.status_says("reports: 0 due");
                let latest = self.run("pushbutton-bin runs --last 1 --json");
                let latest: serde_json::Value = serde_json::from_str(&latest).unwrap();
                self.run = Some(latest["run"].as_str().unwrap().to_owned());
            }
            _ => {}
        }
    }

    fn after(&mut self, page: &str, command: &str) {
        match (page, command) {
            // The account on Gerrit has its key already.
            ("quick-start.md", keygen) if keygen.starts_with("ssh-keygen -q") => {
                std::fs::copy(self.gerrit.key("acme-ci"), self.path("gerrit-key")).unwrap();
            }
            ("quick-start.md", "pushbutton-bin run --dry-run") => {
                let change = self.gerrit.push_change(&self.project, "master", &[("hello.txt", "hello")]);
                self.gerrit.comment("bob", change.number, change.patchset, "recheck");
                self.change = Some(change);
                until("a comment is written", TIMEOUT, || {
                    std::fs::metadata(self.path("state/comments.txt"))
                        .is_ok_and(|it| it.len() > 0)
                        .then_some(())
                });
                self.stop_all();
            }
            ("quick-start.md", "pushbutton-bin run") => {
                let change = self.change.as_ref().unwrap();
                self.gerrit.comment("bob", change.number, change.patchset, "recheck");
                let comment = until("the first comment is on the review", TIMEOUT, || {
                    let mut messages = self.gerrit.messages(change.number).into_iter();
                    messages.find(|it| it.author == "acme-ci").map(|it| it.text)
                });
                assert!(comment.contains("Build succeeded (check pipeline)."), "{comment}");
            }
            _ => {}
        }
    }

    /// A dead letter, and the result of a change that Gerrit does not have.
    fn fail_two_jobs(&mut self) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let store = Store::open(self.path("state/pushbutton.db")).await.unwrap();
            let (queue, filter) = (store.queue(), JobFilter::names(["tempest".parse().unwrap()]));
            queue.publish(&samples::job("tempest")).await.unwrap();
            let claim = queue.claim(&filter).await.unwrap();
            claim.reject("the cloud has no flavor m9.huge: it has m1.large, m1.xlarge").await.unwrap();
            let job = samples::job_on(4_711_000, "tempest");
            queue.publish(&job).await.unwrap();
            queue.claim(&filter).await.unwrap().complete(&samples::success(&job)).await.unwrap();
        });
        self.status_says("reports: 0 due, 1 undelivered");
    }

    fn status_says(&mut self, text: &str) {
        until(text, TIMEOUT, || {
            let status = self.run("pushbutton-bin status");
            (status.contains(text) && status.contains("event stream connected")).then_some(())
        });
    }

    /// Runs the blocks of a page; returns the page with the output as it is now.
    fn read(&mut self, page: &str, text: &str) -> String {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut written = lines.clone();
        // From the end, so that numbers of lines stay right: what is to be replaced.
        let mut replaced = Vec::new();
        for block in blocks(&lines) {
            let at = format!("{page}:{}", block.first);
            let (what, value) = match block.marker.as_deref().and_then(|marker| marker.split_once(": ")) {
                Some((what, value)) => (what, value),
                None => ("", ""),
            };
            let content = || lines[block.first..block.end].join("\n") + "\n";
            match (block.language.as_str(), what) {
                (_, "file") => std::fs::write(self.path(value), self.real(&content())).unwrap(),
                (_, "append") => {
                    let before = std::fs::read_to_string(self.path(value)).unwrap();
                    std::fs::write(self.path(value), before + &self.real(&content())).unwrap();
                }
                ("console" | "sh", "not run") => self.skipped.extend(
                    commands(&lines, &block)
                        .into_iter()
                        .map(|shown| (page.to_owned(), shown.command, value.to_owned())),
                ),
                ("console" | "sh", "run by") => self.passed_on += commands(&lines, &block).len(),
                ("console" | "sh", "" | "ends with") => {
                    let code = value.parse().unwrap_or(0);
                    for shown in commands(&lines, &block) {
                        if RUN_ELSEWHERE.iter().any(|(begin, _)| shown.command.starts_with(begin)) {
                            self.passed_on += 1;
                            continue;
                        }
                        let output = self.one(page, &shown.command, code);
                        if shown.output.is_empty() {
                            continue;
                        }
                        let expected = lines[shown.output.clone()]
                            .iter()
                            .map(|line| line.get(block.indent..).unwrap_or_default());
                        let expected = expected.collect::<Vec<_>>().join("\n");
                        if !is_writing() {
                            let same = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
                            assert_eq!(
                                same(&expected),
                                same(&output),
                                "{at}: $ {} prints something else now:\n{output}\n(PUSHBUTTON_BOOK=write writes it)",
                                shown.command
                            );
                        }
                        replaced.push((shown.output, block.indent, output));
                    }
                }
                ("console" | "sh", other) => panic!("{at}: {other:?} is no mark of a block"),
                _ => {}
            }
        }
        self.stop_all();
        self.here = self.folder.path().to_owned();
        for (range, indent, output) in replaced.into_iter().rev() {
            let indented = output
                .trim_end()
                .lines()
                .map(|line| format!("{}{line}", " ".repeat(indent)).trim_end().to_owned());
            written.splice(range, indented.collect::<Vec<_>>());
        }
        written.join("\n") + "\n"
    }

    /// Runs one command of a page; returns what it prints, as the book has it.
    fn one(&mut self, page: &str, command: &str, code: i32) -> String {
        self.before(page, command);
        let real = self.real(command);
        self.ran += 1;
        let begun = Instant::now();
        let output = match RUNS_ON
            .iter()
            .find(|(begin, _)| command.starts_with(begin) && !command.starts_with("pushbutton-bin runs"))
        {
            Some((_, ready)) => {
                self.start(&real, ready);
                String::new()
            }
            None => self.ends(&real, code),
        };
        self.after(page, command);
        eprintln!("{page}: $ {command} ({:.1} s)", begun.elapsed().as_secs_f32());
        self.shown(&output)
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

fn is_writing() -> bool {
    std::env::var("PUSHBUTTON_BOOK").is_ok_and(|it| it == "write")
}

/// The pages in the order of the book.
fn pages() -> Vec<String> {
    let summary = std::fs::read_to_string(root().join("docs/src/SUMMARY.md")).unwrap();
    let links = summary.lines().filter_map(|line| line.split_once("](")?.1.split_once(')'));
    let pages = links.map(|(page, _)| page.to_owned()).filter(|page| !GENERATED.contains(&page.as_str()));
    pages.collect()
}

#[test]
fn every_command_of_the_book_is_run_or_says_why_not() {
    let mut reader = Reader::new();
    for page in pages() {
        let file = root().join("docs/src").join(&page);
        let text = std::fs::read_to_string(&file).unwrap();
        let now = reader.read(&page, &text);
        if is_writing() {
            std::fs::write(file, now).unwrap();
        }
    }
    let Reader { ran, passed_on, skipped, .. } = &reader;
    for (page, command, why) in skipped {
        eprintln!("{page}: $ {command} is not run: {why}");
    }
    eprintln!(
        "{ran} commands were run, {passed_on} are run by other parts of CI, {} are not run",
        skipped.len()
    );
    assert!(skipped.iter().all(|(_, _, why)| why.len() > 10));
    let is_named = |(page, command, _): &&(String, String, String)| {
        NOT_RUN.iter().any(|(known, begin)| known == page && command.starts_with(begin))
    };
    assert_eq!(skipped.iter().filter(is_named).count(), NOT_RUN.len(), "name it in NOT_RUN: {skipped:?}");
    assert_eq!(skipped.len(), NOT_RUN.len(), "name it in NOT_RUN: {skipped:?}");
    assert!(*ran > 25, "{ran}");
}
