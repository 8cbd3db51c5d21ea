//! Comments from a template (minijinja, the language of Jinja): its variables, its limits, and what is done when it
//! does not work.

use std::collections::HashMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use pushbutton_core::{
    BuildsetReport, FailureCount, FailureQuery, HumanDuration, JobName, Result, RunHistory, RunResult,
    Verdict, text,
};
use serde::Serialize;

use crate::dashboards;
use crate::message::{
    CommentConfig, FOREIGN_LINE, MESSAGE_LIMIT, dedup_footer, explanation, is_link, one_line, result_line,
};

/// The template that is used unless the configuration has one of its own.
pub const DEFAULT_TEMPLATE: &str = include_str!("default_comment.j2");

/// Bounds the time and the memory of a template, some 64 bytes each: the default one uses a hundredth for a report of a
/// few jobs.
const FUEL: u64 = 1_000_000;

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Why the template of the configuration was not used; the text is that of the default one.
    pub problem: Option<String>,
}

/// How often the failed tests of a report failed before, on other changes.
#[derive(Debug, Clone, Default)]
pub struct EarlierFailures(HashMap<(JobName, String), FailureCount>);

impl EarlierFailures {
    /// Asks the history about the tests that a comment names.
    ///
    /// # Errors
    /// Those of the history.
    pub async fn of(
        report: &BuildsetReport,
        config: &CommentConfig,
        history: &dyn RunHistory,
    ) -> Result<Self> {
        let mut earlier = Self::default();
        if config.flaky_runs == 0 {
            return Ok(earlier);
        }
        for result in &report.results {
            let tests: Vec<String> =
                result.failed_tests().take(config.failed_tests).map(str::to_owned).collect();
            if tests.is_empty() {
                continue;
            }
            let job = result.job.name.clone();
            let query = FailureQuery::new(job.clone(), report.change.number, tests.clone())
                .with_runs(config.flaky_runs);
            let counts = history.failure_counts(&query).await?;
            earlier.0.extend(tests.into_iter().map(|test| (job.clone(), test)).zip(counts));
        }
        Ok(earlier)
    }

    /// Adds one test of a job.
    #[must_use]
    pub fn with(mut self, job: JobName, test: impl Into<String>, count: FailureCount) -> Self {
        self.0.insert((job, test.into()), count);
        self
    }

    fn get(&self, job: &JobName, test: &str) -> Option<FailureCount> {
        self.0.get(&(job.clone(), test.to_owned())).copied().filter(|count| count.runs > 0)
    }
}

/// How much of a report is shown. A comment that is too long is rendered again with less.
#[derive(Debug, Clone, Copy)]
struct Detail {
    /// Failed tests of each job.
    tests: usize,
    /// Whether each of them has a link.
    test_links: bool,
    /// Whether the result lines have links.
    links: bool,
    /// The longest text that comes from elsewhere.
    line: usize,
    /// Jobs.
    results: usize,
}

impl Detail {
    /// From everything to next to nothing.
    fn steps(config: &CommentConfig, report: &BuildsetReport) -> impl Iterator<Item = Self> {
        let results = report.results.len();
        let all =
            Self { tests: config.failed_tests, test_links: true, links: true, line: FOREIGN_LINE, results };
        let fewer = |tests: usize, line| Self {
            tests: config.failed_tests.min(tests),
            test_links: false,
            line,
            ..all
        };
        let least = Self { links: false, ..fewer(0, 80) };
        let half = fewer(config.failed_tests / 2, 200);
        let first = [all, fewer(usize::MAX, FOREIGN_LINE), half, fewer(3, 200), fewer(0, 200), least];
        let next = |detail: &Self| {
            let results = detail.results * 3 / 4;
            (results > 0).then_some(Self { results, ..*detail })
        };
        first.into_iter().chain(std::iter::successors(next(&least), next))
    }
}

// ---- the variables. README.md lists them; a test compares ----------------------------------------------------------

