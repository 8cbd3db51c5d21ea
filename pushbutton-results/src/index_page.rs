//! The page of a run, `index.html`: how it ended, its stages, its tests, its files.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};
use pushbutton_core::history::{RunRecord, RunState, StageRecord};
use pushbutton_core::{HumanDuration, StageStatus, TestCounts, Verdict};

use crate::console_page::Places;
use crate::files::{walk, write_whole};
use crate::page::{END, begin, file_size, relative_url, safe, time, took, web_link};
use crate::{CONSOLE_LOG, CONSOLE_PAGE, INDEX_PAGE, console_page, is_page_name, test_page};

/// So many files are listed. The rest is counted.
const MAX_FILES: usize = 5_000;
/// So many failed tests are named.
const MAX_FAILED: usize = 500;
/// So many slow tests are named.
const MAX_SLOWEST: usize = 10;

/// Writes the pages of a run to its log folder, as far as the run has come: the console's and the index. Blocks.
pub(crate) fn write(log_dir: &Path, run: &RunRecord, now: Timestamp) -> io::Result<()> {
    let failed: Vec<&str> = run.failed_tests().take(MAX_FAILED).collect();
    let places = match console_page::write(log_dir, &failed) {
        Ok(places) => places,
        // The index says more than nothing.
        Err(error) => {
            tracing::warn!(folder = %log_dir.display(), %error, "cannot write the page of the console");
            None
        }
    };
    link_test_pages(log_dir);
    let files = Files::of(log_dir);
    let page = page(run, places.as_ref(), &files, now);
    write_whole(log_dir, INDEX_PAGE, |to| {
        to.write_all(begin(&title(run), false).as_bytes())?;
        to.write_all(page.into_string().as_bytes())?;
        to.write_all(END.as_bytes())
    })
}

/// Gives the pages of tests a second name in `logs/`, where some projects look for them.
fn link_test_pages(log_dir: &Path) {
    let logs = log_dir.join("logs");
    if !logs.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return;
    }
    for number in 1..=test_page::count(log_dir) {
        let name = test_page::name(number);
        match fs::hard_link(log_dir.join(&name), logs.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                tracing::debug!(folder = %logs.display(), %error, "cannot link a page of tests");
            }
            _ => {}
        }
    }
}

fn title(run: &RunRecord) -> String {
    format!("{} {} {}", state(run).1, run.job.name, run.job.target())
}

/// The class and the word of how the run ended.
fn state(run: &RunRecord) -> (&'static str, &'static str) {
    match (&run.verdict, run.state) {
        (Some(verdict @ Verdict::Success), _) => ("good", verdict.result()),
        (Some(verdict @ Verdict::Failure { .. }), _) => ("bad", verdict.result()),
        (Some(verdict), _) => ("lab", verdict.result()),
        (None, RunState::Retrying) => ("lab", "NO RESULT"),
        (None, _) => ("busy", "RUNNING"),
    }
}

fn page(run: &RunRecord, places: Option<&Places>, files: &Files, now: Timestamp) -> Markup {
    let console = |line: Option<&u64>| line.map(|line| format!("./{CONSOLE_PAGE}#L{line}"));
    html! {
        (head(run, now))
        (stages(run, places, &console))
        (tests(run, places, &console))
        (listing(files))
        footer {
            "Written by pushbutton at " (time(now)) ". All times are in UTC."
        }
    }
}

