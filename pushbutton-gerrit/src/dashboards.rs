//! What OpenStack's result tables read in a comment: the tab of its Gerrit (the plugin zuul-results-summary) and ciwatch.
//! A comment that they do not understand is not shown there, without an error message. So every comment is read with their
//! rules before it is posted, and `pushbutton-bin lint` reads those of other CIs.

use std::sync::LazyLock;

use regex::Regex;

/// A pattern that is known to compile. If it did not, nothing would match, and the tests would fail.
macro_rules! pattern {
    ($name:ident, $pattern:expr) => {
        static $name: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new($pattern).ok());
    };
}

// Their `\w` is that of JavaScript, ASCII alone.
pattern!(STATUS_AND_PIPELINE, r"(?m)^Build ([0-9A-Za-z_]+) \(([0-9A-Za-z_]+) pipeline\)\.");
pattern!(STATUS, r"(?m)^Build ([0-9A-Za-z_]+)\.");
pattern!(RESULT, r"^- ([^ ]+) ([^ ]+) : (?:ERROR .*? in .*|([^ ]+)(?: in (.*))?)");
pattern!(CIWATCH_RESULT, r"[-*]\s+([^\s*]+)\s+(http[^\s*]+) : (SUCCESS|FAILURE|UNSTABLE|NOT_REGISTERED)");
pattern!(CIWATCH_PIPELINE, r"\((.*)\spipeline\)");

/// The words of results that the tab shows in colour. It shows others without.
pub const TAB_RESULTS: [&str; 12] = [
    "SUCCESS",
    "FAILURE",
    "ERROR",
    "RETRY_LIMIT",
    "SKIPPED",
    "ABORTED",
    "MERGER_FAILURE",
    "NODE_FAILURE",
    "TIMED_OUT",
    "POST_FAILURE",
    "CONFIG_ERROR",
    "DISK_FULL",
];

/// A comment as the tab of Gerrit shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TabEntry {
    /// The word after `Build`; only `succeeded` is shown as a success.
    pub status: String,
    /// The pipeline, where the line names one.
    pub pipeline: Option<String>,
    /// The results, in the order of their lines.
    pub results: Vec<TabResult>,
}

/// One result line as a dashboard reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TabResult {
    /// The job.
    pub job: String,
    /// Where its logs are.
    pub link: Option<String>,
    /// The word of the result.
    pub result: String,
    /// How long it took, as it is written.
    pub time: Option<String>,
}

/// What the tab of Gerrit shows of a comment. None: it leaves the comment out, because it finds no status line.
pub fn tab_entry(text: &str) -> Option<TabEntry> {
    let (status, pipeline) = match STATUS_AND_PIPELINE.as_ref()?.captures(text) {
        Some(found) => (found[1].to_owned(), Some(found[2].to_owned())),
        None => (STATUS.as_ref()?.captures(text)?[1].to_owned(), None),
    };
    Some(TabEntry { status, pipeline, results: text.lines().filter_map(tab_result).collect() })
}

/// The result that the tab of Gerrit reads in a line.
pub fn tab_result(line: &str) -> Option<TabResult> {
    let found = RESULT.as_ref()?.captures(line)?;
    let group = |nth: usize| found.get(nth).map(|text| text.as_str().to_owned());
    Some(TabResult {
        job: group(1)?,
        link: group(2).filter(|place| is_link(place)),
        result: group(3).unwrap_or_else(|| "ERROR".to_owned()),
        time: group(4),
    })
}

fn is_link(place: &str) -> bool {
    let rest = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty())
}

/// How many status lines the tab could choose from. It takes the first.
pub fn status_lines(text: &str) -> usize {
    let count =
        |pattern: &LazyLock<Option<Regex>>| pattern.as_ref().map_or(0, |re| re.find_iter(text).count());
    count(&STATUS_AND_PIPELINE) + count(&STATUS)
}

/// The results that ciwatch reads: job, link and word.
pub fn ciwatch_results(text: &str) -> Vec<(String, String, String)> {
    let Some(pattern) = CIWATCH_RESULT.as_ref() else { return Vec::new() };
    pattern.captures_iter(text).map(|found| (found[1].into(), found[2].into(), found[3].into())).collect()
}

