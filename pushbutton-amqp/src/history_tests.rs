use pushbutton_core::{RunId, RunRecord, RunState, samples};

use super::*;

fn entry(run: &str, state: RunState, padding: usize) -> HistoryEntry {
    let record = RunRecord::new(RunId::new(run).unwrap(), samples::job("tempest"), 1, samples::AT)
        .with_state(state)
        .with_reason("x".repeat(padding));
    HistoryEntry::Run { record: Box::new(record) }
}

fn waiting(unwritten: &Unwritten) -> Vec<HistoryEntry> {
    let mut found = Vec::new();
    while let Some((key, body)) = { unwritten.pending().first() } {
        found.push(serde_json::from_slice::<Message>(&body).unwrap().entry);
        unwritten.pending().written(&key, &body);
    }
    assert_eq!(unwritten.pending().bytes, 0);
    found
}

#[test]
fn of_several_entries_about_a_run_the_newest_waits() {
    let unwritten = Unwritten::default();
    for (run, state) in [
        ("a", RunState::Claimed),
        ("b", RunState::Claimed),
        ("a", RunState::Provisioning),
        ("a", RunState::Running),
    ] {
        unwritten.push(entry(run, state, 0)).unwrap();
    }
    assert_eq!(waiting(&unwritten), [entry("a", RunState::Running, 0), entry("b", RunState::Claimed, 0)]);
}

#[test]
fn an_entry_that_changed_while_it_was_written_is_written_again() {
    let unwritten = Unwritten::default();
    unwritten.push(entry("a", RunState::Claimed, 0)).unwrap();
    let (key, body) = { unwritten.pending().first() }.unwrap();
    unwritten.push(entry("a", RunState::Running, 0)).unwrap();
    unwritten.pending().written(&key, &body);
    assert_eq!(waiting(&unwritten), [entry("a", RunState::Running, 0)]);
}

#[test]
fn what_waits_is_bounded_and_what_is_dropped_is_counted() {
    let unwritten = Unwritten::default();
    for n in 0..5_000 {
        unwritten.push(entry(&format!("r{n}"), RunState::Claimed, 1_500)).unwrap();
        assert!(unwritten.pending().bytes <= MAX_PENDING);
    }
    let dropped = unwritten.dropped.load(Ordering::Relaxed);
    let left = waiting(&unwritten);
    assert_eq!(dropped as usize + left.len(), 5_000);
    assert!(dropped > 0 && left.last() == Some(&entry("r4999", RunState::Claimed, 1_500)));
}

#[test]
fn a_position_is_read_as_it_was_written() {
    let position = Position { offset: 7, id: Uuid::now_v7().simple().to_string() };
    assert_eq!(Position::parse(&position.to_string()), Some(position));
    assert_eq!(Position::parse("7"), None);
}
