//! The rules for the text of a comment.

use pushbutton_gerrit::dashboards::{self, TAB_RESULTS};
use url::{Host, Url};

use super::Findings;

/// Checks a comment, with or without the header `Patch Set N:` that Gerrit puts before it. `pipeline` is that of the
/// configuration.
pub(crate) fn check(message: &str, pipeline: Option<&str>, findings: &mut Findings) {
    let message = message.replace("\r\n", "\n");
    let (votes, text) = split_header(message.trim());
    for (label, value) in &votes {
        if label == "Verified" && !(-1..=1).contains(value) {
            findings.fail(
                "A20",
                format!("the vote is {label}{value:+}"),
                "vote +1 or -1: others are the gate's",
            );
        }
    }
    let first = text.lines().next().unwrap_or_default();
    if is_start(first) {
        findings.fail("A3", shown(first), "post one comment, when the tests have ended");
        return;
    }
    let lower = text.to_lowercase();
    if ["merger_failure", "merge_conflict", "merge failed"].iter().any(|word| lower.contains(word)) {
        let fix = "post nothing: tell your own people, and run the change again when it can be merged";
        findings.fail("A23", "it reports a merge failure", fix);
    }
    links(text, findings);
    if !(lower.contains("recheck") || lower.contains("run-")) {
        findings.warn(
            "A17",
            "no line says how to run the tests again",
            "add one, such as \"To run it again, comment: recheck\"",
        );
    }
    status(text, pipeline, findings);
    results(text, &votes, findings);
}

fn status(text: &str, pipeline: Option<&str>, findings: &mut Findings) {
    let Some(entry) = dashboards::tab_entry(text) else {
        let wrong = text.lines().find(|line| line.starts_with("Build ") && line.contains(" pipeline)"));
        match wrong.and_then(|line| line.split_once('(')?.1.split_once(" pipeline)")) {
            Some((name, _)) if !is_word(name) => {
                findings.fail(
                    "A12",
                    format!("the pipeline is {:?}", short(name)),
                    "use letters, digits and _ only",
                );
            }
            _ => findings.fail(
                "A11",
                "no line says \"Build succeeded (check pipeline).\" or \"Build failed (check pipeline).\"",
                "begin the text with such a line; without it the comment is not in the table",
            ),
        }
        return;
    };
    if entry.status != "succeeded" && entry.status != "failed" {
        let fix = "write succeeded or failed: everything but succeeded is shown as a failure";
        findings.warn("A11", format!("the status is {:?}", short(&entry.status)), fix);
    }
    let first = text.lines().next().unwrap_or_default();
    if !first.starts_with("Build ") {
        findings.warn("A17", "the status is not the first line", "begin the text with it");
    }
    match (&entry.pipeline, dashboards::ciwatch_pipeline(text)) {
        (Some(name), found) if found.as_ref() != Some(name) => {
            let fix = "name the pipeline in the first line: ciwatch looks nowhere else";
            findings.warn("A15", "ciwatch finds no pipeline", fix);
        }
        (None, _) => {
            findings.warn("A15", "the status line names no pipeline", "write \"(check pipeline)\" in it")
        }
        _ => {}
    }
    if let (Some(name), Some(expected)) = (&entry.pipeline, pipeline) {
        if name != expected {
            let seen =
                format!("the pipeline is {:?}, that of the configuration is {expected:?}", short(name));
            findings.warn("A19", seen, "do not change the name: the table shows both as different results");
        }
    }
}

fn results(text: &str, votes: &[(String, i32)], findings: &mut Findings) {
    let mut words = Vec::new();
    for line in text.lines() {
        let Some(result) = dashboards::tab_result(line) else {
            if let Some(job) = looks_like_a_result(line) {
                if job.contains(' ') && line.starts_with("- ") {
                    findings.fail(
                        "A18",
                        format!("the job {:?} has a blank in its name", short(job)),
                        "write a hyphen or _",
                    );
                } else {
                    let fix = "write \"- job https://link : RESULT\", with one blank between";
                    findings.fail("A13", shown(line), fix);
                }
            }
            continue;
        };
        if !TAB_RESULTS.contains(&result.result.as_str()) {
            let fix = format!("use one of {}", TAB_RESULTS.join(", "));
            findings.warn("A18", format!("the result is {:?}", short(&result.result)), fix);
        }
        match &result.link {
            None if result.result == "FAILURE" => {
                findings.fail(
                    "A22",
                    format!("the failure of {} has no link", short(&result.job)),
                    "link its logs",
                );
            }
            None if result.result == "SUCCESS" => {
                findings.warn(
                    "A14",
                    format!("the result of {} has no link", short(&result.job)),
                    "link its logs",
                );
            }
            _ => {}
        }
        if result.time.as_deref().is_some_and(|time| !is_time(time)) {
            findings.warn(
                "A16",
                shown(line),
                "write the time as in \"in 1h 02m 03s\", \"in 5m 30s\" or \"in 7s\"",
            );
        }
        words.push(result.result);
    }
    if words.is_empty() && dashboards::tab_entry(text).is_some() {
        findings.fail("A13", "there is no result line", "write \"- job https://link : RESULT\" for each job");
    }
    let known = |word: &str| matches!(word, "SUCCESS" | "FAILURE");
    let on_ciwatch = dashboards::ciwatch_results(text);
    let in_tab = text.lines().filter_map(dashboards::tab_result).filter(|result| known(&result.result));
    if on_ciwatch.iter().filter(|(.., word)| known(word)).count()
        != in_tab.filter(|result| result.link.is_some()).count()
    {
        let fix = "write results in lines of their own, and no other text such as \"- job link : FAILURE\"";
        findings.warn("A15", "ciwatch reads other results than the tab of Gerrit", fix);
    }
    let is_against = votes.iter().any(|(label, value)| label == "Verified" && *value < 0);
    if is_against && !words.is_empty() && !words.iter().any(|word| word == "FAILURE") {
        let fix = "vote only when a test of the change has failed";
        findings.fail("A25", format!("a vote against the change for {}", short(&words.join(", "))), fix);
    }
}

