//! `lint`: holds comments, logs, accounts and the configuration against the rules that OpenStack and its dashboards have
//! for third-party CIs. A broken rule causes no error message: a result table leaves the comment out.

mod account;
mod comment;
mod config;
mod hints;
mod logs;
mod rules;

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use pushbutton_core::check::Finding as CheckFinding;
use pushbutton_gerrit::{CommentConfig, sample_reports};
use serde::Serialize;

use self::rules::{Checked, RULES, Rule, rule_of};
use crate::cli::Lint;
use crate::config::Config;
use crate::exit::Exit;
use crate::print::{print, sanitize};

/// The longest comment that is read.
const MAX_COMMENT: u64 = 1 << 20;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    /// Worth knowing; may be meant.
    Note,
    /// A rule is broken, or a part is missing.
    Warn,
    /// Results are lost, or the account may be disabled.
    Fail,
}

/// One rule that is broken.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LintFinding {
    /// The number of the rule.
    pub(crate) rule: &'static str,
    /// How much it matters.
    pub(crate) severity: Severity,
    /// What it was found in.
    pub(crate) subject: String,
    /// What was seen.
    pub(crate) seen: String,
    /// What to do about it.
    pub(crate) remedy: String,
    /// What the rule demands.
    pub(crate) demand: &'static str,
    /// Where the rule is written.
    pub(crate) source: &'static str,
}

/// All findings so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    subject: String,
    pub(crate) list: Vec<LintFinding>,
}

impl Findings {
    fn add(
        &mut self,
        rule: &'static str,
        severity: Severity,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let Rule { number, demand, source, .. } = *rule_of(rule).unwrap_or(&RULES[0]);
        let (subject, seen, remedy) = (self.subject.clone(), seen.into(), remedy.into());
        let finding = LintFinding { rule: number, severity, subject, seen, remedy, demand, source };
        if !self.list.iter().any(|known| known.rule == number && known.seen == finding.seen) {
            self.list.push(finding);
        }
    }

    fn fail(&mut self, rule: &'static str, seen: impl Into<String>, remedy: impl Into<String>) {
        self.add(rule, Severity::Fail, seen, remedy);
    }

    fn warn(&mut self, rule: &'static str, seen: impl Into<String>, remedy: impl Into<String>) {
        self.add(rule, Severity::Warn, seen, remedy);
    }

    fn note(&mut self, rule: &'static str, seen: impl Into<String>, remedy: impl Into<String>) {
        self.add(rule, Severity::Note, seen, remedy);
    }

    fn about(&mut self, subject: &str) {
        subject.clone_into(&mut self.subject);
    }
}

/// Checks what the options name; the configuration, too, if it is there.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn run(config: Option<&Config>, options: &Lint) -> anyhow::Result<Exit> {
    if options.rules {
        print_rules(options.json)?;
        return Ok(Exit::Ok);
    }
    let mut findings = Findings::default();
    if let Some(config) = config {
        configuration(config, &mut findings);
    }
    if let Some(file) = &options.comment {
        findings.about("comment");
        let pipeline = config.and_then(|config| Some(config.gerrit().ok()?.comment.pipeline.as_str()));
        comment::check(&read_comment(file)?, pipeline, &mut findings);
    }
    if let Some(name) = &options.name {
        findings.about("account");
        account::check_name(name, &mut findings);
    }
    if let Some(email) = &options.email {
        findings.about("account");
        account::check_email(email, &mut findings);
    }
    if let Some(folder) = &options.logs {
        findings.about("logs");
        logs::check(folder, config.map(config::is_for_cinder), &mut findings)
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    }
    show(&findings.list, options.json)
}

/// The configuration, and the comments that it makes of sample reports.
fn configuration(config: &Config, findings: &mut Findings) {
    findings.about("configuration");
    config::check(config, findings);
    if let Ok(gerrit) = config.gerrit() {
        own_comments(&gerrit.comment, &gerrit.user, findings);
    }
}

fn own_comments(config: &CommentConfig, user: &str, findings: &mut Findings) {
    for (what, report, earlier) in sample_reports().unwrap_or_default() {
        if report.results.iter().all(|result| result.log_url.is_none()) {
            // A notice that nothing was started is no result; and that a run has no logs is not the configuration's fault.
            continue;
        }
        findings.about(&format!("comment on {what}"));
        let text = pushbutton_gerrit::template::render(config, user, &report, &earlier).text;
        comment::check(&text, Some(&config.pipeline), findings);
    }
}

/// The findings for `check`. Notes are left out: a person may well have decided so.
pub(crate) fn for_check(config: &Config) -> Vec<CheckFinding> {
    let mut findings = Findings::default();
    configuration(config, &mut findings);
    let finding = |finding: &LintFinding| {
        let what = format!("{}: {}", finding.rule, finding.seen);
        let remedy = format!("{} ({})", finding.remedy, finding.source);
        match finding.severity {
            Severity::Note => None,
            // The lab works without it: only people upstream mind.
            Severity::Warn | Severity::Fail => Some(CheckFinding::warn(what, remedy)),
        }
    };
    let found: Vec<_> = findings.list.iter().filter_map(finding).collect();
    match found.is_empty() {
        true => vec![CheckFinding::ok("nothing breaks a rule for third-party CIs that `lint` knows")],
        false => found,
    }
}

fn read_comment(file: &Path) -> anyhow::Result<String> {
    let mut text = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().take(MAX_COMMENT).read_to_end(&mut text),
        false => std::fs::File::open(file).and_then(|file| file.take(MAX_COMMENT).read_to_end(&mut text)),
    };
    read.with_context(|| format!("cannot read the comment {}", file.display()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn show(findings: &[LintFinding], json: bool) -> anyhow::Result<Exit> {
    let count = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (notes, warnings, failures) = (count(Severity::Note), count(Severity::Warn), count(Severity::Fail));
    for finding in findings {
        if json {
            print(serde_json::to_string(finding)?);
            continue;
        }
        let word = match finding.severity {
            Severity::Note => "note",
            Severity::Warn => "warn",
            Severity::Fail => "FAIL",
        };
        print(format!(
            "{:<4} {word:<4}  {}: {}\n            -> {}\n            {} ({})",
            finding.rule,
            sanitize(&finding.subject),
            sanitize(&finding.seen),
            sanitize(&finding.remedy),
            finding.demand,
            finding.source
        ));
    }
    if !json {
        print(format!("{failures} to fix, {warnings} to look at, {notes} to know"));
    }
    Ok(if failures + warnings == 0 { Exit::Ok } else { Exit::NotOk })
}

fn print_rules(json: bool) -> anyhow::Result<()> {
    for rule in RULES {
        if json {
            print(serde_json::to_string(rule)?);
            continue;
        }
        let checked = match rule.checked {
            Checked::Comment => "comment",
            Checked::Account => "account",
            Checked::Logs => "logs",
            Checked::Config => "config",
            Checked::Several => "several",
            Checked::ByPeople => "-",
        };
        print(format!("{:<4} {checked:<8} {}\n              {}", rule.number, rule.demand, rule.source));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
