//! The page of a stage's tests, `testr_results.html.gz`: failures first, with what they said.

use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use maud::{Markup, html};
use pushbutton_core::{TestCounts, test_anchor};

use crate::files::write_whole;
use crate::page::{END, begin, safe, took};
use crate::subunit::Status;
use crate::test_results::{Case, TestResults};

/// The name before a number, where a run has several such pages.
pub(crate) const STEM: &str = "testr_results";
/// The name after it.
pub(crate) const ENDING: &str = ".html.gz";
/// So many tests are listed. A full tempest run has some two thousand.
const MAX_ROWS: usize = 50_000;
/// More pages are not counted: a job has some five stages.
const MAX_PAGES: usize = 1000;

/// The name of a run's page of this number, from 1.
pub(crate) fn name(number: usize) -> String {
    match number {
        1 => format!("{STEM}{ENDING}"),
        _ => format!("{STEM}-{number}{ENDING}"),
    }
}

/// How many pages a folder has.
pub(crate) fn count(log_dir: &Path) -> usize {
    (1..MAX_PAGES).take_while(|number| log_dir.join(name(*number)).symlink_metadata().is_ok()).count()
}

/// Writes the page.
pub(crate) fn write(tests: &TestResults, log_dir: &Path, name: &str) -> io::Result<()> {
    write_whole(log_dir, name, |to| {
        let mut to = GzEncoder::new(to, Compression::default());
        let counts = tests.counts.unwrap_or_default();
        let title = format!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
        to.write_all(begin(&title, false).as_bytes())?;
        to.write_all(head(counts, tests.incomplete.as_deref()).as_bytes())?;
        for case in tests.cases.iter().take(MAX_ROWS) {
            to.write_all(row(case).into_string().as_bytes())?;
        }
        to.write_all(b"</tbody></table>\n")?;
        let more = tests.cases.len().saturating_sub(MAX_ROWS);
        if more > 0 {
            to.write_all(html! { p { (more) " more tests are not listed." } }.into_string().as_bytes())?;
        }
        to.write_all(END.as_bytes())?;
        to.finish().map(drop)
    })
}

/// Up to the first row.
fn head(counts: TestCounts, incomplete: Option<&str>) -> String {
    let head = html! {
        p { a href="./" { "Run" } " / tests" }
        h1 { "Test results" }
        @if let Some(why) = incomplete {
            p.reason.lab { "These results are incomplete: tests may be missing. " (safe(why)) }
        }
        (count_list(counts))
    };
    let columns =
        "<table><thead><tr><th>Result</th><th>Test</th><th class=\"number\">Took</th></tr></thead><tbody>\n";
    head.into_string() + columns
}

/// The three counts.
pub(crate) fn count_list(counts: TestCounts) -> Markup {
    let TestCounts { passed, failed, skipped, .. } = counts;
    html! {
        ul.counts {
            li { b.bad[failed > 0] { (failed) } "failed" }
            li { b.good[passed > 0] { (passed) } "passed" }
            li { b { (skipped) } "skipped" }
        }
    }
}

