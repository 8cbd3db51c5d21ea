//! Changes as Gerrit 3.10 describes them, in its events and in its answers to queries. They differ in their numbers.

fn person(name: &str) -> String {
    format!(r#"{{"name":"{name} Example","email":"{name}@example.org","username":"{name}"}}"#)
}

/// The fields of a change, without the brackets.
fn fields(number: u64) -> String {
    let alice = person("alice");
    format!(
        r#""project":"openstack/cinder","branch":"master","id":"I{number:040x}","number":{number},"subject":"Acme driver: retry a failed attach once more","owner":{alice},"url":"http://review.example.org/c/openstack/cinder/+/{number}","commitMessage":"Acme driver: retry a failed attach once more\n\nThe array answers busy while it rebuilds.\n\nChange-Id: I{number:040x}\n","createdOn":1795435000,"status":"NEW""#
    )
}

fn patchset(number: u64) -> String {
    let alice = person("alice");
    let (revision, parent) = (format!("{number:040x}"), format!("{:040x}", u128::from(number) << 64));
    format!(
        r#"{{"number":1,"revision":"{revision}","parents":["{parent}"],"ref":"refs/changes/{:02}/{number}/1","uploader":{alice},"createdOn":1795435000,"author":{alice},"kind":"REWORK","sizeInsertions":12,"sizeDeletions":3}}"#,
        number % 100
    )
}

/// The event of a comment on it, as a line.
pub(crate) fn comment_added(number: u64, text: &str) -> String {
    let bob = person("bob");
    format!(
        r#"{{"author":{bob},"approvals":[{{"type":"Code-Review","description":"Code-Review","value":"0"}},{{"type":"Verified","description":"Verified","value":"0"}},{{"type":"Workflow","description":"Workflow","value":"0"}}],"comment":"Patch Set 1:\n\n{text}","patchSet":{},"change":{{{}}},"project":"openstack/cinder","refName":"refs/heads/master","changeKey":{{"key":"I{number:040x}"}},"type":"comment-added","eventCreatedOn":1795435200}}
"#,
        patchset(number),
        fields(number),
    )
}

/// The answer to a query for it with its patch sets, as a line.
pub(crate) fn row(number: u64) -> String {
    format!(
        r#"{{{},"lastUpdated":1795435200,"open":true,"patchSets":[{}]}}
"#,
        fields(number),
        patchset(number),
    )
}
