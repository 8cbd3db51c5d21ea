//! Checks of the contract of [`DependencyLookup`].
//!
//! Upstream must hold two changes with the same Change-Id on two branches, of which the first has at least two patch
//! sets.

use pushbutton_core::{ChangeNumber, ChangeSelector, DependencyLookup, LinkedChange, Revision};

/// Runs all checks. `changes` are the two, as the lookup must show them.
pub async fn all(lookup: &dyn DependencyLookup, changes: &[LinkedChange; 2]) {
    a_change_is_found_by_its_number_with_all_its_patch_sets(lookup, changes).await;
    a_commit_finds_the_change_of_which_it_is_a_patch_set(lookup, changes).await;
    an_id_finds_the_changes_of_all_branches(lookup, changes).await;
    what_is_not_shown_is_an_empty_list(lookup).await;
}

/// A number finds its change: status, commit message, and every patch set with its parents.
pub async fn a_change_is_found_by_its_number_with_all_its_patch_sets(
    lookup: &dyn DependencyLookup,
    changes: &[LinkedChange; 2],
) {
    assert!(changes[0].commits.len() > 1, "the check needs a change with two patch sets");
    for change in changes {
        let found = find(lookup, ChangeSelector::Number(change.change.number)).await;
        let [found] = found.as_slice() else { panic!("a number finds one change, not {found:?}") };
        assert_eq!(
            found.commits, change.commits,
            "all patch sets are there, oldest first, with their parents"
        );
        assert_eq!(found.message, change.message, "the commit message is that of the newest patch set");
        assert_eq!(found.id, change.id);
        assert_eq!(key(found), key(change));
        assert_eq!(found.change.status, change.change.status, "the answer is of upstream's present state");
    }
}

/// A commit finds its change, also when it is an old patch set.
pub async fn a_commit_finds_the_change_of_which_it_is_a_patch_set(
    lookup: &dyn DependencyLookup,
    changes: &[LinkedChange; 2],
) {
    for change in changes {
        for commit in &change.commits {
            let found = find(lookup, ChangeSelector::Commit(commit.patchset.revision.clone())).await;
            assert!(found.iter().any(|found| key(found) == key(change)), "{commit:?} finds its change");
        }
    }
}

/// A Change-Id finds the changes of every branch.
pub async fn an_id_finds_the_changes_of_all_branches(
    lookup: &dyn DependencyLookup,
    changes: &[LinkedChange; 2],
) {
    let id = changes[0].id.clone().expect("the check needs changes with a Change-Id");
    let mut found: Vec<_> = find(lookup, ChangeSelector::Id(id)).await.iter().map(key).collect();
    let mut expected: Vec<_> = changes.iter().map(key).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "an id finds the changes of all branches, and no others");
}

/// What upstream does not show is an empty list, and no error.
pub async fn what_is_not_shown_is_an_empty_list(lookup: &dyn DependencyLookup) {
    let commit: Revision = "f".repeat(40).parse().expect("a commit");
    let id = format!("I{}", "f".repeat(40)).parse().expect("an id");
    for which in [
        ChangeSelector::Number(ChangeNumber(999_999_999)),
        ChangeSelector::Commit(commit),
        ChangeSelector::Id(id),
    ] {
        let found = find(lookup, which.clone()).await;
        assert!(found.is_empty(), "{which:?} finds nothing, and no error");
    }
}

async fn find(lookup: &dyn DependencyLookup, which: ChangeSelector) -> Vec<LinkedChange> {
    lookup.find(&which).await.expect("a question about changes has an answer")
}

fn key(change: &LinkedChange) -> (ChangeNumber, String, String) {
    let change = &change.change;
    (change.number, change.project.to_string(), change.branch.to_string())
}
