use super::*;
use pushbutton_core::samples;

#[test]
fn an_entry_with_fields_of_a_later_version_is_read() {
    let entry = Entry::new(Op::HandBack { job: samples::job("tempest").id, run: RunId::generate() });
    let mut written = serde_json::to_value(&entry).unwrap();
    written["op"]["hand-back"]["result"] = "success".into();
    assert_eq!(serde_json::from_value::<Entry>(written).unwrap(), entry);
    let empty = format!(r#"{{"id": "{}", "op": {{"import": {{"buildset": 7}}}}}}"#, entry.id);
    let Op::Import { jobs, unreadable } = serde_json::from_str::<Entry>(&empty).unwrap().op else {
        panic!("an import");
    };
    assert!(jobs.is_empty() && unreadable.is_empty());
}