fn head(run: &RunRecord, now: Timestamp) -> Markup {
    let (change, patchset) = (&run.job.change, &run.job.patchset);
    let (class, word) = state(run);
    let ended = run.ended.unwrap_or(now);
    let duration = Duration::try_from(ended.duration_since(run.started)).unwrap_or_default();
    let reason = run.reason.as_deref().or_else(|| run.ended.is_none().then(|| failed_so_far(run)).flatten());
    html! {
        h1 { span.badge.(class) { (word) } " " (safe(run.job.name.as_str())) }
        @if let Some(reason) = reason {
            p.reason.(class) { (safe(reason)) }
        }
        dl {
            dt { "Change" }
            dd {
                (web_link(change.url.as_deref(), &format!("{},{}", change.number, patchset.number)))
                " " (safe(&change.subject))
                br;
                span.soft { (safe(change.project.as_str())) ", " (safe(change.branch.as_str())) ", " code { (patchset.revision) } }
            }
            dt { "Run" }
            dd { "attempt " (run.attempt) ", " code { (run.run) } }
            dt { "Triggered by" }
            dd {
                (safe(&run.job.cause.kind))
                @if let Some(by) = &run.job.cause.by { " of " (safe(by)) }
                " (" (safe(&run.job.cause.trigger)) ")"
            }
            @if let Some(node) = &run.node {
                dt { "Node" } dd { (safe(node)) }
            }
            dt { "Began" } dd { (time(run.started)) }
            @if let Some(ended) = run.ended {
                dt { "Ended" } dd { (time(ended)) " (" (HumanDuration(duration)) ")" }
            } @else {
                dt { "State" } dd { "still running when this page was written, for " (HumanDuration(duration)) " so far" }
            }
        }
    }
}

/// What the first stage says that did not pass.
fn failed_so_far(run: &RunRecord) -> Option<&str> {
    let outcomes = run.stages.iter().filter_map(|stage| stage.outcome.as_ref());
    outcomes
        .filter(|outcome| outcome.status != StageStatus::Passed)
        .find_map(|outcome| outcome.detail.as_deref())
}

fn stages(
    run: &RunRecord,
    places: Option<&Places>,
    console: &dyn Fn(Option<&u64>) -> Option<String>,
) -> Markup {
    let begin =
        |stage: &StageRecord| console(places.and_then(|places| places.stages.get(stage.stage.as_str())));
    let fault =
        |stage: &StageRecord| console(places.and_then(|places| places.faults.get(stage.stage.as_str())));
    html! {
        h2 {
            "Stages"
            @if places.is_some() {
                small { a href={ "./" (CONSOLE_PAGE) } { "console" } " · " a href={ "./" (CONSOLE_LOG) } { "as text" } }
            }
        }
        @if run.stages.is_empty() {
            p.soft { "No stage has run." }
        } @else {
            table {
                thead { tr { th { "Stage" } th { "Result" } th.number { "Took" } th { "Began" } } }
                tbody {
                    @for stage in &run.stages {
                        tr {
                            td.short { (linked(begin(stage), stage.stage.as_str())) }
                            td.long { (outcome(stage, fault(stage))) }
                            td.number { @if let Some(outcome) = &stage.outcome { (took(outcome.took)) } }
                            td.short { (stage.started.strftime("%H:%M:%S")) }
                        }
                    }
                }
            }
        }
    }
}

fn outcome(stage: &StageRecord, fault: Option<String>) -> Markup {
    let Some(outcome) = &stage.outcome else { return html! { span.soft { "running" } } };
    let (class, word) = match (outcome.status, &outcome.lab_fault) {
        (StageStatus::Passed, _) => ("good", "passed"),
        (StageStatus::Failed, None) => ("bad", "failed"),
        (StageStatus::Failed, Some(_)) => ("lab", "failed: infrastructure"),
        (StageStatus::Unreachable, _) => ("lab", "node unreachable"),
        (StageStatus::TimedOut, _) => ("lab", "timed out"),
        (StageStatus::Cancelled, _) => ("soft", "cancelled"),
        _ => ("lab", "did not pass"),
    };
    html! {
        b.(class) { (word) }
        @if outcome.status != StageStatus::Passed {
            @if let Some(detail) = &outcome.detail { " " (linked(fault, detail)) }
            @if let Some(lab_fault) = &outcome.lab_fault { br; span.soft { "recognised: " (safe(lab_fault)) } }
        }
    }
}

