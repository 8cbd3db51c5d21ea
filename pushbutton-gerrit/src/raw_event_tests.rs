use super::*;
fn parsed(line: &str) -> Result<Vec<RawEvent>> {
    match parse_line(line, &EventFilter::everything(), Timestamp::UNIX_EPOCH)? {
        ParsedLine::Events(events, _) => Ok(events),
        ParsedLine::Dropped => panic!("dropped-output"),
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
    let RawEventKind::Comment { author, text, approvals } = one(&line).kind else { panic!() };
    assert_eq!((author.handle(), text.as_str()), ("zuul", "Build succeeded."));
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
fn comments_on_the_patch_set_replace_the_message() {
    let line = comment(
        r#""author":{"username":"bob"},"comment":"Patch Set 2:\n\n(3 comments)",
        "patchSetComments":{"/PATCHSET_LEVEL":[{"message":"recheck"},{"message":"and more"}],"a.py":[{"message":"why?"}]}"#,
    );
    let RawEventKind::Comment { text, .. } = one(&line).kind else { panic!() };
    assert_eq!(text, "recheck\nand more");
}

#[test]
fn shell_characters_quotes_and_line_breaks_are_kept() {
    let line = comment(r#""author":{"username":"bob"},"comment":"Patch Set 2:\n\nrecheck $(id) `x` \"q\" 's';\r\n| rm -rf / é漢"}"#.trim_end_matches('}'));
    let RawEventKind::Comment { text, .. } = one(&line).kind else { panic!() };
    assert_eq!(text, "recheck $(id) `x` \"q\" 's';\r\n| rm -rf / é漢");
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
    let RawEventKind::Comment { text, .. } = one(&line).kind else { panic!() };
    assert_eq!(text.len(), MAX_TEXT);
}

proptest::proptest! {
    #[test]
    fn any_text_is_kept(said in "[a-zA-Z][^\\x00]{0,200}") {
        let message = serde_json::to_string(&format!("Patch Set 2:\n\n{said}")).unwrap();
        let found = parsed(&comment(&format!(r#""author":{{"username":"bob"}},"comment":{message}"#))).unwrap();
        let RawEventKind::Comment { text, .. } = &found[0].kind else { panic!() };
        proptest::prop_assert_eq!(text, said.trim());
    }
}