/// The variables of a template.
#[derive(Debug, Serialize)]
pub(crate) struct Variables {
    first_line: String,
    status: Option<&'static str>,
    pipeline: String,
    ci: String,
    wiki: Option<String>,
    recheck: String,
    contact: Option<String>,
    vote: Option<String>,
    buildset: String,
    change: ChangeVariables,
    job_count: usize,
    results: Vec<ResultVariables>,
    more_results: usize,
    missing_jobs: Vec<MissingVariables>,
}

#[derive(Debug, Serialize)]
struct ChangeVariables {
    number: u64,
    patchset: u32,
    project: String,
    branch: String,
    subject: String,
    url: Option<String>,
}

#[derive(Debug, Serialize)]
struct ResultVariables {
    line: String,
    job: String,
    result: &'static str,
    url: Option<String>,
    took: String,
    attempts: u32,
    stage: Option<String>,
    is_infrastructure: bool,
    reason: Option<String>,
    explanation: Option<String>,
    tests: Option<TestVariables>,
    failed_tests: Vec<FailedTestVariables>,
    more_failed_tests: usize,
}

#[derive(Debug, Serialize)]
struct TestVariables {
    passed: u64,
    failed: u64,
    skipped: u64,
}

#[derive(Debug, Serialize)]
struct FailedTestVariables {
    name: String,
    url: Option<String>,
    before: Option<BeforeVariables>,
}

#[derive(Debug, Serialize)]
struct BeforeVariables {
    failed: u32,
    runs: u32,
}

#[derive(Debug, Serialize)]
struct MissingVariables {
    names: String,
    count: usize,
    why: String,
}

impl Variables {
    fn new(
        config: &CommentConfig,
        ci: &str,
        report: &BuildsetReport,
        earlier: &EarlierFailures,
        detail: Detail,
    ) -> Self {
        let change = &report.change;
        let is_success = report.results.iter().all(|result| result.verdict == Verdict::Success);
        let status = match report.results.is_empty() {
            // Result tables do not read the line that says so: they go on showing the last build.
            true => None,
            false if is_success => Some("succeeded"),
            false => Some("failed"),
        };
        let first_line = match status {
            Some(status) => format!("Build {status} ({} pipeline).", config.pipeline),
            None => format!("No build of patch set {} was started.", report.patchset.number),
        };
        let results: Vec<_> = report
            .results
            .iter()
            .take(detail.results)
            .map(|result| ResultVariables::new(result, earlier, detail))
            .collect();
        Self {
            first_line,
            status,
            pipeline: config.pipeline.clone(),
            ci: config.name.as_deref().unwrap_or(ci).to_owned(),
            wiki: config.wiki.clone(),
            recheck: config.recheck.clone(),
            contact: config.contact.clone(),
            vote: config.vote_for(report).map(|value| format!("{}{value:+}", config.label)),
            buildset: report.id.to_string(),
            change: ChangeVariables {
                number: change.number.0,
                patchset: report.patchset.number.0,
                project: one_line(change.project.as_str(), detail.line),
                branch: one_line(change.branch.as_str(), detail.line),
                subject: one_line(&change.subject, detail.line),
                url: change.url.clone().filter(|url| is_link(url)),
            },
            job_count: report.results.len(),
            more_results: report.results.len() - results.len(),
            results,
            missing_jobs: MissingVariables::of(report, detail),
        }
    }
}

impl ResultVariables {
    fn new(result: &RunResult, earlier: &EarlierFailures, detail: Detail) -> Self {
        let url = result.log_url.as_deref().filter(|url| detail.links && is_link(url));
        let failed: Vec<&str> = result.failed_tests().collect();
        let total = result.tests.map_or(0, |tests| tests.failed as usize).max(failed.len());
        let shown = detail.tests.min(failed.len());
        let reason = result.reason.as_deref().map(|reason| one_line(reason, detail.line));
        let reason = reason.filter(|reason| !reason.is_empty());
        Self {
            line: result_line(result, url),
            job: result.job.name.to_string(),
            result: result.verdict.result(),
            url: url.map(str::to_owned),
            took: HumanDuration(result.took).to_string(),
            attempts: result.attempts,
            stage: match &result.verdict {
                Verdict::Failure { stage } | Verdict::TimedOut { stage } => Some(stage.to_string()),
                _ => None,
            },
            is_infrastructure: result.verdict.is_infrastructure(),
            explanation: explanation(result, reason.as_deref()),
            reason,
            tests: result.tests.map(|tests| TestVariables {
                passed: tests.passed,
                failed: tests.failed,
                skipped: tests.skipped,
            }),
            failed_tests: failed[..shown]
                .iter()
                .map(|name| FailedTestVariables {
                    name: one_line(name, detail.line),
                    url: url.filter(|_| detail.test_links).map(|url| test_link(url, name)),
                    before: earlier
                        .get(&result.job.name, name)
                        .map(|count| BeforeVariables { failed: count.failed, runs: count.runs }),
                })
                .collect(),
            more_failed_tests: if failed.is_empty() { 0 } else { total - shown },
        }
    }
}