fn linked(url: Option<String>, text: &str) -> Markup {
    html! {
        @match url {
            Some(url) => a href=(url) { (safe(text)) },
            None => (safe(text)),
        }
    }
}

fn tests(
    run: &RunRecord,
    places: Option<&Places>,
    console: &dyn Fn(Option<&u64>) -> Option<String>,
) -> Markup {
    let Some(counts) = counts(run) else { return html! {} };
    let outcomes = || run.stages.iter().filter_map(|stage| stage.outcome.as_ref());
    let failed = || {
        outcomes()
            .flat_map(|outcome| outcome.failed_tests.iter().map(move |test| (test, outcome.test_link(test))))
    };
    let slowest = run.slowest_tests(MAX_SLOWEST);
    let named = failed().count().min(MAX_FAILED) as u64;
    html! {
        h2 {
            "Tests"
            small {
                @for page in outcomes().filter_map(|outcome| outcome.test_page.as_deref()) {
                    a href=(relative_url(page)) { "all results" } " "
                }
            }
        }
        (test_page::count_list(counts))
        @if named > 0 {
            table {
                thead { tr { th { "Failed" } th { "Console" } } }
                tbody {
                    @for (test, link) in failed().take(MAX_FAILED) {
                        @let line = places.and_then(|places| places.tests.get(test));
                        tr {
                            td.long { (linked(link.map(|link| format!("./{link}")), test)) }
                            td.short {
                                @if let (Some(url), Some(line)) = (console(line), line) { a href=(url) { "line " (line) } }
                            }
                        }
                    }
                }
            }
            @if counts.failed > named {
                p.soft { "The first " (named) " of " (counts.failed) " failed tests; all are in the results." }
            }
        }
        @if !slowest.is_empty() {
            h2 { "Slowest tests" }
            table {
                thead { tr { th { "Test" } th.number { "Took" } } }
                tbody {
                    @for test in slowest {
                        tr { td.long { (safe(&test.name)) } td.number { (took(test.took)) } }
                    }
                }
            }
        }
    }
}

/// Of the result, or of the stages so far.
fn counts(run: &RunRecord) -> Option<TestCounts> {
    let of_stages = || {
        let stages = run.stages.iter().filter_map(|stage| stage.outcome.as_ref()?.tests);
        stages.reduce(|mut sum, counts| {
            sum += counts;
            sum
        })
    };
    run.tests.or_else(of_stages)
}

/// The files of a log folder, without hidden ones and without this page.
#[derive(Debug, Default, PartialEq)]
struct Files {
    /// Path below the folder, and size. Those at the top come first.
    listed: Vec<(String, u64)>,
    count: u64,
    bytes: u64,
}

impl Files {
    fn of(log_dir: &Path) -> Self {
        let mut files = Self::default();
        for entry in walk(log_dir) {
            // Links are left out: each leads to a file that is listed.
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.path().strip_prefix(log_dir).ok().and_then(Path::to_str);
            let Some(path) = path.filter(|_| metadata.is_file()) else { continue };
            let is_hidden = path.split('/').any(|name| name.starts_with('.'));
            if is_hidden || path == INDEX_PAGE {
                continue;
            }
            files.count += 1;
            files.bytes += metadata.len();
            // Those at the top come before all others.
            if files.listed.len() < MAX_FILES {
                files.listed.push((path.to_owned(), metadata.len()));
            }
        }
        files.listed.sort_by(|(a, _), (b, _)| a.contains('/').cmp(&b.contains('/')).then_with(|| a.cmp(b)));
        files
    }
}

