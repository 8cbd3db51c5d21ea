use std::io::Write as _;
use std::process::Stdio;

use crate::lab::{Lab, command, ended};

const GOOD: &str = "Build succeeded (check pipeline).\n\n\
    - tempest https://logs.acme.org/1/ : SUCCESS in 5m 30s\n\n\
    To run it again, comment: recheck\n\
    https://wiki.openstack.org/wiki/ThirdPartySystems/Acme\n";

#[test]
fn a_comment_from_standard_input_needs_no_configuration() {
    let lint = |text: &str| {
        let mut command = command();
        command.args(["--config", "/nonexistent/p.yml", "lint", "--comment", "-"]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(lint(GOOD), (0, "0 to fix, 0 to look at, 0 to know\n".to_owned()));
    let (code, out) = lint(&GOOD.replace("(check", "(third-party-check"));
    assert_eq!(code, 5, "{out}");
    for words in [
        "A12  FAIL  comment: the pipeline is \"third-party-check\"\n            -> use letters, digits and _ only\n",
        "plugins_zuul-results-summary",
        "\n1 to fix, 0 to look at, 0 to know\n",
    ] {
        assert!(out.contains(words), "{words} in {out}");
    }
}

#[test]
fn each_finding_is_an_object_of_json() {
    let mut lint = command();
    lint.args(["--config", "/nonexistent/p.yml", "lint", "--json", "--name", "Acme Storage"]);
    let out = ended(&mut lint).with(5).out;
    let findings: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rules: Vec<_> = findings.iter().map(|finding| finding["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["A8", "A9"], "{out}");
    for finding in &findings {
        assert_eq!(
            (&finding["severity"], &finding["subject"]),
            (&"fail".into(), &"account".into()),
            "{finding}"
        );
        for key in ["seen", "remedy", "demand", "source"] {
            assert!(finding[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {finding}");
        }
    }
}

#[test]
fn without_options_the_configuration_is_checked_and_a_missing_one_is_an_error() {
    let lab = Lab::new();
    let out = lab.run(&["lint"]).with(5).out;
    assert!(
        out.contains("A10  FAIL  configuration: comment.wiki: there is no link to the CI's page"),
        "{out}"
    );
    let missing = ended(command().args(["--config", "/nonexistent/p.yml", "lint"])).with(2);
    assert!(missing.err.contains("cannot read the configuration"), "{}", missing.err);
    let missing = lab.run(&["lint", "--logs", "none"]).with(1);
    assert!(missing.err.contains("cannot read the folder none"), "{}", missing.err);
    assert!(!lab.path("state").exists(), "nothing is created");
}

#[test]
fn the_rules_are_listed_with_their_sources() {
    let out = ended(command().args(["lint", "--rules"])).with(0).out;
    assert_eq!(out.matches("https://").count(), 44, "{out}");
}

#[test]
fn a_template_that_does_not_work_is_an_error_of_the_configuration_with_both_lines() {
    let lab = Lab::new();
    lab.write(
        "comment.j2",
        "{{ first_line }}\n\n{% for result in results %}\n{{ result.lime }}\n{% endfor %}\n",
    );
    lab.configure(
        &lab.config().replace("  key: key\n", "  key: key\n  comment:\n    template: ${file:./comment.j2}\n"),
    );
    let line = lab.config().lines().position(|line| line.contains("template:")).unwrap() + 1;
    let ended = lab.run(&["check"]).with(2);
    let words = format!(":{line}: gerrit.comment.template: line 4: undefined value");
    assert!(ended.err.contains(&words), "{words} in {}", ended.err);
}
