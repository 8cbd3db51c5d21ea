//! The rules that OpenStack and its dashboards have for third-party CIs, each with its source. The numbers are those of
//! the project's notes on the requirements; a finding names one.

use serde::Serialize;

/// One rule.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Rule {
    /// Its number.
    pub(crate) number: &'static str,
    /// What it demands.
    pub(crate) demand: &'static str,
    /// Where it is written.
    pub(crate) source: &'static str,
    /// What is checked against it.
    pub(crate) checked: Checked,
}

/// What a rule is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Checked {
    /// The text of a comment.
    Comment,
    /// The name or the address of the account.
    Account,
    /// A run's folder of logs.
    Logs,
    /// The configuration.
    Config,
    /// More than one of them.
    Several,
    /// Nothing: only people or a live server can tell.
    ByPeople,
}

const THIRD_PARTY: &str = "https://docs.opendev.org/opendev/system-config/latest/third_party.html";
const RESULT_TAB: &str =
    "https://github.com/GerritCodeReview/plugins_zuul-results-summary/blob/master/web/plugin.js";
const CIWATCH: &str = "https://opendev.org/openstack-infra/ciwatch/src/branch/master/ciwatch/events.py";
const PIPELINES: &str =
    "https://opendev.org/openstack/project-config/src/branch/master/zuul.d/pipelines.yaml";
const CINDER: &str = "https://docs.openstack.org/cinder/latest/drivers-all-about.html";
const CINDER_CHECKLIST: &str =
    "https://docs.openstack.org/cinder/latest/contributor/new_driver_checklist.html";
const CINDER_WIKI: &str = "https://wiki.openstack.org/wiki/Cinder/tested-3rdParty-drivers";
const NEUTRON: &str = "https://docs.openstack.org/neutron/latest/contributor/policies/thirdparty-ci.html";
const RECHECK: &str = "https://docs.openstack.org/neutron/latest/contributor/gerrit-recheck.html";
const MANILA: &str = "https://docs.openstack.org/manila/latest/contributor/driver_requirements.html";
const IRONIC: &str = "https://specs.openstack.org/openstack/ironic-specs/specs/approved/third-party-ci.html";
const NOVA: &str = "https://wiki.openstack.org/wiki/HypervisorSupportMatrix/DeprecationPlan";
const ZUUL: &str = "https://opendev.org/zuul/zuul/src/branch/master/zuul/reporter/__init__.py";
const REVIEW_COMMAND: &str = "https://gerrit-review.googlesource.com/Documentation/cmd-review.html";
const GERRIT_TRIGGER: &str = "https://github.com/jenkinsci/gerrit-trigger-plugin";

const fn rule(number: &'static str, checked: Checked, demand: &'static str, source: &'static str) -> Rule {
    Rule { number, demand, source, checked }
}

