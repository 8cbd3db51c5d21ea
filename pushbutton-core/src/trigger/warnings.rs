//! Conditions that compile and can never hold, or that do not mean what they seem to mean.

use super::rule::{HEADERS, Rule, account_lists};
use super::{EventMatch, Triggers};
use crate::check::Finding;
use crate::event::Account;

/// Labels that people look for in the header of a comment.
const LABELS: [&str; 3] = ["verified", "code-review", "workflow"];

impl Triggers {
    /// What of the triggers can never apply, or seems to be meant otherwise: for `check`. Looks at the configuration only;
    /// whether groups exist, a [`TriggerLookup`](crate::TriggerLookup) knows.
    pub fn warnings(&self) -> Vec<Finding> {
        let mut warnings = Vec::new();
        for rule in &self.rules {
            let mut warn = |what: String, remedy: &str| {
                warnings.push(Finding::warn(format!("{}: {what}", rule.trigger.name), remedy));
            };
            rule.warn_of_header(&mut warn);
            rule.warn_of_exceptions(&mut warn);
            rule.warn_of_files(&mut warn);
            self.warn_of_own_accounts(rule, &mut warn);
            rule.warn_of_disjoint_accounts(&mut warn);
        }
        warnings
    }

    fn warn_of_own_accounts(&self, rule: &Rule, warn: &mut impl FnMut(String, &str)) {
        for (key, list) in
            by_key(rule).filter(|(key, _)| matches!(*key, "on.comment.from" | "on.approval.by" | "from"))
        {
            let is_own = |matcher: &&String| self.own_accounts.contains(matcher);
            if list.iter().all(is_own) {
                let what =
                    format!("`{key}` names only accounts of this CI, whose comments never trigger anything");
                warn(what, "name the accounts of others, such as the upstream CI's");
            }
        }
    }
}

