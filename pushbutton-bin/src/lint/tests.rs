//! Each rule is broken once, and found; what we write ourselves breaks none.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::config::{DEFAULT, Needs, parse};

/// What `init` writes, filled in as it says.
fn filled_in() -> String {
    let mut text = DEFAULT.to_owned();
    for (commented, line) in [
        ("    # name: Acme Storage CI", "    name: Acme Storage CI"),
        (
            "    # wiki: https://wiki.openstack.org/wiki/ThirdPartySystems/Acme_Storage_CI",
            "    wiki: https://wiki.openstack.org/wiki/ThirdPartySystems/Acme_Storage_CI",
        ),
        ("    # contact: storage-ci@acme.example", "    contact: storage-ci@acme.example"),
        ("  # url: https://logs.example.org", "  url: https://logs.example.org"),
    ] {
        assert_eq!(text.matches(commented).count(), 1, "{commented}");
        text = text.replace(commented, line);
    }
    text
}

fn config(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    for name in ["key", "clouds.yaml"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let playbooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../playbooks");
    std::os::unix::fs::symlink(playbooks, folder.path().join("playbooks")).unwrap();
    let env = |name: &str| match name {
        "GERRIT_KEY" => Some("key".to_owned()),
        "PUSHBUTTON_OWNER" => Some("acme-ci".to_owned()),
        _ => None,
    };
    parse(text, &folder.path().join("pushbutton.yml"), Needs::ALL, &env)
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn found(check: impl FnOnce(&mut Findings)) -> Vec<LintFinding> {
    let mut findings = Findings::default();
    check(&mut findings);
    findings.list
}

/// The numbers of the rules that are broken.
fn numbers(findings: &[LintFinding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.rule).collect()
}

const GOOD: &str = "Build failed (check pipeline).\n\n\
    - cinder-tempest https://logs.example.org/45/12345/2/ : FAILURE in 1h 02m 03s\n\
    - cinder-unit https://logs.example.org/45/12345/3/ : SUCCESS in 5m 30s (non-voting)\n\
    - cinder-docs cinder-docs : SKIPPED\n\n\
    To run it again, comment: recheck\n\
    About: https://wiki.openstack.org/wiki/ThirdPartySystems/Acme_Storage_CI\n";

/// Comments, each with what is changed in a good one, and the rule that this breaks.
const COMMENTS: &[(&str, &str, &str)] = &[
    ("Build failed (check pipeline).", "Starting check jobs.", "A3"),
    ("https://wiki.openstack.org/wiki/ThirdPartySystems/Acme_Storage_CI", "https://acme.example", "A10"),
    ("Build failed (check pipeline).", "Build failed (check pipeline)", "A11"),
    ("Build failed (check pipeline).", "Some tests failed.", "A11"),
    ("(check pipeline)", "(third-party-check pipeline)", "A12"),
    ("- cinder-tempest", "* cinder-tempest", "A13"),
    ("2/ : FAILURE", "2/: FAILURE", "A13"),
    ("cinder-unit https://logs.example.org/45/12345/3/", "cinder-unit cinder-unit", "A14"),
    (" (check pipeline)", "", "A15"),
    ("5m 30s", "5.5 minutes", "A16"),
    ("To run it again, comment: recheck\n", "", "A17"),
    ("Build failed", "Hello.\n\nBuild failed", "A17"),
    ("- cinder-unit", "- cinder unit", "A18"),
    (": SKIPPED", ": OMITTED", "A18"),
    ("(check pipeline)", "(gate pipeline)", "A19"),
    ("Build failed", "Patch Set 2: Verified-2\n\nBuild failed", "A20"),
    ("cinder-tempest https://logs.example.org/45/12345/2/", "cinder-tempest cinder-tempest", "A22"),
    (": FAILURE in", ": MERGER_FAILURE in", "A23"),
    (
        "Build failed (check pipeline).\n\n- cinder-tempest https://logs.example.org/45/12345/2/ : FAILURE",
        "Patch Set 2: Verified-1\n\nBuild failed (check pipeline).\n\n- cinder-tempest https://logs.example.org/45/12345/2/ : NODE_FAILURE",
        "A25",
    ),
    ("logs.example.org/45/12345/2", "192.0.2.7/45/12345/2", "A34"),
    ("12345/2/ :", "12345/2/logs.tar.gz :", "A34"),
    ("logs.example.org/45/12345/2", "localhost/45/12345/2", "A34"),
];

const ACCOUNTS: &[(&str, &str)] = &[
    ("Acme Storage", "A8"),
    ("Cinder Storage CI", "A8"),
    ("Acme CI", "A8"),
    ("Acme Storage Bot", "A9"),
    ("acme-ci", "A9"),
];

/// What is changed in the configuration, and the rule that this breaks.
const CONFIGS: &[(&[(&str, &str)], &str)] = &[
    (&[("    vote: never", "    vote: positive-only")], "A2"),
    (&[("(recheck|run-Acme Storage CI)", "go")], "A4"),
    (&[("\"(?i)^(recheck", "\"^(recheck")], "A5"),
    (&[("\"(?i)^(recheck", "\"(?i)(recheck")], "A5"),
    (&[("|run-Acme Storage CI", "")], "A6"),
    (&[("Acme Storage CI)\\\\b\"", "Acme Storage CI)$\"")], "A7"),
    (&[("    # recheck: recheck", "    recheck: rerun acme")], "A17"),
    (&[("    name: Acme Storage CI", "    # name:")], "A8"),
    (&[("    wiki: ", "    # wiki: ")], "A10"),
    (&[("    contact: storage-ci@", "    contact: no-reply@")], "A10"),
    (&[("    vote: never", "    vote: both\n    label: Code-Review")], "A20"),
    (
        &[
            ("    vote: never", "    vote: both"),
            ("[openstack/cinder, openstack/os-brick]", "[openstack/neutron]"),
        ],
        "A21",
    ),
    (&[("    vote: never", "    vote: both"), ("  url: https://logs.", "  # url: https://logs.")], "A22"),
    (&[(APPROVAL, "comment: {pattern: \"^go\"}")], "A26"),
    (&[("[openstack/cinder, openstack/os-brick]", "[openstack/cinder]")], "A27"),
    (
        &[
            (
                "install_devstack_tempest_plugins: [cinder-tempest-plugin]",
                "install_devstack_tempest_plugins: []",
            ),
            ("|cinder_tempest_plugin", ""),
        ],
        "A27",
    ),
    (
        &[
            ("[openstack/cinder, openstack/os-brick]", "[openstack/manila]"),
            (ON_APPROVAL, "    on: patchset-created"),
        ],
        "A29",
    ),
    (&[(ON_APPROVAL, "    on: patchset-created")], "A30"),
    (
        &[
            ("[openstack/cinder, openstack/os-brick]", "[openstack/nova]"),
            ("    timeout: 3h", "    timeout: 4h"),
        ],
        "A31",
    ),
    (&[("[openstack/cinder, openstack/os-brick]", "[openstack/ironic]\n    branches: [master]")], "A32"),
    (&[("  url: https://logs.", "  # url: https://logs.")], "A34"),
    (&[("  url: https://logs.example.org", "  url: http://192.0.2.7")], "A34"),
    (&[("by: [zuul]", "by: [acme-ci]")], "A41"),
    (&[("    # tag: autogenerated:acme-ci", "    tag: acme")], "A42"),
    (&[("[openstack/cinder, openstack/os-brick]", "[\"openstack/*\"]")], "A44"),
];

const APPROVAL: &str = "approval: {label: Verified, at_least: 1, by: [zuul]}";
const ON_APPROVAL: &str = "    on:\n      approval: {label: Verified, at_least: 1, by: [zuul]}";

/// The layout that pushbutton and its playbooks publish (playbooks/README.md).
fn published(folder: &Path) {
    let gzip = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    fs::create_dir_all(folder.join("logs")).unwrap();
    for (name, text) in [
        ("index.html", "<!DOCTYPE html>"),
        ("console.log", "2026-11-23T12:00:00.123Z TASK [Run stack.sh]"),
        ("environment.txt", "2026-11-23T12:00:00Z"),
        ("patchset.txt", "commit 0123456789abcdef"),
        ("local.conf", "[[local|localrc]]"),
        ("tempest.txt", "Passed: 25"),
        ("tempest.subunit", ""),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    for (name, text) in [
        ("testr_results.html.gz", "<html>"),
        ("logs/cinder.conf.gz", "[DEFAULT]\nenabled_backends = acme1\n"),
        ("logs/tempest.conf.gz", "[DEFAULT]"),
        ("logs/devstack@c-vol.txt.gz", "INFO"),
        ("logs/c-sch.txt.gz", "INFO"),
        ("logs/c-api.log.gz", "INFO"),
    ] {
        fs::write(folder.join(name), gzip(text)).unwrap();
    }
}

/// What is done to a published folder, and the rule that this breaks.
type Spoil = fn(&Path);
const LOGS: &[(Spoil, &str)] = &[
    (
        |folder| fs::write(folder.join("logs/cinder.conf"), "enabled_backends=acme1,lvmdriver-1").unwrap(),
        "A28",
    ),
    (|folder| remove(folder, &["index.html"]), "A34"),
    (
        |folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("logs.tar.gz"), "").unwrap();
        },
        "A34",
    ),
    (|folder| remove(folder, &["testr_results.html.gz"]), "A35"),
    (|folder| remove(folder, &["tempest.txt", "logs/tempest.conf.gz", "tempest.subunit"]), "A35"),
    (|folder| remove(folder, &["local.conf", "logs/tempest.conf.gz"]), "A35"),
    (
        |folder| remove(folder, &["logs/devstack@c-vol.txt.gz", "logs/c-sch.txt.gz", "logs/c-api.log.gz"]),
        "A35",
    ),
    (
        |folder| {
            fs::write(folder.join("console.log"), "at noon").unwrap();
            remove(folder, &["environment.txt"]);
        },
        "A35",
    ),
    (|folder| fs::rename(folder.join("console.log"), folder.join("logs/console.log")).unwrap(), "A37"),
    (|folder| fs::rename(folder.join("local.conf"), folder.join("logs/local.conf")).unwrap(), "A37"),
    (|folder| fs::rename(folder.join("logs"), folder.join("other")).unwrap(), "A37"),
    (|folder| remove(folder, &["logs/cinder.conf.gz"]), "A39"),
    (|folder| remove(folder, &["logs/c-sch.txt.gz"]), "A39"),
    (|folder| remove(folder, &["patchset.txt"]), "A39"),
];

fn remove(folder: &Path, names: &[&str]) {
    for name in names {
        fs::remove_file(folder.join(name)).unwrap();
    }
}

fn of_logs(spoil: Option<Spoil>) -> Vec<LintFinding> {
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("run");
    fs::create_dir(&tree).unwrap();
    published(&tree);
    if let Some(spoil) = spoil {
        spoil(&tree);
    }
    found(|findings| logs::check(&tree, Some(true), findings).unwrap())
}

#[test]
fn the_table_has_every_rule_once_with_its_source() {
    let numbers: Vec<_> = RULES.iter().map(|rule| rule.number.to_owned()).collect();
    let expected: Vec<_> = (1..=44).map(|number| format!("A{number}")).collect();
    assert_eq!(numbers, expected);
    for rule in RULES {
        assert!(rule.source.starts_with("https://") && !rule.demand.ends_with('.'), "{rule:?}");
    }
}

#[test]
fn each_violation_is_found() {
    let mut planted = BTreeSet::new();
    let mut expect = |what: &str, rule: &'static str, findings: &[LintFinding]| {
        assert!(numbers(findings).contains(&rule), "{rule} is not found in {what}: {findings:#?}");
        planted.insert(rule);
    };
    for (from, to, rule) in COMMENTS {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replace(from, to);
        expect(&text, rule, &found(|findings| comment::check(&text, Some("check"), findings)));
    }
    for (name, rule) in ACCOUNTS {
        expect(name, rule, &found(|findings| account::check_name(name, findings)));
    }
    for address in ["acme", "no-reply@acme.example", "a b@acme.example", "ci@localhost"] {
        expect(address, "A10", &found(|findings| account::check_email(address, findings)));
    }
    let good = filled_in();
    for (changes, rule) in CONFIGS {
        let mut text = good.clone();
        for (from, to) in *changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        expect(&format!("{changes:?}"), rule, &found(|findings| configuration(&config(&text), findings)));
    }
    let filter = json!({"irrelevant_files": ["^doc/"], "files": []});
    expect("file filters", "A33", &found(|findings| config::file_filters("x", &filter, findings)));
    for keep in [json!("168h"), json!(3600)] {
        expect("retention", "A36", &found(|findings| config::retention(&json!({"keep": keep}), findings)));
    }
    for (spoil, rule) in LOGS {
        expect("logs", rule, &of_logs(Some(*spoil)));
    }
    let checkable: BTreeSet<_> =
        RULES.iter().filter(|rule| rule.checked != Checked::ByPeople).map(|rule| rule.number).collect();
    assert_eq!(planted, checkable, "left: the rules that are broken here; right: those that are checked");
}

