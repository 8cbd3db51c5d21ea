//! The comments that our reports tell people to write: each must start something.

use std::collections::BTreeSet;

use pushbutton_core::{EventMatch, Trigger, Triggers};
use pushbutton_gerrit::{CommentConfig, sample_reports};

use super::Findings;
use super::config::Watch;

/// Stands in a report where `comment.recheck` would, to tell its text from what the template writes itself.
const PLACEHOLDER: &str = "text-of-comment.recheck";

/// A comment that people are told to write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Hint {
    text: String,
    /// Its end is known, by quotes or by the end of the line. Otherwise the words after it may belong to the sentence.
    is_exact: bool,
}

/// Looks for hints in the reports on samples, and compares them with the triggers.
pub(super) fn check(config: &CommentConfig, user: &str, watches: &[Watch<'_>], findings: &mut Findings) {
    let marked = config.clone().with_recheck(PLACEHOLDER.to_owned());
    let configured = Hint { text: config.recheck.clone(), is_exact: true };
    let mut hints = BTreeSet::new();
    for (_, report, earlier) in sample_reports().unwrap_or_default() {
        let text = pushbutton_gerrit::template::render(&marked, user, &report, &earlier).text;
        if text.contains(PLACEHOLDER) {
            hints.insert(("comment.recheck", configured.clone()));
        }
        for hint in text.lines().flat_map(hints_of).filter(|hint| hint.text != PLACEHOLDER) {
            let text = hint.text.replace(PLACEHOLDER, &config.recheck);
            hints.insert(("comment.template", Hint { text, ..hint }));
        }
    }
    for (place, hint) in &hints {
        check_one(place, hint, watches, findings);
    }
}

fn check_one(place: &str, hint: &Hint, watches: &[Watch<'_>], findings: &mut Findings) {
    let text = &hint.text;
    let told = format!("{place}: reports tell people to comment {text:?}");
    let fix = "let the pattern of a trigger match it, or write a text that one matches";
    let matching: Vec<_> = watches.iter().filter(|watch| is_started_by(watch, hint)).collect();
    if matching.is_empty() {
        let why = match watches.iter().find(|watch| watch.compiled.matches_comment(text)) {
            Some(watch) => format!("is an exception of trigger {:?}", watch.trigger.name),
            None => "no trigger matches".to_owned(),
        };
        findings.warn("A17", format!("{told}, which {why}"), fix);
        return;
    }
    let mut uncovered = BTreeSet::new();
    for watch in watches {
        let covers = |project: &str| matching.iter().any(|other| covers(other, watch.trigger, project));
        let projects = watch.trigger.projects.iter().map(String::as_str);
        uncovered.extend(projects.filter(|project| !covers(project)));
        if watch.trigger.projects.is_empty()
            && matching.iter().all(|other| !other.trigger.projects.is_empty())
        {
            uncovered.insert("other projects");
        }
    }
    if !uncovered.is_empty() {
        let projects = uncovered.into_iter().collect::<Vec<_>>().join(", ");
        let seen = format!("{told}, which starts nothing on changes of {projects}");
        findings.warn("A17", seen, "add them to the projects of a trigger that matches it");
    }
}

/// Whether the comment is one that the trigger waits for.
fn is_started_by(watch: &Watch<'_>, hint: &Hint) -> bool {
    let starts = |text: &str| watch.compiled.matches_comment(text) && !is_exception(watch.trigger, text);
    if hint.is_exact {
        return starts(&hint.text);
    }
    let ends = hint.text.match_indices(' ').map(|(end, _)| end).chain([hint.text.len()]);
    ends.into_iter().any(|end| starts(&hint.text[..end]))
}

/// Whether `except.comment` matches.
fn is_exception(trigger: &Trigger, text: &str) -> bool {
    let Some(pattern) = trigger.except.comment.clone() else { return false };
    let on = EventMatch::Comment { pattern, from: Vec::new() };
    let exception = Trigger::new("except.comment", on, trigger.jobs.clone());
    Triggers::compile(vec![exception], Vec::new()).is_ok_and(|compiled| compiled.matches_comment(text))
}

/// Whether `by` applies to a project of another trigger, on some branch of that trigger. True where globs leave it
/// open.
fn covers(by: &Watch<'_>, of: &Trigger, project: &str) -> bool {
    let (Some(name), branches) = (named_by(project), &of.branches) else { return true };
    let mut names = branches.iter().map(|branch| named_by(branch));
    by.trigger.projects.iter().any(|glob| glob == project)
        || branches.is_empty() && by.compiled.matches_project(&name, "master")
        || names.any(|branch| branch.is_none_or(|branch| by.compiled.matches_project(&name, &branch)))
}

/// A name that a glob matches, where that is simple to tell.
fn named_by(glob: &str) -> Option<String> {
    let is_simple = !glob.contains(['[', ']', '{', '}', '\\']);
    is_simple.then(|| glob.replace("**", "x").replace(['*', '?'], "x"))
}

/// What a line of a report tells people to write: what stands in quotes, what follows `comment:`, and a bare `recheck`.
fn hints_of(line: &str) -> Vec<Hint> {
    const QUOTES: [char; 3] = ['"', '`', '\''];
    let exact = |text: &str| Hint { text: text.trim().to_owned(), is_exact: true };
    let lower = line.to_ascii_lowercase();
    let mut hints = Vec::new();
    let label = lower.find("comment:").map(|at| at + "comment:".len());
    if let Some(label) = label {
        let text = line[label..].trim();
        hints.push(match text.chars().next().filter(|first| QUOTES.contains(first)) {
            Some(quote) => exact(text[1..].split(quote).next().unwrap_or_default()),
            None => exact(text.trim_end_matches('.')),
        });
    }
    for (at, word) in lower.match_indices("recheck").chain(lower.match_indices("run-")) {
        let before = line[..at].chars().next_back();
        let text = &line[at..];
        if let Some(quote) = before.filter(|before| QUOTES.contains(before)) {
            hints.extend(text.split_once(quote).map(|(text, _)| exact(text)));
        } else if word == "recheck"
            && label.is_none()
            && !before.is_some_and(|before| before.is_alphanumeric() || "-_/.".contains(before))
        {
            let end = text.find(|c: char| !(c.is_alphanumeric() || " -_/".contains(c)));
            let text = text[..end.unwrap_or(text.len())].trim_end();
            hints.push(Hint { text: text.to_owned(), is_exact: false });
        }
    }
    hints.retain(|hint| !hint.text.is_empty());
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_found_in_quotes_after_a_label_and_as_a_bare_recheck() {
        for (line, expected) in [
            ("To run it again, comment: recheck acme", vec![("recheck acme", true)]),
            ("To run it again, Comment: \"go acme\".", vec![("go acme", true)]),
            (
                "Write `recheck` or `run-Acme Storage CI`.",
                vec![("recheck", true), ("run-Acme Storage CI", true)],
            ),
            ("Please recheck if the array was away.", vec![("recheck if the array was away", false)]),
            ("Stage run-tempest failed: \"Run tempest\" ended; see https://x.org/recheck.html", vec![]),
            ("prechecks ran; comment:", vec![]),
        ] {
            let found: Vec<_> = hints_of(line).into_iter().map(|hint| (hint.text, hint.is_exact)).collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(text, exact)| (text.to_owned(), exact)).collect();
            assert_eq!(found, expected, "{line}");
        }
    }
}
