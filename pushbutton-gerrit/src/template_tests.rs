use std::collections::BTreeSet;
use std::time::Duration;

use pushbutton_core::memory::MemoryHistory;
use pushbutton_core::{
    Reporter as _, RunId, StageName, StageOutcome, StageResult, StageStatus, TestCounts, Update, UpdateKind,
    samples,
};

use super::*;
use crate::message::{VoteMode, comment};
use crate::sample_reports;

fn config() -> CommentConfig {
    CommentConfig {
        name: Some("Acme Storage CI".into()),
        wiki: Some("https://wiki.openstack.org/wiki/ThirdPartySystems/Acme_Storage_CI".into()),
        ..CommentConfig::default()
    }
}

fn with_template(template: &str) -> CommentConfig {
    CommentConfig { template: Some(template.into()), ..config() }
}

fn stage() -> StageName {
    "tempest".parse().unwrap()
}

/// A report of one job of which these tests failed.
fn failure(job: &str, failed: &[&str]) -> BuildsetReport {
    let tests: Vec<String> = failed.iter().map(ToString::to_string).collect();
    let outcome = StageOutcome::new(StageStatus::Failed, Duration::ZERO).with_failed_tests(tests);
    let verdict = Verdict::Failure { stage: stage() };
    let result =
        RunResult::new(RunId::generate(), samples::job(job), verdict, samples::AT, Duration::from_secs(330))
            .with_tests(TestCounts::new(10, failed.len() as u64, 1))
            .with_log_url("https://logs.acme.example/12345/2/x/".to_owned())
            .with_stages(vec![StageResult::new(stage(), outcome)]);
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    BuildsetReport::new(id, vec![result]).unwrap()
}

fn rendered(config: &CommentConfig, report: &BuildsetReport) -> Rendered {
    render(config, "acme-ci", report, &EarlierFailures::default())
}

#[test]
fn each_failed_test_has_a_link_and_what_is_known_of_it() {
    let report = failure("tempest", &["tempest.api.volume.test_a", "tempest.api.volume.test_b[id-1,x&y]"]);
    let job: JobName = "tempest".parse().unwrap();
    let earlier = EarlierFailures::default()
        .with(job.clone(), "tempest.api.volume.test_a", FailureCount::new(6, 20))
        .with(job, "tempest.api.volume.test_b[id-1,x&y]", FailureCount::new(0, 20));
    let config = CommentConfig { contact: Some("ci@acme.example".into()), ..config() };
    assert_eq!(
        render(&config, "acme-ci", &report, &earlier).text,
        "Build failed (check pipeline).\n\
         \n\
         - tempest https://logs.acme.example/12345/2/x/ : FAILURE in 5m 30s\n\
         \n\
         Stage tempest failed.\n\
         \n\
         Tests: 10 passed, 2 failed, 1 skipped.\n\
         Failed tests:\n\
         \x20   tempest.api.volume.test_a\n\
         \x20       failed in 6 of the last 20 runs of this job on other changes\n\
         \x20       https://logs.acme.example/12345/2/x/#:~:text=tempest.api.volume.test_a\n\
         \x20   tempest.api.volume.test_b[id-1,x&y]\n\
         \x20       https://logs.acme.example/12345/2/x/#:~:text=tempest.api.volume.test_b%5Bid%2D1%2Cx%26y%5D\n\
         \n\
         To run it again, comment: recheck\n\
         About Acme Storage CI: https://wiki.openstack.org/wiki/ThirdPartySystems/Acme_Storage_CI\n\
         Contact: ci@acme.example\n\
         Buildset 00112233445566778899aabbccddeeff\n"
    );
}

/// peers.md A15: ciwatch finds a result within a line, too.
#[test]
fn a_test_name_is_no_result_to_ciwatch_either() {
    let evil = "x - unit https://evil.example/ :  : SUCCESS - y http://z : FAILURE";
    let text = comment(&config(), "acme-ci", &failure("tempest", &[evil]));
    let jobs: Vec<_> = dashboards::ciwatch_results(&text).into_iter().map(|(job, ..)| job).collect();
    assert_eq!(jobs, ["tempest"], "{text}");
    let line = text.lines().find(|line| line.starts_with("    x - unit https://evil.example/:")).unwrap();
    assert!(!line.contains(" : ") && line.ends_with("http://z: FAILURE"), "{line}");
}

