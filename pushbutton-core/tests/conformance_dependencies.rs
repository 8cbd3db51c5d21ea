//! The in-memory lookup of changes keeps the contract.

#![allow(clippy::unwrap_used, reason = "a helper of tests panics when it cannot work")]

use pushbutton_core::memory::MemoryChanges;
use pushbutton_core::{Change, ChangeNumber, LinkedChange, Patchset, PatchsetCommit, PatchsetNumber};
use pushbutton_testkit::conformance::dependencies;

fn change(number: u64, branch: &str, patchsets: u32) -> LinkedChange {
    let change = Change::new("openstack/p".parse().unwrap(), branch.parse().unwrap(), ChangeNumber(number));
    let commit = |patchset: u32| {
        let git_ref = format!("refs/changes/0{number}/{number}/{patchset}").parse().unwrap();
        let revision = format!("{number:020x}{patchset:020x}").parse().unwrap();
        let patchset = Patchset::new(PatchsetNumber(patchset), revision, git_ref);
        PatchsetCommit::new(patchset, vec!["b".repeat(40).parse().unwrap()])
    };
    LinkedChange::new(change, (1..=patchsets).map(commit).collect())
        .with_id(Some(format!("I{}", "5".repeat(40)).parse().unwrap()))
        .with_message("A change\n")
}

#[tokio::test]
async fn changes_in_memory_keep_the_contract() {
    let changes = [change(1, "master", 2), change(2, "stable/2026.1", 1)];
    dependencies::all(&MemoryChanges::of(changes.clone()), &changes).await;
}