#[test]
fn nothing_is_found_in_what_breaks_no_rule() {
    let none = Vec::<&str>::new();
    assert_eq!(numbers(&found(|findings| comment::check(GOOD, Some("check"), findings))), none);
    let shown = format!("Patch Set 2: Verified-1\r\n\r\n{}", GOOD.replace('\n', "\r\n"));
    assert_eq!(numbers(&found(|findings| comment::check(&shown, None, findings))), none);
    for name in ["Acme Storage CI", "Acme FooArray/iSCSI CI"] {
        assert_eq!(numbers(&found(|findings| account::check_name(name, findings))), none);
    }
    assert_eq!(numbers(&found(|findings| account::check_email("storage-ci@acme.example", findings))), none);
    let good = found(|findings| configuration(&config(&filled_in()), findings));
    assert_eq!(numbers(&good), none, "the configuration that init writes, and its comments: {good:#?}");
    assert_eq!(numbers(&of_logs(None)), none, "what pushbutton publishes");
    assert_eq!(for_check(&config(&filled_in())).len(), 1);
    // Another project's rules do not concern this one.
    let for_neutron = filled_in().replace("[openstack/cinder, openstack/os-brick]", "[openstack/neutron]");
    assert_eq!(numbers(&found(|findings| configuration(&config(&for_neutron), findings))), none);
    for keep in [json!("768h"), json!(0), json!("0s")] {
        assert_eq!(numbers(&found(|findings| config::retention(&json!({"keep": keep}), findings))), none);
    }
}

