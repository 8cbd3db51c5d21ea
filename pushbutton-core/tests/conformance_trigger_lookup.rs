//! `MemoryLookup` keeps the contract of `TriggerLookup`.

use pushbutton_core::memory::MemoryLookup;
use pushbutton_core::{Account, Approval, ChangeNumber, CurrentVote, PatchsetDetails, PatchsetNumber};
use pushbutton_testkit::conformance::trigger_lookup::{self, Known};

#[tokio::test]
async fn the_memory_lookup_keeps_the_contract() {
    let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let known = Known {
        change: ChangeNumber(1),
        first: (PatchsetNumber(1), list(&["a.txt"])),
        newest: (PatchsetNumber(2), list(&["new/b.txt", "old/b.txt"])),
        vote: CurrentVote::new(Account::of("zuul"), Approval::new("Verified", 1)),
        no_change: ChangeNumber(2),
        group: ("cinder core".into(), list(&["alice", "bob"])),
        silent_groups: list(&["empty", "none"]),
    };
    let lookup = MemoryLookup::default();
    for (number, files) in [&known.first, &known.newest] {
        let details = PatchsetDetails::new(files.clone()).with_votes(vec![known.vote.clone()]);
        lookup.add_patchset(known.change, *number, details);
    }
    lookup.add_group("cinder core", [Account::of("alice"), Account::of("bob")]);
    lookup.add_group("empty", []);
    trigger_lookup::all(&lookup, &known).await;
}
