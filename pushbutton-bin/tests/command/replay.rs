use crate::lab::Lab;

const GOLDEN: &str = include_str!("replay.golden");

#[test]
fn a_recorded_stream_is_explained_event_by_event_and_always_the_same() {
    let lab = Lab::new();
    let first = lab.run(&["replay", "stream.jsonl"]).with(0).out;
    assert_eq!(first, GOLDEN, "left: the output; right: tests/command/replay.golden");
    assert_eq!(lab.run(&["replay", "stream.jsonl"]).with(0).out, GOLDEN);
    assert!(!lab.path("state").exists(), "nothing is created");
}

#[test]
fn the_comment_follows_the_verdict() {
    let lab = Lab::new();
    for (verdict, line) in [
        ("failure", ": FAILURE in 42m 00s"),
        ("node-failure", ": NODE_FAILURE in 42m 00s"),
        ("timed-out", "The time limit passed in stage wait"),
    ] {
        let said = lab.run(&["replay", "stream.jsonl", "--verdict", verdict]).with(0).out;
        assert!(said.contains("| Build failed (check pipeline).") && said.contains(line), "{line}: {said}");
    }
}

#[test]
fn unreadable_lines_are_named_and_skipped() {
    let lab = Lab::new();
    let stream = include_str!("../../../examples/demo/stream.jsonl");
    let recheck = stream.lines().last().unwrap();
    lab.write(
        "stream.jsonl",
        &format!("{}\n{{}}\nno json\n{recheck}\n{}", &recheck[..300], r#"{"type":"comm"#),
    );
    let said = lab.run(&["replay", "stream.jsonl"]).with(0);
    assert!(
        said.out.contains("skipped: stream.jsonl:1: ") && said.out.contains("skipped: stream.jsonl:3: "),
        "{}",
        said.out
    );
    assert!(said.out.contains("1 event, 1 job"), "{}", said.out);
}

#[test]
fn a_stream_that_is_not_there_is_named() {
    let ended = Lab::new().run(&["replay", "none.jsonl"]).with(2);
    assert!(ended.err.contains("none.jsonl"), "{}", ended.err);
}

#[test]
fn what_the_policy_keeps_is_not_shown_as_superseded() {
    let lab = Lab::new();
    lab.configure(&(lab.config() + "supersede: {newer_patchset: false}\n"));
    let said = lab.run(&["replay", "stream.jsonl"]).with(0).out;
    assert!(!said.contains("superseded") && said.contains("patchset-created"), "{said}");
}