/// The default configuration with a template of its own, which tells people to write this.
fn with_template(words: &str) -> String {
    let template = format!(
        "    template: |\n      {{{{ first_line }}}}\n\n      {{% for result in results %}}\n      {{{{ result.line }}}}\n      {{% endfor %}}\n\n      \
         {words}\n      {{{{ wiki }}}}"
    );
    let example = "    # template: ${file:./comment.j2}";
    let text = filled_in();
    assert!(text.contains(example));
    text.replace(example, &template)
}

/// What `check` says about the comments that people are told to write.
fn hints(text: &str) -> Vec<(String, String)> {
    let findings = for_check(&config(text))
        .into_iter()
        .filter(|finding| finding.what.contains("tell people to comment"));
    findings.map(|finding| (finding.what, finding.remedy.unwrap())).collect()
}

#[test]
fn a_comment_that_people_are_told_to_write_and_that_starts_nothing_is_named_with_its_place() {
    let recheck = |text: &str| filled_in().replace("    # recheck: recheck", &format!("    recheck: {text}"));
    let told = |place: &str, text: &str| {
        format!("A17: comment.{place}: reports tell people to comment {text:?}, which")
    };
    let pattern = "let the pattern of a trigger match it, or write a text that one matches";
    let except = "    # Default: all branches.\n    # branches: [master, \"stable/*\"]\n";
    let excepted = format!("    except: {{comment: no-?op}}\n{except}");
    let projects = "    projects: [openstack/cinder, openstack/os-brick]\n    # Default: all branches.";
    let fewer = projects.replace("[openstack/cinder, openstack/os-brick]", "[openstack/cinder]");
    for (text, seen, remedy) in [
        (recheck("rerun acme"), told("recheck", "rerun acme") + " no trigger matches", pattern),
        (
            with_template("Comment: rerun acme"),
            told("template", "rerun acme") + " no trigger matches",
            pattern,
        ),
        (
            with_template("Write {{ recheck }} for all, and \"run-Acme CI\" for this one."),
            told("template", "run-Acme CI") + " no trigger matches",
            pattern,
        ),
        (
            recheck("recheck noop").replace(except, &excepted),
            told("recheck", "recheck noop") + " is an exception of trigger \"recheck\"",
            pattern,
        ),
        (
            filled_in().replace(projects, &fewer),
            told("recheck", "recheck") + " starts nothing on changes of openstack/os-brick",
            "add them to the projects of a trigger that matches it",
        ),
        (
            filled_in()
                .replace(projects, &fewer)
                .replace("[openstack/cinder, openstack/os-brick]", "[\"openstack/*\"]"),
            told("recheck", "recheck") + " starts nothing on changes of openstack/*",
            "add them to the projects of a trigger that matches it",
        ),
    ] {
        assert_ne!(text, filled_in());
        let found = hints(&text);
        assert!(found.len() == 1 && found[0].0 == seen, "{seen}\n{found:#?}");
        assert!(found[0].1.starts_with(&format!("{remedy} (https://")), "{found:#?}");
    }
}