/// The pipeline that ciwatch reads. It looks at the third line of the whole message: the first line of the text below
/// the header that Gerrit puts before it.
pub fn ciwatch_pipeline(text: &str) -> Option<String> {
    let found = CIWATCH_PIPELINE.as_ref()?.captures(text.lines().next()?)?;
    Some(found[1].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tools' own rules (zuul-results-summary `web/plugin.js`; ciwatch `ciwatch/events.py`).
    const THEIR_STATUS: &str = r"(?m)^Build (?<status>(?-u:\w)+) \((?<pipeline>(?-u:[\w])+) pipeline\)\.";
    const THEIR_SHORT_STATUS: &str = r"(?m)^Build (?<status>(?-u:\w)+)\.";
    const THEIR_RESULT: &str = r"^- (?<job>[^ ]+) (?:(?<link>https?:\/\/[^ ]+)|[^ ]+) : ((ERROR (?<errormsg>.*?) in (?<errtime>.*))|(?<result>[^ ]+)( in (?<time>.*))?)";

    #[test]
    fn status_lines_are_read_as_by_the_tab() {
        let [long, short] = [THEIR_STATUS, THEIR_SHORT_STATUS].map(|pattern| Regex::new(pattern).unwrap());
        for (text, expected) in [
            ("Build succeeded (check pipeline).\n", Some(("succeeded", Some("check")))),
            ("Build failed.\n\n- a b : X", Some(("failed", None))),
            ("Thanks.\n\nBuild failed (third_party pipeline).", Some(("failed", Some("third_party")))),
            ("Build failed.\nBuild succeeded (check pipeline).", Some(("succeeded", Some("check")))),
            // A hyphen in the pipeline parses as nothing.
            ("Build succeeded (third-party-check pipeline).", None),
            ("Build succeeded (check pipeline)", None),
            (" Build succeeded.", None),
            ("Build erfüllt.", None),
            ("Starting check jobs.", None),
        ] {
            let read = tab_entry(text);
            let read = read.as_ref().map(|entry| (entry.status.as_str(), entry.pipeline.as_deref()));
            assert_eq!(read, expected, "{text:?}");
            let theirs = long.captures(text).or_else(|| short.captures(text));
            let status = theirs.as_ref().map(|found| &found["status"]);
            assert_eq!(status, expected.map(|(status, _)| status), "{text:?}");
        }
    }

    #[test]
    fn result_lines_are_read_as_by_the_tab() {
        let theirs = Regex::new(THEIR_RESULT).unwrap();
        for (line, is_read) in [
            ("- unit https://logs.example.org/1/ : SUCCESS in 5m 30s", true),
            ("- unit https://logs.example.org/1/ : SUCCESS", true),
            ("- unit unit : SKIPPED", true),
            ("- unit https://logs.example.org/1/ : FAILURE in 5s (non-voting)", true),
            ("- unit https://logs.example.org/1/ : ERROR no node in 3s", true),
            ("- unit https://logs.example.org/1/ : ERROR in 3s", true),
            ("* unit https://logs.example.org/1/ : SUCCESS", false),
            ("- my unit https://logs.example.org/1/ : SUCCESS", false),
            ("- unit https://logs.example.org/1/: SUCCESS", false),
            ("- unit https://logs.example.org/1/ :SUCCESS", false),
            (" - unit https://logs.example.org/1/ : SUCCESS", false),
            ("-  unit https://logs.example.org/1/ : SUCCESS", false),
            ("unit: SUCCESS", false),
        ] {
            let (read, found) = (tab_result(line), theirs.captures(line));
            assert_eq!((read.is_some(), found.is_some()), (is_read, is_read), "{line}");
            let (Some(read), Some(found)) = (read, found) else { continue };
            let group = |name: &str| found.name(name).map(|text| text.as_str().to_owned());
            assert_eq!((Some(read.job), read.link), (group("job"), group("link")), "{line}");
            if let Some(result) = group("result") {
                assert_eq!((read.result, read.time), (result, group("time")), "{line}");
            }
        }
    }

    #[test]
    fn ciwatch_reads_results_anywhere_and_the_pipeline_of_the_first_line() {
        let text =
            "Build failed (check pipeline).\n\nsee * a  http://x : FAILURE and - b https://y : POST_FAILURE";
        assert_eq!(ciwatch_results(text), [("a".into(), "http://x".into(), "FAILURE".into())]);
        assert_eq!(ciwatch_pipeline(text).as_deref(), Some("check"));
        assert_eq!(ciwatch_pipeline("Hello.\nBuild failed (check pipeline)."), None);
    }
}