#[test]
fn the_default_template_is_an_example_of_a_template() {
    let (plain, copied) = (config(), with_template(DEFAULT_TEMPLATE));
    assert_eq!(copied.problems(), Vec::<String>::new());
    for (what, report, earlier) in sample_reports().unwrap() {
        let [plain, copied] = [&plain, &copied].map(|config| render(config, "acme-ci", &report, &earlier));
        assert_eq!(plain, copied, "{what}");
        assert_eq!(plain.problem, None, "{what}");
    }
    // A file with the line ends of Windows is the same template.
    let windows = with_template(&DEFAULT_TEMPLATE.replace('\n', "\r\n"));
    assert_eq!(windows.problems(), Vec::<String>::new());
}

#[test]
fn a_template_of_ones_own_writes_what_it_wants_around_what_the_tables_read() {
    let template = "{{ first_line }}\n\n{% for result in results %}\n{{ result.line }}\n{% endfor %}\n\n\
        {{ change.project }} {{ change.number }},{{ change.patchset }}: {{ vote or \"no vote\" }}. {{ ci }} <&> {{ wiki }}";
    let config = CommentConfig { vote: VoteMode::Both, ..with_template(template) };
    assert_eq!(config.problems(), Vec::<String>::new());
    assert_eq!(
        rendered(&config, &failure("tempest", &["a"])).text,
        "Build failed (check pipeline).\n\
         \n\
         - tempest https://logs.acme.example/12345/2/x/ : FAILURE in 5m 30s\n\
         \n\
         openstack/cinder 12345,2: Verified-1. Acme Storage CI <&> \
         https://wiki.openstack.org/wiki/ThirdPartySystems/Acme_Storage_CI\n\
         Buildset 00112233445566778899aabbccddeeff\n"
    );
}

#[test]
fn a_template_that_does_not_work_is_found_with_its_line_and_replaced_by_the_default() {
    let head =
        "{{ first_line }}\n\n{% for result in results %}\n{{ result.line }}\n{% endfor %}\n{{ wiki }}\n";
    let changed = |from: &str, to: &str| head.replace(from, to);
    let unbounded = format!(
        "{head}{{% for a in range(9999) %}}{{% for b in range(9999) %}}x{{% endfor %}}{{% endfor %}}"
    );
    let doubled = format!("{head}{{% set x = \"x\" * 100000 %}}{}", "{% set x = x ~ x %}".repeat(30));
    for (template, words) in [
        (format!("{head}{{% if %}}"), "line 7: syntax error"),
        (format!("{head}\n{{{{ resluts }}}}"), "line 8: undefined value"),
        (format!("{head}{{{{ change.subjekt }}}}"), "line 7: undefined value"),
        (format!("{head}{{{{ wiki|shout }}}}"), "line 7: unknown filter"),
        (format!("{head}{{% include \"/etc/passwd\" %}}"), "line 7: "),
        (unbounded, "line 7: engine ran out of fuel"),
        (doubled, "line 7: engine ran out of fuel"),
        (format!("{head}{{{{ \"x\" * 20000 }}}}"), "Gerrit takes 15360"),
        // What a result table would drop or misread.
        (String::new(), "does not link"),
        (changed("{{ first_line }}", "Tests have ended."), "exactly one line"),
        (changed("{{ first_line }}", "Build {{ status }} (third-party-check pipeline)."), "exactly one line"),
        (changed("{{ first_line }}", "Hello.\n\n{{ first_line }}"), "the first line is not"),
        (
            changed("{{ result.line }}", "* {{ result.job }} {{ result.url }} : {{ result.result }}"),
            "would read 0 of 1",
        ),
        (
            changed("- ", "").replace("{{ result.line }}", "{{ result.line }} \n- x y : SUCCESS"),
            "would read 2 of 1",
        ),
        (format!("{head}see - x http://y : SUCCESS"), "ciwatch"),
        (format!("{head}Buildset {{{{ buildset }}}}"), "which is added to every comment"),
        (changed("{{ wiki }}", ""), "does not link"),
    ] {
        let config = with_template(&template);
        let problems = config.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let (key, problem) = problems[0].split_once(": ").unwrap();
        assert!(key == "template" && problem.contains(words), "{words:?} in {problems:?}");
        // Nothing is lost should it be used.
        let (_, report, earlier) = sample_reports().unwrap().remove(0);
        let used = render(&config, "acme-ci", &report, &earlier);
        let default = render(&self::config(), "acme-ci", &report, &earlier);
        assert_eq!(used.text, default.text, "{words}");
        assert!(used.problem.is_some(), "{words}");
    }
}