impl MissingVariables {
    /// Jobs without a result, together where the reason is the same: it often is.
    fn of(report: &BuildsetReport, detail: Detail) -> Vec<Self> {
        let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
        for job in &report.missing {
            let why = one_line(&job.why, detail.line);
            match groups.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(job.name.as_str()),
                None => groups.push((why, vec![job.name.as_str()])),
            }
        }
        let group = |(why, names): (String, Vec<&str>)| Self {
            names: text::short_line(&names.join(", "), 10 * detail.line),
            count: names.len(),
            why: why.trim_end_matches('.').to_owned(),
        };
        groups.into_iter().take(detail.results.max(1)).map(group).collect()
    }
}

/// A link to the run's page that shows the place where the name of the test is: browsers search for the text after
/// `#:~:text=` (the W3C's text fragments). It needs nothing of the page.
fn test_link(url: &str, name: &str) -> String {
    if url.contains('#') || name.len() > FOREIGN_LINE || name.chars().any(text::is_unsafe) {
        return url.to_owned();
    }
    let mut link = format!("{url}#:~:text=");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' => link.push(char::from(byte)),
            // Also the hyphen, which has a meaning of its own there.
            byte => link.push_str(&format!("%{byte:02X}")),
        }
    }
    link
}

// ---- rendering -----------------------------------------------------------------------------------------------------

/// The comment for a complete buildset. `ci` is the CI's name if the configuration has none, usually the login name.
///
/// A template that fails, or whose text a result table would not read as the report, is replaced by the default one.
pub fn render(
    config: &CommentConfig,
    ci: &str,
    report: &BuildsetReport,
    earlier: &EarlierFailures,
) -> Rendered {
    let Some(template) = &config.template else {
        return Rendered { text: default_text(config, ci, report, earlier), problem: None };
    };
    match render_with(template, config, ci, report, earlier) {
        Ok(text) => Rendered { text, problem: None },
        Err(problem) => Rendered { text: default_text(config, ci, report, earlier), problem: Some(problem) },
    }
}

fn default_text(
    config: &CommentConfig,
    ci: &str,
    report: &BuildsetReport,
    earlier: &EarlierFailures,
) -> String {
    render_with(DEFAULT_TEMPLATE, config, ci, report, earlier).unwrap_or_else(|problem| {
        tracing::error!(buildset = %report.id, "the default template of comments has failed: {problem}");
        let detail = Detail { tests: 0, test_links: false, links: true, line: 80, results: 20 };
        let variables = Variables::new(config, ci, report, earlier, detail);
        let lines: String = variables.results.iter().map(|result| format!("{}\n", result.line)).collect();
        let body = format!("{}\n\n{lines}", variables.first_line);
        text::cut(&body, MESSAGE_LIMIT - 100).to_owned() + "\n" + &dedup_footer(&report.id) + "\n"
    })
}

/// Renders with less and less detail until the text fits.
///
/// # Errors
/// What is wrong with the template, with its line.
pub(crate) fn render_with(
    template: &str,
    config: &CommentConfig,
    ci: &str,
    report: &BuildsetReport,
    earlier: &EarlierFailures,
) -> Result<String, String> {
    let environment = environment()?;
    let template = environment.template_from_str(template).map_err(|error| describe(&error))?;
    let footer = dedup_footer(&report.id);
    let mut last = String::new();
    for detail in Detail::steps(config, report) {
        let variables = Variables::new(config, ci, report, earlier, detail);
        let text = template.render(Value::from(Serde(&variables))).map_err(|error| describe(&error))?;
        let text = format!("{}\n{footer}\n", clean(&text));
        if text.len() <= MESSAGE_LIMIT {
            return match misread(&text, config, &variables, &footer) {
                None => Ok(text),
                Some(why) => Err(why),
            };
        }
        last = text;
    }
    Err(format!("its text has {} bytes for one job; Gerrit takes {MESSAGE_LIMIT}", last.len()))
}

