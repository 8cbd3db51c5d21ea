//! `explain` and `record`, and that `replay` decides as they do.

use std::process::Command;
use std::time::Duration;

use pushbutton_core::RunId;
use pushbutton_testbed::{gerrit, until};
use serde_json::Value;

use crate::gerrit::lab as gerrit_lab;
use crate::lab::{Lab, Running};

const STREAM: &str = include_str!("../../../examples/demo/stream.jsonl");

/// The same command, which writes its log to standard output: a test reads that.
fn with_log(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(command.get_program()).args(command.get_args());
    shell.env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(std::process::Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// The recheck on patch set 2 of the demo, on patch set 1: the stream has patch set 2 already.
fn stream_with_a_late_recheck() -> String {
    let recheck = STREAM.lines().last().unwrap();
    let late = recheck
        .replace("\"number\":2", "\"number\":1")
        .replace("\"number\": 2", "\"number\": 1")
        .replace("/1001/2", "/1001/1")
        .replace("recheck", "recheck late");
    assert_ne!(late, recheck);
    format!("{STREAM}{late}\n")
}

/// Issue 11, point 6: `replay` ran it.
#[test]
fn a_recheck_on_a_superseded_patch_set_is_run_by_nobody() {
    let lab = Lab::new();
    lab.write("stream.jsonl", &stream_with_a_late_recheck());
    let said = lab.run(&["replay", "stream.jsonl"]).with(0).out;
    assert!(said.contains("8 events, 1 job"), "{said}");
    assert!(said.contains("   no    recheck: patch set 1 is superseded by 2"), "{said}");
    let said = lab.run(&["explain", "--recorded", "stream.jsonl"]).with(0).out;
    assert!(said.contains("recheck: no, patch set 1 is superseded by 2"), "{said}");
    assert!(said.contains("8 events, 1 job"), "{said}");
    lab.configure(&(lab.config() + "supersede: {newer_patchset: false}\n"));
    assert!(lab.run(&["replay", "stream.jsonl"]).with(0).out.contains("8 events, 2 jobs"));
}

#[test]
fn a_recorded_stream_is_explained_with_every_condition_and_what_it_saw() {
    let lab = Lab::new();
    let said = lab.run(&["explain", "--recorded", "stream.jsonl"]).with(0).out;
    for line in [
        "1. 2026-11-23 09:00:00 patchset-created by alice on 1001,1 of acme/driver master",
        "   recheck: no, it does not react to patchset-created",
        "     no       on       patchset-created  (wanted: comment)",
        "     yes      projects  acme/driver  (wanted: acme/*)",
        "   runs of older patch sets are superseded",
        "   ignored: own comment: acme-ci is our own account",
        "   recheck: yes",
        "   -> job wait by recheck, id ",
    ] {
        // The width of the names differs from rule to rule.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.lines().any(|found| words(found).starts_with(&words(line))), "{line}: {said}");
    }
    let of_one = lab.run(&["explain", "77", "--recorded", "stream.jsonl"]).with(0).out;
    assert!(of_one.contains("77,3 of openstack/nova") && !of_one.contains("1001,"), "{of_one}");
    assert!(!lab.path("state").exists(), "nothing is created");
}

#[test]
fn the_json_has_one_object_for_each_event() {
    let lab = Lab::new();
    let said = lab.run(&["explain", "--json", "--recorded", "stream.jsonl"]).with(0).out;
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 7);
    let last = &events[6];
    assert_eq!(last["jobs"][0]["name"], "wait");
    assert_eq!(last["evaluation"]["rules"][0]["matched"], "yes");
    let names = last["evaluation"]["rules"][0]["predicates"].as_array().unwrap();
    let names: Vec<&str> = names.iter().map(|predicate| predicate["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["on", "on.comment", "projects", "open", "current", "private", "wip"]);
    assert_eq!(events[5]["evaluation"]["ignored"], "own comment: acme-ci is our own account");
    assert!(events.iter().all(|event| event["event"]["change"]["number"].is_number()));
}

#[test]
fn what_only_gerrit_knows_is_not_guessed_by_a_replay() {
    let lab = Lab::new();
    lab.configure(
        &lab.config().replace(
            "    projects: [acme/*]\n",
            "    projects: [acme/*]\n    irrelevant_files: [\"doc/.*\"]\n",
        ),
    );
    let said = lab.run(&["replay", "stream.jsonl"]).with(0).out;
    assert!(said.contains("   ask   recheck: Gerrit must be asked for the files of the patch set"), "{said}");
    assert!(
        said.contains("7 events, 0 jobs") && said.contains("`pushbutton-bin explain CHANGE` asks it"),
        "{said}"
    );
}

#[test]
fn a_target_or_a_recording_is_needed() {
    let lab = Lab::new();
    assert!(lab.run(&["explain"]).with(2).err.contains("CHANGE"));
    assert!(lab.run(&["explain", "--recorded", "none.jsonl"]).with(2).err.contains("none.jsonl"));
}

#[test]
fn conditions_that_can_never_hold_are_found_by_check() {
    let gerrit = gerrit();
    let lab = gerrit_lab(&gerrit, "acme-ci").with_ansible();
    let conditions = "    projects: [acme/*]\n    files: [\"^/driver/.*\"]\n    from: [\"group:Third-Party CI\", \"group:No Such Group\"]\n";
    lab.configure(
        &lab.config()
            .replace("    projects: [acme/*]\n", conditions)
            .replace("pattern: ^recheck", "pattern: '^Patch Set \\d+: Verified\\+1\\n\\nrecheck'"),
    );
    let said = lab.run(&["check"]).with(5).out;
    for part in [
        "triggers warn  recheck: the pattern",
        "looks for a vote in the header",
        "begins with /, and paths do not",
        "triggers ok    recheck: group \"Third-Party CI\" has 2 members",
        "triggers FAIL  recheck: group \"No Such Group\": there is no such group, or this account may not see it",
        "make it visible to all",
        "rules    warn  A17: comment.recheck: reports tell people to comment \"recheck\", which no trigger matches",
        "-> let the pattern of a trigger match it, or write a text that one matches",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn explain_asks_the_live_gerrit_and_shows_what_followed() {
    let gerrit = gerrit();
    let lab = gerrit_lab(&gerrit, "acme-ci").with_ansible();
    let conditions = "    projects: [acme/**]\n    irrelevant_files: [\"doc/.*\"]\n    from: [\"group:Third-Party CI\"]\n    except: {hashtags: [ci-skip]}\n";
    lab.configure(&lab.config().replace("    projects: [acme/*]\n", conditions));
    let needed = gerrit.push_change("acme/sandbox", "master", &[("needed.py", "explain me first")]);
    let footer = format!("{}/c/acme/sandbox/+/{}", gerrit.http_url, needed.number);
    let id = RunId::generate().as_str().replace('-', "") + "00000000";
    let code = gerrit.push_message(
        "acme/sandbox",
        "master",
        &format!(
            "A change\n\nDepends-On: {footer}\nDepends-On: https://review.example.org/7\nChange-Id: I{id}\n"
        ),
        &[("driver.py", "explain me"), ("doc/a.rst", "a")],
    );
    let docs = gerrit.push_change("acme/sandbox", "master", &[("doc/b.rst", "explain me, too")]);
    let mut both = Running::start(&mut with_log(&lab.command(&["run"])));
    both.says("the event stream runs");
    for change in [&docs, &code] {
        gerrit.comment("bob", change.number, 1, "recheck, says bob");
        gerrit.comment("admin", change.number, 1, "recheck");
    }
    both.says("SUCCESS in");
    until("the comment", Duration::from_secs(300), || {
        let messages = gerrit.messages(code.number);
        messages.iter().any(|message| message.author == "acme-ci").then_some(())
    });
    both.signal("-TERM");
    assert_eq!(both.ends().0.code(), Some(0));

    let said = lab.run(&["explain", &format!("{},1", code.number)]).with(0).out;
    for part in [
        "recheck: no, bob is not one of group:Third-Party CI",
        "-> job wait by recheck, id ",
        ": SUCCESS, https://logs.example.org/",
        "-> comment at ",
        "ignored: own comment: acme-ci is our own account",
        "1 job; topic, hashtags",
        &format!("-> together with {},1 of acme/sandbox (depends-on)\n", needed.number),
        &format!(" with {},1 of acme/sandbox (depends-on): SUCCESS", needed.number),
        "a dependency is ignored: ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("driver.py") && said.contains("(wanted: not only doc/.*)"), "{said}");
    let said = lab.run(&["explain", &docs.number.to_string()]).with(0).out;
    assert!(said.contains("recheck: no, all changed files match doc/.*"), "{said}");
    assert!(said.contains("0 jobs") && !said.contains("-> "), "{said}");
    let json = lab.run(&["explain", "--json", &code.number.to_string()]).with(0).out;
    let ran = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ran: Vec<Value> = ran.filter(|event| !event["jobs"].as_array().unwrap().is_empty()).collect();
    assert!(ran.len() == 1 && ran[0]["followed"]["is_handled"] == true, "{json}");
    assert!(ran[0]["followed"]["commented"].is_string(), "{json}");
    assert_eq!(ran[0]["dependencies"]["list"][0]["change"], needed.number, "{json}");
    // What is said of dependencies is what holds now.
    gerrit.abandon(needed.number);
    let said = lab.run(&["explain", &code.number.to_string()]).with(0).out;
    let why =
        format!("-> nothing would be started: it depends on change {}, which is abandoned", needed.number);
    assert!(said.contains(&why), "{said}");
    lab.run(&["explain", "999999999"]).with(6);
}

#[test]
fn a_recording_ends_with_a_signal_and_is_replayed() {
    let gerrit = gerrit();
    let lab = gerrit_lab(&gerrit, "acme-ci");
    lab.configure(&lab.config().replace("acme/*", "acme/**"));
    let change = gerrit.push_change("acme/sandbox", "master", &[("record.txt", "record me")]);
    let text = || std::fs::read_to_string(lab.path("recording.jsonl")).unwrap_or_default();
    // Records until there are two more lines of the change, and ends with this signal.
    let record = |signal: &str| {
        let mut running = Running::start(&mut with_log(&lab.command(&["record", "recording.jsonl"])));
        running.says("recording the event stream");
        let (before, ours) = (text().len(), format!("\"number\":{}", change.number));
        until("the recording", Duration::from_secs(120), || {
            gerrit.comment("bob", change.number, 1, "recheck");
            let added = text().split_off(before);
            (added.ends_with('\n') && added.lines().filter(|line| line.contains(&ours)).count() > 1)
                .then_some(())
        });
        running.signal(signal);
        let (status, said) = running.ends();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("recorded in recording.jsonl; 0 of private changes left out"), "{said}");
    };
    record("-TERM");
    let first = text();
    assert!(!first.contains("dropped-output"));
    // Continued: what was there stays, also a line that was cut off, and the gap is marked.
    std::fs::write(lab.path("recording.jsonl"), format!("{first}{{\"type\":\"cut o")).unwrap();
    record("-INT");
    assert!(text().starts_with(&first) && text().contains("\n{\"type\":\"dropped-output\"}\n"), "{}", text());
    let said = lab.run(&["replay", "recording.jsonl"]).with(0).out;
    assert!(said.contains("RUN   wait, by trigger recheck"), "{said}");
    assert!(said.contains("the server dropped events here"), "{said}");
    assert!(said.contains("2 lines skipped"), "the one that was cut off, and the gap: {said}");
}
