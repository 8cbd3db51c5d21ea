use super::*;
fn parsed(line: &str) -> Result<Vec<RawEvent>> {
    match parse_line(line, &EventFilter::everything(), Timestamp::UNIX_EPOCH)? {
        ParsedLine::Events(events, _) => Ok(events),
        other => panic!("{other:?}"),
    }
}

/// A comment on change 12345,2 with these fields besides.
fn comment(fields: &str) -> String {
    format!(
        r#"{{"type":"comment-added","eventCreatedOn":1795450990,{fields},
        "change":{{"project":"openstack/cinder","branch":"master","number":12345,"subject":"s","status":"NEW"}},
        "patchSet":{{"number":2,"revision":"0123456789abcdef0123456789abcdef01234567","ref":"refs/changes/45/12345/2","kind":"REWORK"}}}}"#
    )
}

fn one(line: &str) -> RawEvent {
    let mut all = parsed(line).unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn only_votes_with_an_old_value_are_new() {
    let line = comment(
        r#""author":{"username":"zuul"},"comment":"Patch Set 2: Verified+1\n\nBuild succeeded.",
        "approvals":[{"type":"Verified","value":"1","oldValue":"0"},{"type":"Code-Review","value":"2"}]"#,
    );
    let RawEventKind::Comment { author, texts, approvals, .. } = one(&line).kind else { panic!() };
    assert_eq!((author.handle(), texts), ("zuul", vec!["Build succeeded.".to_owned()]));
    assert_eq!(approvals, [Approval::new("Verified", 1)]);
}

#[test]
fn votes_without_a_text_are_events_and_an_empty_comment_is_none() {
    let line = comment(
        r#""author":{"username":"zuul"},"comment":"Patch Set 2: Verified+1 Code-Review-1",
        "approvals":[{"type":"Verified","value":1,"oldValue":0},{"type":"Code-Review","value":-1,"oldValue":"0"}]"#,
    );
    assert_eq!(parsed(&line).unwrap().len(), 2);
    let line = comment(
        r#""author":{"username":"bob"},"comment":"Patch Set 2:\n\n(1 comment)","approvals":[{"type":"Verified","value":"0"}]"#,
    );
    assert_eq!(parsed(&line).unwrap(), []);
}

#[test]
fn the_message_and_each_comment_on_the_patch_set_are_texts() {
    // reports.md 1. The message may repeat the comments: none, the first, or all of them joined.
    let comments = r#""patchSetComments":{"/PATCHSET_LEVEL":[{"message":"Done"},{"message":"recheck"}],"a.py":[{"message":"why?"}]}"#;
    let texts = |message: &str, comments: &str| {
        let line = comment(&format!(r#""author":{{"username":"bob"}},"comment":"{message}",{comments}"#));
        let EventKind::CommentAdded { texts, .. } = EventKind::from(one(&line).kind) else { panic!() };
        texts
    };
    for message in [
        r"Patch Set 2:\n\n(3 comments)",
        r"Patch Set 2:\n\nDone",
        r"Patch Set 2:\n\nDone\nrecheck",
        r"Patch Set 2:\n\n(3 comments)\n\nDone\nrecheck",
    ] {
        assert_eq!(texts(message, comments), ["Done", "recheck"], "{message}");
    }
    // By the API, a message and a comment at once.
    let acknowledged = r#""patchSetComments":{"/PATCHSET_LEVEL":[{"message":"Acknowledged"}]}"#;
    assert_eq!(texts(r"Patch Set 2:\n\n(1 comment)\n\nrecheck", acknowledged), ["Acknowledged", "recheck"]);
    // However many there are, they are bounded.
    let many = format!(
        r#""patchSetComments":{{"/PATCHSET_LEVEL":[{}{{"message":"x"}}]}}"#,
        r#"{"message":"y"},"#.repeat(500)
    );
    assert_eq!(texts(r"Patch Set 2:\n\n(501 comments)", &many).len(), MAX_TEXTS);
}

/// reports.md 1, on servers that join the comments in the stream, as 3.10 does by default.
#[test]
fn a_comment_whose_later_line_would_match_is_left_to_a_query() {
    let on = pushbutton_core::EventMatch::Comment { pattern: "(?i)^recheck".into(), from: vec![] };
    let trigger = pushbutton_core::Trigger::new("recheck", on, ["tempest".parse().unwrap()]);
    let triggers = pushbutton_core::Triggers::compile(vec![trigger], vec![]).unwrap();
    let filter = EventFilter::for_triggers(std::sync::Arc::new(triggers));
    let parsed = |text: &str, more: &str| {
        let line =
            comment(&format!(r#""author":{{"username":"bob"}},"comment":"Patch Set 2:\n\n{text}"{more}"#));
        parse_line(&line, &filter, Timestamp::UNIX_EPOCH).unwrap()
    };
    assert_eq!(parsed(r"Done\nrecheck", ""), ParsedLine::Joined(Some(1_795_450_990)));
    for other in [r"Done\n> recheck", "Done"] {
        assert_eq!(parsed(other, ""), ParsedLine::Events(vec![], Some(1_795_450_990)), "{other}");
    }
    // Where the server has them one by one, no question is open.
    let comments = r#","patchSetComments":{"/PATCHSET_LEVEL":[{"message":"Done\nrecheck"}]}"#;
    assert_eq!(parsed("(1 comment)", comments), ParsedLine::Events(vec![], Some(1_795_450_990)));
    assert!(matches!(parsed(r"recheck\nDone", ""), ParsedLine::Events(events, _) if events.len() == 1));
}

/// reports.md 12.
#[test]
fn states_and_deletions_of_changes_are_known() {
    let line = |kind: &str, fields: &str| {
        comment(r#""changer":{"username":"alice"},"deleter":{"username":"alice"}"#)
            .replace("comment-added", kind)
            .replace(r#""status":"NEW""#, &format!(r#""status":"NEW"{fields}"#))
    };
    let alice = || Account::of("alice");
    assert_eq!(one(&line("wip-state-changed", "")).kind, RawEventKind::Ready { changer: alice() });
    assert_eq!(one(&line("private-state-changed", "")).kind, RawEventKind::Public { changer: alice() });
    assert_eq!(parsed(&line("wip-state-changed", r#","wip":true"#)).unwrap(), []);
    assert_eq!(parsed(&line("private-state-changed", r#","private":true"#)).unwrap(), []);
    let deleted = r#"{"type":"change-deleted","deleter":{"username":"alice"},"eventCreatedOn":1795450990,
        "change":{"project":"openstack/cinder","branch":"master","number":7,"subject":"s","status":"NEW"}}"#;
    let event = one(deleted);
    assert_eq!((event.change.number, event.kind), (ChangeNumber(7), RawEventKind::Deleted));
    // What no rule can use is no error.
    for kind in ["reviewer-added", "topic-changed", "hashtags-changed", "vote-deleted", "ref-updated"] {
        assert_eq!(parsed(&line(kind, "")).unwrap(), [], "{kind}");
        assert_eq!(parsed(&format!(r#"{{"type":"{kind}"}}"#)).unwrap(), [], "{kind}");
    }
}

#[test]
fn shell_characters_quotes_and_line_breaks_are_kept() {
    let line = comment(r#""author":{"username":"bob"},"comment":"Patch Set 2:\n\nrecheck $(id) `x` \"q\" 's';\r\n| rm -rf / é漢"}"#.trim_end_matches('}'));
    let RawEventKind::Comment { texts, .. } = one(&line).kind else { panic!() };
    assert_eq!(texts[0], "recheck $(id) `x` \"q\" 's';\r\n| rm -rf / é漢");
}

#[test]
fn old_servers_write_numbers_as_strings_and_projects_as_objects() {
    let line = r#"{"type":"patchset-created","change":{"project":{"name":"openstack/cinder"},"branch":"refs/heads/master","number":"12345"},
        "patchSet":{"number":"2","revision":"0123456789abcdef0123456789abcdef01234567","ref":"refs/changes/45/12345/2","createdOn":"1795450990"},
        "uploader":{"name":"Alice"},"eventCreatedOn":"1795450991"}"#;
    let event = one(line);
    assert_eq!((event.change.project.as_str(), event.change.branch.as_str()), ("openstack/cinder", "master"));
    assert_eq!((event.change.number.0, event.patchset.number.0), (12345, 2));
    assert_eq!(event.at.as_second(), 1_795_450_991);
}

#[test]
fn fields_of_another_type_count_as_missing() {
    for field in [
        r#""comment":null"#,
        r#""comment":[1,[2]]"#,
        r#""comment":{"a":{"b":1}}"#,
        r#""comment":true"#,
        r#""approvals":null"#,
    ] {
        assert_eq!(parsed(&comment(&format!(r#""author":null,{field}"#))).unwrap(), [], "{field}");
    }
}

#[test]
fn unknown_types_are_ignored_whatever_they_hold() {
    for line in [
        r#"{"type":"ref-updated","refUpdate":{"refName":"refs/heads/x"}}"#,
        r#"{"type":"something-new","change":{"number":{}},"patchSet":{"ref":"$(id)"}}"#,
        r#"{"no":"type"}"#,
        "",
        "  ",
    ] {
        assert_eq!(parsed(line).unwrap(), [], "{line}");
    }
}

#[test]
fn an_invalid_field_is_refused_by_name() {
    let good = comment(r#""author":{},"comment":"recheck""#);
    for (from, to, words) in [
        ("refs/changes/45/12345/2", "refs/changes/45/12345/2; rm -rf /", "patchSet.ref"),
        ("refs/changes/45/12345/2", "HEAD", "patchSet.ref"),
        ("0123456789abcdef0123456789abcdef01234567", "master", "patchSet.revision"),
        ("openstack/cinder", "../../etc", "change=12345"),
        ("\"number\":12345", "\"number\":\"x\"", "change.number"),
        ("\"number\":2,", "\"number\":-2,", "patchSet.number"),
        ("\"branch\":\"master\"", "\"branch\":\"-oProxyCommand=x\"", "change=12345"),
        ("\"change\":", "\"chango\":", "comment-added without change"),
        ("}}", "}", "not a Gerrit event"),
    ] {
        let broken = good.replace(from, to);
        assert_ne!(good, broken);
        let error = parsed(&broken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!(r#"{{"type":{}"#, "[".repeat(100_000));
    assert!(parsed(&deep).is_err());
}

#[test]
fn dropped_output_is_reported() {
    let line = r#"{"type":"dropped-output","eventCreatedOn":1795450990}"#;
    assert_eq!(
        parse_line(line, &EventFilter::everything(), Timestamp::UNIX_EPOCH).unwrap(),
        ParsedLine::Dropped
    );
}

#[test]
fn other_projects_are_not_parsed() {
    let filter =
        EventFilter::projects(|project, branch| project == "openstack/cinder" && branch == "stable/2026.1");
    let line = comment(r#""author":{},"comment":"recheck""#);
    let parsed = parse_line(&line, &filter, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(parsed, ParsedLine::Events(vec![], Some(1_795_450_990)));
}

#[test]
fn a_long_text_is_cut_at_a_character() {
    let line = comment(&format!(r#""author":{{}},"comment":"Patch Set 2:\n\n{}""#, "é".repeat(100_000)));
    let RawEventKind::Comment { texts, .. } = one(&line).kind else { panic!() };
    assert_eq!((texts.len(), texts[0].len()), (1, MAX_TEXT));
}

proptest::proptest! {
    #[test]
    fn any_text_is_kept(said in "[a-zA-Z][^\\x00]{0,200}") {
        let message = serde_json::to_string(&format!("Patch Set 2:\n\n{said}")).unwrap();
        let found = parsed(&comment(&format!(r#""author":{{"username":"bob"}},"comment":{message}"#))).unwrap();
        let RawEventKind::Comment { texts, .. } = &found[0].kind else { panic!() };
        proptest::prop_assert_eq!(&texts[..], [said.trim()]);
    }
}
