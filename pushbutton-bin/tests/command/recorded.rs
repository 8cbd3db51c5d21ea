use pushbutton_testbed::ansible_bin;

use crate::lab::{Ended, Lab, Running, command, ended, root};

/// What `make demo` runs, without its script's words.
fn demo(stream: &str) -> (tempfile::TempDir, Ended) {
    let folder = tempfile::tempdir().unwrap();
    let demo = root().join("examples/demo");
    let made = std::process::Command::new(demo.join("make-repository"))
        .arg(folder.path().join("git"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let ended = ended(
        command()
            .args(["--config".as_ref(), demo.join("pushbutton.yml").as_os_str()])
            .args(["run", "--recorded"])
            .arg(demo.join(stream))
            .env("DEMO_STATE", folder.path())
            .env("DEMO_PYTHON", "/usr/bin/python3")
            .env("DEMO_ANSIBLE_PLAYBOOK", ansible_bin().join("ansible-playbook")),
    );
    (folder, ended)
}

#[test]
fn a_recheck_is_tested_for_real_and_the_comment_is_shown() {
    let (folder, ended) = demo("stream.jsonl");
    let said = ended.with(0).out;
    for part in [
        "stage prepare passed",
        "change    1001,2 of acme/driver",
        "verdict   SUCCESS",
        "tests     13 passed, 0 failed, 1 skipped",
        "  | Build succeeded (check pipeline).",
        "  | - acme-driver-unit http://localhost:8000/01/1001/2/acme-driver-unit/",
        "  | Tests: 13 passed, 0 failed, 1 skipped.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let logs = said.lines().find_map(|line| line.strip_prefix("logs      ")).unwrap();
    let log = |name: &str| std::fs::read(std::path::Path::new(logs).join(name)).unwrap();
    let text = |name: &str| String::from_utf8(log(name)).unwrap();
    assert!(text("console.log").contains("stage gather ended: Passed"), "{}", text("console.log"));
    let changed = text("patchset.txt");
    assert!(changed.contains("acme/driver.py") && !changed.contains("acme/array.py"), "{changed}");
    let page = text("index.html");
    for part in ["SUCCESS", "1001,2", "acme-driver-unit", ">13</b>passed", "patchset.txt"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // Two packets for each of the 14 tests, the first byte of each is the signature.
    assert!(log("unit.subunit").iter().filter(|byte| **byte == 0xb3).count() >= 28);
    let leftovers = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("recorded-"));
    assert_eq!(leftovers.count(), 0, "the queue of a recorded run goes with it");
}

#[test]
fn a_patch_with_a_mistake_fails_and_names_the_tests() {
    let said = demo("stream-failing.jsonl").1.with(5).out;
    for part in [
        "verdict   FAILURE in stage test",
        "tests     11 passed, 2 failed, 1 skipped",
        "tests.test_retry.RetryTest.test_attach_gives_up_in_the_end",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_same_stream_runs_again_the_next_time() {
    let lab = Lab::new().with_ansible();
    for _ in 0..2 {
        let said = lab.run(&["run", "--recorded", "stream.jsonl"]).with(0).out;
        assert!(said.contains("1 job, 1 run finished"), "{said}");
    }
    let status = lab.run(&["status"]).with(0).out;
    assert_eq!(status.matches("SUCCESS").count(), 2, "{status}");
}

#[test]
fn a_signal_ends_it_gracefully_and_a_second_one_at_once() {
    let lab = Lab::new().with_ansible();
    lab.configure(&lab.config().replace("seconds: 0", "seconds: 300"));
    let start = |lab: &Lab| {
        let mut running = Running::start(&mut lab.command(&["run", "--recorded", "stream.jsonl"]));
        running.says("stage wait ...");
        running
    };
    // The deadline is a second: the run returns to the queue, and nothing is reported.
    let graceful = start(&lab);
    graceful.signal("-TERM");
    let (status, said) = graceful.ends();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        said.contains("ended without a result: the operator is shutting down") && !said.contains("| Build"),
        "{said}"
    );

    lab.configure(&lab.config().replace("shutdown_deadline: 1s", "shutdown_deadline: 5m"));
    let forced = start(&lab);
    // Two different signals: the kernel merges two equal ones.
    forced.signal("-INT");
    forced.signal("-TERM");
    let (status, said) = forced.ends();
    assert_eq!(status.code(), Some(130), "{said}");
}

#[test]
fn json_logs_are_json_and_nothing_else() {
    let lab = Lab::new().with_ansible();
    let said = lab.run(&["--log-format", "json", "run", "--recorded", "stream.jsonl"]).with(0);
    assert!(!said.err.is_empty());
    for line in said.err.lines() {
        let entry: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        assert!(entry.contains_key("level"), "{line}");
        for key in entry.keys() {
            // Fields stand beside the logger's own keys, of which `target` is the module.
            assert_eq!(line.matches(&format!("{key:?}:")).count(), 1, "{key} twice: {line}");
        }
    }
}