fn links(text: &str, findings: &mut Findings) {
    let links: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || "<>\"".contains(c))
        .filter(|word| word.starts_with("https://") || word.starts_with("http://"))
        .collect();
    if !links.iter().any(|link| is_wiki_page(link)) {
        let fix =
            "link the CI's page, such as https://wiki.openstack.org/wiki/ThirdPartySystems/Acme_Storage_CI";
        findings.fail("A10", "no link to a page below wiki.openstack.org/wiki/ThirdPartySystems", fix);
    }
    for link in links {
        if let Some(problem) = url_problem(link) {
            findings.fail("A34", problem, "link a page that everybody can read, by a DNS name");
        }
    }
}

/// Whether it is the page of a CI in OpenStack's wiki.
pub(crate) fn is_wiki_page(link: &str) -> bool {
    let rest = link.strip_prefix("https://").or_else(|| link.strip_prefix("http://")).unwrap_or(link);
    rest.strip_prefix("wiki.openstack.org/wiki/ThirdPartySystems/").is_some_and(|name| !name.is_empty())
}

/// Why people cannot read what this URL of logs shows.
pub(crate) fn url_problem(link: &str) -> Option<String> {
    let shown = short(link);
    let url = Url::parse(link).ok()?;
    let is_local = match url.host()? {
        Host::Domain(name) => name == "localhost" || name.ends_with(".local") || !name.contains('.'),
        Host::Ipv4(_) | Host::Ipv6(_) => {
            return Some(format!("{shown} has an address instead of a DNS name"));
        }
    };
    if is_local {
        return Some(format!("{shown} has a name that is not public"));
    }
    let path = url.path().to_lowercase();
    let is_archive =
        [".tar.gz", ".tgz", ".zip", ".tar", ".tar.xz", ".tar.bz2"].iter().any(|end| path.ends_with(end));
    is_archive.then(|| format!("{shown} is an archive, which must be downloaded"))
}

/// The votes in the header that Gerrit puts before a comment, and the text after it.
fn split_header(message: &str) -> (Vec<(String, i32)>, &str) {
    let Some((first, rest)) =
        message.strip_prefix("Patch Set ").map(|rest| rest.split_once('\n').unwrap_or((rest, "")))
    else {
        return (Vec::new(), message);
    };
    let Some((_, words)) = first.split_once(':') else { return (Vec::new(), message) };
    let vote = |word: &str| {
        let at = word.rfind(['+', '-'])?;
        Some((word[..at].to_owned(), word[at..].parse().ok()?))
    };
    (words.split_whitespace().filter_map(vote).collect(), rest.trim_start())
}

/// A comment that only says that tests have begun.
fn is_start(line: &str) -> bool {
    let line = line.to_lowercase();
    ["starting ", "build started", "started ", "tests started", "build queued", "running tests"]
        .iter()
        .any(|start| line.starts_with(start))
}

/// The job of a line that is meant as a result, and that the tab of Gerrit does not read.
fn looks_like_a_result(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix(['-', '*', '+'])?.trim_start();
    let (before, after) = rest.rsplit_once(':')?;
    let word = after.split_whitespace().next()?;
    let is_result = TAB_RESULTS.contains(&word) || word == "NOT_REGISTERED" || word == "UNSTABLE";
    let job = before.split("http").next().unwrap_or(before).trim();
    (is_result && !job.is_empty()).then_some(job)
}

/// As Zuul writes it: `1h 02m 03s`, `5m 30s` or `7s`, and perhaps `(non-voting)` after it.
fn is_time(time: &str) -> bool {
    let time = time.trim_end().strip_suffix("(non-voting)").unwrap_or(time).trim_end();
    let parts: Vec<&str> = time.split(' ').collect();
    let units: Option<Vec<char>> = parts
        .iter()
        .map(|part| {
            let unit = part.chars().last()?;
            let digits = part.strip_suffix(unit)?;
            (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(unit)
        })
        .collect();
    matches!(units.as_deref(), Some(['h', 'm', 's'] | ['m', 's'] | ['s'] | ['d', 'h', 'm', 's']))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn short(text: &str) -> String {
    pushbutton_core::text::short_line(text, 120)
}

fn shown(line: &str) -> String {
    format!("the line {:?}", short(line))
}