/// All rules, in the order of their numbers.
pub(crate) const RULES: &[Rule] = {
    use Checked::{Account, ByPeople, Comment, Config, Logs, Several};
    &[
        rule(
            "A1",
            ByPeople,
            "Ask the project before the first comment on its changes; try the sandbox first",
            THIRD_PARTY,
        ),
        rule("A2", Config, "A new CI comments without a vote until it is stable", THIRD_PARTY),
        rule("A3", Comment, "One comment for each patch set: none says that tests have started", THIRD_PARTY),
        rule("A4", Config, "The comment \"recheck\" runs the tests again", THIRD_PARTY),
        rule(
            "A5",
            Config,
            "A recheck is recognised as upstream does: in any case, at the start of the text",
            PIPELINES,
        ),
        rule("A6", Config, "Cinder: the comment \"run-<CI name>\" runs this CI alone", CINDER_CHECKLIST),
        rule("A7", Config, "A recheck may have more words after it, such as a bug's number", RECHECK),
        rule("A8", Account, "The account's full name is \"Organization Product/technology CI\"", THIRD_PARTY),
        rule("A9", Account, "Result tables know a CI by its name: it ends with \" CI\"", RESULT_TAB),
        rule(
            "A10",
            Several,
            "Every comment links the CI's page below wiki.openstack.org/wiki/ThirdPartySystems; mail to its contact is answered",
            THIRD_PARTY,
        ),
        rule(
            "A11",
            Comment,
            "A comment has the line \"Build succeeded (check pipeline).\", or with failed",
            RESULT_TAB,
        ),
        rule("A12", Comment, "The name of the pipeline has letters, digits and _ only", RESULT_TAB),
        rule("A13", Comment, "A result line is \"- job link : RESULT\", with a hyphen", RESULT_TAB),
        rule("A14", Comment, "A result line has a link to the result", THIRD_PARTY),
        rule(
            "A15",
            Comment,
            "ciwatch reads the pipeline in the first line of the text, and results anywhere",
            CIWATCH,
        ),
        rule("A16", Comment, "The time in a result line is written as in \"in 1h 02m 03s\"", ZUUL),
        rule(
            "A17",
            Several,
            "The status is the first line, and a line says how to run the tests again",
            THIRD_PARTY,
        ),
        rule(
            "A18",
            Comment,
            "A job's name has no blank, and the result is one of the words that the table knows",
            RESULT_TAB,
        ),
        rule(
            "A19",
            Comment,
            "The name of the pipeline stays the same: the table shows the newest comment of each",
            RESULT_TAB,
        ),
        rule("A20", Several, "Votes are Verified+1 and Verified-1 only", THIRD_PARTY),
        rule("A21", Config, "Neutron: no vote against a change", NEUTRON),
        rule("A22", Several, "A vote has a comment with what failed, and a public link", THIRD_PARTY),
        rule("A23", Comment, "No comment when the change cannot be merged", THIRD_PARTY),
        rule(
            "A24",
            ByPeople,
            "After a failure of the CI its people run the affected changes again",
            THIRD_PARTY,
        ),
        rule("A25", Comment, "A failure of the lab is no vote against the change", THIRD_PARTY),
        rule("A26", Config, "All changes of a project are tested, without being asked", CINDER_WIKI),
        rule(
            "A27",
            Config,
            "Cinder: changes of os-brick too, with all tests of cinder-tempest-plugin",
            CINDER_WIKI,
        ),
        rule("A28", Logs, "Cinder: the driver is tested, not LVM", CINDER),
        rule("A29", Config, "Manila: every patch set that Zuul has voted Verified+1 on is tested", MANILA),
        rule(
            "A30",
            Config,
            "Tests run when a patch set is uploaded, and when a change is restored",
            PIPELINES,
        ),
        rule(
            "A31",
            Config,
            "Results come in time: 4 hours after the upload for Nova, 8 hours for Ironic",
            NOVA,
        ),
        rule("A32", Config, "Ironic: stable branches are tested too", IRONIC),
        rule("A33", Config, "Cinder: every patch is tested, whatever files it changes", CINDER),
        rule("A34", Several, "Logs are public, by a DNS name, and browsable without a download", THIRD_PARTY),
        rule(
            "A35",
            Logs,
            "Logs have the time in UTC, the configuration, the services' logs, and tempest's with testr_results.html.gz",
            THIRD_PARTY,
        ),
        rule("A36", Config, "Logs are kept for a month", THIRD_PARTY),
        rule(
            "A37",
            Logs,
            "Neutron: the console and local.conf are in the root, the rest is in logs/",
            NEUTRON,
        ),
        rule("A38", ByPeople, "The web server shows .gz files as text", THIRD_PARTY),
        rule(
            "A39",
            Logs,
            "Cinder: cinder.conf, the logs of all cinder services, and a proof of the patch",
            CINDER,
        ),
        rule("A40", ByPeople, "Accounts that misbehave are disabled", THIRD_PARTY),
        rule("A41", Config, "The CI's own comments and votes trigger nothing", GERRIT_TRIGGER),
        rule(
            "A42",
            Config,
            "Comments have a tag that begins with autogenerated:, so that people can hide them",
            REVIEW_COMMAND,
        ),
        rule(
            "A43",
            ByPeople,
            "Other CIs post without a tag (an observation that contradicts A42)",
            REVIEW_COMMAND,
        ),
        rule(
            "A44",
            Config,
            "Some repositories want no comments of CIs: governance, infrastructure",
            THIRD_PARTY,
        ),
    ]
};

/// The rule of this number.
pub(crate) fn rule_of(number: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.number == number)
}