fn listing(files: &Files) -> Markup {
    let more = files.count.saturating_sub(files.listed.len() as u64);
    html! {
        h2 { "Files" small { (files.count) " files, " (file_size(files.bytes)) } }
        table {
            thead { tr { th { "Name" } th.number { "Size" } } }
            tbody {
                @for (path, length) in &files.listed {
                    tr {
                        td.long {
                            a href=(relative_url(path)) { (safe(path)) }
                            @if let Some(what) = description(path) { " " small { (what) } }
                        }
                        td.number title={ (length) " bytes" } { (file_size(*length)) }
                    }
                }
            }
        }
        @if more > 0 { p.soft { (more) " more files are not listed." } }
    }
}

fn description(path: &str) -> Option<&'static str> {
    match path {
        CONSOLE_LOG => Some("the same as text"),
        CONSOLE_PAGE => Some("output of all stages, with a link to each line"),
        "local.conf" => Some("devstack's configuration"),
        "patchset.txt" => Some("what was tested"),
        path if is_page_name(path) => Some("all tests, failures first"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pushbutton_core::{StageOutcome, TestTime, samples, test_anchor};

    use super::*;

    fn run() -> RunRecord {
        RunRecord::new("r1".parse().unwrap(), samples::job("cinder-tempest"), 2, samples::AT)
    }

    fn failed_run(text: &str) -> RunRecord {
        let outcome = StageOutcome::new(StageStatus::Failed, Duration::from_secs(61))
            .with_detail(Some(format!("task \"Run tempest\": {text}")))
            .with_tests(Some(TestCounts::new(10, 2, 3)))
            .with_failed_tests(vec!["tempest.api.test_a[id-1]".to_owned(), text.to_owned()])
            .with_slowest_tests(vec![TestTime::new("tempest.api.test_slow", Duration::from_secs(75))])
            .with_test_page(Some("testr_results.html.gz".into()));
        let stage = StageRecord::new("run-tempest".parse().unwrap(), samples::AT).with_outcome(Some(outcome));
        run()
            .with_stages(vec![stage])
            .with_state(RunState::Completed)
            .with_ended(Some(samples::AT + jiff::SignedDuration::from_mins(90)))
            .with_node(Some("pushbutton-cinder-12345-2".into()))
            .with_verdict(Some(Verdict::Failure { stage: "run-tempest".parse().unwrap() }))
            .with_reason(Some(text.to_owned()))
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn index(folder: &Path, run: &RunRecord) -> String {
        write(folder, run, samples::AT + jiff::SignedDuration::from_mins(91)).unwrap();
        fs::read_to_string(folder.join(INDEX_PAGE)).unwrap()
    }

    #[test]
    fn a_failed_run_says_what_failed_with_links_to_the_lines() {
        let console = "2026-11-23 12:00:00.000 | pushbutton: stage run-tempest begins: b.yml of job j\n\
                       2026-11-23 12:00:01.000 | {0} tempest.api.test_a [1s] ... FAILED\n\
                       2026-11-23 12:00:02.000 | fatal: [node]: FAILED! => exit 1\n\
                       2026-11-23 12:00:03.000 | pushbutton: stage run-tempest ended: Failed in 3s\n";
        let folder =
            folder(&[(CONSOLE_LOG, console), ("testr_results.html.gz", "page"), ("logs/c-vol.txt.gz", "x")]);
        let page = index(folder.path(), &failed_run("exit 1"));
        for expected in [
            "<span class=\"badge bad\">FAILURE</span> cinder-tempest",
            "<p class=\"reason bad\">exit 1</p>",
            ">12345,2</a> Acme: retry a failed attach",
            "attempt 2, <code>r1</code>",
            "pushbutton-cinder-12345-2",
            "2026-11-23 13:30:00 UTC (1h 30m 00s)",
            "<a href=\"./console.html.gz#L1\">run-tempest</a>",
            "<b class=\"bad\">failed</b> <a href=\"./console.html.gz#L3\">task &quot;Run tempest&quot;: exit 1</a>",
            "<b class=\"bad\">2</b>failed",
            &format!(
                "<a href=\"./testr_results.html.gz#{}\">tempest.api.test_a[id-1]</a>",
                test_anchor("tempest.api.test_a[id-1]")
            ),
            "<a href=\"./console.html.gz#L2\">line 2</a>",
            "tempest.api.test_slow</td><td class=\"number\">1m 15s</td>",
            "<a href=\"./logs/c-vol.txt.gz\">logs/c-vol.txt.gz</a>",
            "4 B</td>",
        ] {
            assert!(page.contains(expected), "{expected} is not in {page}");
        }
        // Failures come before the rest of the tests, and before the files.
        let at = |text: &str| page.find(text).unwrap();
        assert!(at("test_a[id-1]") < at("Slowest tests") && at("Slowest tests") < at("Files"));
        let second_name = fs::read_to_string(folder.path().join("logs/testr_results.html.gz")).unwrap();
        assert_eq!(second_name, "page");
    }

    #[test]
    fn hostile_text_is_text_everywhere() {
        let evil = "</title><script>alert(1)</script><img src=x onerror=alert(2)>\u{202e}";
        let mut run = failed_run(evil);
        run.job.change.subject = evil.into();
        run.job.change.url = Some("javascript:alert(1)".into());
        run.node = Some(evil.into());
        run.job.cause.by = Some(evil.into());
        let folder =
            folder(&[("<script>alert(1)</script>/<img src=x>.txt", "x"), ("javascript:alert(1)", "x")]);
        let page = index(folder.path(), &run);
        for bad in ["<script", "<img", "href=\"javascript:", "\u{202e}"] {
            assert!(!page.contains(bad), "{bad} is in {page}");
        }
        assert_eq!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 7, "{page}");
    }

    #[test]
    fn a_run_that_still_runs_or_ended_without_a_verdict_has_a_page() {
        let folder = folder(&[(CONSOLE_LOG, "a line\n")]);
        let mut running = failed_run("x");
        (running.verdict, running.ended, running.reason, running.state) =
            (None, None, None, RunState::Running);
        let page = index(folder.path(), &running);
        assert!(page.contains("<span class=\"badge busy\">RUNNING</span>"), "{page}");
        assert!(page.contains("<p class=\"reason busy\">task &quot;Run tempest&quot;: x</p>"), "{page}");
        assert!(page.contains("1h 31m 00s so far"), "{page}");

        let mut retried = run();
        retried.end_without_verdict(samples::AT, "no node in time");
        let page = index(folder.path(), &retried);
        assert!(
            page.contains("NO RESULT")
                && page.contains("no node in time")
                && page.contains("No stage has run.")
        );
    }

    #[test]
    fn all_visible_files_are_listed_with_their_sizes_and_links_are_not() {
        let folder =
            folder(&[("logs/a b.txt", "12345"), ("z.txt", ""), (".hidden", "x"), ("logs/.hidden/x", "x")]);
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        index(folder.path(), &run());
        let files = Files::of(folder.path());
        assert_eq!(files.listed, [("z.txt".to_owned(), 0), ("logs/a b.txt".to_owned(), 5)]);
        assert_eq!((files.count, files.bytes), (2, 5));
    }

    #[test]
    fn files_at_the_top_are_listed_however_many_were_gathered() {
        let folder =
            folder(&[("tempest.subunit", "x"), ("testr_results.html.gz", "x"), ("patchset.txt", "x")]);
        let gathered = folder.path().join("logs/all");
        fs::create_dir_all(&gathered).unwrap();
        for number in 0..MAX_FILES {
            fs::write(gathered.join(number.to_string()), "").unwrap();
        }
        let files = Files::of(folder.path());
        assert_eq!((files.count, files.listed.len()), (MAX_FILES as u64 + 3, MAX_FILES));
        let top: Vec<_> = files.listed.iter().take(3).map(|(name, _)| name.as_str()).collect();
        assert_eq!(top, ["patchset.txt", "tempest.subunit", "testr_results.html.gz"]);
    }
}