fn row(case: &Case) -> Markup {
    // As in the outcome of the stage, so that links find it.
    let name = &case.name;
    let (class, word) = match case.status {
        Status::Failed => ("bad", "failed"),
        Status::InProgress => ("bad", "did not end"),
        Status::Lost => ("lab", "result lost"),
        Status::Skipped => ("soft", "skipped"),
        Status::Passed => ("good", "passed"),
    };
    html! {
        tr id=(test_anchor(name)) {
            td.short { span class=(class) { (word) } }
            td.long {
                (name)
                @for (title, text) in &case.texts {
                    @let text = safe(text);
                    @if case.rank() <= 1 {
                        div.soft { (safe(title)) }
                        pre { (text) }
                    } @else {
                        " " span.soft { (text) }
                    }
                }
            }
            td.number { @if let Some(time) = case.took { (took(time)) } }
        }
        "\n"
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::KnownResults;

    fn page_of(log_dir: &Path, name: &str) -> String {
        let mut text = String::new();
        GzDecoder::new(fs::File::open(log_dir.join(name)).unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    fn report(text: &str) -> String {
        format!(
            "<testsuite><testcase name='ok' time='1.5'/><testcase name='bad'><failure>{text}</failure></testcase></testsuite>"
        )
    }

    #[test]
    fn hostile_text_is_text_and_secrets_are_redacted() {
        let folder = tempfile::tempdir().unwrap();
        let report = "<testsuite><testcase name='&lt;img src=x onerror=alert(1)&gt;'><failure>\
                      &lt;/pre&gt;&lt;script&gt;x&lt;/script&gt; s3cret \u{202e}</failure></testcase></testsuite>";
        fs::write(folder.path().join("junit.xml"), report).unwrap();
        let redact = |text: &str| text.replace("s3cret", "***");
        let tests = KnownResults::default().read_new(folder.path(), &redact);
        assert_eq!(tests.write_page(folder.path()).unwrap().unwrap(), "testr_results.html.gz");
        let page = page_of(folder.path(), "testr_results.html.gz");
        assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"), "{page}");
        assert!(page.contains("&lt;/pre&gt;&lt;script&gt;x&lt;/script&gt; *** \u{fffd}"), "{page}");
        for bad in ["<img", "<script", "s3cret", "\u{202e}"] {
            assert!(!page.contains(bad), "{bad}");
        }
    }

    #[test]
    fn each_test_has_its_anchor_and_failures_come_first() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("junit.xml"), report("boom")).unwrap();
        let tests = KnownResults::default().read_new(folder.path(), &str::to_owned);
        tests.write_page(folder.path()).unwrap();
        let page = page_of(folder.path(), "testr_results.html.gz");
        let at = |test: &str| page.find(&format!("<tr id=\"{}\">", test_anchor(test))).unwrap();
        assert!(at("bad") < at("ok"));
        assert!(page.contains("<pre>boom</pre>") && page.contains(">1.5s</td>"), "{page}");
        assert!(page.ends_with(END));
    }

    #[test]
    fn a_page_says_that_results_are_incomplete_and_which_ones_are_lost() {
        let folder = tempfile::tempdir().unwrap();
        let packet = |id: &str| {
            let status = subunit::types::teststatus::TestStatus::InProgress;
            subunit::types::event::Event::new(status).test_id(id).build().to_vec().unwrap()
        };
        let stream = [packet("lost"), packet("cut")].concat();
        fs::write(folder.path().join("a<b.subunit"), &stream[..stream.len() - 1]).unwrap();
        let tests = KnownResults::default().read_new(folder.path(), &str::to_owned);
        tests.write_page(folder.path()).unwrap();
        let page = page_of(folder.path(), "testr_results.html.gz");
        for expected in [
            "These results are incomplete: tests may be missing. a&lt;b.subunit: it ends in the middle",
            "<span class=\"lab\">result lost</span></td><td class=\"long\">lost",
            "<b class=\"\">0</b>failed",
        ] {
            assert!(page.contains(expected), "{expected} is not in {page}");
        }
        fs::write(folder.path().join("whole.xml"), report("boom")).unwrap();
        fs::remove_file(folder.path().join("a<b.subunit")).unwrap();
        KnownResults::default().read_new(folder.path(), &str::to_owned).write_page(folder.path()).unwrap();
        assert!(!page_of(folder.path(), "testr_results.html.gz").contains("incomplete"));
    }

    #[test]
    fn a_page_that_the_node_brought_is_replaced_and_one_of_an_earlier_stage_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownResults::of(folder.path());
        fs::write(folder.path().join("testr_results.html.gz"), "<script>the node's</script>").unwrap();
        fs::write(folder.path().join("one.xml"), report("first")).unwrap();
        let page = known.read_new(folder.path(), &str::to_owned).write_page(folder.path()).unwrap().unwrap();
        assert_eq!(page, "testr_results.html.gz");
        assert!(page_of(folder.path(), &page).contains("first"));

        let known = KnownResults::of(folder.path());
        fs::write(folder.path().join("two.xml"), report("second")).unwrap();
        let second =
            known.read_new(folder.path(), &str::to_owned).write_page(folder.path()).unwrap().unwrap();
        assert_eq!(second, "testr_results-2.html.gz");
        assert!(page_of(folder.path(), &page).contains("first"));
        assert!(page_of(folder.path(), &second).contains("second"));
    }
}