fn environment() -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    // Plain text: there is nothing to escape for. Everything from outside is made safe before it becomes a variable.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // A misspelt variable is an error, not an empty text.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| error.to_string())?);
    Ok(environment)
}

fn describe(error: &minijinja::Error) -> String {
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let mut line = error.line().map_or(what.clone(), |line| format!("line {line}: {what}"));
    if error.kind() == minijinja::ErrorKind::OutOfFuel {
        line.push_str(" (the template does too much)");
    }
    one_line(&line, FOREIGN_LINE)
}

/// Lines without unsafe characters and without blanks at their ends.
fn clean(text: &str) -> String {
    let line = |line: &str| {
        let safe: String = line.chars().map(|c| if text::is_unsafe(c) { ' ' } else { c }).collect();
        safe.trim_end().to_owned()
    };
    text.trim().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Why a dashboard would not read this text as the report, and how to fix the template.
fn misread(text: &str, config: &CommentConfig, variables: &Variables, footer: &str) -> Option<String> {
    let buildset = footer.split_once(' ').map_or(footer, |(word, _)| word);
    if text
        .lines()
        .filter(|line| line.strip_prefix(buildset).is_some_and(|rest| rest.starts_with(' ')))
        .count()
        > 1
    {
        return Some(format!(
            "it writes a line that begins with \"{buildset}\", which is added to every comment"
        ));
    }
    if let Some(wiki) = config.wiki.as_ref().filter(|wiki| !text.contains(wiki.as_str())) {
        return Some(format!("it does not link {wiki}; write {{{{ wiki }}}}"));
    }
    let Some(status) = variables.status else {
        return (dashboards::status_lines(text) > 0)
            .then(|| "a result table would read a build in a notice that none was started".to_owned());
    };
    if dashboards::status_lines(text) != 1 {
        return Some("result tables want exactly one line such as \"Build succeeded (check pipeline).\"; write {{ first_line }} as the first line".into());
    }
    if text.lines().next() != Some(variables.first_line.as_str()) {
        return Some(format!(
            "the first line is not {:?}; write {{{{ first_line }}}} as the first line",
            variables.first_line
        ));
    }
    let entry = dashboards::tab_entry(text);
    if entry.as_ref().map(|entry| entry.status.as_str()) != Some(status) {
        return Some(format!("result tables would not read the status as {status:?}"));
    }
    let read: Vec<_> = entry
        .iter()
        .flat_map(|entry| &entry.results)
        .map(|result| (result.job.as_str(), result.result.as_str(), result.link.as_deref()))
        .collect();
    let meant: Vec<_> = variables
        .results
        .iter()
        .map(|result| (result.job.as_str(), result.result, result.url.as_deref()))
        .collect();
    if read != meant {
        return Some(format!(
            "result tables would read {} of {} results; write a line {{{{ result.line }}}} for each of {{{{ results }}}}, and no other line such as \"- job link : RESULT\"",
            read.len(),
            meant.len()
        ));
    }
    // ciwatch takes an asterisk in a link for the next result.
    let on_ciwatch = |result: &&ResultVariables| {
        let is_read = result.url.as_ref().is_some_and(|url| !url.contains('*'));
        is_read && matches!(result.result, "SUCCESS" | "FAILURE")
    };
    let meant: Vec<_> =
        variables.results.iter().filter(on_ciwatch).map(|result| result.job.as_str()).collect();
    let read = dashboards::ciwatch_results(text);
    (read.iter().map(|(job, ..)| job.as_str()).collect::<Vec<_>>() != meant).then(|| {
        "ciwatch would read other results than these; write no text such as \"- job link : RESULT\" within a line".to_owned()
    })
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