#[test]
fn a_comment_that_starts_something_is_not_named() {
    let presets = |text: &str| {
        let pattern = "      comment:\n        # A regular expression for the text";
        let at = text.find(pattern).unwrap();
        let end = at + text[at..].find("    projects:").unwrap();
        format!("{}      preset: recheck\n{}", &text[..at], &text[end..]) + "\n" // the jobs are the last section
    };
    let own = "  - name: own\n    on: {preset: run-ci-name}\n    projects: [openstack/cinder, openstack/os-brick]\n    jobs: [cinder-tempest]\n\n  - name: upstream-passed";
    let by_presets = presets(&filled_in()).replacen("  - name: upstream-passed", own, 1);
    for text in [
        filled_in(),
        filled_in().replace("    # recheck: recheck", "    recheck: run-Acme Storage CI"),
        with_template("Please recheck if the array was away, or comment \"recheck bug 1\"."),
        with_template("To run it again, comment: {{ recheck }} cinder-tempest"),
        filled_in().replacen("[openstack/cinder, openstack/os-brick]", "[\"openstack/*\"]", 1),
        by_presets.clone(),
    ] {
        assert_eq!(hints(&text), [], "{text}");
    }
    // The presets are triggers for comments in the other rules, too.
    let found = found(|findings| configuration(&config(&by_presets), findings));
    assert_eq!(numbers(&found), Vec::<&str>::new(), "{found:#?}");
}

/// Logs are anybody's: a link out of the folder is not followed, and a bomb is not unpacked.
#[test]
fn a_hostile_folder_of_logs_is_read_within_bounds() {
    let folder = TempDir::new().unwrap();
    std::os::unix::fs::symlink("/", folder.path().join("root")).unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..64 {
        encoder.write_all(&[b'x'; 1 << 20]).unwrap();
    }
    fs::write(folder.path().join("console.html.gz"), encoder.finish().unwrap()).unwrap();
    fs::write(folder.path().join("cinder.conf.gz"), "no gzip").unwrap();
    let findings = found(|findings| logs::check(folder.path(), None, findings).unwrap());
    assert!(numbers(&findings).contains(&"A35") && !numbers(&findings).contains(&"A28"), "{findings:?}");
}