/// The lists of accounts that are given.
fn by_key(rule: &Rule) -> impl Iterator<Item = (&'static str, Vec<&String>)> {
    let mut lists: Vec<(&'static str, Vec<&String>)> = Vec::new();
    for (key, matcher) in account_lists(&rule.trigger) {
        match lists.iter_mut().find(|(known, _)| *known == key) {
            Some((_, list)) => list.push(matcher),
            None => lists.push((key, vec![matcher])),
        }
    }
    lists.into_iter()
}

impl Rule {
    /// The header that a pattern of Zuul or Jenkins names is removed, and its votes with it.
    fn warn_of_header(&self, warn: &mut impl FnMut(String, &str)) {
        let (EventMatch::Comment { pattern: text, .. }, Some(pattern)) = (&self.trigger.on, &self.pattern)
        else {
            return;
        };
        let lower = text.to_ascii_lowercase();
        if !pattern.names_header {
            return;
        }
        if LABELS.iter().any(|label| lower.contains(label)) {
            warn(
                format!(
                    "the pattern {text:?} looks for a vote in the header of a comment, where none is left"
                ),
                "use `on: {approval: ...}` for a new vote, and `votes` for one that stands",
            );
            return;
        }
        // Behind either header, a comment of any word that the pattern itself holds.
        let mut chars = text.chars();
        let mut plain = String::new();
        while let Some(c) = chars.next() {
            // An escape is no letter of a word.
            plain.push(if c == '\\' { chars.next().map_or(' ', |_| ' ') } else { c });
        }
        let words = plain.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 2);
        let texts: Vec<String> = words.map(str::to_owned).chain([String::new()]).collect();
        let can_match = texts.iter().any(|text| {
            HEADERS.iter().any(|header| pattern.regex.is_match(&format!("{header}{text}")))
                || pattern.regex.is_match(text)
        });
        if !can_match {
            warn(
                format!(
                    "the pattern {text:?} names the header of a comment, and may never match what is tried: \"Patch Set 1:\", a blank line, and the text"
                ),
                "leave the header out, as ^recheck, or use `on: {preset: recheck}`",
            );
        }
    }

    fn warn_of_exceptions(&self, warn: &mut impl FnMut(String, &str)) {
        let (trigger, except) = (&self.trigger, &self.trigger.except);
        for (key, list, excepted) in [
            ("projects", &trigger.projects, self.globs_of("projects")),
            ("branches", &trigger.branches, self.globs_of("branches")),
            ("topics", &trigger.topics, self.globs_of("topics")),
            ("hashtags", &trigger.hashtags, self.globs_of("hashtags")),
        ] {
            if !list.is_empty() && list.iter().all(|value| excepted(value)) {
                let what =
                    format!("`except.{key}` excludes everything that `{key}` allows: it never applies");
                warn(what, "remove one of the two");
            }
        }
        for (key, list, excepted) in [
            ("from", &trigger.from, &except.from),
            ("owners", &trigger.owners, &except.owners),
            ("uploaders", &trigger.uploaders, &except.uploaders),
        ] {
            if !list.is_empty() && list.iter().all(|matcher| excepted.contains(matcher)) {
                let what = format!("`except.{key}` excludes everybody whom `{key}` allows: it never applies");
                warn(what, "remove one of the two");
            }
        }
    }

    fn warn_of_files(&self, warn: &mut impl FnMut(String, &str)) {
        let (files, irrelevant) = (&self.trigger.files, &self.trigger.irrelevant_files);
        for (key, list) in [("files", files), ("irrelevant_files", irrelevant)] {
            for pattern in list {
                if pattern.trim_start_matches('^').starts_with('/') {
                    let what = format!("the pattern {pattern:?} in `{key}` begins with /, and paths do not");
                    warn(what, "write paths as in the repository, such as cinder/volume/.*");
                }
            }
        }
        if !files.is_empty() && files.iter().all(|pattern| irrelevant.contains(pattern)) {
            let what = "everything in `files` is also in `irrelevant_files`".to_owned();
            warn(what, "remove it from one of the two");
        }
    }

    /// Two lists that must both hold for the same account.
    fn warn_of_disjoint_accounts(&self, warn: &mut impl FnMut(String, &str)) {
        let lists: Vec<_> = by_key(self).collect();
        let of = |wanted: &str| lists.iter().find(|(key, _)| *key == wanted).map(|(_, list)| list);
        let is_login = |matcher: &&&String| !matcher.starts_with(Account::GROUP) && !matcher.contains('@');
        for key in ["on.comment.from", "on.approval.by"] {
            let (Some(inner), Some(outer)) = (of(key), of("from")) else { continue };
            let only_logins = inner.iter().chain(outer).all(|matcher| is_login(&matcher));
            if only_logins && !inner.iter().any(|matcher| outer.contains(matcher)) {
                let what = format!("`{key}` and `from` name no common account: it never applies");
                warn(what, "remove one of the two");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Exceptions, Trigger};
    use super::*;

    fn trigger(on: EventMatch) -> Trigger {
        Trigger::new("rule", on, ["tempest".parse().unwrap()])
    }

    fn comment(pattern: &str) -> EventMatch {
        EventMatch::Comment { pattern: pattern.into(), from: vec![] }
    }

    fn warnings(trigger: Trigger) -> Vec<String> {
        let triggers = Triggers::compile(vec![trigger], vec!["acme-ci".into()]).unwrap();
        triggers.warnings().into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn what_can_never_apply_is_named() {
        let recheck = || trigger(comment("^recheck"));
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let by_us = EventMatch::Approval { label: "Verified".into(), at_least: 1, by: list(&["acme-ci"]) };
        let from_bob = EventMatch::Comment { pattern: "^go".into(), from: list(&["bob"]) };
        for (trigger, part) in [
            (trigger(comment(r"^Patch Set \d+: Verified\+1\n\nrecheck")), "looks for a vote in the header"),
            (
                trigger(comment(r"^Patch Set \d+: recheck")),
                "names the header of a comment, and may never match",
            ),
            (recheck().with_files(list(&["^/cinder/.*"])), "begins with /"),
            (
                recheck().with_files(list(&["doc/.*"])).with_irrelevant_files(list(&["doc/.*"])),
                "is also in `irrelevant_files`",
            ),
            (
                recheck()
                    .with_projects(list(&["openstack/cinder"]))
                    .with_except(Exceptions::default().with_projects(list(&["openstack/*"]))),
                "`except.projects` excludes everything",
            ),
            (
                recheck()
                    .with_topics(list(&["ci"]))
                    .with_except(Exceptions::default().with_topics(list(&["c*"]))),
                "`except.topics` excludes everything",
            ),
            (
                recheck()
                    .with_owners(list(&["group:a b"]))
                    .with_except(Exceptions::default().with_owners(list(&["group:a b"]))),
                "`except.owners` excludes everybody",
            ),
            (trigger(by_us), "names only accounts of this CI"),
            (trigger(from_bob).with_from(list(&["alice"])), "name no common account"),
        ] {
            let found = warnings(trigger);
            assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:?}");
        }
    }

    #[test]
    fn what_works_is_not_warned_of() {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        for pattern in [
            "^recheck",
            r"(?i)^(Patch Set [0-9]+:)?( [\w\\+-]*)*(\n\n)?\s*recheck",
            r"^Patch Set \d+:\n\n\(\d+ comments?\)\n\nrecheck",
            r"(?is)^patch\s+set \d+:.*\brecheck\b",
        ] {
            let rule = trigger(comment(pattern))
                .with_projects(list(&["openstack/*"]))
                .with_files(list(&["^cinder/.*"]))
                .with_from(list(&["acme-ci", "bob"]))
                .with_except(Exceptions::default().with_projects(list(&["openstack/cinder-specs"])));
            assert_eq!(warnings(rule), [""; 0], "{pattern}");
        }
    }
}