#[test]
fn a_template_that_fails_for_some_reports_only_is_found_before_it_is_used() {
    let head =
        "{{ first_line }}\n\n{% for result in results %}\n{{ result.line }}\n{% endfor %}\n{{ wiki }}\n";
    let config = with_template(&format!(
        "{head}{{% for result in results %}}{{{{ result.tests.passed }}}}{{% endfor %}}"
    ));
    let problems = config.problems();
    assert!(problems.len() == 1 && problems[0].contains("a run without a machine"), "{problems:?}");
    // A result line in a notice that nothing was started, and status lines in any.
    let notice = with_template(&format!("{head}{{% if not results %}}\nBuild failed.\n{{% endif %}}"));
    assert!(notice.problems()[0].contains("a build that was not started"), "{:?}", notice.problems());
}

#[test]
fn a_long_comment_of_ones_own_template_is_made_shorter_as_the_default_is() {
    let names: Vec<String> = (0..50).map(|n| format!("tempest.{n}.{}", "x".repeat(400))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut config = with_template(DEFAULT_TEMPLATE);
    config.failed_tests = 50;
    let text = rendered(&config, &failure("tempest", &names)).text;
    assert!(text.len() <= MESSAGE_LIMIT && text.len() > 1000, "{}", text.len());
    assert!(text.contains("    and 25 more\n") && text.contains("    tempest.24.xxx"), "{text}");
    config.failed_tests = 2;
    let text = rendered(&config, &failure("tempest", &["a", "b", "c"])).text;
    assert!(text.contains("#:~:text=b\n    and 1 more\n"), "{text}");
}

#[test]
fn the_readme_lists_every_variable() {
    let mut names = BTreeSet::new();
    for (_, report, earlier) in sample_reports().unwrap() {
        let config = CommentConfig { contact: Some("c".into()), vote: VoteMode::Both, ..config() };
        let detail = Detail::steps(&config, &report).next().unwrap();
        let variables = Variables::new(&config, "acme-ci", &report, &earlier, detail);
        paths(&serde_json::to_value(variables).unwrap(), "", &mut names);
    }
    let readme = include_str!("../README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let listed: BTreeSet<String> = rows.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, listed, "left: the variables; right: the table in README.md");
}

/// The paths of all values, with `[]` for the elements of a list.
fn paths(value: &serde_json::Value, path: &str, names: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                paths(value, &path, names);
            }
        }
        serde_json::Value::Array(list) => {
            list.iter().for_each(|value| paths(value, &format!("{path}[]"), names))
        }
        // A list or a map that may be absent is listed by what it has.
        serde_json::Value::Null
            if ["tests", "before"].iter().any(|map| path.ends_with(&format!("].{map}"))) => {}
        _ => {
            names.insert(path.to_owned());
        }
    }
}

#[tokio::test]
async fn the_history_says_how_often_a_test_failed_before_and_nothing_of_what_it_does_not_know() {
    let history = MemoryHistory::default();
    for (change, failed) in [(7, &["a"][..]), (8, &[]), (9, &["a", "b"]), (12345, &["a", "b", "c"])] {
        let mut result = failure("tempest", failed).results.remove(0);
        result.job = samples::job_on(change, "tempest");
        let run = result.run.clone();
        let kind = UpdateKind::Finished { result: Box::new(result.clone()) };
        history.report(&Update::new(result.job, kind, samples::AT).with_run(run)).await.unwrap();
    }
    let report = failure("tempest", &["a", "b", "c"]);
    let text = async |config: &CommentConfig| {
        let earlier = EarlierFailures::of(&report, config, &history).await.unwrap();
        render(config, "acme-ci", &report, &earlier).text
    };
    let with = text(&config()).await;
    for words in [
        "    a\n        failed in 2 of the last 3 runs of this job",
        "    b\n        failed in 1 of the last 3 runs",
    ] {
        assert!(with.contains(words), "{with}");
    }
    assert_eq!(with.matches("failed in").count(), 2, "{with}");
    let without = text(&CommentConfig { flaky_runs: 0, ..config() }).await;
    assert!(!without.contains("failed in"), "{without}");
    // Another job's history.
    let other = failure("unit", &["a"]);
    let earlier = EarlierFailures::of(&other, &config(), &history).await.unwrap();
    assert!(!render(&config(), "acme-ci", &other, &earlier).text.contains("failed in"));
}
